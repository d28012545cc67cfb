"""Columns: declared once, in the order of the funnel, none left out, found by name."""

import importlib
import pkgutil
from collections import Counter
from itertools import groupby

import pytest

from pipeline import columns, schema
from pipeline.columns.column import Column


def test_every_declared_column_is_in_the_schema() -> None:
    modules = [importlib.import_module(f"{columns.__name__}.{m.name}") for m in pkgutil.iter_modules(columns.__path__)]
    tuples = [t for module in modules for name, t in vars(module).items() if name.isupper()]
    assert Counter(schema.COLUMNS) == Counter(c for declared in tuples for c in declared)


def test_names_are_unique() -> None:
    repeated = [name for name, n in Counter(c.name for c in schema.COLUMNS).items() if n > 1]
    assert not repeated


def test_columns_of_a_stage_stand_together() -> None:
    stages = [stage for stage, _ in groupby(c.stage for c in schema.COLUMNS)]
    assert len(stages) == len(set(stages))
    assert tuple(c for stage in stages for c in schema.columns_of(stage)) == schema.COLUMNS


def test_ranges_of_gates_are_for_numbers() -> None:
    for column in schema.COLUMNS:
        if column.gate is not None:
            assert column.dtype in ("float64", "int64"), column.name
            assert column.gate[0] < column.gate[1], column.name


@pytest.mark.parametrize(
    ("name", "stage", "unit", "meaning"),
    [
        ("reduction_limit_Li", "window", "V", "reduction_limit vs Li metal"),
        ("reaction_energy_LiCoO2", "reactivity", "eV/atom", "driving force of the reaction with LiCoO2"),
        ("reaction_energy_(NH4)2SO4", "reactivity", "eV/atom", "driving force of the reaction with (NH4)2SO4"),
        ("pass_stability", "gates", "", "passed the gates of stability"),
    ],
)
def test_derived_columns(name: str, stage: str, unit: str, meaning: str) -> None:
    found = schema.column(name)
    assert isinstance(found, Column)
    assert (found.name, found.stage, found.unit, found.meaning) == (name, stage, unit, meaning)


def test_unknown_column_is_named_with_the_place_to_declare_it() -> None:
    with pytest.raises(KeyError, match=r"'colour' is not declared in pipeline/columns/"):
        schema.column("colour")
