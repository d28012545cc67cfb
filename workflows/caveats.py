"""What a ranked table cannot tell: which compounds are known where no list says so, and what its hull leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.problems import read_yaml
from workflows.views import is_true

KNOWN, PARENT, NEW, NOT_LISTED, NOT_CHECKED = "known", "parent", "new", "not listed", "not checked"
_HULLS = {2: "elements and binaries", 3: "elements, binaries and ternaries"}


@dataclass(frozen=True)
class Reach:
    """How far a campaign looks: whether its config names known formulas, and the hull it makes itself, in words.

    ``own_files``: its prototypes are files of a folder, by whose names the user knows them.
    """

    names_formulas: bool
    own_hull: str
    own_files: bool = False

    @property
    def unlisted(self) -> str:
        """What to call a composition that no list of observed compositions was asked about."""
        return NOT_LISTED if self.names_formulas else NOT_CHECKED

    def standing(self, row: Mapping[str, Any]) -> str:
        """Whether a row's compound is known, in a word; 'new' only where a list of observed compositions was there."""
        if is_true(row.get("is_known")):
            return KNOWN
        if is_true(row.get("is_parent")):
            return PARENT
        return NEW if str(row.get("is_known")) == "False" else self.unlisted

    def caveats(self, ranked: pd.DataFrame) -> list[str]:
        """Sentences that belong beside a ranked table."""
        found = []
        if self.unlisted in {self.standing(row) for row in _places(ranked)}:
            found.append(self._on_known_compounds(ranked))
        if len(ranked) and self.own_hull:
            found.append(
                f"hull: made of {self.own_hull} only, in common prototypes relaxed with the campaign's own model; "
                "a compound can be above phases that are not on it"
            )
        return found

    def _on_known_compounds(self, ranked: pd.DataFrame) -> str:
        if "is_known" not in ranked:
            return "known compounds: not checked, since the campaign has no stage practicality; any may be long known"
        if self.names_formulas:
            return (
                "known compounds: no list of observed compositions was found, so only known_formulas of the config "
                "counts; a compound that is not listed there may be long known"
            )
        return (
            "known compounds: not checked, since no list of observed compositions was found and the config names no "
            "known_formulas; any compound, also on the shortlist, may be long known"
        )


def _places(ranked: pd.DataFrame) -> list[dict[Any, Any]]:
    names = [name for name in ("is_known", "is_parent", "practicality_status") if name in ranked]
    rows: list[dict[Any, Any]] = ranked[names].drop_duplicates().to_dict("records") if names else [{}] * len(ranked)
    return [row for row in rows if row.get("practicality_status") != "failed"]


def read_reach(folder: Path) -> Reach:
    """How far a run's campaign looks, from the config.yaml in its folder.

    Raises
    ------
    ConfigError
        When that file is missing or damaged.
    """
    config, _ = read_yaml(folder / "config.yaml")
    stages = [stage for stage in config.get("stages") or [] if isinstance(stage, dict)]
    reference = config.get("reference") or {}
    prototypes = (config.get("candidates") or {}).get("prototypes") or {}
    own = reference.get("source") == "prototypes"
    return Reach(
        names_formulas=any(stage.get("known_formulas") for stage in stages),
        own_hull=_HULLS.get(reference.get("max_elements", 3), "") if own else "",
        own_files=prototypes.get("source") == "folder",
    )
