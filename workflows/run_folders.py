"""Which folders are run folders, and which ones a person may have meant."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import ConfigError, Problem

_MADE_BY_A_RUN = ("manifest.json", "progress.json", "run.lock", "stages", "ranked_candidates.csv")
_USUAL_PLACE = Path("runs")
_NAMED = 10
"""Run folders that are named; the message says how many more there are."""


def is_run_folder(path: Path) -> bool:
    """Tell whether a run has been started in a folder."""
    return any((path / name).exists() for name in _MADE_BY_A_RUN)


def check_run_folder(path: Path) -> None:
    """Make sure that a run folder is there.

    Raises
    ------
    ConfigError
        When it is not, with the run folders nearby.
    """
    try:
        there, found = path.exists(), is_run_folder(path)
    except OSError as error:
        raise ConfigError([Problem(str(path), f"can't be looked into: {error.strerror}")]) from None
    if not found:
        what = "is no run folder" if there else "no such run folder"
        raise ConfigError([Problem(str(path), f"{what}; {_others(path)}")])


def _others(path: Path) -> str:
    for place in (path, path.parent, _USUAL_PLACE):
        if near := _run_folders(place):
            named = ", ".join(str(folder) for folder in near[:_NAMED])
            return f"there are: {named}" + (f" and {len(near) - _NAMED} more" if len(near) > _NAMED else "")
    return "there is none nearby; `ionsieve run` makes one"


def _run_folders(place: Path) -> list[Path]:
    try:
        return sorted(folder for folder in place.iterdir() if is_run_folder(folder))
    except OSError:  # not there, no folder, or closed to this user
        return []
