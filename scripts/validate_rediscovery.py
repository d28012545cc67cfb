"""Leave-one-out rediscovery of observed ionic compounds by a campaign's enumeration; prints a Markdown table.

Draws compounds at random from all observed ionic crystals within the campaign's elements (two to its largest number of
elements, at most its number of sites), also those whose oxidation states are ambiguous and which no library holds.
Each is removed with all its duplicates, what is left is enumerated as the campaign does, without its gates, and the
compound is looked up by its prototype and the elements on the orbits. Then each gate is asked whether it would have let
the compound pass. Exit code 1 when fewer than ``--bound`` of the compounds whose prototype is still represented are
found.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.config import Campaign, load_campaign
from pipeline.reference.ions import allowed_ions
from pipeline.reference.observed_compounds import observed_compounds
from pipeline.reference.prototype_library import PrototypeLibrary
from pipeline.reference.prototype_sources import read_table
from pipeline.reference.prototypes import build_library
from pipeline.reference.rediscovery import Outcome, leave_one_out, wilson_interval

CONFIG = Path(__file__).parents[1] / "configs" / "paper.yaml"
COLUMNS = ["material_id", "formula", "n_sites", "cell_parameters", "species", "frac_coords"]


def main() -> int:
    """Run the validation and print it."""
    options = _options()
    campaign = load_campaign(options.config)
    path = Path(options.data) / "data" / "materials_project" / "structures_observed.parquet"
    library = _library(campaign, path, options.library)
    settings = campaign.candidates
    elements = {ion.element for ion in allowed_ions(settings)}
    population, counts = observed_compounds(
        path, library, elements, settings.max_elements, settings.prototypes.max_sites
    )
    print(f"{len(library)} prototypes; {len(elements)} elements; source crystals by what became of them:")
    print("; ".join(f"{number} {what}" for what, number in sorted(counts.items())))
    ambiguous = sum(c.ambiguous for c in population)
    print(f"{len(population)} observed ionic compounds, {ambiguous} of them with ambiguous oxidation states\n")
    drawn = np.random.default_rng(options.seed).permutation(len(population))[: options.compounds]
    started = time.perf_counter()
    sample = [population[i] for i in sorted(drawn.tolist())]
    outcomes = list(leave_one_out(sample, library, read_table(path, COLUMNS), settings, campaign.mobile_ions))
    share = report(outcomes)
    print(f"\n{len(outcomes)} compounds, seed {options.seed}, {time.perf_counter() - started:.0f} s")
    return int(share < options.bound)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--config", type=Path, default=CONFIG, help="campaign whose candidates section is used")
    parser.add_argument(
        "--library", type=Path, help="prototype library kept before, built from the observed structures"
    )
    parser.add_argument("--compounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bound", type=float, default=0.90, help="least share of those whose prototype is represented")
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def _library(campaign: Campaign, path: Path, kept: Path | None) -> PrototypeLibrary:
    """The campaign's prototypes; a kept library may hold more, with more elements."""
    settings = campaign.candidates.prototypes
    if kept is None:
        return build_library(settings, path)
    library = PrototypeLibrary.load(kept)
    within = [
        p
        for p in library
        if settings.min_elements <= p.n_classes <= settings.max_elements and p.n_sites <= settings.max_sites
    ]
    return PrototypeLibrary(tuple(within), library.counts)


def report(outcomes: Sequence[Outcome]) -> float:
    """Print the tables; returns the share found among those whose prototype is represented."""
    found = [o for o in outcomes if o.found]
    represented = [o for o in outcomes if o.represented]
    again = [o for o in represented if o.found]
    clear = [o for o in outcomes if not o.compound.ambiguous]
    print("| share | found | of | % | 95 % |")
    print("|---|---|---|---|---|")
    print(_line("**all observed ionic compounds**", len(found), len(outcomes)))
    print(_line("oxidation states decided", sum(o.found for o in clear), len(clear)))
    print(_line("prototype still represented", len(again), len(represented)))
    passed = [o for o in found if not o.gates]
    print(_line("all, and let pass by the campaign's gates", len(passed), len(outcomes)))
    mobile = [o for o in found if "mobile ions" not in o.gates]
    print(_line("of the found with enough mobile ions, let pass by all gates", len(passed), len(mobile)))
    print("\n| why not found | compounds | % |")
    print("|---|---|---|")
    for reason, number in Counter(o.miss for o in outcomes if o.miss).most_common():
        print(f"| {reason} | {number} | {100 * number / len(outcomes):.1f} |")
    print("\n| gate, by itself, that rejects a found compound | compounds | % of found | with enough mobile ions |")
    print("|---|---|---|---|")
    enough = Counter(gate for o in mobile for gate in o.gates)
    for gate, number in Counter(gate for o in found for gate in o.gates).most_common():
        print(f"| {gate} | {number} | {100 * number / len(found):.1f} | {enough[gate]} |")
    print("\nnot found although represented, some:", _some(o for o in represented if not o.found))
    return len(again) / len(represented) if represented else 0.0


def _line(what: str, hits: int, trials: int) -> str:
    low, high = wilson_interval(hits, trials)
    share = hits / trials if trials else float("nan")
    return f"| {what} | {hits} | {trials} | {100 * share:.1f} | {100 * low:.1f} to {100 * high:.1f} |"


def _some(outcomes) -> str:  # type: ignore[no-untyped-def]
    return ", ".join(f"{o.compound.formula} ({o.compound.source_ids[0]})" for o in list(outcomes)[:15]) or "none"


if __name__ == "__main__":
    sys.exit(main())
