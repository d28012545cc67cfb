"""The learning curve as a figure for the card: a static SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.atomic_files import write_atomically
from pipeline.surrogates.batch import FloatArray
from pipeline.training.progress import Epoch

FIGURE = "learning_curve.svg"


class _Panel(NamedTuple):
    """A quantity of the learning curve: its column, its axis, and the factor to the axis's unit."""

    quantity: str
    label: str
    factor: float


_PANELS = (
    _Panel("energy_mae", "energy error (meV/atom)", 1000.0),
    _Panel("force_mae", "force error (meV/Å)", 1000.0),
    _Panel("stress_mae", "stress error (GPa)", 1.0),
)
# Epochs that are shown one by one: a single one would be no line.
_FEW = 10


def write_curve_figure(path: Path, rows: Sequence[Epoch], best_epoch: int) -> None:
    """Draw the mean absolute errors of training and validation split along the epochs.

    Parameters
    ----------
    path
        The SVG to write; the same rows give the same bytes.
    rows
        Epochs as the learning curve has them (:data:`pipeline.training.progress.CURVE_COLUMNS`).
    best_epoch
        Whose weights were kept; marked by a line. Without stresses in the data none are drawn.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in rows]
    curves = {panel: _errors(panel, rows) for panel in _PANELS}
    known = {panel: own for panel, own in curves.items() if any((errors > 0.0).any() for errors in own.values())}
    marker = "." if len(rows) < _FEW else None
    drawn = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": FIGURE, "svg.fonttype": "none", "font.size": 9.0}):
        figure = Figure(figsize=(9.0, 2.8), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.subplots(1, len(known), squeeze=False)[0]
        for axes, (panel, own) in zip(grid, known.items(), strict=True):
            for split, errors in own.items():
                axes.plot(epochs, np.where(errors > 0.0, errors, np.nan), marker=marker, label=split)
            axes.axvline(best_epoch, color="0.6", linestyle="--", linewidth=0.8, label="kept weights")
            axes.set(xlabel="epoch", ylabel=panel.label, yscale="log")
            axes.yaxis.set_major_formatter(_tick)
            axes.yaxis.set_minor_formatter(_tick)
        axes.legend(frameon=False)
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    write_atomically(path, lambda stream: stream.write(drawn.getvalue()))


def _errors(panel: _Panel, rows: Sequence[Epoch]) -> dict[str, FloatArray]:
    """Errors of each split, in the axis's unit."""
    return {
        split: panel.factor * np.array([row[f"{split}_{panel.quantity}"] for row in rows])
        for split in ("train", "validation")
    }


def _tick(value: float, place: int) -> str:
    """Some of a decade's ticks, as plain numbers."""
    return f"{value:g}" if f"{value:.0e}"[0] in "1235" else ""
