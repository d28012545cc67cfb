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
_MARGIN = 0.12
"""Of 1000 / T, in 1/K, beyond the outermost temperatures."""


def arrhenius_figure(row: dict[str, str]) -> dict[str, Any] | None:
    """Logarithm of the tracer diffusivity against 1000 / T; None where there was no dynamics, or it can't be read.

    The line has the activation energy of the table, and the prefactor that is most likely for it by the points. Its
    interval at 300 K is that of the conductivity, which is in proportion to it.
    """
    try:
        points = read_series(row.get("md_series", ""))
    except ValueError:
        return None
    crystal = [p for p in points if p.framework != "diffusing"]
    kinds = (
        ("measured", [p for p in crystal if not p.is_upper_bound], {"color": BLUE, "size": 9}),
        (
            "upper bound",
            [p for p in crystal if p.is_upper_bound],
            {"color": ORANGE, "size": 13, "symbol": "arrow-down"},
        ),
        (
            "framework molten: left out",
            [p for p in points if p.framework == "diffusing"],
            {"color": GREY, "symbol": "x"},
        ),
    )
    traces = [_points_trace(name, members, marker) for name, members, marker in kinds if members]
    line = _line_traces(row, crystal)
    coldest = _ROOM if line else min(p.temperature for p in points)
    hottest = max(p.temperature for p in points)
    return {"data": [*line, *traces], "layout": _layout(1000.0 / hottest, 1000.0 / coldest)}


def _points_trace(name: str, points: list[SeriesPoint], marker: dict[str, Any]) -> dict[str, Any]:
    trace = {
        "type": "scatter",
        "mode": "markers",
        "xaxis": "x2",
        "name": name,
        "x": [_inverse(p.temperature) for p in points],
        "y": [p.diffusivity for p in points],
        "text": [str(p) for p in points],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": marker,
    }
    if not all(p.is_upper_bound for p in points):
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [p.interval[1] - p.diffusivity for p in points],
            "arrayminus": [0.0 if p.is_upper_bound else p.diffusivity - p.interval[0] for p in points],
        }
    return trace


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
    return [
        _line_trace(f"fit, {energy:.3f} eV", "solid", hottest, coldest),
        _line_trace("", "dash", coldest, room),
        _room_trace(row, room[1]),
    ]


def _line_trace(name: str, dash: str, *ends: tuple[float, float]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [_inverse(temperature) for temperature, _ in ends],
        "y": [_rounded(diffusivity) for _, diffusivity in ends],
        "line": {"color": BLUE, "width": 2, "dash": dash},
        "hoverinfo": "skip",
        "showlegend": bool(name),
    }


def _room_trace(row: dict[str, str], diffusivity: float) -> dict[str, Any]:
    """The line's end at 300 K with the relative interval of the conductivity there."""
    names = ("conductivity_md_300K", "conductivity_md_300K_low", "conductivity_md_300K_high")
    value, low, high = (number_in(row, name) for name in names)
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": "extrapolated to 300 K",
        "x": [_inverse(_ROOM)],
        "y": [_rounded(diffusivity)],
        "marker": {"color": "white", "size": 11, "symbol": "diamond", "line": {"color": VERMILION, "width": 2}},
        "hovertemplate": f"300 K, extrapolated: {diffusivity:.1e} cm²/s<extra></extra>",
    }
    if value and low is not None and high is not None:
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [_rounded(diffusivity * (high / value - 1.0))],
            "arrayminus": [_rounded(diffusivity * (1.0 - low / value))],
            "color": VERMILION,
        }
        told = f"{value:.2e} S/cm ({low:.1e} to {high:.1e})"
        trace["hovertemplate"] = f"300 K, extrapolated: {diffusivity:.1e} cm²/s, {told}<extra></extra>"
    return trace


def _layout(left: float, right: float) -> dict[str, Any]:
    extent = [left - _MARGIN, right + _MARGIN]
    ticks = [t for t in _TICKS if extent[0] < 1000.0 / t < extent[1]]
    return {
        "height": 390,
        "margin": {"l": 70, "r": 15, "t": 60, "b": 45},
        "xaxis": {"title": {"text": "1000 / T (1/K)"}, "range": extent},
        "xaxis2": {
            "title": {"text": "T (K)"},
            "overlaying": "x",
            "side": "top",
            "range": extent,
            "matches": "x",
            "tickvals": [1000.0 / t for t in ticks],
            "ticktext": [str(t) for t in ticks],
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
