"""How far the energy of a crystal may still fall while it is relaxed, as fitted on relaxations that went to their end.

With the forces F on n atoms and the strain's generalised force W (virial over atoms), a quadratic energy surface of
typical stiffness promises a drop of

    q = sum F^2 / (2 k n) + |W|^2 / (2 K)

eV/atom. Real surfaces keep more: saddles feel no force, and crystals that start far fall over several edges. So the
bound on what is left is

    d(q) = floor + factor q^exponent

eV/atom, whose shape follows an upper quantile of what was left in the relaxations, and whose scale is set by whole
relaxations: of crystals that end below the gate, only the share ``tolerated`` was at any time above the gate by more
than d. ``descent_bounds.json`` beside this module is written by ``scripts/fit_descent_bound.py``; its digest is part of
the digest of stage stability where that gives up relaxations.
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
# Stiffness of an atom (eV/Å2: 8 THz at a mass of 40) and of a crystal under strain (eV/atom: 50 GPa, 20 Å3 an atom).
ATOM_STIFFNESS, STRAIN_STIFFNESS = 10.0, 6.0

FloatArray = NDArray[np.float64]


def quadratic_drop(
    squared_forces: FloatArray, squared_cell_forces: FloatArray, counts: NDArray[np.int64]
) -> FloatArray:
    """(B,) q in eV/atom, from sums of squares over each crystal's atoms ((eV/Å)^2) and its cell's force (eV^2)."""
    drop: FloatArray = squared_forces / (2.0 * ATOM_STIFFNESS * counts) + squared_cell_forces / (2.0 * STRAIN_STIFFNESS)
    return drop


@dataclass(frozen=True)
class DescentBound:
    """Fitted bound of one surrogate.

    Attributes
    ----------
    floor, factor, exponent
        Of the bound; eV/atom for q in eV/atom.
    fit
        What it was fitted on, and how often it was wrong on relaxations that it had not seen.
    """

    floor: float
    factor: float
    exponent: float
    fit: Mapping[str, Any]

    def remaining(self, drop: FloatArray) -> FloatArray:
        """d(q), eV/atom."""
        bound: FloatArray = self.floor + self.factor * drop**self.exponent
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


def descent_bound(model: str, sha256: str) -> DescentBound:
    """Read the fitted bound of a surrogate.

    Raises
    ------
    ValueError
        When none was fitted for these weights.
    """
    for fitted in _read().values():
        if fitted["sha256"] == sha256:
            return DescentBound(fitted["floor"], fitted["factor"], fitted["exponent"], MappingProxyType(fitted["fit"]))
    raise ValueError(
        f"how far relaxations with model {model!r} (SHA-256 {sha256[:12]}...) may still fall was never measured; "
        f"measured are {', '.join(_read())}; leave out give_up_above, or run scripts/fit_descent_bound.py"
    )
