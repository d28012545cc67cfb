"""Relaxed-ion elastic tensors by linear response: strained cells, displaced ions, and what follows from both.

A strain pushes the ions, and the way they yield softens the crystal: C = C_clamped - L^T K^-1 L / V, with the force
constants K, the force L that a strain puts on the ions, and the volume V (Wu, Vanderbilt and Hamann, Phys. Rev. B 2005,
72, 035105, section II). No ion is relaxed in a strained cell, where it may leave its place for another minimum, and an
unstable place is seen as such.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.elastic_tensor import ElasticTensor, FloatArray, fit, strains, vectors

if TYPE_CHECKING:
    from pymatgen.core import Structure

SOFTEST_MODE = 0.005
"""Force constant that is told from zero with single-precision forces, eV/Å2."""


@dataclass(frozen=True)
class ElasticResponse:
    """What strained and displaced cells say of a crystal.

    Attributes
    ----------
    tensor : ElasticTensor or None
        Stiffness with relaxed ions, eV/Å3; None where the ions rest in no minimum.
    lowest_force_constant : float
        Lowest eigenvalue of the force constants without the translations, eV/Å2; infinite for one ion.
    """

    tensor: ElasticTensor | None
    lowest_force_constant: float


def deformed_cells(structure: Structure, strain: float, displacement: float) -> list[Structure]:
    """Make the cells whose forces and stresses `elastic_response` reads.

    Parameters
    ----------
    structure : Structure
        Relaxed crystal of n ions.
    strain : float
        Norm of each strain.
    displacement : float
        Of each ion along each axis, forth and back, Å.

    Returns
    -------
    list of Structure
        12 strained cells with the ions at their fractional coordinates, then 6 n cells with one ion displaced.
    """
    cells = [strained(structure, applied) for applied in strains([strain])]
    steps = np.linalg.solve(structure.lattice.matrix.T, displacement * np.eye(3)).T
    moves = [(ion, sign * step) for ion in range(len(structure)) for step in steps for sign in (1.0, -1.0)]
    return [*cells, *(_displaced(structure, *move) for move in moves)]


def strained(structure: Structure, strain: FloatArray) -> Structure:
    """Strain a crystal homogeneously by a symmetric tensor (3, 3)."""
    from pymatgen.core import Lattice, Structure

    lattice = Lattice(structure.lattice.matrix @ (np.eye(3) + strain))
    return Structure(lattice, structure.species, structure.frac_coords)


def _displaced(structure: Structure, ion: int, step: FloatArray) -> Structure:
    from pymatgen.core import Structure

    coordinates = np.array(structure.frac_coords)
    coordinates[ion] += step
    return Structure(structure.lattice, structure.species, coordinates)


def elastic_response(
    forces: FloatArray, stresses: FloatArray, volume: float, strain: float, displacement: float
) -> ElasticResponse:
    """Assemble the tensor from the cells of `deformed_cells`.

    The coupling of ions and strain is found twice, from the forces in strained cells and from the stress of displaced
    ions; the mean is used, and what the two differ by enters the residual.

    Parameters
    ----------
    forces : (12 + 6 n, n, 3) float64
        Of each cell, eV/Å.
    stresses : (12 + 6 n, 3, 3) float64
        Of each cell, eV/Å3, positive under tension.
    volume : float
        Of the relaxed cell, Å3.
    strain, displacement : float
        As given to `deformed_cells`.
    """
    applied = strains([strain])
    first = len(applied)
    clamped = fit(applied, stresses[:first])
    flat = forces.reshape(len(forces), -1)
    modes, constants = _internal_modes(_slopes(flat[first:], -displacement))
    lowest = float(constants[0]) if len(constants) else math.inf
    if lowest < SOFTEST_MODE:
        return ElasticResponse(None, lowest)
    of_strain = modes.T @ np.linalg.lstsq(vectors(applied), flat[:first] - flat[:first].mean(0))[0].T
    of_ions = modes.T @ _slopes(vectors(stresses[first:]), -displacement / volume)
    softenings = [coupling.T @ (coupling / constants[:, None]) / volume for coupling in (of_strain, of_ions)]
    coupling = (of_strain + of_ions) / 2.0
    stiffness = clamped.stiffness - coupling.T @ (coupling / constants[:, None]) / volume
    disagreement = float(np.linalg.norm(softenings[0] - softenings[1]) / np.linalg.norm(stiffness))
    return ElasticResponse(ElasticTensor(stiffness, max(clamped.residual, disagreement)), lowest)


def _slopes(values: FloatArray, step: float) -> FloatArray:
    """Central differences of rows that alternate forth and back: (2 k, m) to (k, m)."""
    result: FloatArray = (values[0::2] - values[1::2]) / (2.0 * step)
    return result


def _internal_modes(force_constants: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvectors (3 n, 3 n - 3) and eigenvalues of force constants (3 n, 3 n), translations left out."""
    from scipy.linalg import null_space

    translations = np.tile(np.eye(3), len(force_constants) // 3)
    internal = null_space(translations)
    symmetric = (force_constants + force_constants.T) / 2.0
    constants, vectors_ = np.linalg.eigh(internal.T @ symmetric @ internal)
    return internal @ vectors_, constants
