"""Write the formation energies that the potentials give for known crystals, beside the Materials Project's own.

For each anion class and for each of two sets, up to ``-n`` random labelled crystals: those with material ids up to the
last one in MPF.2021.2.8 (the snapshot M3GNet-MP-2021.2.8-PES was trained on), and those with later ids, which it can't
have seen. The potentials are evaluated at the crystal as it is. ``scripts/fit_surrogate_errors.py`` reads the result.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Structure

from pipeline.energetics import formation_energy_per_atom
from pipeline.reference.anion_class import anion_class
from pipeline.reference.labelled_crystals import STRUCTURE_FILES, read_labels, read_structures
from pipeline.surrogates import Potential, load_potential

MODELS = ("M3GNet-MP-2021.2.8-PES", "CHGNet")
# Largest material id among the rows of phases.csv.gz with source mpf2021_corrected.
LAST_OF_MPF_2021_2_8 = 1_040_512
# Ytterbium mixes two pseudopotentials in the Materials Project's history; actinides substitute in no electrolyte.
LEFT_OUT = frozenset(["Yb", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm"])
# Classes with hardly an mp2020 label; for them also rows whose label is the raw energy + MP2020 corrections.
FEW_LABELS = frozenset(["Br", "I", "mixed halide"])
CHUNK = 64


def main() -> None:
    """Sample, evaluate and write."""
    options = _options()
    chosen = sample(Path(options.data) / "data" / "materials_project", options)
    table = pd.DataFrame([row for row, _ in chosen])
    structures = [s for _, s in chosen]
    print(f"{len(table)} crystals", flush=True)
    for name in options.models:
        table[name] = formation_energies(load_potential(name), structures)
    table.to_csv(options.output, index=False, float_format="%.6f")
    print(f"wrote {options.output}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="CSV to write; holds Materials Project data, so not for the project")
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("-n", type=int, default=300, help="crystals of a class and set")
    parser.add_argument("--max-sites", type=int, default=60, help="largest cell, atoms")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def sample(root: Path, options: argparse.Namespace) -> list[tuple[dict[str, object], Structure]]:
    """Random labelled crystals, up to ``n`` of each class and set, by class, set and random order."""
    strict = read_labels(root / "phases.csv.gz")
    labels = strict | read_labels(root / "phases.csv.gz", source="mpf2021_corrected")
    groups: dict[tuple[str, bool], list[tuple[dict[str, object], Structure]]] = defaultdict(list)
    paths = [root / name for name in STRUCTURE_FILES]
    order = {str(m): i for i, m in enumerate(np.random.default_rng(options.seed).permutation(sorted(labels)))}
    for material, structure in read_structures(paths, list(labels)):
        elements = {e.symbol for e in structure.composition.elements}
        if len(structure) > options.max_sites or len(elements) < 2 or elements & LEFT_OUT:
            continue
        formula = structure.composition.reduced_formula
        kind = anion_class(formula)
        if material not in strict and kind not in FEW_LABELS:
            continue
        unseen = int(material.rpartition("-")[2]) > LAST_OF_MPF_2021_2_8
        row = {
            "material_id": material,
            "formula": formula,
            "anion_class": kind,
            "unseen": unseen,
            "label": labels[material],
        }
        groups[kind, unseen].append((row, structure))
    chosen = []
    for key in sorted(groups):
        ordered = sorted(groups[key], key=lambda item: order[str(item[0]["material_id"])])
        chosen += ordered[: options.n]
    return chosen


def formation_energies(potential: Potential, structures: list[Structure]) -> list[float]:
    """Formation energies in the MP2020 scheme, eV/atom, shape (n,); NaN where the potential fails."""
    by_size = sorted(range(len(structures)), key=lambda i: len(structures[i]))
    energies = [float("nan")] * len(structures)
    for start in range(0, len(by_size), CHUNK):
        chunk = by_size[start : start + CHUNK]
        evaluations = potential.evaluate([structures[i] for i in chunk])
        for i, evaluation in zip(chunk, evaluations, strict=True):
            if evaluation.error is None:
                energies[i] = formation_energy_per_atom(structures[i], evaluation.energy, potential)
            else:
                print(f"{structures[i].composition.reduced_formula}: {evaluation.error}")
        print(f"{potential.name}: {start + len(chunk)} of {len(structures)}", end="\r", flush=True)
    print()
    return energies


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    main()
