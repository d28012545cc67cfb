"""Digests: what a stage's results depend on, and nothing else."""

from __future__ import annotations

from typing import Any

from pipeline.config import Campaign
from pipeline.settings import StageSettings
from pipeline.stages import candidates
from workflows.files import digest_of
from workflows.worker import stage_module


class Digests:
    """Digest of each step of a campaign.

    A digest holds the settings that change the result, the stage's ``STAGE_VERSION``, the models' weights, the
    reference, the precision, the threads and the device, and the digest of the step that made the structures. It
    holds neither gates nor chunk sizes nor the package version: those do not void results.
    """

    def __init__(
        self, campaign: Campaign, *, library: str, models: dict[str, str], table: str | None, known: str
    ) -> None:
        self._campaign = campaign
        self._library = library
        self._models = models
        self._table = table
        self._known = known
        self._arithmetic = {
            "device": campaign.device,
            "threads": campaign.cluster.threads_per_worker,
            "dtype": "float32",
        }

    def candidates(self) -> str:
        """Digest of the enumeration, its cheap gates included: rows they reject are not stored."""
        settings = self._campaign.candidates.model_dump(mode="json", exclude={"prototypes", "chunk_size"})
        return digest_of(
            {
                "stage": "candidates",
                "version": candidates.STAGE_VERSION,
                "settings": settings,
                "mobile_ions": list(self._campaign.mobile_ions),
                "library": self._library,
            }
        )

    def reference(self) -> str:
        """Digest of the competing phases: the table's, or that of the self-consistent relaxations."""
        if self._table is not None:
            return self._table
        settings = self._campaign.reference.model_dump(mode="json", exclude={"chunk_size"})
        return digest_of(
            {
                "stage": "competing_phases",
                "settings": settings,
                "elements": sorted(self._campaign.candidates.elements),
                "charges": {k: list(v) for k, v in sorted(self._campaign.candidates.charges.items())},
                "relaxation": self._relaxation(),
                "potential": self._models["potential"],
                **self._arithmetic,
            }
        )

    def _relaxation(self) -> dict[str, Any]:
        """How stability relaxes, version included: a self-consistent hull is relaxed the same way."""
        for stage in self._campaign.stages:
            if stage.stage == "stability":
                version = stage_module("stability").STAGE_VERSION
                return {"version": version, **stage.result_settings()}
        return {}

    def stage(self, settings: StageSettings) -> str:
        """Digest of one stage of the funnel."""
        before = self._campaign.stages[: self._campaign.stages.index(settings)]  # type: ignore[arg-type]
        relaxed = next((s for s in before if s.stage == "stability"), None)
        uses: dict[str, Any] = {}
        if settings.stage in ("estimate", "stability", "window", "practicality"):
            uses["reference"] = self.reference()
        if settings.stage == "stability":
            uses["potential"] = self._models["potential"]
            uses["second_opinion"] = self._models.get("second_opinion")
        if settings.stage in ("estimate", "band_gap"):
            uses["model"] = self._models[settings.step]
        if settings.stage == "practicality":
            uses["known"] = self._known
        return digest_of(
            {
                "stage": settings.stage,
                "version": stage_module(settings.stage).STAGE_VERSION,
                "settings": settings.result_settings(),
                "mobile_ions": list(self._campaign.mobile_ions),
                "structures": self.stage(relaxed) if relaxed else self._library,
                **uses,
                **self._arithmetic,
            }
        )
