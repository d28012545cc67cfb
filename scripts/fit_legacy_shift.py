"""Write pipeline/reference/legacy_shift.json: from the legacy Materials Project scheme to MP2020, anion by anion.

The one-shot models predict legacy formation energies; ``phases.csv.gz`` has MP2020 ones for the same crystals. The
shift is linear in the atoms that carry an MP2020 correction, fitted by least squares with a soft L1 loss (so that a
crystal the model gets wrong does not pull it). A fifth of the crystals is held out and gives the residuals.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure
from scipy.optimize import least_squares

from pipeline.mp2020 import Correction, mp2020_corrections
from pipeline.reference.labelled_crystals import STRUCTURE_FILES, read_labels, read_structures
from pipeline.reference.legacy_shift import FILE
from pipeline.surrogates import load_property_model, model_digest

MODELS = ("M3GNet-MP-2018.6.1-Eform", "MEGNet-MP-2018.6.1-Eform")
OUTPUT = Path(__file__).resolve().parent.parent / "pipeline" / "reference" / FILE
# eV/atom: residuals above this count linearly; about the models' own error.
SOFT = 0.03
HELD_OUT = 5


def main() -> None:
    """Fit every model and write the file."""
    options = _options()
    root = Path(options.data) / "data" / "materials_project"
    labels = read_labels(root / "phases.csv.gz")
    crystals = sample(root, labels, options)
    corrections = [mp2020_corrections(s) for _, s in crystals]
    target = np.array([labels[m] for m, _ in crystals])
    models = {}
    for name in MODELS:
        legacy = load_property_model(name).predict([s for _, s in crystals])
        models[name] = fit(name, crystals, corrections, target - legacy, options)
    content = {
        "generated_by": "scripts/fit_legacy_shift.py",
        "license": "fitted to Materials Project data, CC BY 4.0",
        "unit": "eV per corrected atom; residuals in eV/atom",
        "models": models,
    }
    options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {options.output}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("-n", type=int, default=4000, help="crystals")
    parser.add_argument("--max-sites", type=int, default=40, help="largest cell, atoms")
    parser.add_argument("--least", type=int, default=20, help="crystals a label needs to be fitted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def sample(root: Path, labels: dict[str, float], options: argparse.Namespace) -> list[tuple[str, Structure]]:
    """Random labelled crystals that carry at least one MP2020 correction."""
    order = np.random.default_rng(options.seed).permutation(sorted(labels))
    wanted = [str(m) for m in order[: 3 * options.n]]
    found = dict(read_structures([root / name for name in STRUCTURE_FILES], wanted))
    suited = ((m, found[m]) for m in wanted if m in found and len(found[m]) <= options.max_sites)
    chosen: list[tuple[str, Structure]] = []
    for material, structure in suited:
        if mp2020_corrections(structure):
            chosen.append((material, structure))
        if len(chosen) == options.n:
            break
    return chosen


def fit(
    name: str,
    crystals: list[tuple[str, Structure]],
    corrections: list[tuple[Correction, ...]],
    difference: np.ndarray,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Shift of each label (eV per corrected atom) and the residuals on the crystals held out (eV/atom)."""
    counts = Counter(c.label for row in corrections for c in row)
    names = sorted(label for label, count in counts.items() if count >= options.least)
    matrix = np.zeros((len(crystals), len(names)))
    for i, (row, (_, structure)) in enumerate(zip(corrections, crystals, strict=True)):
        for c in row:
            if c.label in names:
                matrix[i, names.index(c.label)] += c.n_atoms / len(structure)
    good = np.isfinite(difference)
    held_out = good & (np.arange(len(crystals)) % HELD_OUT == 0)
    fitted = good & ~held_out
    solution = least_squares(
        lambda x: matrix[fitted] @ x - difference[fitted], np.zeros(len(names)), loss="soft_l1", f_scale=SOFT
    )
    before, after = np.abs(difference[held_out]), np.abs(difference[held_out] - matrix[held_out] @ solution.x)
    residuals = {
        "crystals_fitted": int(fitted.sum()),
        "crystals_held_out": int(held_out.sum()),
        "median_before": round(float(np.median(before)), 4),
        "median_after": round(float(np.median(after)), 4),
        "mean_after": round(float(after.mean()), 4),
        "percentile_90_after": round(float(np.percentile(after, 90)), 4),
    }
    print(f"{name}: {residuals}")
    shifts = {label: round(float(x), 4) for label, x in zip(names, solution.x, strict=True)}
    print("  " + ", ".join(f"{label} {x:+.3f} ({counts[label]})" for label, x in shifts.items()))
    return {"sha256": model_digest(name), "shifts": shifts, "fit": residuals}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    main()
