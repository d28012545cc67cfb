"""The cell of a substituted crystal before relaxation: the prototype's, scaled by the lengths of its bonds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kernels.assignment_space import CHARGE_OFFSET
from pipeline.reference.bonds import cation_anion_bonds
from pipeline.reference.prototypes import Prototype
from pipeline.stages.cheap_gates import ion_tables

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BOND_RATIO = (0.85, 1.20)
"""Mean bond length over the sum of Shannon's radii within which a prototype's own ratio is trusted; it is 0.89 to 1.09
for nine of ten halides and oxides."""


def starting_lattice(prototype: Prototype, numbers: Sequence[int], charges: Sequence[int]) -> FloatArray:
    """Lattice of a candidate, scaled without change of shape.

    The scale is the mean over the prototype's bonds of (sum of the new ions' radii) / (sum of the old ions' radii),
    so the volume goes with its cube. A prototype whose own bonds are far from its radii's sums (covalent ones such as
    CO2, wrong oxidation states) would hand that error on: its bonds count as at most :data:`BOND_RATIO` off. Without
    charges or radii the prototype's own lattice is returned.

    Parameters
    ----------
    prototype
        The crystal that is substituted.
    numbers, charges
        Atomic number and charge on each orbit.

    Returns
    -------
    (3, 3) float64
        Å, rows.
    """
    from pymatgen.core import Element

    if not prototype.has_charges or not all(charges):
        return prototype.lattice.copy()
    radius = ion_tables().radius
    old_numbers = [int(Element(e).Z) for e in prototype.orbit_elements]
    if tuple(numbers) == tuple(old_numbers):
        return prototype.lattice.copy()
    old = radius[old_numbers, CHARGE_OFFSET + np.array(prototype.orbit_charges)]
    new = radius[list(numbers), CHARGE_OFFSET + np.array(charges)]
    pairs, weights, lengths = _bonds(_Holder(prototype))
    if not len(pairs):
        return prototype.lattice.copy()
    old_sum, new_sum = old[pairs[:, 0]] + old[pairs[:, 1]], new[pairs[:, 0]] + new[pairs[:, 1]]
    scale = float(np.sum(weights * new_sum / old_sum) / np.sum(weights))
    observed = float(np.sum(weights * lengths) / np.sum(weights * old_sum))
    scale *= min(max(observed, BOND_RATIO[0]), BOND_RATIO[1]) / observed
    return prototype.lattice * (scale if np.isfinite(scale) else 1.0)


class _Holder:
    """Passes a prototype through a cache that is keyed by its id."""

    def __init__(self, prototype: Prototype) -> None:
        self.prototype = prototype

    def __hash__(self) -> int:
        return hash(self.prototype.prototype_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Holder) and other.prototype.prototype_id == self.prototype.prototype_id


@lru_cache(maxsize=4096)
def _bonds(holder: _Holder) -> tuple[IntArray, FloatArray, FloatArray]:
    prototype = holder.prototype
    return cation_anion_bonds(
        prototype.lattice,
        prototype.frac_coords,
        prototype.site_orbit,
        prototype.orbit_elements,
        prototype.orbit_charges,
    )
