"""Write pipeline/reference/surrogate_errors.json: how wrong the surrogates are on known phases, by anion class.

Reads what ``scripts/measure_surrogate_errors.py`` wrote. Biases, scales, degrees of freedom and the part that the
surrogates' disagreement tells are fitted by maximum likelihood (see pipeline/reference/surrogate_errors.py), for
M3GNet to crystals that it can't have been trained on. CHGNet was trained on most of them: what M3GNet's errors are
wider on unseen crystals than on its own is added to CHGNet's in quadrature. The printed check fits to half of the
crystals and asks the other half how well the predicted probabilities hold; the file is fitted to all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measure_surrogate_errors import LAST_OF_MPF_2021_2_8, MODELS

from pipeline.reference import PhaseReference
from pipeline.reference.anion_class import ANION_CLASSES
from pipeline.reference.student_fit import fit_student
from pipeline.reference.surrogate_errors import FILE, ErrorDistribution, SurrogateErrors, read_surrogate
from pipeline.surrogates import model_digest

OUTPUT = Path(__file__).resolve().parent.parent / "pipeline" / "reference" / FILE
TRAINED_UNTIL = frozenset(["M3GNet-MP-2021.2.8-PES"])
HEAVIER_HALIDES = ("Cl", "Br", "I", "mixed halide")
"""Fitted together where one of them has fewer than ``LEAST`` crystals: their chemistry is near, labels are few."""
LEAST = 30
ID_EDGES = (0, 100_000, 600_000, 900_000, LAST_OF_MPF_2021_2_8, 1_110_000, 1_200_000, 1_220_000, 3_000_000)
GATES = (0.025, 0.05, 0.1)
# Gates up to this far from the true energy on either side, eV/atom: known phases crowd on the hull, candidates don't.
ANYWHERE = 0.1


def main() -> None:
    """Fit both models, print what was found, write the file."""
    options = _options()
    table = pd.read_csv(options.energies, keep_default_na=False, na_values=[""]).dropna(subset=list(MODELS))
    table["disagreement"] = (table[MODELS[0]] - table[MODELS[1]]).abs()
    print_errors(table)
    print_by_id(table)
    half = np.random.default_rng(options.seed).permutation(len(table)) < len(table) // 2
    content: dict[str, Any] = {
        "generated_by": "scripts/measure_surrogate_errors.py, scripts/fit_surrogate_errors.py",
        "license": "fitted to Materials Project data, CC BY 4.0",
        "unit": "eV/atom",
        "energies_sha256": hashlib.sha256(options.energies.read_bytes()).hexdigest(),
        "seed": options.seed,
        "unseen_from_material_id": LAST_OF_MPF_2021_2_8 + 1,
        "models": {},
    }
    hull = hull_energies(table, Path(options.data) / "data" / "materials_project")
    for model in MODELS:
        print(f"\n{model}: fitted to one half of the crystals, checked on the other")
        print_check(read_surrogate(model, fit_model(table[half], model)), table[~half], hull[~half], options.seed)
        content["models"][model] = fit_model(table, model)
        print_fit(model, content["models"][model])
    options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"\nwrote {options.output}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("energies", type=Path, help="what scripts/measure_surrogate_errors.py wrote")
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--seed", type=int, default=0, help="of the halves")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def fit_model(table: pd.DataFrame, model: str) -> dict[str, Any]:
    """Fit one model's errors; what the file holds of it."""
    other = MODELS[1 - MODELS.index(model)]
    knows_unseen = model in TRAINED_UNTIL
    used = table[table["unseen"].to_numpy(dtype=bool)] if knows_unseen else table
    unseen = 0.0 if knows_unseen else unseen_part(table)
    counts = used["anion_class"].value_counts().reindex(ANION_CLASSES, fill_value=0)
    pooled = HEAVIER_HALIDES if counts[list(HEAVIER_HALIDES)].min() < LEAST else ()
    groups = np.array([_group(kind, pooled) for kind in used["anion_class"]])
    errors = (used[model] - used["label"]).to_numpy()
    alone = fit_student(errors, groups)
    beside = fit_student(errors, groups, used["disagreement"].to_numpy())
    classes = {}
    for kind in ANION_CLASSES:
        group = _group(kind, pooled)
        classes[kind] = {
            "crystals": int(counts[kind]),
            "fitted_with": ", ".join(pooled) if kind in pooled else kind,
            "bias": round(alone.centres[group], 5),
            "scale": round(_widened(alone.scales[group], alone.degrees_of_freedom, unseen), 5),
            "bias_beside_disagreement": round(beside.centres[group], 5),
            "scale_beside_disagreement": round(_widened(beside.scales[group], beside.degrees_of_freedom, unseen), 5),
        }
    return {
        "sha256": model_digest(model),
        "second_opinion": other,
        "second_sha256": model_digest(other),
        "crystals": len(used),
        "fitted_to": "unseen crystals" if knows_unseen else "training crystals",
        "added_for_unseen": round(unseen, 5),
        "degrees_of_freedom": round(alone.degrees_of_freedom, 3),
        "degrees_of_freedom_beside_disagreement": round(beside.degrees_of_freedom, 3),
        "disagreement_factor": round(float(beside.factor or 0.0), 4),
        "negative_log_likelihood": [round(f.negative_log_likelihood / len(used), 4) for f in (alone, beside)],
        "classes": classes,
    }


def _group(kind: str, pooled: tuple[str, ...]) -> str:
    return pooled[0] if kind in pooled else kind


def _widened(scale: float, degrees_of_freedom: float, added: float) -> float:
    """Scale whose 68 % interval is wider by ``added`` (half width, eV/atom) in quadrature."""
    half_width = ErrorDistribution(0.0, scale, degrees_of_freedom).half_width
    return float(scale * np.hypot(1.0, added / half_width))


def unseen_part(table: pd.DataFrame) -> float:
    """What M3GNet's 68 % half width is wider on unseen crystals, in quadrature, eV/atom.

    Half widths are geometric means over the classes with enough crystals in both sets.
    """
    widths = []
    classes: set[str] = set()
    for unseen in (True, False):
        part = table[table["unseen"] == unseen]
        fitted = fit_student((part[MODELS[0]] - part["label"]).to_numpy(), part["anion_class"].to_numpy())
        counts = part["anion_class"].value_counts()
        enough = set(counts.index[counts >= LEAST])
        classes = enough if unseen else classes & enough
        free = fitted.degrees_of_freedom
        widths.append({k: ErrorDistribution(0.0, s, free).half_width for k, s in fitted.scales.items()})
    later, earlier = (np.exp(np.mean([np.log(w[k]) for k in classes])) for w in widths)
    print(f"M3GNet's 68 % half width, mean of {len(classes)} classes: {earlier:.4f} seen, {later:.4f} unseen, eV/atom")
    return float(np.sqrt(max(later**2 - earlier**2, 0.0)))


def hull_energies(table: pd.DataFrame, root: Path) -> np.ndarray:
    """Energy of the hull at each crystal's composition, eV/atom, the crystal itself in it; shape (n,)."""
    phases = PhaseReference.from_table(root / "phases.csv.gz", elemental_references=root / "elemental_references.csv")
    return -np.asarray(phases.energy_above_hull(table["formula"].tolist(), np.zeros(len(table))), dtype=float)


def print_errors(table: pd.DataFrame) -> None:
    """Print the errors by class, seen and unseen by M3GNet."""
    print(f"|surrogate - Materials Project|, meV/atom, {len(table)} crystals; ids up to {LAST_OF_MPF_2021_2_8} are")
    print("those M3GNet was trained on; CHGNet was trained on both sets")
    print("              ids up to               | later ids")
    print("                   M3GNet      CHGNet |        M3GNet      CHGNet")
    print("class            n  50 % 90 %  50 % 90 %|    n  50 % 90 %  50 % 90 %")
    kinds = [k for k in ANION_CLASSES if (table["anion_class"] == k).any()]
    for kind in [*kinds, "all"]:
        cells = []
        for unseen in (False, True):
            part = table[(table["unseen"] == unseen) & ((table["anion_class"] == kind) | (kind == "all"))]
            sizes = [1e3 * (part[m] - part["label"]).abs() for m in MODELS]
            numbers = "  ".join(f"{np.median(s):4.0f} {np.percentile(s, 90):4.0f}" for s in sizes)
            cells.append(f"{len(part):4d}  {numbers}")
        print(f"{kind:13s} " + " | ".join(cells))


def print_by_id(table: pd.DataFrame) -> None:
    """Print the median errors along the material ids: they jump where a model's training data ends."""
    print("\nmedian |error|, meV/atom, by material id")
    print("up to           n  M3GNet  CHGNet")
    ids = table["material_id"].str.rpartition("-")[2].astype(int)
    for low, high in pairwise(ID_EDGES):
        part = table[(ids > low) & (ids <= high)]
        numbers = "  ".join(f"{1e3 * (part[m] - part['label']).abs().median():6.0f}" for m in MODELS)
        print(f"{high:9d}  {len(part):6d}  {numbers}")


def print_fit(model: str, fitted: dict[str, Any]) -> None:
    """Print one model's fit."""
    free, free_beside = fitted["degrees_of_freedom"], fitted["degrees_of_freedom_beside_disagreement"]
    cost, cost_beside = fitted["negative_log_likelihood"]
    print(
        f"\n{model}: {fitted['crystals']} {fitted['fitted_to']}, {1e3 * fitted['added_for_unseen']:.0f} meV/atom added"
    )
    print(f"degrees of freedom {free} alone, {free_beside} with disagreement; k = {fitted['disagreement_factor']}")
    print(f"-ln L / n {cost} alone, {cost_beside} with disagreement")
    errors = read_surrogate(model, fitted)
    print("meV/atom               68 % half width,     with a disagreement of")
    print("class            n   bias         alone      0     20     50    100")
    for kind in ANION_CLASSES:
        alone = errors.of_class(kind)
        beside = [errors.of_class(kind, d, errors.second_sha256) for d in (0.0, 0.02, 0.05, 0.1)]
        numbers = " ".join(f"{1e3 * e.half_width:6.0f}" for e in beside)
        count = fitted["classes"][kind]["crystals"]
        print(f"{kind:13s} {count:4d} {1e3 * alone.bias:+6.0f}        {1e3 * alone.half_width:6.0f} {numbers}")


def print_check(errors: SurrogateErrors, table: pd.DataFrame, hull: np.ndarray, seed: int) -> None:
    """Print predicted probabilities against the observed share under a gate, crystals M3GNet never saw only."""
    kept = table["unseen"].to_numpy(dtype=bool)
    table, hull = table[kept], hull[kept]
    true = table["label"].to_numpy() - hull
    above = table[errors.model].to_numpy() - hull
    anywhere = true + np.random.default_rng(seed).uniform(-ANYWHERE, ANYWHERE, (len(GATES), len(true)))
    for words, second in (("alone", None), ("with disagreement", errors.second_sha256)):
        fitted = [errors.of(f, d, second) for f, d in zip(table["formula"], table["disagreement"], strict=True)]
        inside = [abs(a - t - e.bias) <= e.half_width for a, t, e in zip(above, true, fitted, strict=True)]
        print(f"{words}: {100 * np.mean(inside):.1f} % of {len(true)} errors within the 68 % interval")
        for name, gates in (("gates of the campaign", np.full_like(anywhere.T, GATES).T), ("gates anywhere", anywhere)):
            chance = [[e.chance_below(g, a) for g, a, e in zip(row, above, fitted, strict=True)] for row in gates]
            print_bins(name, np.ravel(chance), np.ravel(true < gates))


def print_bins(name: str, chance: np.ndarray, held: np.ndarray) -> None:
    """Print the calibration table and Brier's score (mean squared difference of probability and outcome)."""
    print(f"  {name}\n  predicted     n   mean  observed")
    edges = np.array([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
    for low, high in pairwise(edges):
        chosen = (chance >= low) & ((chance < high) | (high == 1.0))
        if chosen.any():
            count, mean, observed = chosen.sum(), chance[chosen].mean(), held[chosen].mean()
            print(f"  {low:.1f}-{high:.1f}    {count:5d}  {mean:.3f}     {observed:.3f}")
    print(f"  Brier score {np.mean((chance - held) ** 2):.4f}")


if __name__ == "__main__":
    main()
