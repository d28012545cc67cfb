"""Diffusivities of one candidate by molecular dynamics against temperature, with the line that leads to 300 K."""

from __future__ import annotations

import math
from typing import Any

from pipeline.diffusion.arrhenius import prefactor_at
from pipeline.diffusion.series import SeriesPoint, read_series
from pipeline.units import BOLTZMANN
from workflows.report.palette import BLUE, GREY, ORANGE, VERMILION
from workflows.report.wording import number_in

_ROOM = 300.0
_TICKS = (300, 400, 500, 600, 700, 800, 1000, 1200, 1500, 2000)
LOOK = "arrhenius"
_MARGIN = 0.12
"""Of 1000 / T, in 1/K, beyond the outermost temperatures."""


def arrhenius_figure(row: dict[str, str]) -> dict[str, Any] | None:
    """Logarithm of the tracer diffusivity against 1000 / T; None where there was no dynamics, or it can't be read.

    The line has the activation energy of the table, and the prefactor that is most likely for it by the points. Its
    interval at 300 K is the conductivity's relative one: the same where all mobile ions have one charge.
    """
    try:
        points = read_series(row.get("md_series", ""))
    except ValueError:
        return None
    melts_at = min((p.temperature for p in points if p.framework == "diffusing"), default=math.inf)
    crystal = [p for p in points if p.temperature < melts_at]
    kinds = (
        ("measured", [p for p in crystal if not p.is_upper_bound]),
        ("bound", [p for p in crystal if p.is_upper_bound]),
        ("molten", [p for p in points if p.temperature >= melts_at]),
    )
    traces = [_points_trace(kind, members) for kind, members in kinds if members]
    line = _line_traces(row, crystal)
    coldest = _ROOM if line else min(p.temperature for p in points)
    hottest = max(p.temperature for p in points)
    extent = [round(1000.0 / hottest - _MARGIN, 4), round(1000.0 / coldest + _MARGIN, 4)]
    return {"look": LOOK, "data": [*line, *traces], "layout": {"xaxis": {"range": extent}}}


def look() -> dict[str, Any]:
    """What all Arrhenius plots of a page share."""
    markers = {
        "measured": ("measured", {"color": BLUE, "size": 9}),
        "bound": ("upper bound", {"color": ORANGE, "size": 13, "symbol": "arrow-down"}),
        "molten": ("framework molten: left out", {"color": GREY, "symbol": "x"}),
    }
    errors = {"type": "data", "symmetric": False}
    points = {
        "type": "scatter",
        "mode": "markers",
        "xaxis": "x2",
        "hovertemplate": "%{text}<extra></extra>",
        "error_y": errors,
    }
    line = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    return {
        "traces": {
            **{kind: {**points, "name": name, "marker": marker} for kind, (name, marker) in markers.items()},
            "fit": {**line, "line": {"color": BLUE, "width": 2}},
            "to 300 K": {**line, "line": {"color": BLUE, "width": 2, "dash": "dash"}, "showlegend": False},
            "at 300 K": {
                "type": "scatter",
                "mode": "markers",
                "name": "extrapolated to 300 K",
                "marker": {"color": "white", "size": 11, "symbol": "diamond", "line": {"color": VERMILION, "width": 2}},
                "hovertemplate": "300 K, extrapolated: %{text}<extra></extra>",
                "error_y": {**errors, "color": VERMILION},
            },
        },
        "layout": _layout(),
    }


def _points_trace(kind: str, points: list[SeriesPoint]) -> dict[str, Any]:
    trace = {
        "like": kind,
        "x": [_inverse(p.temperature) for p in points],
        "y": [p.diffusivity for p in points],
        "text": [str(p) for p in points],
    }
    if not all(p.is_upper_bound for p in points):
        trace["error_y"] = _errors(
            [p.interval[1] - p.diffusivity for p in points],
            [0.0 if p.is_upper_bound else p.diffusivity - p.interval[0] for p in points],
        )
    return trace


def _errors(above: list[float], below: list[float]) -> dict[str, Any]:
    return {"array": [_rounded(error) for error in above], "arrayminus": [_rounded(error) for error in below]}


def _line_traces(row: dict[str, str], points: list[SeriesPoint]) -> list[dict[str, Any]]:
    """The fitted line between its temperatures, and dashed from there to 300 K; none without an activation energy."""
    energy = number_in(row, "md_activation_energy")
    if energy is None or all(p.is_upper_bound for p in points):
        return []
    temperatures = [p.temperature for p in points]
    prefactor = prefactor_at(
        energy,
        temperatures,
        [p.interval for p in points],
        [p.diffusivity for p in points],
        [p.is_upper_bound for p in points],
    )
    hottest, coldest, room = (
        (t, prefactor * math.exp(-energy / (BOLTZMANN * t))) for t in (max(temperatures), min(temperatures), _ROOM)
    )
    fit = {**_line_trace("fit", hottest, coldest), "name": f"fit, {energy:.3f} eV"}
    return [fit, _line_trace("to 300 K", coldest, room), _room_trace(row, room[1])]


def _line_trace(kind: str, *ends: tuple[float, float]) -> dict[str, Any]:
    return {
        "like": kind,
        "x": [_inverse(temperature) for temperature, _ in ends],
        "y": [_rounded(diffusivity) for _, diffusivity in ends],
    }


def _room_trace(row: dict[str, str], diffusivity: float) -> dict[str, Any]:
    """The line's end at 300 K with the relative interval of the conductivity there."""
    names = ("conductivity_md_300K", "conductivity_md_300K_low", "conductivity_md_300K_high")
    value, low, high = (number_in(row, name) for name in names)
    trace: dict[str, Any] = {"like": "at 300 K", "x": [_inverse(_ROOM)], "y": [_rounded(diffusivity)]}
    told = f"{diffusivity:.1e} cm²/s"
    if value and low is not None and high is not None:
        trace["error_y"] = _errors([diffusivity * (high / value - 1.0)], [diffusivity * (1.0 - low / value)])
        told += f", {value:.2e} S/cm ({low:.1e} to {high:.1e}), whose relative interval is drawn"
    return {**trace, "text": [told]}


def _layout() -> dict[str, Any]:
    return {
        "height": 390,
        "margin": {"l": 70, "r": 15, "t": 60, "b": 45},
        "xaxis": {"title": {"text": "1000 / T (1/K)"}},
        "xaxis2": {
            "title": {"text": "T (K)"},
            "overlaying": "x",
            "side": "top",
            "matches": "x",
            "tickvals": [_inverse(t) for t in _TICKS],
            "ticktext": [str(t) for t in _TICKS],
            "showgrid": False,
        },
        "yaxis": {
            "title": {"text": "tracer diffusivity (cm²/s)"},
            "type": "log",
            "exponentformat": "power",
            "dtick": 1,
        },
        "legend": {"x": 1, "y": 1, "xanchor": "right", "yanchor": "top", "bgcolor": "rgba(255,255,255,0.8)"},
    }


def _inverse(temperature: float) -> float:
    return round(1000.0 / temperature, 6)


def _rounded(number: float) -> float:
    return float(f"{number:.5g}")
