"""The command that writes a run's report."""

from __future__ import annotations

from workflows.terminal import RunPath, app, clear_errors, terminal


@app.command()
@clear_errors
def report(folder: RunPath) -> None:
    """Write report.html into a run folder.

    One file to open in a browser or to send, with nothing to fetch.

    Example: ionsieve report runs/quickstart
    """
    from workflows.report.page import write_report

    path = write_report(folder)
    terminal().print(
        f"{path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser", highlight=False, soft_wrap=True
    )
