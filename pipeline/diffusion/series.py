"""What runs of one crystal at several temperatures say together."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast, get_args

from pipeline.diffusion.arrhenius import Arrhenius, fit_arrhenius
from pipeline.diffusion.framework import Verdict

if TYPE_CHECKING:
    from pipeline.diffusion.conductivity import Conductivity
    from pipeline.diffusion.diffusivity import Diffusivity
    from pipeline.diffusion.simulation import MobileCell, MobileRun
    from pipeline.diffusion.trajectory import TrajectoryAnalysis

_FROM_BEST_TO_WORST: Final[tuple[Verdict, ...]] = ("solid", "displaced", "diffusing")

_NUMBER: Final = r"\d[\d.e+-]*"
_POINT: Final = re.compile(
    rf"(?P<temperature>{_NUMBER}) K (?:<(?P<bound>{_NUMBER})|(?P<value>{_NUMBER}) "
    rf"\((?P<low>{_NUMBER}) to (?P<high>{_NUMBER})\)), (?P<hops>\d+) hops(?:, framework (?P<verdict>[a-z]+))?"
)


@dataclass(frozen=True)
class SeriesPoint:
    """One temperature of a series, as column ``md_series`` tells it.

    Attributes
    ----------
    temperature
        K.
    diffusivity
        Of tracers, cm2/s; the bound itself when `is_upper_bound`.
    interval
        95 %, lower and upper end, cm2/s; (0, bound) of a bound.
    is_upper_bound
        No hop led anywhere.
    n_hops
        Hops between sites that were seen.
    framework
        What became of the framework; ``diffusing``: the diffusivity is not that of the crystal.
    """

    temperature: float
    diffusivity: float
    interval: tuple[float, float]
    is_upper_bound: bool
    n_hops: int
    framework: Verdict

    def __str__(self) -> str:
        """Temperature, diffusivity or bound in two digits, interval, hops, and a framework that is not as it was."""
        low, high = self.interval
        value = (
            f"<{self.diffusivity:.1e}" if self.is_upper_bound else f"{self.diffusivity:.1e} ({low:.1e} to {high:.1e})"
        )
        state = "" if self.framework == "solid" else f", framework {self.framework}"
        return f"{self.temperature:g} K {value}, {self.n_hops} hops{state}"


def read_series(text: str) -> list[SeriesPoint]:
    """Read what ``str(TemperatureSeries)`` wrote, column ``md_series``.

    Raises
    ------
    ValueError
        A piece that is no such point, or whose diffusivity or interval is not positive and in order; naming it.
    """
    return [_read_point(piece) for piece in text.split("; ")]


def _read_point(piece: str) -> SeriesPoint:
    found = _POINT.fullmatch(piece)
    verdict = found["verdict"] or "solid" if found else ""
    if found is None or verdict not in get_args(Verdict):
        raise ValueError(
            f"{piece!r} is no temperature of md_series; one reads '700 K 1.2e-06 (8.0e-07 to 1.9e-06), 40 hops'"
        )
    bound = found["bound"]
    value = float(bound or found["value"])
    low, high = (0.0, value) if bound else (float(found["low"]), float(found["high"]))
    temperature = float(found["temperature"])
    if not (temperature > 0.0 and low <= value <= high < float("inf") and (low > 0.0 or (bound and value > 0.0))):
        raise ValueError(f"{piece!r} in md_series: temperature, diffusivity and interval must be positive and in order")
    return SeriesPoint(temperature, value, (low, high), bool(bound), int(found["hops"]), cast("Verdict", verdict))


@dataclass(frozen=True)
class TemperatureSeries:
    """Diffusion in one crystal from runs at several temperatures.

    Attributes
    ----------
    cell : MobileCell
        The supercell.
    runs : tuple of MobileRun
        By rising temperature.
    molten : tuple of float
        Temperatures from the lowest at which the framework diffuses, K: no diffusivity from there is the crystal's,
        also where a run was too short to tell.
    hottest : MobileRun or None
        Of those whose framework does not diffuse.
    arrhenius : Arrhenius or None
        Fit of the tracer diffusivities where the framework does not diffuse; None with fewer than two measured ones.
    conduction : Arrhenius or None
        The same of the tracer diffusivities that are weighted by squared charges; the conductivity follows from it.
    """

    cell: MobileCell
    runs: tuple[MobileRun, ...]
    molten: tuple[float, ...]
    hottest: MobileRun | None
    arrhenius: Arrhenius | None
    conduction: Arrhenius | None

    @property
    def framework(self) -> Verdict:
        """The worst that became of the framework at any temperature."""
        return max((run.analysis.framework.verdict for run in self.runs), key=_FROM_BEST_TO_WORST.index)

    @property
    def is_reliable(self) -> bool:
        """Both fits are of at least three temperatures, with enough hops at each, also weighted by charges."""
        fits = (self.arrhenius, self.conduction)
        return all(fit is not None and fit.is_reliable for fit in fits)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, as sentences."""
        diffusing = {run.analysis.temperature for run in self.runs if run.analysis.framework.verdict == "diffusing"}
        said = [
            f"{t:g} K: the framework diffuses; left out"
            if t in diffusing
            else f"{t:g} K: left out, since the framework diffuses at {min(diffusing):g} K"
            for t in self.molten
        ]
        for run in self.runs:
            analysis = run.analysis
            if analysis.temperature in self.molten:
                continue
            if analysis.framework.verdict == "displaced":
                said.append(f"{analysis.temperature:g} K: the framework has left its places without diffusing")
            said += [f"{analysis.temperature:g} K: {note}" for note in analysis.tracer.notes]
            said += [
                f"{analysis.temperature:g} K, weighted by charges: {note}"
                for note in analysis.weighted_tracer.notes
                if note not in analysis.tracer.notes
            ]
        if self.arrhenius is None:
            said.append("fewer than two measured diffusivities: no activation energy, no conductivity at 300 K")
            return tuple(said)
        said += self.arrhenius.notes
        if self.conduction is None:
            said.append("fewer than two diffusivities weighted by charges: no conductivity at 300 K")
        else:
            own = (note for note in self.conduction.notes if note not in self.arrhenius.notes)
            said += [f"conductivity: {note}" for note in own]
        return tuple(said)

    def conductivity_at(self, temperature: float = 300.0) -> Conductivity | None:
        """Nernst-Einstein conductivity by the fit, at the density of the crystal at rest; None without a fit."""
        if self.conduction is None:
            return None
        return self.conduction.conductivity_at(self.cell.charges, self.cell.structure.volume, temperature)

    def __str__(self) -> str:
        """Each temperature with its tracer diffusivity in cm2/s, the 95 % interval, and hops; parted by semicolons."""
        return "; ".join(str(_point(run.analysis)) for run in self.runs)


def temperature_series(cell: MobileCell, runs: Sequence[MobileRun]) -> TemperatureSeries:
    """Put runs of one crystal together; those whose framework diffuses, and hotter ones, are left out of the fit.

    Raises
    ------
    ValueError
        No runs.
    """
    if not runs:
        raise ValueError(f"no runs of {cell.key}: a series needs one temperature or more")
    ordered = sorted(runs, key=lambda run: run.analysis.temperature)
    diffusing = [run.analysis.temperature for run in ordered if run.analysis.framework.verdict == "diffusing"]
    melts_at = min(diffusing, default=math.inf)
    crystals = [run for run in ordered if run.analysis.temperature < melts_at]
    molten = tuple(run.analysis.temperature for run in ordered if run.analysis.temperature >= melts_at)
    temperatures = [run.analysis.temperature for run in crystals]
    fit = _fitted(temperatures, [run.analysis.tracer for run in crystals])
    conduction = _fitted(temperatures, [run.analysis.weighted_tracer for run in crystals])
    return TemperatureSeries(cell, tuple(ordered), molten, crystals[-1] if crystals else None, fit, conduction)


def _fitted(temperatures: Sequence[float], diffusivities: Sequence[Diffusivity]) -> Arrhenius | None:
    measured = sum(not each.is_upper_bound for each in diffusivities)
    return fit_arrhenius(temperatures, diffusivities) if measured >= 2 else None


def _point(analysis: TrajectoryAnalysis) -> SeriesPoint:
    tracer = analysis.tracer
    return SeriesPoint(
        analysis.temperature,
        tracer.value,
        tracer.interval,
        tracer.is_upper_bound,
        analysis.n_hops,
        analysis.framework.verdict,
    )
