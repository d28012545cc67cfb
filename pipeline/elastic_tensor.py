"""Elastic tensors: strains to apply, the fit of stresses to them, and the moduli of a polycrystal.

Tensors are 6 x 6 matrices in Kelvin's notation: components 11, 22, 33, 23, 13, 12 of strain and stress, the last three
times the square root of two. Unlike Voigt's, it makes norms, eigenvalues and rotations of the matrix those of the
tensor (Mehrabadi and Cowin, Q. J. Mech. Appl. Math. 1990, 43, 15). `voigt` converts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")
_ROWS, _COLUMNS = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])
_WEIGHTS = np.array([1.0, 1.0, 1.0, np.sqrt(2.0), np.sqrt(2.0), np.sqrt(2.0)])


@dataclass(frozen=True)
class ElasticTensor:
    """A fitted stiffness tensor.

    Attributes
    ----------
    stiffness : (6, 6) float64
        Symmetric, Kelvin's notation, in the unit of the stresses.
    residual : float
        Norm of what the linear law leaves of the stresses, over the norm of the stresses: 0 is Hooke's law.
    """

    stiffness: FloatArray
    residual: float

    @property
    def lowest_eigenvalue(self) -> float:
        """Stiffness of the softest strain; a crystal is elastically stable where it is positive.

        The necessary and sufficient condition of Born (Mouhat and Coudert, Phys. Rev. B 2014, 90, 224104, eq. 3),
        for a crystal of any symmetry under no load.
        """
        return float(np.linalg.eigvalsh(self.stiffness)[0])


@dataclass(frozen=True)
class Moduli:
    """Moduli of a polycrystal without texture, in the unit of the stiffness; the last two have none.

    Voigt's averages suppose one strain everywhere and are upper bounds, Reuss's one stress and are lower bounds; Hill's
    are their means, to which the others belong.
    """

    bulk_voigt: float
    bulk_reuss: float
    shear_voigt: float
    shear_reuss: float

    @property
    def bulk(self) -> float:
        """Hill's bulk modulus."""
        return (self.bulk_voigt + self.bulk_reuss) / 2.0

    @property
    def shear(self) -> float:
        """Hill's shear modulus."""
        return (self.shear_voigt + self.shear_reuss) / 2.0

    @property
    def youngs(self) -> float:
        """Young's modulus of the isotropic body with Hill's moduli."""
        return 9.0 * self.bulk * self.shear / (3.0 * self.bulk + self.shear)

    @property
    def poisson_ratio(self) -> float:
        """Poisson's ratio of the isotropic body with Hill's moduli."""
        return (3.0 * self.bulk - 2.0 * self.shear) / (6.0 * self.bulk + 2.0 * self.shear)

    @property
    def anisotropy(self) -> float:
        """Universal anisotropy of Ranganathan and Ostoja-Starzewski (Phys. Rev. Lett. 2008, 101, 055504); 0: none."""
        return 5.0 * self.shear_voigt / self.shear_reuss + self.bulk_voigt / self.bulk_reuss - 6.0


def strains(amplitudes: Sequence[float]) -> FloatArray:
    """Make the strains of a fit: each amplitude, forth and back, in the six directions of Kelvin's notation.

    Parameters
    ----------
    amplitudes : sequence of float
        k positive norms of a strain; a shear of norm a has components a / sqrt(2).

    Returns
    -------
    (12 k, 3, 3) float64
        Symmetric strain tensors; direction by direction, and within one from the most negative to the most positive.
    """
    signed = sorted([*amplitudes, *(-a for a in amplitudes)])
    return np.array([_matrix(a * direction) for direction in np.eye(6) for a in signed])


def fit(applied: FloatArray, stresses: FloatArray) -> ElasticTensor:
    """Fit Hooke's law with an initial stress to stresses by least squares.

    With `strains` the quadratic part of the response (the third-order constants) has no part in the result.

    Parameters
    ----------
    applied : (m, 3, 3) float64
        Symmetric strains.
    stresses : (m, 3, 3) float64
        Stress (force on the strained area; positive under tension) of each.

    Raises
    ------
    ValueError
        When the strains do not determine a tensor.
    """
    strain, stress = vectors(applied), vectors(stresses)
    design = np.column_stack([np.ones(len(strain)), strain])
    solution, _, rank, _ = np.linalg.lstsq(design, stress)
    if rank < design.shape[1]:
        raise ValueError(f"{len(strain)} strains leave {design.shape[1] - rank} of 7 directions open; see strains()")
    stiffness = (solution[1:] + solution[1:].T) / 2.0
    response = stress - solution[0]
    size = float(np.linalg.norm(response))
    residual = float(np.linalg.norm(response - strain @ stiffness)) / size if size > 0.0 else 0.0
    return ElasticTensor(stiffness, residual)


def moduli(stiffness: FloatArray) -> Moduli:
    """Average a stiffness tensor over all orientations (Hill, Proc. Phys. Soc. A 1952, 65, 349).

    Parameters
    ----------
    stiffness : (6, 6) float64
        Positive definite, Kelvin's notation.

    Raises
    ------
    ValueError
        When the tensor is not positive definite: Reuss's average is then no bound of anything.
    """
    lowest = float(np.linalg.eigvalsh(stiffness)[0])
    if not lowest > 0.0:
        raise ValueError(f"the stiffness must be positive definite, its lowest eigenvalue is {lowest:g}")
    bulk_voigt, shear_voigt = voigt_averages(stiffness)
    compliance = np.linalg.inv(stiffness)
    volume, trace = float(compliance[:3, :3].sum()), float(np.trace(compliance))
    return Moduli(bulk_voigt, 1.0 / volume, shear_voigt, 15.0 / (6.0 * trace - 2.0 * volume))


def voigt_averages(stiffness: FloatArray) -> tuple[float, float]:
    """Voigt's bulk and shear modulus, C_iijj / 9 and (3 C_ijij - C_iijj) / 30, of a stiffness in Kelvin's notation."""
    volume, trace = float(stiffness[:3, :3].sum()), float(np.trace(stiffness))
    return volume / 9.0, (3.0 * trace - volume) / 30.0


def voigt(stiffness: FloatArray) -> FloatArray:
    """Stiffness in Voigt's notation, C_11 to C_66, from Kelvin's; both (6, 6)."""
    result: FloatArray = stiffness / np.outer(_WEIGHTS, _WEIGHTS)
    return result


def vectors(tensors: FloatArray) -> FloatArray:
    """Symmetric tensors (m, 3, 3) as vectors (m, 6) in Kelvin's notation, whose norm is the tensor's."""
    symmetric = (tensors + np.swapaxes(tensors, 1, 2)) / 2.0
    result: FloatArray = symmetric[:, _ROWS, _COLUMNS] * _WEIGHTS
    return result


def _matrix(vector: FloatArray) -> FloatArray:
    """Symmetric tensor (3, 3) of a vector (6,) in Kelvin's notation."""
    matrix = np.zeros((3, 3))
    matrix[_ROWS, _COLUMNS] = matrix[_COLUMNS, _ROWS] = vector / _WEIGHTS
    return matrix
