"""Phonons of a crystal by finite displacements, with phonopy: is any mode of a supercell imaginary?

Frequencies are those of the wave vectors that fit the supercell, where the force constants give them exactly: nothing
is interpolated, so that a negative frequency is the surrogate's and no artefact. Longitudinal and transverse optical
modes are not split at Γ, which needs Born charges; they are real or imaginary all the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from pipeline.surrogates.results import Evaluation

DISPLACEMENT = 0.01
"""Of the displaced ions, Å."""
SYMMETRY_TOLERANCE = 1e-3
"""Within which a tightly relaxed crystal has its symmetry, Å."""


def require_phonopy() -> None:
    """Raise ModuleNotFoundError with the remedy where phonopy is not installed."""
    if importlib.util.find_spec("phonopy") is None:
        raise ModuleNotFoundError("phonons need phonopy; run pip install 'ionsieve[phonons]', or set phonons: false")


@dataclass(frozen=True)
class DisplacedSupercells:
    """Supercells whose forces give the force constants.

    Attributes
    ----------
    phonon : phonopy.Phonopy
        What phonopy knows of the crystal and its displacements.
    cells : tuple of Structure
        The supercell as it is, then one a displacement.
    """

    phonon: Any
    cells: tuple[Structure, ...]


def displaced_supercells(structure: Structure, thickness: float) -> DisplacedSupercells:
    """Displace the symmetry-distinct ions of a supercell.

    Parameters
    ----------
    structure : Structure
        Relaxed crystal.
    thickness : float
        Least distance between opposite faces of the supercell, Å.

    Raises
    ------
    ModuleNotFoundError
        Without phonopy.
    """
    require_phonopy()
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms
    from pymatgen.core import Lattice, Structure

    symbols = [site.specie.symbol for site in structure]
    atoms = PhonopyAtoms(symbols=symbols, cell=structure.lattice.matrix, scaled_positions=structure.frac_coords)
    repeats = supercell_repeats(structure.lattice.matrix, thickness)
    phonon = Phonopy(atoms, np.diag(repeats), primitive_matrix=np.eye(3), symprec=SYMMETRY_TOLERANCE)
    phonon.generate_displacements(distance=DISPLACEMENT)
    cells = (phonon.supercell, *phonon.supercells_with_displacements)
    return DisplacedSupercells(
        phonon, tuple(Structure(Lattice(c.cell), list(c.symbols), c.scaled_positions) for c in cells)
    )


def supercell_repeats(lattice: NDArray[np.float64], thickness: float) -> NDArray[np.int64]:
    """How often to repeat each vector of a lattice (3, 3) so that opposite faces are ``thickness`` (Å) apart."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    repeats: NDArray[np.int64] = np.ceil(thickness / heights - 1e-6).astype(np.int64)
    return repeats


def lowest_frequency(displaced: DisplacedSupercells, evaluations: Sequence[Evaluation]) -> float:
    """Lowest frequency of all wave vectors that fit the supercell, the three translations excepted.

    Parameters
    ----------
    displaced : DisplacedSupercells
        Of one crystal.
    evaluations : sequence of Evaluation
        Of its cells, in order.

    Returns
    -------
    float
        THz (not angular); an imaginary frequency is negative.
    """
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    phonon = displaced.phonon
    at_rest = evaluations[0].forces
    phonon.forces = [item.forces - at_rest for item in evaluations[1:]]
    phonon.produce_force_constants(show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)
    points = get_commensurate_points(phonon.supercell_matrix)
    phonon.run_qpoints(points)
    frequencies = np.array(phonon.qpoints.frequencies)
    at_gamma = np.linalg.norm(points - np.round(points), axis=1) < 1e-6
    acoustic = np.argsort(np.abs(frequencies[at_gamma][0]))[:3]
    return float(min([*np.delete(frequencies[at_gamma][0], acoustic), *frequencies[~at_gamma].ravel()], default=np.nan))
