"""The chance that a candidate is as stable as the campaign asks, given what its surrogate got wrong before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.reference.surrogate_errors import surrogate_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from numpy.typing import NDArray

    from pipeline.gates import Gate
    from pipeline.settings import StageSettings

COLUMN = "energy_above_hull"


def stability_gates(stages: Iterable[StageSettings]) -> list[Gate]:
    """Gates of a campaign on ``energy_above_hull``, whichever stages they stand at."""
    return [stage.gates[COLUMN] for stage in stages if COLUMN in stage.gates]


def stability_probability(
    table: pd.DataFrame, gates: Iterable[Gate], second_sha256: str | None = None
) -> NDArray[np.float64]:
    """Chance that the true energy above hull of each row lies within the gates.

    The surrogate's bias on crystals of the row's anion class is removed here (``energy_above_hull`` itself stays as
    the surrogate gives it), and the error about it follows the distribution fitted to known phases
    (`pipeline.reference.surrogate_errors`). Every true energy is taken to be as likely as any other beforehand.

    Parameters
    ----------
    table
        n rows with ``formula_pretty``, ``surrogate_sha256``, and in eV/atom ``energy_above_hull``,
        ``energy_above_hull_error`` (NaN where no error is known) and ``energy_disagreement``.
    gates
        Bounds on ``energy_above_hull``; all must hold.
    second_sha256
        Weights of the surrogate that the disagreement is with.

    Returns
    -------
    numpy.ndarray
        0 to 1, shape (n,); NaN where the error is unknown, and everywhere without a gate: nothing was asked then.
    """
    bounds = list(gates)
    chance = np.full(len(table), np.nan)
    if not bounds:
        return chance
    upper = min((g.upper for g in bounds if g.upper is not None), default=np.inf)
    lower = max((g.lower for g in bounds if g.lower is not None), default=-np.inf)
    energies, widths, disagreements = (
        table[name].to_numpy(dtype=float, na_value=np.nan)
        for name in (COLUMN, "energy_above_hull_error", "energy_disagreement")
    )
    rows = zip(table["formula_pretty"], table["surrogate_sha256"], strict=True)
    for i, (formula, sha256) in enumerate(rows):
        errors = surrogate_errors(sha256) if np.isfinite(energies[i] + widths[i]) else None
        if errors is not None:
            fitted = errors.of(formula, disagreements[i], second_sha256)
            within = fitted.chance_below(upper, energies[i]) - fitted.chance_below(lower, energies[i])
            chance[i] = max(within, 0.0)
    return chance
