"""Supercells in which an atom is a given distance from its own images, with the fewest atoms."""

import math
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from pipeline.surrogates.batch import FloatArray, IntArray

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Cells whose vectors are shorter by rounding alone pass.
_ROUNDING = 1e-6


def supercell_for_image_distance(structure: "Structure", distance: float, max_atoms: int = 400) -> "Structure":
    """The smallest supercell whose lattice has no vector shorter than ``distance``.

    Diagonal supercells are tried, and all others (integer matrices in Hermite normal form, which list every
    superlattice once) of fewer atoms. Among those of one size the one with the farthest images is taken, a diagonal
    one where it is as good; its cell is LLL-reduced, and not rotated.

    Parameters
    ----------
    structure : Structure
        The crystal.
    distance : float
        Least distance between periodic images, Å.
    max_atoms : int
        Bound on the supercell's atoms.

    Returns
    -------
    Structure
        The supercell; a copy of the structure if its own images are far enough.

    Raises
    ------
    ValueError
        A distance or bound that is not positive; no supercell of ``max_atoms`` is large enough.
    """
    if not 0.0 < distance < math.inf or max_atoms < 1:
        raise ValueError(
            f"distance must be a positive number in Å and max_atoms 1 or more, got {distance} and {max_atoms}"
        )
    lattice = np.asarray(structure.lattice.matrix, np.float64)
    reduced = np.asarray(structure.lattice.get_lll_reduced_lattice().matrix, np.float64)
    short = _short_vectors(reduced, distance)
    diagonal = _diagonal(lattice, short @ reduced, max_atoms // len(structure))
    most = max_atoms // len(structure) if diagonal is None else int(diagonal.prod()) - 1
    # No lattice of this least vector is denser than the face-centred one, of volume distance^3 / sqrt(2).
    least = max(math.ceil((distance - _ROUNDING) ** 3 / math.sqrt(2.0) / structure.volume), 1)
    for size in range(least, most + 1):
        matrix = _general(reduced, short, size)
        if matrix is not None:
            return _built(structure, matrix @ reduced)
    if diagonal is None:
        raise ValueError(
            f"no supercell of {structure.composition.reduced_formula} ({len(structure)} atoms in "
            f"{structure.volume:.1f} Å3) with images {distance:g} Å apart has at most max_atoms = {max_atoms} atoms "
            f"(it needs {max(least, most + 1) * len(structure)} or more); raise max_atoms or lower the distance"
        )
    supercell: Structure = structure.copy()
    supercell.make_supercell(diagonal.tolist(), to_unit_cell=False)
    return supercell


def _short_vectors(lattice: FloatArray, distance: float) -> IntArray:
    """(V, 3) coordinates of the lattice's vectors shorter than a distance, one of each pair of opposites."""
    reach = np.floor(distance * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int)
    ranges = [np.arange(-n, n + 1) for n in reach]
    vectors = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = vectors[len(vectors) // 2 + 1 :]
    short: IntArray = vectors[np.linalg.norm(vectors @ lattice, axis=1) < distance - _ROUNDING]
    return short


def _diagonal(lattice: FloatArray, short: FloatArray, most: int) -> IntArray | None:
    """(3,) multiples of the cell's own vectors that give the fewest atoms, or None above ``most`` cells.

    ``short`` are the Cartesian vectors that the superlattice must not have.
    """
    vectors = np.rint(short @ np.linalg.inv(lattice)).astype(np.int64)
    # One more than a short vector's coordinate: then none with that coordinate is left.
    enough = np.abs(vectors).max(axis=0, initial=0) + 1
    choices = product(*(range(1, min(int(n), most) + 1) for n in enough))
    small = [n for n in choices if math.prod(n) <= most]
    for n in sorted(small, key=lambda n: (math.prod(n), max(n) - min(n), n)):
        if not (vectors % np.array(n) == 0).all(axis=1).any():
            return np.array(n, np.int64)
    return None


def _general(lattice: FloatArray, short: IntArray, size: int) -> IntArray | None:
    """(3, 3) rows of the superlattice of ``size`` cells without short vectors and with the farthest images."""
    good = [m for m in _hermite_normal_forms(size) if not _contains_any(m, short)]
    if not good:
        return None
    lengths = [round(_least_vector(m @ lattice), 6) for m in good]
    return good[int(np.argmax(lengths))]


def _hermite_normal_forms(size: int) -> Iterator[IntArray]:
    """All upper triangular (3, 3) integer matrices of a determinant whose rows span different lattices."""
    for a in range(1, size + 1):
        if size % a:
            continue
        for b in range(1, size // a + 1):
            if (size // a) % b:
                continue
            c = size // a // b
            for d, e, f in product(range(b), range(c), range(c)):
                yield np.array([[a, d, e], [0, b, f], [0, 0, c]], np.int64)


def _contains_any(matrix: IntArray, vectors: IntArray) -> bool:
    """Whether one of the integer vectors is an integer combination of the rows of an upper triangular matrix."""
    (a, d, e), (_, b, f), (_, _, c) = matrix
    first, rest = np.divmod(vectors[:, 0], a)
    second, rest_b = np.divmod(vectors[:, 1] - first * d, b)
    rest_c = (vectors[:, 2] - first * e - second * f) % c
    return bool(((rest == 0) & (rest_b == 0) & (rest_c == 0)).any())


def _least_vector(lattice: FloatArray) -> float:
    """Length of a lattice's shortest vector, Å."""
    from pymatgen.core import Lattice

    reduced = np.asarray(Lattice(lattice).get_lll_reduced_lattice().matrix)
    steps = np.array([n for n in product((-1, 0, 1), repeat=3) if any(n)])
    return float(np.linalg.norm(steps @ reduced, axis=1).min())


def _built(structure: "Structure", vectors: FloatArray) -> "Structure":
    """The supercell whose lattice is that of the given vectors."""
    from pymatgen.core import Lattice

    reduced = np.asarray(Lattice(vectors).get_lll_reduced_lattice().matrix)
    matrix = np.rint(reduced @ np.linalg.inv(np.asarray(structure.lattice.matrix))).astype(int)
    supercell: Structure = structure.copy()
    supercell.make_supercell(matrix, to_unit_cell=False)
    return supercell
