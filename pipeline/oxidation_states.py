"""Oxidation states of a crystal's ions: given, carried by its species, or guessed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

CHARGE_TOLERANCE = 0.02
"""e/atom. How far from neutral a guess may leave a cell: refined occupancies are rounded."""

OxidationStates = Sequence[float] | Mapping[str, float]
"""One number for each site, or one for each element."""


class OxidationStateError(ValueError):
    """Oxidation states are missing and can't be guessed, or make no sense for a bond-valence model."""


class InvalidStructureError(ValueError):
    """Lattice or coordinates aren't finite."""


ChargedSite = list[tuple[str, float, float]]
"""Element, oxidation state and occupancy of each species on a site."""


def charged_species(structure: Structure, oxidation_states: OxidationStates | None = None) -> list[ChargedSite]:
    """Species of each site with oxidation states: those given, else the structure's own, else guessed.

    Raises
    ------
    InvalidStructureError
        When lattice or coordinates aren't finite.
    OxidationStateError
        When given states don't fit the structure, or none are given and none can be guessed.
    """
    if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
        raise InvalidStructureError(f"lattice or coordinates of {structure.formula} aren't finite")
    if isinstance(oxidation_states, Mapping):
        return _by_element(structure, oxidation_states)
    if oxidation_states is not None:
        if len(oxidation_states) != len(structure):
            raise OxidationStateError(f"{len(oxidation_states)} oxidation states given for {len(structure)} sites")
        states = [float(q) for q in oxidation_states]
        if not all(math.isfinite(q) for q in states):
            raise OxidationStateError(f"oxidation states must be finite, got {states}")
        return [
            [(s.symbol, q, float(x)) for s, x in site.species.items()]
            for site, q in zip(structure, states, strict=True)
        ]
    own = [[(s.symbol, getattr(s, "oxi_state", None), float(x)) for s, x in site.species.items()] for site in structure]
    if all(q is not None for site in own for _, q, _ in site):
        return [[(symbol, float(q), x) for symbol, q, x in site if q is not None] for site in own]
    return _guessed(structure)


def _by_element(structure: Structure, states: Mapping[str, float]) -> list[ChargedSite]:
    missing = sorted(set(structure.symbol_set) - set(states))
    if missing:
        raise OxidationStateError(f"no oxidation state given for {', '.join(missing)} of {structure.formula}")
    return [[(s.symbol, float(states[s.symbol]), float(x)) for s, x in site.species.items()] for site in structure]


def _guessed(structure: Structure) -> list[ChargedSite]:
    """Oxidation states from bond valences (ordered crystals), else one for each element by charge balance."""
    from pymatgen.analysis.bond_valence import BVAnalyzer

    bare = structure.copy()
    bare.remove_oxidation_states()
    if bare.is_ordered:
        try:
            with warnings.catch_warnings():
                # pymatgen calls spglib in a way that spglib deprecates
                warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
                valences = BVAnalyzer(forbidden_species=["O-", "P3-"]).get_valences(bare)
        except ValueError:  # pymatgen's way to say that no assignment fits; charge balance is tried next
            pass
        else:
            return [[(site.specie.symbol, float(q), 1.0)] for site, q in zip(bare, valences, strict=True)]
    return _by_element(bare, balanced_oxidation_states(bare))


def balanced_oxidation_states(structure: Structure) -> dict[str, float]:
    """One oxidation state for each element that makes the cell neutral, the most ionic where several do.

    Ionicity is the amount-weighted sum of -(state x Pauling electronegativity).

    Raises
    ------
    OxidationStateError
        When no combination of common (else known) states is neutral within 0.02 e/atom.
    """
    amounts = structure.composition.element_composition
    elements = sorted(amounts.elements, key=lambda e: e.X)
    for source in ("common_oxidation_states", "oxidation_states"):
        best: tuple[float, tuple[int, ...]] | None = None
        for states in product(*(getattr(e, source) for e in elements)):
            charge = sum(amounts[e] * q for e, q in zip(elements, states, strict=True))
            if 0 in states or abs(charge) > CHARGE_TOLERANCE * amounts.num_atoms:
                continue
            ionicity = -sum(amounts[e] * q * e.X for e, q in zip(elements, states, strict=True))
            if best is None or ionicity > best[0]:
                best = (ionicity, states)
        if best is not None:
            return {e.symbol: float(q) for e, q in zip(elements, best[1], strict=True)}
    raise OxidationStateError(
        f"no oxidation states make {structure.formula} neutral; pass oxidation_states, "
        "one for each site or one for each element"
    )
