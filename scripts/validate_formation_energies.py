"""Check formation energies on known crystals: surrogate + MP2020 corrections against the Materials Project's labels.

Takes random anion-bearing crystals with a gap (MEGNet) from the structure files, matched by material_id to the rows of
``phases.csv.gz`` with source ``mp2020``, and evaluates the potential on the structure as it is. The potentials were
trained on most of these crystals, so the errors are training errors. Exit code 1 when the median is above the bound.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from pipeline.energetics import formation_energy_per_atom
from pipeline.reference.labelled_crystals import STRUCTURE_FILES, read_labels, read_structures
from pipeline.surrogates import load_potential, load_property_model

ANIONS = frozenset(["H", "N", "O", "F", "P", "S", "Cl", "As", "Se", "Br", "Te", "I"])


def main() -> int:
    """Run the comparison and print it."""
    options = _options()
    root = Path(options.data) / "data" / "materials_project"
    labels = read_labels(root / "phases.csv.gz")
    crystals = sample(root, labels, options)
    potential = load_potential(options.model)
    evaluations = potential.evaluate([s for _, s in crystals])
    errors = []
    for (material, structure), evaluation in zip(crystals, evaluations, strict=True):
        if evaluation.error is not None:
            print(f"{material}: {evaluation.error}")
            continue
        errors.append(formation_energy_per_atom(structure, evaluation.energy, potential) - labels[material])
    return report(np.array(errors), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--model", default="M3GNet-MP-2021.2.8-PES")
    parser.add_argument("--gap-model", default="MEGNet-MP-2019.4.1-BandGap-mfi")
    parser.add_argument("--gap-above", type=float, default=0.5, help="eV, PBE")
    parser.add_argument("-n", type=int, default=300, help="crystals")
    parser.add_argument("--max-sites", type=int, default=200, help="largest cell, atoms")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bound", type=float, default=0.020, help="largest allowed median error, eV/atom")
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def sample(root: Path, labels: dict[str, float], options: argparse.Namespace) -> list[tuple[str, Structure]]:
    """Random crystals with an anion and a gap."""
    paths = [root / name for name in STRUCTURE_FILES]
    gap_model = load_property_model(options.gap_model)
    order = np.random.default_rng(options.seed).permutation(sorted(labels))
    chosen: list[tuple[str, Structure]] = []
    for start in range(0, len(order), 4 * options.n):
        wanted = [str(m) for m in order[start : start + 4 * options.n]]
        found = dict(read_structures(paths, wanted))
        # A label without a structure in the files is passed over.
        batch = [(m, found[m]) for m in wanted if m in found and suits(found[m], options.max_sites)]
        gaps = gap_model.predict([s for _, s in batch], state="PBE")
        chosen += [item for item, gap in zip(batch, gaps, strict=True) if gap > options.gap_above]
        if len(chosen) >= options.n:
            break
    return chosen[: options.n]


def suits(structure: Structure, max_sites: int) -> bool:
    """Tell whether it is a compound with an anion, and small enough."""
    symbols = {e.symbol for e in structure.composition.elements}
    return len(symbols) > 1 and bool(symbols & ANIONS) and len(structure) <= max_sites


def report(errors: np.ndarray, options: argparse.Namespace) -> int:
    """Print the distribution; 0 when the median is within the bound, else 1."""
    size = np.abs(errors)
    median = float(np.median(size))
    print(f"{options.model}, {len(errors)} crystals with a PBE gap above {options.gap_above:g} eV, seed {options.seed}")
    print("formation energy, MP2020 scheme, surrogate minus Materials Project (training data), meV/atom:")
    print(f"  median |error| {1e3 * median:.1f}, mean |error| {1e3 * size.mean():.1f}, bias {1e3 * errors.mean():+.1f}")
    quantiles = ", ".join(f"{q} %: {1e3 * np.percentile(size, q):.1f}" for q in (75, 90, 95, 99))
    print(f"  percentiles of |error|: {quantiles}; largest {1e3 * size.max():.1f}")
    if len(errors) < options.n:
        print(f"only {len(errors)} of {options.n} crystals were found")
        return 1
    if not median <= options.bound:
        print(f"the median is not within the bound of {1e3 * options.bound:g} meV/atom")
        return 1
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(main())
