"""The command that says what to label next."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.wording import counted
from workflows.terminal import RunPath, app, caution_about, clear_errors, terminal

if TYPE_CHECKING:
    from pipeline.selection.scores import Weights


class Engine(StrEnum):
    """DFT codes that inputs are written for."""

    vasp = "vasp"
    espresso = "espresso"
    gpaw = "gpaw"


@app.command()
@clear_errors
def select(
    folder: RunPath,
    count: Annotated[int, typer.Option("--count", "-n", min=1, metavar="<int>", help="how many to choose")] = 50,
    engine: Annotated[
        Engine | None, typer.Option(metavar="<code>", help="vasp, espresso, gpaw; default: see docs")
    ] = None,
    dft: Annotated[Path | None, typer.Option(help="YAML with keys of stage dft")] = None,
    known: Annotated[list[Path] | None, typer.Option(metavar="<path>", help="labels that there are already")] = None,
    weights: Annotated[
        str, typer.Option(metavar="<d,n,c>", show_default=False, help="of the scores; default 1,1,1")
    ] = "1,1,1",
    copies: Annotated[int, typer.Option(min=0, max=100, metavar="<int>", help="moved copies of each crystal")] = 0,
    no_suspects: Annotated[bool, typer.Option("--no-suspects", help="without suspect crystals")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="default: the run's selection/")] = None,
) -> None:
    """Choose the crystals most worth labelling, and write DFT inputs.

    Example: ionsieve select runs/mine --count 20 --known labels.parquet
    """
    asked = _weights(weights)
    from workflows.files import digest_of_file
    from workflows.selection import select_candidates
    from workflows.selection_input import dft_settings
    from workflows.selection_output import description, require_new, write_selection

    where, files = output or folder / "selection", known or []
    require_new(where)
    caution_about(folder)
    settings = dft_settings(folder, engine, dft)
    selected = select_candidates(folder, count, asked, files, suspects=not no_suspects)
    sums = {str(path): digest_of_file(path) for path in files}
    about = description(asked, count, sums, not no_suspects, copies)
    written = write_selection(selected, folder, where, settings, copies, about)
    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    console = terminal()
    for line in selected.notes:
        console.print(line, **plain)
    chosen = f"{len(selected.table)} of {selected.candidates} relaxed candidates"
    console.print(f"{where}: {chosen} (selection.csv, structures.extxyz)", **plain)
    console.print(
        f"{where}/dft: inputs of {counted(written.calculations, 'single point')} for {settings.engine}", **plain
    )
    for name, error in written.without_inputs.items():
        console.print(f"{name} has no inputs: {error}", **plain)
    console.print(f"when they have run: ionsieve dft collect {where}", **plain)


def _weights(text: str) -> Weights:
    """Weights of disagreement, novelty and closeness."""
    from pipeline.selection.scores import Weights

    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not all(math.isfinite(v) and v >= 0.0 for v in values):
        raise typer.BadParameter(f"{text!r} must be three numbers from 0 on, such as 1,1,1", param_hint="--weights")
    return Weights(*values)
