"""Figures of the campaign, as plotly's JSON."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pipeline.config import Campaign
from workflows.report.elements import positions
from workflows.report.overview import Histogram
from workflows.report.palette import BLUE, GREEN, GREY, NAME_OF_KIND, OF_KIND, ORANGE, SKY, SYMBOL_OF_KIND, VERMILION
from workflows.report.run_data import Ranked
from workflows.report.wording import labelled

POINTS = 2000
"""Points of a scatter plot; those beyond, by rank, are drawn as a density."""

ERROR_BARS = 60
"""Candidates of the shortlist in the figure of uncertainties."""

_MARGIN = {"l": 60, "r": 15, "t": 62, "b": 55}
_DENSITY_BINS = 60
_WITH_COST = ("energy_above_hull", "cost_per_kg")


def template() -> dict[str, Any]:
    """The look that all figures share; it stands in the page once."""
    axis = {"gridcolor": "#e5e7eb", "zerolinecolor": "#cbd5e1", "linecolor": "#94a3b8", "ticks": "outside"}
    return {
        "layout": {
            "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13, "color": "#1f2937"},
            "colorway": [BLUE, ORANGE, GREEN, VERMILION, SKY],
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "xaxis": {**axis, "automargin": True},
            "yaxis": {**axis, "automargin": True},
            "hoverlabel": {"align": "left"},
            "dragmode": "zoom",
        }
    }


def as_json(figure: go.Figure) -> dict[str, Any]:
    """A figure's data and layout, without plotly's own template."""
    plain = figure.to_plotly_json()
    plain["layout"].pop("template", None)
    return {"data": plain["data"], "layout": plain["layout"]}


def funnel_figure(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """What entered and what passed each step, on a logarithmic axis; competing phases are no candidates."""
    shown = [step for step in steps if step["step"] != "competing_phases"]
    names = [escape(step["step"]) for step in shown]
    most = max([1, *(step["entered"] for step in shown)])
    figure = go.Figure()
    for title, key, colour in (("entered", "entered", "#cbd5e1"), ("passed", "passed", BLUE)):
        counts = [step[key] for step in shown]
        figure.add_bar(
            y=names,
            x=[count or None for count in counts],
            orientation="h",
            name=title,
            marker_color=colour,
            text=[f"{count:,}" for count in counts],
            textposition="auto",
            hovertemplate="%{y}: %{x:,} " + title + "<extra></extra>",
        )
    figure.update_layout(
        height=140 + 52 * len(shown),
        margin=_MARGIN,
        barmode="group",
        bargap=0.25,
        xaxis={"type": "log", "title": {"text": "candidates"}, "dtick": 1, "range": [-0.2, np.log10(most) + 0.1]},
        yaxis={"autorange": "reversed", "type": "category"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )
    return as_json(figure)


def hull_figure(histogram: Histogram) -> dict[str, Any]:
    """Histogram of energies above hull with the gate; bars within it are darker."""
    centres = [round((a + b) / 2, 9) for a, b in zip(histogram.edges, histogram.edges[1:], strict=False)]
    upper = max(histogram.bounds, default=np.inf)
    figure = go.Figure(
        go.Bar(
            x=centres,
            y=histogram.counts,
            width=histogram.edges[1] - histogram.edges[0],
            marker={"color": [BLUE if c < upper else "#a3b8cc" for c in centres], "line": {"width": 0}},
            customdata=[[a, b] for a, b in zip(histogram.edges, histogram.edges[1:], strict=False)],
            hovertemplate="%{customdata[0]} to %{customdata[1]} eV/atom: %{y:,}<extra></extra>",
        )
    )
    for bound in histogram.bounds:
        figure.add_vline(x=bound, line={"color": VERMILION, "dash": "dash", "width": 2})
        figure.add_annotation(
            x=bound, y=1, yref="paper", yanchor="bottom", text=f"gate {bound:g}", showarrow=False, font_color="#a84a00"
        )
    figure.update_layout(
        height=360,
        margin=_MARGIN,
        bargap=0.05,
        xaxis_title_text=labelled("energy_above_hull"),
        yaxis_title_text="candidates",
    )
    return as_json(figure)


def pareto_pairs(ranked: Ranked, campaign: Campaign) -> list[tuple[str, str]]:
    """Pairs of columns to look at against each other: the campaign's objectives, and cost against stability."""
    objectives = [o.column for o in campaign.ranking.pareto if ranked.has(o.column)]
    pairs = [(x, y) for i, x in enumerate(objectives) for y in objectives[i + 1 :]]
    if all(ranked.has(name) for name in _WITH_COST):
        pairs.append(_WITH_COST)
    if ranked.has("reduction_limit") and ranked.has("oxidation_limit"):
        pairs.append(("reduction_limit", "oxidation_limit"))
    return list(dict.fromkeys(pairs))


def pareto_figure(ranked: Ranked, campaign: Campaign, x: str, y: str, sections: dict[int, str]) -> dict[str, Any]:
    """Two columns against each other: a mark for each kind of row, larger on the first Pareto front."""
    figure = go.Figure()
    xs, ys = ranked.numbers(x), ranked.numbers(y)
    usable = np.isfinite(xs) & np.isfinite(ys)
    drawn = usable & ((xs.index < POINTS) | ranked.flags("shortlisted"))
    rest = usable & ~drawn
    if rest.any():
        figure.add_trace(_density(xs[rest], ys[rest]))
    front = ranked.numbers("pareto_front") == 1 if ranked.has("pareto_front") else pd.Series(False, index=xs.index)
    for kind in ("other", "control", "suspect", "shortlist"):
        there = drawn & (ranked.kinds == kind)
        if there.any():
            figure.add_trace(_points(ranked, kind, xs[there], ys[there], front[there], sections))
    figure.update_layout(
        height=400,
        margin=_MARGIN,
        xaxis=_axis(x, xs[drawn]),
        yaxis=_axis(y, ys[drawn]),
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        showlegend=True,
    )
    for name, add in ((x, figure.add_vline), (y, figure.add_hline)):
        for bound in _bounds(campaign, name):
            add(bound, line={"color": GREY, "dash": "dot", "width": 1.5})
    return as_json(figure)


def _axis(name: str, values: pd.Series) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": labelled(name)}}
    positive = values[values > 0]
    if name == "cost_per_kg" and len(positive) == len(values) and len(values) and values.max() > 30 * values.min():
        axis |= {"type": "log", "dtick": 1}
    return axis


def _bounds(campaign: Campaign, name: str) -> list[float]:
    gates = [stage.gates[name] for stage in campaign.stages if name in stage.gates]
    return [bound for gate in gates for bound in (gate.lower, gate.upper) if bound is not None]


def _points(
    ranked: Ranked, kind: str, xs: pd.Series, ys: pd.Series, front: pd.Series, sections: dict[int, str]
) -> go.Scatter:
    text = ranked.text.loc[xs.index]
    return go.Scatter(
        x=xs.tolist(),
        y=ys.tolist(),
        mode="markers",
        name=NAME_OF_KIND[kind],
        marker={
            "color": OF_KIND[kind],
            "symbol": SYMBOL_OF_KIND[kind],
            "size": np.where(front, 12, 7).tolist(),
            "opacity": 0.9,
            "line": {"width": np.where(front, 1.5, 1.0 if kind == "suspect" else 0.0).tolist(), "color": "#111827"},
        },
        text=[f"#{r} {escape(f)}" for r, f in zip(text["rank"], text["formula_pretty"], strict=True)],
        customdata=[sections.get(int(i), "") for i in xs.index],
        hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
    )


def _density(xs: pd.Series, ys: pd.Series) -> go.Heatmap:
    counts, x_edges, y_edges = np.histogram2d(xs, ys, _DENSITY_BINS)
    shown: list[list[int | None]] = [[int(c) or None for c in row] for row in counts.T]
    return go.Heatmap(
        x=((x_edges[1:] + x_edges[:-1]) / 2).tolist(),
        y=((y_edges[1:] + y_edges[:-1]) / 2).tolist(),
        z=shown,
        colorscale=[[0, "#e5e7eb"], [1, "#6b7280"]],
        showscale=False,
        name="others",
        hovertemplate="%{z:,} others<extra></extra>",
    )


def periodic_table_figure(counts: dict[str, int], candidates: int) -> dict[str, Any]:
    """Number of candidates with each element, on the periodic table; elements of none are left pale."""
    rows, columns = 9, 18
    values: list[list[int | None]] = [[None] * columns for _ in range(rows)]
    texts = [[""] * columns for _ in range(rows)]
    hover = [[""] * columns for _ in range(rows)]
    figure = go.Figure()
    for symbol, (row, group) in positions().items():
        count = counts.get(symbol)
        values[row - 1][group - 1] = count or 0
        texts[row - 1][group - 1] = f"{symbol}<br>{_short(count)}" if count else symbol
        share = f", {count / candidates:.1%}" if count and candidates else ""
        hover[row - 1][group - 1] = f"{symbol}: {count or 0:,} candidates{share}"
    figure.add_heatmap(
        z=values,
        text=texts,
        texttemplate="%{text}",
        hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
        colorscale=[[0.0, "#f3f4f6"], [1e-6, "#fde725"], [0.35, "#35b779"], [0.7, "#31688e"], [1.0, "#440154"]],
        zmin=0,
        zmax=max(counts.values(), default=1),
        xgap=2,
        ygap=2,
        colorbar={"title": {"text": "candidates"}, "thickness": 12, "len": 0.9},
        hoverongaps=False,
    )
    hidden = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "fixedrange": True}
    figure.update_layout(
        height=400,
        margin={"l": 5, "r": 5, "t": 10, "b": 5},
        xaxis=hidden,
        yaxis=hidden | {"autorange": "reversed"},
        font_size=11,
    )
    return as_json(figure)


def _short(count: int) -> str:
    """A count in few characters: 987, 12k, 3.4M."""
    for power, letter in ((1e6, "M"), (1e3, "k")):
        if count >= power:
            return f"{count / power:.1f}{letter}" if count < 10 * power else f"{count / power:.0f}{letter}"
    return str(count)


def uncertainty_figure(ranked: Ranked, campaign: Campaign) -> dict[str, Any] | None:
    """Energies above hull of the shortlist's first with their errors; None when no error is known."""
    if not ranked.has("energy_above_hull_error"):
        return None
    energies, errors = ranked.numbers("energy_above_hull"), ranked.numbers("energy_above_hull_error")
    there = ranked.flags("shortlisted") & np.isfinite(energies) & np.isfinite(errors)
    if not there.any():
        return None
    there &= there.cumsum() <= ERROR_BARS
    text = ranked.text[there]
    figure = go.Figure(
        go.Scatter(
            x=[f"#{r} {escape(f)}" for r, f in zip(text["rank"], text["formula_pretty"], strict=True)],
            y=energies[there].tolist(),
            error_y={"type": "data", "array": errors[there].tolist(), "color": GREY},
            mode="markers",
            marker={"color": OF_KIND["shortlist"], "symbol": "diamond", "size": 9},
            hovertemplate="%{x}: %{y:.4f} ± %{error_y.array:.4f} eV/atom<extra></extra>",
        )
    )
    for bound in _bounds(campaign, "energy_above_hull"):
        figure.add_hline(bound, line={"color": VERMILION, "dash": "dash"})
    figure.update_layout(
        height=380, margin=_MARGIN, yaxis_title_text=labelled("energy_above_hull"), xaxis={"tickangle": -60}
    )
    return as_json(figure)


def disagreement_figure(ranked: Ranked) -> dict[str, Any] | None:
    """Disagreement of two surrogates against energy above hull; None when there was no second one."""
    if not ranked.has("energy_disagreement"):
        return None
    figure = go.Figure()
    xs, ys = ranked.numbers("energy_above_hull"), ranked.numbers("energy_disagreement")
    usable = np.isfinite(xs) & np.isfinite(ys) & (xs.index < POINTS)
    nowhere = pd.Series(False, index=xs.index)
    for kind in ("other", "control", "suspect", "shortlist"):
        there = usable & (ranked.kinds == kind)
        if there.any():
            figure.add_trace(_points(ranked, kind, xs[there], ys[there], nowhere[there], {}))
    figure.update_layout(
        height=360,
        margin=_MARGIN,
        xaxis_title_text=labelled("energy_above_hull"),
        yaxis_title_text=labelled("energy_disagreement"),
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        showlegend=True,
    )
    return as_json(figure)
