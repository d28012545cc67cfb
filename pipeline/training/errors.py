"""Errors of a trained model on its test split, by anion class and near minima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.reference.anion_class import ANION_CLASSES, anion_class
from pipeline.surrogates.batch import FloatArray
from pipeline.surrogates.results import Evaluation
from pipeline.training.labelled import LabelledCrystals
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

ALL = "all"
NEAR = "small forces"
ERROR_UNITS = {"energy": "meV/atom", "force": "meV/Å", "stress": "GPa"}


def errors_by_class(
    labels: LabelledCrystals, evaluations: list[Evaluation], near_force: float
) -> dict[str, dict[str, Any]]:
    """Mean and median absolute errors, of all crystals, of those near a minimum, and of each anion class.

    Parameters
    ----------
    labels : LabelledCrystals
        B crystals.
    evaluations : list of Evaluation
        The model's answers, in the same order.
    near_force : float
        eV/Å; crystals whose root mean square force is at most this are near a minimum.

    Returns
    -------
    dict
        By class: ``crystals``, ``groups``, ``failed``, and ``energy_mae``, ``energy_median`` (meV/atom, of crystals),
        ``force_mae``, ``force_median`` (meV/Å, of components), ``stress_mae``, ``stress_median`` (GPa, of components,
        None without stresses).
    """
    classes = np.array([anion_class(formula) for formula in labels.formulas])
    sound = np.array([e.error is None for e in evaluations])
    found = {}
    members = {ALL: np.ones(len(labels), bool), NEAR: labels.rms_forces <= near_force}
    members |= {name: classes == name for name in ANION_CLASSES}
    for name, mine in members.items():
        rows = np.flatnonzero(mine)
        if len(rows):
            chosen = rows[sound[rows]]
            found[name] = {
                "crystals": len(rows),
                "groups": len({labels.groups[b] for b in rows}),
                "failed": len(rows) - len(chosen),
                **_errors(labels.select(chosen), [evaluations[b] for b in chosen]),
            }
    return found


def _errors(labels: LabelledCrystals, evaluations: list[Evaluation]) -> dict[str, float | None]:
    energies = np.array([e.energy for e in evaluations])
    forces = np.concatenate([e.forces for e in evaluations] or [np.empty((0, 3))])
    deviations: dict[str, FloatArray | None] = {
        "energy": 1000.0 * (energies - labels.energies) / labels.crystals.counts,
        "force": 1000.0 * (forces - labels.forces),
        "stress": None,
    }
    if labels.stresses is not None:
        stresses = np.array([e.stress for e in evaluations]).reshape(-1, 3, 3)
        deviations["stress"] = GPA_PER_EV_PER_ANGSTROM3 * stresses - labels.stresses
    measures: dict[str, Callable[[FloatArray], Any]] = {"mae": np.mean, "median": np.median}
    return {
        f"{quantity}_{name}": float(measure(np.abs(values))) if values is not None and values.size else None
        for quantity, values in deviations.items()
        for name, measure in measures.items()
    }
