"""The cell of a substituted crystal before relaxation: the prototype's, scaled by the lengths of its bonds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kernels.assignment_space import CHARGE_OFFSET
from pipeline.reference.bonds import cation_anion_bonds
from pipeline.reference.formulas import atomic_number
from pipeline.reference.prototypes import Prototype
from pipeline.reference.volume_radii import volume_radii, volume_radii_digest

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RULE_VERSION = 2
"""Of the rule; it enters the digests of all that starts from these crystals."""

LIMITS = (0.5, 2.0)
"""New over old length of one bond, at least and at most."""


def rule_digest() -> list[str | int]:
    """What the starting cell of a crystal depends on beside prototype and ions."""
    return [RULE_VERSION, volume_radii_digest()]


def starting_lattice(prototype: Prototype, numbers: Sequence[int], charges: Sequence[int]) -> FloatArray:
    """Lattice of a candidate, scaled without change of shape.

    Each bond becomes longer by (sum of the new ions' radii) - (sum of the old ions' radii), with the radii of
    :mod:`pipeline.reference.volume_radii`; the scale is the mean over the prototype's bonds of new over old length, so
    the volume goes with its cube. Differences, and not ratios of sums, leave a covalent bond what makes it short. A
    bond with an ion whose radius is unknown counts as unchanged. Without charges the prototype's own lattice is
    returned.

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
    if not prototype.has_charges or not all(charges):
        return prototype.lattice.copy()
    radius = volume_radii()
    old_numbers = [atomic_number(e) for e in prototype.orbit_elements]
    pairs, counts, lengths = bonds_of(prototype)
    if tuple(numbers) == tuple(old_numbers) or not len(pairs):
        return prototype.lattice.copy()
    old = radius[old_numbers, CHARGE_OFFSET + np.array(prototype.orbit_charges)]
    new = radius[list(numbers), CHARGE_OFFSET + np.array(charges)]
    return prototype.lattice * bond_scale((new - old)[pairs].sum(axis=1), counts, lengths)


def bond_scale(shifts: FloatArray, counts: FloatArray, lengths: FloatArray) -> float:
    """Factor on all lengths of a crystal whose bonds have other ions.

    Parameters
    ----------
    shifts, counts, lengths
        (b,) of each kind of bond: by how much it becomes longer (Å, NaN: unknown), number, mean length (Å).
    """
    ratio = np.clip(1.0 + np.nan_to_num(shifts, nan=0.0) / lengths, *LIMITS)
    return float(np.average(ratio, weights=counts))


def bonds_of(prototype: Prototype) -> tuple[IntArray, FloatArray, FloatArray]:
    """Bonds of a prototype, remembered: see :func:`pipeline.reference.bonds.cation_anion_bonds`."""
    return _bonds(_Holder(prototype))


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
