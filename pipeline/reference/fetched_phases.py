"""Rows of the Materials Project's thermo collection, checked before a hull is made of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.reference.formulas import composition_key

THERMO_TYPE = "GGA_GGA+U"
"""The thermo type whose energies are of the MP2020 scheme."""
# Formation energies are relative to an element's most stable phase: its own is zero, up to rounding.
_ZERO = 1e-3


class MaterialsProjectError(ValueError):
    """The phases can't be had: no key, no network, or an answer that must not be used. Says what to do."""


@dataclass(frozen=True)
class FetchedPhase:
    """One compound: reduced formula, formation energy (eV/atom, MP2020), material id, time of its last update."""

    formula: str
    formation_energy: float
    material_id: str
    last_updated: str


@dataclass(frozen=True)
class FetchedPhases:
    """What the Materials Project holds of a set of elements.

    Attributes
    ----------
    elements
        Symbols, alphabetical.
    database_version
        As the server names it.
    query
        The search, in words.
    phases
        Compounds, by formula and material id.
    elemental_energies
        Uncorrected energy of each element's most stable phase, eV/atom.
    without_energy
        Materials left out because the server gives no formation energy for them.
    """

    elements: tuple[str, ...]
    database_version: str
    query: str
    phases: tuple[FetchedPhase, ...]
    elemental_energies: Mapping[str, float]
    without_energy: int


def shortened(text: str) -> str:
    """Return a message on one line of at most 200 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:197] + "..."


def checked(rows: list[dict[str, Any]], elements: tuple[str, ...], version: str, query: str) -> FetchedPhases:
    """Turn rows as the server sends them into phases and elemental energies.

    Parameters
    ----------
    rows
        Dictionaries with material_id, formula_pretty, chemsys, thermo_type, formation_energy_per_atom and
        uncorrected_energy_per_atom (eV/atom), last_updated. Rows with other elements are passed over.
    elements
        Symbols, alphabetical.
    version, query
        For the record.

    Raises
    ------
    MaterialsProjectError
        For a row of another thermo type, two rows of one material, an unreadable formula or energy, an element without
        its most stable phase, or no compound at all; names the material.
    """
    kept = [row for row in rows if _symbols(row) <= set(elements)]
    for row, count in zip(kept, _times_seen(kept), strict=True):
        _check_formula(row)
        _refuse_wrong_row(row, count)
    pure = [row for row in kept if len(_symbols(row)) == 1]
    compounds = [row for row in kept if len(_symbols(row)) > 1]
    phases = [
        FetchedPhase(
            str(row["formula_pretty"]),
            _energy(row, "formation_energy_per_atom"),
            str(row["material_id"]),
            _time(row.get("last_updated")),
        )
        for row in compounds
        if row.get("formation_energy_per_atom") is not None
    ]
    if not phases:
        raise MaterialsProjectError(f"the Materials Project has no compound of {', '.join(elements)}")
    phases.sort(key=lambda phase: (phase.formula, phase.material_id))
    return FetchedPhases(
        elements, version, query, tuple(phases), _elemental(pure, elements), len(compounds) - len(phases)
    )


def _times_seen(rows: list[dict[str, Any]]) -> list[int]:
    counts = Counter(str(row.get("material_id")) for row in rows)
    return [counts[str(row.get("material_id"))] for row in rows]


def _refuse_wrong_row(row: Mapping[str, Any], times_seen: int) -> None:
    name = f"{row.get('material_id')} ({row['formula_pretty']})"
    if row.get("thermo_type") != THERMO_TYPE:
        raise MaterialsProjectError(
            f"{name} came with thermo type {row.get('thermo_type')!r} where {THERMO_TYPE} was asked for; energies of "
            "different types are not mixed: update mp-api, or use reference source 'table'"
        )
    if not row.get("material_id") or times_seen > 1:
        raise MaterialsProjectError(
            f"{name} came {times_seen} times where one row a material is expected; run the same command again, and "
            "update mp-api if it stays so"
        )


def _symbols(row: Mapping[str, Any]) -> set[str]:
    """Elements by the row's chemical system: rows of others, deuterides say, need no readable formula."""
    try:
        return set(row["chemsys"].split("-"))
    except (AttributeError, KeyError, TypeError):
        raise _unreadable(row, "chemical system") from None


def _check_formula(row: Mapping[str, Any]) -> None:
    try:
        symbols = {symbol for symbol, _ in composition_key(str(row["formula_pretty"]))}
    except (ValueError, KeyError):
        raise _unreadable(row, "formula") from None
    if symbols != _symbols(row):
        raise _unreadable(row, "formula of its chemical system")


def _unreadable(row: Any, what: str) -> MaterialsProjectError:
    return MaterialsProjectError(
        f"the Materials Project sent a row without a readable {what} ({shortened(str(row))}); run the same command "
        "again, and update mp-api if it stays so"
    )


def _energy(row: Mapping[str, Any], field: str) -> float:
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise MaterialsProjectError(
            f"{row['material_id']} ({row['formula_pretty']}) came with {field} = {value!r}, a number in eV/atom is "
            "expected; run the same command again, and update mp-api if it stays so"
        )
    return float(value)


def _time(value: Any) -> str:
    return str(value.get("$date", "")) if isinstance(value, dict) else str(value or "")


def _elemental(rows: list[dict[str, Any]], elements: Sequence[str]) -> dict[str, float]:
    """Uncorrected energy (eV/atom) of the phase of each element with the lowest formation energy."""
    found: dict[str, tuple[float, float]] = {}
    for row in rows:
        (symbol,) = _symbols(row)
        candidate = (_energy(row, "formation_energy_per_atom"), _energy(row, "uncorrected_energy_per_atom"))
        found[symbol] = min(found.get(symbol, candidate), candidate)
    missing = [symbol for symbol in elements if symbol not in found]
    if missing:
        raise MaterialsProjectError(
            f"the Materials Project sent no {THERMO_TYPE} phase of element {', '.join(missing)}; leave it out of the "
            "campaign's elements"
        )
    for symbol, (formation, _) in found.items():
        if abs(formation) > _ZERO:
            raise MaterialsProjectError(
                f"the most stable phase of element {symbol} is not among the rows (lowest formation energy "
                f"{formation:g} eV/atom, not 0); run the same command again"
            )
    return {symbol: found[symbol][1] for symbol in elements}
