"""The series of temperatures as text: what was written is read back, anything else is refused."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.diffusion.arrhenius import Arrhenius
from pipeline.diffusion.diffusivity import Diffusivity
from pipeline.diffusion.series import SeriesPoint, TemperatureSeries, read_series, temperature_series
from pipeline.units import BOLTZMANN

SERIES = (
    SeriesPoint(600.0, 2.3e-8, (0.0, 2.3e-8), True, 0, "solid"),
    SeriesPoint(725.5, 1.2e-6, (8e-7, 1.9e-6), False, 40, "displaced"),
    SeriesPoint(900.0, 1.1e-4, (9e-5, 1.3e-4), False, 1207, "diffusing"),
)


def test_a_series_that_was_told_is_read_back() -> None:
    text = "; ".join(map(str, SERIES))
    assert text.startswith("600 K <2.3e-08, 0 hops; 725.5 K 1.2e-06 (8.0e-07 to 1.9e-06), 40 hops, framework displaced")
    assert tuple(read_series(text)) == SERIES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no temperature"),
        ("600 K fast, 3 hops", "'600 K fast, 3 hops' is no temperature"),
        ("600 K <1.0e-08, 0 hops; 700 K", "'700 K' is no temperature"),
        ("600 K <1.0e-08, 0 hops, framework gone", "is no temperature"),
        ("600 K 1.0e-06 (2.0e-06 to 3.0e-06), 40 hops", "positive and in order"),
        ("600 K 1.0e-06 (0.0e+00 to 3.0e-06), 40 hops", "positive and in order"),
        ("0 K <1.0e-06, 0 hops", "positive and in order"),
    ],
)
def test_a_series_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_series(text)


def test_temperatures_above_a_molten_one_are_left_out() -> None:
    """A hotter run may be too short to show that its framework diffuses."""

    def run(temperature: float, verdict: str) -> Any:
        value = 1e-3 * np.exp(-0.3 / (BOLTZMANN * temperature))
        tracer = Diffusivity("tracer", value, (value / 1.5, value * 1.5), False, 50, 50.0, (1.0, 2.0), 0.0)
        analysis = SimpleNamespace(
            temperature=temperature, framework=SimpleNamespace(verdict=verdict), tracer=tracer, weighted_tracer=tracer
        )
        return SimpleNamespace(analysis=analysis)

    cell: Any = SimpleNamespace(key="x")
    kinds = {500.0: "solid", 600.0: "displaced", 700.0: "solid", 800.0: "diffusing", 1000.0: "displaced"}
    series = temperature_series(cell, [run(t, kind) for t, kind in kinds.items()])
    assert series.molten == (800.0, 1000.0)
    assert series.hottest is not None
    assert series.hottest.analysis.temperature == 700.0
    assert series.arrhenius is not None
    assert series.arrhenius.temperatures == (500.0, 600.0, 700.0)
    assert series.notes[:2] == (
        "800 K: the framework diffuses; left out",
        "1000 K: left out, since the framework diffuses at 800 K",
    )


def test_a_conductivity_is_as_reliable_as_its_own_fit() -> None:
    """Ions of several charges: few hops of the highly charged one may make the conductivity, many of the others D."""
    fit = Arrhenius(
        "tracer",
        0.2,
        (0.1, 0.3),
        1e-3,
        (1e-4, 1e-2),
        np.eye(2),
        (600.0, 800.0, 1000.0),
        0,
        1.0,
        True,
        ("said of both",),
    )
    weighted = replace(fit, is_reliable=False, notes=("said of both", "too few hops at 600 K"))
    assert TemperatureSeries(None, (), (), None, fit, fit).is_reliable  # type: ignore[arg-type]
    series = TemperatureSeries(None, (), (), None, fit, weighted)  # type: ignore[arg-type]
    assert not series.is_reliable
    assert series.notes == ("said of both", "conductivity: too few hops at 600 K")
    alone = TemperatureSeries(None, (), (), None, fit, None)  # type: ignore[arg-type]
    assert not alone.is_reliable
    assert alone.notes[-1] == "fewer than two diffusivities weighted by charges: no conductivity at 300 K"
