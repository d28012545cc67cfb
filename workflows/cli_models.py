"""The command that lists models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.problems import ConfigError, Problem
from pipeline.surrogates import ModelListing, list_models
from pipeline.surrogates.entries import MODEL_FILES
from workflows.terminal import AsJson, app, clear_errors, terminal
from workflows.terminal_tables import as_text, plain_table, print_table

TRAINED = Path("models")
"""Where ``ionsieve train`` puts models unless it is told otherwise."""


@app.command()
@clear_errors
def models(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="folders of models of your own; default models", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the surrogates, your own too, and where they were found.

    Example: ionsieve models
    """
    listings = list_models(own=folders or [TRAINED])
    found = {place for listing in listings if listing.path for place in (listing.path, listing.path.parent)}
    empty = [folder for folder in folders or () if folder not in found]
    if empty:
        words = f"holds no model; give a folder with {' and '.join(MODEL_FILES)}, or one that has such folders"
        raise ConfigError([Problem(str(folder), words) for folder in empty])
    if as_json:
        typer.echo(json.dumps([_facts(listing) for listing in listings], indent=1))
        return
    table = plain_table((title, "left") for title in ("model", "kind", "energies", "licence", "found in"))
    for listing in listings:
        facts = _facts(listing)
        table.add_row(*(as_text(facts[key] or "–") for key in ("name", "kind", "scheme", "licence")), _place(listing))
    print_table(terminal(), table)


def _facts(listing: ModelListing) -> dict[str, Any]:
    entry = listing.entry
    return {
        "name": listing.name,
        "kind": entry.kind if entry else None,
        "scheme": entry.scheme if entry else None,
        "licence": entry.licence if entry else None,
        "path": str(listing.path) if listing.path else None,
        "problem": listing.problem,
    }


def _place(listing: ModelListing) -> Any:
    if listing.path is None:
        return as_text(f"{listing.problem}: set IONSIEVE_DATA to a folder with models/{listing.name}")
    return as_text(f"{listing.path} ({listing.problem})" if listing.problem else str(listing.path))
