"""How wrong a surrogate's formation energy is on known phases, by anion class and by the surrogates' disagreement.

The error e of a formation energy (surrogate minus Materials Project, MP2020 scheme) of a crystal of anion class c is
taken as

    e = bias_c + s t,    s^2 = scale_c^2 + (k d)^2

with t of Student's distribution (heavy tails: potentials have holes) and d the absolute disagreement with the surrogate
asked for a second opinion; without one, s = scale_c, with numbers of its own. ``surrogate_errors.json`` beside this
module is written by ``scripts/fit_surrogate_errors.py``; its digest is part of stage stability's.
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

from pipeline.reference.anion_class import anion_class

FILE = "surrogate_errors.json"
# Share of a normal distribution within one standard deviation: what an error bar is understood to hold.
ONE_SIGMA = 0.6826894921370859


@dataclass(frozen=True)
class ErrorDistribution:
    """Student's distribution of one crystal's error, eV/atom: surrogate minus true energy.

    Attributes
    ----------
    bias
        Its centre; positive when the surrogate's energies are too high.
    scale
        s.
    degrees_of_freedom
        The fewer, the heavier the tails.
    """

    bias: float
    scale: float
    degrees_of_freedom: float

    @property
    def half_width(self) -> float:
        """Half of the interval about the bias that holds 68 % of the errors, eV/atom."""
        from scipy.special import stdtrit

        return self.scale * float(stdtrit(self.degrees_of_freedom, 0.5 + 0.5 * ONE_SIGMA))

    def chance_below(self, bound: float, energy: float) -> float:
        """Chance that the true energy lies below a bound when the surrogate gives ``energy`` (both eV/atom)."""
        from scipy.special import stdtr

        return float(stdtr(self.degrees_of_freedom, (bound - energy + self.bias) / self.scale))


@dataclass(frozen=True)
class SurrogateErrors:
    """Fitted errors of one surrogate.

    Attributes
    ----------
    model, sha256
        The surrogate.
    second_sha256
        The surrogate that the disagreement was fitted with; the disagreement with another one says nothing here.
    disagreement_factor
        k.
    alone, beside
        By anion class, without a disagreement and at a disagreement of zero.
    """

    model: str
    sha256: str
    second_sha256: str
    disagreement_factor: float
    alone: Mapping[str, ErrorDistribution]
    beside: Mapping[str, ErrorDistribution]

    def of(
        self, formula: str, disagreement: float | None = None, second_sha256: str | None = None
    ) -> ErrorDistribution:
        """Distribution of the error of a crystal of this composition.

        Parameters
        ----------
        formula
            Its anion class decides.
        disagreement
            Absolute difference of the two surrogates' formation energies, eV/atom; None or NaN when unknown.
        second_sha256
            The other surrogate's weights; with any but the fitted one the disagreement is left out.
        """
        return self.of_class(anion_class(formula), disagreement, second_sha256)

    def of_class(
        self, kind: str, disagreement: float | None = None, second_sha256: str | None = None
    ) -> ErrorDistribution:
        """As `of`, for an anion class."""
        if disagreement is None or not np.isfinite(disagreement) or second_sha256 != self.second_sha256:
            return self.alone[kind]
        fitted = self.beside[kind]
        scale = float(np.hypot(fitted.scale, self.disagreement_factor * disagreement))
        return ErrorDistribution(fitted.bias, scale, fitted.degrees_of_freedom)


def read_surrogate(model: str, fitted: Mapping[str, Any]) -> SurrogateErrors:
    """Read one model's entry of the file."""
    free, free_beside = fitted["degrees_of_freedom"], fitted["degrees_of_freedom_beside_disagreement"]
    classes = fitted["classes"].items()
    return SurrogateErrors(
        model,
        fitted["sha256"],
        fitted["second_sha256"],
        fitted["disagreement_factor"],
        MappingProxyType({kind: ErrorDistribution(c["bias"], c["scale"], free) for kind, c in classes}),
        MappingProxyType(
            {
                kind: ErrorDistribution(c["bias_beside_disagreement"], c["scale_beside_disagreement"], free_beside)
                for kind, c in classes
            }
        ),
    )


def _text() -> str:
    return files("pipeline.reference").joinpath(FILE).read_text(encoding="utf-8")


def fitted_digest() -> str:
    """SHA-256 of the fitted numbers: a refit changes what stage stability gives."""
    return hashlib.sha256(_text().encode()).hexdigest()


@lru_cache(maxsize=1)
def _read() -> Mapping[str, SurrogateErrors]:
    content = json.loads(_text())
    found = (read_surrogate(name, fitted) for name, fitted in content["models"].items())
    return MappingProxyType({errors.sha256: errors for errors in found})


def surrogate_errors(sha256: str) -> SurrogateErrors | None:
    """Fitted errors of the surrogate with these weights; None when they were never measured."""
    return _read().get(sha256)
