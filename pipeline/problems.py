"""Reading YAML strictly: every mistake becomes a problem with its file, line and key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.settings import STAGES


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration or its data: where, and what to do."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ConfigError(Exception):
    """Bad configuration or data; holds every problem found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(p) for p in problems))


def read_yaml(
    path: Path, expected: str = "a campaign is a mapping of keys such as name, candidates, stages"
) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    """Read a mapping, and the line of each of its keys; ConfigError, which says what is ``expected``, if it is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(path), f"can't be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), f"is not UTF-8 text (byte {error.start})")]) from None
    try:
        tree = YAML(typ="rt", pure=True).load(text)
        data = YAML(typ="safe", pure=True).load(text)
        lines: dict[tuple[str | int, ...], int] = {}
        _collect_lines(tree, (), lines)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([Problem(f"{path}:{line}", f"not valid YAML: {error.problem}")]) from None
    except RecursionError:
        raise ConfigError([Problem(str(path), "an alias (*) refers to itself, or the nesting is too deep")]) from None
    except (YAMLError, ValueError) as error:
        raise ConfigError([Problem(str(path), f"not valid YAML: {str(error).splitlines()[0]}")]) from None
    if not isinstance(data, dict):
        raise ConfigError([Problem(str(path), expected)])
    return data, lines


def _collect_lines(node: Any, place: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]) -> None:
    position = getattr(node, "lc", None)
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        at = (
            (position.key(key) if isinstance(node, dict) else position.item(key))
            if position and position.data
            else None
        )
        if at is not None:
            lines[(*place, key)] = at[0] + 1
        _collect_lines(value, (*place, key), lines)


def placed_problem(
    path: Path, lines: dict[tuple[str | int, ...], int], item: dict[str, Any], whole: str = "campaign"
) -> Problem:
    """Place one of pydantic's errors in the file, in our words; ``whole`` names what the file describes."""
    # The tag of a discriminated union stands in pydantic's location and not in the file: drop what can't be found.
    place: tuple[str | int, ...] = ()
    for part in item["loc"]:
        if (*place, part) in lines or item["type"] in ("extra_forbidden", "missing") or isinstance(part, int):
            place = (*place, part)
    place = tuple(p for i, p in enumerate(place) if not (i == 2 and place[0] == "stages" and p in STAGES))
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)
    key = ".".join(str(p) for p in place) or whole
    return Problem(f"{path}:{line}", f"{key}: {_message(item)}")


def _message(item: dict[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown key; see `ionsieve schema` for the keys that exist here"
    if item["type"] == "missing":
        return "is missing"
    if item["type"] == "union_tag_invalid":
        return f"unknown stage {item['input'].get('stage')!r}; there are {', '.join(STAGES)}"
    if item["type"] == "union_tag_not_found":
        return f"a stage needs 'stage', one of {', '.join(STAGES)}"
    text: str = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" or isinstance(item["input"], (dict, list, tuple)):
        return text
    return f"{text[0].lower()}{text[1:]}, got {item['input']!r}"
