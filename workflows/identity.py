"""Digests: what a stage's results depend on, and nothing else."""

from __future__ import annotations

from typing import Any

from pipeline import schema
from pipeline.config import Campaign
from pipeline.reference import descent_bounds, surrogate_errors
from pipeline.reference.prototype_library import LIBRARY_VERSION
from pipeline.settings import NETWORK_STAGES, CompetingPhasesSettings, StageSettings
from pipeline.stages import candidates, starting_volume
from pipeline.stages.relaxing import for_reference
from workflows.files import digest_of
from workflows.worker import stage_module


class Digests:
    """Digest of each step of a campaign.

    A digest holds the settings that change the result, the stage's ``STAGE_VERSION``, the models' weights, the
    reference, the precision, the threads and the device, and the digest of the step that made the structures. It
    holds neither gates nor chunk sizes nor the package version: those do not void results.
    """

    def __init__(
        self,
        campaign: Campaign,
        *,
        library: str,
        models: dict[str, str],
        table: str | None,
        known: str,
        known_crystals: str = "",
    ) -> None:
        self._campaign = campaign
        self._library = library
        self._models = models
        self._known = known
        self._known_crystals = known_crystals
        self._phases = table
        self._arithmetic = {
            "device": campaign.device,
            "threads": campaign.cluster.threads_per_worker,
            "dtype": "float32",
        }

    def use_phases(self, digest: str) -> None:
        """Set the digest of the competing phases' energies, once the self-consistent ones are known."""
        self._phases = digest

    def candidates(self) -> str:
        """Digest of the enumeration, its cheap gates included: rows they reject are not stored."""
        settings = self._campaign.candidates.model_dump(mode="json", exclude={"prototypes", "chunk_size"})
        return digest_of(
            {
                "stage": "candidates",
                "version": candidates.STAGE_VERSION,
                "columns": list(candidates.COLUMN_NAMES),
                "settings": settings,
                "mobile_ions": list(self._campaign.mobile_ions),
                "library": self._library,
            }
        )

    def competing_phases(self) -> str:
        """Digest of the relaxations that make a self-consistent reference; of the library where it is substituted."""
        settings = self._campaign.reference.model_dump(mode="json", exclude={"chunk_size", "prototypes"})
        own = {}
        if self._campaign.reference.prototypes == "campaign":
            own = {"library": self._library}
            if "H" in self._campaign.candidates.elements:
                own["hydrogen"] = "unchanged ions have no mismatch"  # they had no radius, and were left out
        return digest_of(
            {
                "stage": "competing_phases",
                "version": stage_module("competing_phases").STAGE_VERSION,
                "settings": settings,
                "elements": sorted(self._campaign.candidates.elements),
                "charges": {k: list(v) for k, v in sorted(self._campaign.candidates.charges.items())},
                "starting_volumes": starting_volume.rule_digest(),
                "relaxation": self._relaxation(),
                "potential": self._models["potential"],
                **own,
                **self._arithmetic,
            }
        )

    def relaxed_phases(self, settings: CompetingPhasesSettings) -> str:
        """Digest of what a relaxed competing phase depends on beside its unit's crystals: no campaign is in it."""
        return digest_of(
            {
                "version": stage_module("competing_phases").STAGE_VERSION,
                "columns": [c.name for c in schema.columns_of("competing_phases")],
                "settings": settings.result_settings(),
                "potential": self._models["potential"],
                **self._arithmetic,
            }
        )

    def _relaxation(self) -> dict[str, Any]:
        """How stability relaxes, version included: a self-consistent hull is relaxed the same way."""
        for stage in self._campaign.stages:
            if stage.stage == "stability":
                version = stage_module("stability").STAGE_VERSION
                # No competing phase is given up.
                relaxing = {k: v for k, v in for_reference(stage).result_settings().items() if k != "give_up_above"}
                return {"version": version, **relaxing}
        return {}

    def _crystals(self) -> dict[str, Any]:
        """What the starting crystal of a candidate_id depends on, beside the id itself.

        The id names the prototype (a digest of cell, sites and elements) and the elements on its orbits; their
        charges, which set volume and oxidation states, come from the settings.
        """
        chosen = self._campaign.candidates
        slots = ("by", "max_species_per_element", "max_mixed_orbits")  # what shares a charge, where one is not enough
        usual = {name: field.default for name, field in type(chosen).model_fields.items() if name in slots}
        shared = {name: getattr(chosen, name) for name in slots if getattr(chosen, name) != usual[name]}
        return {
            **(shared if chosen.substitution == "charge_neutral" else {}),
            "library_version": LIBRARY_VERSION,
            "version": candidates.STAGE_VERSION,
            "starting_volumes": starting_volume.rule_digest(),
            "substitution": chosen.substitution,
            "oxidation_states": chosen.oxidation_states,
            "charges": {k: list(v) for k, v in sorted(chosen.charges.items())},
        }

    def stage(self, settings: StageSettings) -> str:
        """Digest of one stage of the funnel."""
        place = self._campaign.stages.index(settings)  # type: ignore[arg-type]
        relaxed = next((s for s in self._campaign.stages[:place] if s.stage == "stability"), None)
        uses: dict[str, Any] = {}
        if settings.stage in ("estimate", "stability", "window", "reactivity", "practicality", "dft"):
            uses["phases"] = self._phases
        if settings.stage in ("stability", "elasticity", "dynamics", "dft"):
            uses["potential"] = self._models["potential"]
        if settings.stage == "stability":
            uses["second_opinion"] = self._models.get("potential.second_opinion")
            uses["errors"] = surrogate_errors.fitted_digest()
            if self._campaign.candidates.substitution == "none":
                uses["suspect"] = "charge balance"  # what is substituted is balanced
            if settings.max_steps == 0 and settings.rattle > 0.0:
                uses["evaluated"] = "as it is"
            if settings.result_settings()["give_up_above"] is not None:
                uses["descent_bounds"] = descent_bounds.fitted_digest()
        if settings.stage in ("estimate", "band_gap"):
            uses["model"] = self._models[f"stages.{place}.model"]
        if settings.stage in NETWORK_STAGES:
            uses["arithmetic"] = self._arithmetic
        if settings.stage in ("window", "conduction", "dynamics"):
            uses["mobile_ions"] = list(self._campaign.mobile_ions)
        if settings.stage == "dft":
            uses["known_crystals"] = self._known_crystals
            if (code := self._models.get(f"stages.{place}.engine")) is not None:
                uses["code"] = code
        if settings.stage == "practicality":
            uses["known"] = self._known
            if of_other_steps := self._campaign.known_formulas.difference(settings.known_formulas):
                uses["known_to_other_steps"] = sorted(of_other_steps)
        return digest_of(
            {
                "stage": settings.stage,
                "version": stage_module(settings.stage).STAGE_VERSION,
                "settings": settings.result_settings(),
                "crystals": self.stage(relaxed) if relaxed else self._crystals(),
                **uses,
            }
        )
