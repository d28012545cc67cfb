"""Symmetry of a crystal as a prototype: primitive cell, symmetry-distinct orbits, label, and what is equivalent."""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.reference.wyckoff import wyckoff_permutations

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SYMPREC = 0.01
"""Å, distance within which sites count as symmetry-equivalent; the source files carry six digits."""


class SymmetryError(ValueError):
    """The symmetry search found no space group (coincident atoms, a flat cell)."""


@dataclass(frozen=True)
class SymmetricCrystal:
    """A primitive standardised cell whose sites are sorted by orbit.

    ``lattice`` (3,3) Å rows, ``frac_coords`` (n,3), ``site_orbit`` (n,) ascending; per orbit its element, charge
    (0 when unknown), multiplicity in this cell and Wyckoff letter; ``orbit_class`` (one class an element). ``frame``
    is the protostructure label without charges; ``ties`` are groups of classes that it does not tell apart.
    """

    lattice: FloatArray
    frac_coords: FloatArray
    site_orbit: IntArray
    spacegroup_number: int
    orbit_elements: tuple[str, ...]
    orbit_charges: tuple[int, ...]
    orbit_multiplicities: tuple[int, ...]
    orbit_wyckoffs: tuple[str, ...]
    orbit_class: tuple[int, ...]
    frame: str
    ties: tuple[tuple[int, ...], ...]


@contextmanager
def quiet_moyo() -> Iterator[None]:
    """Keep moyo's notes on cells with extra translations out of the log: we ask for exactly those operations."""
    logger = logging.getLogger("moyo")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def standardise(
    lattice: FloatArray,
    frac_coords: FloatArray,
    elements: Sequence[str],
    charges: dict[str, int],
    radii: dict[str, float],
) -> SymmetricCrystal:
    """Find the primitive cell, space group, orbits and label of a crystal with moyopy.

    Parameters
    ----------
    lattice : (3, 3) float
        Å, rows are lattice vectors.
    frac_coords : (n, 3) float
    elements
        n symbols.
    charges, radii
        Oxidation state (empty: unknown) and ionic radius (Å) by element; the radius orders classes that the label
        does not tell apart, the larger first.

    Raises
    ------
    SymmetryError
        When the search fails.
    """
    import moyopy

    kinds = sorted(set(elements))
    numbers = [kinds.index(e) + 1 for e in elements]
    cell = moyopy.Cell(lattice.tolist(), frac_coords.tolist(), numbers)
    with quiet_moyo():
        try:
            data = moyopy.MoyoDataset(cell, symprec=SYMPREC)
        except (ValueError, RuntimeError) as error:
            raise SymmetryError(f"moyopy: {error}") from error
    prim = data.prim_std_cell
    n_prim = len(prim.numbers)
    source = np.full(n_prim, -1)
    for site, target in enumerate(data.mapping_std_prim):
        if source[target] < 0:
            source[target] = site
    if (source < 0).any():
        raise SymmetryError("moyopy: a site of the primitive cell has no source")
    orbit_of = [data.orbits[s] for s in source]
    orbits = [
        (kinds[prim.numbers[sites[0]] - 1], data.wyckoffs[source[sites[0]]], sites)
        for sites in _groups(orbit_of).values()
    ]
    return arrange(
        np.array(prim.basis, dtype=float), np.array(prim.positions, dtype=float), data.number, orbits, charges, radii
    )


def without_symmetry(
    lattice: FloatArray,
    frac_coords: FloatArray,
    elements: Sequence[str],
    charges: dict[str, int],
    radii: dict[str, float],
) -> SymmetricCrystal:
    """Take a cell as it is: space group 1, each site an orbit of its own."""
    orbits = [(e, "a", [i]) for i, e in enumerate(elements)]
    return arrange(lattice, frac_coords, 1, orbits, charges, radii)


def _groups(keys: Sequence[int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return groups


def arrange(
    lattice: FloatArray,
    frac_coords: FloatArray,
    number: int,
    orbits: Sequence[tuple[str, str, list[int]]],
    charges: dict[str, int],
    radii: dict[str, float],
) -> SymmetricCrystal:
    """Put classes, orbits and sites into the label's order.

    Of the settings that the space group's normaliser allows (Wyckoff letters permuted, pymatgen's table after the
    AFLOW convention) the one with the smallest list of (sign, letters) is the label; equal ones are settled by
    charge, then by radius (larger first), then by symbol.
    """
    names = sorted({element for element, _, _ in orbits})
    best: tuple[list[tuple[int, str]], list[tuple[int, float, str]], dict[int, str]] | None = None
    for table in wyckoff_permutations(number):
        letters = {name: sorted(w.translate(table) for e, w, _ in orbits if e == name) for name in names}
        ranked = sorted(
            ((_sign(charges.get(n, 0)), "".join(letters[n])), (charges.get(n, 0), -radii.get(n, 0.0), n)) for n in names
        )
        trial = ([r[0] for r in ranked], [r[1] for r in ranked], table)
        if best is None or trial[:2] < best[:2]:
            best = trial
    assert best is not None, "every space group has the identity among its permutations"
    keys, order, table = best
    class_of = {name: i for i, (_, _, name) in enumerate(order)}
    arranged = sorted(((class_of[e], w.translate(table), sites, e) for e, w, sites in orbits), key=lambda o: o[:3])
    amounts = [sum(len(s) for c, _, s, _ in arranged if c == i) for i in range(len(names))]
    divisor = int(np.gcd.reduce(amounts))
    sites = np.array([s for _, _, members, _ in arranged for s in members])
    frame = "_".join(
        [
            "".join(f"{chr(65 + i)}{a // divisor}" for i, a in enumerate(amounts)),
            str(len(frac_coords)),
            str(number),
            *(f"{letters}{'+' if sign > 0 else '-' if sign < 0 else ''}" for sign, letters in keys),
        ]
    )
    ties = tuple(tuple(i for i, k in enumerate(keys) if k == key) for key in dict.fromkeys(keys) if keys.count(key) > 1)
    return SymmetricCrystal(
        lattice=lattice,
        frac_coords=frac_coords[sites] % 1.0,
        site_orbit=np.repeat(np.arange(len(arranged)), [len(m) for _, _, m, _ in arranged]),
        spacegroup_number=number,
        orbit_elements=tuple(e for _, _, _, e in arranged),
        orbit_charges=tuple(charges.get(e, 0) for _, _, _, e in arranged),
        orbit_multiplicities=tuple(len(m) for _, _, m, _ in arranged),
        orbit_wyckoffs=tuple(w for _, w, _, _ in arranged),
        orbit_class=tuple(c for c, _, _, _ in arranged),
        frame=frame,
        ties=ties,
    )


def _sign(charge: int) -> int:
    return (charge > 0) - (charge < 0)


def tied_permutations(n_classes: int, ties: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Permutations of the classes that the label does not tell apart, the identity first."""
    out = []
    for choice in itertools.product(*(itertools.permutations(t) for t in ties)):
        permutation = list(range(n_classes))
        for tie, image in zip(ties, choice, strict=True):
            for a, b in zip(tie, image, strict=True):
                permutation[a] = b
        out.append(tuple(permutation))
    return out
