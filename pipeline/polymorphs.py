"""Candidates beside each other: polymorphs of one composition, and the hull that the candidates themselves make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.reference.formulas import CompositionKey, composition_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from pipeline.reference import PhaseReference

# Energies nearer than this are one energy, eV/atom: batched float32 arithmetic moves them by as much.
SAME_ENERGY = 1e-6


def lowest_polymorphs(competitors: pd.DataFrame) -> Mapping[CompositionKey, tuple[str, float]]:
    """Find the candidate of lowest energy of each composition.

    Parameters
    ----------
    competitors
        Relaxed candidates that are to be believed, with ``candidate_id``, ``formula_pretty`` and
        ``formation_energy_per_atom`` (eV/atom); rows without an energy don't compete.

    Returns
    -------
    Mapping
        candidate_id and energy (eV/atom, the lowest) by composition. Of candidates within ``SAME_ENERGY`` of the
        lowest energy the first by candidate_id stands for all.
    """
    found: dict[CompositionKey, list[tuple[float, str]]] = {}
    for name, formula, energy in _rows(competitors):
        if np.isfinite(energy):
            found.setdefault(composition_key(formula), []).append((energy, name))
    lowest = {}
    for key, members in found.items():
        least = min(energy for energy, _ in members)
        lowest[key] = (min(name for energy, name in members if energy <= least + SAME_ENERGY), least)
    return lowest


def polymorph_of(table: pd.DataFrame, competitors: pd.DataFrame) -> list[str]:
    """Name for each row the lowest polymorph of its composition among the competitors.

    Parameters
    ----------
    table
        n rows with ``candidate_id`` and ``formula_pretty``; not all need to be among the competitors (a suspect row
        never is).
    competitors
        As `lowest_polymorphs`.

    Returns
    -------
    list of str
        candidate_id of the lowest, shape (n,); empty for the lowest itself, and where none competes.
    """
    lowest = lowest_polymorphs(competitors)
    named = []
    for name, formula in zip(table["candidate_id"], table["formula_pretty"], strict=True):
        other, _ = lowest.get(composition_key(formula), ("", 0.0))
        named.append("" if other == name else other)
    return named


def energy_above_hull_with_candidates(
    table: pd.DataFrame, competitors: pd.DataFrame, phases: PhaseReference
) -> NDArray[np.float64]:
    """Distance of each row to the hull of the reference's phases and the competitors together.

    A composition competes through its lowest polymorph. A row's distance is that of its lowest polymorph plus the
    gap between the two, so a higher polymorph of a stable composition lies above the hull by the gap, and polymorphs
    of one energy lie equally high: both at 0 when on the hull.

    Parameters
    ----------
    table
        n rows with ``formula_pretty`` and ``formation_energy_per_atom`` (eV/atom).
    competitors
        As `lowest_polymorphs`.
    phases
        The campaign's reference.

    Returns
    -------
    numpy.ndarray
        eV/atom, shape (n,); NaN without an energy; negative only for a row that doesn't compete itself.
    """
    finite = competitors[np.isfinite(competitors["formation_energy_per_atom"].to_numpy(dtype=float, na_value=np.nan))]
    together = phases.with_phases(finite["formula_pretty"].tolist(), finite["formation_energy_per_atom"].tolist())
    energies = table["formation_energy_per_atom"].to_numpy(dtype=float, na_value=np.nan)
    above, there = np.full(len(table), np.nan), np.isfinite(energies)
    # a row without an energy may hold an element that the reference lacks
    above[there] = together.energy_above_hull(table.loc[there, "formula_pretty"].tolist(), energies[there])
    # A phase on the hull is its own decomposition: what is left then is the rounding of the linear algebra.
    return np.where(np.abs(above) < SAME_ENERGY, 0.0, above)


def _rows(competitors: pd.DataFrame) -> list[tuple[str, str, float]]:
    energies = competitors["formation_energy_per_atom"].to_numpy(dtype=float, na_value=np.nan)
    return list(zip(competitors["candidate_id"], competitors["formula_pretty"], energies.tolist(), strict=True))
