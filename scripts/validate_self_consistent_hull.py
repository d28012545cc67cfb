"""Check the self-consistent reference: does it decide the stability gate like the table of the Materials Project?

For each seed, takes 30 chemical systems of the structure files by a seeded rule, substitutes their elements into the
observed crystals as a campaign does, behind the cheap gates and the estimate of ``configs/halides.yaml``, and draws
candidates at random. They are relaxed with the potential as the stability stage does, and references are asked whether
each lies below the gate: the table ``phases.csv.gz``, and elements and prototypes relaxed with the same potential. The
prototypes are AFLOW's, with at most two and at most three elements, and beside these the crystals that candidates were
made of. Prints counts, confusion matrices, balanced accuracy with a bootstrap interval over systems, the causes of the
disagreements (each one of the judged reference for the first seed), and all seeds pooled. Everything relaxed is kept in
the folder ``--work``, so that a second call is cheap. Exit code 1 when fewer than half of the candidates lie within 0.1
eV/atom of the table's hull, or when the pooled balanced accuracy of the reference ``--judged`` is below ``--bound``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import ReferenceSettings, load_campaign
from pipeline.crystal import structure_from_row
from pipeline.energetics import formation_energy_per_atom, self_consistent_formation_energy_per_atom
from pipeline.reference import PhaseReference
from pipeline.reference.competing import competing_phases
from pipeline.reference.formulas import structure_formula
from pipeline.reference.hull_comparison import Disagreement, PhaseEnergies, confusion_lines, disagreement_lines
from pipeline.reference.kept_relaxations import relax_and_keep
from pipeline.reference.labelled_crystals import (
    STRUCTURE_FILES,
    known_chemical_systems,
    lowest_energies,
    read_structures,
    smallest_crystals,
)
from pipeline.reference.prototype_library import PrototypeLibrary
from pipeline.reference.prototypes import build_library
from pipeline.reference.self_consistent import write_self_consistent_reference
from pipeline.reference.substituted_systems import PROTOTYPES, draw_candidates, draw_systems, substituted_crystals
from pipeline.references import References
from pipeline.settings import EstimateSettings
from pipeline.stages import estimate
from pipeline.surrogates import load_potential

CAMPAIGN = Path(__file__).parents[1] / "configs" / "halides.yaml"
REFERENCES = {
    "aflow-2": ReferenceSettings(source="prototypes", max_elements=2),
    "aflow-3": ReferenceSettings(source="prototypes", max_elements=3),
    "campaign-3": ReferenceSettings(source="prototypes", prototypes="campaign", max_elements=3),
}
"""By prototypes and ``max_elements``."""

NEAR = 0.1  # eV/atom above the table's hull: the candidates that are hard to decide


def main() -> int:
    """Draw, relax, decide, report."""
    options = _options()
    root = Path(options.data) / "data" / "materials_project"
    table = PhaseReference.from_table(root / "phases.csv.gz", elemental_references=root / "elemental_references.csv")
    decided: dict[str, list[pd.DataFrame]] = {name: [] for name in REFERENCES}
    for seed in options.seeds:
        for name, frame in one_seed(seed, root, table, options).items():
            decided[name].append(frame)
    print(f"\nseeds {', '.join(map(str, options.seeds))} pooled")
    reached = {}
    for name, frames in decided.items():
        pooled = pd.concat(frames).drop_duplicates("candidate_id")
        near = _print_near(pooled)
        reached[name] = _report(f"self-consistent reference {name}", pooled, options)
    return int(near < 0.5 or reached[options.judged] < options.bound)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--work", type=Path, required=True, help="folder for what was relaxed")
    parser.add_argument("--model", default="M3GNet-MP-2021.2.8-PES")
    parser.add_argument("--gate", type=float, default=0.050, help="eV/atom")
    parser.add_argument("--bound", type=float, default=0.8, help="least balanced accuracy")
    parser.add_argument("--judged", choices=REFERENCES, default="campaign-3", help="must reach the bound")
    parser.add_argument("--least", type=int, default=4, help="known crystals a system must have")
    parser.add_argument("--estimate", type=float, default=0.40, help="gate of the estimate, eV/atom")
    parser.add_argument("--most", type=int, default=4, help="candidates taken from a system")
    parser.add_argument("--polymorphs", type=int, default=2, help="candidates taken of one composition")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def one_seed(seed: int, root: Path, table: PhaseReference, options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Decide the candidates of one seed's systems, report, and return them by reference."""
    systems = draw_systems(known_chemical_systems(root, PROTOTYPES.max_sites), options.least, seed)
    pool = estimated_pool(systems, root, options)
    passed = pool[pool["energy_above_hull_estimate"] < options.estimate]
    drawn = draw_candidates(passed, options.most, options.polymorphs, seed)
    results = relaxed(drawn, options)
    candidates = decide_by_table(results[np.isfinite(results["energy_per_atom"])], table, options)
    print(
        f"\nseed {seed}, {options.model}: {len(systems)} chemical systems, {len(pool)} substituted crystals, "
        f"{len(passed)} pass the estimate, {len(drawn)} drawn in {drawn['chemsys'].nunique()} systems, "
        f"{len(candidates)} relaxed"
    )
    print("systems: " + ", ".join(systems))
    _print_near(candidates)
    decided = {}
    for name in REFERENCES:
        reference, rows = own_reference(name, seed, systems, root, options)
        decided[name] = decide_by_reference(candidates, reference, options)
        failed = int(rows["energy_per_atom"].isna().sum())
        _report(
            f"self-consistent reference {name}: {len(rows)} crystals relaxed ({failed} failed), "
            f"{len(reference)} compositions",
            decided[name],
            options,
        )
        each = seed == options.seeds[0] and name == options.judged
        explain(decided[name], reference, table, root, options, each=each)
    return decided


def _print_near(candidates: pd.DataFrame) -> float:
    near = float((candidates["by_table"] < NEAR).mean())
    print(f"{len(candidates)} candidates, within {1e3 * NEAR:g} meV/atom of the table's hull: {100 * near:.0f} %")
    return near


def _report(title: str, decided: pd.DataFrame, options: argparse.Namespace) -> float:
    """Print how well a reference decides, and return its balanced accuracy."""
    heights = decided["by_table"].to_numpy(), decided["by_reference"].to_numpy()
    accuracy, lines = confusion_lines(*heights, options.gate, decided["chemsys"].tolist())
    print("\n".join([f"\n{title}", *lines]))
    return accuracy


def estimated_pool(systems: list[str], root: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Every substituted crystal of the systems that passes the cheap gates, with the columns of stage estimate."""
    kept = options.work / f"pool-{_digest(systems)}.parquet"
    if kept.exists():
        return pd.read_parquet(kept)
    library_path = _library_path(root, options)
    library = PrototypeLibrary.load(library_path)
    rows = pd.concat([substituted_crystals(system, library) for system in systems], ignore_index=True)
    references = References(
        load_campaign(CAMPAIGN), library_path, root / "phases.csv.gz", root / "elemental_references.csv"
    )
    settings = EstimateSettings()
    parts = [
        estimate.run(rows.iloc[i : i + settings.chunk_size], settings, references, options.work)
        for i in range(0, len(rows), settings.chunk_size)
    ]
    pool = pd.concat(parts, ignore_index=True)
    pool.to_parquet(kept)
    return pool


def _library_path(root: Path, options: argparse.Namespace) -> Path:
    """The observed crystals that are substituted, built once."""
    path: Path = options.work / f"prototypes-{_digest([PROTOTYPES.model_dump_json()])}.parquet"
    if not path.exists():
        build_library(PROTOTYPES, root / STRUCTURE_FILES[0]).save(path)
    return path


def relaxed(rows: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """Relax crystals as the stability stage does; what the folder holds is not relaxed again."""
    return relax_and_keep(
        rows, options.model, options.work, options.processes, lambda line: print(line, file=sys.stderr, flush=True)
    )


@cache
def _potential(model: str) -> Any:
    return load_potential(model)


def _digest(value: list[Any]) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def decide_by_table(candidates: pd.DataFrame, table: PhaseReference, options: argparse.Namespace) -> pd.DataFrame:
    """Add ``by_table``: eV/atom above the table's hull, as a campaign has it."""
    potential, elements = _potential(options.model), table.elemental_energies
    heights = []
    for row in candidates.to_dict("records"):
        structure, energy = structure_from_row(row), row["energy_per_atom"] * row["nsites"]
        formation = formation_energy_per_atom(structure, energy, potential, elemental_references=elements)
        heights.append(float(table.energy_above_hull([structure_formula(structure)], [formation])[0]))
    return candidates.assign(by_table=heights)


def own_reference(
    name: str, seed: int, systems: list[str], root: Path, options: argparse.Namespace
) -> tuple[PhaseReference, pd.DataFrame]:
    """Self-consistent reference of all the systems, one of `REFERENCES`, and its relaxed rows."""
    rows = _competing(systems, REFERENCES[name], root, options)
    results = relaxed(rows, options)
    potential = _potential(options.model)
    phases, elements = write_self_consistent_reference(results, potential)
    paths = options.work / f"phases-{seed}-{name}.csv", options.work / f"elements-{seed}-{name}.csv"
    phases.to_csv(paths[0], index=False)
    elements.to_csv(paths[1], index=False)
    return PhaseReference.from_table(paths[0], elemental_references=paths[1]), results


def _competing(
    systems: list[str], settings: ReferenceSettings, root: Path, options: argparse.Namespace
) -> pd.DataFrame:
    kept = options.work / f"competing-{_digest([*systems, settings.model_dump_json()])}.parquet"
    if not kept.exists():
        own = settings.prototypes == "campaign"
        library = PrototypeLibrary.load(_library_path(root, options)) if own else None
        listed = [competing_phases(tuple(s.split("-")), settings, library=library) for s in systems]
        pd.concat(listed).drop_duplicates("candidate_id").to_parquet(kept)
    return pd.read_parquet(kept)


def decide_by_reference(
    candidates: pd.DataFrame, reference: PhaseReference, options: argparse.Namespace
) -> pd.DataFrame:
    """Add ``own_formation`` (eV/atom, relative to the potential's elements) and ``by_reference``."""
    potential, elements = _potential(options.model), reference.elemental_energies or {}
    formations = [
        self_consistent_formation_energy_per_atom(
            structure_from_row(row), row["energy_per_atom"] * row["nsites"], potential, elements
        )
        for row in candidates.to_dict("records")
    ]
    heights = reference.energy_above_hull(candidates["formula_pretty"].tolist(), formations)
    return candidates.assign(own_formation=formations, by_reference=heights)


def explain(
    decided: pd.DataFrame,
    reference: PhaseReference,
    table: PhaseReference,
    root: Path,
    options: argparse.Namespace,
    *,
    each: bool,
) -> None:
    """Print how often each cause of a disagreement occurs, and if asked each disagreement."""
    disagreements = decided[(decided["by_table"] < options.gate) != (decided["by_reference"] < options.gate)]
    cases = [
        (
            row["formula_pretty"],
            row["prototype_id"],
            Disagreement(
                row["own_formation"],
                row["by_table"],
                row["by_reference"],
                options.gate,
                table.decomposition(row["formula_pretty"]),
                reference.decomposition(row["formula_pretty"]),
            ),
        )
        for row in disagreements.assign(prototype_id=disagreements["candidate_id"].str.split("-").str[1]).to_dict(
            "records"
        )
    ]
    energies = _phase_energies({f for _, _, c in cases for f in c.table_products}, reference, table, root, options)
    print("\n".join(disagreement_lines(cases, energies, each=each)))


def _phase_energies(
    wanted: set[str], reference: PhaseReference, table: PhaseReference, root: Path, options: argparse.Namespace
) -> PhaseEnergies:
    """Energies of the table's products: the table's, the reference's, and the potential's in the known crystals."""
    crystals = smallest_crystals(root, wanted)
    found = dict(read_structures([root / n for n in STRUCTURE_FILES], sorted(crystals)))
    potential = _potential(options.model)
    own, theirs = reference.elemental_energies or {}, table.elemental_energies or {}
    true_crystal: dict[str, float] = {}
    for (material, structure), result in zip(found.items(), potential.evaluate(list(found.values())), strict=True):
        if result.error is None:
            energy = self_consistent_formation_energy_per_atom(structure, result.energy, potential, own)
            formula = crystals[material]
            true_crystal[formula] = min(energy, true_crystal.get(formula, np.inf))
    return PhaseEnergies(
        table=lowest_energies(root / "phases.csv.gz"),
        reference=lowest_energies(Path(reference.source)),
        true_crystal=true_crystal,
        elements={e: own[e] - theirs[e] for e in own if e in theirs},
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(main())
