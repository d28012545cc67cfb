"""What the settings of every stage are made of: frozen models, gates on a stage's own columns, checked formulas."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline import schema
from pipeline.gates import Gate
from pipeline.wording import did_you_mean, listed, quoted

FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
STEP_NAME = r"^[a-z][a-z0-9_]{0,30}$"

FolderName = Annotated[str, Field(pattern=FOLDER_NAME)]
"""Name of a campaign or a model, which a folder has too."""

IN_WORDS = {
    FOLDER_NAME: "may have letters from a to z, digits, '_', '-' and '.', no spaces, at most 64 in all, and begins "
    "with a letter or a digit",
    STEP_NAME: "may have small letters, digits and '_', at most 31 in all, and begins with a letter",
}
"""What each pattern of a name allows."""


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys, no infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_elements(symbols: list[str] | tuple[str, ...]) -> None:
    """Raise ValueError naming every symbol that is no element."""
    from pymatgen.core import Element

    unknown = [s for s in symbols if not Element.is_valid_symbol(s)]
    if unknown:
        raise ValueError(f"unknown element {listed(unknown)}; use symbols such as Li or Cl")


def check_formulas(formulas: tuple[str, ...]) -> tuple[str, ...]:
    """Return the formulas without spaces around them; raise ValueError naming every one that can't be read."""
    from pipeline.reference.formulas import composition_key

    wrong = []
    for formula in formulas:
        try:
            composition_key(formula)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}; write formulas such as Li3YCl6")
    return tuple(formula.strip() for formula in formulas)


class StageSettings(Settings):
    """What every stage of the funnel has: a name in the funnel, gates, and a chunk size."""

    stage: str
    name: str | None = Field(
        None,
        pattern=STEP_NAME,
        description="name of this step; needed when a stage occurs twice",
    )
    gates: dict[str, Gate] = Field(default_factory=dict, description="bounds on this stage's columns, in their units")
    chunk_size: int = Field(32, ge=1, le=100_000, description="candidates a work unit holds")
    best: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="rows that enter at most, the best by the ranking's score so far; null: all",
    )
    required: bool = Field(True, description="a row that fails here leaves the funnel, also without a gate")

    @property
    def step(self) -> str:
        """Name of this step in the funnel."""
        return self.name or self.stage

    def result_settings(self) -> dict[str, object]:
        """Settings that change the result, for the stage's digest (not the gates, not the chunk size)."""
        return self.model_dump(mode="json", exclude={"gates", "chunk_size", "name", "required", "best"})

    @model_validator(mode="after")
    def _gates_on_own_columns(self) -> Self:
        wrong = [text for name, gate in self.gates.items() if (text := _gate_problem(self.stage, name, gate))]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def _gate_problem(stage: str, name: str, gate: Gate) -> str | None:
    own = [c.name for c in schema.columns_of(stage) if c.gate is not None or c.dtype == "bool"]
    try:
        declared = schema.column(name)
    except KeyError:
        declared = None
    if declared is None or declared.stage != stage or (declared.gate is None and declared.dtype != "bool"):
        hint = did_you_mean(name, own) or "."
        return f"stage {stage} has no column {quoted(name)} to gate on{hint} It has: {', '.join(own) or 'none'}"
    if declared.dtype == "bool":
        return None if gate.equals is not None else f"gate {stage}.{name} is true or false; write {{equals: true}}"
    if gate.equals is not None:
        return f"gate {stage}.{name} is a number in {declared.unit or 'no unit'}; use below or above"
    low, high = declared.gate or (0.0, 0.0)
    for bound in (gate.lower, gate.upper):
        if bound is not None and not low <= bound <= high:
            unit = f" {declared.unit}" if declared.unit else ""
            return f"gate {stage}.{name} must lie from {low:g} to {high:g}{unit}, got {bound:g}"
    return None
