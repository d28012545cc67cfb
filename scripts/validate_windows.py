"""Compare electrochemical windows of known electrolytes with published ones; prints a Markdown table.

Published values come from ``tests/reference/published_windows.csv``; ours from the table of phases in
``$IONSIEVE_DATA`` for the assemblage on the hull at each composition (no energy of the compound itself is used), as the
published ones were made. Exit code 1 when a source's median difference is above the bound.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.reference import ElectrochemicalWindow, PhaseReference

PUBLISHED = Path(__file__).resolve().parents[1] / "tests" / "reference" / "published_windows.csv"


@dataclass(frozen=True)
class Published:
    """A window from the literature, V against the metal of ``ion``."""

    formula: str
    ion: str
    reduction_limit: float
    oxidation_limit: float
    source: str
    note: str


def main() -> int:
    """Run the comparison and print it."""
    options = _options()
    reference = read_reference(Path(options.data) / "data" / "materials_project", options.without)
    rows = read_published(PUBLISHED)
    windows = [reference.electrochemical_window(row.formula, ion=row.ion) for row in rows]
    print("| compound | reduction, V | published | forms below | oxidation, V | published | forms above | source |")
    print("|---|---|---|---|---|---|---|---|")
    for row, window in zip(rows, windows, strict=True):
        print(table_line(row, window))
    return summary(rows, windows, options.bound)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--bound", type=float, default=0.35, help="largest allowed median difference of a source, V")
    parser.add_argument("--without", nargs="*", default=[], help="formulas to leave out of the table of phases")
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def read_reference(folder: Path, without: list[str]) -> PhaseReference:
    """Read the table of phases, with some formulas left out."""
    table, elements = folder / "phases.csv.gz", folder / "elemental_references.csv"
    if not without:
        return PhaseReference.from_table(table, elemental_references=elements)
    with gzip.open(table, "rt", encoding="utf-8") as stream, tempfile.TemporaryDirectory() as scratch:
        shorter = Path(scratch) / "phases.csv"
        shorter.write_text("".join(text for text in stream if text.split(",")[0] not in without), encoding="utf-8")
        return PhaseReference.from_table(shorter, elemental_references=elements)


def read_published(path: Path) -> list[Published]:
    """Read the published windows."""
    lines = [text for text in path.read_text(encoding="utf-8").splitlines() if not text.startswith("#")]
    return [
        Published(
            row["formula"],
            row["ion"],
            float(row["reduction_limit"]),
            float(row["oxidation_limit"]),
            row["source"],
            row["note"],
        )
        for row in csv.DictReader(lines)
    ]


def table_line(row: Published, window: ElectrochemicalWindow) -> str:
    """One row of the table: ours, published, and the difference (ours minus published) in brackets."""
    below = ", ".join(sorted(window.reduction_products)) or "stable"
    above = ", ".join(sorted(window.oxidation_products))
    source = row.source.split(",")[0] + (f" ({row.note})" if row.note else "")
    return (
        f"| {row.formula} | {window.reduction_limit:.2f} | {_against(window.reduction_limit, row.reduction_limit)} "
        f"| {below} | {window.oxidation_limit:.2f} | {_against(window.oxidation_limit, row.oxidation_limit)} "
        f"| {above} | {source} |"
    )


def _against(ours: float, published: float) -> str:
    return f"{published:.2f} ({ours - published:+.2f})"


def summary(rows: list[Published], windows: list[ElectrochemicalWindow], bound: float) -> int:
    """Print the differences of each source; 0 when both medians are within the bound, else 1."""
    print()
    medians = []
    for source in dict.fromkeys(row.source.split(",")[0] for row in rows):
        pairs = [(r, w) for r, w in zip(rows, windows, strict=True) if r.source.startswith(source)]
        reduction = np.array([w.reduction_limit - r.reduction_limit for r, w in pairs])
        oxidation = np.array([w.oxidation_limit - r.oxidation_limit for r, w in pairs])
        print(f"{source}, {len(pairs)} windows: {_spread('reduction', reduction)}; {_spread('oxidation', oxidation)}")
        medians += [float(np.median(np.abs(reduction))), float(np.median(np.abs(oxidation)))]
    worst = float(np.max(medians))
    if not worst <= bound:
        print(f"a median difference of {worst:.2f} V is not within the bound of {bound:g} V")
        return 1
    return 0


def _spread(name: str, differences: np.ndarray) -> str:
    size = np.abs(differences)
    return f"{name} median |difference| {np.median(size):.2f} V, largest {size.max():.2f} V"


if __name__ == "__main__":
    sys.exit(main())
