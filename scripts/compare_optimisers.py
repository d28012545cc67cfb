"""Compare the optimisers of the batched relaxation on a campaign's candidates: evaluations and final energies.

The candidates are those that ``benchmark_relaxation.py`` draws. Evaluations are counted, not timed, so the numbers do
not depend on what else the machine does. Energies are against FIRE's, from the same starts; of rattled starts FIRE is
also run from those of another seed, which shows how much of a difference is chance. ``--far`` starts from volumes 20 %
off and atoms displaced by 0.15 Å instead; ``--energy-tolerances`` adds the default optimiser of campaigns with others
than its own (inf: small forces alone end it). Exit code 1 when an optimiser ends more than 1 meV/atom above FIRE for
more than 5 % of the crystals that are not rattled.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import get_args

import numpy as np
from pymatgen.core import Structure
from relaxation_candidates import ALL_SIZES, draw_candidates
from relaxation_tables import FAR, LEAST_SHARE, SAME, table, told

from pipeline.surrogates import Potential, Relaxation, load_potential
from pipeline.surrogates.relaxation import OptimizerName, RelaxationSettings

CONFIG = Path(__file__).parents[1] / "configs" / "halides.yaml"
FAR_VOLUMES, FAR_RATTLE = (0.8, 1.2), 0.15  # of the starting volume; Å
FIRE: OptimizerName = "fire"
QUASI_NEWTON: OptimizerName = "quasi-newton"
OTHER_SEED = "fire, another seed"


def main() -> int:
    options = _options()
    potential = load_potential(options.model)
    drawn = draw_candidates(options.config, options.count, options.seed, ALL_SIZES, options.cache)
    print(drawn.told + "\n")
    structures = drawn.structures()
    if options.far:
        structures = [_stretched(s, FAR_VOLUMES[k % 2]) for k, s in enumerate(structures)]
    met = True
    for rattle in [FAR_RATTLE] if options.far else options.rattles:
        met &= compare(potential, structures, drawn.ids, rattle, options)
    return int(not met)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=210, help="candidates")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of candidates and of the rattle")
    parser.add_argument("--model", default="M3GNet-MP-2021.2.8-PES")
    parser.add_argument("--fmax", type=float, default=0.05, help="eV/Å")
    parser.add_argument("--max-steps", type=int, default=500)
    parser.add_argument("--rattles", type=float, nargs="+", default=[0.0, 0.02], help="Å")
    parser.add_argument("--far", action="store_true", help="from far starts")
    parser.add_argument("--energy-tolerances", type=float, nargs="+", default=[], help="eV/atom")
    parser.add_argument("--config", type=Path, default=CONFIG, help="campaign whose candidates are drawn")
    parser.add_argument("--cache", type=Path, help="folder that keeps the candidates")
    options = parser.parse_args()
    if not os.environ.get("IONSIEVE_DATA"):
        parser.error("set IONSIEVE_DATA: candidates are drawn from observed crystals")
    return options


def _stretched(structure: Structure, ratio: float) -> Structure:
    stretched = structure.copy()
    stretched.scale_lattice(ratio * structure.volume)
    return stretched


def compare(
    potential: Potential, structures: list[Structure], keys: list[str], rattle: float, options: argparse.Namespace
) -> bool:
    """Relax with every optimiser, and print their table and the crystals that end far above FIRE."""

    def relaxed(name: OptimizerName, seed: int, **changes: float) -> list[Relaxation]:
        settings = RelaxationSettings(options.fmax, options.max_steps, optimizer=name, **changes)
        return potential.relax(structures, rattle=rattle, seed=seed, keys=keys, settings=settings)

    found = {str(name): relaxed(name, options.seed) for name in get_args(OptimizerName)}
    for tolerance in options.energy_tolerances:
        name = f"{QUASI_NEWTON}, {tolerance:g} eV/atom"
        found[name] = relaxed(QUASI_NEWTON, options.seed, energy_tolerance=tolerance)
    names = list(found)
    if rattle:
        names.append(OTHER_SEED)
        found[OTHER_SEED] = relaxed(FIRE, options.seed + 1)
    both = [k for k in range(len(structures)) if not any(found[name][k].error for name in names)]
    energy = {name: 1000.0 * np.array([found[name][k].energy / len(structures[k]) for k in both]) for name in names}
    above = {name: energy[name] - energy[FIRE] for name in names}
    print(f"\nrattle {rattle:g} Å, fmax {options.fmax:g} eV/Å, {len(structures)} crystals; energies in meV/atom\n")
    rows = []
    for name in names:
        evaluations = np.array([r.n_steps + 1 for r in found[name]])
        rows.append(
            (
                name,
                f"{evaluations.mean():.1f}",
                f"{np.median(evaluations):.0f}",
                f"{np.percentile(evaluations, 95):.0f}",
                evaluations.max(),
                sum(r.error is None and not r.converged for r in found[name]),
                sum(r.error is not None for r in found[name]),
                f"{np.mean(above[name] > SAME):.1%}",
                (above[name] > FAR).sum(),
                f"{np.mean(above[name] < -SAME):.1%}",
                f"{above[name].mean():+.2f}",
            )
        )
    table(
        "optimiser | evaluations, mean | median | 95 % | max | not converged | failed | "
        f"> {SAME:g} above FIRE | > {FAR:g} above | > {SAME:g} below | mean above FIRE",
        rows,
    )
    met = True
    for name in names:
        if name not in get_args(OptimizerName) or name == FIRE:
            continue
        for place in np.flatnonzero(above[name] > FAR):
            k = both[place]
            ours, theirs = found[name][k], found[FIRE][k]
            print(
                f"{keys[k]} ({len(structures[k])} atoms) ends {above[name][place]:.1f} meV/atom above FIRE; volumes "
                f"{ours.volume_change:+.1%} and {theirs.volume_change:+.1%}"
            )
        if not rattle:
            share = float(np.mean(above[name] <= SAME))
            met &= told(
                f"{name}: at least {LEAST_SHARE:.0%} end at most {SAME:g} meV/atom above FIRE ({share:.1%})",
                share >= LEAST_SHARE,
            )
    return met


if __name__ == "__main__":
    sys.exit(main())
