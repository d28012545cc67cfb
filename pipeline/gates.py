"""Gates: bounds on a column that a candidate must meet to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, model_validator

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


class Gate(BaseModel):
    """A bound on one column, in the column's unit; a missing value or NaN never passes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    below: StrictFloat | None = Field(None, description="value < below")
    at_most: StrictFloat | None = Field(None, description="value <= at_most")
    above: StrictFloat | None = Field(None, description="value > above")
    at_least: StrictFloat | None = Field(None, description="value >= at_least")
    equals: StrictBool | None = Field(None, description="for true/false columns")

    @model_validator(mode="after")
    def _one_bound_a_side(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("a gate needs a bound: below, at_most, above, at_least or equals")
        if self.below is not None and self.at_most is not None:
            raise ValueError("give one of 'below' and 'at_most', not both")
        if self.above is not None and self.at_least is not None:
            raise ValueError("give one of 'above' and 'at_least', not both")
        lower, upper = self.lower, self.upper
        if self.equals is not None and (lower is not None or upper is not None):
            raise ValueError("give 'equals' alone: it is for true/false columns")
        if lower is not None and upper is not None:
            closed = self.at_least is not None and self.at_most is not None
            if lower > upper or (lower == upper and not closed):
                raise ValueError(f"nothing can pass: the lower bound is {lower:g}, the upper bound {upper:g}")
        return self

    @property
    def lower(self) -> float | None:
        """The lower bound, whichever kind it is."""
        return self.above if self.above is not None else self.at_least

    @property
    def upper(self) -> float | None:
        """The upper bound, whichever kind it is."""
        return self.below if self.below is not None else self.at_most

    def passes(self, values: pd.Series) -> NDArray[np.bool_]:
        """Tell for each value whether it meets the bound; shape (n,), bool."""
        if self.equals is not None:
            return np.asarray([v is not None and bool(v == self.equals) for v in values.tolist()], dtype=bool)
        numbers = values.to_numpy(dtype=float, na_value=np.nan)
        result = ~np.isnan(numbers)
        for bound, compare in (
            (self.below, np.less),
            (self.at_most, np.less_equal),
            (self.above, np.greater),
            (self.at_least, np.greater_equal),
        ):
            if bound is not None:
                result &= compare(numbers, bound)
        return np.asarray(result, dtype=bool)

    def text(self, column: str, unit: str) -> str:
        """Write the bound as a person would: ``energy_above_hull < 0.05 eV/atom``."""
        words = {"below": "<", "at_most": "<=", "above": ">", "at_least": ">=", "equals": "is"}
        parts = [f"{words[k]} {getattr(self, k):g}" for k in words if k != "equals" and getattr(self, k) is not None]
        if self.equals is not None:
            parts = [f"is {str(self.equals).lower()}"]
        return f"{column} {' and '.join(parts)} {unit}".rstrip()
