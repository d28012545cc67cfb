"""Compare migration barriers with measured conductivities (OBELiX training set); prints Markdown tables.

Every CIF of ``$IONSIEVE_DATA/data/obelix`` is computed, or refused with a reason. What was computed is kept in
``--work`` (one JSON line a crystal), so that a second run only prints. A conductivity given as an upper bound
(``<1E-10``) counts as that bound. Descriptors are compared by bootstrap over compositions (crystals of one composition
are drawn together) and over families, which is harsher. Exit code 1 when fewer than 90 % are handled.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from conduction_records import ENERGY_CAP, FloatArray, compute, read_lines

from kernels.rank_statistics import interval, resamples, roc_auc, spearman
from pipeline.oxidation_states import CHARGE_TOLERANCE
from pipeline.reference.measured_conductivities import MeasuredConductivity, read_measured_conductivities

SUPERIONIC = 1e-4
HANDLED_SHARE = 0.9
RESAMPLES = 2000
SMALLEST_FAMILY = 8
BASELINE = "lithium density, 1/Å3"


def main() -> int:
    """Compute what is missing and print all."""
    options = _options()
    crystals = read_measured_conductivities(Path(options.data) / "data" / "obelix")
    chosen = crystals[:: options.every]
    records = compute(chosen, options.spacing, Path(options.work), options.processes)
    code = print_report(chosen, records, options.spacing)
    print_convergence(records, Path(options.work), options.spacing)
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--work", required=True, help="folder for what was computed")
    parser.add_argument("--spacing", type=float, default=0.3, help="of the grid, Å")
    parser.add_argument("--every", type=int, default=1, help="take every n-th crystal only")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def print_report(crystals: list[MeasuredConductivity], records: dict[str, dict[str, Any]], spacing: float) -> int:
    """Print all tables; 1 when fewer than 90 % of the crystals are handled."""
    handled = [c for c in crystals if "error" not in records[c.identifier]]
    rows = [records[c.identifier] for c in handled]
    print_handling(crystals, records, spacing)
    y = np.log10([c.conductivity for c in handled])
    families = [c.family or "none given" for c in handled]
    print_correlations(descriptors(rows, y, families), y, [c.composition for c in handled], families)
    print_families(-_column(rows, "e3d"), y, families)
    return 0 if len(handled) >= HANDLED_SHARE * len(crystals) else 1


def print_handling(crystals: list[MeasuredConductivity], records: dict[str, dict[str, Any]], spacing: float) -> None:
    """Print how many were handled, and the others by kind."""
    rows = [records[c.identifier] for c in crystals]
    good = [row for row in rows if "error" not in row]
    ordered, shared = (sum(row[name] for row in good) for name in ("is_ordered", "shares_site"))
    print(
        f"{len(good)} of {len(rows)} CIFs handled ({len(good) / len(rows):.1%}) at {spacing:g} Å: {ordered} ordered, "
        f"{len(good) - ordered} disordered, of which lithium shares a site in {shared}; "
        f"{sum(row['seconds'] for row in rows):.0f} s in all.\n"
    )
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if "error" in row:
            kinds.setdefault(f"{row['error']}: {row['reason'].split(';')[0]}", []).append(row["identifier"])
    print("| refused | reason |\n|---|---|")
    for reason, names in sorted(kinds.items()):
        print(f"| {', '.join(names)} | {reason} |")
    flagged = [f"{r['identifier']} {r['imbalance']:+.3f}" for r in good if abs(r["imbalance"]) > CHARGE_TOLERANCE]
    print(f"\nHandled, but not neutral within {CHARGE_TOLERANCE} e/atom as refined: {', '.join(flagged)}.")


def _column(rows: list[dict[str, Any]], name: str) -> FloatArray:
    return np.array([row[name] for row in rows], dtype=np.float64)


def descriptors(rows: list[dict[str, Any]], y: FloatArray, families: list[str]) -> dict[str, FloatArray]:
    """All that was tried, higher meaning a better conductor; both baselines first."""
    e3d, lithium = np.minimum(_column(rows, "e3d"), ENERGY_CAP), _column(rows, "lithium_density")
    mobile = _column(rows, "mobile_density")
    features = np.column_stack([e3d, np.log10(lithium), mobile])
    return {
        "a constant": np.zeros(len(rows)),
        BASELINE: lithium,
        "-E(1D)": -_column(rows, "e1d"),
        "-E(2D)": -_column(rows, "e2d"),
        "-E(3D)": -_column(rows, "e3d"),
        "-E(3D), no foreign ions on lithium's sites": -_column(rows, "open_e3d"),
        "-E(3D) above the refined lithium sites": _column(rows, "site_energy") - _column(rows, "e3d"),
        "volume within 1 eV": _column(rows, "accessible_fraction"),
        "sites in the landscape, 1/Å3": _column(rows, "site_density"),
        "x(1-x) lithium density (refined)": mobile,
        "fit: E(3D), log lithium density": _left_out_predictions(features[:, [0, 1]], y, families),
        "fit: E(3D), x(1-x) density (refined)": _left_out_predictions(features[:, [0, 2]], y, families),
    }


def _left_out_predictions(features: FloatArray, y: FloatArray, families: list[str]) -> FloatArray:
    """Least squares for log10 of the conductivity; each family is ranked with the slopes fitted to the others.

    The intercept is left out: it falls when a family of good conductors is, which would punish what is right.
    """
    design = np.column_stack([np.ones(len(y)), features])
    predicted = np.empty(len(y))
    for family in sorted(set(families)):
        out = np.array([name == family for name in families])
        predicted[out] = features[out] @ np.linalg.lstsq(design[~out], y[~out], rcond=None)[0][1:]
    return predicted


def print_correlations(
    tried: dict[str, FloatArray], y: FloatArray, compositions: list[str], families: list[str]
) -> None:
    """Print correlation and area of each descriptor, and by how much it beats the density baseline."""
    fast = y > np.log10(SUPERIONIC)
    print(f"\n{int(fast.sum())} of {len(y)} conduct better than {SUPERIONIC:g} S/cm. In brackets 95 % intervals:")
    columns = ("descriptor", "Spearman", "ROC-AUC", "Spearman minus density's", "ROC-AUC minus density's")
    for drawn, groups in (("compositions", compositions), ("families", families)):
        samples = resamples(groups, RESAMPLES, seed=0)
        print(f"\n{len(set(groups))} {drawn} drawn {RESAMPLES} times with replacement:\n")
        print(_header(*columns))
        for name, x in tried.items():
            cells = []
            for score, truth in ((spearman, y), (roc_auc, fast)):
                here = partial(_score, score, x, truth)
                there = partial(_score, score, tried[BASELINE], truth)
                cells.append((here, lambda places, a=here, b=there: a(places) - b(places)))
            texts = [_with_interval(cells[k][part], len(y), samples) for part in (0, 1) for k in (0, 1)]
            print(f"| {name} | {' | '.join(texts)} |")


def _header(*columns: str) -> str:
    return f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|"


def _score(score: Any, x: FloatArray, truth: Any, places: Any) -> float:
    return float(score(x[places], truth[places]))


def _with_interval(statistic: Any, n: int, samples: Any) -> str:
    low, high = interval(statistic, samples)
    return f"{statistic(np.arange(n)):.2f} [{low:.2f}, {high:.2f}]"


def print_families(x: FloatArray, y: FloatArray, families: list[str]) -> None:
    """Print what is left of the correlation inside families, and between them."""
    columns = ("family", "crystals", "median log10(S/cm)", "median E(3D), eV", "Spearman of -E(3D) inside")
    print("\n" + _header(*columns))
    counts = Counter(families).most_common()
    medians = []
    for family, count in counts:
        inside = np.array([name == family for name in families])
        medians.append((np.median(x[inside]), np.median(y[inside])))
        if count >= SMALLEST_FAMILY:
            samples = resamples([str(n) for n in range(count)], RESAMPLES, seed=0)
            text = _with_interval(partial(_score, spearman, x[inside], y[inside]), count, samples)
            print(f"| {family} | {count} | {medians[-1][1]:.1f} | {-medians[-1][0]:.2f} | {text} |")
    between = spearman(*np.array(medians).T)
    print(f"\nSpearman of the medians of all {len(counts)} families: {between:.2f}.")


def print_convergence(records: dict[str, dict[str, Any]], work: Path, spacing: float) -> None:
    """Compare the barriers with those at other spacings that the work folder holds."""
    for path in sorted(work.glob("barriers_*.jsonl")):
        other = path.stem.removeprefix("barriers_")
        both = [(records[r["identifier"]], r) for r in read_lines(path) if r["identifier"] in records and "e3d" in r]
        if other == f"{spacing:g}" or not both:
            continue
        here, there = (np.array([pair[k]["e3d"] for pair in both]) for k in (0, 1))
        shift = np.abs(here - there)[np.isfinite(here) & np.isfinite(there)]
        middle, most = np.quantile(shift, [0.5, 0.9])
        print(f"\nE(3D) of {len(both)} crystals at {spacing:g} and {other} Å: median difference {middle:.3f} eV,")
        print(f"90 % within {most:.3f} eV, Spearman {spearman(here, there):.3f}.")


if __name__ == "__main__":
    sys.exit(main())
