"""What the paper's campaign takes: core-hours of this machine or hours of a GPU, beside the paper's machine-hours.

Chen et al. (J. Am. Chem. Soc. 2024, 146, 20009) screened 32.6 million candidates in less than 80 hours on "about 1,000"
virtual machines, nine tenths of it in the machine-learned models. Rows of each step and core-seconds a row come from
`ionsieve plan configs/paper.yaml`, which times the stages on a sample here. Relaxations a second of a GPU come from
`benchmark_relaxation.py throughput --device cuda`; crystals of paper.yaml are assumed to take longer there by the same
factor as on a core.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from relaxation_tables import table

CONFIG = Path(__file__).parents[1] / "configs" / "paper.yaml"
PAPER_CANDIDATES, PAPER_MACHINE_HOURS = 32_598_079, 80_000.0
ON_GPU = ("stability",)


def main() -> int:
    options = _options()
    plan = json.loads(options.plan.read_text()) if options.plan else planned()
    seconds = {step["step"]: step["seconds_per_row"] for step in plan["steps"]}
    longer = seconds["stability"] / options.core_seconds
    rate = options.gpu_rate / longer
    print(
        f"{platform.machine()}, Python {platform.python_version()}; {plan['candidates_total']:,} candidates\n"
        f"a relaxation takes {seconds['stability']:.3f} core-s here, {longer:.2f} times the {options.core_seconds:g} "
        f"of the benchmark's crystals: {rate:.0f} a second on a GPU that does {options.gpu_rate:g} of those\n"
    )
    steps = [(s["step"], s["rows"], s["passing"], s["seconds_per_row"]) for s in plan["steps"]]
    rows = [
        [name, f"{count:,.0f}", f"{passing:.3g}", _hours(count, each), f"{count / rate / 3600:.1f}" * (name in ON_GPU)]
        for name, count, passing, each in steps
    ]
    table("step | rows | go on | core-hours | or GPU-hours", rows)
    unmeasured = [name for name, _, _, each in steps if each is None]
    print(
        f"\nnot timed: {', '.join(unmeasured) or 'nothing'}\n"
        f"were every one of {PAPER_CANDIDATES:,} candidates relaxed, as in the paper: "
        f"{PAPER_CANDIDATES / rate / 3600:,.0f} GPU-hours, or {_hours(PAPER_CANDIDATES, seconds['stability'])} "
        f"core-hours\nthe paper: {PAPER_MACHINE_HOURS:,.0f} machine-hours at most, with DFT and molecular dynamics of "
        "some hundred candidates in them; how many cores a machine had is not said"
    )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--plan", type=Path, help="output of `ionsieve plan configs/paper.yaml --json`; default: run it"
    )
    parser.add_argument("--gpu-rate", type=float, required=True, help="relaxations a second of the GPU's benchmark")
    parser.add_argument("--core-seconds", type=float, required=True, help="of one core here for one of those")
    return parser.parse_args()


def planned() -> dict[str, Any]:
    """What `ionsieve plan` says of the campaign."""
    command = [sys.executable, "-m", "workflows.entry", "plan", str(CONFIG), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def _hours(rows: float, seconds: float | None) -> str:
    if seconds is None:
        return ""
    hours = rows * seconds / 3600.0
    return f"{hours:,.1f}" if hours >= 0.1 else f"{hours:.1g}"


if __name__ == "__main__":
    raise SystemExit(main())
