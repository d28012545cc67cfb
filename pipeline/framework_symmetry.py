"""Symmetry of a framework of ions that a grid shares, made exact."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pipeline.reference.protostructure import quiet_moyo

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SYMMETRY_TOLERANCE = 1e-4
"""Å. Ions may miss their symmetric places by this much, and are moved there: what rounding in a database does
(1e-6 of a cell edge), not what a relaxation away from the symmetry does."""


class GridSymmetry(NamedTuple):
    """A framework that obeys a group of operations to rounding, and the operations on a grid's indices.

    Attributes
    ----------
    lattice : (3, 3) float64
        Å; same lengths and angles as the given one within the tolerance, turned as a Cholesky factor is.
    frac_coords : (n, 3) float64
        Ions in the order given.
    rotations : (m, 3, 3) int64
    translations : (m, 3) int64
        In grid steps.
    """

    lattice: FloatArray
    frac_coords: FloatArray
    rotations: IntArray
    translations: IntArray


def grid_symmetry(
    lattice: FloatArray,
    frac_coords: FloatArray,
    kinds: Sequence[Hashable],
    shape: tuple[int, int, int],
    tolerance: float = SYMMETRY_TOLERANCE,
) -> GridSymmetry | None:
    """Find the operations that map ions onto equal ions and the grid onto itself; put lattice and ions on them.

    Operations are found by moyo. Those kept act on the grid's indices as whole numbers, so they are a group.
    Lattice and coordinates are then averaged over it, which moves no ion by more than the tolerance, so that
    energies at equivalent points are equal to rounding.

    Parameters
    ----------
    lattice : (3, 3) float64
        Rows are the lattice vectors, Å.
    frac_coords : (n, 3) float64
        Ions; several may share a place.
    kinds : sequence of n
        What must be equal for two ions to be equivalent.
    shape
        Points of the grid, the first at the cell's origin.
    tolerance
        Å.

    Returns
    -------
    GridSymmetry or None
        None where the grid shares nothing but the identity with the framework, or moyo finds no symmetry.
    """
    places, place_of_ion, place_kinds = _places(frac_coords, kinds)
    found = _grid_operations(lattice, places, place_kinds, np.array(shape), tolerance)
    if found is None or len(found[0]) < 2:
        return None
    rotations, translations = found
    sizes = np.array(shape)
    turns = np.array([_fractional(rotation, sizes) for rotation in rotations])
    shifts = translations / sizes
    # rows of the lattice times a column of fractional coordinates: the metric is invariant under the turns
    metric = lattice @ lattice.T
    averaged = np.einsum("mba,bc,mcd->ad", turns, metric, turns) / len(turns)
    lengths = np.sqrt(np.diag(metric))
    if np.abs((averaged - metric) / np.outer(lengths, lengths)).max() * lengths.max() > tolerance:
        return None
    images = np.einsum("mab,nb->mna", turns, places) + shifts[:, None, :]
    wrapped = places % 1.0 % 1.0  # a tiny negative number gives 1.0 first
    _, target = cKDTree(wrapped, boxsize=1.0).query((images % 1.0 % 1.0).reshape(-1, 3))
    target = target.reshape(images.shape[:2])
    kind_numbers = np.array(place_kinds)
    if (kind_numbers[target] != kind_numbers[None, :]).any() or (np.sort(target) != np.arange(len(places))).any():
        return None
    missed = images - places[target]
    missed -= np.round(missed)
    if np.linalg.norm(missed @ lattice, axis=2).max() > 2.0 * tolerance:
        return None
    moved = np.zeros_like(places)
    np.add.at(moved, target.reshape(-1), missed.reshape(-1, 3))
    symmetric = places + moved / len(turns)
    return GridSymmetry(np.linalg.cholesky(averaged), symmetric[place_of_ion], rotations, translations)


def _places(frac_coords: FloatArray, kinds: Sequence[Hashable]) -> tuple[FloatArray, IntArray, list[int]]:
    """Distinct places, the place of each ion, and a number for what each place holds."""
    places, place_of_ion = np.unique(frac_coords, axis=0, return_inverse=True)
    content: list[list[str]] = [[] for _ in places]
    for place, kind in zip(place_of_ion.reshape(-1), kinds, strict=True):
        content[place].append(repr(kind))
    numbers: dict[tuple[str, ...], int] = {}
    return places, place_of_ion.reshape(-1), [numbers.setdefault(tuple(sorted(c)), len(numbers) + 1) for c in content]


def _grid_operations(
    lattice: FloatArray, places: FloatArray, kinds: list[int], sizes: IntArray, tolerance: float
) -> tuple[IntArray, IntArray] | None:
    """Operations that are whole numbers on the grid's indices; the translations are rounded to them."""
    import moyopy

    cell = moyopy.Cell(lattice.tolist(), places.tolist(), kinds)
    try:
        with quiet_moyo():
            operations = moyopy.MoyoDataset(cell, symprec=tolerance).operations
    except ValueError:  # moyo's way to say that it finds no consistent symmetry, as with coinciding atoms
        return None
    rotations = np.asarray(operations.rotations, dtype=np.int64)
    scaled = rotations * sizes[None, :, None]
    whole = (scaled % sizes[None, None, :] == 0).all(axis=(1, 2))
    steps = np.asarray(operations.translations) * sizes
    nearest = np.round(steps)
    whole &= np.linalg.norm((steps - nearest) / sizes @ lattice, axis=1) < tolerance
    turned = scaled // sizes[None, None, :]
    chosen = np.concatenate([turned[whole].reshape(-1, 9), (nearest[whole] % sizes).reshape(-1, 3)], axis=1)
    distinct = np.unique(chosen.astype(np.int64), axis=0)
    return distinct[:, :9].reshape(-1, 3, 3), distinct[:, 9:]


def _fractional(rotation: IntArray, sizes: IntArray) -> FloatArray:
    """The rotation of fractional coordinates that acts as this one on grid indices."""
    turned: FloatArray = rotation * sizes[None, :] / sizes[:, None]
    return turned
