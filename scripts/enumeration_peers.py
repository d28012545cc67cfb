"""What both jobs of ``benchmark_enumeration.py`` share: settings without gates, prototypes drawn at random."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pipeline.candidate_settings import CandidateGates, CandidateSettings
from pipeline.config import Campaign
from pipeline.reference.prototypes import Prototype, PrototypeLibrary

OPEN = CandidateGates(mobile_ion_fraction=None, electronegativity_order=False, require_mobile_ion=False)
MOBILE = ("Li", "Na")


def settings_of(campaign: Campaign, elements: Iterable[str], **gates: Any) -> CandidateSettings:
    """Charge-neutral, element-wise, with the campaign's ions of some elements, and no gates but those given."""
    change = {"elements": tuple(elements), "substitution": "charge_neutral", "by": "element", "max_elements": 4}
    return campaign.candidates.model_copy(update={**change, "gates": OPEN.model_copy(update=gates)})


def draw(library: PrototypeLibrary, number: int, seed: int, wanted: Any, kind: Any) -> list[Prototype]:
    """Prototypes at random, those wanted, one of a kind."""
    chosen: dict[Any, Prototype] = {}
    for i in np.random.default_rng(seed).permutation(len(library)):
        prototype = library.prototypes[i]
        if wanted(prototype) and len(chosen) < number:
            chosen.setdefault(kind(prototype), prototype)
    return sorted(chosen.values(), key=lambda p: (p.n_sites, p.frame))


def stoichiometry(prototype: Prototype) -> tuple[tuple[int, int], ...]:
    """Reduced amount and sign of each class."""
    amounts = [0] * prototype.n_classes
    for of_class, atoms in zip(prototype.orbit_class, prototype.orbit_multiplicities, strict=True):
        amounts[of_class] += atoms
    divisor = int(np.gcd.reduce(amounts))
    signs = [1 if q > 0 else -1 for q in prototype.class_charges]
    return tuple((a // divisor, s) for a, s in zip(amounts, signs, strict=True))
