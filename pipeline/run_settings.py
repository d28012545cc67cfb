"""Settings of the run and the plan: none of them changes a result."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.stage_settings import Settings


class PlannedCluster(Settings):
    """A cluster that `ionsieve plan` makes an estimate for; it need not exist."""

    workers: int = Field(ge=1, le=1_000_000, description="worker processes")
    relative_speed: float = Field(
        1.0, gt=0.0, le=1000.0, description="speed of one of them in units of a worker on the machine that plans"
    )
    cost_per_worker_hour: float | None = Field(None, ge=0.0, description="USD")


class PlanSettings(Settings):
    """What `ionsieve plan` assumes; none of this changes a result."""

    passing: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = Field(
        default_factory=dict,
        description="share of a step's rows that goes on, by step; a step that is not named passes all: an upper bound",
    )
    sample: int = Field(24, ge=4, le=10_000, description="candidates on which the stages' rates are measured")
    cluster: PlannedCluster | None = None


class RunSettings(Settings):
    """How the run behaves; none of this changes a result."""

    folder: str | None = Field(None, pattern=r"^[^\x00]{1,1000}$", description="run folder; default runs/<name>")
    allowed_failed_share: float = Field(
        0.05,
        ge=0.0,
        le=1.0,
        description="share of a step's candidates above which failed ones make the exit code 1; of the competing "
        "phases of reference source prototypes half may fail, as long as each element keeps a crystal",
    )
    unit_timeout: float | None = Field(
        None,
        ge=1.0,
        le=30 * 86400.0,
        description="seconds a work unit may take before its worker is ended and the unit is cut to find what hangs; "
        "default: 20 times what the step's slowest unit so far took a row, at least an hour, and a day "
        "(dynamics: a week) before any is known; dft: a week, as time_limit ends each calculation",
    )
