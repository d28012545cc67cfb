"""What runs of one crystal at several temperatures say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.diffusion.arrhenius import Arrhenius, fit_arrhenius

if TYPE_CHECKING:
    from pipeline.diffusion.conductivity import Conductivity
    from pipeline.diffusion.framework import Verdict
    from pipeline.diffusion.simulation import MobileCell, MobileRun
    from pipeline.diffusion.trajectory import TrajectoryAnalysis

_FROM_BEST_TO_WORST: Final[tuple[Verdict, ...]] = ("solid", "displaced", "diffusing")


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
        Temperatures at which the framework diffuses, K: no diffusivity from there is the crystal's.
    hottest : MobileRun or None
        Of those whose framework does not diffuse.
    arrhenius : Arrhenius or None
        Fit of the tracer diffusivities where the framework does not diffuse; None with fewer than two measured ones.
    """

    cell: MobileCell
    runs: tuple[MobileRun, ...]
    molten: tuple[float, ...]
    hottest: MobileRun | None
    arrhenius: Arrhenius | None

    @property
    def framework(self) -> Verdict:
        """The worst that became of the framework at any temperature."""
        return max((run.analysis.framework.verdict for run in self.runs), key=_FROM_BEST_TO_WORST.index)

    @property
    def is_reliable(self) -> bool:
        """There is a fit of at least three temperatures, with enough hops at each."""
        return self.arrhenius is not None and self.arrhenius.is_reliable

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, as sentences."""
        said = [f"{t:g} K: the framework diffuses; left out" for t in self.molten]
        for run in self.runs:
            analysis = run.analysis
            if analysis.temperature in self.molten:
                continue
            if analysis.framework.verdict == "displaced":
                said.append(f"{analysis.temperature:g} K: the framework has left its places without diffusing")
            said += [f"{analysis.temperature:g} K: {note}" for note in analysis.tracer.notes]
        if self.arrhenius is None:
            said.append("fewer than two measured diffusivities: no activation energy, no conductivity at 300 K")
        else:
            said += self.arrhenius.notes
        return tuple(said)

    def conductivity_at(self, temperature: float = 300.0) -> Conductivity | None:
        """Nernst-Einstein conductivity by the fit, at the density of the crystal at rest; None without a fit."""
        if self.arrhenius is None:
            return None
        return self.arrhenius.conductivity_at(self.cell.charges, self.cell.structure.volume, temperature)

    def __str__(self) -> str:
        """Each temperature with its tracer diffusivity in cm2/s, the 95 % interval, and hops; parted by semicolons."""
        return "; ".join(map(_told, (run.analysis for run in self.runs)))


def temperature_series(cell: MobileCell, runs: Sequence[MobileRun]) -> TemperatureSeries:
    """Put runs of one crystal together; those whose framework diffuses are kept, and left out of the fit.

    Raises
    ------
    ValueError
        No runs.
    """
    if not runs:
        raise ValueError(f"no runs of {cell.key}: a series needs one temperature or more")
    ordered = sorted(runs, key=lambda run: run.analysis.temperature)
    crystals = [run for run in ordered if run.analysis.framework.verdict != "diffusing"]
    molten = tuple(run.analysis.temperature for run in ordered if run.analysis.framework.verdict == "diffusing")
    temperatures = [run.analysis.temperature for run in crystals]
    tracers = [run.analysis.tracer for run in crystals]
    fit = fit_arrhenius(temperatures, tracers) if sum(not d.is_upper_bound for d in tracers) >= 2 else None
    return TemperatureSeries(cell, tuple(ordered), molten, crystals[-1] if crystals else None, fit)


def _told(analysis: TrajectoryAnalysis) -> str:
    d = analysis.tracer
    low, high = d.interval
    value = f"<{d.value:.1e}" if d.is_upper_bound else f"{d.value:.1e} ({low:.1e} to {high:.1e})"
    state = "" if analysis.framework.is_crystal else f", framework {analysis.framework.verdict}"
    return f"{analysis.temperature:g} K {value}, {analysis.n_hops} hops{state}"
