"""Compare bulk moduli with published PBE values, and the tensors with matcalc's; prints a Markdown table.

Published values come from ``tests/reference/published_moduli.csv``, crystals from the observed ones in
``$IONSIEVE_DATA``. With ``--peer``, matcalc (``pip install 'ionsieve[benchmark]'``) computes the tensors on the same
potential's ASE calculator: it relaxes the ions of strained cells, one cell after the other, where ionsieve takes the
linear response. Exit code 1 when a bulk modulus differs from a published one, or moduli from matcalc's, by more than
the bounds.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure

from pipeline.elastic_tensor import Moduli, moduli
from pipeline.settings import ElasticitySettings
from pipeline.stages.elasticity import elastic_responses, relaxed_crystals
from pipeline.stages.rows import Failure
from pipeline.surrogates import Potential, load_potential
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

PUBLISHED = Path(__file__).resolve().parents[1] / "tests" / "reference" / "published_moduli.csv"
PEER_STRAINS = (-0.001, -0.0005, 0.0005, 0.001)


@dataclass(frozen=True)
class Published:
    """A bulk modulus from the literature, GPa."""

    formula: str
    spacegroup: int
    bulk_modulus: float
    source: str


def main() -> int:
    """Run the comparison and print it."""
    options = _options()
    published = read_published()
    crystals = read_crystals(Path(options.data), published)
    potential = load_potential(options.model, options.device)
    started = time.perf_counter()
    found = measured(crystals, potential)
    seconds = time.perf_counter() - started
    worst = print_published(published, found)
    print(f"\nlargest difference {worst:.0%}, bound {options.bound:.0%}; {seconds:.1f} s for {len(crystals)} crystals")
    failed = not worst <= options.bound
    if options.peer:
        started = time.perf_counter()
        theirs = matcalc_moduli(crystals, potential)
        seconds = time.perf_counter() - started
        worst = print_peer(found, theirs)
        print(f"\nlargest difference {worst:.1%}, bound {options.peer_bound:.1%}; matcalc took {seconds:.1f} s")
        failed = failed or not worst <= options.peer_bound
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--model", default="M3GNet-MP-2021.2.8-PES")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--bound", type=float, default=0.25, help="largest allowed relative difference of a bulk modulus"
    )
    parser.add_argument("--peer", action="store_true", help="compare with matcalc on the same potential")
    parser.add_argument(
        "--peer-bound", type=float, default=0.02, help="largest allowed relative difference from matcalc"
    )
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def read_published(path: Path = PUBLISHED) -> list[Published]:
    """Read the published moduli."""
    lines = [text for text in path.read_text(encoding="utf-8").splitlines() if not text.startswith("#")]
    return [
        Published(row["formula"], int(row["spacegroup"]), float(row["bulk_modulus"]), row["source"])
        for row in csv.DictReader(lines)
    ]


def read_crystals(data: Path, published: Sequence[Published]) -> dict[str, Structure]:
    """Observed crystals of the formulas and space groups, each the first in the table."""
    table = pd.read_parquet(data / "data" / "materials_project" / "structures_observed.parquet")
    crystals = {}
    for row in published:
        same = table[(table["formula"] == row.formula) & (table["spacegroup_number"] == row.spacegroup)]
        if same.empty:
            raise ValueError(f"{row.formula} in space group {row.spacegroup} is not among the observed crystals")
        first = same.iloc[0]
        lattice = Lattice.from_parameters(*first["cell_parameters"])
        sites = np.array(first["frac_coords"]).reshape(-1, 3)
        crystals[row.formula] = Structure(lattice, list(first["species"]), sites)
    return crystals


def measured(crystals: Mapping[str, Structure], potential: Potential) -> dict[str, Moduli]:
    """Moduli of each crystal by the stage's own computation, GPa."""
    settings = ElasticitySettings()
    relaxed = relaxed_crystals(list(crystals.values()), settings, potential)
    responses = elastic_responses(relaxed, settings, potential)
    found = {}
    for formula, response in zip(crystals, responses, strict=True):
        if isinstance(response, Failure):
            raise RuntimeError(f"{formula}: {response.error}")
        if response.tensor is None:
            raise RuntimeError(f"{formula}: the ions rest in no minimum ({response.lowest_force_constant:.3f} eV/Å2)")
        found[formula] = moduli(response.tensor.stiffness * GPA_PER_EV_PER_ANGSTROM3)
    return found


def print_published(published: Sequence[Published], found: Mapping[str, Moduli]) -> float:
    """Print the table; return the largest relative difference."""
    print("| crystal | bulk modulus, GPa | published (PBE) | difference | source |\n|---|---|---|---|---|")
    differences = []
    for row in published:
        bulk = found[row.formula].bulk
        differences.append(bulk / row.bulk_modulus - 1.0)
        print(f"| {row.formula} | {bulk:.1f} | {row.bulk_modulus:.1f} | {differences[-1]:+.0%} | {row.source} |")
    return float(np.abs(differences).max())


def matcalc_moduli(crystals: Mapping[str, Structure], potential: Potential) -> dict[str, dict[str, Any]]:
    """Results of matcalc's ElasticityCalc with relaxed ions, GPa."""
    # matcalc lists models on a hub when it is imported; nothing of that is needed.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from matcalc import ElasticityCalc
    except ImportError:
        sys.exit("--peer needs matcalc: pip install 'ionsieve[benchmark]'")
    calculator = ElasticityCalc(
        potential.as_ase_calculator(),
        norm_strains=PEER_STRAINS,
        shear_strains=PEER_STRAINS,
        fmax=0.0005,
        relax_deformed_structures=True,
        units_GPa=True,
        relax_calc_kwargs={"max_steps": 2000},
        r2_min=-1.0,
    )
    return {formula: calculator.calc(crystal) for formula, crystal in crystals.items()}


def print_peer(found: Mapping[str, Moduli], theirs: Mapping[str, Mapping[str, Any]]) -> float:
    """Print both programs' moduli; return the largest relative difference."""
    print("\n| crystal | bulk, GPa | matcalc | shear, GPa | matcalc |\n|---|---|---|---|---|")
    differences = []
    for formula, ours in found.items():
        bulk, shear = float(theirs[formula]["bulk_modulus_vrh"]), float(theirs[formula]["shear_modulus_vrh"])
        differences += [ours.bulk / bulk - 1.0, ours.shear / shear - 1.0]
        print(f"| {formula} | {ours.bulk:.2f} | {bulk:.2f} | {ours.shear:.2f} | {shear:.2f} |")
    return float(np.abs(differences).max())


if __name__ == "__main__":
    sys.exit(main())
