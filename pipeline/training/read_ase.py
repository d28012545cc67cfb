"""Labels from what ASE writes: extended XYZ and ASE databases.

Energy, forces and stress are those of the frame's calculator (eV, eV/Å, eV/Å3 and tension positive, as ASE has them).
``structure_id``, ``group``, ``label_scheme``, ``source`` and ``stress_unit`` are read from ``atoms.info`` (XYZ) or from
the row's key-value pairs and data (database).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.training.findings import Findings
from pipeline.training.labelled import STRESS_UNITS

if TYPE_CHECKING:
    import pandas as pd
    from ase import Atoms

_WORDS = ("structure_id", "group", "label_scheme", "source")
_WRITTEN = re.compile(rf"""(?:^|\s)({"|".join(_WORDS)})\s*=\s*(?:["']([^"']*)["']|([^\s"']+))""")
_DEFAULT_STRESS_UNIT = "eV/Å3"


def read_extxyz(path: Path, findings: Findings) -> pd.DataFrame | None:
    """Frames of an extended XYZ file as rows, stresses in GPa; None, with the reason in ``findings``, if broken."""

    def frames() -> Iterator[tuple[Atoms, Mapping[str, Any]]]:
        from ase.io import iread

        for atoms in iread(path, index=":", format="extxyz", properties_parser=_values):
            yield atoms, atoms.info

    return _rows(path, frames(), "extended XYZ", findings)


def _values(line: str) -> dict[str, Any]:
    """A frame's values as ASE reads them, but for names: they stay the words that are written (1_23 is no number)."""
    from ase.io.extxyz import key_val_str_to_dict

    found: dict[str, Any] = key_val_str_to_dict(line)
    for name, quoted, bare in _WRITTEN.findall(line):
        if not isinstance(found.get(name), str):
            found[name] = quoted or bare
    return found


def read_ase_database(path: Path, findings: Findings) -> pd.DataFrame | None:
    """Rows of an ASE database, stresses in GPa; None, with the reason in ``findings``, if broken."""

    def entries() -> Iterator[tuple[Atoms, Mapping[str, Any]]]:
        from ase.db import connect

        if not path.is_file():  # ASE would create it
            raise FileNotFoundError("no such file")
        with connect(path) as database:
            for row in database.select():
                yield row.toatoms(), {**row.data, **row.key_value_pairs}

    return _rows(path, entries(), "an ASE database", findings)


def _rows(
    path: Path, frames: Iterable[tuple[Atoms, Mapping[str, Any]]], kind: str, findings: Findings
) -> pd.DataFrame | None:
    import pandas as pd

    rows, units = [], {}
    n = 0
    try:
        for n, (atoms, info) in enumerate(frames, start=1):
            units[n] = str(info.get("stress_unit", _DEFAULT_STRESS_UNIT))
            rows.append(_row(path, n, atoms, info, findings))
    except Exception as error:  # ASE's readers raise whatever a broken line leads to
        findings.add(
            "broken", str(path), None, f"can't be read as {kind} after row {n}: {type(error).__name__}: {error}"
        )
        return None
    if not rows:
        findings.add("broken", str(path), None, "holds no frames")
        return None
    frame = pd.DataFrame(rows)
    if not _one_unit(path, units, findings):
        return None
    return frame.drop(columns=[name for name in frame if frame[name].isna().all() and name in (*_WORDS, "stress")])


def _row(path: Path, n: int, atoms: Atoms, info: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    """One frame; what it lacks is None, which the checks find."""
    results = atoms.calc.results if atoms.calc is not None else {}
    if not atoms.pbc.all():
        findings.add("pbc", str(path), n, f"pbc is {atoms.pbc.tolist()}; a crystal is periodic in all directions")
    stress = results.get("stress")
    if stress is not None:
        from ase.stress import voigt_6_to_full_3x3_stress

        stress = np.asarray(stress, float)
        stress = (voigt_6_to_full_3x3_stress(stress) if stress.size == 6 else stress).reshape(-1)
        stress = stress * STRESS_UNITS.get(str(info.get("stress_unit", _DEFAULT_STRESS_UNIT)), np.nan)
    row = {name: info.get(name) for name in _WORDS}
    row |= {
        "lattice": atoms.cell.array.reshape(-1),
        "atomic_numbers": atoms.numbers,
        "frac_coords": atoms.cell.scaled_positions(atoms.positions).reshape(-1) if atoms.cell.rank == 3 else None,
        "energy": results.get("energy"),
        "forces": None if "forces" not in results else np.asarray(results["forces"], float).reshape(-1),
        "stress": stress,
    }
    return row


def _one_unit(path: Path, units: Mapping[int, str], findings: Findings) -> bool:
    """Whether all rows have their stress in one unit that is known."""
    by_unit: dict[str, int] = {}
    for n, unit in units.items():
        by_unit.setdefault(unit, n)
    unknown = [unit for unit in by_unit if unit not in STRESS_UNITS]
    for unit in unknown:
        findings.add("units", str(path), by_unit[unit], f"stress_unit {unit!r} is unknown; write GPa or eV/Å3")
    if len(by_unit) > 1:
        told = ", ".join(f"{unit} (first in row {n})" for unit, n in by_unit.items())
        findings.add("units", str(path), None, f"stresses in several units: {told}; write one unit in one file")
    return not unknown and len(by_unit) == 1
