"""Does counting agree with listing, does any slice equal the same rows of the full list, and is memory flat?

    python scripts/validate_enumeration.py configs/paper.yaml
    python scripts/validate_enumeration.py configs/beyond_paper.yaml --by orbit --stream 40

Counts every prototype without listing it, lists those of at most ``--most`` raw assignments and compares; cuts slices
at random out of ``--slices`` of them; then lists ``--stream`` units drawn at random and prints the memory in use.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer

from kernels.assignment_count import count_assignments
from kernels.assignment_space import raw_count
from kernels.enumeration import list_assignments
from pipeline.config import load_campaign
from pipeline.reference.prototypes import build_library
from pipeline.stages.candidates import enumerate_table, plan_units
from pipeline.stages.substitution import assignment_space
from workflows.preflight import find_inputs


def main(
    config: Path,
    by: Annotated[str | None, typer.Option(help="element or orbit, instead of the config's")] = None,
    most: Annotated[int, typer.Option(help="raw assignments of a prototype that is listed whole")] = 5_000_000,
    slices: Annotated[int, typer.Option(help="prototypes of which slices are cut")] = 200,
    stream: Annotated[int, typer.Option(help="units that are listed with all gates")] = 20,
) -> None:
    """Compare, and print what was found; exit code 1 when anything disagrees."""
    inputs = find_inputs(load_campaign(config), config)
    settings = inputs.campaign.candidates
    if by is not None:
        settings = settings.model_copy(update={"by": by})
    started = time.perf_counter()
    library = build_library(settings.prototypes, inputs.prototypes)
    print(f"library: {len(library):,} prototypes in {time.perf_counter() - started:.0f} s")
    started = time.perf_counter()
    spaces = [assignment_space(prototype, library, settings) for prototype in library]
    counts = [0 if space is None else count_assignments(space) for space in spaces]
    raw = [0 if space is None else raw_count(space) for space in spaces]
    print(f"counted: {sum(counts):,} candidates of {sum(raw):,} assignments in {time.perf_counter() - started:.1f} s")

    started = time.perf_counter()
    listed = wrong = whole = 0
    chance = random.Random(7)
    cut = set(chance.sample(range(len(spaces)), min(slices, len(spaces))))
    for index, (space, count, total) in enumerate(zip(spaces, counts, raw, strict=True)):
        if space is None or total > most:
            continue
        found = list_assignments(space, 0, total)
        whole += 1
        listed += len(found.ranks)
        wrong += len(found.ranks) != count
        if index in cut:
            first = chance.randrange(total)
            last = min(total, first + chance.randrange(1, 1000))
            part = list_assignments(space, first, last)
            inside = (found.ranks >= first) & (found.ranks < last)
            wrong += not all(np.array_equal(one[inside], two) for one, two in zip(found, part, strict=True))
    print(
        f"listed {whole:,} prototypes whole: {listed:,} candidates in {time.perf_counter() - started:.0f} s, "
        f"{wrong} disagree with their count or a slice"
    )

    units = plan_units(settings, library)
    process, mobile = psutil.Process(), inputs.campaign.mobile_ions
    print(f"{len(units):,} units; listing {min(stream, len(units))} of them with all gates")
    enumerated = passed = 0
    started = time.perf_counter()
    for n, unit in enumerate(chance.sample(units, min(stream, len(units)))):
        table, found_counts = enumerate_table(unit, settings, library, mobile)
        enumerated += found_counts["enumerated"]
        passed += table.num_rows
        if n % max(1, stream // 10) == 0:
            print(f"  unit {n}: {enumerated:,} so far, {process.memory_info().rss / 2**20:.0f} MiB in use")
    seconds = time.perf_counter() - started
    print(
        f"{enumerated:,} candidates, {passed:,} pass, {enumerated / max(seconds, 1e-9):,.0f} candidates per core-second"
    )
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
