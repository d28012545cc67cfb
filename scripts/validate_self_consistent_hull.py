"""Check the self-consistent reference: does it decide the stability gate like the table of the Materials Project?

Takes 30 chemical systems of the structure files by a seeded rule, relaxes crystals of them with the potential as the
stability stage does, and asks both references whether each lies below the gate: the table ``phases.csv.gz``, and
elements and prototypes relaxed with the same potential, of at most two and of at most three elements. Prints counts,
confusion matrices, balanced accuracy with a bootstrap interval over systems, and the cause of each disagreement.
Everything relaxed is kept in the folder ``--work``, so that a second call is cheap. Exit code 1 when fewer than half of
the candidates lie within 0.1 eV/atom of the table's hull, or when the balanced accuracy of the reference with
``--judged`` elements is below ``--bound``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Structure

from pipeline.config import ReferenceSettings
from pipeline.crystal import row_from_structure, structure_from_row
from pipeline.energetics import formation_energy_per_atom, self_consistent_formation_energy_per_atom
from pipeline.reference import PhaseReference
from pipeline.reference.competing import competing_phases
from pipeline.reference.formulas import structure_formula
from pipeline.reference.hull_comparison import (
    Disagreement,
    PhaseEnergies,
    balanced_accuracy,
    cause,
    complete_height,
    interval,
)
from pipeline.reference.labelled_crystals import (
    STRUCTURE_FILES,
    known_crystals,
    lowest_energies,
    read_structures,
    smallest_crystals,
)
from pipeline.reference.self_consistent import write_self_consistent_reference
from pipeline.settings import StabilitySettings
from pipeline.stages.relaxing import relax_crystals, relaxation_columns
from pipeline.stages.rows import Failure
from pipeline.surrogates import load_potential

MOBILE = frozenset(["Li", "Na", "K", "Mg", "Ca", "Zn", "Al"])
CATIONS = (
    MOBILE
    | frozenset(
        ["Rb", "Cs", "Sr", "Ba", "Cd", "Sc", "Y", "La", "Ti", "Zr", "Hf", "Nb", "Ta", "B", "Ga", "In", "Si", "Ge", "Sn"]
    )
    | frozenset(["P", "Sb", "Bi"])
)
STRATA = {(3, "F"): 4, (3, "Cl"): 3, (3, "Br"): 3, (3, "I"): 3, (3, "O"): 6, (3, "S"): 5} | {
    (4, "F"): 1,
    (4, "O"): 3,
    (4, "S"): 2,
}
"""Systems drawn, by number of elements and anion: thirty."""

NEAR = 0.1  # eV/atom above the table's hull: the candidates that are hard to decide
BATCH = 24  # crystals relaxed together


def main() -> int:
    """Draw, relax, decide, report."""
    options = _options()
    root = Path(options.data) / "data" / "materials_project"
    table = PhaseReference.from_table(root / "phases.csv.gz", elemental_references=root / "elemental_references.csv")
    systems = draw_systems(root, options)
    drawn = draw_candidates(root, systems, table, options)
    candidates = relaxed(drawn, options)
    candidates = candidates[np.isfinite(candidates["energy_per_atom"])].reset_index(drop=True)
    decided = decide_by_table(candidates, table, options)
    print(
        f"{options.model}, {len(systems)} chemical systems, seed {options.seed}; {len(drawn)} crystals drawn, "
        f"{len(decided)} relaxed"
    )
    print("systems: " + ", ".join(systems))
    near = float((decided["by_table"] < NEAR).mean())
    print(f"within {1e3 * NEAR:g} meV/atom of the table's hull: {100 * near:.0f} %")
    reached = {n: _one_reference(n, systems, decided, table, root, options) for n in (2, 3)}
    return int(near < 0.5 or reached[options.judged] < options.bound)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--work", type=Path, required=True, help="folder for what was relaxed")
    parser.add_argument("--model", default="M3GNet-MP-2021.2.8-PES")
    parser.add_argument("--gate", type=float, default=0.050, help="eV/atom")
    parser.add_argument("--bound", type=float, default=0.8, help="least balanced accuracy")
    parser.add_argument("--judged", type=int, choices=(2, 3), default=3, help="max_elements that must reach the bound")
    parser.add_argument("--max-sites", type=int, default=30, help="largest candidate, atoms")
    parser.add_argument("--least", type=int, default=4, help="crystals a system must have")
    parser.add_argument("--most", type=int, default=12, help="candidates taken from a system")
    parser.add_argument("--polymorphs", type=int, default=2, help="candidates taken of one composition")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def _stratum(chemsys: str) -> tuple[int, str] | None:
    elements = set(chemsys.split("-"))
    anions = elements - CATIONS
    if len(anions) != 1 or not elements & MOBILE:
        return None
    return len(elements), anions.pop()


def draw_systems(root: Path, options: argparse.Namespace) -> list[str]:
    """Chemical systems by the seeded rule: one halogen, oxygen or sulfur, a mobile ion, and crystals enough."""
    counts = Counter(known_crystals(root, options.max_sites)["chemsys"])
    rich = sorted(s for s, n in counts.items() if n >= options.least)
    order = [rich[i] for i in np.random.default_rng(options.seed).permutation(len(rich))]
    return [s for stratum, wanted in STRATA.items() for s in [s for s in order if _stratum(s) == stratum][:wanted]]


def draw_candidates(root: Path, systems: list[str], table: PhaseReference, options: argparse.Namespace) -> pd.DataFrame:
    """Rows of crystals of each system, at least half of them near the table's hull before relaxation, at random."""
    kept = (
        options.work
        / f"candidates-{_digest([*systems, options.polymorphs, options.most, options.max_sites, options.seed])}.parquet"
    )
    if kept.exists():
        return pd.read_parquet(kept)
    known = known_crystals(root, options.max_sites)
    known = known[known["chemsys"].isin(systems)]
    found = dict(read_structures([root / n for n in STRUCTURE_FILES], known["material_id"].tolist()))
    identifiers = sorted(found)
    potential = _potential(options.model)
    evaluated = potential.evaluate([found[m] for m in identifiers])
    energies = {m: e.energy / len(found[m]) for m, e in zip(identifiers, evaluated, strict=True) if e.error is None}
    heights = {m: _above_table(found[m], e, table, potential) for m, e in energies.items()}
    generator = np.random.default_rng(options.seed)
    chosen: list[str] = []
    for system in systems:
        own = [m for m in known.loc[known["chemsys"] == system, "material_id"] if m in heights]
        shuffled = _few_of_each([own[i] for i in generator.permutation(len(own))], found, options.polymorphs)
        near = [m for m in shuffled if heights[m] < NEAR][: options.most]
        far = [m for m in shuffled if heights[m] >= NEAR][: min(len(near), options.most // 2)]
        chosen += [*near[: options.most - len(far)], *far]
    rows = pd.DataFrame([{"candidate_id": m, **_crystal_columns(found[m])} for m in chosen])
    rows.to_parquet(kept)
    return rows


def _few_of_each(materials: list[str], found: dict[str, Structure], most: int) -> list[str]:
    """Keep at most so many crystals of a composition: polymorphs are not decided independently."""
    counts: Counter[str] = Counter()
    kept = []
    for material in materials:
        formula = structure_formula(found[material])
        counts[formula] += 1
        if counts[formula] <= most:
            kept.append(material)
    return kept


def _crystal_columns(structure: Structure) -> dict[str, Any]:
    return {
        "formula_pretty": structure_formula(structure),
        "chemsys": structure.chemical_system,
        "nsites": len(structure),
        **row_from_structure(structure),
    }


@cache
def _potential(model: str) -> Any:
    return load_potential(model)


def _digest(value: list[Any]) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def relaxed(rows: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """Relax crystals in batches, on several processes; what the folder holds is not relaxed again."""
    rows = rows.sort_values(["nsites", "candidate_id"], ascending=[False, True]).reset_index(drop=True)
    kept = {p: pd.read_parquet(p) for p in sorted(options.work.glob("relaxed-*.parquet"))}
    done = set().union(*(frame["candidate_id"] for frame in kept.values()))
    todo = rows[~rows["candidate_id"].isin(done)]
    parts = [todo.iloc[i : i + BATCH] for i in range(0, len(todo), BATCH)]
    with ProcessPoolExecutor(options.processes) as pool:
        jobs = [pool.submit(_relax, part.to_dict("records"), options.model, options.work) for part in parts]
        for number, job in enumerate(jobs, start=1):
            job.result()
            print(f"{number} of {len(jobs)} batches relaxed", file=sys.stderr, flush=True)
    everything = pd.concat([pd.read_parquet(p) for p in sorted(options.work.glob("relaxed-*.parquet"))])
    return everything.set_index("candidate_id", drop=False).loc[rows["candidate_id"]].reset_index(drop=True)


def _relax(rows: list[dict[str, Any]], model: str, work: Path) -> None:
    """Relax one batch as the stability stage does, and keep it; a crystal that fails has no energy."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    potential = _potential(model)
    starts = [structure_from_row(row) for row in rows]
    names = [str(row["candidate_id"]) for row in rows]
    results = relax_crystals(list(starts), names, StabilitySettings(), potential)
    records = [
        {"candidate_id": name, **_crystal_columns(start), "energy_per_atom": float("nan")}
        | ({} if isinstance(result, Failure) else relaxation_columns(result, potential))
        for name, start, result in zip(names, starts, results, strict=True)
    ]
    path = work / f"relaxed-{_digest(list(names))}.parquet"
    pd.DataFrame(records).to_parquet(path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def _above_table(structure: Structure, energy_per_atom: float, table: PhaseReference, potential: Any) -> float:
    formation = formation_energy_per_atom(
        structure, energy_per_atom * len(structure), potential, elemental_references=table.elemental_energies
    )
    return float(table.energy_above_hull([structure_formula(structure)], [formation])[0])


def decide_by_table(candidates: pd.DataFrame, table: PhaseReference, options: argparse.Namespace) -> pd.DataFrame:
    """Add ``by_table``: eV/atom above the table's hull, as a campaign has it."""
    potential = _potential(options.model)
    heights = [
        _above_table(structure_from_row(row), row["energy_per_atom"], table, potential)
        for row in candidates.to_dict("records")
    ]
    return candidates.assign(by_table=heights)


def own_reference(n: int, systems: list[str], options: argparse.Namespace) -> tuple[PhaseReference, pd.DataFrame]:
    """Self-consistent reference of all the systems with phases of at most n elements, and its relaxed rows."""
    settings = ReferenceSettings(source="prototypes", max_elements=n)
    rows = _competing(systems, settings, options)
    results = relaxed(rows, options)
    potential = _potential(options.model)
    phases, elements = write_self_consistent_reference(results, potential)
    phases.to_csv(options.work / f"phases-{n}.csv", index=False)
    elements.to_csv(options.work / f"elements-{n}.csv", index=False)
    reference = PhaseReference.from_table(
        options.work / f"phases-{n}.csv", elemental_references=options.work / f"elements-{n}.csv"
    )
    return reference, results


def _competing(systems: list[str], settings: ReferenceSettings, options: argparse.Namespace) -> pd.DataFrame:
    kept = options.work / f"competing-{_digest([*systems, settings.model_dump_json()])}.parquet"
    if not kept.exists():
        listed = [competing_phases(tuple(s.split("-")), settings) for s in systems]
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


def _one_reference(
    n: int, systems: list[str], candidates: pd.DataFrame, table: PhaseReference, root: Path, options: argparse.Namespace
) -> float:
    """Decide with phases of at most n elements, print how well, and return the balanced accuracy."""
    reference, rows = own_reference(n, systems, options)
    decided = decide_by_reference(candidates, reference, options)
    truth = (decided["by_table"] < options.gate).to_numpy()
    decision = (decided["by_reference"] < options.gate).to_numpy()
    accuracy = balanced_accuracy(truth, decision)
    low, high = interval(truth, decision, decided["chemsys"].tolist(), options.seed)
    failed = int(rows["energy_per_atom"].isna().sum())
    print(
        f"\nself-consistent reference, max_elements {n}: {len(rows)} crystals relaxed ({failed} failed), "
        f"{len(reference)} compositions"
    )
    print(f"                         reference below   above   (gate {1e3 * options.gate:g} meV/atom)")
    print(f"  table below the gate   {(truth & decision).sum():15d}   {(truth & ~decision).sum():5d}")
    print(f"  table above the gate   {(~truth & decision).sum():15d}   {(~truth & ~decision).sum():5d}")
    print(f"  balanced accuracy {accuracy:.3f}, 95 % interval {low:.3f} to {high:.3f}")
    shift = 1e3 * (decided["by_reference"] - decided["by_table"])
    quartiles = np.percentile(shift, [25, 50, 75])
    print("  reference minus table, meV/atom: quartiles " + ", ".join(f"{q:+.0f}" for q in quartiles))
    explain(decided[truth != decision], reference, table, root, options)
    return accuracy


def explain(
    disagreements: pd.DataFrame,
    reference: PhaseReference,
    table: PhaseReference,
    root: Path,
    options: argparse.Namespace,
) -> None:
    """Print each disagreement with its cause, and how often each cause occurs."""
    cases = {
        row["candidate_id"]: (
            row["formula_pretty"],
            Disagreement(
                row["own_formation"],
                row["by_table"],
                row["by_reference"],
                options.gate,
                table.decomposition(row["formula_pretty"]),
                reference.decomposition(row["formula_pretty"]),
            ),
        )
        for row in disagreements.to_dict("records")
    }
    energies = _phase_energies(
        {f for _, c in cases.values() for f in c.table_products}, reference, table, root, options
    )
    causes = {name: cause(case, energies) for name, (_, case) in cases.items()}
    for name, (formula, case) in sorted(cases.items(), key=lambda item: (causes[item[0]], item[1][0])):
        kind, phases = causes[name]
        complete = complete_height(case, energies)
        heights = f"table {1e3 * case.by_table:+5.0f}, reference {1e3 * case.by_reference:+5.0f}"
        heights += "" if complete is None else f", complete {1e3 * complete:+5.0f}"
        print(f"  {formula:16s} {name:12s} {heights}  {kind}: {phases}")
    print("  causes: " + ", ".join(f"{n} {kind}" for kind, n in Counter(k for k, _ in causes.values()).most_common()))


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
