"""The jobs of ``benchmark_enumeration.py``: pymatgen's Substitutor and smact's filter, and ionsieve's on the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pymatgen.analysis.structure_prediction.substitutor import Substitutor
from pymatgen.core import Element, Species

from pipeline.candidate_settings import CandidateGates, CandidateSettings
from pipeline.config import Campaign
from pipeline.reference.ions import allowed_ions, ion_table
from pipeline.reference.observed_compounds import crystal_keys
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.stages.candidates import judge_unit, parse_ions, plan_units

IntArray = npt.NDArray[np.int64]
Crystal = tuple[str, tuple[int, ...]]
"""Prototype, and elements on its orbits: equal for equivalent orbits."""

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


# pymatgen's Substitutor


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


# smact's filter


@dataclass
class SmactJob:
    """Stoichiometries of 3 and 4 elements, a prototype each, and the compositions that smact is given.

    A result is a stoichiometry with its elements, in either order on classes of equal amount and sign.
    """

    prototypes: list[Prototype]
    states: dict[str, list[int]]
    compositions: list[list[tuple[str, ...]]]
    """For each prototype, elements on its classes: a random part of all."""
    settings: CandidateSettings

    @classmethod
    def of(cls, campaign: Campaign, library: PrototypeLibrary, number: int, calls: int, seed: int) -> SmactJob:
        """Draw stoichiometries, and about so many compositions of all of them."""
        states: dict[str, list[int]] = {}
        for ion in allowed_ions(campaign.candidates):
            states.setdefault(ion.element, []).append(ion.charge)
        chosen = draw(library, number, seed, lambda p: p.n_classes in (3, 4), stoichiometry)
        choices = [_choices(stoichiometry(p), states) for p in chosen]
        totals = [int(np.prod([len(c) for c in own])) for own in choices]
        chance = np.random.default_rng(seed)
        share = min(1.0, calls / sum(totals))
        drawn = []
        for prototype, own, total in zip(chosen, choices, totals, strict=True):
            picked = np.unravel_index(
                np.sort(chance.choice(total, round(total * share), replace=False)), [len(c) for c in own]
            )
            rows = zip(
                *([names[i] for i in column.tolist()] for names, column in zip(own, picked, strict=True)), strict=True
            )
            drawn.append([symbols for symbols in rows if _in_order(symbols, stoichiometry(prototype))])
        return cls(chosen, states, drawn, settings_of(campaign, states, electronegativity_order=True))

    def elements(self, *, of_sign: int | None) -> dict[str, Any]:
        """Elements of smact with ionsieve's states (all, or of one sign) and electronegativities."""
        import smact

        electronegativity = {i.element: i.electronegativity for i in ion_table()}
        out = {}
        for symbol, charges in self.states.items():
            own = [q for q in charges if of_sign is None or q * of_sign > 0]
            if own:
                out[symbol] = smact.Element(symbol)
                out[symbol].oxidation_states_icsd24 = own
                out[symbol].pauling_eneg = electronegativity[symbol]
        return out

    def run_peer(self, by_sign: dict[int, dict[str, Any]]) -> list[list[Any]]:
        """What is timed on the peer's side: the filter's answer to each composition."""
        from smact.screening import smact_filter

        answers = []
        for prototype, compositions in zip(self.prototypes, self.compositions, strict=True):
            classes = stoichiometry(prototype)
            amounts = [[amount] for amount, _ in classes]
            tables = [by_sign[sign] for _, sign in classes]
            own = []
            for symbols in compositions:
                elements = [table[symbol] for table, symbol in zip(tables, symbols, strict=True)]
                own.append(smact_filter(elements, stoichs=amounts, oxidation_states_set="icsd24"))
            answers.append(own)
        return answers

    def peers_keys(self, answers: list[list[Any]]) -> IntArray:
        """Compositions accepted with charges of the classes' signs."""
        keys = []
        for which, (prototype, own) in enumerate(zip(self.prototypes, answers, strict=True)):
            signs = [sign for _, sign in stoichiometry(prototype)]
            accepted = [
                symbols
                for found in own
                for symbols, charges, _ in found
                if all(q * sign > 0 for q, sign in zip(charges, signs, strict=True))
            ]
            keys.append(self._keys(which, _numbers(accepted, prototype.n_classes)))
        return np.unique(np.concatenate(keys))

    def run_ours(self) -> list[tuple[str, IntArray, IntArray, npt.NDArray[np.int8]]]:
        """Elements, charges and reasons of every candidate, prototype by prototype, without rows."""
        library = PrototypeLibrary(tuple(self.prototypes), {})
        return [
            (judged.placed.prototype.prototype_id, judged.placed.elements, judged.placed.charges, judged.rejected)
            for unit in plan_units(self.settings, library)
            for judged in judge_unit(unit, self.settings, library, MOBILE)
        ]

    def judge_all(self) -> int:
        """The same, slice by slice as a campaign goes through them: none is kept. How many pass."""
        library = PrototypeLibrary(tuple(self.prototypes), {})
        return sum(
            int((judged.rejected < 0).sum())
            for unit in plan_units(self.settings, library)
            for judged in judge_unit(unit, self.settings, library, MOBILE)
        )

    def our_keys(self, judged: Iterable[tuple[str, IntArray, IntArray, npt.NDArray[np.int8]]]) -> IntArray:
        """Compositions of different elements that pass."""
        place = {p.prototype_id: k for k, p in enumerate(self.prototypes)}
        keys = [self._keys(place[name], elements[rejected < 0]) for name, elements, _, rejected in judged]
        return np.unique(np.concatenate(keys))

    def asked(self, keys: IntArray) -> IntArray:
        """Those that the peer was given."""
        each = zip(self.prototypes, self.compositions, strict=True)
        given = [self._keys(which, _numbers(own, p.n_classes)) for which, (p, own) in enumerate(each)]
        return keys[np.isin(keys, np.concatenate(given))]

    def _keys(self, which: int, elements: IntArray) -> IntArray:
        """One number for the stoichiometry and the elements, those on equal classes in ascending order."""
        classes = stoichiometry(self.prototypes[which])
        ordered = np.sort(elements, axis=1)
        elements = elements[(ordered[:, 1:] != ordered[:, :-1]).all(axis=1)].copy()
        for equal in set(classes):
            columns = [c for c, own in enumerate(classes) if own == equal]
            elements[:, columns] = np.sort(elements[:, columns], axis=1)
        key = np.full(len(elements), which, dtype=np.int64)
        for column in elements.T:
            key = key * 128 + column
        return key


def _choices(classes: Sequence[tuple[int, int]], states: dict[str, list[int]]) -> list[list[str]]:
    """Elements that may stand on each class."""
    return [[e for e, charges in states.items() if any(q * sign > 0 for q in charges)] for _, sign in classes]


def _in_order(symbols: Sequence[str], classes: Sequence[tuple[int, int]]) -> bool:
    """Whether all elements differ, and stand in one order on classes of equal amount and sign."""
    return len(set(symbols)) == len(symbols) and not any(
        classes[a] == classes[b] and symbols[a] > symbols[b] for a, b in itertools.combinations(range(len(symbols)), 2)
    )


def _numbers(compositions: Sequence[Sequence[str]], width: int) -> IntArray:
    number = {Element.from_Z(z).symbol: z for z in range(1, 104)}
    return np.array([[number[s] for s in symbols] for symbols in compositions], dtype=np.int64).reshape(-1, width)
