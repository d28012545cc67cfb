"""Old labels repeated beside new ones, so that a fine-tuned model doesn't forget what it knew.

Rehearsal: A. Robins, Connect. Sci. 1995, 7, 123. Energies of old and new labels may have different zeros. The
difference of each element's energy is fitted to what the model says of the new crystals before it is trained, which it
starts with anyhow, and added to the old labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.problems import ConfigError, Problem
from pipeline.surrogates.batch import FloatArray
from pipeline.training.baseline import check_energies
from pipeline.training.findings import Findings
from pipeline.training.labelled import LabelledCrystals, joined
from pipeline.training.reading import TrainingData, file_digest, read_labels
from pipeline.training.settings import DataSettings, RehearsalSettings
from pipeline.training.splits import same_crystals, same_prototypes

_KEY = "fine_tune.rehearse.files"


@dataclass(frozen=True)
class Rehearsal:
    """Old labels that were drawn, why others were left out, and the SHA-256 of each file."""

    labels: LabelledCrystals
    left_out: dict[str, int]
    files: dict[str, str]

    def beside(self, new: LabelledCrystals, shift: FloatArray, elements: tuple[str, ...]) -> LabelledCrystals:
        """New and old labels as one table, in the new scheme.

        Parameters
        ----------
        new
            The training split.
        shift : (K,) float64
            eV to be added for each atom of an element.
        elements
            The K symbols.
        """
        energies = self.labels.energies + self.labels.composition_counts(elements) @ shift
        return joined([new, replace(self.labels, energies=energies, scheme=new.scheme)])


def draw_rehearsal(settings: RehearsalSettings, bounds: DataSettings, data: TrainingData) -> Rehearsal:
    """Read old labels, leave out what the new training can't have, and draw from the rest.

    Left out are crystals with an element that the new labels lack (its energy in the new scheme is not known), and
    those whose group, prototype or crystal is in the new validation or test split.

    Raises
    ------
    ConfigError
        Labels that are wrong, each with file and row; or none is left.
    """
    findings = Findings()
    parts = read_labels(settings.files, bounds.model_copy(update={"label_scheme": settings.label_scheme}), findings)
    findings.raise_if_any()
    labels = joined(parts)
    check_energies(labels, bounds.largest_energy_deviation, findings)
    findings.raise_if_any()
    left_out = {}

    def keep(labels: LabelledCrystals, kept: np.ndarray, reason: str) -> LabelledCrystals:
        if not kept.all():
            left_out[reason] = int((~kept).sum())
        return labels.select(np.flatnonzero(kept))

    others = joined([data.splits.validation, data.splits.test])
    strange = [symbol for symbol in labels.elements if symbol not in data.elements]
    kept = labels.composition_counts(labels.elements)[:, [labels.elements.index(s) for s in strange]].sum(axis=1) == 0
    labels = keep(labels, kept, f"with {', '.join(strange)}, which the new labels lack")
    unseen = _groups_of_others(labels, others, by_prototype=bounds.group_by != "formula")
    kept = np.array([group not in unseen for group in labels.groups], bool)
    labels = keep(labels, kept, "of a held-out group, prototype or crystal")
    order = np.random.default_rng(settings.seed).permutation(len(labels))[: settings.crystals]
    labels = labels.select(np.sort(order))
    if not len(labels):
        reasons = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise ConfigError([Problem(_KEY, f"no crystal is left to rehearse: {reasons}")])
    return Rehearsal(labels, left_out, {file: file_digest(Path(file)) for file in settings.files})


def _groups_of_others(labels: LabelledCrystals, others: LabelledCrystals, *, by_prototype: bool) -> set[str]:
    """Groups of labels that others have too, under this name or by a crystal or a prototype of theirs.

    A group goes as a whole: of its distorted crystals no symmetry tells the prototype.
    """
    found = {labels.groups[i] for i, _ in same_crystals(labels, others)}
    if by_prototype:
        found |= {labels.groups[i] for i, _, _ in same_prototypes(labels, others)}
    return found | set(others.groups)
