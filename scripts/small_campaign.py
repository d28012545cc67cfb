"""A campaign of seconds that needs no outside data, its runs, and what two of them have in common."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pymatgen.core import Lattice, Structure

COMPARED = ("ranked_candidates.csv", "shortlist.csv", "funnel.csv", "failures.csv")
"""Files that are the same to the last byte whatever happened on the way."""

# Formation energies and elemental references of the Materials Project, MP2020 scheme (CC BY 4.0), eV/atom.
_PHASES = {"LiCl": -2.1371, "NaCl": -2.1144, "LiBr": -1.8237, "NaBr": -1.8696}
_ELEMENTS = {"Li": -1.9089, "Na": -1.3225, "Cl": -1.8485, "Br": -1.6370}

_CONFIG = """\
name: small
mobile_ions: [Li, Na]
candidates:
  prototypes: {{source: folder, path: crystals, min_elements: 1}}
  substitution: none
potential: {{model: CHGNet}}
reference: {{source: table, path: phases.csv, elemental_references: elements.csv}}
stages:
{relaxation}  - stage: conduction
    spacing: 0.4
    chunk_size: 2
{practicality}{ranking}cluster: {{workers: {workers}, memory_limit: {memory_limit}}}
run: {{allowed_failed_share: 1.0, unit_timeout: {unit_timeout}}}
"""
_RELAXATION = """\
  - stage: stability
    max_steps: 15
    chunk_size: 2
  - stage: window
    chunk_size: 2
"""
_PRACTICALITY = """\
  - stage: practicality
    chunk_size: 2
"""
_RANKING = """\
ranking:
  score: [{column: migration_barrier_3d, best: 0.2, worst: 1.0}]
  pareto: [{column: migration_barrier_3d, goal: min}]
"""
STEPS = ("candidates", "stability", "window", "conduction", "practicality")


def small_crystals() -> dict[str, Structure]:
    """Eight alkali halides of two atoms, as rock salt and as caesium chloride."""
    found = {}
    for cation, anion, distance in (("Li", "Cl", 2.57), ("Na", "Cl", 2.82), ("Li", "Br", 2.75), ("Na", "Br", 2.99)):
        lattice = Lattice.cubic(2.0 * distance)
        rock_salt = Structure.from_spacegroup("Fm-3m", lattice, [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
        found[f"rock-salt-{cation}{anion}"] = rock_salt.get_primitive_structure()
        caesium_type = Structure(Lattice.cubic(1.2 * distance), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
        found[f"caesium-type-{cation}{anion}"] = caesium_type
    return found


def write_small_campaign(
    folder: Path,
    *,
    relax: bool = True,
    workers: int = 2,
    memory_limit: str = "auto",
    unit_timeout: float = 600.0,
) -> Path:
    """Write the campaign, its crystals and tables; without relaxation no model is loaded.

    Parameters
    ----------
    unit_timeout
        Seconds.
    """
    (folder / "crystals").mkdir(parents=True, exist_ok=True)
    for name, structure in small_crystals().items():
        structure.to(filename=str(folder / "crystals" / f"{name}.vasp"), fmt="poscar")
    rows = "\n".join(f"{formula},{energy}" for formula, energy in _PHASES.items())
    (folder / "phases.csv").write_text(f"formula,formation_energy_per_atom\n{rows}\n")
    rows = "\n".join(f"{element},{energy}" for element, energy in _ELEMENTS.items())
    (folder / "elements.csv").write_text(f"element,energy_per_atom\n{rows}\n")
    config = folder / "small.yaml"
    parts = {
        "relaxation": _RELAXATION if relax else "",
        "practicality": _PRACTICALITY if relax else "",
        "ranking": "" if relax else _RANKING,
    }
    config.write_text(_CONFIG.format(workers=workers, memory_limit=memory_limit, unit_timeout=unit_timeout, **parts))
    return config


def run_command(config: Path) -> list[str]:
    """The command line that runs a campaign in this interpreter."""
    return [sys.executable, "-m", "workflows.entry", "run", str(config)]


def run_environment(folder: Path) -> dict[str, str]:
    """Variables for a run: no outside data, a cache of its own."""
    kept = {name: value for name, value in os.environ.items() if name != "IONSIEVE_DATA"}
    return {**kept, "IONSIEVE_CACHE": str(folder / "cache")}


def ids_of_rows(run: Path) -> dict[str, Counter[str]]:
    """How often each candidate is in the parts of each step."""
    found: dict[str, Counter[str]] = {}
    for part in sorted(run.glob("stages/*/*/part-*.parquet")):
        ids = pq.read_table(part, columns=["candidate_id"]).column("candidate_id").to_pylist()
        found.setdefault(part.parent.parent.name, Counter()).update(ids)
    return found


def lost_and_doubled(run: Path, undisturbed: Path) -> tuple[int, int]:
    """Rows that an undisturbed run has and this one lacks, and rows that this one has more often."""
    lost = doubled = 0
    here, there = ids_of_rows(run), ids_of_rows(undisturbed)
    for step in sorted({*here, *there}):
        mine, theirs = here.get(step, Counter()), there.get(step, Counter())
        lost += (theirs - mine).total()
        doubled += (mine - theirs).total()
    return lost, doubled


def differing_files(run: Path, undisturbed: Path) -> list[str]:
    """Names of results that are not the same bytes in both runs."""
    return [
        name
        for name in COMPARED
        if not (run / name).exists() or (run / name).read_bytes() != (undisturbed / name).read_bytes()
    ]


def events_of(run: Path, kind: str) -> list[dict[str, Any]]:
    """Events of one kind in a run's log; lines that a kill tore are left out."""
    path = run / "log.jsonl"
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event["event"] == kind:
            found.append(event)
    return found
