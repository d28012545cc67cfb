"""Files of labels that ``ionsieve train`` reads: Parquet or extended XYZ, told by the file's ending."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.atomic_files import write_text
from pipeline.training.read_parquet import write_parquet
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

if TYPE_CHECKING:
    import pandas as pd
    from ase import Atoms

_WORDS = ("structure_id", "group", "label_scheme", "source")


def write_extxyz(path: Path, frame: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Write labels as extended XYZ, in ASE's units (stress in eV/Å3); ``about`` goes into every frame's ``info``.

    Arguments are those of `pipeline.training.read_parquet.write_parquet`; the energies are total ones (eV).
    """
    from ase.io import write

    buffer = io.StringIO()
    write(buffer, [_atoms(row, about) for row in frame.to_dict("records")], format="extxyz")
    write_text(path, buffer.getvalue())


def _atoms(row: dict[Any, Any], about: Mapping[str, Any]) -> Atoms:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    atoms = Atoms(
        numbers=row["atomic_numbers"],
        scaled_positions=np.reshape(row["frac_coords"], (-1, 3)),
        cell=np.reshape(row["lattice"], (3, 3)),
        pbc=True,
    )
    results = {"energy": float(row["energy"]), "forces": np.reshape(row["forces"], (-1, 3))}
    if "stress" in row:
        gpa = np.reshape(row["stress"], (3, 3))
        results["stress"] = full_3x3_to_voigt_6_stress(gpa) / GPA_PER_EV_PER_ANGSTROM3
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info = {**{name: row[name] for name in _WORDS if name in row}, "labels": dict(about)}
    return atoms


WRITERS: Mapping[str, Callable[[Path, pd.DataFrame, Mapping[str, Any]], None]] = {
    ".extxyz": write_extxyz,
    ".xyz": write_extxyz,
    ".parquet": write_parquet,
}
"""By the ending of the file's name."""
