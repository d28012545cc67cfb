"""Time the enumeration against pymatgen's Substitutor and smact's filter, each on the same job, in one process.

Substitutor's job: place ions on the sites of observed ternary crystals, one an element, so that the cell is neutral
and Hautier's probability is above the threshold. Each element has one of its ions, prototypes are those whose ions its
table knows. It is called as its documentation says (``pred_from_structures``, once a set of target ions, with all
prototypes), only for sets that are neutral on one of them in some order, and spared its search for duplicates. It gets
a random part of these sets; rates are of results a second.

smact's job: which compositions of the stoichiometries of observed crystals are neutral and in Pauling's order. It is
called once a composition, with this composition's amounts as the only stoichiometry, and with our oxidation states and
electronegativities, since the filter is compared and not the table.

On both jobs the results are compared, and only results that both have are counted for the rates. ionsieve runs
through ``enumerate_unit``, its whole columns included (identities, formulas, radius fit, probability). A last table
gives the rate on a whole campaign, from every n-th of its units. smact comes with ``pip install -e .[benchmark]``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.analysis.structure_prediction.substitutor import Substitutor
from pymatgen.core import Element, Species

from pipeline.config import Campaign, load_campaign
from pipeline.crystal import structure_from_row
from pipeline.reference.ions import allowed_ions, ion_table
from pipeline.reference.observed_compounds import crystal_keys
from pipeline.reference.prototypes import Prototype, PrototypeLibrary, build_library
from pipeline.settings import CandidateGates, CandidateSettings
from pipeline.stages.candidates import count, enumerate_unit, parse_ions, plan_units, with_structures

CONFIG = Path(__file__).parents[1] / "configs" / "paper.yaml"
OPEN = CandidateGates(mobile_ion_fraction=None, electronegativity_order=False, require_mobile_ion=False)


@dataclass
class Timing:
    """Seconds, and results that both sides have."""

    what: str
    seconds: float
    results: int

    @property
    def rate(self) -> float:
        """Results a second."""
        return self.results / self.seconds


def main() -> int:
    options = _options()
    campaign = load_campaign(options.config)
    library = _library(campaign, options)
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, one core")
    warm_up(campaign, library)
    same = against_substitutor(campaign, library, options)
    same &= against_smact(campaign, library, options)
    campaign_rate(campaign, library, options.every)
    return int(not same)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--config", type=Path, default=CONFIG, help="campaign whose candidates section is used")
    parser.add_argument("--library", type=Path, help="prototype library kept before, of the same structures")
    parser.add_argument("--prototypes", type=int, default=40, help="prototypes for each of the two jobs")
    parser.add_argument("--sets", type=int, default=300, help="sets of ions that Substitutor is given")
    parser.add_argument("--threshold", type=float, default=1e-4, help="least substitution probability")
    parser.add_argument("--every", type=int, default=20, help="every n-th unit of the campaign is listed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def _library(campaign: Campaign, options: argparse.Namespace) -> PrototypeLibrary:
    settings = campaign.candidates.prototypes
    if options.library is None:
        path = Path(options.data) / "data" / "materials_project" / "structures_observed.parquet"
        return build_library(settings, path)
    kept = PrototypeLibrary.load(options.library)
    within = tuple(p for p in kept if settings.min_elements <= p.n_classes <= settings.max_elements)
    return PrototypeLibrary(within, kept.counts)


def warm_up(campaign: Campaign, library: PrototypeLibrary) -> None:
    """Compile kernels and load tables, as the peers have loaded theirs, with ions and prototypes of no job's size."""
    gates = OPEN.model_copy(update={"electronegativity_order": True, "substitution_probability": 1e-6})
    rows, _ = enumerate_all(PrototypeLibrary(library.prototypes[:5], {}), _settings(campaign, ("Na", "Cl", "O"), gates))
    with_structures(rows, library)


def _settings(campaign: Campaign, elements: Iterable[str], gates: CandidateGates) -> CandidateSettings:
    """Charge-neutral, element-wise, with the campaign's ions of some elements."""
    change = {"elements": tuple(elements), "substitution": "charge_neutral", "by": "element", "gates": gates}
    return campaign.candidates.model_copy(update={**change, "max_elements": 4})


def enumerate_all(library: PrototypeLibrary, settings: CandidateSettings) -> tuple[pd.DataFrame, float]:
    """All candidates that pass the gates, and the seconds that planning and listing took."""
    started = time.perf_counter()
    tables = [enumerate_unit(unit, settings, library, ("Li", "Na"))[0] for unit in plan_units(settings, library)]
    table = pd.concat(tables, ignore_index=True)
    return table, time.perf_counter() - started


def draw(library: PrototypeLibrary, number: int, seed: int, wanted: Any, kind: Any) -> list[Prototype]:
    """Prototypes at random, those wanted, one of a kind."""
    chosen: dict[Any, Prototype] = {}
    for i in np.random.default_rng(seed).permutation(len(library)):
        prototype = library.prototypes[i]
        if wanted(prototype) and len(chosen) < number:
            chosen.setdefault(kind(prototype), prototype)
    return sorted(chosen.values(), key=lambda p: (p.n_sites, p.frame))


def print_table(timings: list[Timing], against: str) -> None:
    """Rates, and how often each is the peer's (the first)."""
    print(f"| {against} | s | results | results/s | ratio |\n|---|---|---|---|---|")
    for t in timings:
        print(f"| {t.what} | {t.seconds:.2f} | {t.results} | {t.rate:,.0f} | {t.rate / timings[0].rate:,.0f} |")
    print()


# pymatgen's Substitutor


def against_substitutor(campaign: Campaign, library: PrototypeLibrary, options: argparse.Namespace) -> bool:
    """Time and compare; whether both found the same."""
    peer = Substitutor(threshold=options.threshold)
    known = peer.get_allowed_species()
    ions = {i.element: _species(i) for i in allowed_ions(campaign.candidates) if _species(i) in known}
    chosen = draw(
        library,
        options.prototypes,
        options.seed,
        lambda p: p.n_classes == 3 and all(s in known for s in class_species(p)),
        lambda p: p.frame,
    )
    decorated = [{"structure": p.structure(), "id": p.prototype_id} for p in chosen]
    for prototype, entry in zip(chosen, decorated, strict=True):
        entry["structure"].add_oxidation_state_by_site([prototype.orbit_charges[o] for o in prototype.site_orbit])
    every = [c for c in itertools.combinations(ions.values(), 3) if may_balance(c, chosen)]
    sets = [every[i] for i in np.random.default_rng(options.seed).permutation(len(every))[: options.sets]]

    started = time.perf_counter()
    predicted = []
    for species in sets:
        predicted.extend(peer.pred_from_structures(species, decorated, remove_duplicates=False))
    peer_seconds = time.perf_counter() - started

    part = PrototypeLibrary(tuple(chosen), {})
    gates = OPEN.model_copy(update={"substitution_probability": options.threshold})
    settings = _settings(campaign, ions, gates)
    settings = settings.model_copy(update={"charges": {e: (int(s.oxi_state),) for e, s in ions.items()}})
    rows, seconds = enumerate_all(part, settings)
    by_id = {p.prototype_id: p for p in chosen}
    parents = {_crystal_key(p, tuple(s.symbol for s in class_species(p))) for p in chosen}
    asked = {frozenset(int(s.Z) for s in species) for species in sets}
    all_ours = set(crystals_of(rows, by_id)) - parents
    ours = {key for key in all_ours if frozenset(key[1]) in asked}
    theirs, swapped = set(), 0
    for crystal in predicted:
        prototype = by_id[crystal.history[0]["source"]]
        final = crystal.final_structure
        first = [int(np.flatnonzero(prototype.site_orbit == prototype.orbit_class.index(c))[0]) for c in range(3)]
        species = [final[i].specie for i in first]
        if any(s.oxi_state * q < 0 for s, q in zip(species, prototype.class_charges, strict=True)):
            swapped += 1
            continue
        theirs.add(_crystal_key(prototype, tuple(s.symbol for s in species)))
    theirs -= parents
    examined = count(settings.model_copy(update={"gates": OPEN}), part)["raw_assignments"]
    print(
        f"{len(chosen)} prototypes, {len(ions)} ions, {examined} raw assignments; of {len(every)} sets of ions that may"
    )
    print(f"balance Substitutor gets {len(sets)} at random, and is compared on these; ionsieve places all")
    print(f"Substitutor alone: {len(theirs - ours)}; ionsieve alone: {len(ours - theirs)}; both: {len(ours & theirs)}")
    print(f"left out: {swapped} of Substitutor's with an anion in a cation's place; ionsieve's with fewer elements\n")

    both = len(ours & theirs)
    most = len(all_ours)
    timings = [Timing("Substitutor", peer_seconds, both), Timing("ionsieve, listed", seconds, most)]
    started = time.perf_counter()
    built = with_structures(rows, part)
    arrays = time.perf_counter() - started
    for row in built.to_dict("records"):
        structure_from_row(row)
    objects = time.perf_counter() - started
    timings.append(Timing("ionsieve, with cells and coordinates", seconds + arrays, most))
    timings.append(Timing("ionsieve, with pymatgen structures", seconds + objects, most))
    print_table(timings, "Substitutor's job")
    return ours == theirs


def may_balance(ions: Iterable[Species], prototypes: Iterable[Prototype]) -> bool:
    """Whether some order of the ions is neutral on some prototype."""
    charges = [int(s.oxi_state) for s in ions]
    return len({q > 0 for q in charges}) == 2 and any(
        _balances(tuple(sorted(charges)), _amounts(p)) for p in prototypes
    )


@cache
def _balances(charges: tuple[int, ...], amounts: tuple[int, ...]) -> bool:
    return any(
        sum(q * n for q, n in zip(order, amounts, strict=True)) == 0 for order in itertools.permutations(charges)
    )


def _amounts(prototype: Prototype) -> tuple[int, ...]:
    return tuple(amount for amount, _ in stoichiometry(prototype))


def _species(ion: Any) -> Species:
    return Species(ion.element, ion.charge)


def class_species(prototype: Prototype) -> list[Species]:
    """Ion on each class of the representative."""
    first = [prototype.orbit_class.index(c) for c in range(prototype.n_classes)]
    return [Species(prototype.orbit_elements[o], prototype.orbit_charges[o]) for o in first]


def crystals_of(rows: pd.DataFrame, prototypes: dict[str, Prototype]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Keys of the rows with a different element on each class."""
    for prototype_id, ions in zip(rows["prototype_id"], rows["ions"], strict=True):
        prototype = prototypes[prototype_id]
        numbers, _ = parse_ions(ions)
        on_class = [numbers[prototype.orbit_class.index(c)] for c in range(prototype.n_classes)]
        symbols = tuple(Element.from_Z(z).symbol for z in on_class)
        if len(set(symbols)) == len(symbols):
            yield _crystal_key(prototype, symbols)


def _crystal_key(prototype: Prototype, symbols: tuple[str, ...]) -> tuple[str, tuple[int, ...]]:
    """Key of a crystal, equal for equivalent orbits; tied classes are kept apart."""
    return prototype.prototype_id, crystal_keys(replace(prototype, ties=()), [symbols])[0]


# smact's filter


def against_smact(campaign: Campaign, library: PrototypeLibrary, options: argparse.Namespace) -> bool:
    """Time and compare; whether both found the same."""
    try:
        import smact
        from smact.screening import smact_filter
    except ImportError:
        print("smact is not installed (pip install -e '.[benchmark]'): left out\n")
        return True
    states: dict[str, list[int]] = {}
    for ion in allowed_ions(campaign.candidates):
        states.setdefault(ion.element, []).append(ion.charge)
    elements = {}
    for symbol, charges in states.items():
        elements[symbol] = smact.Element(symbol)
        elements[symbol].oxidation_states_icsd24 = charges
        elements[symbol].pauling_eneg = next(i.electronegativity for i in ion_table() if i.element == symbol)
    chosen = draw(library, options.prototypes, options.seed, lambda p: p.n_classes == 3, stoichiometry)
    jobs = [(stoichiometry(p), list(compositions(p, states))) for p in chosen]

    started = time.perf_counter()
    accepted = []
    for classes, candidates in jobs:
        ratios = [[amount] for amount, _ in classes]
        for symbols in candidates:
            found = smact_filter([elements[s] for s in symbols], stoichs=ratios, oxidation_states_set="icsd24")
            accepted.append((classes, found))
    peer_seconds = time.perf_counter() - started

    theirs = {
        composition(symbols, ratio)
        for classes, found in accepted
        for symbols, charges, ratio in found
        if all(q * sign > 0 for q, (_, sign) in zip(charges, classes, strict=True))
    }
    part = PrototypeLibrary(tuple(chosen), {})
    settings = _settings(campaign, states, OPEN.model_copy(update={"electronegativity_order": True}))
    rows, seconds = enumerate_all(part, settings)
    by_id = {p.prototype_id: p for p in chosen}
    ours = set()
    for prototype_id, ions in zip(rows["prototype_id"], rows["ions"], strict=True):
        prototype = by_id[prototype_id]
        numbers, _ = parse_ions(ions)
        symbols = [Element.from_Z(numbers[prototype.orbit_class.index(c)]).symbol for c in range(3)]
        if len(set(symbols)) == 3:
            ours.add(composition(symbols, [amount for amount, _ in stoichiometry(prototype)]))
    # the last gate turns all away: everything is judged, no row is written
    closed = OPEN.model_copy(update={"electronegativity_order": True, "substitution_probability": 1.0})
    _, judging = enumerate_all(part, _settings(campaign, states, closed))
    both = len(ours & theirs)
    calls = sum(len(candidates) for _, candidates in jobs)
    print(f"{len(chosen)} stoichiometries, {len(states)} elements, {calls} compositions filtered")
    print(f"smact alone: {len(theirs - ours)}; ionsieve alone: {len(ours - theirs)}; both: {both}")
    print(f"ionsieve lists {len(rows)} crystals of these compositions (elements in either place)\n")
    timings = [Timing("smact_filter", peer_seconds, both), Timing("ionsieve, listed", seconds, both)]
    timings.append(Timing("ionsieve, judged without writing rows", judging, both))
    print_table(timings, "smact's job")
    return ours == theirs


def stoichiometry(prototype: Prototype) -> tuple[tuple[int, int], ...]:
    """Reduced amount and sign of each class."""
    amounts = [0] * prototype.n_classes
    for of_class, atoms in zip(prototype.orbit_class, prototype.orbit_multiplicities, strict=True):
        amounts[of_class] += atoms
    divisor = int(np.gcd.reduce(amounts))
    signs = [1 if q > 0 else -1 for q in prototype.class_charges]
    return tuple((a // divisor, s) for a, s in zip(amounts, signs, strict=True))


def compositions(prototype: Prototype, states: dict[str, list[int]]) -> Iterator[tuple[str, ...]]:
    """Elements on the classes, all different; classes of equal amount and sign in one order only."""
    classes = stoichiometry(prototype)
    options = [[e for e, charges in states.items() if any(q * sign > 0 for q in charges)] for _, sign in classes]
    for symbols in itertools.product(*options):
        if len(set(symbols)) == len(symbols) and not any(
            classes[a] == classes[b] and symbols[a] > symbols[b]
            for a, b in itertools.combinations(range(len(symbols)), 2)
        ):
            yield symbols


def composition(symbols: Iterable[str], amounts: Iterable[int]) -> tuple[tuple[str, int], ...]:
    """Elements and amounts, sorted."""
    return tuple(sorted(zip(symbols, amounts, strict=True)))


# a campaign


def campaign_rate(campaign: Campaign, library: PrototypeLibrary, every: int) -> None:
    """Candidates a second of a campaign with its own gates, and with the crystals of those that pass."""
    settings = campaign.candidates
    units = plan_units(settings, library)[::every]
    counts: Counter[str] = Counter()
    listing = building = 0.0
    for unit in units:
        started = time.perf_counter()
        rows, found = enumerate_unit(unit, settings, library, campaign.mobile_ions)
        listing += time.perf_counter() - started
        counts.update(found)
        started = time.perf_counter()
        with_structures(rows.head(200), library)
        building += (time.perf_counter() - started) * len(rows) / max(1, min(200, len(rows)))
    total = counts["enumerated"]
    print(
        f"campaign {campaign.name}: {len(units)} units, every {every}-th; {total} candidates, {counts['passed']} pass"
    )
    print(f"| step | s | candidates/s |\n|---|---|---|\n| listed, all gates | {listing:.1f} | {total / listing:,.0f} |")
    whole = listing + building
    print(f"| and cells and coordinates of those that pass | {whole:.1f} | {total / whole:,.0f} |")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    sys.exit(main())
