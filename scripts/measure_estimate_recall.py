"""Recall of the estimate gate, from a run that relaxed every candidate whatever its estimate.

Make such a run by loosening the gate: in a copy of configs/halides.yaml write `energy_above_hull_estimate:
{below: 10}` and run it. The script reads the run folder, and prints for several gates the share of the candidates
that end below the stability gate which the estimate would have kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from workflows.store import RunFolder

GATES = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40)


def results(folder: Path, step: str) -> pd.DataFrame:
    digest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["digests"][step]
    return RunFolder(folder).stage(step, digest).results()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--stability-gate", type=float, default=0.05, help="eV/atom")
    arguments = parser.parse_args()
    table = results(arguments.run, "estimate").merge(results(arguments.run, "stability"), on="candidate_id")
    table = table[table["stability_status"] == "ok"]
    stable = table["energy_above_hull"] < arguments.stability_gate
    print(
        f"{len(table)} candidates relaxed, {stable.sum()} of them below {arguments.stability_gate:g} eV/atom; "
        f"estimate minus relaxed: median "
        f"{1000 * (table['energy_above_hull_estimate'] - table['energy_above_hull']).median():.0f} meV/atom"
    )
    print("gate (eV/atom)   kept   recall of the stable ones")
    for gate in GATES:
        kept = table["energy_above_hull_estimate"] < gate
        print(f"{gate:14.2f} {kept.mean():6.1%} {(kept & stable).sum() / stable.sum():10.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
