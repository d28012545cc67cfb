"""Problems of data files: gathered by kind, so that a thousand bad rows are a few lines that say so."""

from __future__ import annotations

from collections import defaultdict

from pipeline.problems import ConfigError, Problem

_SHOWN = 5


class Findings:
    """What is wrong with the labels, all of it; each kind is shown a few times and counted."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[Problem]] = defaultdict(list)

    def add(self, kind: str, file: str, row: int | str | None, message: str) -> None:
        """Note a problem of a row (counted from 1), a named row, or a whole file."""
        place = file if row is None else f"{file}:row {row}" if isinstance(row, int) else row
        self._found[(kind, file)].append(Problem(place, message))

    def __bool__(self) -> bool:
        return bool(self._found)

    def problems(self) -> list[Problem]:
        """Every kind's first problems, then how many more there are."""
        listed = []
        for (_, file), problems in self._found.items():
            listed += problems[:_SHOWN]
            if len(problems) > _SHOWN:
                listed.append(Problem(file, f"{len(problems) - _SHOWN} more of the last kind"))
        return listed

    def raise_if_any(self) -> None:
        """Raise ConfigError with all problems, if there are any."""
        if self._found:
            raise ConfigError(self.problems())
