"""Oxidation states of a crystal's ions: given, carried by its species, or guessed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

CHARGE_TOLERANCE = 0.02
"""e/atom. How far from neutral a guess may leave a cell: refined occupancies are rounded."""

REFINEMENT_TOLERANCE = 0.05
"""e/atom. Imbalance that is put down to the refinement's occupancies rather than to a rare oxidation state."""

LARGEST_IMBALANCE = 0.15
"""e/atom. A cell further from neutral than this lacks, or has too many of, the very atoms it is about."""

USUAL_SHARE = 0.05
KNOWN_SHARE = 0.005
"""Shares of an element's ions in the ICSD that make an oxidation state usual, or at least known."""

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


def charge_per_atom(charged: Sequence[ChargedSite]) -> float:
    """Net charge of the cell over its atoms, e/atom; beyond 0.02 the refinement leaves atoms out or adds some."""
    atoms = sum(x for site in charged for _, _, x in site)
    return sum(q * x for site in charged for _, q, x in site) / atoms


def balanced_oxidation_states(structure: Structure) -> dict[str, float]:
    """One oxidation state for each element that makes the cell neutral, the likeliest where several do.

    Likelihoods are how often the ICSD holds the element in that state (the table of pymatgen's BVAnalyzer),
    weighted by amount. An anion is more electronegative than every cation. These are tried in turn:

    1. states that at least 5 % of the element's ions have, neutral within 0.02 e/atom;
    2. the same, with one d or f metal in a mixture of two neighbouring states, exactly neutral;
    3. as the first, neutral within 0.05 e/atom: refined crystals miss some of their light atoms;
    4. states that 0.5 % of the ions have, within 0.02 e/atom, then with one metal in a mixture;
    5. as the first, within 0.15 e/atom; :func:`charge_per_atom` tells how far off it is.

    Raises
    ------
    OxidationStateError
        When nothing of this is neutral, or an element has no known oxidation state.
    """
    amounts = {e.symbol: float(x) for e, x in structure.composition.element_composition.items()}
    usual, known = ({e: _ionic_states(e, share) for e in amounts} for share in (USUAL_SHARE, KNOWN_SHARE))
    atoms = sum(amounts.values())
    for states, mixed, tolerance in (
        (usual, False, CHARGE_TOLERANCE),
        (usual, True, 0.0),
        (usual, False, REFINEMENT_TOLERANCE),
        (known, False, CHARGE_TOLERANCE),
        (known, True, 0.0),
        (usual, False, LARGEST_IMBALANCE),
    ):
        best = _likeliest(amounts, states, tolerance * atoms, mixed=mixed)
        if best is not None:
            return best
    raise OxidationStateError(
        f"no oxidation states make {structure.formula} neutral within {LARGEST_IMBALANCE} e/atom; pass "
        "oxidation_states, one for each site or one for each element, or check the structure's occupancies"
    )


def _likeliest(
    amounts: Mapping[str, float], states: Mapping[str, Mapping[int, float]], tolerance: float, *, mixed: bool
) -> dict[str, float] | None:
    """Likeliest states whose charge is within ``tolerance`` (e), or with one element's mean state between two."""
    best: tuple[float, dict[str, float]] | None = None
    for choice in product(*(states[e] for e in amounts)):
        charges = dict(zip(amounts, choice, strict=True))
        if not _anions_attract_most(charges):
            continue
        charge = sum(amounts[e] * q for e, q in charges.items())
        logs = {e: math.log(states[e][q]) for e, q in charges.items()}
        likelihood = sum(amounts[e] * logs[e] for e in amounts)
        if not mixed and abs(charge) <= tolerance and (best is None or likelihood > best[0]):
            best = likelihood, {e: float(q) for e, q in charges.items()}
        for e, q in charges.items() if mixed else ():
            # the mean state that leaves the cell neutral must lie between this state and the next one up
            mean = q - charge / amounts[e]
            higher = min((other for other in states[e] if other > q), default=None)
            if not _is_multivalent(e) or higher is None or not 0 < q < mean < higher:
                continue
            share = (mean - q) / (higher - q)
            total = likelihood + amounts[e] * share * (math.log(states[e][higher]) - logs[e])
            if best is None or total > best[0]:
                best = total, {**{other: float(c) for other, c in charges.items()}, e: mean}
    return None if best is None else best[1]


def _anions_attract_most(charges: Mapping[str, int]) -> bool:
    from pymatgen.core import Element

    cations = [Element(e).X for e, q in charges.items() if q > 0]
    anions = [Element(e).X for e, q in charges.items() if q < 0]
    return not cations or not anions or max(cations) < min(anions)


def _is_multivalent(element: str) -> bool:
    from pymatgen.core import Element

    return Element(element).block in ("d", "f")


@cache
def _ionic_states(element: str, share: float) -> dict[int, float]:
    """Charges, not zero, that at least ``share`` of an element's ions have in the ICSD, with that share."""
    from pymatgen.analysis.bond_valence import PRIOR_PROB
    from pymatgen.core import Element

    counts = {
        round(species.oxi_state): float(count)
        for species, count in PRIOR_PROB.items()
        if species.symbol == element and species.oxi_state
    }
    if not counts:
        counts = dict.fromkeys((q for q in Element(element).oxidation_states if q), 1.0)
    total = sum(counts.values())
    found = {q: counts[q] / total for q in sorted(counts) if counts[q] >= share * total}
    if not found:
        raise OxidationStateError(f"{element} has no known oxidation state; pass oxidation_states")
    return found
