"""Reading YAML strictly: every mistake becomes a problem with its file, line and key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.input_files import InputFileError, read_text
from pipeline.known_keys import keys_at, meaning
from pipeline.settings import STAGES
from pipeline.stage_settings import IN_WORDS, Settings
from pipeline.wording import did_you_mean, quoted, shortened
from pipeline.yaml_nodes import MOST_BYTES, TOO_DEEP, ExcessError, load


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration or its data: where, and what to do.

    ``is_outside_data``: what is missing is none of the user's own, but described in docs/data.md.
    """

    place: str
    message: str
    is_outside_data: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ConfigError(Exception):
    """Bad configuration or data; holds every problem found, not only the first, and advice for them all."""

    def __init__(self, problems: list[Problem], advice: str = "") -> None:
        self.problems = problems
        self.advice = advice
        super().__init__("\n".join(str(p) for p in problems))


def read_yaml(
    path: Path, expected: str = "a campaign is a mapping of keys such as name, candidates, stages"
) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    """Read a mapping, and the line of each of its keys.

    Raises
    ------
    ConfigError
        When it is no mapping (the message says what is ``expected``), or asks for too much.
    """
    try:
        text = read_text(path, MOST_BYTES)
    except InputFileError as error:
        raise ConfigError([Problem(str(path), str(error).removeprefix(f"{path} "))]) from None
    data, lines = _parsed(path, text)
    if not isinstance(data, dict):
        raise ConfigError([Problem(str(path), expected)])
    return data, lines


def _parsed(path: Path, text: str) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    try:
        return load(text)
    except ExcessError as error:
        raise ConfigError([Problem(f"{path}:{error.line}", str(error))]) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _not_yaml(f"{path}:{line}", error.problem) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _not_yaml(f"{path}:{line}", f"the character {quoted(text[error.position])} is not allowed") from None
    except RecursionError:
        raise ConfigError([Problem(str(path), TOO_DEEP)]) from None
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # ruamel lets through what int, float, date and its own look-ups raise on a tagged value that is none
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _not_yaml(str(path), reason) from None


def _not_yaml(place: str, reason: object) -> ConfigError:
    return ConfigError([Problem(place, f"not valid YAML: {shortened(str(reason), 200)}")])


def looks_like_training(data: dict[str, Any]) -> bool:
    """Whether a file's keys are those of a training and not of a campaign."""
    return not looks_like_campaign(data) and ("distil" in data or {"data", "card"} <= data.keys())


def looks_like_campaign(data: dict[str, Any]) -> bool:
    """Whether a file's keys are those of a campaign and not of a training."""
    return not data.keys().isdisjoint(("candidates", "stages")) and data.keys().isdisjoint(("data", "card", "distil"))


def placed_problem(
    path: Path, lines: dict[tuple[str | int, ...], int], item: dict[str, Any], model: type[Settings]
) -> Problem:
    """Place one of pydantic's errors in the file, in our words; ``model`` is what the file should be."""
    # The tag of a discriminated union stands in pydantic's location and not in the file: drop what can't be found.
    place: tuple[str | int, ...] = ()
    for part in item["loc"]:
        if (*place, part) in lines or item["type"] in ("extra_forbidden", "missing") or isinstance(part, int):
            place = (*place, part)
    place = tuple(p for i, p in enumerate(place) if not (i == 2 and place[0] == "stages" and p in STAGES))
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)
    key = ".".join(shortened(str(p)) for p in place) or model.__name__.lower().removesuffix("settings")
    return Problem(f"{path}:{line}", f"{key}: {_message(item, model)}")


def _message(item: dict[str, Any], model: type[Settings]) -> str:
    if item["type"] == "extra_forbidden":
        near = did_you_mean(item["loc"][-1], keys_at(model, item["loc"]))
        return f"unknown key{near or '; see `ionsieve schema` for the keys that exist here'}"
    if item["type"] == "missing":
        return "is missing"
    if item["type"] == "union_tag_invalid":
        name = item["input"].get("stage")
        return f"unknown stage {quoted(name)}; there are {', '.join(STAGES)}{did_you_mean(name, STAGES)}"
    if item["type"] == "union_tag_not_found":
        return f"a stage needs 'stage', one of {', '.join(STAGES)}"
    if item["type"] == "invalid_key":
        return f"the key {quoted(item['loc'][-1])} is no text; write it in quotes, or leave it out"
    if item["type"] in ("tuple_type", "list_type"):
        return _no_list(item["input"])
    if item["type"] == "string_pattern_mismatch":
        pattern = item["ctx"]["pattern"]
        unnamed = f"does not fit the pattern {pattern} ({meaning(model, item['loc'])})"
        return f"{IN_WORDS.get(pattern, unnamed)}; got {quoted(item['input'])}"
    text: str = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" or isinstance(item["input"], (dict, list, tuple)):
        return text
    return f"{text[0].lower()}{text[1:]}, got {quoted(item['input'])}"


def _no_list(value: object) -> str:
    if isinstance(value, dict):
        return "must be a list, such as [Li, Na]"
    written = str(value)
    remedy = f"; write [{written}]" if isinstance(value, str | int | float) and written == shortened(written) else ""
    return f"must be a list, got {quoted(value)}{remedy}"
