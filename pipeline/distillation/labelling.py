"""From drawn crystals to labelled rows: frames are made, given to the teacher in batches, and filtered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.crystal import row_from_structure, structure_from_row
from pipeline.distillation.frames import Frame, distorted_frames, dynamics_frames, relaxation_frames
from pipeline.distillation.settings import DistillationSettings, SanityFilter
from pipeline.stages.suspicion import closest_pair
from pipeline.surrogates.batch import FloatArray
from pipeline.training.groups import protostructure
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from pipeline.surrogates.potential import Potential
    from pipeline.surrogates.results import Evaluation

REASONS = ("not_evaluated", "too_close", "volume", "energy", "force", "stress")
"""Why a frame is left out: the first of these that holds."""

ROW_COLUMNS = (
    "structure_id",
    "lattice",
    "atomic_numbers",
    "frac_coords",
    "energy",
    "forces",
    "stress",
    "label_scheme",
    "source",
    "start_id",
    "kind",
    "prototype",
    "protostructure",
)
"""Of a labelled part: the label's own columns, and what its group is made from."""


@dataclass(frozen=True)
class LabelledPart:
    """Rows of :data:`ROW_COLUMNS`, and how many frames were left out by reason (``<source>: <reason>``)."""

    rows: pd.DataFrame
    left_out: dict[str, int]


def label_crystals(starts: pd.DataFrame, settings: DistillationSettings, potential: Potential) -> LabelledPart:
    """Make the frames of drawn crystals and label them.

    Parameters
    ----------
    starts
        Rows of :func:`pipeline.distillation.drawing.draw_crystals`.
    settings
        Which frames, the filter and the seed.
    potential
        The teacher.

    Returns
    -------
    LabelledPart
        One row a frame: energy in eV, forces in eV/Å, stress in GPa (positive under tension); ``protostructure`` is the
        label of a frame that has symmetry, else missing. The same crystals give the same rows; with a teacher that
        does not depend on a batch's other crystals (M3GNet on a CPU), whatever else is in ``starts``.
    """
    rows = starts.to_dict("records")
    if not rows:
        return LabelledPart(pd.DataFrame(columns=list(ROW_COLUMNS)), {})
    structures = [structure_from_row({**row, "oxidation_states": []}) for row in rows]
    frames = _frames(rows, structures, settings, potential)
    flat = [(k, frame) for k, own in enumerate(frames) for frame in own]
    evaluations = potential.evaluate([frame.structure for _, frame in flat])
    left_out: Counter[str] = Counter()
    kept = []
    for (k, frame), evaluation in zip(flat, evaluations, strict=True):
        reason = insanity(frame.structure, evaluation, structures[k].volume / len(structures[k]), settings.sanity)
        if reason is not None:
            left_out[f"{frame.source}: {reason}"] += 1
            continue
        kept.append(_row(rows[k], frame, evaluation, potential.scheme or "other"))
    return LabelledPart(pd.DataFrame(kept, columns=list(ROW_COLUMNS)), dict(sorted(left_out.items())))


def _frames(
    rows: Sequence[dict[Any, Any]], structures: list[Structure], settings: DistillationSettings, potential: Potential
) -> list[list[Frame]]:
    """All frames of each crystal; copies and dynamics start from the relaxed crystal where there is one."""
    keys = [str(row["start_id"]) for row in rows]
    frames = [[Frame(f"{key}-drawn", "drawn", s)] for key, s in zip(keys, structures, strict=True)]
    bases = list(structures)
    chosen = [k for k, row in enumerate(rows) if row["relaxed"]]
    relaxed = relaxation_frames(
        [keys[k] for k in chosen], [structures[k] for k in chosen], settings.relaxation, settings.seed, potential
    )
    for k, (own, end) in zip(chosen, relaxed, strict=True):
        frames[k] += own
        bases[k] = end
    for k, base in enumerate(bases):
        frames[k] += distorted_frames(keys[k], base, settings.distortions, settings.seed)
    moving = [k for k, row in enumerate(rows) if np.isfinite(row["temperature"])]
    moved = dynamics_frames(
        [keys[k] for k in moving],
        [bases[k] for k in moving],
        [float(rows[k]["temperature"]) for k in moving],
        settings.dynamics,
        settings.distortions.least_sites,
        settings.seed,
        potential,
    )
    for k, own in zip(moving, moved, strict=True):
        frames[k] += own
    return frames


def insanity(
    structure: Structure, evaluation: Evaluation, volume_per_atom: float, settings: SanityFilter
) -> str | None:
    """Why a labelled frame is left out, one of :data:`REASONS`; None for one that is kept.

    Parameters
    ----------
    structure
        The frame.
    evaluation
        The teacher's label.
    volume_per_atom
        Of the crystal that it came from, Å3.
    settings
        The bounds.
    """
    if evaluation.error is not None:
        return "not_evaluated"
    if closest_pair(structure, settings.distance_ratio)[0] < settings.distance_ratio:
        return "too_close"
    if not settings.smallest_volume <= structure.volume / len(structure) / volume_per_atom <= settings.largest_volume:
        return "volume"
    if not settings.lowest_energy <= evaluation.energy / len(structure) <= settings.highest_energy:
        return "energy"
    if _largest_force(evaluation.forces) > settings.largest_force:
        return "force"
    if float(np.abs(evaluation.stress).max()) * GPA_PER_EV_PER_ANGSTROM3 > settings.largest_stress:
        return "stress"
    return None


def _largest_force(forces: FloatArray) -> float:
    return float(np.linalg.norm(forces, axis=1).max())


def _row(start: dict[Any, Any], frame: Frame, evaluation: Evaluation, scheme: str) -> dict[str, Any]:
    crystal = row_from_structure(frame.structure)
    crystal.pop("oxidation_states")
    return {
        "structure_id": frame.structure_id,
        **crystal,
        "energy": evaluation.energy,
        "forces": evaluation.forces.reshape(-1).tolist(),
        "stress": (evaluation.stress * GPA_PER_EV_PER_ANGSTROM3).reshape(-1).tolist(),
        "label_scheme": scheme,
        "source": frame.source,
        "start_id": start["start_id"],
        "kind": start["kind"],
        "prototype": start["prototype"],
        "protostructure": protostructure(crystal),
    }
