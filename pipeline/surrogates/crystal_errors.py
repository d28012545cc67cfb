"""What ends the way of a single crystal, in a relaxation or in dynamics: a cell, coordinates or an answer gone bad."""

import numpy as np

from pipeline.surrogates.active import ActiveCrystals, BoolArray
from pipeline.surrogates.batch import MAX_EDGES, BatchResult, IntArray, image_work


def geometry_errors(state: ActiveCrystals, max_volume_ratio: float, cutoff: float) -> list[str | None]:
    """What makes a crystal impossible to evaluate: cell out of bounds, or coordinates that are not finite."""
    counts = state.counts
    infinite = ~np.isfinite(state.cells).all(axis=(1, 2))
    infinite |= np.logical_or.reduceat(~np.isfinite(state.positions).all(axis=1), np.cumsum(counts) - counts)
    ratio = np.full(len(counts), np.nan)
    ratio[~infinite] = np.abs(np.linalg.det(state.cells[~infinite])) / state.volume_start[~infinite]
    inside = (ratio >= 1.0 / max_volume_ratio) & (ratio <= max_volume_ratio)
    needle = np.zeros(len(counts), bool)
    needle[inside] = image_work(counts[inside], state.cells[inside], cutoff) > 500.0 * MAX_EDGES
    errors: list[str | None] = [None] * len(counts)
    for b in np.flatnonzero(~inside | needle):
        after = f"after {state.steps[b]} steps"
        if infinite[b]:
            errors[b] = f"NonFiniteCoordinates: not finite {after}"
        elif needle[b]:
            errors[b] = f"DegenerateCell: the cell became a needle {after}"
        else:
            errors[b] = f"ExplodingVolume: {ratio[b]:.3g} times the initial volume {after}"
    return errors


def evaluation_errors(result: BatchResult, state: ActiveCrystals, min_distance: float) -> list[str | None]:
    """What a model's answer says of each crystal: its own error, colliding atoms (Å), numbers that are not finite."""
    errors = list(result.errors)
    colliding = result.closest[:, 0] < min_distance
    for b in np.flatnonzero(colliding | ~_finite_results(result, state.counts)):
        after = f"after {state.steps[b]} steps"
        if errors[b] is not None:
            continue
        if colliding[b]:
            distance, i, j = result.closest[b]
            errors[b] = f"CollidingAtoms: atoms {int(i)} and {int(j)} are {distance:.3g} Å apart {after}"
        else:
            errors[b] = f"NonFiniteResult: the model's energy, forces or stress are not finite {after}"
    return errors


def _finite_results(result: BatchResult, counts: IntArray) -> BoolArray:
    bad_atoms = ~np.isfinite(result.forces).all(axis=1)
    bad = np.add.reduceat(bad_atoms.astype(np.int64), np.cumsum(counts) - counts) > 0
    finite: BoolArray = ~bad & np.isfinite(result.energies) & np.isfinite(result.stresses).all(axis=(1, 2))
    return finite
