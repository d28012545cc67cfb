"""The job of ``benchmark_enumeration.py`` that pymatgen's Substitutor does too, and what each of both finds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from enumeration_peers import draw, settings_of, stoichiometry
from pymatgen.analysis.structure_prediction.substitutor import Substitutor
from pymatgen.core import Element, Species

from pipeline.candidate_settings import CandidateSettings
from pipeline.config import Campaign
from pipeline.reference.ions import allowed_ions
from pipeline.reference.observed_compounds import crystal_keys
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.stages.candidates import parse_ions

Crystal = tuple[str, tuple[int, ...]]
"""Prototype, and elements on its orbits: equal for equivalent orbits."""


@dataclass
class SubstitutorJob:
    """Ternary prototypes whose ions the peer's table knows, one ion an element, and the sets of ions it is given."""

    peer: Substitutor
    prototypes: list[Prototype]
    ions: dict[str, Species]
    sets: list[tuple[Species, ...]]
    balancing_sets: int
    settings: CandidateSettings

    @classmethod
    def of(
        cls, campaign: Campaign, library: PrototypeLibrary, number: int, sets: int, threshold: float, seed: int
    ) -> SubstitutorJob:
        """Draw prototypes, and sets of ions among those that balance on one of them in some order."""
        peer = Substitutor(threshold=threshold)
        known = peer.get_allowed_species()
        ions = (Species(i.element, i.charge) for i in allowed_ions(campaign.candidates))
        species = {str(ion.symbol): ion for ion in ions if ion in known}
        chosen = draw(
            library,
            number,
            seed,
            lambda p: p.n_classes == 3 and all(s in known for s in class_species(p)),
            lambda p: p.frame,
        )
        every = [c for c in itertools.combinations(species.values(), 3) if _may_balance(c, chosen)]
        drawn = [every[i] for i in np.random.default_rng(seed).permutation(len(every))[:sets]]
        settings = settings_of(campaign, species, substitution_probability=threshold)
        settings = settings.model_copy(update={"charges": {e: (int(s.oxi_state),) for e, s in species.items()}})
        return cls(peer, chosen, species, drawn, len(every), settings)

    def decorated(self) -> list[dict[str, Any]]:
        """Structures with oxidation states, as the peer wants them."""
        out = []
        for prototype in self.prototypes:
            structure = prototype.structure()
            structure.add_oxidation_state_by_site([prototype.orbit_charges[o] for o in prototype.site_orbit])
            out.append({"structure": structure, "id": prototype.prototype_id})
        return out

    def run_peer(self, decorated: list[dict[str, Any]]) -> list[Any]:
        """What is timed on the peer's side."""
        predicted = []
        for species in self.sets:
            predicted.extend(self.peer.pred_from_structures(species, decorated, remove_duplicates=False))
        return predicted

    def peers_crystals(self, predicted: list[Any]) -> tuple[set[Crystal], int]:
        """Different crystals but the parents, and the number left out for an anion in a cation's place."""
        by_id = {p.prototype_id: p for p in self.prototypes}
        found, swapped = set(), 0
        for crystal in predicted:
            prototype = by_id[crystal.history[0]["source"]]
            classes = [prototype.orbit_class.index(c) for c in range(prototype.n_classes)]
            first = [int(np.flatnonzero(prototype.site_orbit == o)[0]) for o in classes]
            species = [crystal.final_structure[i].specie for i in first]
            if any(s.oxi_state * q < 0 for s, q in zip(species, prototype.class_charges, strict=True)):
                swapped += 1
            else:
                found.add(_crystal(prototype, [s.symbol for s in species]))
        return found - self._parents(), swapped

    def our_crystals(self, rows: pd.DataFrame) -> set[Crystal]:
        """Crystals of rows with a different element on each class, but the parents."""
        return set(self._of_rows(rows)) - self._parents()

    def asked(self, crystals: set[Crystal]) -> set[Crystal]:
        """Those whose elements the peer was given."""
        sets = {frozenset(int(s.Z) for s in species) for species in self.sets}
        return {crystal for crystal in crystals if frozenset(crystal[1]) in sets}

    def _of_rows(self, rows: pd.DataFrame) -> Iterator[Crystal]:
        by_id = {p.prototype_id: p for p in self.prototypes}
        for prototype_id, ions in zip(rows["prototype_id"], rows["ions"], strict=True):
            prototype = by_id[prototype_id]
            numbers, _ = parse_ions(ions)
            on_class = [numbers[prototype.orbit_class.index(c)] for c in range(prototype.n_classes)]
            if len(set(on_class)) == len(on_class):
                yield _crystal(prototype, [Element.from_Z(z).symbol for z in on_class])

    def _parents(self) -> set[Crystal]:
        return {_crystal(p, [s.symbol for s in class_species(p)]) for p in self.prototypes}


def class_species(prototype: Prototype) -> list[Species]:
    """Ion on each class of the representative."""
    first = [prototype.orbit_class.index(c) for c in range(prototype.n_classes)]
    return [Species(prototype.orbit_elements[o], prototype.orbit_charges[o]) for o in first]


def _crystal(prototype: Prototype, symbols: Sequence[str]) -> Crystal:
    """Key of a crystal; tied classes are kept apart."""
    return prototype.prototype_id, crystal_keys(replace(prototype, ties=()), [tuple(symbols)])[0]


def _may_balance(ions: Iterable[Species], prototypes: Iterable[Prototype]) -> bool:
    """Whether some order of the ions is neutral on some prototype."""
    charges = tuple(sorted(int(s.oxi_state) for s in ions))
    return charges[0] < 0 < charges[-1] and any(
        _balances(charges, tuple(amount for amount, _ in stoichiometry(p))) for p in prototypes
    )


@cache
def _balances(charges: tuple[int, ...], amounts: tuple[int, ...]) -> bool:
    return any(np.dot(order, amounts) == 0 for order in itertools.permutations(charges))
