"""Time the enumeration against pymatgen's Substitutor and smact's filter, each on the same job, in one process.

Substitutor's job: place ions on the sites of observed ternary crystals, one an element, so that the cell is neutral
and Hautier's probability is above the threshold. Each element has one of its ions, prototypes are those whose ions its
table knows. It is called as its documentation says (``pred_from_structures``, once a set of target ions, with all
prototypes), only for sets that are neutral on one of them in some order, and spared its search for duplicates.

smact's job: which elements in the stoichiometries of observed crystals of 3 and 4 elements are neutral and in Pauling's
order. It is called once a composition, with its amounts as the only stoichiometry, and with our oxidation
states and electronegativities, since the filter is compared and not the table: once with all states of each element,
as its users call it, and once more with those of the sign that the crystal has there, which spares it charges that are
left out afterwards. Ratios are given to both.

Each peer gets a random part of its job and ionsieve all of it; on that part the results are compared. Rates are of
results a second: different crystals for Substitutor, different compositions for smact, on both sides. ionsieve's side
is planning and listing, repeated until a second has been measured: as a table with all its columns
(``enumerate_table``), and on smact's job, whose results are tuples without names, as arrays of elements, charges and
reasons too (``judge_unit``). The first time, with nothing in the caches but compiled kernels, is given beside the mean.

smact comes with ``pip install -e .[benchmark]``. A whole campaign is timed by ``ionsieve enumerate``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from enumeration_peers import MOBILE, settings_of
from smact_job import SmactJob
from substitutor_job import SubstitutorJob

from pipeline.candidate_settings import CandidateSettings
from pipeline.config import Campaign, load_campaign
from pipeline.crystal import structure_from_row
from pipeline.reference.prototypes import PrototypeLibrary, build_library
from pipeline.stages.candidates import count, enumerate_table, plan_units, with_structures

CONFIG = Path(__file__).parents[1] / "configs" / "paper.yaml"
LEAST_SECONDS = 1.0
Result = TypeVar("Result")


@dataclass
class Timing:
    """Seconds of one run (the mean of so many), and different results."""

    what: str
    seconds: float
    results: int
    runs: int = 1

    @property
    def rate(self) -> float:
        """Results a second."""
        return self.results / self.seconds


def main() -> int:
    options = _options()
    campaign = load_campaign(options.config)
    library = _library(campaign, options)
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, one core\n")
    warm_up(campaign, library)
    same = against_substitutor(campaign, library, options)
    if importlib.util.find_spec("smact") is None:
        print("smact is not installed (pip install -e '.[benchmark]'): left out\n")
    else:
        same &= against_smact(campaign, library, options)
    return int(not same)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--config", type=Path, default=CONFIG, help="campaign whose candidates section is used")
    parser.add_argument("--library", type=Path, help="prototype library kept before, of the same structures")
    parser.add_argument("--prototypes", type=int, default=40, help="prototypes for each of the two jobs")
    parser.add_argument("--sets", type=int, default=300, help="sets of ions that Substitutor is given")
    parser.add_argument("--calls", type=int, default=600_000, help="compositions smact is given, about")
    parser.add_argument("--threshold", type=float, default=1e-4, help="least substitution probability")
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
    settings = settings_of(campaign, ("Na", "Cl", "O"), electronegativity_order=True, substitution_probability=1e-6)
    rows = list_all(PrototypeLibrary(library.prototypes[:5], {}), settings)
    with_structures(rows.to_pandas(), library)


def list_all(library: PrototypeLibrary, settings: CandidateSettings) -> pa.Table:
    """Plan, and list all candidates that pass the gates, with all columns."""
    units = plan_units(settings, library)
    return pa.concat_tables([enumerate_table(unit, settings, library, MOBILE)[0] for unit in units])


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Result, and the seconds it took."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def repeated(what: str, work: Callable[[], Any], results: int, first: float) -> list[Timing]:
    """The first run, and the mean of those after it, which take :data:`LEAST_SECONDS` together or more."""
    seconds: list[float] = []
    while sum(seconds) < LEAST_SECONDS:
        seconds.append(timed(work)[1])
    mean = sum(seconds) / len(seconds)
    return [Timing(f"{what}, first time", first, results), Timing(what, mean, results, len(seconds))]


def print_table(against: str, peer: Timing, timings: list[Timing]) -> None:
    """Rates, and how often each is the peer's."""
    print(f"| {against} | s a run | runs | results | results/s | ratio |\n|---|---|---|---|---|---|")
    for t in timings:
        print(f"| {t.what} | {t.seconds:.3f} | {t.runs} | {t.results} | {t.rate:,.0f} | {t.rate / peer.rate:,.2f} |")
    print()


def against_substitutor(campaign: Campaign, library: PrototypeLibrary, options: argparse.Namespace) -> bool:
    """Time and compare; whether both found the same."""
    job = SubstitutorJob.of(campaign, library, options.prototypes, options.sets, options.threshold, options.seed)
    part = PrototypeLibrary(tuple(job.prototypes), {})
    decorated = job.decorated()
    predicted, peer_seconds = timed(lambda: job.run_peer(decorated))
    theirs, swapped = job.peers_crystals(predicted)
    table, first = timed(lambda: list_all(part, job.settings))
    rows = table.to_pandas()
    all_ours = job.our_crystals(rows)
    ours = job.asked(all_ours)
    numbers = count(job.settings, part)
    print(f"Substitutor's job: {len(job.prototypes)} prototypes, {len(job.ions)} ions")
    print(f"{numbers['raw_assignments']} raw assignments, {numbers['candidates']} of them neutral and different")
    print(
        f"{len(job.sets)} of {job.balancing_sets} sets of ions that may balance are Substitutor's; ionsieve places all"
    )
    print(f"Substitutor alone: {len(theirs - ours)}; ionsieve alone: {len(ours - theirs)}; both: {len(ours & theirs)}")
    print(f"left out: {swapped} of Substitutor's with an anion in a cation's place; ionsieve's with fewer elements\n")

    peer = Timing("Substitutor", peer_seconds, len(ours & theirs))
    timings = [peer, *repeated("ionsieve, listed", lambda: list_all(part, job.settings), len(all_ours), first)]
    built, arrays = timed(lambda: with_structures(table.to_pandas(), part))
    _, objects = timed(lambda: [structure_from_row(row) for row in built.to_dict("records")])
    listing = timings[-1].seconds
    timings.append(Timing("ionsieve, with cells and coordinates", listing + arrays, len(all_ours)))
    timings.append(Timing("ionsieve, with pymatgen structures", listing + arrays + objects, len(all_ours)))
    print_table("Substitutor's job", peer, timings)
    return ours == theirs


def against_smact(campaign: Campaign, library: PrototypeLibrary, options: argparse.Namespace) -> bool:
    """Time and compare; whether both found the same."""
    job = SmactJob.of(campaign, library, options.prototypes, options.calls, options.seed)
    part = PrototypeLibrary(tuple(job.prototypes), {})
    every, (cations, anions) = job.elements(of_sign=None), (job.elements(of_sign=sign) for sign in (1, -1))
    answers, all_seconds = timed(lambda: job.run_peer({1: every, -1: every}))
    theirs = job.peers_keys(answers)
    answers, sign_seconds = timed(lambda: job.run_peer({1: cations, -1: anions}))
    same = np.array_equal(theirs, job.peers_keys(answers))
    del answers
    _, first = timed(job.judge_all)
    judged = job.run_ours()
    all_ours = job.our_keys(judged)
    passed = sum(int((rejected < 0).sum()) for *_, rejected in judged)
    del judged
    ours = job.asked(all_ours)
    both = np.intersect1d(ours, theirs)
    calls = sum(map(len, job.compositions))
    by_size = Counter(p.n_classes for p in job.prototypes)
    numbers = count(job.settings, part)
    sizes = " and ".join(f"{n} of {k} elements" for k, n in sorted(by_size.items()))
    print(f"smact's job: stoichiometries: {sizes}; {len(job.states)} elements")
    print(f"{numbers['raw_assignments']} raw assignments, {numbers['candidates']} of them neutral and different")
    print(f"smact filters {calls} compositions; ionsieve places all")
    print(f"smact alone: {len(theirs) - len(both)}; ionsieve alone: {len(ours) - len(both)}; both: {len(both)}")
    print(f"ionsieve's {passed} crystals that pass are {len(all_ours)} compositions of different elements\n")

    peer = Timing("smact_filter, all states", all_seconds, len(both))
    helped = Timing("smact_filter, states of the crystal's sign", sign_seconds, len(both))
    timings = [peer, helped, *repeated("ionsieve, judged (arrays)", job.judge_all, len(all_ours), first)]
    table, first = timed(lambda: list_all(part, job.settings))
    assert table.num_rows == passed, "judged and listed disagree"
    del table
    timings += repeated("ionsieve, listed (rows)", lambda: list_all(part, job.settings), len(all_ours), first)
    print_table("smact's job", peer, timings)
    print(f"to smact told the signs: {timings[3].rate / helped.rate:,.0f} (judged)\n")
    return same and np.array_equal(ours, theirs)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    sys.exit(main())
