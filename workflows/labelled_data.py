"""Labelled data on disk: drawn once, labelled part by part (a killed generation goes on), written as three splits.

A folder holds ``generation-<digest>/crystals.parquet`` (what is drawn), ``generation-<digest>/part-00042.parquet``
(labelled frames of a few of them), and, when all parts are there, ``train.parquet``, ``validation.parquet``,
``test.parquet``, ``contents.csv`` (what they hold) and ``generation.json`` (what made them).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.atomic_files import write_atomically
from pipeline.config import Campaign, ConfigError, Problem, ReferenceSettings, load_campaign
from pipeline.distillation.drawing import draw_crystals, elements_of, further_campaign
from pipeline.distillation.settings import DistillationSettings
from pipeline.reference.competing import competing_phases
from pipeline.reference.prototype_library import PrototypeLibrary
from pipeline.references import resolve_path
from pipeline.surrogates import catalogue
from pipeline.training.settings import LABELS, Training
from pipeline.training.splits import SPLITS
from workflows.cluster import settings_beside
from workflows.files import digest_of, digest_of_file
from workflows.labelled_parts import label_parts, read_part
from workflows.labelled_splits import LabelledData, write_splits
from workflows.library import prototype_library
from workflows.preflight import Inputs, find_inputs
from workflows.provenance import arithmetic_facts

GENERATION_VERSION = 3
"""Of how crystals are drawn and frames are made; another one labels everything anew."""


def generate_labelled_data(
    settings: DistillationSettings, folder: Path, say: Callable[[str], None], base: Path = Path()
) -> LabelledData:
    """Draw crystals from a campaign, have the teacher label their frames, and write the three splits.

    Parameters
    ----------
    settings
        What is drawn, by what it is labelled.
    folder
        Where the data lie. One that holds parts of the same generation is gone on with, and the files that come out
        are those of an undisturbed generation; a finished one is left as it is.
    say
        Takes a line for the user.
    base
        Folder that relative paths of the settings start from.

    Raises
    ------
    ConfigError
        A campaign or a teacher that can't be used, with every problem; a split that no group falls into.
    """
    inputs, path = _inputs(settings, base)
    teacher = _teacher(settings)
    library = prototype_library(inputs, None, say)[1]
    _refuse_unknown_elements(settings, inputs, library)
    beyond = _beyond(settings, inputs, library, path, say)
    about = _about(settings, inputs, library, teacher, beyond)
    digest = digest_of(about)
    home = folder / f"generation-{digest[:16]}"
    finished = _finished(folder, about)
    if finished is not None:
        elsewhere = "" if finished.digest == digest else ", made on another machine or with other versions"
        say(f"{folder}: the labels of these settings are there{elsewhere}")
        return finished
    crystals = _drawn(settings, inputs, library, home, say, beyond)
    cluster = settings_beside(path, inputs.campaign.cluster)
    n_parts = len(label_parts(crystals, settings, cluster, home, digest, say))
    rows, left_out = _gathered(home, n_parts, digest)
    return write_splits(rows, left_out, settings, folder, {**about, "digest": digest}, say)


def labels_for(training: Training, config_path: Path, say: Callable[[str], None]) -> None:
    """Make the labels that a training with ``distil`` reads, unless they are there.

    Raises
    ------
    ConfigError
        As :func:`generate_labelled_data`; a teacher whose energies are not of ``data.label_scheme``.
    """
    if training.distil is None:
        return
    scheme = _teacher(training.distil)["scheme"] or "other"
    if scheme != training.data.label_scheme:
        text = f"is {training.data.label_scheme}, but {training.distil.teacher} gives {scheme}; write {scheme}"
        raise ConfigError([Problem("data.label_scheme", text)])
    generate_labelled_data(training.distil, training.folder / LABELS, say, config_path.resolve().parent)


def _inputs(settings: DistillationSettings, base: Path) -> tuple[Inputs, Path]:
    path = resolve_path(settings.campaign, base, os.environ)
    if path is None:
        raise ConfigError([Problem("distil.campaign", f"{settings.campaign} is not there; looked in {base.resolve()}")])
    return find_inputs(load_campaign(path), path), path


def _beyond(
    settings: DistillationSettings, inputs: Inputs, library: PrototypeLibrary, path: Path, say: Callable[[str], None]
) -> tuple[Campaign, PrototypeLibrary] | None:
    """The campaign on further prototypes, and these."""
    if settings.further is None:
        return None
    campaign = further_campaign(inputs.campaign, library, settings.further)
    try:
        return campaign, prototype_library(find_inputs(campaign, path, say=say), None, say)[1]
    except ConfigError as error:
        problems = [Problem("distil.further", f"{problem.place}: {problem.message}") for problem in error.problems]
        raise ConfigError(problems, error.advice) from None


def _teacher(settings: DistillationSettings) -> dict[str, str | None]:
    """Name, SHA-256, convention, scheme, licence and source of the teacher."""
    try:
        located = catalogue.locate(settings.teacher)
        convention = catalogue.resolve_convention(located, settings.convention)
    except (ValueError, OSError) as error:
        raise ConfigError([Problem("distil.teacher", str(error))]) from None
    entry = located.entry
    if entry is not None and entry.kind != "potential":
        text = f"{settings.teacher} predicts a property; a teacher needs energies, forces and stresses: a potential"
        raise ConfigError([Problem("distil.teacher", text)])
    if entry is not None and settings.scheme not in (None, entry.scheme):
        text = f"energies of {settings.teacher} are {entry.scheme}, got {settings.scheme}; leave it out"
        raise ConfigError([Problem("distil.scheme", text)])
    return {
        "name": located.name,
        "sha256": located.sha256,
        "convention": convention,
        "scheme": entry.scheme if entry else settings.scheme,
        "licence": entry.licence if entry else None,
        "citation": entry.citation if entry else None,
    }


def _refuse_unknown_elements(settings: DistillationSettings, inputs: Inputs, library: PrototypeLibrary) -> None:
    entry = catalogue.locate(settings.teacher).entry
    unknown = set() if entry is None else set(elements_of(inputs.campaign, library)) - set(entry.elements)
    if unknown:
        text = f"{settings.teacher} does not know {', '.join(sorted(unknown))}, which {settings.campaign} places"
        raise ConfigError([Problem("distil.teacher", f"{text}; exclude them there, or take another teacher")])


def _about(
    settings: DistillationSettings,
    inputs: Inputs,
    library: PrototypeLibrary,
    teacher: Mapping[str, str | None],
    beyond: tuple[Campaign, PrototypeLibrary] | None,
) -> dict[str, Any]:
    """Everything that the labels depend on, for their digest and the files' metadata."""
    campaign = inputs.campaign
    domain = {
        "candidates": campaign.candidates.model_dump(mode="json", exclude={"chunk_size"}),
        "mobile_ions": list(campaign.mobile_ions),
        "reference": _reference(campaign, settings).model_dump(mode="json", exclude={"chunk_size"}),
    }
    further = {} if beyond is None else {"further_prototypes": beyond[1].digest}
    return {
        "generation_version": GENERATION_VERSION,
        "teacher": dict(teacher),
        "campaign": {"name": campaign.name, "domain": digest_of(domain), "prototypes": library.digest, **further},
        "units": {"energy": "eV", "forces": "eV/Å", "stress": "GPa, positive under tension", "lattice": "Å"},
        "settings": settings.result_settings(),
        "arithmetic": {**arithmetic_facts(), **_device(settings)},
    }


def _device(settings: DistillationSettings) -> dict[str, str]:
    """What else than a CPU labels, whose last digits are others."""
    import torch

    from pipeline.surrogates.loaders import resolve_device

    try:
        device = resolve_device(settings.device)
    except ValueError as error:
        raise ConfigError([Problem("distil.device", str(error))]) from None
    return {"device": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}


def _finished(folder: Path, about: Mapping[str, Any]) -> LabelledData | None:
    """The data of a generation that has ended; None when it has not, or when a file was changed since.

    Those of another processor or other versions differ in last digits only, and a model may be trained on them.
    """
    wanted = json.loads(json.dumps({name: value for name, value in about.items() if name != "arithmetic"}))
    try:
        written = json.loads((folder / "generation.json").read_text(encoding="utf-8"))
        files = {split: folder / f"{split}.parquet" for split in SPLITS}
        same = {name: written[name] for name in wanted} == wanted
        sound = same and written["sha256"] == {s: digest_of_file(f) for s, f in files.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return LabelledData(folder, files, written["frames"], str(written["digest"])) if sound else None


def _drawn(
    settings: DistillationSettings,
    inputs: Inputs,
    library: PrototypeLibrary,
    home: Path,
    say: Callable[[str], None],
    beyond: tuple[Campaign, PrototypeLibrary] | None,
) -> pd.DataFrame:
    """The drawn crystals, from the folder or drawn now."""
    path = home / "crystals.parquet"
    if path.exists():
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError):
            say(f"{path} is damaged; the crystals are drawn again")
    campaign = inputs.campaign
    say("drawing crystals")
    reference = _reference(campaign, settings)
    phases = competing_phases(elements_of(campaign, library), reference, campaign.candidates.charges, library)
    crystals = draw_crystals(settings, campaign, library, phases, beyond)
    if not len(crystals):
        text = "no crystal is drawn: no candidate passes the campaign's cheap gates, and no competing phase is wanted"
        raise ConfigError([Problem("distil.crystals", text)])
    write_atomically(path, lambda stream: crystals.to_parquet(stream))
    return pd.read_parquet(path)


def _reference(campaign: Campaign, settings: DistillationSettings) -> ReferenceSettings:
    """Which competing phases are drawn: the campaign's where it relaxes its own, the usual ones otherwise."""
    own = campaign.reference if campaign.reference.source == "prototypes" else ReferenceSettings(source="prototypes")
    most = min(own.max_elements, settings.crystals.reference_elements)
    return own.model_copy(update={"max_elements": most})


def _gathered(home: Path, n_parts: int, digest: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows of all parts in order, and the frames left out by reason."""
    parts = [read_part(home, k, digest) for k in range(n_parts)]
    left_out: Counter[str] = Counter()
    for part in parts:
        left_out.update(part.left_out)
    full = [part.rows for part in parts if len(part.rows)]
    if not full:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(left_out.items()))
        raise ConfigError([Problem("distil.sanity", f"no frame is kept ({reasons}); widen its bounds")])
    return pd.concat(full, ignore_index=True), dict(sorted(left_out.items()))
