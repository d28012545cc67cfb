"""Bond-valence energies and barriers the plain way: judge where ``benchmark_conduction.py`` finds two that differ."""

from __future__ import annotations

import math

import numpy as np
from pymatgen.core import Structure
from scipy.special import erfc

from kernels.bond_valence import COULOMB_CONSTANT
from pipeline.reference.bond_valence import Ion, morse_pair, screening_parameters
from pipeline.site_energies import SCREENING_FACTOR, FrameworkIon


def naive_energies(
    structure: Structure, framework: list[FrameworkIon], ion: Ion, fractions: np.ndarray, cutoff: float
) -> np.ndarray:
    """Energies at some points by the textbook formulas, over all images in a block that holds the cutoff sphere."""
    lattice = structure.lattice.matrix
    far = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int) + 1
    images = np.array(np.meshgrid(*[np.arange(-n, n + 1) for n in far], indexing="ij")).reshape(3, -1).T
    own = screening_parameters(ion)
    energies = np.zeros(len(fractions))
    for site in framework:
        vectors = (np.array(site.frac_coords) % 1.0 + images)[None] - fractions[:, None]
        r = np.maximum(np.linalg.norm(vectors @ lattice, axis=2), 1e-3)
        if site.ion.charge * ion.charge < 0:
            pair = morse_pair(ion, site.ion)
            terms = 0.5 * pair.d0 * ((np.exp(pair.alpha * (pair.r_min - r)) - 1.0) ** 2 - 1.0)
        else:
            other = screening_parameters(site.ion)
            n12 = math.sqrt(own.principal_quantum_number * other.principal_quantum_number)
            length = SCREENING_FACTOR * (own.covalent_radius + other.covalent_radius)
            terms = COULOMB_CONSTANT * ion.charge * site.ion.charge / n12 / r * erfc(r / length)
        energies += site.occupancy * np.where(r < cutoff, terms, 0.0).sum(axis=1)
    return energies


def flood_dimensions(allowed: np.ndarray) -> int:
    """Largest rank of the winding vectors of a connected region, by a breadth-first walk in unwrapped indices."""
    shape = np.array(allowed.shape)
    steps = [np.array(s) - 1 for s in np.ndindex(3, 3, 3) if s != (1, 1, 1)]
    cell_of: dict[tuple[int, ...], np.ndarray] = {}
    best = 0
    for start in np.argwhere(allowed):
        if tuple(start) in cell_of:
            continue
        cell_of[tuple(start)] = np.zeros(3, int)
        queue, windings = [start], [np.zeros(3, int)]
        while queue:
            here = queue.pop()
            for step in steps:
                there = here + step
                home = there % shape
                if not allowed[tuple(home)]:
                    continue
                cell = cell_of[tuple(here)] + there // shape
                known = cell_of.get(tuple(home))
                if known is None:
                    cell_of[tuple(home)] = cell
                    queue.append(home)
                elif (known != cell).any():
                    windings.append(cell - known)
        best = max(best, int(np.linalg.matrix_rank(np.unique(windings, axis=0))))
    return best


def flood_barriers(energies: np.ndarray, cap: float) -> tuple[float, ...]:
    """Barriers by bisection of the flood, to 5 meV; infinite above the cap, eV."""
    above = energies - energies.min()
    barriers = []
    for dimension in (1, 2, 3):
        low, high = 0.0, cap
        if flood_dimensions(above <= cap) < dimension:
            barriers.append(math.inf)
            continue
        while high - low > 0.005:
            middle = (low + high) / 2.0
            low, high = (low, middle) if flood_dimensions(above <= middle) >= dimension else (middle, high)
        barriers.append(high)
    return tuple(barriers)
