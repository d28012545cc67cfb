"""Reading a report's HTML as a program would."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd

HOSTILE = "</script><img src=x onerror=alert(1)>"

_VOID = {"meta", "link", "input", "br", "img", "hr", "i-void"}


class Page(HTMLParser):
    """Tags with their attributes, cells that carry ``data-value``, JSON blocks, and the text that is seen."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.blocks: dict[str, Any] = {}
        self.cells: dict[tuple[str, str], str] = {}
        self.steps: dict[tuple[str, str], str] = {}
        self.text = ""
        self._within: list[tuple[str, dict[str, str]]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in _VOID:
            self._within.append((tag, attributes))
        if "data-column" in attributes and "data-value" in attributes:
            for _, outer in reversed(self._within):
                if "data-candidate" in outer:
                    self.cells[outer["data-candidate"], attributes["data-column"]] = attributes["data-value"]
                    break
                if "data-step" in outer:
                    self.steps[outer["data-step"], attributes["data-column"]] = attributes["data-value"]
                    break

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, attributes = self._within[-1] if self._within else ("", {})
        if tag == "script":
            if attributes.get("type") == "application/json":
                self.blocks[attributes["id"]] = json.loads(data)
        elif tag != "style":
            self.text += data

    def with_id(self, name: str) -> bool:
        """Tell whether an element has this id."""
        return any(attributes.get("id") == name for _, attributes in self.tags)


def csv_of(run: Path, name: str = "ranked_candidates.csv") -> pd.DataFrame:
    """A run's table, every cell as its text."""
    return pd.read_csv(run / name, dtype=str, keep_default_na=False)
