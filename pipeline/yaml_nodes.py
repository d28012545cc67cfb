"""YAML as nodes, before anything is built of them: what they would ask for, and the line of each key.

A few lines of aliases can stand for billions of values, and a list can hold lists without end.
"""

from __future__ import annotations

import re
from typing import Any

from pipeline.wording import quoted

MOST_BYTES = 256 * 1024
"""Of a campaign file."""
MOST_VALUES = 10_000
"""Keys and values of a campaign file, aliases written out."""
DEEPEST = 40
"""Lists and mappings within each other; a campaign has seven."""
TOO_DEEP = f"lists and mappings lie more than {DEEPEST} deep within each other"
MOST_DIGITS = 100
"""Of a number."""

Place = tuple[str | int, ...]

_NUMBER = re.compile(r"[-+]?(?:0[box])?[0-9a-fA-F_.:]+(?:[eE][-+]?[0-9_]+)?")
_BRACKET = re.compile(r"[\[\]{}]")
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


class ExcessError(ValueError):
    """More than a campaign needs: the words, and ``line``, counted from 1 (what is passed in, from 0)."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line + 1
        super().__init__(message)


def load(text: str) -> tuple[Any, dict[Place, int]]:
    """What a YAML text describes, and the line of each key and list item.

    Raises
    ------
    ExcessError
        When it asks for more than a campaign needs; nothing has been built then.
    ruamel.yaml.error.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError
        When it is no YAML, or a tagged value is not what its tag says.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor

    lines: dict[Place, int] = {}

    class Checked(SafeConstructor):
        def construct_document(self, node: Any) -> Any:
            check_nodes(node)
            lines.update(lines_of(node))
            return super().construct_document(node)

    check_brackets(text)
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = Checked
    return yaml.load(text), lines


def check_brackets(text: str) -> None:
    """Refuse brackets that are opened by the thousand: a parser's time grows with the square of their number."""
    depth = 0
    for found in _BRACKET.finditer(text):
        depth = depth + 1 if found[0] in "[{" else max(0, depth - 1)
        if depth > 10 * DEEPEST:
            raise ExcessError(text.count("\n", 0, found.start()), TOO_DEEP)


def check_nodes(node: Any) -> None:
    """Refuse a document that goes beyond the limits.

    Parameters
    ----------
    node
        ruamel.yaml's node of a document; aliases are nodes that stand at several places.

    Raises
    ------
    ExcessError
        When it has too many values or too deep ones, an alias to itself, or a number of too many digits.
    """
    _size(node, {}, 1)


def _size(node: Any, sizes: dict[int, int | None], depth: int) -> int:
    """Keys and values that a node stands for; ``sizes`` holds those known, and None for nodes that have begun."""
    if id(node) in sizes:
        known = sizes[id(node)]
        if known is None:
            raise ExcessError(node.start_mark.line, "an alias (*) refers to itself")
        return known
    if depth > DEEPEST:
        raise ExcessError(node.start_mark.line, TOO_DEEP)
    sizes[id(node)] = None
    size = 1
    for child in _children(node):
        size += _size(child, sizes, depth + 1)
        if size > MOST_VALUES:
            text = f"more than {MOST_VALUES:,} keys and values, aliases (*) written out; a campaign has a few hundred"
            raise ExcessError(child.start_mark.line, text)
    if node.id == "scalar" and node.tag != _TEXT and len(node.value) > MOST_DIGITS and _NUMBER.fullmatch(node.value):
        raise ExcessError(node.start_mark.line, f"a number of more than {MOST_DIGITS} digits: {quoted(node.value)}")
    sizes[id(node)] = size
    return size


def _children(node: Any) -> list[Any]:
    if node.id == "mapping":
        return [part for pair in node.value for part in pair]
    return list(node.value) if node.id == "sequence" else []


def lines_of(node: Any, place: Place = ()) -> dict[Place, int]:
    """Line, counted from 1, of each key and list item of a document that `check_nodes` let pass."""
    lines: dict[Place, int] = {}
    if node.id == "sequence":
        for index, item in enumerate(node.value):
            lines |= {(*place, index): item.start_mark.line + 1, **lines_of(item, (*place, index))}
    elif node.id == "mapping":
        for key, value in node.value:
            if key.tag == _MERGE:
                merged = value.value if value.id == "sequence" else [value]
                lines = {**{at: line for part in merged for at, line in lines_of(part, place).items()}, **lines}
            elif key.id == "scalar":
                here = (*place, key.value)
                lines |= {here: key.start_mark.line + 1, **lines_of(value, here)}
    return lines
