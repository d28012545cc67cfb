"""How far the energy of a crystal may still fall while it is relaxed, as fitted on relaxations that went to their end.

A crystal that fell far lately will fall on. With r the drop of its lowest energy within the last ``window``
evaluations, in eV/atom, the bound on what is left is

    d(r) = floor + factor r

eV/atom; before it has been evaluated more often than that it may fall without bound. The scale is set by whole
relaxations: of the crystals that end below the gate, only the share ``tolerated`` was at any time above it by more than
d. Forces make no such bound: crystals rest on saddles for several steps, with little force and far to fall.

``descent_bounds.json`` beside this module is written by ``scripts/fit_descent_bound.py``; its digest is part of the
digest of stage stability where that gives up relaxations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "descent_bounds.json"

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class DescentBound:
    """Fitted bound of one surrogate and one optimiser.

    Attributes
    ----------
    floor
        eV/atom.
    factor
        eV/atom for each eV/atom of recent drop.
    window
        Evaluations that are recent.
    fit
        What it was fitted on, and how often it was wrong on relaxations that it had not seen.
    """

    floor: float
    factor: float
    window: int
    fit: Mapping[str, Any]

    def remaining(self, drop: FloatArray) -> FloatArray:
        """d(r), eV/atom."""
        bound: FloatArray = self.floor + self.factor * drop
        return bound


def _text() -> str:
    return files("pipeline.reference").joinpath(FILE).read_text(encoding="utf-8")


def fitted_digest() -> str:
    """SHA-256 of the fitted numbers: a refit changes which relaxations are given up, and when."""
    return hashlib.sha256(_text().encode()).hexdigest()


@lru_cache(maxsize=1)
def _read() -> Mapping[str, Mapping[str, Any]]:
    content: Mapping[str, Mapping[str, Any]] = json.loads(_text())["models"]
    return content


def descent_bound(model: str, sha256: str, optimizer: str) -> DescentBound:
    """Read the fitted bound of a surrogate.

    Raises
    ------
    ValueError
        When none was fitted for these weights and this optimiser, whose evaluations are what ``window`` counts.
    """
    for fitted in _read().values():
        if fitted["sha256"] == sha256 and fitted["optimizer"] == optimizer:
            return DescentBound(fitted["floor"], fitted["factor"], fitted["window"], MappingProxyType(fitted["fit"]))
    measured = ", ".join(f"{name} with {fitted['optimizer']}" for name, fitted in _read().items())
    raise ValueError(
        f"how far relaxations with model {model!r} (SHA-256 {sha256[:12]}...) and optimizer {optimizer!r} may still "
        f"fall was never measured; measured are {measured}; leave out give_up_above, or run "
        "scripts/fit_descent_bound.py"
    )
