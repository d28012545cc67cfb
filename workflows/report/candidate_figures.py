"""Figures of one candidate, as plotly's JSON: its electrochemical window, its voltage profile, its barriers.

They are plain dictionaries, since building thousands of checked ``plotly.graph_objects`` would take minutes.
"""

from __future__ import annotations

from typing import Any

from pipeline.config import Campaign
from workflows.report.palette import BLUE, GREY, ORANGE, VERMILION
from workflows.report.wording import number_in, voltage_profiles

_BARRIERS = ("migration_barrier_1d", "migration_barrier_2d", "migration_barrier_3d")
_MARGIN = 0.5
"""Volts shown beyond the outermost limit or step."""


def window_figure(row: dict[str, str], campaign: Campaign) -> dict[str, Any] | None:
    """Bars from reduction to oxidation limit against each mobile ion's metal, and below them the voltage profiles."""
    bars = [
        (ion, low, high)
        for ion in campaign.mobile_ions
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
    extent = (min(0.0, *voltages) - 0.2, max(voltages) + _MARGIN)
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [_against(ion) for ion, _, _ in bars],
            "base": [low for _, low, _ in bars],
            "x": [high - low for _, low, high in bars],
            "customdata": [[low, high] for _, low, high in bars],
            "hovertemplate": "%{customdata[0]:.3f} to %{customdata[1]:.3f} V<extra></extra>",
            "text": [f"{low:.2f} – {high:.2f} V" for _, low, high in bars],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textfont": {"color": "white"},
            "marker": {"color": BLUE},
            "width": 0.5,
            "showlegend": False,
        }
    ]
    for profile, colour, dash in zip(
        profiles, (ORANGE, VERMILION, GREY, BLUE), ("solid", "dash", "dot", "dashdot"), strict=False
    ):
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [extent[0], *profile.voltages, extent[1]],
                "y": [*profile.contents, profile.contents[-1]],
                "line": {"shape": "hv", "color": colour, "dash": dash, "width": 2.5},
                "name": f"{profile.ion} in a formula unit",
                "yaxis": "y2",
                "hovertemplate": "%{y} " + profile.ion + " from %{x:.2f} V<extra></extra>",
            }
        )
    split = 0.62 if profiles else 0.0
    layout: dict[str, Any] = {
        "height": 150 + 30 * len(bars) + (170 if profiles else 0),
        "margin": {"l": 70, "r": 15, "t": 36, "b": 45},
        "xaxis": {
            "title": {"text": "V vs the ion's metal"},
            "range": list(extent),
            "anchor": "y2" if profiles else "y",
        },
        "yaxis": {"domain": [split + (0.08 if profiles else 0.0), 1.0], "automargin": True},
        "shapes": _gate_lines(campaign),
        "legend": {"orientation": "h", "y": split, "yanchor": "bottom", "x": 0},
    }
    if profiles:
        layout["yaxis2"] = {"domain": [0.0, split - 0.08], "title": {"text": "ions"}, "rangemode": "tozero"}
    return {"data": data, "layout": layout}


def _against(ion: str) -> str:
    return f"vs {ion}" if ion else "window"


def _gate_lines(campaign: Campaign) -> list[dict[str, Any]]:
    """Dashed lines at the campaign's bounds on both limits."""
    bounds = [
        bound
        for stage in campaign.stages
        for name in ("reduction_limit", "oxidation_limit")
        if name in stage.gates
        for bound in (stage.gates[name].lower, stage.gates[name].upper)
        if bound is not None
    ]
    line = {"color": GREY, "dash": "dot", "width": 1.5}
    return [{"type": "line", "x0": b, "x1": b, "y0": 0, "y1": 1, "yref": "paper", "line": line} for b in bounds]


def barrier_figure(row: dict[str, str]) -> dict[str, Any] | None:
    """Bond-valence percolation barriers in one, two and three dimensions; None without any."""
    barriers = [(name[-2:].upper(), number_in(row, name)) for name in _BARRIERS]
    if all(value is None for _, value in barriers):
        return None
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [label if value is not None else f"{label}: none" for label, value in barriers],
        "x": [value for _, value in barriers],
        "text": ["" if value is None else f"{value:.3f} eV" for _, value in barriers],
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
    return {"data": [trace], "layout": layout}
