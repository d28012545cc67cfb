"""What every command of the terminal shares: the app, its options, errors without tracebacks, exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from pipeline.atomic_files import is_storage_trouble
from pipeline.config import Campaign, ConfigError, Problem
from workflows.files import RunError, RunStoppedError
from workflows.run_folders import check_run_folder

if TYPE_CHECKING:
    from workflows.steps import Step

_ORDER = (
    "init",
    "validate",
    "plan",
    "enumerate",
    "run",
    "status",
    "top",
    "show",
    "compare",
    "pick",
    "report",
    "export",
    "select",
)


class _InOrderOfUse(TyperGroup):
    """Commands as a campaign uses them; those that it may do without come last."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        names = list(self.commands)
        return [name for name in _ORDER if name in names] + [name for name in names if name not in _ORDER]


app = typer.Typer(
    cls=_InOrderOfUse,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"ionsieve {metadata.version('ionsieve')}")
        raise typer.Exit


@app.callback()
def ionsieve(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Screen materials: one YAML file in, a ranked table of candidates out.

    Example: ionsieve init my_campaign.yaml && ionsieve run my_campaign.yaml
    """


ConfigFile = Annotated[Path, typer.Argument(help="campaign file (YAML)", show_default=False)]


def _existing_run(path: Path) -> Path:
    """The run folder that an argument names; exit code 2 where there is none, before the command does anything."""
    try:
        check_run_folder(path)
    except ConfigError as error:
        complain([str(problem) for problem in error.problems])
        raise typer.Exit(EXIT_BAD_INPUT) from None
    return path


RunPath = Annotated[
    Path, typer.Argument(help="run folder, such as runs/quickstart", show_default=False, callback=_existing_run)
]
OtherRunPath = Annotated[
    Path, typer.Argument(help="the run folder beside it", show_default=False, callback=_existing_run)
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]
AsCsv = Annotated[bool, typer.Option("--csv", help="print CSV, numbers in full")]

Folder = Annotated[Path | None, typer.Option(help="run folder; default runs/<name>")]
Workers = Annotated[int | None, typer.Option(min=1, help="local worker processes, instead of the config's")]

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED_ROWS, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 3


def terminal(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or of 200 columns when piped."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=200)


def clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn bad input into a list of problems and exit code 2, and what stops a sound run into exit code 3."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            complain([str(problem) for problem in error.problems])
            if error.advice:
                terminal(stderr=True).print(error.advice, highlight=False, markup=False, soft_wrap=True)
            raise typer.Exit(EXIT_BAD_INPUT) from None
        except RunStoppedError as error:
            stopped(str(error))
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except RunError as error:
            complain([str(error)])
            raise typer.Exit(EXIT_BAD_INPUT) from None
        except BrokenPipeError:
            # The reader of a pipe went away: what was committed stays, as after Ctrl-C.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except OSError as error:
            if not is_storage_trouble(error):
                raise
            where = f" ({error.filename})" if error.filename else ""
            stopped(f"{error.strerror}{where}; free some space, or mend the disk")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except KeyboardInterrupt:
            stopped("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from None

    return wrapped


def only_one(**chosen: bool) -> None:
    """Refuse options that exclude each other, exit code 2."""
    asked = [f"--{name.replace('_', '-')}" for name, wanted in chosen.items() if wanted]
    if len(asked) > 1:
        raise typer.BadParameter(f"{' and '.join(asked)} exclude each other; give one of them")


def caution_about(folder: Path) -> None:
    """Say on stderr when the results in a run folder may be of an earlier run."""
    from workflows import views

    if text := views.caution(folder):
        terminal(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


def print_lines(console: Console, lines: Sequence[str]) -> None:
    """Print sentences as they stand, wrapped on a terminal and whole when piped."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def on_workers(campaign: Campaign, workers: int | None) -> Campaign:
    """The campaign with another number of local workers, if one is given."""
    if workers is None:
        return campaign
    kind = campaign.cluster.kind
    if kind not in ("local", "cuda"):
        remedy = "set cluster.jobs or cluster.adaptive" if kind != "address" else "the scheduler there has its own"
        raise ConfigError(
            [Problem("--workers", f"is for workers on this machine, not for cluster kind {kind}; {remedy}")]
        )
    return campaign.model_copy(update={"cluster": campaign.cluster.model_copy(update={"workers": workers})})


def exit_if_too_many_failed(steps: Sequence[Step], allowed: float, folder: Path) -> None:
    """End with exit code 1, and what is wrong, when more rows failed than a campaign allows."""
    from workflows.failed_rows import too_many_failed

    if problems := too_many_failed(steps, allowed):
        complain([f"{problem}; see {folder}/failures.csv" for problem in problems])
        raise typer.Exit(EXIT_FAILED_ROWS)


def stopped(why: str) -> None:
    """Say on stderr why a run stopped, and that nothing is lost."""
    text = f"{why}; the same command goes on where it stopped"
    terminal(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


def complain(lines: list[str]) -> None:
    """Print problems to stderr."""
    console = terminal(stderr=True)
    console.print(f"[bold red]{len(lines)} problem{'s' if len(lines) != 1 else ''}[/]")
    for line in lines:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
