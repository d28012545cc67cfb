"""Whether the framework stayed a crystal: melting and amorphisation seen in its own displacements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from pipeline.diffusion.diffusivity import Diffusivity, tracer_diffusivity
from pipeline.diffusion.displacement import checked_positions
from pipeline.diffusion.hops import CAGE_TIME, count_hops
from pipeline.units import CM2_PER_S_PER_ANGSTROM2_PER_FS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Verdict = Literal["solid", "diffusing", "displaced"]

LINDEMANN_THRESHOLD: Final = 0.15
"""Upper end of the 0.10 to 0.15 at which crystals melt (Lindemann 1910, Phys. Z. 11, 609; Zhou, Vitkup and Karplus
1999, J. Mol. Biol. 285, 1371)."""


@dataclass(frozen=True)
class FrameworkState:
    """What became of the atoms that should stay.

    Attributes
    ----------
    verdict
        ``solid``; ``diffusing`` (molten: the mean squared displacement keeps growing); ``displaced`` (the Lindemann
        ratio is above its threshold without growth: amorphised, reconstructed, or with groups that turn).
    lindemann_ratio
        Root mean square displacement from the starting positions in the second half of the run, over `spacing`.
    spacing
        Cube root of the volume per framework atom, Å.
    diffusivity
        Of the framework's atoms.
    """

    verdict: Verdict
    lindemann_ratio: float
    spacing: float
    diffusivity: Diffusivity

    @property
    def is_crystal(self) -> bool:
        """The verdict is ``solid``."""
        return self.verdict == "solid"


def framework_state(
    positions: ArrayLike,
    frame_interval: float,
    volume: float,
    reference: ArrayLike | None = None,
    cage_time: float = CAGE_TIME,
) -> FrameworkState:
    """Tell a vibrating framework from one that melts or falls out of its places.

    It is ``diffusing`` when its mean squared displacement grows over the run, at the lower end of the 95 % interval of
    its diffusivity, by more than the square of half the spacing.

    Parameters
    ----------
    positions
        Of the framework's atoms, unwrapped, Å, shape (T, F, 3), drift removed.
    frame_interval
        fs.
    volume
        Of the cell, Å3.
    reference
        Positions to measure from, Å, shape (F, 3); by default the mean over the first tenth of the run.
    cage_time
        fs, as in `count_hops`.

    Raises
    ------
    ValueError
        As `count_hops` and `fit_linear_regime`; a volume that is not positive.
    """
    array = checked_positions(positions)
    if not volume > 0:
        raise ValueError(f"volume must be positive, in Å3; got {volume}")
    n_frames, n_atoms, _ = array.shape
    spacing = float(np.cbrt(volume / n_atoms))
    start = array[: max(1, n_frames // 10)].mean(axis=0) if reference is None else np.asarray(reference, np.float64)
    away = array[n_frames // 2 :] - start
    lindemann = float(np.sqrt(np.mean(np.sum(away**2, axis=2))) / spacing)
    hops = count_hops(array, frame_interval, spacing, cage_time)
    diffusivity = tracer_diffusivity(array, frame_interval, hops)
    slowest = diffusivity.interval[0] / CM2_PER_S_PER_ANGSTROM2_PER_FS
    growth = 6.0 * slowest * n_frames * frame_interval
    verdict: Verdict = "displaced" if lindemann > LINDEMANN_THRESHOLD else "solid"
    if growth > (0.5 * spacing) ** 2:
        verdict = "diffusing"
    return FrameworkState(verdict, lindemann, spacing, diffusivity)
