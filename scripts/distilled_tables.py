"""Tables and verdicts of ``measure_distilled.py``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from distilled_agreement import EndAgreement, HeightAgreement, RelaxedEnds, end_agreement, runs_away
from relaxation_tables import table, told

from pipeline.crystal import structure_from_row
from pipeline.stages.suspicion import closest_pair

GATE, NEAR = 0.050, 0.150  # eV/atom
LEAST_SPEARMAN, LEAST_ALIKE = 0.95, 0.88
VOLUME, LEAST_WITHIN, MOST_RUNAWAYS = 0.03, 0.90, 0.02


def volumes(rows: pd.DataFrame) -> np.ndarray:
    """(n,) Å3."""
    return np.array([abs(np.linalg.det(np.reshape(lattice, (3, 3)))) for lattice in rows["lattice"]])


def print_heights(found: HeightAgreement, hulls: str) -> bool:
    """Print how energies above hull agree; whether the bounds are met."""
    low, high = found.interval
    print(
        f"Energies above hull ({hulls}), {found.compared} candidates; model minus teacher, median: "
        f"{1000 * found.shift:+.1f} meV/atom. Of the {found.near} within {1000 * NEAR:g} meV/atom of the hull: rank "
        f"correlation {found.spearman_near:.3f}, balanced accuracy {found.balanced:.3f} (95 % {low:.3f} to {high:.3f})."
    )
    met = told(f"Spearman at least {LEAST_SPEARMAN:g}: {found.spearman:.4f}", found.spearman >= LEAST_SPEARMAN)
    return met & told(
        f"the same side of {1000 * GATE:g} meV/atom for at least {LEAST_ALIKE:.0%} of those near: {found.alike:.1%}",
        found.alike >= LEAST_ALIKE,
    )


def print_ends(found: EndAgreement, left_out: int) -> bool:
    """Print how relaxations end; whether the bounds are met."""
    print(
        f"\nRelaxations: {found.compared} that end well with the teacher ({left_out} do not); volumes differ by "
        f"{found.median_change:.2%} in the median"
    )
    met = told(
        f"within {VOLUME:.0%} of the teacher's volume for at least {LEAST_WITHIN:.0%}: {found.within:.1%}",
        found.within >= LEAST_WITHIN,
    )
    if found.beyond:
        print(f"  {found.beyond} of these just out of the stage's bound on volumes, with the teacher just within it")
    return met & told(
        f"no more than {MOST_RUNAWAYS:.0%} run away: {found.runaways:.1%}", found.runaways <= MOST_RUNAWAYS
    )


def print_runaways(starts: pd.DataFrame, relaxed: pd.DataFrame, both: tuple[RelaxedEnds, RelaxedEnds]) -> None:
    """Print how those end that run away with the model alone: nearest atoms, and volumes beside the teacher's."""
    teacher, model = both
    before = volumes(starts)
    for i in np.flatnonzero(runs_away(teacher, model, VOLUME)):
        name = f"  {starts['candidate_id'].iloc[i]}:"
        if not np.isfinite(model.energies[i]):
            print(f"{name} fails")
            continue
        apart = closest_pair(structure_from_row(relaxed.iloc[i].to_dict()), 2.0)[0]
        shares = " and ".join(f"{found.volumes[i] / before[i] - 1.0:+.0%}" for found in both)
        above = 1000 * (model.energies[i] - teacher.energies[i])
        print(
            f"{name} volume {shares} of the start's with teacher and model, {above:+.0f} meV/atom by the model, atoms "
            f"at {apart:.2f} of their radii"
        )


def print_repeated(teacher: Sequence[RelaxedEnds], model: Sequence[RelaxedEnds]) -> None:
    """Print how the model agrees with the teacher from each rattle, and the teacher with itself from each two."""
    print(f"\nFrom {len(teacher)} rattles, each the same for both:")
    same = [end_agreement(a, b, VOLUME) for a, b in zip(teacher, model, strict=True)]
    _print_pairs("the model and the teacher", same)
    _print_pairs("the teacher and itself", [end_agreement(a, b, VOLUME) for a, b in combinations(teacher, 2)])
    _print_pairs("the model and itself", [end_agreement(a, b, VOLUME) for a, b in combinations(model, 2)])


def _print_pairs(who: str, found: Sequence[EndAgreement]) -> None:
    number = sum(each.compared for each in found)
    said = []
    for measure, words in (("within", f"within {VOLUME:.0%}"), ("runaways", "run away")):
        shares = [float(getattr(each, measure)) for each in found]
        mean = sum(share * each.compared for share, each in zip(shares, found, strict=True)) / number
        said.append(f"{mean:.1%} {words} ({', '.join(f'{share:.1%}' for share in shares)})")
    print(f"  {who}: {'; '.join(said)}")


def print_followed(teacher: RelaxedEnds, model: RelaxedEnds, followed: RelaxedEnds) -> None:
    """Print where the teacher comes to rest from the model's ends: at minima of its own, or back at its first ones."""
    own = RelaxedEnds(followed.energies, followed.volumes, followed.sound, teacher.sane & followed.sane)
    found = end_agreement(own, model, VOLUME)
    print(
        f"\nThe teacher from the model's ends: {found.compared} come to rest within the bounds, {found.within:.1%} "
        f"within {VOLUME:.0%} of the model's volume, {found.median_change:.2%} in the median"
    )
    apart = own.sane & model.sane & (np.abs(model.volumes / teacher.volumes - 1.0) > VOLUME)
    above = 1000 * (followed.energies - teacher.energies)[apart]
    stay = (np.abs(model.volumes / followed.volumes - 1.0) <= VOLUME)[apart]
    back = (np.abs(followed.volumes / teacher.volumes - 1.0) <= VOLUME)[apart]
    print(
        f"Of the {len(above)} whose volume is not the teacher's first, {stay.sum()} rest where the model left them, "
        f"{back.sum()} come back to it; {np.median(above):+.1f} meV/atom from the teacher's first energies in the "
        f"median, {(above < -1).sum()} lower and {(above > 1).sum()} higher by more than 1"
    )


def print_prototypes(prototypes: pd.Series, heights: list[np.ndarray], both: tuple[RelaxedEnds, RelaxedEnds]) -> None:
    """Print the agreement for each prototype: what is shared by all is not one prototype's."""
    rows = []
    for name, number in prototypes.value_counts().items():
        own = (prototypes == name).to_numpy()
        teacher, model = (RelaxedEnds(e.energies[own], e.volumes[own], e.sound[own], e.sane[own]) for e in both)
        found = end_agreement(teacher, model, VOLUME)
        differences = 1000 * np.abs(heights[1] - heights[0])[own]
        median = f"{np.nanmedian(differences):.1f}" if np.isfinite(differences).any() else "–"
        shares = [f"{share:.0%}" if found.compared else "–" for share in (found.within, found.runaways)]
        rows.append((name, number, median, *shares))
    print()
    table("prototype | candidates | median difference above hull, meV/atom | volume alike | run away", rows)
