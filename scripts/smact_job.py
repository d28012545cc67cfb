"""The job of ``benchmark_enumeration.py`` that smact's filter does too, and what each of both finds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from enumeration_peers import MOBILE, draw, settings_of, stoichiometry
from pymatgen.core import Element

from pipeline.candidate_settings import CandidateSettings
from pipeline.config import Campaign
from pipeline.reference.ions import allowed_ions, ion_table
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.stages.candidates import judge_unit, plan_units

IntArray = npt.NDArray[np.int64]


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
