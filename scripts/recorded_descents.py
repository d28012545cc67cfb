"""Relaxations whose every evaluation is kept, so that giving up can be tried on them afterwards.

A relaxation does not depend on its companions, to the last bit, so what a rule would have given up, and when, can be
read off the record of the same relaxation without the rule. ``measure_ladder.py`` checks that on real runs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Structure

from pipeline.reference.descent_bounds import DescentBound
from pipeline.references import References
from pipeline.settings import StabilitySettings
from pipeline.stages import stability
from pipeline.surrogates.descent import DescentPoint, DescentRecorder
from pipeline.surrogates.giving_up import GivingUp
from pipeline.surrogates.potential import Potential
from pipeline.surrogates.relaxation import RelaxationSettings

PART = 32
"""Candidates that are relaxed together, and kept in one file."""


@dataclass(frozen=True)
class Descent:
    """One recorded relaxation.

    Attributes
    ----------
    candidate_id, formula
        Whose.
    atoms
        In the cell.
    ceiling
        Total energy that the crystal must come under, eV.
    energies
        (T,) total energy at every evaluation, eV.
    energy_above_hull
        At the end, eV/atom; NaN where the relaxation failed.
    error
        Why it failed, else empty.
    """

    candidate_id: str
    formula: str
    atoms: int
    ceiling: float
    energies: np.ndarray
    energy_above_hull: float
    error: str


class RecordingPotential(Potential):
    """A loaded potential that writes down every evaluation instead of giving up; one call of a stage at a time."""

    def __init__(self, potential: Potential) -> None:
        self.__dict__.update(potential.__dict__)
        self.points: dict[str, tuple[float, np.ndarray]] = {}

    def relax(self, structures: Sequence[Structure], *arguments: Any, **options: Any) -> Any:
        """Relax as the potential does; ``points`` then has each key's ceiling and (T,) energies."""
        keys = [key for key, s in zip(options["keys"], structures, strict=True) if self._rejection(s) is None]
        self._ceilings, self._recorder = [], DescentRecorder()
        result = super().relax(structures, *arguments, **options)
        points = self._recorder.points
        if points:
            index = np.concatenate([p.index for p in points])
            energies = np.concatenate([p.energies for p in points])
            for k, key in enumerate(keys):
                self.points[key] = (self._ceilings[k], energies[index == k])
        return result

    def _giving_up(self, ceilings: Sequence[float], optimizer: str) -> DescentRecorder:
        self._ceilings = list(ceilings)
        return self._recorder


def stability_settings(references: References) -> StabilitySettings:
    """Settings of the campaign's stage, told to give up above its gate."""
    stage = next((s for s in references.campaign.stages if isinstance(s, StabilitySettings)), None)
    bound = None if stage is None or "energy_above_hull" not in stage.gates else stage.gates["energy_above_hull"].upper
    if stage is None or bound is None:
        raise ValueError(f"campaign {references.campaign.name!r} has no stage stability with an upper gate; choose one")
    return stage.model_copy(update={"give_up_above": bound})


def engine(references: References, settings: StabilitySettings) -> dict[str, Any]:
    """What a record depends on beside its candidate: the weights, and how they are descended."""
    relaxing = RelaxationSettings(settings.fmax, settings.max_steps, settings.relax_cell, settings.optimizer)
    return {
        "sha256": references.potential.sha256,
        "relaxation": asdict(relaxing),
        "rattle": settings.rattle,
        "seed": settings.seed,
        "give_up_above": settings.give_up_above,
        "phases": references.phases_path.name,
        "stage_version": stability.STAGE_VERSION,
    }


def record(
    rows: pd.DataFrame, references: References, settings: StabilitySettings, cache: Path | None
) -> Iterator[list[Descent]]:
    """Relax candidates part by part through the stage itself; parts that ``cache`` has are read."""
    words = json.dumps(engine(references, settings), sort_keys=True)
    folder = cache / f"descents-{hashlib.sha256(words.encode()).hexdigest()[:16]}" if cache else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "engine.json").write_text(words + "\n", encoding="utf-8")
    alone = References(
        references.campaign,
        references.library_path,
        references.phases_path,
        references.elemental_references_path,
        references.observed_path,
    )
    alone.library, alone.phases = references.library, references.phases
    alone.second_potential = None  # whatever the campaign has: it decides nothing here
    for first in range(0, len(rows), PART):
        part = rows.iloc[first : first + PART].reset_index(drop=True)
        name = hashlib.sha256("\n".join(part["candidate_id"]).encode()).hexdigest()[:16]
        kept = folder / f"{name}.parquet" if folder else None
        if kept is not None and kept.exists():
            yield _from_table(pd.read_parquet(kept))
            continue
        started = time.process_time()
        alone.potential = RecordingPotential(references.potential)
        table = stability.run(part, settings, alone, Path())
        found = [_descent(row, alone.potential.points) for row in table.to_dict("records")]
        print(f"{first + len(part)} relaxed, {(time.process_time() - started) / len(part):.3f} core-s each", flush=True)
        if kept is not None:
            pd.DataFrame([vars(d) for d in found]).to_parquet(kept)
        yield found


def _descent(row: dict[Any, Any], points: dict[str, tuple[float, np.ndarray]]) -> Descent:
    ceiling, energies = points.get(row["candidate_id"], (float("nan"), np.empty(0)))
    ok = row["stability_status"] == "ok"
    return Descent(
        row["candidate_id"],
        row["formula_pretty"],
        int(row["nsites"]),
        ceiling,
        energies,
        float(row["energy_above_hull"]) if ok else float("nan"),
        row["stability_error"],
    )


def _from_table(table: pd.DataFrame) -> list[Descent]:
    return [Descent(**row) for row in table.to_dict("records")]


def left_after(descent: Descent, bound: DescentBound) -> int | None:
    """Evaluations after which the rule gives a recorded relaxation up; None when it goes to its end.

    The last evaluation of a relaxation ends it, whatever the rule says.
    """
    rule = GivingUp(np.array([descent.ceiling]), bound)
    index, atoms = np.zeros(1, np.int64), np.array([descent.atoms])
    for t in range(len(descent.energies) - (not descent.error)):
        if rule.hopeless(DescentPoint(index, atoms, descent.energies[t : t + 1]))[0]:
            return t + 1
    return None


def passes(descents: Sequence[Descent], gate: float) -> np.ndarray:
    """(n,) which relaxations end below the gate."""
    return np.array([d.energy_above_hull < gate for d in descents], bool)
