"""Figures of one candidate, as plotly's JSON: its electrochemical window, its voltage profile, its barriers.

They are plain dictionaries, since building thousands of checked ``plotly.graph_objects`` would take minutes.
"""

from __future__ import annotations

from typing import Any

from pipeline.config import Campaign
from workflows.report.palette import BLUE, GREY, ORANGE, VERMILION
from workflows.report.wording import VoltageProfile, number_in, voltage_profiles

WINDOW, PROFILED, BARRIERS = "window", "window and profile", "barriers"
"""Looks."""

_BARRIERS = ("migration_barrier_1d", "migration_barrier_2d", "migration_barrier_3d")
_OF_PROFILES = ((ORANGE, "solid"), (VERMILION, "dash"), (GREY, "dot"), (BLUE, "dashdot"))
_MARGIN = 0.5
"""Volts shown beyond the outermost limit or step."""

_LABEL = 12
"""Size of a bar's label, px."""

_ROOM = 0.4
"""Share of the axis that a label takes on a telephone; a narrower bar has it beside itself."""


def window_figure(row: dict[str, str], campaign: Campaign) -> dict[str, Any] | None:
    """Bars from reduction to oxidation limit against each metal, and below them the voltage profiles."""
    electrodes = [s.reference_electrode for s in campaign.stages if s.stage == "window" and s.reference_electrode]
    bars = [
        (ion, low, high)
        for ion in dict.fromkeys([*campaign.mobile_ions, *electrodes])
        if (low := number_in(row, f"reduction_limit_{ion}")) is not None
        and (high := number_in(row, f"oxidation_limit_{ion}")) is not None
    ]
    if not bars:
        low, high = number_in(row, "reduction_limit"), number_in(row, "oxidation_limit")
        if low is None or high is None:
            return None
        bars = [("", low, high)]
    profiles = voltage_profiles(row.get("voltage_profile", ""))
    voltages = [v for _, low, high in bars for v in (low, high)] + [v for p in profiles for v in p.voltages]
    extent = [round(min(0.0, *voltages) - 0.2, 3), round(max(voltages) + _MARGIN, 3)]
    narrow = [bar for bar in bars if bar[2] - bar[1] < _ROOM * (extent[1] - extent[0])]
    bar = {
        "like": "window",
        "y": [_against(ion) for ion, _, _ in bars],
        "base": [low for _, low, _ in bars],
        "x": [round(high - low, 6) for _, low, high in bars],
        "customdata": [[low, high] for _, low, high in bars],
        "text": ["" if bar in narrow else _range(bar) for bar in bars],
    }
    layout = {"height": 150 + 30 * len(bars) + (220 if profiles else 0), "xaxis": {"range": extent}}
    lines = [_profile_trace(profile, i, extent) for i, profile in enumerate(profiles[: len(_OF_PROFILES)])]
    return {"look": PROFILED if profiles else WINDOW, "data": [bar, *_beside(narrow, extent), *lines], "layout": layout}


def _range(bar: tuple[str, float, float]) -> str:
    return f"{bar[1]:.2f} – {bar[2]:.2f} V"


def _beside(bars: list[tuple[str, float, float]], extent: list[float]) -> list[dict[str, Any]]:
    """Labels of bars that are too narrow for them, on the side with more room."""
    if not bars:
        return []
    left = [low - extent[0] > extent[1] - high for _, low, high in bars]
    return [
        {
            "like": "beside",
            "y": [_against(ion) for ion, _, _ in bars],
            "x": [low if on_left else high for on_left, (_, low, high) in zip(left, bars, strict=True)],
            "text": [f"\u00a0{_range(bar)}\u00a0" for bar in bars],
            "textposition": ["middle left" if on_left else "middle right" for on_left in left],
        }
    ]


def _profile_trace(profile: VoltageProfile, place: int, extent: list[float]) -> dict[str, Any]:
    return {
        "like": f"profile {place}",
        "x": [extent[0], *profile.voltages, extent[1]],
        "y": [*profile.contents, profile.contents[-1]],
        "name": f"{profile.ion} in a formula unit",
        "hovertemplate": "%{y} " + profile.ion + " from %{x:.2f} V<extra></extra>",
    }


def window_looks(campaign: Campaign) -> dict[str, dict[str, Any]]:
    """What the windows of a page share, with voltage profiles below them and without."""
    traces: dict[str, Any] = {
        "window": {
            "type": "bar",
            "orientation": "h",
            "hovertemplate": "%{customdata[0]:.3f} to %{customdata[1]:.3f} V<extra></extra>",
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "constraintext": "none",
            "textfont": {"color": "white", "size": _LABEL},
            "marker": {"color": BLUE},
            "width": 0.5,
            "showlegend": False,
        },
        "beside": {
            "type": "scatter",
            "mode": "text",
            "textfont": {"size": _LABEL},
            "hoverinfo": "skip",
            "showlegend": False,
        },
    }
    for place, (colour, dash) in enumerate(_OF_PROFILES):
        line = {"shape": "hv", "color": colour, "dash": dash, "width": 2.5}
        traces[f"profile {place}"] = {"type": "scatter", "mode": "lines", "line": line, "yaxis": "y2"}
    layout = {
        "margin": {"l": 70, "r": 15, "t": 36, "b": 45},
        "xaxis": {"title": {"text": "V vs the metal named"}, "anchor": "y"},
        "yaxis": {"domain": [0.0, 1.0], "automargin": True},
        **_gate_lines(campaign),
    }
    with_profiles = {
        **layout,
        "xaxis": {**layout["xaxis"], "anchor": "y2"},
        "yaxis": {"domain": [0.7, 1.0], "automargin": True},
        "yaxis2": {"domain": [0.0, 0.54], "title": {"text": "ions per formula unit"}, "rangemode": "tozero"},
        "margin": {**layout["margin"], "b": 95},
        "legend": {"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0},
    }
    return {WINDOW: {"traces": traces, "layout": layout}, PROFILED: {"traces": traces, "layout": with_profiles}}


def _against(ion: str) -> str:
    return f"vs {ion}" if ion else "window"


def _gate_lines(campaign: Campaign) -> dict[str, list[dict[str, Any]]]:
    """Dotted lines at the campaign's bounds on both limits, each with its gate above it."""
    line = {"color": GREY, "dash": "dot", "width": 1.5}
    label = {"y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False, "font": {"size": 11, "color": GREY}}
    shapes, labels = [], []
    for stage in campaign.stages:
        for name in ("reduction_limit", "oxidation_limit"):
            gate = stage.gates.get(name)
            for sign, bound in (("<", gate.upper), (">", gate.lower)) if gate else ():
                if bound is not None:
                    shapes.append(
                        {"type": "line", "x0": bound, "x1": bound, "y0": 0, "y1": 1, "yref": "paper", "line": line}
                    )
                    labels.append({**label, "x": bound, "text": f"gate {sign} {bound:g} V"})
    return {"shapes": shapes, "annotations": labels}


def barrier_figure(row: dict[str, str]) -> dict[str, Any] | None:
    """Bond-valence percolation barriers in one, two and three dimensions; None without any."""
    barriers = [(_dimensions(name), number_in(row, name)) for name in _BARRIERS]
    if all(value is None for _, value in barriers):
        return None
    trace: dict[str, Any] = {"like": "barriers", "x": [value for _, value in barriers]}
    if None in trace["x"]:
        trace["y"] = [label if value is not None else f"{label}: none" for label, value in barriers]
    return {"look": BARRIERS, "data": [trace], "layout": {}}


def barrier_look() -> dict[str, Any]:
    """What the barriers of a page share."""
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [_dimensions(name) for name in _BARRIERS],
        "texttemplate": "%{x:.3f} eV",
        "textposition": "auto",
        "marker": {"color": [BLUE, ORANGE, VERMILION]},
        "hovertemplate": "%{y}: %{x:.4f} eV<extra></extra>",
        "showlegend": False,
    }
    layout = {
        "height": 215,
        "margin": {"l": 40, "r": 15, "t": 36, "b": 45},
        "xaxis": {"title": {"text": "migration barrier (eV)"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "type": "category"},
    }
    return {"traces": {"barriers": trace}, "layout": layout}


def _dimensions(name: str) -> str:
    return name[-2:].upper()
