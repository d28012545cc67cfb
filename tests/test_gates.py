"""Gates compare as they say, and nothing that is missing passes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gates import Gate

VALUES = pd.Series([0.0, 0.05, 0.1, np.nan, None], dtype=object)


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ({"below": 0.05}, [True, False, False, False, False]),
        ({"at_most": 0.05}, [True, True, False, False, False]),
        ({"above": 0.05}, [False, False, True, False, False]),
        ({"at_least": 0.05}, [False, True, True, False, False]),
        ({"above": 0.0, "below": 0.1}, [False, True, False, False, False]),
    ],
)
def test_bounds(bound: dict[str, float], expected: list[bool]) -> None:
    assert Gate(**bound).passes(VALUES).tolist() == expected


def test_boolean_column() -> None:
    assert Gate(equals=False).passes(pd.Series([True, False, None], dtype=object)).tolist() == [False, True, False]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True)), st.floats(-10, 10))
def test_below_and_at_least_split_the_numbers(numbers: list[float], bound: float) -> None:
    values = pd.Series(numbers, dtype=float)
    below, rest = Gate(below=bound).passes(values), Gate(at_least=bound).passes(values)
    assert ((below ^ rest) == ~np.isnan(values.to_numpy())).all()


def test_text_carries_the_unit() -> None:
    assert Gate(above=3.0).text("band_gap", "eV") == "band_gap > 3 eV"
