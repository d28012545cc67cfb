"""Chemical stability against a partner: the mutual reaction energy of an interface.

Two solids mixed in the ratio x : 1 - x (atoms) can lower their energy by

    dE(x) = E_hull(x a + (1 - x) b) - x E_a - (1 - x) E_b

with E_a, E_b the energies of the partners. Its lowest value over x is the driving force of the reaction at the
interface (Richards, Miara, Wang, Kim and Ceder, Chem. Mater. 2016, 28, 266). Taken from the hull at both ends it
leaves out what either partner would do alone, and is called mutual (Zhu, He and Mo, J. Mater. Chem. A 2016, 4, 3253).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.reference.formulas import composition_key, named_amounts
from pipeline.reference.phase_system import AMOUNT_TOLERANCE, atom_fractions

if TYPE_CHECKING:
    from pipeline.reference.phases import PhaseReference

NO_REACTION = 1e-8
"""Driving forces below this (eV/atom) are rounding."""


@dataclass(frozen=True)
class MutualReaction:
    """The reaction of largest driving force between a composition and a partner.

    Attributes
    ----------
    partner
        Formula of the partner.
    energy
        eV per atom of the mixture; 0.0 when they don't react, else negative.
    share
        Atom fraction of the composition (not the partner) in the mixture that reacts; NaN when nothing reacts.
    products
        Phases that form, with their atom fractions (sum 1); empty when nothing reacts.
    """

    partner: str
    energy: float
    share: float
    products: Mapping[str, float]


def mutual_reaction(
    reference: PhaseReference, formula: str, partner: str, formation_energy: float | None = None
) -> MutualReaction:
    """Reaction of largest driving force between a composition and a partner.

    Parameters
    ----------
    reference
        Competing phases.
    formula
        The candidate's composition.
    partner
        The other's, such as ``Li`` or ``LiCoO2``. It counts with its hull energy.
    formation_energy
        The candidate's, eV/atom, in the reference's scheme. Below the hull, the candidate is added to it; above
        it, or None, the candidate counts with its hull energy.

    Raises
    ------
    ValueError
        For an unknown element, an unreadable formula, or a formation energy that is no finite number.
    RuntimeError
        When the simplex method fails, naming the chemical system.
    """
    from kernels.open_hull import lowest_mixture

    if formation_energy is not None and not np.isfinite(formation_energy):
        raise ValueError(f"formation energy of {formula} must be a finite number in eV/atom, got {formation_energy}")
    key, other = composition_key(formula), composition_key(partner)
    system = reference.system([symbol for symbol, _ in (*key, *other)])
    ends = np.array([atom_fractions(key, system.elements), atom_fractions(other, system.elements)])
    energies = system.hull_energies(ends)
    if formation_energy is not None and formation_energy < energies[0]:
        system = system.with_phase(key, formation_energy)
        energies = system.hull_energies(ends)
    share, energy, basis, amounts = lowest_mixture(system.fractions, system.energies, ends[0], ends[1], *energies)
    if np.isnan(energy):
        raise RuntimeError(
            f"the simplex method found no reaction of {formula} and {partner} in {'-'.join(system.elements)}"
        )
    if energy > -NO_REACTION:
        return MutualReaction(partner, 0.0, float("nan"), {})
    present = np.flatnonzero(amounts > AMOUNT_TOLERANCE)
    products = named_amounts((system.keys[basis[i]], amounts[i]) for i in present)
    return MutualReaction(partner, float(energy), float(share), products)
