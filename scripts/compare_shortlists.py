"""Does a campaign's shortlist depend on its potential?

    python scripts/compare_shortlists.py configs/quickstart.yaml M3GNet-MP-2021.2.8-PES --folder FOLDER

Runs a campaign as it stands and with another potential, prints what the two shortlists share, and how the ranks of all
that both ranked agree. Runs in ``--folder`` go on where they stopped; paths in the config must not be relative. With
IONSIEVE_DATA both runs also know what has been observed, which takes known compounds off their shortlists. Exit code 1
where less than half of the shortlist is shared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
from relaxation_tables import told
from ruamel.yaml import YAML

from kernels.rank_statistics import spearman

LEAST_SHARED = 0.5


def main() -> int:
    """Run both, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("model", help="the other potential")
    parser.add_argument("--folder", type=Path, required=True, help="for the two runs")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    campaign = yaml.load(options.config.read_text(encoding="utf-8"))
    names = (campaign["potential"]["model"], options.model)
    runs = []
    for number, model in enumerate(names, start=1):
        campaign["potential"]["model"] = model
        config = options.folder / f"{number}.yaml"
        with config.open("w", encoding="utf-8") as file:
            yaml.dump(campaign, file)
        runs.append(options.folder / f"run-{number}")
        command = [sys.executable, "-m", "workflows.entry", "run", str(config), "--folder", str(runs[-1])]
        subprocess.run(command, check=True, stdout=sys.stderr)
    first, second = (pd.read_csv(run / "shortlist.csv", keep_default_na=False) for run in runs)
    shared, formulas = (len(set(first[c]) & set(second[c])) for c in ("candidate_id", "formula_pretty"))
    print(
        f"{options.config.name}: {len(first)} on the shortlist with {names[0]}, {len(second)} with {names[1]}; they "
        f"share {shared} candidates, and {formulas} of {first['formula_pretty'].nunique()} formulas"
    )
    ranked = (pd.read_csv(run / "ranked_candidates.csv").set_index("candidate_id")["score"] for run in runs)
    both = pd.concat(list(ranked), axis=1, join="inner").dropna()
    agreement = spearman(*both.to_numpy(dtype=float).T)
    print(f"{len(both)} are ranked by both; their scores' rank correlation is {agreement:.3f} (Spearman)")
    text = f"at least {LEAST_SHARED:.0%} of the shortlist is shared: {shared / max(1, len(first)):.0%}"
    return int(not told(text, shared >= LEAST_SHARED * len(first)))


if __name__ == "__main__":
    sys.exit(main())
