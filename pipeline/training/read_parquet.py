"""Labels from and to Parquet files with the columns of :data:`pipeline.training.labelled.LABEL_COLUMNS`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.atomic_files import write_atomically
from pipeline.schema import arrow_type
from pipeline.training.findings import Findings
from pipeline.training.labelled import LABEL_COLUMNS, LABEL_METADATA_KEY, STRESS_UNITS

if TYPE_CHECKING:
    import pandas as pd

_NEEDED = ("lattice", "atomic_numbers", "frac_coords", "forces")
_BY_NAME = {column.name: column for column in LABEL_COLUMNS}


def read_parquet(path: Path, findings: Findings) -> pd.DataFrame | None:
    """Rows of a Parquet file, stresses in GPa; None, with the reason in ``findings``, if it can't be read.

    Units are those of the fields' metadata; where a field declares none they are taken as in the list of columns,
    except for the stress, which must declare its own (GPa, or eV/Å3).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        findings.add("broken", str(path), None, f"can't be read as Parquet: {str(error).splitlines()[0]}")
        return None
    missing = [name for name in _NEEDED if name not in table.column_names]
    if "energy" not in table.column_names and "energy_per_atom" not in table.column_names:
        missing.append("energy (or energy_per_atom)")
    if missing:
        findings.add("columns", str(path), None, f"has no column {', '.join(missing)}; see docs/training.md")
        return None
    wrong = [name for name in table.column_names if name in _BY_NAME and not _castable(table, name, findings, path)]
    factor = _stress_factor(table, path, findings)
    if wrong or factor is None:
        return None
    present = [name for name in _BY_NAME if name in table.column_names]
    cast = {name: table.column(name).cast(arrow_type(_BY_NAME[name].dtype)) for name in present}
    frame: pd.DataFrame = pa.table(cast).to_pandas()
    if "stress" in frame:
        frame["stress"] = [None if value is None else value * factor for value in frame["stress"]]
    return frame


def _castable(table: Any, name: str, findings: Findings, path: Path) -> bool:
    """Whether a column has its declared type and unit."""
    import pyarrow as pa

    field, declared = table.schema.field(name), _BY_NAME[name]
    try:
        table.column(name).cast(arrow_type(declared.dtype))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        findings.add("types", str(path), None, f"column {name} must hold {declared.dtype}, has {field.type}: {error}")
        return False
    unit = (field.metadata or {}).get(b"unit", b"").decode()
    if unit and name != "stress" and unit != declared.unit:
        findings.add("units", str(path), None, f"column {name} must be in {declared.unit}, declares {unit}")
        return False
    return True


def _stress_factor(table: Any, path: Path, findings: Findings) -> float | None:
    """GPa in the declared unit of the column ``stress``; 1 without the column, None if it isn't known."""
    if "stress" not in table.column_names:
        return 1.0
    unit = (table.schema.field("stress").metadata or {}).get(b"unit", b"").decode()
    if unit not in STRESS_UNITS:
        said = f"declares {unit!r}" if unit else "declares no unit"
        findings.add(
            "units", str(path), None, f"column stress {said}; its field's metadata must say unit = GPa or eV/Å3"
        )
        return None
    return STRESS_UNITS[unit]


def write_parquet(path: Path, frame: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Write a file of labels: columns as declared, units in the fields' metadata, ``about`` as JSON in the file's.

    Parameters
    ----------
    path : Path
        Replaced at once, when complete.
    frame : DataFrame
        Any of ``LABEL_COLUMNS``, in their units (stress in GPa, tension positive).
    about : mapping
        Of JSON's types: teacher, licence, versions.

    Raises
    ------
    ValueError
        A column that isn't declared, or a value that doesn't fit.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    unknown = [str(name) for name in frame.columns if name not in _BY_NAME]
    if unknown:
        raise ValueError(f"no column of labels: {', '.join(unknown)}; there are {', '.join(_BY_NAME)}")
    present = [column for column in LABEL_COLUMNS if column.name in frame.columns]
    fields = [
        pa.field(c.name, arrow_type(c.dtype), metadata={"unit": c.unit, "meaning": c.meaning} if c.unit else None)
        for c in present
    ]
    try:
        arrays = [pa.array(frame[f.name].tolist(), type=f.type) for f in fields]
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"labels do not fit their columns: {error}") from None
    metadata = {LABEL_METADATA_KEY: json.dumps(dict(about), ensure_ascii=False).encode()}
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))
    write_atomically(path, lambda stream: pq.write_table(table, stream, compression="zstd"))
