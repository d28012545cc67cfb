"""What do 200 labels of another teacher change in a distilled model, and what does it forget?

    python scripts/measure_fine_tuning.py models/ionsieve-M3GNet-halides --work FOLDER

Draws frames of the model's own training and validation split, every element about as often, labels them with another
teacher and fine-tunes the model on them with ``ionsieve train``. Both are then measured on the test split, whose
prototypes neither has seen: against the new teacher, and against the old one. ``--rehearse`` old labels are repeated
beside the new ones (``fine_tune.rehearse``).

Energies of two teachers have different zeros. Against the new one errors are those of the energies as they are, which
is what a campaign in its scheme would have; *elements only* is the model with nothing but the energies of the elements
fitted to the new labels. Against the old teacher, and in the columns *fitted*, an energy of each element is fitted to
the deviations first. Where two teachers differ by D after such a fit, errors against both add up to about D at least.
Exit code 1 where a bound is not met.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from held_out import Distilled
from pymatgen.core import Structure
from relaxation_tables import table, told
from ruamel.yaml import YAML

from pipeline.surrogates import load_potential
from pipeline.surrogates.potential import Potential
from pipeline.surrogates.results import Evaluation
from pipeline.training.baseline import fit_element_energies
from pipeline.training.labelled import LabelledCrystals
from pipeline.training.read_parquet import write_parquet
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

LEAST_BETTER, MOST_WORSE = 0.30, 0.20
"""Of the mean absolute error of energies, as shares of what it was."""
NAME = "fine-tuned"


def main() -> int:
    """Draw, label, train, measure, print, judge."""
    options = _options()
    torch.set_num_threads(1)
    model, teacher = Distilled(options.model.resolve()), load_potential(options.teacher)
    options.work.mkdir(parents=True, exist_ok=True)
    validation = max(1, options.count // 10)
    drawn = {
        "train": draw(model.split("train"), options.count - validation, options.seed),
        "validation": draw(model.split("validation"), validation, options.seed),
    }
    test = model.test_labels()
    drawn["test"] = test.select(np.sort(np.random.default_rng(options.seed).permutation(len(test))[: options.test]))
    relabelled = {
        split: labelled(labels, teacher, options.work / f"{split}.parquet") for split, labels in drawn.items()
    }
    tuned = fine_tune(model, teacher, options)
    old, new = drawn["test"], relabelled["test"]
    before, after = (Answers.of(load_potential(str(folder)), old) for folder in (model.folder, tuned))
    start = Answers.of(load_potential(str(model.folder)), relabelled["train"])
    shift = start.element_shift(relabelled["train"])
    apart = Answers(new.energies, new.forces)
    print(
        f"{options.model.name}, fine-tuned on {len(drawn['train'])} frames of {options.teacher} (and {validation} for "
        f"validation), {options.rehearse} old ones rehearsed; {len(old)} frames of {len(set(old.groups))} unseen "
        f"groups of prototypes. The teachers differ by {apart.energy_error(old, fitted=True):.1f} meV/atom and "
        f"{apart.force_error(old):.0f} meV/Å.\n"
    )
    versions = {"before": before, "elements only": before.shifted(shift, old), "fine-tuned": after}
    table(
        "model | new label, energy, meV/atom | fitted | force, meV/Å | old label, energy, fitted | force",
        [
            (
                name,
                f"{found.energy_error(new):.1f}",
                f"{found.energy_error(new, fitted=True):.1f}",
                f"{found.force_error(new):.0f}",
                f"{found.energy_error(old, fitted=True):.1f}",
                f"{found.force_error(old):.0f}",
            )
            for name, found in versions.items()
        ],
    )
    better = 1.0 - after.energy_error(new) / before.energy_error(new)
    worse = after.energy_error(old, fitted=True) / before.energy_error(old, fitted=True) - 1.0
    met = told(f"the new error falls by at least {LEAST_BETTER:.0%}: {better:.0%}", better >= LEAST_BETTER)
    met &= told(f"the old error rises by at most {MOST_WORSE:.0%}: {worse:+.0%}", worse <= MOST_WORSE)
    return 0 if met else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a distilled model, with its labels")
    parser.add_argument("--teacher", default="M3GNet-MatPES-PBE-v2025.1-PES", help="the other teacher")
    parser.add_argument("--count", type=int, default=200, help="new labels, a tenth of them for validation")
    parser.add_argument("--test", type=int, default=1000, help="frames of the test split")
    parser.add_argument("--rehearse", type=int, default=400, help="old labels repeated beside the new ones; 0: none")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0, help="of the draws and the training")
    parser.add_argument("--work", type=Path, required=True, help="folder for labels and the fine-tuned model")
    return parser.parse_args()


def draw(labels: LabelledCrystals, count: int, seed: int) -> LabelledCrystals:
    """Draw frames one by one, each at random among those with the element that has come least often."""
    rng, elements = np.random.default_rng(seed), labels.elements
    present = labels.composition_counts(elements) > 0
    seen, chosen = np.zeros(len(elements)), np.zeros(len(labels), bool)
    for _ in range(min(count, len(labels))):
        left = present & ~chosen[:, None]
        rarest = np.where(left.any(axis=0), seen, np.inf).argmin()
        row = rng.choice(np.flatnonzero(left[:, rarest]))
        chosen[row] = True
        seen += present[row]
    return labels.select(np.flatnonzero(chosen))


@dataclass(frozen=True)
class Answers:
    """Energies (B,) eV and forces (N, 3) eV/Å of one potential."""

    energies: np.ndarray
    forces: np.ndarray

    @classmethod
    def of(cls, potential: Potential, labels: LabelledCrystals) -> Answers:
        """Evaluate all."""
        found = evaluated(potential, labels.structures())
        return cls(np.array([one.energy for one in found]), np.concatenate([one.forces for one in found]))

    def element_shift(self, labels: LabelledCrystals) -> dict[str, float]:
        """Energies of the elements (eV) that bring these energies nearest to the labels'."""
        elements = labels.elements
        fitted = fit_element_energies(labels.composition_counts(elements), labels.energies - self.energies)
        return dict(zip(elements, fitted, strict=True))

    def shifted(self, shift: dict[str, float], labels: LabelledCrystals) -> Answers:
        """With an energy of each element added."""
        counts = labels.composition_counts(labels.elements)
        return Answers(self.energies + counts @ [shift[symbol] for symbol in labels.elements], self.forces)

    def energy_error(self, labels: LabelledCrystals, *, fitted: bool = False) -> float:
        """Mean absolute error, meV/atom, also after an energy of each element was fitted to the deviations."""
        answers = self.shifted(self.element_shift(labels), labels) if fitted else self
        return float(1000.0 * np.abs((answers.energies - labels.energies) / labels.crystals.counts).mean())

    def force_error(self, labels: LabelledCrystals) -> float:
        """Mean absolute error of components, meV/Å."""
        return float(1000.0 * np.abs(self.forces - labels.forces).mean())


def evaluated(potential: Potential, structures: list[Structure]) -> list[Evaluation]:
    """Evaluations of all; raises RuntimeError where one fails."""
    found = potential.evaluate(structures)
    if failed := [one.error for one in found if one.error is not None]:
        raise RuntimeError(f"{potential.name}: {len(failed)} of {len(found)} frames fail: {failed[0]}")
    return found


def labelled(labels: LabelledCrystals, teacher: Potential, path: Path) -> LabelledCrystals:
    """The same crystals with another teacher's labels, which are written to ``path`` too."""
    structures = labels.structures()
    answers = evaluated(teacher, structures)
    energies, forces = np.array([one.energy for one in answers]), [one.forces for one in answers]
    frame = pd.DataFrame(
        {
            "structure_id": labels.ids,
            "lattice": [cell.ravel() for cell in labels.crystals.cells],
            "atomic_numbers": [one.atomic_numbers for one in structures],
            "frac_coords": [one.frac_coords.ravel() for one in structures],
            "energy": energies,
            "forces": [force.ravel() for force in forces],
            "stress": [GPA_PER_EV_PER_ANGSTROM3 * one.stress.ravel() for one in answers],
            "group": labels.groups,
            "label_scheme": teacher.scheme,
            "source": teacher.name,
        }
    )
    write_parquet(path, frame, {"teacher": teacher.name})
    return replace(labels, energies=energies, forces=np.concatenate(forces), stresses=None, scheme=str(teacher.scheme))


def fine_tune(model: Distilled, teacher: Potential, options: argparse.Namespace) -> Path:
    """Run ``ionsieve train``; the new model's folder."""
    training: dict[str, Any] = {
        "name": NAME,
        "output": ".",
        "data": {split: [f"{split}.parquet"] for split in ("train", "validation", "test")}
        | {"label_scheme": teacher.scheme, "min_structures_per_element": 5},
        "fine_tune": {"model": str(model.folder), **_rehearsal(model, options)},
        "loss": {"energy": 3.0, "force": 1.0, "stress": 0.1, "kind": "mae"},
        "fitting": {
            "learning_rate": options.learning_rate,
            "max_epochs": options.epochs,
            "batch_size": options.batch_size,
            "seed": options.seed,
        },
        "threads": 1,
        "card": {"data_licence": "the teacher's", "data_citation": teacher.name, "teacher": teacher.name},
    }
    path = options.work / "fine_tune.yaml"
    with path.open("w", encoding="utf-8") as stream:
        YAML().dump(training, stream)
    command = [sys.executable, "-m", "workflows.entry", "train", path.name]
    subprocess.run(command, cwd=options.work, check=True, stdout=sys.stderr)
    return options.work.resolve() / NAME


def _rehearsal(model: Distilled, options: argparse.Namespace) -> dict[str, Any]:
    if not options.rehearse:
        return {}
    files = [str(model.labels / "train.parquet")]
    scheme = model.generation["teacher"]["scheme"]
    return {"rehearse": {"files": files, "label_scheme": scheme, "crystals": options.rehearse, "seed": options.seed}}


if __name__ == "__main__":
    raise SystemExit(main())
