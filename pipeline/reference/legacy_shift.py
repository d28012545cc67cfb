"""Formation energies of the Materials Project's legacy scheme, moved to MP2020 by a fitted shift for each anion.

The one-shot models of 2018 learned formation energies with the corrections of Jain et al. (Phys. Rev. B 2011, 84,
045115); the reference table has those of Wang et al. (Sci. Rep. 2021, 11, 15496). Both are sums over corrected atoms,
so the difference is too. ``legacy_shift.json`` beside this module is written by ``scripts/fit_legacy_shift.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.mp2020 import Correction

FILE = "legacy_shift.json"


@dataclass(frozen=True)
class LegacyShift:
    """What to add to a legacy formation energy.

    Attributes
    ----------
    model
        One-shot model whose predictions it was fitted to.
    shifts
        eV for each atom that carries the MP2020 correction of this label (see `pipeline.mp2020.Correction`).
    fit
        How good the fit was: number of crystals, median absolute residual before and after, percentiles (eV/atom).
    """

    model: str
    shifts: Mapping[str, float]
    fit: Mapping[str, Any]

    def per_atom(self, corrections: Sequence[Correction], n_atoms: int) -> float:
        """Shift of one crystal, eV/atom; labels that weren't fitted (too rare) shift nothing."""
        return sum(self.shifts.get(c.label, 0.0) * c.n_atoms for c in corrections) / n_atoms


@lru_cache(maxsize=1)
def _read() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(files("pipeline.reference").joinpath(FILE).read_text(encoding="utf-8"))
    return content


def legacy_shift(model: str) -> LegacyShift:
    """Read the fitted shift of a one-shot model.

    Raises
    ------
    ValueError
        When none was fitted for this model.
    """
    fitted = _read()["models"]
    if model not in fitted:
        raise ValueError(
            f"no shift to MP2020 was fitted for model {model!r}; fitted are {', '.join(fitted)}; "
            "run scripts/fit_legacy_shift.py"
        )
    return LegacyShift(model, MappingProxyType(fitted[model]["shifts"]), MappingProxyType(fitted[model]["fit"]))
