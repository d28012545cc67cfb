"""Largest deviations from matgl 1.1.3 on DGL, model by model (needs IONSIEVE_DATA)."""

import argparse
import gzip
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Structure

from pipeline.surrogates import CATALOGUE, load_potential, load_property_model
from pipeline.surrogates.catalogue import locate
from pipeline.surrogates.loading import load_matgl
from pipeline.surrogates.m3gnet import M3GNetEvaluator
from pipeline.surrogates.potential import Potential
from pipeline.surrogates.property_model import FIDELITIES

EV_PER_A3_IN_GPA = 160.21766208
BOUNDS = {"eV/atom": 1e-4, "eV/Å": 2e-3, "GPa": None, "eV": 1e-3, "eV/atom (property)": 1e-3}


def with_three_body(potential: Potential) -> Potential:
    """The same potential with its three-body term, on the bonds where matgl 4 puts it."""
    model = load_matgl(locate(potential.name), "destination")
    model = replace(model, three_body="included")
    evaluator = M3GNetEvaluator(model, torch.device("cpu"), potential.evaluator.edges_per_batch)
    return Potential(potential.name, potential.sha256, potential.scheme, evaluator, "cpu")


def potential_rows(
    name: str, rows: list[dict[str, Any]], structures: list[Structure], three_body: bool = False
) -> list[tuple[str, str, float]]:
    potential = load_potential(name)
    results = (with_three_body(potential) if three_body else potential).evaluate(structures)
    pairs = [(result, row[name]) for result, row in zip(results, rows, strict=True)]
    energy = max(abs(r.energy - e["energy_eV"]) / len(r.forces) for r, e in pairs)
    force = max(np.abs(r.forces - np.array(e["forces_eV_per_A"])).max() for r, e in pairs)
    stress = max(np.abs(r.stress * EV_PER_A3_IN_GPA - np.reshape(e["stress_GPa"], (3, 3))).max() for r, e in pairs)
    return [("energy", "eV/atom", energy), ("forces", "eV/Å", force), ("stress", "GPa", stress)]


def property_rows(name: str, rows: list[dict[str, Any]], structures: list[Structure]) -> list[tuple[str, str, float]]:
    model = load_property_model(name)
    if not model.n_states:
        deviation = np.abs(model.predict(structures) - [row[name] for row in rows]).max()
        return [("formation energy", "eV/atom (property)", float(deviation))]
    table = []
    for fidelity in FIDELITIES:
        deviation = np.abs(model.predict(structures, state=fidelity) - [row[name][fidelity] for row in rows]).max()
        table.append((f"gap {fidelity}", "eV", float(deviation)))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--reference", type=Path, help="default: $IONSIEVE_DATA/reference/matgl_dgl_predictions.json.gz"
    )
    parser.add_argument("--three-body", action="store_true", help="potentials with the three-body term they omit")
    arguments = parser.parse_args()
    path = arguments.reference
    if path is None:
        if "IONSIEVE_DATA" not in os.environ:
            parser.error("set IONSIEVE_DATA or give --reference")
        path = Path(os.environ["IONSIEVE_DATA"]) / "reference" / "matgl_dgl_predictions.json.gz"
    with gzip.open(path, "rt") as stream:
        rows = json.load(stream)
    structures = [Structure(row["lattice"], row["species"], row["frac_coords"]) for row in rows]
    failures = 0
    print(f"{len(rows)} crystals, largest deviation from matgl 1.1.3 on DGL")
    print(f"{'model':34s} {'quantity':18s} {'deviation':>10s} {'bound':>8s}  unit")
    for name, entry in CATALOGUE.items():
        if name not in rows[0]:
            continue
        if entry.kind == "potential":
            table = potential_rows(name, rows, structures, arguments.three_body)
        elif not arguments.three_body:
            table = property_rows(name, rows, structures)
        else:
            continue
        for quantity, unit, deviation in table:
            bound = BOUNDS[unit]
            bad = bound is not None and not deviation <= bound
            failures += bad
            shown = "-" if bound is None else f"{bound:.0e}"
            mark = "  FAILS" if bad else ""
            print(f"{name:34s} {quantity:18s} {deviation:10.2e} {shown:>8s}  {unit.split(' (')[0]}{mark}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
