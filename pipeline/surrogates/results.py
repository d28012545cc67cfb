"""What the surrogates return."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class Evaluation:
    """Energy and its derivatives for one structure; NaN where ``error`` says why.

    Attributes
    ----------
    energy : float
        Total energy of the cell, eV.
    forces : (n, 3) float64
        eV/Å.
    stress : (3, 3) float64
        eV/Å3; positive under tension, as in ASE.
    error : str or None
        ``"<type>: <message>"``.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    error: str | None = None


@dataclass(frozen=True)
class Relaxation:
    """Outcome of relaxing one structure.

    Attributes
    ----------
    structure : Structure
        The relaxed structure; the last one reached if it did not converge, the given one if it failed at once.
    energy : float
        Total energy of ``structure``, eV; NaN after an error.
    converged : bool
        Whether the largest force (``max_force``) came to ``fmax`` within the steps allowed.
    n_steps : int
        Steps taken, one evaluation each beside the first.
    error : str or None
        ``"<type>: <message>"`` if the structure failed.
    energy_initial : float
        Energy of the start (after the rattle), eV.
    max_force : float
        Largest norm among the atomic forces and the cell's generalised forces, eV/Å.
    volume_change : float
        Final volume over the initial one, minus 1.
    given_up : bool
        Whether it was left where it stood because its energy could not come under its ceiling.
    """

    structure: "Structure"
    energy: float
    converged: bool
    n_steps: int
    error: str | None
    energy_initial: float
    max_force: float
    volume_change: float
    given_up: bool = False
