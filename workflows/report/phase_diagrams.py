"""Phase diagrams of the candidates' chemical systems: competing phases with tie lines, and the run's candidates.

Each system's figure stands in the page once; a candidate's own figure adds its mark to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from pipeline.reference.formulas import CompositionKey, composition_key, reduced_formula
from pipeline.reference.phase_system import atom_fractions
from workflows.report.palette import BLUE, GREY, SKY, VERMILION
from workflows.report.wording import number_in, subscripted

CANDIDATES_SHOWN = 40
"""Candidates in one diagram, each composition once, the nearest to the hull first."""

LOOK = "phases"
_MARKS = {
    "mode": "markers",
    "cliponaxis": False,
    "hovertemplate": "%{text}: %{customdata[1]} eV/atom above hull (%{customdata[0]})<extra></extra>",
}

_Point = tuple[CompositionKey, float, float]
"""Composition, formation energy and energy above hull (eV/atom)."""


@dataclass(frozen=True)
class ChemicalSystem:
    """Stable phases and candidates of one chemical system."""

    elements: tuple[str, ...]
    stable: dict[CompositionKey, float]
    candidates: list[_Point]

    @cached_property
    def tie_lines(self) -> list[tuple[CompositionKey, CompositionKey]]:
        """Pairs of stable phases that are in equilibrium."""
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
        from pymatgen.core import Composition

        compositions = {key: Composition(dict(key)) for key in self.stable}
        entries = [
            PDEntry(c, self.stable[key] * c.num_atoms, name=str(i)) for i, (key, c) in enumerate(compositions.items())
        ]
        diagram = PhaseDiagram(entries)
        keys = list(self.stable)
        facets = [[int(diagram.qhull_entries[i].name) for i in facet] for facet in diagram.facets]
        pairs = sorted({pair for facet in facets for pair in combinations(sorted(facet), 2)})
        return [(keys[a], keys[b]) for a, b in pairs]


def chemical_systems(stable: dict[str, float], ranked: pd.DataFrame, names: Iterable[str]) -> dict[str, ChemicalSystem]:
    """Stable phases and ranked candidates of systems such as 'Cl-Li-Y'; those of other than known elements left out.

    Parameters
    ----------
    stable
        Formation energy (eV/atom) by composition; empty: no systems.
    ranked
        The ranked table as text.
    names
        Systems, repeated ones count once.
    """
    if not stable:
        return {}
    found = {}
    for name in dict.fromkeys(names):
        elements = tuple(name.split("-"))
        if len(elements) < 2 or not _are_elements(elements):
            continue
        own = {((element, 1),): 0.0 for element in elements}
        own |= {key: energy for key, energy in stable.items() if {symbol for symbol, _ in key} <= set(elements)}
        found[name] = ChemicalSystem(elements, own, _candidates(ranked[ranked["chemsys"] == name]))
    return found


def _are_elements(symbols: tuple[str, ...]) -> bool:
    try:
        return all(composition_key(symbol) == ((symbol, 1),) for symbol in symbols)
    except ValueError:
        return False


def _candidates(rows: pd.DataFrame) -> list[_Point]:
    """Each composition's nearest to the hull, suspects left out."""
    lowest: dict[CompositionKey, _Point] = {}
    for row in rows.to_dict("records"):
        point = point_of(row)
        if point is None or row.get("suspect") == "True":
            continue
        if point[0] not in lowest or point[2] < lowest[point[0]][2]:
            lowest[point[0]] = point
    return sorted(lowest.values(), key=lambda point: (point[2], point[0]))[:CANDIDATES_SHOWN]


def point_of(row: dict[Any, Any]) -> _Point | None:
    """A row's composition and energies; None when one of them is missing or can't be read."""
    formation, above = number_in(row, "formation_energy_per_atom"), number_in(row, "energy_above_hull")
    try:
        key = composition_key(row["formula_pretty"])
    except ValueError:
        return None
    return None if formation is None or above is None else (key, formation, above)


def system_figure(system: ChemicalSystem) -> dict[str, Any]:
    """Hull of two elements, triangle of three, rows of a table for more."""
    if len(system.elements) > 3:
        return {"rows": _rows(system)}
    keys = [key for key in system.stable if len(key) > 1]
    ends = [(key, system.stable[key]) for pair in system.tie_lines for key in pair]
    traces = [
        {
            **{name: _parted(value) for name, value in _places(system, ends).items()},
            "mode": "lines",
            "name": "tie lines",
            "line": {"color": GREY, "width": 1},
            "hoverinfo": "skip",
            "showlegend": False,
        },
        {
            **_places(system, [(key, system.stable[key]) for key in keys]),
            "mode": "markers+text",
            "cliponaxis": False,
            "name": "stable competing phase",
            "text": [subscripted(reduced_formula(key)) for key in keys],
            "textposition": [_label_place(system, key) for key in keys],
            "textfont": {"size": 11},
            "customdata": [[f"{system.stable[key]:.3f}"] for key in keys],
            "hovertemplate": "%{text}: formation energy %{customdata[0]} eV/atom<extra></extra>",
            "marker": {"color": BLUE, "size": 8},
        },
    ]
    if system.candidates:
        marker = {"color": SKY, "size": 7, "symbol": "diamond"}
        told = _places_told(system, system.candidates)
        traces.append({**told, **_MARKS, "name": "candidates", "marker": marker})
    return {"data": traces, "layout": _layout(system)}


def _label_place(system: ChemicalSystem, key: CompositionKey) -> str:
    """Where a phase's label stands: below its mark on a hull, outside the triangle on an edge, above it within."""
    if len(system.elements) == 2:
        return "bottom center"
    present = {symbol for symbol, _ in key}
    for absent, place in zip(system.elements, ("bottom center", "middle right", "middle left"), strict=True):
        if absent not in present:
            return place
    return "top center"


def candidate_figure(system: ChemicalSystem, row: dict[str, str], base: str) -> dict[str, Any] | None:
    """The mark of one candidate, to be drawn over the figure ``base``, or its row; None without energies."""
    point = point_of(row)
    if point is None:
        return None
    figure: dict[str, Any] = {"look": LOOK, "base": base, "data": [], "layout": {}}
    if len(system.elements) > 3:
        return {**figure, "row": _candidate_row(point)}
    return {**figure, "data": [{"like": "own", **_places_told(system, [point])}]}


def look() -> dict[str, Any]:
    """What the marks of single candidates share."""
    marker = {"color": VERMILION, "size": 14, "symbol": "star", "line": {"color": "white", "width": 1}}
    return {"traces": {"own": {**_MARKS, "name": "this candidate", "marker": marker}}, "layout": {}}


def _places_told(system: ChemicalSystem, points: list[_Point]) -> dict[str, Any]:
    return {
        **_places(system, [(key, formation) for key, formation, _ in points]),
        "text": [subscripted(reduced_formula(key)) for key, _, _ in points],
        "customdata": [[f"{formation:.3f}", f"{above:.3f}"] for _, formation, above in points],
    }


def _places(system: ChemicalSystem, points: list[tuple[CompositionKey, float]]) -> dict[str, Any]:
    fractions = np.array([atom_fractions(key, system.elements) for key, _ in points]).reshape(-1, len(system.elements))
    columns = fractions.round(4).T.tolist()
    if len(system.elements) == 2:
        return {"type": "scatter", "x": columns[1], "y": [round(energy, 4) for _, energy in points]}
    return {"type": "scatterternary", **dict(zip("abc", columns, strict=True))}


def _parted(ends: Any) -> Any:
    """Coordinates with a gap after every two, so that no line leads from one tie line to the next."""
    if not isinstance(ends, list):
        return ends
    return [value for first, second in zip(ends[::2], ends[1::2], strict=True) for value in (first, second, None)]


def _layout(system: ChemicalSystem) -> dict[str, Any]:
    legend = {"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0}
    if len(system.elements) == 2:
        first, second = system.elements
        return {
            "height": 380,
            "margin": {"l": 70, "r": 20, "t": 36, "b": 90},
            "xaxis": {"title": {"text": f"atom fraction of {second} in {first}-{second}"}, "range": [-0.04, 1.04]},
            "yaxis": {"title": {"text": "formation energy (eV/atom)"}},
            "legend": {**legend, "y": -0.22},
        }
    axes = {
        f"{letter}axis": {
            "title": {"text": element},
            "showticklabels": False,
            "ticks": "",
            "showgrid": False,
            "linecolor": GREY,
        }
        for letter, element in zip("abc", system.elements, strict=True)
    }
    return {
        "height": 440,
        "margin": {"l": 35, "r": 35, "t": 50, "b": 70},
        "ternary": {"sum": 1, "bgcolor": "white", **axes},
        "legend": {**legend, "y": -0.06},
    }


def _rows(system: ChemicalSystem) -> list[list[str]]:
    """Formula, formation energy, energy above hull (eV/atom) and kind of each phase."""
    stable = sorted(((energy, key) for key, energy in system.stable.items() if len(key) > 1))
    rows = [[reduced_formula(key), f"{energy:.3f}", "0", "competing phase"] for energy, key in stable]
    return rows + [_candidate_row(point) for point in system.candidates]


def _candidate_row(point: _Point) -> list[str]:
    key, formation, above = point
    return [reduced_formula(key), f"{formation:.3f}", f"{above:.3f}", "candidate"]
