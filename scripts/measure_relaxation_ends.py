"""How low do relaxations end, with other rattles and other bounds on the forces?

    python scripts/measure_relaxation_ends.py --work FOLDER

Draws candidates at random from those of ``--config`` that pass its cheap gates, relaxes each as stage stability does
with several rattles and several ``fmax``, and compares the ends. Energies are above the lowest end that any of the
settings found for the candidate, volumes are against those of the stage's own settings. What is relaxed is kept in
``--work``, so that a second call goes on.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from distilled_tables import volumes
from random_candidates import campaign_references, random_candidates
from relaxation_tables import table

from pipeline.reference.kept_relaxations import relax_and_keep
from pipeline.settings import StabilitySettings
from pipeline.stages.candidates import with_structures

CAMPAIGN = Path(__file__).parents[1] / "configs" / "halides.yaml"
CHANGES: tuple[dict[str, Any], ...] = (
    {"rattle": 0.0},
    {"rattle": 0.005},
    {},
    {"seed": 1},
    {"rattle": 0.05},
    {"fmax": 0.02},
    {"fmax": 0.01},
    {"fmax": 0.01, "seed": 1},
)
HIGHER = (5.0, 20.0)  # meV/atom
VOLUME = 0.03


def main() -> int:
    """Relax, print."""
    options = _options()
    references = campaign_references(options.config)
    drawn = random_candidates(references, options.count, options.seed, cache=options.work)
    rows = with_structures(drawn, references.library)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    ends = [relax_and_keep(rows, options.model, options.work, options.processes, say, each) for each in CHANGES]
    print_ends(ends, f"{len(rows)} candidates of {options.config.name} drawn at random (seed {options.seed})", options)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CAMPAIGN, help="campaign whose candidates are drawn")
    parser.add_argument("--model", default="M3GNet-MP-2021.2.8-PES", help="potential that relaxes")
    parser.add_argument("--count", type=int, default=300, help="candidates")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--processes", type=int, default=1, help="that relax")
    parser.add_argument("--work", type=Path, required=True, help="folder for what was relaxed")
    return parser.parse_args()


def print_ends(ends: list[pd.DataFrame], of: str, options: argparse.Namespace) -> None:
    """Print a row for each of :data:`CHANGES`, of the candidates that none of them fails for."""
    energies = np.array([1000.0 * each["energy_per_atom"].to_numpy(dtype=float) for each in ends])
    whole = np.isfinite(energies).all(axis=0)
    above = energies[:, whole] - energies[:, whole].min(axis=0)
    sizes = np.array([volumes(each)[whole] for each in ends])
    same = np.abs(sizes / sizes[CHANGES.index({})] - 1.0) <= VOLUME
    usual = StabilitySettings()
    print(f"{of}, relaxed with {options.model}; {int(whole.sum())} end with every setting.\n")
    rows = []
    for k, changes in enumerate(CHANGES):
        chosen = usual.model_copy(update=changes)
        steps = ends[k]["relaxation_steps"].to_numpy(dtype=float)[whole]
        shares = [f"{np.mean(above[k] > bound):.1%}" for bound in HIGHER]
        rows.append(
            (
                f"{chosen.rattle:g}",
                chosen.seed,
                f"{chosen.fmax:g}",
                f"{above[k].mean():.2f}",
                *shares,
                f"{same[k].mean():.1%}",
                f"{steps.mean():.0f}",
            )
        )
    table(
        "rattle, Å | seed | fmax, eV/Å | above the lowest, meV/atom | "
        + " | ".join(f"by more than {bound:g}" for bound in HIGHER)
        + f" | volume within {VOLUME:.0%} | steps",
        rows,
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(main())
