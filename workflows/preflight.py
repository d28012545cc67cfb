"""Checks before any work: everything that is wrong, all at once; then the resolved campaign."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import Campaign, ConfigError, Problem
from pipeline.dft.known_crystals import tables_of
from pipeline.reference import PhaseReference
from pipeline.reference.fetched_phases import MaterialsProjectError
from pipeline.reference.ions import allowed_ions, ions_without_radius
from pipeline.reference.prototypes import observed_formulas
from pipeline.references import resolve_path
from pipeline.wording import quoted
from workflows.files import digest_of, digest_of_file
from workflows.models_found import find_models, scheme_conflicts
from workflows.phase_cache import (
    CachedPhases,
    CachedStructures,
    materials_project_phases,
    materials_project_structures,
)

OUTSIDE = "data/"
"""Folder under IONSIEVE_DATA of the tables that docs/data.md describes."""
OBSERVED = f"{OUTSIDE}materials_project/structures_observed.parquet"

ADVICE = (
    "docs/data.md says where data and models come from. Without outside data: configs/quickstart.yaml, or "
    "candidates.prototypes.source: aflow, reference.source: prototypes and potential.model: CHGNet; both sources may "
    "also be mp_api, with your key of the Materials Project"
)


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
    def known_crystals_digest(self) -> str:
        """Digest of the tables that stage dft takes competing phases' crystals from; empty without that stage."""
        if not any(stage.stage == "dft" for stage in self.campaign.stages):
            return ""
        return digest_of([[path.name, digest_of_file(path)] for path in tables_of(self.observed)])

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
            message = f"{key}: {quoted(text)} is neither beside the config nor in {_data(environ)}"
            problems.append(Problem(where, message, is_outside_data=text.startswith(OUTSIDE)))
        elif found.is_dir() != folder:
            problems.append(Problem(where, f"{key}: {found} is {'no' if folder else 'a'} folder"))
        elif not folder and not found.is_file():
            problems.append(Problem(where, f"{key}: {found} is a pipe or a device; give a file"))
        return found

    campaign, models = find_models(campaign, where, environ, problems, notes)
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
        problems += [Problem(where, text) for text in scheme_conflicts(campaign, environ)]
    if problems:
        raise ConfigError(problems, ADVICE if any(problem.is_outside_data for problem in problems) else "")
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


def _unreadable_data(
    campaign: Campaign, table: Path | None, elements: Path | None, observed: Path | None, where: str
) -> list[Problem]:
    """Tables that are damaged, and elements that they or the ion table do not know."""
    problems = []
    if table is not None and elements is not None and table.is_file() and elements.is_file():
        try:
            scheme = campaign.reference.scheme
            known = PhaseReference.from_table(table, elemental_references=elements, scheme=scheme).elements
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


def _data(environ: Mapping[str, str]) -> str:
    folder = environ.get("IONSIEVE_DATA")
    return f"$IONSIEVE_DATA ({folder})" if folder else "$IONSIEVE_DATA, which is not set"
