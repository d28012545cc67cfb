"""The stable competing phases of the ranked candidates' chemical systems, kept in the run folder for its readers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.config import ConfigError, Problem
from pipeline.reference.formulas import CompositionKey, composition_keys, reduced_formula
from workflows.outputs import write_csv

if TYPE_CHECKING:
    from pipeline.reference import PhaseReference

MOST_SYSTEMS = 500

_NAME = "stable_phases.csv"
_COLUMNS = ["formula", "formation_energy_per_atom"]


def write_stable_phases(folder: Path, ranking: pd.DataFrame, phases: PhaseReference) -> None:
    """Write ``stable_phases.csv``: formula and formation energy (eV/atom) of each compound on the `systems_kept`.

    A compound that is stable in its own system is stable in every larger one, so one list serves all systems.
    """
    ordered = ranking.sort_values("rank")
    energies: dict[str, float] = {}
    for name in systems_kept(ordered["chemsys"], ordered["shortlisted"]):
        elements = name.split("-")
        if not phases.elements.issuperset(elements):
            continue  # of a row that failed and was kept: it stands on no hull
        system = phases.system(elements)
        for row in system.stable().tolist():
            if len(system.keys[row]) > 1:
                energies[reduced_formula(system.keys[row])] = float(system.energies[row])
    write_csv(pd.DataFrame(sorted(energies.items()), columns=_COLUMNS), folder / _NAME)


def systems_kept(systems: pd.Series, shortlisted: pd.Series) -> list[str]:
    """Chemical systems whose phases are kept: the first 500 different ones, those of the shortlist before all others.

    Parameters
    ----------
    systems
        Of the ranked candidates by rank, such as ``Cl-Li-Y``.
    shortlisted
        Which of them are on the shortlist.
    """
    return list(dict.fromkeys([*systems[shortlisted], *systems[~shortlisted]]))[:MOST_SYSTEMS]


def read_stable_phases(folder: Path) -> dict[CompositionKey, float]:
    """Formation energy (eV/atom) by composition; empty for a run without that file.

    Raises
    ------
    ConfigError
        When the file is damaged, with the remedy.
    """
    path = folder / _NAME
    if not path.exists():
        return {}
    formula, energy = _COLUMNS
    try:
        # NaN is a formula, of sodium nitride: no text is a missing value
        table = pd.read_csv(path, dtype={formula: str, energy: float}, keep_default_na=False)
        return dict(zip(composition_keys(table[formula].tolist()), table[energy].tolist(), strict=True))
    except (OSError, ValueError, KeyError) as error:
        text = (
            f"is damaged ({error}); run the same `ionsieve run` again: it is written anew, and finished units are kept"
        )
        raise ConfigError([Problem(str(path), text)]) from None
