"""Every column that ionsieve writes, in order; `pipeline/columns/` declares them, each once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from pipeline.columns.candidates import CANDIDATES
from pipeline.columns.column import Column, status_columns
from pipeline.columns.electrochemistry import BAND_GAP, CONDUCTION, REACTIVITY, WINDOW
from pipeline.columns.ranking import PRACTICALITY, RANKING
from pipeline.columns.stability import ESTIMATE, STABILITY
from pipeline.columns.validation import DFT, DYNAMICS, ELASTICITY

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "COLUMNS",
    "POSITION",
    "Column",
    "arrow_fields",
    "arrow_type",
    "column",
    "columns_of",
    "position",
    "to_arrow",
]

COLUMNS: tuple[Column, ...] = (
    *CANDIDATES,
    *ESTIMATE,
    *STABILITY,
    *BAND_GAP,
    *WINDOW,
    *REACTIVITY,
    *CONDUCTION,
    *ELASTICITY,
    *DYNAMICS,
    *PRACTICALITY,
    *DFT,
    *RANKING,
)

_BY_NAME = {column.name: column for column in COLUMNS}
POSITION = {column.name: i for i, column in enumerate(COLUMNS)}


def column(name: str) -> Column:
    """Look a column up; KeyError names it when it is not declared."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("competing_phases_"):
        return next(c for c in status_columns("competing_phases") if c.name == name)
    head, _, tail = name.rpartition("_")
    base = _BY_NAME.get(head)
    if base is not None and head in ("reduction_limit", "oxidation_limit") and tail.isalpha():
        return Column(name, base.dtype, base.unit, base.stage, f"{head} vs {tail} metal", base.gate)
    if base is not None and head == "reaction_energy" and (tail[:1].isupper() or tail[:1] in "(["):
        return Column(name, base.dtype, base.unit, base.stage, f"driving force of the reaction with {tail}", base.gate)
    if name.startswith("pass_"):
        return Column(name, "bool", "", "gates", f"passed the gates of {name[5:]}")
    raise KeyError(f"column {name!r} is not declared in pipeline/columns/")


# Relaxing the competing phases gives the columns of stability that need no hull.
_COMPETING_PHASES = (
    "lattice",
    "atomic_numbers",
    "frac_coords",
    "oxidation_states",
    "energy_per_atom",
    "relaxation_steps",
    "relaxation_converged",
    "max_force",
    "surrogate",
    "surrogate_sha256",
)


def position(name: str) -> tuple[int, str]:
    """Sort key: a column's place among all, columns of one ion after the column that they refine."""
    return POSITION.get(name, POSITION.get(name.rpartition("_")[0], len(POSITION))), name


def columns_of(stage: str) -> tuple[Column, ...]:
    """Columns that a stage produces, in order."""
    if stage == "competing_phases":
        return (*(_BY_NAME[name] for name in _COMPETING_PHASES), *status_columns(stage))
    return tuple(c for c in COLUMNS if c.stage == stage)


def arrow_type(dtype: str) -> pa.DataType:
    """Arrow type of a declared dtype."""
    import pyarrow as pa

    plain = {"string": pa.string(), "bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64()}
    if dtype.startswith("list<"):
        return pa.list_(plain[dtype[5:-1]])
    return plain[dtype]


def arrow_fields(names: Iterable[str]) -> list[pa.Field]:
    """Arrow fields of the named columns, each with its unit and meaning."""
    return list(map(_arrow_field, names))


@cache
def _arrow_field(name: str) -> pa.Field:
    import pyarrow as pa

    declared = column(name)
    metadata = {"unit": declared.unit, "meaning": declared.meaning}
    return pa.field(declared.name, arrow_type(declared.dtype), metadata=metadata)


def to_arrow(table: pd.DataFrame, names: Iterable[str]) -> pa.Table:
    """Convert the named columns to Arrow with their declared types.

    Raises
    ------
    ValueError
        When a column is missing, or a value does not fit its declared type; the message names the column.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    arrays, fields = [], arrow_fields(names)
    for name in (f.name for f in fields):
        declared = column(name)
        if name not in table.columns:
            raise ValueError(f"column {name!r} of stage {declared.stage} is missing from the table")
        kind = arrow_type(declared.dtype)
        values = [
            v if isinstance(v, (list, tuple, np.ndarray)) or not pd.isna(v) else None for v in table[name].tolist()
        ]
        if declared.dtype == "float64":
            values = [float("nan") if v is None else float(v) for v in values]
        try:
            arrays.append(pa.array(values, type=kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError) as error:
            raise ValueError(f"column {name!r} must hold {declared.dtype}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
