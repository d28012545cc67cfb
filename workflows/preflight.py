"""Checks before any work: everything that is wrong, all at once; then the resolved campaign."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Campaign, ConfigError, Problem
from pipeline.references import resolve_path
from pipeline.surrogates import catalogue
from workflows.files import digest_of, digest_of_file

OBSERVED = "data/materials_project/structures_observed.parquet"


@dataclass(frozen=True)
class Inputs:
    """A campaign with its outside inputs found: absolute paths, and digests of what they hold."""

    campaign: Campaign
    prototypes: Path | None
    observed: Path | None
    table: Path | None
    elements: Path | None
    models: dict[str, str]
    notes: tuple[str, ...]

    @property
    def table_digest(self) -> str | None:
        """Digest of the configured table of phases and its elements; None for the self-consistent reference."""
        if self.table is None or self.elements is None:
            return None
        return digest_of([digest_of_file(self.table), digest_of_file(self.elements)])

    @property
    def known_digest(self) -> str:
        """Digest of the list of observed compositions."""
        return digest_of_file(self.observed) if self.observed else ""


def find_inputs(campaign: Campaign, config_path: Path, environ: Mapping[str, str] = os.environ) -> Inputs:
    """Find models, tables and prototypes.

    Raises
    ------
    ConfigError
        With every input that is missing or unknown, and what to do about each.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    base = config_path.resolve().parent
    where = str(config_path)

    def path_of(key: str, text: str | None) -> Path | None:
        if text is None:
            return None
        found = resolve_path(text, base, environ)
        if found is None:
            problems.append(Problem(where, f"{key}: {text} is neither beside the config nor in {_data(environ)}"))
        return found

    campaign, models = _find_models(campaign, where, environ, problems, notes)
    prototypes = campaign.candidates.prototypes
    wanted = prototypes.path or (OBSERVED if prototypes.source == "materials_project" else None)
    prototypes_path = path_of("candidates.prototypes.path", wanted)
    table = path_of("reference.path", campaign.reference.path)
    elements = path_of("reference.elemental_references", campaign.reference.elemental_references)
    observed = resolve_path(OBSERVED, base, environ)
    if observed is None:
        notes.append("is_known: no list of observed compositions was found; only parents and known_formulas count")
    problems += [Problem(where, text) for text in _scheme_conflicts(campaign, environ)] if not problems else []
    if problems:
        raise ConfigError(problems)
    return Inputs(campaign, prototypes_path, observed, table, elements, models, tuple(notes))


def _find_models(
    campaign: Campaign, where: str, environ: Mapping[str, str], problems: list[Problem], notes: list[str]
) -> tuple[Campaign, dict[str, str]]:
    models: dict[str, str] = {}

    def look(key: str, name: str) -> str:
        try:
            return catalogue.model_digest(name, environ)
        except (ValueError, OSError) as error:
            problems.append(Problem(where, f"{key}: {error}"))
            return ""

    potential = campaign.potential
    try:
        located = catalogue.locate(potential.model, environ)
        catalogue.resolve_convention(located, potential.convention)
        models["potential"] = located.sha256
        notes.append(f"potential: {potential.model}, as configured, {located.found_in}")
    except catalogue.ModelNotFoundError as error:
        if potential.fallback is None:
            problems.append(Problem(where, f"potential.model: {error}"))
        else:
            models["potential"] = catalogue.model_digest(potential.fallback, environ)
            notes.append(
                f"potential: {potential.fallback}, the configured fallback, because {potential.model} was not found"
            )
            changed = potential.model_copy(update={"model": potential.fallback, "fallback": None, "convention": None})
            campaign = campaign.model_copy(update={"potential": changed})
    except (ValueError, OSError) as error:
        problems.append(Problem(where, f"potential.model: {error}"))
    if potential.second_opinion:
        models["second_opinion"] = look("potential.second_opinion", potential.second_opinion)
    for i, stage in enumerate(campaign.stages):
        if stage.stage in ("estimate", "band_gap"):
            models[stage.step] = look(f"stages.{i}.model", stage.model)
    return campaign, models


def _scheme_conflicts(campaign: Campaign, environ: Mapping[str, str]) -> list[str]:
    """Energies that would be compared across schemes: refused before any work, not row by row."""

    def scheme_of(name: str) -> str | None:
        entry = catalogue.locate(name, environ).entry
        return entry.scheme if entry else None

    potential = campaign.potential
    scheme = potential.scheme or scheme_of(potential.model)
    conflicts = []
    if scheme is None:
        conflicts.append(
            f"potential.scheme: {potential.model} is not in the catalogue; say what its energies are: mp_raw (raw "
            "PBE/PBE+U totals of the Materials Project), mp2020 (with its 2020 corrections) or matpes_pbe"
        )
    comparable = ("mp_raw", "mp2020")
    if campaign.reference.source == "table" and scheme not in (*comparable, None):
        conflicts.append(
            f"potential.model: energies of {potential.model} (scheme {scheme}) can't be compared with a table of "
            f"scheme {campaign.reference.scheme}; use reference source 'prototypes'"
        )
    second = potential.second_opinion
    if second and not {scheme, scheme_of(second)} <= set(comparable):
        conflicts.append(
            f"potential.second_opinion: {potential.model} ({scheme}) and {second} ({scheme_of(second)}) have no common "
            "energy scheme; leave it out"
        )
    if campaign.reference.source == "prototypes" and any(s.stage == "estimate" for s in campaign.stages):
        conflicts.append("stages: estimate needs reference source 'table'; leave it out with 'prototypes'")
    return conflicts


def _data(environ: Mapping[str, str]) -> str:
    folder = environ.get("IONSIEVE_DATA")
    return f"$IONSIEVE_DATA ({folder})" if folder else "$IONSIEVE_DATA, which is not set; see `ionsieve models`"


def check_table(inputs: Inputs) -> None:
    """Read the table of competing phases; ConfigError when it is damaged."""
    from pipeline.reference import PhaseReference

    if inputs.table is None or inputs.elements is None:
        return
    try:
        PhaseReference.from_table(inputs.table, elemental_references=inputs.elements)
    except (ValueError, OSError) as error:
        raise ConfigError([Problem("reference", str(error))]) from None
