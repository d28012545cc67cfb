"""What a command prints, and what a view looks like on a terminal of some width."""

import io
import re
from pathlib import Path

from rich.console import Console, RenderableType
from typer.testing import CliRunner

from workflows.cli import app


def output(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def on_a_terminal(view: RenderableType, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None, no_color=True).print(view)
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
