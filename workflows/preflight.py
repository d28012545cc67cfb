"""Checks before any work: everything that is wrong, all at once; then the resolved campaign."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import Campaign, ConfigError, Problem
from pipeline.dft.gpaw_engine import gpaw_version
from pipeline.phonons import require_phonopy
from pipeline.reference import PhaseReference
from pipeline.reference.descent_bounds import descent_bound
from pipeline.reference.fetched_phases import MaterialsProjectError
from pipeline.reference.ions import allowed_ions, ions_without_radius
from pipeline.reference.legacy_shift import legacy_shift
from pipeline.reference.prototypes import observed_formulas
from pipeline.references import resolve_path
from pipeline.surrogates import catalogue
from workflows.files import digest_of, digest_of_file
from workflows.phase_cache import (
    CachedPhases,
    CachedStructures,
    materials_project_phases,
    materials_project_structures,
)

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
    fetched: dict[str, Any] = field(default_factory=dict)
    """Database version, date, query and counts of phases that were fetched; empty when they were not."""
    fetched_structures: dict[str, Any] = field(default_factory=dict)
    """The same of prototypes that were fetched."""

    @property
    def table_digest(self) -> str | None:
        """Digest of the table of phases and its elements, fetched ones too; None for the self-consistent reference."""
        if self.table is None or self.elements is None:
            return None
        return digest_of([digest_of_file(self.table), digest_of_file(self.elements)])

    @property
    def known_digest(self) -> str:
        """Digest of the list of observed compositions."""
        return digest_of_file(self.observed) if self.observed else ""


def find_inputs(
    campaign: Campaign,
    config_path: Path,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = lambda _: None,
) -> Inputs:
    """Find models, tables and prototypes; with reference source ``mp_api``, fetch what the cache lacks.

    Raises
    ------
    ConfigError
        With every input that is missing or unknown, and what to do about each.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    base = config_path.resolve().parent
    where = str(config_path)

    def path_of(key: str, text: str | None, *, folder: bool = False) -> Path | None:
        if text is None:
            return None
        found = resolve_path(text, base, environ)
        if found is None:
            problems.append(Problem(where, f"{key}: {text} is neither beside the config nor in {_data(environ)}"))
        elif found.is_dir() != folder:
            problems.append(Problem(where, f"{key}: {found} is {'no' if folder else 'a'} folder"))
        return found

    campaign, models = _find_models(campaign, where, environ, problems, notes)
    prototypes = campaign.candidates.prototypes
    wanted = prototypes.path or (OBSERVED if prototypes.source == "materials_project" else None)
    prototypes_path = path_of("candidates.prototypes.path", wanted, folder=prototypes.source == "folder")
    table = path_of("reference.path", campaign.reference.path)
    elements = path_of("reference.elemental_references", campaign.reference.elemental_references)
    observed = resolve_path(OBSERVED, base, environ)
    if observed is None:
        notes.append("is_known: no list of observed compositions was found; only parents and known_formulas count")
    problems += _unreadable_data(campaign, table, elements, observed, where)
    if not problems:
        problems += [Problem(where, text) for text in _scheme_conflicts(campaign, environ)]
    if problems:
        raise ConfigError(problems)
    fetched: dict[str, Any] = {}
    fetched_structures: dict[str, Any] = {}
    # Last, so that a mistake elsewhere costs no requests.
    if campaign.reference.source == "mp_api":
        cached = _fetched_phases(campaign, where, environ, say)
        table, elements, fetched = cached.phases, cached.elements, cached.source
        notes.append(
            f"competing phases: {fetched['phases']:,} from the Materials Project, database "
            f"{fetched['database_version']}, fetched {fetched['fetched']}; delete {cached.folder} to fetch them anew"
        )
    if prototypes.source == "mp_api":
        structures = _fetched_structures(campaign, where, environ, say)
        prototypes_path, fetched_structures = structures.structures, structures.source
        notes.append(
            f"prototypes from {fetched_structures['structures']:,} observed structures of the Materials Project, "
            f"database {fetched_structures['database_version']}, fetched {fetched_structures['fetched']}; delete "
            f"{structures.folder} to fetch them anew"
        )
    return Inputs(
        campaign, prototypes_path, observed, table, elements, models, tuple(notes), fetched, fetched_structures
    )


def _fetched_phases(
    campaign: Campaign, where: str, environ: Mapping[str, str], say: Callable[[str], None]
) -> CachedPhases:
    """Phases of every element that a candidate or an electrode may have."""
    try:
        return materials_project_phases(set(campaign.reference_elements), environ, say)
    except MaterialsProjectError as error:
        raise ConfigError([Problem(where, f"reference: {error}")]) from None


def _fetched_structures(
    campaign: Campaign, where: str, environ: Mapping[str, str], say: Callable[[str], None]
) -> CachedStructures:
    """Observed structures of the numbers of elements and sites that prototypes may have."""
    try:
        return materials_project_structures(campaign.candidates.prototypes, environ, say)
    except MaterialsProjectError as error:
        raise ConfigError([Problem(where, f"candidates.prototypes: {error}")]) from None


def _find_models(
    campaign: Campaign, where: str, environ: Mapping[str, str], problems: list[Problem], notes: list[str]
) -> tuple[Campaign, dict[str, str]]:
    """Digest of each model that is used, under its key in the config; the campaign with its fallback chosen."""
    models: dict[str, str] = {}

    def look(key: str, name: str, kind: str) -> None:
        try:
            found = catalogue.locate(name, environ)
        except (ValueError, OSError) as error:
            problems.append(Problem(where, f"{key}: {error}"))
            return
        if found.entry is not None and found.entry.kind != kind:
            problems.append(Problem(where, f"{key}: {name} is a {found.entry.kind} model, a {kind} model is needed"))
        models[key] = found.sha256

    potential = campaign.potential
    try:
        located = catalogue.locate(potential.model, environ)
        notes.append(f"potential: {potential.model}, the configured model, found in {located.found_in}")
    except catalogue.ModelNotFoundError as error:
        if potential.fallback is None:
            problems.append(Problem(where, f"potential.model: {error}"))
        else:
            notes.append(
                f"potential: {potential.fallback}, the configured fallback, because {potential.model} was not found"
            )
            other = {"model": potential.fallback, "fallback": None, "convention": None, "scheme": None}
            potential = potential.model_copy(update=other)
            campaign = campaign.model_copy(update={"potential": potential})
    except (ValueError, OSError) as error:
        problems.append(Problem(where, f"potential.model: {error}"))
    if not problems:
        look("potential.model", potential.model, "potential")
    if not problems:
        try:
            located = catalogue.locate(potential.model, environ)
            convention = catalogue.resolve_convention(located, potential.convention)
            scheme = (located.entry.scheme if located.entry else None) or potential.scheme
            models["potential"] = digest_of([located.sha256, convention, scheme])
            if located.entry is not None:
                problems += _outside_domain(campaign, located.entry, where)
        except ValueError as error:
            problems.append(Problem(where, f"potential.convention: {error}"))
    if potential.second_opinion:
        look("second_opinion", potential.second_opinion, "potential")
    for i, stage in enumerate(campaign.stages):
        if stage.stage in ("estimate", "band_gap"):
            look(f"stages.{i}.model", stage.model, "property")
        if stage.stage == "dft" and stage.engine == "gpaw":
            try:
                notes.append(f"dft: {gpaw_version()}")
            except ValueError as error:
                problems.append(Problem(where, f"stages.{i}.engine: {error}"))
        if stage.stage == "elasticity" and stage.phonons:
            try:
                require_phonopy()
            except ModuleNotFoundError as error:
                problems.append(Problem(where, f"stages.{i}.phonons: {error}"))
        if stage.stage == "estimate":
            try:
                legacy_shift(stage.model)
            except ValueError as error:
                problems.append(Problem(where, f"stages.{i}.model: {error}"))
        if stage.stage == "stability" and stage.give_up_above is not None and "potential.model" in models:
            try:
                descent_bound(potential.model, models["potential.model"], stage.optimizer)
            except ValueError as error:
                problems.append(Problem(where, f"stages.{i}.give_up_above: {error}"))
    return campaign, models


def _outside_domain(campaign: Campaign, entry: catalogue.CatalogueEntry, where: str) -> list[Problem]:
    """Elements of the campaign that the potential was not trained on."""
    own = {*campaign.candidates.elements, *campaign.mobile_ions}
    wanted = campaign.reference_elements if campaign.reference.source == "prototypes" else own
    unknown = ", ".join(sorted(wanted - set(entry.elements)))
    text = f"candidates.elements: {entry.name} does not know {unknown}; it knows {', '.join(entry.elements)}"
    return [Problem(where, text)] if unknown else []


def _unreadable_data(
    campaign: Campaign, table: Path | None, elements: Path | None, observed: Path | None, where: str
) -> list[Problem]:
    """Tables that are damaged, and elements that they or the ion table do not know."""
    problems = []
    if table is not None and elements is not None and table.is_file() and elements.is_file():
        try:
            known = PhaseReference.from_table(table, elemental_references=elements).elements
            own = set(campaign.candidates.elements)
            for key, wanted in (("candidates.elements", own), ("stages", campaign.reference_elements - own)):
                if absent := sorted(wanted - known):
                    problems.append(Problem(where, f"{key}: {', '.join(absent)} not in {elements}"))
        except (ValueError, OSError) as error:
            problems.append(Problem(where, f"reference: {error}"))
    if observed is not None:
        try:
            observed_formulas(observed)
        except (ValueError, OSError) as error:
            problems.append(Problem(where, f"observed compositions (for is_known): {error}"))
    try:
        if campaign.candidates.substitution != "none":
            allowed_ions(campaign.candidates)
            unsized = ions_without_radius(campaign.candidates)
            if unsized and campaign.candidates.gates.radius_mismatch is not None:
                text = f"no radius is known of {', '.join(unsized)}, which the gate radius_mismatch would reject always"
                remedy = f"give it under candidates.radii, e.g. {{{unsized[0]}: 1.40}} (Å), or leave out the gate"
                problems.append(Problem(where, f"candidates.charges: {text}; {remedy}"))
    except ValueError as error:
        problems.append(Problem(where, f"candidates.elements: {error}"))
    return problems


def _scheme_conflicts(campaign: Campaign, environ: Mapping[str, str]) -> list[str]:
    """Energies that would be compared across schemes: refused before any work, not row by row."""

    def scheme_of(name: str) -> str | None:
        entry = catalogue.locate(name, environ).entry
        return entry.scheme if entry else None

    potential = campaign.potential
    own = scheme_of(potential.model)
    scheme = own or potential.scheme
    conflicts = []
    if own is not None and potential.scheme not in (None, own):
        conflicts.append(
            f"potential.scheme: energies of {potential.model} are {own}, got {potential.scheme}; leave it out"
        )
    if scheme is None:
        conflicts.append(
            f"potential.scheme: {potential.model} is not in the catalogue; say what its energies are: mp_raw (raw "
            "PBE/PBE+U totals of the Materials Project), mp2020 (with its 2020 corrections) or matpes_pbe"
        )
    comparable = ("mp_raw", "mp2020")
    if campaign.reference.source != "prototypes" and scheme not in (*comparable, None):
        conflicts.append(
            f"potential.model: energies of {potential.model} (scheme {scheme}) can't be compared with phases of "
            f"scheme {campaign.reference.scheme}; use reference source 'prototypes'"
        )
    second = potential.second_opinion
    if second and not {scheme, scheme_of(second)} <= set(comparable):
        conflicts.append(
            f"potential.second_opinion: {potential.model} ({scheme}) and {second} ({scheme_of(second)}) have no common "
            "energy scheme; leave it out"
        )
    if campaign.reference.source == "prototypes" and any(s.stage == "estimate" for s in campaign.stages):
        conflicts.append("stages: estimate needs reference source 'table' or 'mp_api'; leave it out with 'prototypes'")
    return conflicts


def _data(environ: Mapping[str, str]) -> str:
    folder = environ.get("IONSIEVE_DATA")
    return f"$IONSIEVE_DATA ({folder})" if folder else "$IONSIEVE_DATA, which is not set; see `ionsieve models`"
