"""The command that hands a run's crystals to other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cache import at_home
from pipeline.config import ConfigError, Problem
from pipeline.wording import counted
from workflows.terminal import RunPath, app, caution_about, clear_errors, print_lines, terminal


class Format(StrEnum):
    """Formats that `ionsieve export` writes."""

    extxyz = "extxyz"
    optimade = "optimade"


_ENDINGS = {Format.extxyz: "extxyz", Format.optimade: "optimade.jsonl"}


@app.command()
@clear_errors
def export(
    folder: RunPath,
    form: Annotated[Format, typer.Option("--format", help="extended XYZ, or OPTIMADE's JSON lines")] = Format.extxyz,
    top: Annotated[int | None, typer.Option(min=1, help="the first N ranked; default the shortlist")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file; default in the run folder")] = None,
) -> None:
    """Write relaxed crystals with their numbers, units and provenance.

    ASE reads extended XYZ (ase.io.read(path, ":")), pymatgen and OPTIMADE's tools read the JSON lines.

    Example: ionsieve export runs/quickstart --format optimade
    """
    from workflows.export import read_crystals, write_extxyz, write_optimade

    if output is not None:
        output = at_home(output, "--output")
        if output.is_file():
            text = "is there already, and is not overwritten; name another file with --output, or move it away"
            raise ConfigError([Problem(str(output), text)])
    caution_about(folder)
    found = read_crystals(folder, top)
    path = output or folder / f"{'shortlist' if top is None else f'top_{top}'}.{_ENDINGS[form]}"
    {Format.extxyz: write_extxyz, Format.optimade: write_optimade}[form](found, path)
    console = terminal()
    console.print(f"{path}: {counted(len(found.crystals), 'crystal')}", highlight=False, markup=False, soft_wrap=True)
    print_lines(console, found.provenance["caveats"])
    if found.without_structure:
        left = f"{len(found.without_structure)} have no relaxed crystal: {', '.join(found.without_structure[:5])}"
        console.print(left, highlight=False, markup=False, soft_wrap=True)
