"""A small real campaign for the tests: CHGNet on a folder of alkali chlorides, against a table of four phases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pymatgen.core import Lattice, Structure

# Materials Project, MP2020 scheme (CC BY 4.0): formation energies and elemental references, eV/atom.
PHASES = {"LiCl": -2.1371, "NaCl": -2.1144, "MgCl2": -2.2190, "Li2MgCl4": -2.1760}
ELEMENTS = {"Li": -1.9089, "Na": -1.3225, "Mg": -1.5997, "Cl": -1.8485}

CONFIG = """\
name: tiny
mobile_ions: [Li, Na]
candidates:
  prototypes: {{source: folder, path: crystals, min_elements: 1}}
  substitution: none
potential: {{model: CHGNet}}
reference: {{source: table, path: phases.csv, elemental_references: elements.csv}}
stages:
  - stage: stability
    max_steps: 60
    chunk_size: {chunk_size}
    gates: {{energy_above_hull: {{below: {gate}}}}}
  - stage: window
  - stage: conduction
    spacing: 0.4
    write_volumes: true
  - stage: practicality
cluster: {{workers: {workers}}}
run: {{allowed_failed_share: {allowed}}}
"""


def crystals() -> dict[str, Structure]:
    """Six sound crystals of two to six atoms, and one with two atoms at the same place."""

    def cubic(a: float, *species: str) -> Structure:
        return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), list(species), [[0, 0, 0], [0.5, 0.5, 0.5]])

    found = {
        "lithium-chloride": cubic(5.13, "Li", "Cl").get_primitive_structure(),
        "sodium-chloride": cubic(5.64, "Na", "Cl").get_primitive_structure(),
        "lithium-caesium-type": Structure(Lattice.cubic(3.2), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "sodium-caesium-type": Structure(Lattice.cubic(3.4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        "layered": Structure(
            Lattice.tetragonal(3.8, 5.4),
            ["Li", "Na", "Cl", "Cl"],
            [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]],
        ),
        "inverse": Structure(
            Lattice.cubic(5.4),
            ["Li", "Li", "Mg", "Cl", "Cl", "Cl", "Cl"],
            [
                [0.5, 0, 0],
                [0, 0.5, 0],
                [0, 0, 0],
                [0.25] * 3,
                [0.75, 0.75, 0.25],
                [0.75, 0.25, 0.75],
                [0.25, 0.75, 0.75],
            ],
        ),
    }
    found["overlapping"] = Structure(Lattice.cubic(5.0), ["Li", "Cl"], [[0, 0, 0], [0, 0, 0]])
    return found


def write_campaign(
    folder: Path, *, chunk_size: int = 1, gate: float = 0.12, workers: int = 1, allowed: float = 1.0
) -> Path:
    """Write the campaign, its crystals and its tables; return the config's path."""
    (folder / "crystals").mkdir(parents=True, exist_ok=True)
    for name, structure in crystals().items():
        structure.to(filename=str(folder / "crystals" / f"{name}.vasp"), fmt="poscar")
    rows = "\n".join(f"{formula},{energy}" for formula, energy in PHASES.items())
    (folder / "phases.csv").write_text(f"formula,formation_energy_per_atom\n{rows}\n")
    rows = "\n".join(f"{element},{energy}" for element, energy in ELEMENTS.items())
    (folder / "elements.csv").write_text(f"element,energy_per_atom\n{rows}\n")
    config = folder / "tiny.yaml"
    config.write_text(CONFIG.format(chunk_size=chunk_size, gate=gate, workers=workers, allowed=allowed))
    return config


def command(*arguments: str | Path) -> list[str]:
    """The `ionsieve` command line in this interpreter."""
    return [sys.executable, "-m", "workflows.entry", *map(str, arguments)]


def environment(folder: Path) -> dict[str, str]:
    """Variables for a run: no outside data, a cache of its own."""
    kept = {k: v for k, v in os.environ.items() if k != "IONSIEVE_DATA"}
    return {**kept, "IONSIEVE_CACHE": str(folder / "cache")}


def ionsieve(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    """Events of one kind in a run's log; a last line torn by a kill is left out."""
    path = run / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    parsed = [json.loads(line) for line in lines if line.endswith("}")]
    return [event for event in parsed if event["event"] == kind]
