"""Rows of a stage: crystals in, columns with status and error out. A row that fails is data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pipeline import schema
from pipeline.atomic_files import is_storage_trouble
from pipeline.broken_device import is_broken_device
from pipeline.crystal import has_structure, structure_from_row

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure

# Atoms nearer than this are one position written twice; no potential was trained there.
COINCIDENT = 0.1
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Failure:
    """What went wrong with one row."""

    error: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Write an exception as ``<type>: <message>``, on one line."""
        return cls(f"{type(error).__name__}: {' '.join(str(error).split())}")


def attempt(function: Callable[..., R], *arguments: Any) -> R | Failure:
    """Call a function for one row; what it raises is that row's failure, but for a full disk or a broken GPU."""
    try:
        return function(*arguments)
    except Exception as error:  # the row carries it to the funnel's count of failures: nothing is swallowed
        if is_storage_trouble(error) or is_broken_device(error):
            raise
        return Failure.of(error)


def attempt_batch(function: Callable[[list[T]], Sequence[R]], items: Sequence[T | Failure]) -> list[R | Failure]:
    """Call a batched function on the items that are no failures; when the batch raises, on each of them alone.

    Parameters
    ----------
    function
        Takes n items and returns n results.
    items
        Inputs; failures are passed through.

    Returns
    -------
    list
        A result or failure for each item, in order.
    """
    good = [i for i, item in enumerate(items) if not isinstance(item, Failure)]
    results: list[R | Failure] = [item if isinstance(item, Failure) else Failure("") for item in items]
    if not good:
        return results
    batch: list[T] = [item for item in items if not isinstance(item, Failure)]
    together = attempt(function, batch)
    if isinstance(together, Failure) or len(together) != len(batch):
        for i, item in zip(good, batch, strict=True):
            alone = attempt(function, [item])
            results[i] = alone if isinstance(alone, Failure) else alone[0]
        return results
    for i, result in zip(good, together, strict=True):
        results[i] = result
    return results


def rows_with_crystals(part: pd.DataFrame, refs: Any) -> list[Mapping[Any, Any] | Failure]:
    """Rows as mappings that carry a crystal; built from the prototype where there is none yet.

    A row whose relaxation failed is left without: later stages must not take the unrelaxed crystal for it.
    """
    rows: list[Mapping[Any, Any] | Failure] = list(part.to_dict("records"))
    missing = [
        i
        for i, row in enumerate(rows)
        if not isinstance(row, Failure) and not has_structure(row) and row.get("stability_status") != "failed"
    ]
    if missing:
        from pipeline.stages.candidates import with_structures

        library = refs.library
        built = attempt_batch(lambda places: with_structures(part.iloc[places], library).to_dict("records"), missing)
        for i, row in zip(missing, built, strict=True):
            rows[i] = row
    return rows


def crystals(part: pd.DataFrame, refs: Any) -> list[Structure | Failure]:
    """Make the checked crystal of every row."""
    return [
        row if isinstance(row, Failure) else attempt(checked_structure, row) for row in rows_with_crystals(part, refs)
    ]


def checked_structure(row: Mapping[Any, Any]) -> Structure:
    """Make a row's crystal, fit to be given to a model.

    Raises
    ------
    ValueError
        When coordinates or lattice are not finite, the cell has no volume, or two atoms share a place.
    """
    if not has_structure(row):
        raise ValueError(f"row {row.get('candidate_id', '?')!r} carries no crystal")
    numbers = np.concatenate([np.asarray(row[name], dtype=float) for name in ("lattice", "frac_coords")])
    if not np.all(np.isfinite(numbers)):
        raise ValueError("lattice or coordinates are not finite numbers")
    if abs(np.linalg.det(np.asarray(row["lattice"], dtype=float).reshape(3, 3))) < 1e-3:
        raise ValueError("the cell has no volume")
    structure = structure_from_row(row)
    first, second, _, distances = structure.get_neighbor_list(COINCIDENT)
    if len(distances):
        a, b = structure[int(first[0])], structure[int(second[0])]
        raise ValueError(
            f"atoms {int(first[0])} ({a.specie}) and {int(second[0])} ({b.specie}) are {distances[0]:.3f} Å apart"
        )
    return structure


def with_columns(
    part: pd.DataFrame,
    stage: str,
    records: Sequence[Mapping[str, Any] | Failure],
    more: Sequence[str] = (),
) -> pd.DataFrame:
    """Add a stage's declared columns, and ``more`` declared ones, to a copy of the part.

    Parameters
    ----------
    part
        n rows; order and index are kept.
    stage
        Name of the stage, whose columns `pipeline.schema` declares.
    records
        n mappings of column to value, or failures. A column that a record leaves out is missing there (NaN, None,
        an empty word). ``<stage>_status`` is ok unless the record sets it.
    more
        Further columns, such as ``reduction_limit_Li``.
    """
    import pandas as pd

    declared = [*schema.columns_of(stage), *(schema.column(name) for name in more)]
    rows: list[Mapping[str, Any]] = [
        {f"{stage}_status": "failed", f"{stage}_error": record.error}
        if isinstance(record, Failure)
        else {f"{stage}_status": "ok", **record}
        for record in records
    ]
    result = part.copy()
    for column in declared:
        values = [row.get(column.name) for row in rows]
        if column.dtype == "float64":
            data: Any = np.array([np.nan if v is None else v for v in values], dtype=float)
        elif column.dtype == "int64":
            data = pd.array(values, dtype="Int64")
        else:
            if column.dtype == "string":
                values = ["" if v is None else v for v in values]
            data = np.empty(len(values), dtype=object)
            for i, value in enumerate(values):  # lists of one length would be taken for a table
                data[i] = value
        result[column.name] = pd.Series(data, index=part.index)
    return result


def phases_text(fractions: Mapping[str, float]) -> str:
    """Write phases and their atom fractions: ``LiCl 0.60; YCl3 0.40``."""
    return "; ".join(f"{formula} {fraction:.2f}" for formula, fraction in fractions.items())
