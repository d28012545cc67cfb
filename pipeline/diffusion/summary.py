"""Results in the words of a materials scientist."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pipeline.diffusion.arrhenius import Arrhenius
    from pipeline.diffusion.conductivity import Conductivity
    from pipeline.diffusion.diffusivity import Diffusivity
    from pipeline.diffusion.framework import FrameworkState
    from pipeline.diffusion.trajectory import TrajectoryAnalysis

_VERDICTS = {
    "solid": "stays in its places",
    "diffusing": "diffuses: it has melted, and the ions' diffusivity is not that of the crystal",
    "displaced": "has left its places without diffusing: amorphised, reconstructed, or groups of it turn",
}


def summarise_trajectory(analysis: TrajectoryAnalysis) -> str:
    """Diffusivities and what they rest on, conductivities, Haven ratio, framework; one line each."""
    lines = [
        f"{analysis.temperature:g} K, {analysis.duration / 1000:.4g} ps, {analysis.n_ions} mobile ions, "
        f"{analysis.n_hops} hops between sites",
        _diffusivity_line(analysis.tracer),
        _diffusivity_line(analysis.charge),
        _conductivity_line(analysis.tracer_conductivity),
        _conductivity_line(analysis.charge_conductivity),
    ]
    ratio = analysis.haven_ratio
    if ratio.value == ratio.value:
        lines.append(
            f"Haven ratio {ratio.value:.2f} (95 % interval {ratio.interval[0]:.2f} to {ratio.interval[1]:.2f})"
        )
    lines.append(_framework_line(analysis.framework))
    return "\n".join(lines)


def summarise_arrhenius(fit: Arrhenius, charges: ArrayLike, volume: float, temperature: float = 300.0) -> str:
    """Activation energy, prefactor, and the extrapolation to a temperature in K of a cell of the volume in Å3."""
    value, interval = fit.diffusivity_at(temperature)
    lower, upper = fit.activation_energy_interval
    lines = [
        f"Arrhenius fit of the {fit.kind} diffusivity at {len(fit.temperatures)} temperatures, "
        f"{min(fit.temperatures):g} to {max(fit.temperatures):g} K"
        + (f", {fit.n_upper_bounds} of them upper bounds" if fit.n_upper_bounds else ""),
        f"activation energy {fit.activation_energy:.3f} eV (95 % interval {lower:.3f} to {upper:.3f}), "
        f"prefactor {fit.prefactor:.2e} cm2/s",
        f"extrapolated to {temperature:g} K: D = {value:.2e} cm2/s{_between(interval, '.2e')}",
        _conductivity_line(fit.conductivity_at(charges, volume, temperature)),
    ]
    lines += [f"caution: {note}" for note in fit.notes]
    return "\n".join(lines)


def _diffusivity_line(d: Diffusivity) -> str:
    cautions = f"; caution: {'; '.join(d.notes)}" if d.notes else ""
    if d.is_upper_bound:
        return f"{d.kind} diffusivity below {d.value:.2e} cm2/s (95 %): {'; '.join(d.notes)}"
    first, last = (t / 1000 for t in d.window)
    return (
        f"{d.kind} diffusivity {d.value:.2e} cm2/s{_between(d.interval, '.2e')}, worth {d.effective_hops:.0f} "
        f"independent hops, slope of the MSD from {first:.3g} to {last:.3g} ps{cautions}"
    )


def _conductivity_line(c: Conductivity) -> str:
    name = f"conductivity at {c.temperature:g} K by Nernst-Einstein with the {c.kind} diffusivity"
    if c.is_upper_bound:
        return f"{name}: below {c.value:.2e} S/cm ({c.millisiemens:.3g} mS/cm)"
    return f"{name}: {c.value:.2e} S/cm{_between(c.interval, '.2e')}, {c.millisiemens:.3g} mS/cm"


def _framework_line(state: FrameworkState) -> str:
    return f"framework {_VERDICTS[state.verdict]} (Lindemann ratio {state.lindemann_ratio:.3f})"


def _between(interval: tuple[float, float], style: str) -> str:
    return f" (95 % interval {interval[0]:{style}} to {interval[1]:{style}})"
