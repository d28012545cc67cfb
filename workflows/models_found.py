"""Models of a campaign before any work: where each is found, what it needs, and whether their energies compare."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pipeline.config import Campaign, Problem
from pipeline.dft.gpaw_engine import gpaw_version
from pipeline.phonons import require_phonopy
from pipeline.reference.descent_bounds import descent_bound
from pipeline.reference.legacy_shift import legacy_shift
from pipeline.surrogates import catalogue
from workflows.files import digest_of
from workflows.provenance import digest_of_model, files_beside


def find_models(
    campaign: Campaign, where: str, environ: Mapping[str, str], problems: list[Problem], notes: list[str]
) -> tuple[Campaign, dict[str, str]]:
    """Digest of each model that is used, or version of a code, under its key; the campaign with its fallback chosen."""
    models: dict[str, str] = {}
    own = {*campaign.candidates.elements, *campaign.mobile_ions}

    def look(key: str, name: str, kind: str) -> catalogue.CatalogueEntry | None:
        try:
            found = catalogue.locate(name, environ)
        except (ValueError, OSError) as error:
            problems.append(_not_located(where, key, name, error))
            return None
        if found.entry is not None and found.entry.kind != kind:
            problems.append(Problem(where, f"{key}: {name} is a {found.entry.kind} model, a {kind} model is needed"))
        models[key] = found.sha256
        return found.entry

    potential = campaign.potential
    try:
        located = catalogue.locate(potential.model, environ)
        notes.append(f"potential: {potential.model}, the configured model, found in {located.found_in}")
    except catalogue.ModelNotFoundError as error:
        if potential.fallback is None:
            problems.append(_not_located(where, "potential.model", potential.model, error))
        else:
            notes.append(
                f"potential: {potential.fallback}, the configured fallback, because {potential.model} was not found"
            )
            other = {"model": potential.fallback, "fallback": None, "convention": None, "scheme": None}
            if potential.second_opinion == potential.fallback:
                notes.append(f"no second opinion: {potential.fallback} is the potential itself now")
                other["second_opinion"] = None
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
            models["potential"] = digest_of([located.sha256, convention, scheme, *files_beside(located)])
            if located.entry is not None:
                wanted = campaign.reference_elements if campaign.reference.source == "prototypes" else own
                problems += _outside_domain(wanted, located.entry, where)
        except ValueError as error:
            problems.append(Problem(where, f"potential.convention: {error}"))
    if potential.second_opinion:
        asked = look("potential.second_opinion", potential.second_opinion, "potential")
        problems += [] if asked is None else _outside_domain(own, asked, where)
        if models.get("potential.second_opinion", "") == models.get("potential.model"):
            text = f"{potential.second_opinion} is the potential itself; name another one, or leave it out"
            problems.append(Problem(where, f"potential.second_opinion: {text}"))
        elif "potential.second_opinion" in models:
            other_one = catalogue.locate(potential.second_opinion, environ)
            models["potential.second_opinion"] = digest_of_model(other_one)
    for i, stage in enumerate(campaign.stages):
        if stage.stage in ("estimate", "band_gap"):
            found = look(f"stages.{i}.model", stage.model, "property")
            if stage.stage == "band_gap" and f"stages.{i}.model" in models and not _gives_band_gaps(found):
                gives = "is not in the catalogue" if found is None else f"gives no band gaps ({found.scheme})"
                problems.append(Problem(where, f"stages.{i}.model: {stage.model} {gives}; see `ionsieve models`"))
        if stage.stage == "dft" and stage.engine == "gpaw":
            try:
                models[f"stages.{i}.engine"] = gpaw_version()
                notes.append(f"dft: {models[f'stages.{i}.engine']}")
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


def _gives_band_gaps(entry: catalogue.CatalogueEntry | None) -> bool:
    return entry is not None and (entry.kind != "property" or entry.scheme == "band_gap")  # another kind is told before


def _not_located(where: str, key: str, name: str, error: Exception) -> Problem:
    fetchable = isinstance(error, catalogue.ModelNotFoundError) and name in catalogue.CATALOGUE
    return Problem(where, f"{key}: {error}", is_outside_data=fetchable)


def _outside_domain(wanted: Collection[str], entry: catalogue.CatalogueEntry, where: str) -> list[Problem]:
    """Elements that are wanted of a potential and that it was not trained on."""
    unknown = ", ".join(sorted(set(wanted) - set(entry.elements)))
    text = f"candidates.elements: {entry.name} does not know {unknown}; it knows {', '.join(entry.elements)}"
    return [Problem(where, text)] if unknown else []


def scheme_conflicts(campaign: Campaign, environ: Mapping[str, str]) -> list[str]:
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
