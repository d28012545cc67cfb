"""Bond-valence site energies (softBV) of a mobile ion in a crystal: framework, grid, landscape."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.bond_valence import COULOMB_CONSTANT, CUTOFF_MARGIN, site_energies_at, site_energy_grid
from pipeline.framework_symmetry import grid_symmetry
from pipeline.oxidation_states import ChargedSite, OxidationStateError
from pipeline.reference.bond_valence import Ion, morse_pair, screening_parameters
from pipeline.reference.protostructure import quiet_moyo

if TYPE_CHECKING:
    from pymatgen.core import Structure

SCREENING_FACTOR = 0.74
"""softBV's f: Coulomb terms decay over f times the sum of both covalent radii (Chen, Wong and Adams 2019)."""

OCCUPANCY_DIGITS = 9
"""Occupancies equal to so many digits are equal for the symmetry: a difference of 1e-9 in energies."""

MAX_GRID_POINTS = 100_000_000
MAX_SYMMETRY_GROWTH = 2.0
"""How much larger a grid may become to be commensurate with the symmetry."""


class NoMobileIonError(ValueError):
    """The structure holds none of the asked ions, or nothing but them."""


class InvalidGridError(ValueError):
    """The grid's spacing isn't positive, or the grid would be too large."""


class FrameworkIon(NamedTuple):
    """One kind of ion on one framework site."""

    ion: Ion
    frac_coords: tuple[float, float, float]
    occupancy: float


def mobile_ion(charged: Sequence[ChargedSite], element: str) -> Ion:
    """Give the mobile element its charge.

    Raises
    ------
    OxidationStateError
        When its oxidation states differ from site to site, or aren't whole, or are zero.
    """
    states = sorted({round(q, 3) for site in charged for symbol, q, _ in site if symbol == element})
    if len(states) != 1 or states[0] != round(states[0]) or states[0] == 0:
        raise OxidationStateError(f"the mobile ion {element} needs one whole oxidation state, got {states}")
    return Ion(element, round(states[0]))


def framework_ions(structure: Structure, charged: Sequence[ChargedSite], mobile: Iterable[str]) -> list[FrameworkIon]:
    """All ions but the mobile ones; a fractional charge is a mixture of the two integers beside it.

    Raises
    ------
    NoMobileIonError
        When nothing but mobile ions is there.
    OxidationStateError
        When an atom of the framework is neutral.
    """
    framework = []
    for site, species in zip(structure, charged, strict=True):
        where = (float(site.frac_coords[0]), float(site.frac_coords[1]), float(site.frac_coords[2]))
        for symbol, charge, occupancy in species:
            if symbol in mobile:
                continue
            lower = math.floor(charge + 1e-3)
            share = charge - lower if charge - lower > 1e-3 else 0.0
            for state, part in ((lower, 1.0 - share), (lower + 1, share)):
                if part > 0.0 and state == 0:
                    raise OxidationStateError(
                        f"{symbol} at {where} has the oxidation state {charge:g}: a neutral atom has no "
                        "bond-valence parameters; give its oxidation state or leave the structure out"
                    )
                if part > 0.0:
                    framework.append(FrameworkIon(Ion(symbol, state), where, occupancy * part))
    if not framework:
        raise NoMobileIonError(f"{structure.formula} holds nothing but mobile ions ({', '.join(sorted(mobile))})")
    return framework


def landscape(
    lattice: npt.NDArray[np.float64],
    framework: Sequence[FrameworkIon],
    ion: Ion,
    shape: tuple[int, int, int],
    *,
    cutoff: float = 10.0,
    threads: int = 1,
    use_symmetry: bool = True,
) -> npt.NDArray[np.float64]:
    """Site energies (n1, n2, n3), eV: Morse terms with counter-ions, Coulomb terms with ions of like charge.

    Where the grid shares symmetry with the framework (:func:`grid_symmetry`), ions that miss their symmetric
    places by less than 1e-4 Å are put there, one of the points that are equivalent is computed, and the others
    get its energy. ``use_symmetry=False`` takes the coordinates as they are and computes all points.

    Raises
    ------
    OxidationStateError
        When the framework holds no counter-ion.
    MissingBondValenceParameterError
        When a needed parameter isn't tabulated.
    """
    frac_coords, weights, morse, coulomb = _pairs(framework, ion)
    lattice = np.asarray(lattice, dtype=np.float64)
    operations = None
    if use_symmetry:
        kinds = [(str(site.ion), round(site.occupancy, OCCUPANCY_DIGITS)) for site in framework]
        shared = grid_symmetry(lattice, frac_coords, kinds, shape)
        if shared is not None:
            lattice, frac_coords = shared.lattice, shared.frac_coords
            operations = shared.rotations, shared.translations
    return site_energy_grid(lattice, shape, frac_coords, weights, morse, coulomb, cutoff, threads, operations)


def energies_at(
    points: npt.NDArray[np.float64],
    lattice: npt.NDArray[np.float64],
    framework: Sequence[FrameworkIon],
    ion: Ion,
    cutoff: float = 10.0,
) -> npt.NDArray[np.float64]:
    """Site energies (m,), eV, at any fractional coordinates (m, 3); the same energies as those of a landscape.

    Raises
    ------
    OxidationStateError, MissingBondValenceParameterError
        As `landscape`.
    """
    frac_coords, weights, morse, coulomb = _pairs(framework, ion)
    lattice = np.ascontiguousarray(lattice, dtype=np.float64)
    limit = cutoff * (1.0 - CUTOFF_MARGIN)
    reach = limit * np.linalg.norm(np.linalg.inv(lattice), axis=0)
    points = np.ascontiguousarray(points, dtype=np.float64)
    pairs = np.hstack([morse, coulomb])
    return site_energies_at(points, lattice, frac_coords % 1.0, weights, pairs, reach, limit)


def _pairs(
    framework: Sequence[FrameworkIon], ion: Ion
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fractional coordinates, occupancies, Morse and Coulomb parameters of the framework's ions."""
    if all(site.ion.charge * ion.charge > 0 for site in framework):
        raise OxidationStateError(f"the framework holds no counter-ion of {ion}; check the oxidation states")
    own = screening_parameters(ion)
    morse = np.zeros((len(framework), 3))
    coulomb = np.zeros((len(framework), 2))
    for row, site in enumerate(framework):
        if site.ion.charge * ion.charge < 0:
            pair = morse_pair(ion, site.ion)
            morse[row] = pair.d0, pair.r_min, pair.alpha
        else:
            other = screening_parameters(site.ion)
            quantum_numbers = math.sqrt(own.principal_quantum_number * other.principal_quantum_number)
            coulomb[row] = (
                COULOMB_CONSTANT * ion.charge * site.ion.charge / quantum_numbers,
                SCREENING_FACTOR * (own.covalent_radius + other.covalent_radius),
            )
    frac_coords = np.array([site.frac_coords for site in framework], dtype=np.float64)
    weights = np.array([site.occupancy for site in framework], dtype=np.float64)
    return frac_coords, weights, morse, coulomb


def grid_shape(structure: Structure, spacing: float, mobile: Iterable[str] = ()) -> tuple[int, int, int]:
    """Grid with at most ``spacing`` (Å) between points along each axis, fitted to the framework's symmetry.

    Starts from ceil(length / spacing). Axes that a rotation of the framework mixes get the same number of
    points, and each number is raised to a multiple of the denominators (2, 3, 4, 6) of the translations along
    it, so that equivalent points carry equal energies. Where that would more than double the grid, or where
    no symmetry can be found, it isn't done.

    Raises
    ------
    InvalidGridError
        When the spacing isn't positive or the grid would exceed 100 million points.
    """
    import moyopy

    if not (math.isfinite(spacing) and spacing > 0.0):
        raise InvalidGridError(f"spacing must be a positive length in Å, got {spacing}")
    plain = [max(1, math.ceil(length / spacing - 1e-6)) for length in structure.lattice.abc]
    if math.prod(plain) > MAX_GRID_POINTS:
        raise InvalidGridError(
            f"a spacing of {spacing} Å needs {math.prod(plain)} grid points; at most {MAX_GRID_POINTS} are "
            "allowed: use a larger spacing"
        )
    excluded = set(mobile)
    kinds: dict[str, int] = {}
    sites = [site for site in structure if not {s.symbol for s in site.species} <= excluded]
    numbers = [kinds.setdefault(site.species_string, len(kinds) + 1) for site in sites]
    cell = moyopy.Cell(structure.lattice.matrix.tolist(), [site.frac_coords.tolist() for site in sites], numbers)
    try:
        with quiet_moyo():
            operations = moyopy.MoyoDataset(cell, symprec=1e-2).operations
    except ValueError:  # moyo's way to say that it finds no consistent symmetry, as with coinciding atoms
        return plain[0], plain[1], plain[2]

    multiples = [_common_denominator(np.asarray(operations.translations)[:, axis]) for axis in range(3)]
    mixed = np.any(np.asarray(operations.rotations) != 0, axis=0)
    mixed = np.linalg.matrix_power((mixed | mixed.T | np.eye(3, dtype=bool)).astype(np.int64), 2) > 0
    fitted = []
    for axis in range(3):
        group = np.flatnonzero(mixed[axis])
        multiple = math.lcm(*(multiples[b] for b in group))
        fitted.append(multiple * math.ceil(max(plain[b] for b in group) / multiple))
    best = fitted if math.prod(fitted) <= MAX_SYMMETRY_GROWTH * math.prod(plain) else plain
    return best[0], best[1], best[2]


def _common_denominator(translations: npt.NDArray[np.float64]) -> int:
    """Smallest n that makes n times each translation whole; denominators beyond 2, 3, 4 and 6 don't count."""
    needed = 1
    for value in np.unique(np.round(translations % 1.0, 4)):
        for n in (1, 2, 3, 4, 6):
            if abs(value * n - round(value * n)) < 2e-3:
                needed = math.lcm(needed, n)
                break
    return needed
