"""How far a distilled model decides and relaxes like its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.rank_statistics import spearman
from pipeline.reference.hull_comparison import balanced_accuracy, interval

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class HeightAgreement:
    """Energies above hull of n candidates, by the teacher and by the model.

    Attributes
    ----------
    compared
        Candidates with an energy by the teacher.
    spearman, spearman_near
        Rank correlation of all, and of those near the hull.
    near
        How many lie within the distance asked for, above or below the hull, by the teacher.
    alike
        Share of these that both place on the same side of the gate.
    balanced, interval
        Balanced accuracy of these decisions, and its 95 % bootstrap interval over chemical systems; NaN where all
        lie on one side.
    shift
        Median of model minus teacher over all that both have, eV/atom.
    """

    compared: int
    spearman: float
    spearman_near: float
    near: int
    alike: float
    balanced: float
    interval: tuple[float, float]
    shift: float


def height_agreement(
    teacher: Floats, model: Floats, systems: Sequence[str], gate: float, within: float
) -> HeightAgreement:
    """Compare energies above hull.

    Parameters
    ----------
    teacher, model
        (n,) eV/atom; NaN where a relaxation failed. What fails with the model alone counts as infinitely unstable: a
        campaign loses it. What fails with the teacher is left out.
    systems
        (n,) chemical systems.
    gate, within
        Of stability, and the distance from the hull that is near, eV/atom.
    """
    known = np.isfinite(teacher)
    true, given = teacher[known], np.where(np.isnan(model), np.inf, model)[known]
    groups = np.asarray(systems)[known]
    near = np.abs(true) <= within
    below, decided = true[near] < gate, given[near] < gate
    balanced = balanced_accuracy(below, decided)
    both_sides = np.isfinite(balanced)
    shifts = (given - true)[np.isfinite(given)]
    return HeightAgreement(
        compared=int(known.sum()),
        spearman=spearman(true, given),
        spearman_near=spearman(true[near], given[near]),
        near=int(near.sum()),
        alike=float((below == decided).mean()) if near.any() else float("nan"),
        balanced=balanced,
        interval=interval(below, decided, groups[near].tolist(), 0) if both_sides else (float("nan"), float("nan")),
        shift=float(np.median(shifts)) if len(shifts) else float("nan"),
    )


@dataclass(frozen=True)
class RelaxedEnds:
    """Where relaxations of n candidates end.

    Attributes
    ----------
    energies
        (n,) eV/atom; NaN where one failed.
    volumes
        (n,) Å3.
    sound
        (n,) whether it came to an end with distances within the bound that stage stability sets.
    sane
        (n,) whether the volume is within that stage's bound too.
    """

    energies: Floats
    volumes: Floats
    sound: Flags
    sane: Flags


@dataclass(frozen=True)
class EndAgreement:
    """Relaxations by the model where the teacher's are sane.

    Attributes
    ----------
    compared
        How many there are.
    within
        Share that end soundly within the tolerated difference of the teacher's volume.
    beyond
        How many of these have a volume just out of the bound, where the teacher's is just within it.
    runaways
        Share that fail or collapse, or end out of the bound on volumes and not within that difference of the teacher's.
    median_change
        Median absolute relative difference of the volumes, of those that do not run away.
    """

    compared: int
    within: float
    beyond: int
    runaways: float
    median_change: float


def end_agreement(teacher: RelaxedEnds, model: RelaxedEnds, tolerance: float) -> EndAgreement:
    """Compare volumes; ``tolerance`` is relative."""
    changes = np.abs(model.volumes / teacher.volumes - 1.0)[teacher.sane]
    away = runs_away(teacher, model, tolerance)[teacher.sane]
    within = model.sound[teacher.sane] & (changes <= tolerance)
    if not len(away):
        return EndAgreement(0, float("nan"), 0, float("nan"), float("nan"))
    return EndAgreement(
        compared=len(away),
        within=float(within.mean()),
        beyond=int((within & ~model.sane[teacher.sane]).sum()),
        runaways=float(away.mean()),
        median_change=float(np.median(changes[~away])) if not away.all() else float("nan"),
    )


def runs_away(teacher: RelaxedEnds, model: RelaxedEnds, tolerance: float) -> Flags:
    """(n,) which relaxations run away with the model alone: one that ends with the teacher's volume has not."""
    alike = model.sound & (np.abs(model.volumes / teacher.volumes - 1.0) <= tolerance)
    return np.asarray(teacher.sane & ~model.sane & ~alike, dtype=np.bool_)
