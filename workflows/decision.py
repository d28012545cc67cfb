"""The decision: which candidate was picked, by whom, when and why. One file in the run folder, with its history."""

from __future__ import annotations

import difflib
import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.atomic_files import write_json
from pipeline.config import ConfigError, Problem
from workflows.files import read_json

FILE = "decision.json"
_WORDS = ("candidate_id", "why", "who", "when")
_NEAR = 3


def record_decision(folder: Path, candidate: str, rank: int, why: str, who: str | None = None) -> dict[str, Any]:
    """Write a pick into ``decision.json``; an earlier one moves into its history.

    Parameters
    ----------
    folder
        The run folder.
    candidate, rank
        The candidate_id that was picked, and its rank at this time.
    why
        The reason, in the picker's words.
    who
        Who picked; by default the name of the user who runs this.

    Returns
    -------
    dict
        What was written: ``candidate_id, why, who, when`` (ISO 8601, UTC), ``rank``, ``ionsieve`` (version),
        ``displaced`` (the candidate_id picked before, or None) and ``history`` (earlier picks, oldest first).

    Raises
    ------
    ConfigError
        When the reason is empty, an earlier decision can't be read, or the file can't be written.
    """
    if not why.strip():
        raise ConfigError([Problem("--why", "is empty; say in a sentence what decided it")])
    before = read_decision(folder)
    history = [] if before is None else [*before.pop("history"), before]
    decision = {
        "candidate_id": candidate,
        "why": why.strip(),
        "who": (who or "").strip() or _user(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "rank": rank,
        "ionsieve": metadata.version("ionsieve"),
        "displaced": before["candidate_id"] if before else None,
        "history": history,
    }
    try:
        write_json(folder / FILE, decision)
    except OSError as error:
        raise ConfigError([Problem(str(folder / FILE), f"can't be written: {error.strerror}")]) from None
    return decision


def read_decision(folder: Path) -> dict[str, Any] | None:
    """Read the decision of a run, None when there is none; ConfigError when the file is damaged."""
    path = folder / FILE
    if not path.exists():
        return None
    decision = read_json(path)
    history = decision.setdefault("history", [])
    if not isinstance(history, list) or not all(isinstance(earlier, dict) for earlier in history):
        raise ConfigError([Problem(str(path), "history is no list of decisions; move the file away, and pick again")])
    missing = [word for entry in (*history, decision) for word in _WORDS if word not in entry]
    if missing:
        text = f"lacks {', '.join(missing)}; move the file away, and record the decision again with `ionsieve pick`"
        raise ConfigError([Problem(str(path), text)])
    return decision


def nearest_ids(candidate: str, known: Sequence[str]) -> list[str]:
    """The known ids that look most like one, best first; first among those of the same formula."""
    formula = candidate.partition("-")[0]
    same_formula = [other for other in known if other.partition("-")[0] == formula]
    return difflib.get_close_matches(candidate, same_formula or known, n=_NEAR, cutoff=0.3)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
