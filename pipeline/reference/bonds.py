"""Cation-anion bonds of an ionic crystal, orbit by orbit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BOND_REACH = 1.25
"""Cation-anion pairs up to this multiple of the cation's shortest one count as its bonds."""

SEARCH_RADIUS = 6.0
"""Å, longest cation-anion bond looked for."""


def cation_anion_bonds(
    lattice: FloatArray,
    frac_coords: FloatArray,
    site_orbit: IntArray,
    orbit_elements: Sequence[str],
    orbit_charges: Sequence[int],
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Bonds of a crystal.

    Parameters
    ----------
    lattice, frac_coords, site_orbit
        (3,3) Å rows, (n,3), (n,) orbit of each site.
    orbit_elements, orbit_charges
        Symbol and charge of each orbit.

    Returns
    -------
    pairs, counts, lengths
        (b,2) cation orbit and anion orbit; (b,) number of such bonds in the cell; (b,) their mean length, Å.
    """
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice(lattice), [orbit_elements[o] for o in site_orbit], frac_coords)
    charge = np.array(orbit_charges)[site_orbit]
    centre, neighbour, _, length = structure.get_neighbor_list(SEARCH_RADIUS)
    bonded = (charge[centre] > 0) & (charge[neighbour] < 0)
    centre, neighbour, length = centre[bonded], neighbour[bonded], length[bonded]
    shortest = np.full(len(charge), np.inf)
    np.minimum.at(shortest, centre, length)
    near = length <= BOND_REACH * shortest[centre]
    orbits = np.stack([site_orbit[centre[near]], site_orbit[neighbour[near]]], axis=1)
    pairs, which, counts = np.unique(orbits, axis=0, return_inverse=True, return_counts=True)
    total = np.zeros(len(pairs))
    np.add.at(total, which.reshape(-1), length[near])
    return pairs.astype(np.int64), counts.astype(float), total / counts
