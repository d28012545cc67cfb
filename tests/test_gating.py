"""Each rejected row has one reason, the first that it meets."""

import numpy as np
import pandas as pd

from pipeline.gates import Gate
from pipeline.settings import WindowSettings
from workflows.gating import possible_reasons, reasons_of

GATES = {"reduction_limit": Gate(below=1.0), "oxidation_limit": Gate(above=3.0)}


def test_first_reason_in_the_order_of_the_gates() -> None:
    table = pd.DataFrame(
        {
            "window_status": ["ok", "ok", "ok", "ok", "failed", "ok"],
            "reduction_limit": [0.5, 1.5, np.nan, 0.5, np.nan, 2.0],
            "oxidation_limit": [4.0, 2.0, 2.0, 3.0, np.nan, np.nan],
        }
    )
    settings = WindowSettings(stage="window", gates=GATES)
    expected = ["", "reduction_limit", "reduction_limit missing", "oxidation_limit", "failed", "reduction_limit"]
    assert reasons_of(settings, table).tolist() == expected
    lenient = WindowSettings(stage="window", gates=GATES, required=False)
    assert reasons_of(lenient, table).tolist() == [r.replace("failed", "reduction_limit missing") for r in expected]
    assert set(expected) - {""} <= set(possible_reasons(settings))
    assert "failed" not in possible_reasons(lenient)


def test_a_stage_that_left_no_column_rejects_all_as_missing() -> None:
    table = pd.DataFrame({"window_status": ["ok", "ok"]}, index=[7, 3])
    reasons = reasons_of(WindowSettings(stage="window", gates=GATES), table)
    assert reasons.to_dict() == {7: "reduction_limit missing", 3: "reduction_limit missing"}


def test_no_gate_and_no_row() -> None:
    table = pd.DataFrame({"window_status": pd.Series(dtype=object)})
    assert len(reasons_of(WindowSettings(stage="window", gates=GATES), table)) == 0
    assert possible_reasons(WindowSettings(stage="window", required=False)) == []
