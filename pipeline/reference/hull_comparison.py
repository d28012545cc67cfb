"""Why a self-consistent reference and a table place a candidate on different sides of a gate (for validations)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOWER_BY = 0.010
"""eV/atom: a phase or element that moves a hull by less is not named."""


@dataclass(frozen=True)
class Disagreement:
    """One candidate on which two references disagree.

    Attributes
    ----------
    formation_energy
        Of the candidate, eV/atom, relative to the potential's own elements.
    by_table, by_reference
        eV/atom above each hull.
    gate
        eV/atom.
    table_products, reference_products
        Stable phases at the composition, by each hull, with atom fractions (sum 1).
    """

    formation_energy: float
    by_table: float
    by_reference: float
    gate: float
    table_products: Mapping[str, float]
    reference_products: Mapping[str, float]


@dataclass(frozen=True)
class PhaseEnergies:
    """Formation energies (eV/atom) of compounds by reduced formula; elements are zero and not in them.

    ``table``: as the table has them. ``reference``: as the self-consistent reference has them. ``true_crystal``: the
    potential's, in the table's own crystal structure, relative to the potential's elements. ``elements``: the
    potential's energy of each element minus the table's.
    """

    table: Mapping[str, float]
    reference: Mapping[str, float]
    true_crystal: Mapping[str, float]
    elements: Mapping[str, float]


def cause(case: Disagreement, energies: PhaseEnergies) -> tuple[str, str]:
    """Name the cause: a short kind, and the phases behind it.

    Where a reference without gaps (`complete_height`) would decide like the table, this one lacks a competitor; where
    that too decides like the reference, the potential and the table's DFT differ on the candidate or on a competitor.

    Returns
    -------
    kind, phases
        Kind is ``missing competitor``, ``element``, ``potential`` or ``no structure`` (a product's crystal is not
        known, so that nothing can be told).
    """
    compounds = _compounds(case)
    complete = complete_height(case, energies)
    if complete is None:
        return "no structure", "the table's " + ", ".join(
            sorted(f for f in compounds if f not in energies.true_crystal)
        )
    table_below = case.by_table < case.gate
    if not table_below and complete >= case.gate:
        return "missing competitor", "; ".join(_gaps(compounds, energies)) or "small gaps of several phases"
    elements = [f"{f} {1e3 * shift:+.0f}" for f in case.table_products if abs(shift := _shift(f, energies)) > LOWER_BY]
    if elements:
        return "element", ", ".join(elements)
    return "potential", "; ".join(_errors(case, energies)) or "small errors of several phases"


def complete_height(case: Disagreement, energies: PhaseEnergies) -> float | None:
    """Height (eV/atom) above the table's products with the potential's energies in their true crystals.

    The hull that a self-consistent reference without gaps would have. None when a product's crystal is not known.
    """
    compounds = _compounds(case)
    if not set(compounds) <= set(energies.true_crystal):
        return None
    return case.formation_energy - sum(x * energies.true_crystal[f] for f, x in compounds.items())


def disagreement_lines(
    cases: Sequence[tuple[str, str, Disagreement]], energies: PhaseEnergies, *, each: bool
) -> list[str]:
    """Text: how often each cause occurs, and before it, if asked, each (formula, prototype, disagreement)."""
    causes = [cause(case, energies) for _, _, case in cases]
    lines = []
    for (kind, phases), (formula, prototype, case) in sorted(zip(causes, cases, strict=True), key=lambda i: i[0]):
        complete = complete_height(case, energies)
        heights = f"table {1e3 * case.by_table:+5.0f}, reference {1e3 * case.by_reference:+5.0f}"
        heights += "" if complete is None else f", complete {1e3 * complete:+5.0f}"
        lines.append(f"  {formula:16s} {prototype:12s} {heights}  {kind}: {phases}")
    counts = ", ".join(f"{n} {kind}" for kind, n in Counter(k for k, _ in causes).most_common())
    return [*(lines if each else []), f"  causes: {counts}"]


def _compounds(case: Disagreement) -> dict[str, float]:
    return {f: x for f, x in case.table_products.items() if not _is_element(f)}


def _is_element(formula: str) -> bool:
    return formula.rstrip("0123456789").isalpha() and sum(c.isupper() for c in formula) == 1


def _shift(formula: str, energies: PhaseEnergies) -> float:
    """The potential's energy of an element minus the table's, eV/atom; zero for a compound."""
    return energies.elements.get(formula.rstrip("0123456789"), 0.0) if _is_element(formula) else 0.0


def _gaps(compounds: Mapping[str, float], energies: PhaseEnergies) -> list[str]:
    """Products that the reference lacks, or has in a worse crystal."""
    found = []
    for formula in compounds:
        have, true = energies.reference.get(formula), energies.true_crystal[formula]
        if have is None:
            found.append(f"no {formula}")
        elif have - true > LOWER_BY:
            found.append(f"{formula} {1e3 * (have - true):+.0f}")
    return found


def _errors(case: Disagreement, energies: PhaseEnergies) -> list[str]:
    """Phases of either hull whose energy differs between potential and table."""
    found = []
    for formula in dict.fromkeys([*case.table_products, *case.reference_products]):
        if _is_element(formula):
            continue
        mine = energies.true_crystal.get(formula, energies.reference.get(formula))
        theirs = energies.table.get(formula)
        if theirs is None:
            found.append(f"{formula} not in the table")
        elif mine is not None and abs(mine - theirs) > LOWER_BY:
            found.append(f"{formula} {1e3 * (mine - theirs):+.0f}")
    return found


def balanced_accuracy(truth: NDArray[np.bool_], decision: NDArray[np.bool_]) -> float:
    """Mean of the two shares decided alike: of those below the gate, and of those above; NaN without both."""
    if truth.all() or not truth.any():
        return float("nan")
    return float((decision[truth].mean() + (~decision[~truth]).mean()) / 2)


def interval(
    truth: NDArray[np.bool_], decision: NDArray[np.bool_], groups: Sequence[str], seed: int
) -> tuple[float, float]:
    """95 % bootstrap interval of the balanced accuracy; whole chemical systems are drawn."""
    generator = np.random.default_rng(seed)
    names = sorted(set(groups))
    members = [np.flatnonzero(np.asarray(groups) == name) for name in names]
    values = []
    for _ in range(2000):
        chosen = np.concatenate([members[i] for i in generator.integers(len(names), size=len(names))])
        values.append(balanced_accuracy(truth[chosen], decision[chosen]))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def confusion_lines(
    by_table: NDArray[np.float64], by_reference: NDArray[np.float64], gate: float, groups: Sequence[str], seed: int = 0
) -> tuple[float, list[str]]:
    """Balanced accuracy of a reference, and a report of it.

    Parameters
    ----------
    by_table, by_reference
        (n,) eV/atom above each hull.
    gate
        eV/atom.
    groups
        (n,) what the bootstrap draws: chemical systems.
    seed
        Of the bootstrap.
    """
    truth, decision = by_table < gate, by_reference < gate
    accuracy = balanced_accuracy(truth, decision)
    low, high = interval(truth, decision, groups, seed)
    quartiles = np.percentile(1e3 * (by_reference - by_table), [25, 50, 75])
    return accuracy, [
        f"                         reference below   above   (gate {1e3 * gate:g} meV/atom)",
        f"  table below the gate   {(truth & decision).sum():15d}   {(truth & ~decision).sum():5d}",
        f"  table above the gate   {(~truth & decision).sum():15d}   {(~truth & ~decision).sum():5d}",
        f"  balanced accuracy {accuracy:.3f}, 95 % interval {low:.3f} to {high:.3f}",
        "  reference minus table, meV/atom: quartiles " + ", ".join(f"{q:+.0f}" for q in quartiles),
    ]
