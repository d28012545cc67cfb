"""Time molecular dynamics against ASE with matgl's calculator, and measure how well energy is conserved.

``speed``: four halides of 90 to 96 atoms, batched here, one after the other with the peer; both sides take turns, each
in a fresh process of one thread. ``drift``: constant energy with several time steps, cells of 8 to 10 atoms.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from dynamics_peer import (
    OURS,
    PEER,
    SIDES,
    Motion,
    Slice,
    differences,
    drifts,
    fastest_product,
    neighbours,
    relaxed,
)
from pymatgen.core import Lattice, Structure
from relaxation_costs import count_operations
from relaxation_peer import workers
from relaxation_tables import table, told

from pipeline.surrogates.dynamics_settings import DynamicsSettings

LEAST_RATIO = 1.5
MOST_DRIFT = 1.0  # meV/atom/ps, at the default time step
SODIUM_CHLORIDE_OF_YTTRIUM = "mp-675104"  # Na3YCl6, R-3


def main() -> int:
    options = _options()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.device}, {options.model}\n")
    met: bool = options.what(options)
    return int(not met)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for what in (speed, drift):
        part = parts.add_parser(what.__name__, help=what.__doc__)
        part.set_defaults(what=what)
        part.add_argument("--model", default="M3GNet-MP-2021.2.8-PES")
        part.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        part.add_argument("--temperature", type=float, default=800.0, help="K")
        if what is speed:
            part.add_argument("--slices", type=int, default=4, help="turns that the two take")
            part.add_argument("--steps", type=int, default=25, help="of each crystal in a slice")
        else:
            part.add_argument("--picoseconds", type=float, default=5.0)
            part.add_argument("--timesteps", type=float, nargs="+", default=[1.0, 2.0, 3.0, 4.0], help="fs")
    options = parser.parse_args()
    if not os.environ.get("IONSIEVE_DATA"):
        parser.error("set IONSIEVE_DATA: it holds the model and Na3YCl6")
    return options


def halides() -> list[Structure]:
    """LiCl, NaCl (8 atoms), Na3YCl6 and Li3YCl6 in its structure (10 atoms)."""
    salts = [
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [metal, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for metal, a in (("Li", 5.15), ("Na", 5.69))
    ]
    observed = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project" / "structures_observed.parquet"
    rows = pd.read_parquet(observed, filters=[("material_id", "==", SODIUM_CHLORIDE_OF_YTTRIUM)])
    row = rows.iloc[0]
    sodium = Structure(
        Lattice.from_parameters(*row.cell_parameters), list(row.species), np.reshape(row.frac_coords, (-1, 3))
    )
    lithium = sodium.copy()
    lithium.replace_species({"Na": "Li"})
    return [*salts, sodium, lithium]


def enlarged(crystal: Structure) -> Structure:
    """A supercell of about a hundred atoms."""
    return crystal * ((3, 2, 2) if len(crystal) == 8 else (3, 3, 1))


def speed(options: argparse.Namespace) -> bool:
    """Steps a core-second, batched here and one by one with the peer."""
    settings = DynamicsSettings(n_steps=options.steps, record_every=5, friction_time=100.0)
    motion = Motion(options.model, options.temperature, settings, options.device)
    with workers(2) as pools:
        pool = dict(zip(SIDES, pools, strict=True))
        crystals = [enlarged(s) for s in pool[OURS].submit(relaxed, motion, halides()).result()]
        sizes = pool[OURS].submit(neighbours, options.model, crystals).result()
        rows = zip(crystals, sizes, pool[OURS].submit(differences, motion, crystals).result(), strict=True)
        table(
            "crystal | atoms | pairs an atom | energy, ours less the peer's, meV/atom | largest of forces, eV/Å",
            [
                (s.composition.reduced_formula, len(s), f"{n[0] / len(s):.1f}", f"{1e3 * d[0]:+.3f}", f"{d[1]:.1e}")
                for s, n, d in rows
            ],
        )
        slices = _turns(pool, motion, crystals, options.slices)
        fastest = pool[OURS].submit(fastest_product, options.device).result()
    return _told_speeds(motion, crystals, sizes, slices, fastest)


def _turns(
    pool: dict[str, ProcessPoolExecutor], motion: Motion, crystals: Sequence[Structure], count: int
) -> dict[str, list[Slice]]:
    """Slices of both sides; who goes first alternates, and a slice before the first is not counted."""
    slices: dict[str, list[Slice]] = {PEER: [], OURS: []}
    for turn in range(-1, count):
        for side in (PEER, OURS) if turn % 2 else (OURS, PEER):
            taken = pool[side].submit(SIDES[side], motion, crystals).result()
            if turn >= 0:
                slices[side].append(taken)
    return slices


def _told_speeds(
    motion: Motion,
    crystals: Sequence[Structure],
    sizes: Sequence[tuple[int, int, int]],
    slices: dict[str, list[Slice]],
    fastest: float,
) -> bool:
    rows = []
    for side, parts in slices.items():
        steps, wall, cpu = (sum(getattr(s, name) for s in parts) for name in ("steps", "wall", "cpu"))
        mean = np.mean([t for s in parts for t in s.temperatures])
        rows.append(
            (side, steps, f"{steps / wall:.2f}", f"{steps / cpu:.2f}", f"{1e3 * cpu / steps:.1f}", f"{mean:.0f}")
        )
    table(
        "side | steps | a second on the clock | a core-second of the processor | ms a step | mean temperature, K", rows
    )
    ratios = {
        clock: [
            (ours.steps / getattr(ours, clock)) / (peer.steps / getattr(peer, clock))
            for ours, peer in zip(slices[OURS], slices[PEER], strict=True)
        ]
        for clock in ("cpu", "wall")
    }
    table(
        "ratio of rates | median of slices | lowest | highest",
        [
            (name, f"{np.median(ratios[clock]):.2f}", f"{min(ratios[clock]):.2f}", f"{max(ratios[clock]):.2f}")
            for clock, name in (("cpu", "processor"), ("wall", "clock"))
        ],
    )
    clock = "cpu" if motion.device == "cpu" else "wall"
    _told_bound(motion, crystals, sizes, slices, fastest, clock)
    ratio = float(np.median(ratios[clock]))
    return told(f"at least {LEAST_RATIO:g} times the peer's steps a core-second: {ratio:.2f}", ratio >= LEAST_RATIO)


def _told_bound(
    motion: Motion,
    crystals: Sequence[Structure],
    sizes: Sequence[tuple[int, int, int]],
    slices: dict[str, list[Slice]],
    fastest: float,
    clock: str,
) -> None:
    """How near the multiply-adds alone, at the fastest product, are to what was measured."""
    counted = count_operations(motion.model)
    bounds = {
        name: float(np.mean([o.of(len(s), *n) for s, n in zip(crystals, sizes, strict=True)])) / fastest
        for name, o in counted.items()
    }
    measured = {
        side: sum(getattr(s, clock) for s in parts) / sum(s.steps for s in parts) for side, parts in slices.items()
    }
    arrangement = {OURS: "ionsieve", PEER: "published"}
    print(f"Fastest product: {2e-9 * fastest:.1f} GFLOP/s.\n")
    table(
        "side | multiply-adds of its arrangement alone, ms a step | measured | share",
        [
            (
                side,
                f"{1e3 * bounds[arrangement[side]]:.1f}",
                f"{1e3 * measured[side]:.1f}",
                f"{bounds[arrangement[side]] / measured[side]:.0%}",
            )
            for side in slices
        ],
    )


def drift(options: argparse.Namespace) -> bool:
    """Drift of the energy at constant energy, by time step."""
    rows, most = [], 0.0
    with workers(1) as (pool,):
        start = Motion(options.model, options.temperature, DynamicsSettings(), options.device)
        crystals = pool.submit(relaxed, start, halides()).result()
        for timestep in options.timesteps:
            settings = DynamicsSettings(
                ensemble="nve",
                timestep=timestep,
                n_steps=round(1e3 * options.picoseconds / timestep),
                record_every=1,
                n_equilibration=round(100.0 / timestep),
            )
            motion = Motion(options.model, options.temperature, settings, options.device)
            for result in pool.submit(drifts, motion, crystals).result():
                conserved = result.trajectory.conserved / len(result.structure)
                rows.append(
                    (
                        result.structure.composition.reduced_formula,
                        timestep,
                        f"{result.temperature:.0f} ± {result.temperature_error:.0f}",
                        f"{result.energy_drift:+.4f}",
                        f"{1e3 * conserved.std():.3f}",
                    )
                )
                if timestep <= DynamicsSettings.timestep:
                    most = max(most, abs(result.energy_drift))
    table("crystal | step, fs | temperature, K | drift, meV/atom/ps | deviation of the energy, meV/atom", rows)
    return told(
        f"drift below {MOST_DRIFT:g} meV/atom/ps with steps up to {DynamicsSettings.timestep:g} fs: {most:.4f}",
        most < MOST_DRIFT,
    )


if __name__ == "__main__":
    sys.exit(main())
