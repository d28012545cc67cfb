"""Time and check the batched relaxation: against matgl's Relaxer, after a rattle, and against what a core can do.

``peer``: the same crystals with matgl's ``Relaxer`` as its users run it (FIRE, FrechetCellFilter, one after the other)
and the same corrected message convention. ``throughput``: all crystals in one call, which is what a GPU wants, beside
the peer on some. ``rattle``: ionsieve with and without the production rattle. ``curve``: one evaluation against the
size of its batch, beside the floating-point bound. ``profile``: where a relaxation's time goes. ``memory``: resident
memory over many candidates. All work is done in fresh processes of one thread each.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import torch
from pymatgen.core import Structure
from random_candidates import campaign_references, random_candidates
from relaxation_candidates import ALL_SIZES, Draw, draw_candidates, stage_settings
from relaxation_comparison import OURS, PEER, WARM_UP_STEPS, Comparison, cold_starts, is_sane, shortest_distance
from relaxation_costs import count_operations, evaluation_curve, matrix_rates, profile
from relaxation_memory import soak
from relaxation_peer import SIDES, Job, share_out, workers
from relaxation_tables import LEAST_RATIO, SAME, print_curve, print_energies, print_speeds, table, told

from pipeline.config import load_campaign
from pipeline.settings import StabilitySettings
from pipeline.stages.rows import rows_with_crystals
from pipeline.surrogates.relaxation import OptimizerName

CONFIGS = Path(__file__).parents[1] / "configs"
MOST_MEMORY, MOST_GROWTH = 4.0, 0.10  # GiB a worker, and between the first and the last tenth
CURVE = {"cpu": tuple(2**k for k in range(9)), "cuda": tuple(2**k for k in range(13))}


def main() -> int:
    options = _options()
    _print_machine()
    met: bool = options.what(options)
    return int(not met)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    defaults = {peer: 210, throughput: 2100, rattle: 210, curve: 64, where: 96, memory: 10_000}
    for what, count in defaults.items():
        part = parts.add_parser("profile" if what is where else what.__name__, help=(what.__doc__ or "").split("\n")[0])
        part.set_defaults(what=what)
        part.add_argument("--count", type=int, default=count, help="candidates")
        part.add_argument("--seed", type=int, default=0, help="of the draw of candidates")
        part.add_argument("--model", default="M3GNet-MP-2021.2.8-PES")
        part.add_argument("--workers", type=int, nargs="+", default=[1, 2] if what is peer else [1], help="processes")
        part.add_argument(
            "--config",
            type=Path,
            default=CONFIGS / ("paper.yaml" if what is memory else "halides.yaml"),
            help="campaign whose candidates are drawn",
        )
        part.add_argument("--cache", type=Path, help="folder that keeps the candidates and the peer's outcomes")
        part.add_argument("--device", choices=list(CURVE), default="cpu", help="where the network runs")
        if what is peer:
            part.add_argument("--slices", type=int, default=8, help="turns that the two take")
            part.add_argument("--timed", type=int, help="candidates that are timed; default: all")
            part.add_argument(
                "--seeds", type=int, default=5, help="rattled starts of the peer where ours ends far above"
            )
        if what is throughput:
            part.add_argument("--timed", type=int, default=28, help="candidates that the peer relaxes")
            part.add_argument("--calls", type=int, default=2, help="times that ours relaxes all")
        if what in (peer, throughput, rattle, where):
            part.add_argument("--fmax", type=float, default=0.05, help="eV/Å")
            part.add_argument("--max-steps", type=int, default=500)
            part.add_argument("--optimizer", choices=get_args(OptimizerName), default=Job.optimizer, help="of ionsieve")
        if what is memory:
            part.add_argument(
                "--steps", type=int, help="bound on the steps, for a shorter run; default: the campaign's"
            )
    options = parser.parse_args()
    if not os.environ.get("IONSIEVE_DATA"):
        parser.error("set IONSIEVE_DATA: candidates are drawn from observed crystals")
    return options


def _print_machine() -> None:
    from workflows.cluster import worker_environment
    from workflows.provenance import arithmetic_facts

    facts = ", ".join(f"{name} {value}" for name, value in arithmetic_facts().items())
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "matgl", "numba", "numpy", "ase"))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python "
        f"{platform.python_version()}, {packages}"
    )
    if torch.cuda.is_available():
        print(f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
    print(f"{facts}\nworkers: " + " ".join(f"{k}={v}" for k, v in worker_environment(1).items()) + "\n")


def _draw(options: argparse.Namespace, sizes: Sequence[tuple[int, int]] = ALL_SIZES, own: int = 2) -> Draw:
    drawn = draw_candidates(options.config, options.count, options.seed, sizes, options.cache, own)
    print(drawn.told + "\n")
    return drawn


def peer(options: argparse.Namespace) -> bool:
    """Against matgl's Relaxer: speed, evaluations and energies."""
    drawn = _draw(options)
    job = _job(options)
    both = Comparison(job, drawn.ids, drawn.structures(), options.cache)
    timed = range(min(len(both.structures), options.timed or len(both.structures)))
    for count in options.workers:
        both.time(count, timed, options.slices)
    both.complete()
    met = print_speeds(both, len(timed))
    middle = sorted(both.structures, key=len)[len(both.structures) // 2]
    print(f"The first call of a process, one crystal of {len(middle)} atoms ({middle.composition.reduced_formula}):\n")
    cold = cold_starts(job, middle)
    table("side | load, s | first call, s | again, s", [(t, *(f"{x:.2f}" for x in times)) for t, *times in cold])
    return print_energies(both, options.seeds) and met


def throughput(options: argparse.Namespace) -> bool:
    """All candidates in one call of ours, beside the peer on some of them: what large batches give on a device."""
    drawn = _draw(options, own=6)
    job, structures = _job(options), drawn.structures()
    with workers(1) as pools:
        for side in SIDES:
            share_out(pools, side, replace(job, max_steps=WARM_UP_STEPS), structures[:8])
        some = structures[: options.timed]
        (peers,) = share_out(pools, PEER, job, some)[1]
        calls = [share_out(pools, OURS, job, structures)[1][0] for _ in range(options.calls)]
    rows = [
        (
            side,
            len(t.outcomes),
            sum(o.error is not None for o in t.outcomes),
            sum(o.error is None and not o.converged for o in t.outcomes),
            f"{t.wall:.1f}",
            f"{len(t.outcomes) / t.wall:.2f}",
            f"{t.evaluations / len(t.outcomes):.1f}",
            f"{1000 * t.wall / t.evaluations:.3f}",
        )
        for side, t in [(PEER, peers), *((f"{OURS}, call {k}", t) for k, t in enumerate(calls, 1))]
    ]
    table(
        "side | structures | failed | not converged | clock, s | structures/s | evaluations a structure | "
        "ms an evaluation",
        rows,
    )
    ratio = (len(structures) / calls[-1].wall) / (len(some) / peers.wall)
    return told(f"at least {LEAST_RATIO:g} times the peer's structures a second: {ratio:.1f}", ratio >= LEAST_RATIO)


def rattle(options: argparse.Namespace) -> bool:
    """With the production rattle: saddles left, and the energy gained."""
    drawn = _draw(options)
    settings = _stability(options)
    structures = drawn.structures()
    plain = _job(options)
    rattled = replace(plain, rattle=settings.rattle, seed=settings.seed)
    with workers(options.workers[0]) as pools:
        still, _ = share_out(pools, OURS, plain, structures, drawn.ids)
        moved, _ = share_out(pools, OURS, rattled, structures, drawn.ids)
    both = [i for i in range(len(structures)) if not (still[i].error or moved[i].error)]
    gain = {i: 1000.0 * (moved[i].energy - still[i].energy) for i in both}
    left = [i for i in both if gain[i] < -SAME]
    worse = [i for i in both if gain[i] > SAME]
    rows = [
        (
            drawn.ids[i],
            len(structures[i]),
            f"{gain[i]:+.1f}",
            f"{still[i].volume_change:+.1%}",
            f"{moved[i].volume_change:+.1%}",
            f"{shortest_distance(Structure.from_dict(moved[i].structure)):.2f}",
            "yes" if is_sane(moved[i]) else "no",
        )
        for i in sorted(left + worse, key=lambda i: gain[i])
    ]
    print(
        f"Rattle of {settings.rattle:g} Å, seed {settings.seed}: {len(left)} of {len(both)} leave a saddle (end more "
        f"than {SAME:g} meV/atom lower), {len(worse)} end higher; failed without and with: "
        f"{sum(o.error is not None for o in still)}, {sum(o.error is not None for o in moved)}"
    )
    lower = [gain[i] for i in left]
    print(
        f"Energy gained by those that leave: mean {np.mean(lower or [0]):.1f}, median {np.median(lower or [0]):.1f}, "
        f"largest {min(lower, default=0.0):.1f} meV/atom; of all {np.mean(list(gain.values()) or [0]):.2f}"
    )
    print(
        f"Evaluations a structure: {np.mean([still[i].evaluations for i in both]):.1f} without, "
        f"{np.mean([moved[i].evaluations for i in both]):.1f} with\n"
    )
    table("candidate | atoms | meV/atom | volume without | with | shortest, Å | sane", rows)
    return True


def _job(options: argparse.Namespace) -> Job:
    return Job(options.model, options.fmax, options.max_steps, device=options.device, optimizer=options.optimizer)


def _stability(options: argparse.Namespace) -> StabilitySettings:
    settings = stage_settings(load_campaign(options.config), "stability")
    assert isinstance(settings, StabilitySettings)
    return settings


def curve(options: argparse.Namespace) -> bool:
    """One evaluation against the size of its batch, and the floating-point bound."""
    drawn = _draw(options, sizes=((10, 12),), own=4)
    with workers(1) as (pool,):
        rates = pool.submit(matrix_rates, options.device).result()
        counted = pool.submit(count_operations, options.model).result()
        sizes = CURVE[options.device]
        points = pool.submit(evaluation_curve, options.model, drawn.structures(), sizes, options.device).result()
    return print_curve(rates, counted, points, options.device)


def where(options: argparse.Namespace) -> bool:
    """Where a relaxation's time goes."""
    drawn = _draw(options)
    chunk = _stability(options).chunk_size
    job = _job(options)
    with workers(1) as (pool,):
        seconds, parts, functions = pool.submit(profile, job, drawn.structures(), chunk).result()
    print(f"{len(drawn.rows)} crystals in chunks of {chunk}, {seconds:.1f} s on the clock\n")
    whole = sum(parts.values())
    table("part | share", [(name, f"{part / whole:.1%}") for name, part in parts.most_common()])
    table(
        "innermost function of this project | share",
        [(f"`{name}`", f"{part / whole:.1%}") for name, part in functions.most_common(15)],
    )
    return True


def memory(options: argparse.Namespace) -> bool:
    """Resident memory over many random candidates, as a campaign without an estimate relaxes them."""
    references = campaign_references(options.config)
    drawn = random_candidates(references, options.count, options.seed, cache=options.cache)
    rows = pd.DataFrame(rows_with_crystals(drawn, references))
    print(f"{len(rows)} random candidates of {options.config.name}, seed {options.seed}")
    settings = _stability(options)
    if options.steps is not None:
        settings = settings.model_copy(update={"max_steps": options.steps})
    print(f"chunks of {settings.chunk_size}, at most {settings.max_steps} steps, one process\n")
    with workers(1) as (pool,):
        tenths = pool.submit(soak, options.model, rows, settings, settings.chunk_size, options.device).result()
    table(
        "tenth | candidates | failed | evaluations | s | resident, GiB | highest, GiB | allocated, MiB",
        [
            (
                k + 1,
                t["candidates"],
                t["failed"],
                t["evaluations"],
                f"{t['seconds']:.0f}",
                f"{t['resident']:.3f}",
                f"{t['highest']:.3f}",
                f"{t['allocated']:.1f}",
            )
            for k, t in enumerate(tenths)
        ],
    )
    handed_out = tenths[-1]["allocated"] - tenths[0]["allocated"]
    print(
        "Workers keep freed memory, so that what is resident shows a leak only beyond what was needed once; "
        f"what malloc has handed out changed by {handed_out:+.1f} MiB after the first tenth.\n"
    )
    growth = tenths[-1]["highest"] / tenths[0]["highest"] - 1.0
    highest = max(t["highest"] for t in tenths)
    flat = told(
        f"the last tenth's highest within {MOST_GROWTH:.0%} of the first's: {growth:+.1%}", growth <= MOST_GROWTH
    )
    return told(f"below {MOST_MEMORY:g} GiB: {highest:.3f}", highest < MOST_MEMORY) and flat


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    sys.exit(main())
