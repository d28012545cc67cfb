"""Candidates of prototypes that a distilled model has not seen, as a campaign would relax them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Campaign
from pipeline.distillation.drawing import draw_candidates
from pipeline.distillation.settings import DistillationSettings
from pipeline.reference.prototype_library import PrototypeLibrary
from pipeline.references import References
from pipeline.settings import EstimateSettings
from pipeline.stages import estimate
from pipeline.surrogates import model_digest
from pipeline.training.findings import Findings
from pipeline.training.label_checks import checked_labels
from pipeline.training.labelled import LabelledCrystals
from pipeline.training.read_parquet import read_parquet
from pipeline.training.settings import LABELS, DataSettings
from pipeline.training.splits import SPLITS
from workflows.files import digest_of, digest_of_file

# Drawn for each that is wanted: the gate on the estimate takes some.
_DRAWN = 4


@dataclass(frozen=True)
class Distilled:
    """A distilled model's folder with its labels, checked against what made them."""

    folder: Path

    def __post_init__(self) -> None:
        for split, digest in self.generation["sha256"].items():
            if digest_of_file(self.labels / f"{split}.parquet") != digest:
                raise ValueError(f"{self.labels / f'{split}.parquet'} is not the file that generation.json tells of")
        if model_digest(self.teacher) != self.generation["teacher"]["sha256"]:
            raise ValueError(f"{self.teacher} has other weights than those that labelled {self.labels}")

    @property
    def labels(self) -> Path:
        """Where the labels lie."""
        return self.folder / LABELS

    @cached_property
    def generation(self) -> dict[str, Any]:
        """What made the labels."""
        content: dict[str, Any] = json.loads((self.labels / "generation.json").read_text(encoding="utf-8"))
        return content

    @property
    def teacher(self) -> str:
        """Model that labelled, as the settings name it: a name or a folder."""
        return str(self.generation["settings"]["teacher"])

    def test_labels(self) -> LabelledCrystals:
        """Labelled frames of the test split."""
        return self.split("test")

    def split(self, split: str) -> LabelledCrystals:
        """Labelled frames of a split."""
        path, findings = self.labels / f"{split}.parquet", Findings()
        frame = read_parquet(path, findings)
        findings.raise_if_any()
        assert frame is not None  # else findings say why
        scheme = self.generation["teacher"]["scheme"] or "other"
        settings = DataSettings(files=(str(path),), label_scheme=scheme)
        labels = checked_labels(frame, str(path), settings, findings)
        findings.raise_if_any()
        assert labels is not None
        return labels

    def unseen(self, library: PrototypeLibrary) -> PrototypeLibrary:
        """Prototypes of the library that frames of the test split were made of, and none of another split.

        Those with the same sites and other charges come along: they are one prototype for the splits.

        Raises
        ------
        ValueError
            A prototype is in two splits, or none is in the test split.
        """
        drawn = {split: self._drawn(split, library) for split in SPLITS}
        shared = drawn["test"] & (drawn["train"] | drawn["validation"])
        if shared:
            raise ValueError(f"{self.labels}: {', '.join(sorted(shared))} in the test split and another one")
        groups = library.by_unsigned_label.values()
        kept = {
            p.prototype_id for group in groups if any(q.prototype_id in drawn["test"] for q in group) for p in group
        }
        if not kept:
            raise ValueError(
                f"{self.labels}/test.parquet: no frame is of a prototype of the campaign; give its --config"
            )
        return PrototypeLibrary(tuple(p for p in library if p.prototype_id in kept), {})

    def seen(self, library: PrototypeLibrary) -> PrototypeLibrary:
        """Prototypes of the library that frames of the training split were made of."""
        drawn = self._drawn("train", library)
        return PrototypeLibrary(tuple(p for p in library if p.prototype_id in drawn), {})

    def _drawn(self, split: str, library: PrototypeLibrary) -> set[str]:
        """Prototypes behind a split's frames, which are named formula-prototype-digest-frame."""
        names = pd.read_parquet(self.labels / f"{split}.parquet", columns=["structure_id"])["structure_id"]
        parts = {name.split("-")[1] for name in names if name.count("-") > 1}
        return parts & {p.prototype_id for p in library}


def unseen_candidates(
    model: Distilled, references: References, count: int, seed: int, cache: Path, *, seen: bool = False
) -> pd.DataFrame:
    """Draw candidates of unseen prototypes that pass the campaign's cheap gates and its gate on the estimate.

    They are drawn evenly over prototypes and elements, as those were that the model was trained on.

    Parameters
    ----------
    model
        Its test split says what is unseen.
    references
        Of the campaign, with a table of competing phases.
    count, seed
        Candidates wanted (fewer where there are no more), and the seed of the draw.
    cache
        Folder where the draw is kept.
    seen
        Whether to draw from the prototypes that the model was trained on instead.

    Returns
    -------
    DataFrame
        ``candidate_id``, ``chemsys``, ``nsites``, ``prototype`` and the columns of a crystal, in random order.
    """
    which = "seen" if seen else "unseen"
    drawn_of = digest_of([model.generation["digest"], references.library.digest, _choice(references.campaign)])
    kept = cache / f"{which}-{drawn_of[:24]}-{count}-{seed}.parquet"
    if kept.exists():
        return pd.read_parquet(kept)
    library = (model.seen if seen else model.unseen)(references.library)
    wanted = {"candidates": _DRAWN * count, "per_prototype": _DRAWN * count}
    given = {**model.generation["settings"], "campaign": references.campaign.name, "seed": seed, "further": None}
    settings = DistillationSettings.model_validate({**given, "crystals": {**given["crystals"], **wanted}})
    rows = draw_candidates(references.campaign, library, settings).rename(columns={"start_id": "candidate_id"})
    rows = rows.iloc[np.random.default_rng(seed).permutation(len(rows))].reset_index(drop=True)
    rows = _passing(rows, references).iloc[:count].reset_index(drop=True)
    cache.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(kept)
    return rows


def _estimate_of(campaign: Campaign) -> EstimateSettings | None:
    return next((stage for stage in campaign.stages if isinstance(stage, EstimateSettings)), None)


def _choice(campaign: Campaign) -> list[Any]:
    """What of a campaign decides which candidates are drawn."""
    settings = (campaign.candidates, campaign.reference, _estimate_of(campaign))
    return [campaign.mobile_ions, *(None if each is None else each.model_dump(mode="json") for each in settings)]


def _passing(rows: pd.DataFrame, references: References) -> pd.DataFrame:
    """Rows that a campaign's gate on the estimate lets through; all where it has none."""
    settings = _estimate_of(references.campaign)
    columns = [name for name in rows if name != "kind"]
    if settings is None:
        return rows[columns]
    parts = [rows.iloc[i : i + settings.chunk_size] for i in range(0, len(rows), settings.chunk_size)]
    judged = pd.concat([estimate.run(part, settings, references, Path()) for part in parts], ignore_index=True)
    passes = np.ones(len(judged), bool)
    for column, gate in settings.gates.items():
        passes &= gate.passes(judged[column])
    return rows[passes][columns]
