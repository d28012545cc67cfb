"""Commands before a run: is the campaign valid, what will it cost, which candidates are there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.config import ConfigError, Problem, load_campaign
from workflows.terminal import (
    EXIT_BAD_INPUT,
    AsJson,
    ConfigFile,
    Folder,
    Workers,
    app,
    clear_errors,
    complain,
    on_workers,
    terminal,
)

if TYPE_CHECKING:
    from pipeline.config import Campaign
    from pipeline.reference.prototype_library import PrototypeLibrary


@app.command()
@clear_errors
def init(path: Annotated[Path, typer.Argument(help="file to write", show_default=False)]) -> None:
    """Write a commented campaign file to start from.

    Example: ionsieve init my_campaign.yaml
    """
    if path.exists():
        complain([f"{path}: exists already; choose another name, or remove it first"])
        raise typer.Exit(EXIT_BAD_INPUT)
    template = (Path(__file__).parent / "template.yaml").read_text(encoding="utf-8")
    try:
        path.write_text(template, encoding="utf-8")
    except OSError as error:
        complain([f"{path}: can't be written: {error.strerror}"])
        raise typer.Exit(EXIT_BAD_INPUT) from None
    terminal().print(f"wrote {path}; next: ionsieve run {path}", highlight=False, markup=False)


@app.command()
@clear_errors
def validate(config: ConfigFile) -> None:
    """Check a campaign file and the data it names.

    Every error is shown at once, with its line.

    Example: ionsieve validate configs/halides.yaml
    """
    from workflows.library import prototype_library
    from workflows.preflight import find_inputs

    console = terminal()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    inputs = find_inputs(load_campaign(config), config, say=say)
    for note in inputs.notes:
        say(note)
    campaign = inputs.campaign
    _, library = prototype_library(inputs, None, say)
    _tell_candidates(campaign, library, config, say)
    steps = ", ".join(stage.step for stage in campaign.stages)
    chosen = campaign.candidates
    way = "crystals as they are" if chosen.substitution == "none" else f"{chosen.substitution} by {chosen.by}"
    say(f"{config} is valid; {way}, then {steps}")


def _tell_candidates(campaign: Campaign, library: PrototypeLibrary, config: Path, say: Callable[[str], None]) -> None:
    """Count candidates; ConfigError when none fits, or, where they are few, when the cheap gates leave none."""
    from pipeline.stages import candidates
    from pipeline.stages.candidate_sample import cheap_gate_counts
    from workflows.candidate_counts import LISTED_AT_MOST, counts_in_words, none_passes, uncharged_in_words

    counts = candidates.count(campaign.candidates, library)
    for line in counts_in_words(counts):
        say(line)
    if campaign.candidates.substitution == "none":
        names = [f"{p.formula} ({p.source_id})" for p in library if not p.has_charges]
        if names:
            say(uncharged_in_words(names))
    entered, passed, rejected_by = counts["candidates"], counts["candidates"], Counter[str]()
    if counts["raw_assignments"] <= LISTED_AT_MOST:
        rejected_by = cheap_gate_counts(campaign.candidates, library, campaign.mobile_ions)
        entered, passed = rejected_by.pop("enumerated"), rejected_by.pop("passed")
        say(f"candidates that pass the cheap gates: {passed:,}")
    if not passed:
        raise ConfigError([Problem(str(config), f"candidates: {none_passes(entered, rejected_by)}")])


class Substitution(StrEnum):
    """Ways of substitution, as the command line takes them."""

    element = "element"
    orbit = "orbit"


@app.command()
@clear_errors
def plan(
    config: ConfigFile,
    as_json: AsJson = False,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="time the stages on a sample, or use what was timed before")
    ] = True,
    by: Annotated[
        Substitution | None, typer.Option(help="substitute by element or by orbit, instead of the config's way")
    ] = None,
) -> None:
    """Count candidates; estimate time, memory and cost of each step.

    The count is exact; rates are measured on a sample.

    Example: ionsieve plan configs/paper.yaml --json
    """
    from workflows.plan_view import print_plan
    from workflows.planning import plan_campaign
    from workflows.preflight import find_inputs
    from workflows.progress import ProgressView

    console = terminal(stderr=as_json)
    view = ProgressView(console)
    campaign = load_campaign(config)
    if by is not None:
        candidates = campaign.candidates.model_copy(update={"by": by.value})
        campaign = campaign.model_copy(update={"candidates": candidates})
    inputs = find_inputs(campaign, config, say=view.say)
    planned = plan_campaign(inputs, view, measure=measure)
    if as_json:
        typer.echo(json.dumps(planned.as_dict(), indent=1))
    else:
        print_plan(console, planned)


@app.command(name="enumerate")
@clear_errors
def enumerate_candidates(config: ConfigFile, folder: Folder = None, workers: Workers = None) -> None:
    """List a campaign's candidates as Parquet.

    The cheap gates are applied; `ionsieve run` goes on from there.

    Example: ionsieve enumerate configs/paper.yaml
    """
    from workflows.progress import ProgressView
    from workflows.session import list_candidates
    from workflows.store import run_folder_of

    campaign = on_workers(load_campaign(config), workers)
    console = terminal()
    _, parts = list_candidates(campaign, config, run_folder_of(campaign, folder), ProgressView(console))
    console.print(f"{parts}/part-*.parquet", highlight=False, markup=False, soft_wrap=True)
