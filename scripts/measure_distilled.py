"""Does a distilled model decide like its teacher on prototypes that it has not seen?

    python scripts/measure_distilled.py models/ionsieve-M3GNet-halides --work FOLDER

Measures energies, forces and stresses on the test split of the model's own labels; then draws candidates of the
campaign ``--config``, of prototypes whose frames are all in the test split, that pass the cheap gates and the gate on
the estimate, relaxes them with the model and with the teacher as stage stability does (the same rattled starts), and
compares energies above hull and volumes. Hulls are the campaign's table, as in a run; with ``--own-hulls N`` each model
has its own of relaxed elements and AFLOW prototypes of up to N elements, as with ``reference: prototypes``. What is
relaxed is kept in ``--work``, so that a second call goes on. Exit code 1 where a bound is not met.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from distilled_agreement import RelaxedEnds, end_agreement, height_agreement
from distilled_tables import (
    GATE,
    NEAR,
    VOLUME,
    print_ends,
    print_followed,
    print_heights,
    print_prototypes,
    print_repeated,
    print_runaways,
    volumes,
)
from held_out import Distilled, unseen_candidates
from random_candidates import campaign_references
from relaxation_tables import table, told

from pipeline.config import ReferenceSettings
from pipeline.crystal import structure_from_row
from pipeline.reference import PhaseReference
from pipeline.reference.competing import competing_phases
from pipeline.reference.formulas import structure_formula
from pipeline.reference.kept_relaxations import relax_and_keep
from pipeline.reference.self_consistent import write_self_consistent_reference
from pipeline.references import References
from pipeline.settings import SuspectSettings
from pipeline.stages.stability import formation_energy_for
from pipeline.stages.suspicion import closest_pair
from pipeline.surrogates import load_potential, model_digest
from pipeline.training.errors import ALL, errors_by_class
from pipeline.training.fitting_settings import FittingSettings
from pipeline.training.labelled import LabelledCrystals

CAMPAIGN = Path(__file__).parents[1] / "configs" / "halides.yaml"
LARGEST = {"energy_mae": 25.0, "energy_median": 12.0, "force_mae": 100.0}
"""meV/atom, meV/atom, meV/Å."""


def main() -> int:
    """Measure, print, judge."""
    options = _options()
    model = Distilled(options.model.resolve())
    met = print_errors(model.test_labels(), str(model.folder))
    references = campaign_references(options.config)
    rows = unseen_candidates(model, references, options.count, options.seed, options.work, seen=options.seen)
    which = "seen" if options.seen else "unseen"
    print(
        f"{len(rows)} candidates of {options.config.name}, of {rows['prototype'].nunique()} {which} prototypes, seed "
        f"{options.seed}: {', '.join(f'{n} {p}' for p, n in rows['prototype'].value_counts().items())}\n"
    )
    names = (model.teacher, str(model.folder))
    relaxed = [relaxed_by(name, rows, options) for name in names]
    heights = [
        energies_above_hull(result, name, _hull(name, rows, references, options))
        for name, result in zip(names, relaxed, strict=True)
    ]
    hulls = "the campaign's table" if options.own_hulls is None else f"each its own, {options.own_hulls} elements"
    met &= print_heights(height_agreement(*heights, rows["chemsys"].tolist(), GATE, NEAR), hulls)
    teacher, ours = (ends(result, rows) for result in relaxed)
    met &= print_ends(end_agreement(teacher, ours, VOLUME), int((~teacher.sane).sum()))
    print_runaways(rows, relaxed[1], (teacher, ours))
    if options.repeat:
        more = [
            [ends(relaxed_by(name, rows, options, seed=k), rows) for k in range(1, options.repeat + 1)]
            for name in names
        ]
        print_repeated([teacher, *more[0]], [ours, *more[1]])
    if options.follow:
        print_followed(teacher, ours, ends(relaxed_by(model.teacher, relaxed[1], options, rattle=0.0), rows))
    print_prototypes(rows["prototype"], heights, (teacher, ours))
    return 0 if met else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a distilled model, with its labels")
    parser.add_argument("--config", type=Path, default=CAMPAIGN, help="campaign whose candidates are drawn")
    parser.add_argument("--count", type=int, default=400, help="candidates")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--own-hulls", type=int, choices=(2, 3), help="most elements of self-consistent hulls' phases")
    parser.add_argument("--repeat", type=int, default=0, metavar="N", help="relax with both from N other rattles too")
    parser.add_argument("--follow", action="store_true", help="let the teacher go on from where the model ends")
    parser.add_argument("--seen", action="store_true", help="draw from the prototypes of the training split")
    parser.add_argument("--rattle", type=float, help="Å, of the starts; default: the stage's")
    parser.add_argument("--fmax", type=float, help="eV/Å, at which relaxations end; default: the stage's")
    parser.add_argument("--processes", type=int, default=1, help="that relax")
    parser.add_argument("--work", type=Path, required=True, help="folder for what was relaxed")
    return parser.parse_args()


@cache
def potential_of(name: str) -> Any:
    """A potential by name or path, loaded once."""
    return load_potential(name)


def relaxed_by(name: str, rows: pd.DataFrame, options: argparse.Namespace, **changes: Any) -> pd.DataFrame:
    """Rows relaxed with a potential; kept by its weights, since other ones may come to lie at its path."""
    folder = options.work / model_digest(name)[:16]
    given = {name: getattr(options, name, None) for name in ("rattle", "fmax")}
    changes = {name: value for name, value in given.items() if value is not None} | changes

    def say(line: str) -> None:
        print(f"{name}: {line}", file=sys.stderr, flush=True)

    return relax_and_keep(rows, name, folder, options.processes, say, changes)


def print_errors(labels: LabelledCrystals, name: str) -> bool:
    """Print errors on the test split by anion class; whether the bounds are met."""
    errors = errors_by_class(labels, potential_of(name).evaluate(labels.structures()), FittingSettings().near_force)
    print(f"{len(labels)} labelled frames of {len(set(labels.groups))} groups of prototypes: model minus label\n")
    measures = [f"{quantity}_{measure}" for quantity in ("energy", "force", "stress") for measure in ("mae", "median")]
    table(
        "class | frames | energy, meV/atom | median | force, meV/Å | median | stress, GPa | median",
        [
            (kind, found["crystals"], *("–" if found[m] is None else f"{found[m]:.3g}" for m in measures))
            for kind, found in errors.items()
        ],
    )
    every = errors[ALL]
    met = told("every frame is evaluated" if not every["failed"] else f"{every['failed']} failed", not every["failed"])
    for measure, bound in LARGEST.items():
        unit = "meV/Å" if measure.startswith("force") else "meV/atom"
        met &= told(f"{measure} at most {bound:g} {unit}: {every[measure]:.1f}", every[measure] <= bound)
    print()
    return met


def _hull(name: str, rows: pd.DataFrame, references: References, options: argparse.Namespace) -> PhaseReference:
    """The campaign's competing phases, or those of the rows' elements that the potential relaxes itself."""
    if options.own_hulls is None:
        return references.phases
    settings = ReferenceSettings(source="prototypes", max_elements=options.own_hulls)
    elements = tuple(sorted({symbol for system in rows["chemsys"] for symbol in system.split("-")}))
    phases = competing_phases(elements, settings, references.campaign.candidates.charges, references.library)
    tables = write_self_consistent_reference(relaxed_by(name, phases, options), potential_of(name))
    folder = options.work / model_digest(name)[:16]
    paths = [folder / f"{kind}.csv" for kind in ("phases", "elements")]
    for content, path in zip(tables, paths, strict=True):
        content.to_csv(path, index=False)
    return PhaseReference.from_table(paths[0], elemental_references=paths[1])


def energies_above_hull(relaxed: pd.DataFrame, name: str, phases: PhaseReference) -> np.ndarray:
    """(n,) eV/atom of relaxed rows, as stage stability has them; NaN where the relaxation failed."""
    formation_energy = formation_energy_for(phases, potential_of(name))
    found = np.full(len(relaxed), np.nan)
    for i, row in enumerate(relaxed.to_dict("records")):
        if np.isfinite(row["energy_per_atom"]):
            structure = structure_from_row(row)
            energy = formation_energy(structure, row["energy_per_atom"] * len(structure))
            found[i] = phases.energy_above_hull([structure_formula(structure)], [energy])[0]
    return found


def ends(relaxed: pd.DataFrame, starts: pd.DataFrame) -> RelaxedEnds:
    """Energies, volumes and whether they are within stage stability's bounds."""
    bounds = SuspectSettings()
    before, after = volumes(starts), volumes(relaxed)
    energies = relaxed["energy_per_atom"].to_numpy(dtype=float)
    apart = [
        closest_pair(structure_from_row(row), bounds.distance_ratio_below)[0] >= bounds.distance_ratio_below
        for row in relaxed.to_dict("records")
    ]
    sound = np.isfinite(energies) & np.array(apart)
    sane = sound & (np.abs(after / before - 1.0) <= bounds.volume_change_above)
    return RelaxedEnds(energies, np.where(np.isfinite(energies), after, np.nan), sound, sane)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(main())
