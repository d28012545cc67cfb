"""Mutations of bytes, text and settings: what a slip of the hand, a broken disk or somebody hostile makes of a file."""

from __future__ import annotations

import copy
import gzip
import random
import re
import sys
from collections.abc import Callable
from typing import Any

Path = tuple[str | int, ...]

NUMBERS = (
    "0", "-1", "-0.0", "1e-320", "1e308", "1e400", "-1e400", "nan", ".nan", "inf", "-.inf", "1_000", "0x1F", "0o17",
    "1:30", "1e", "--1", "1,5", "1.5.2", "½", "９", "9" * 25, "9" * 400, "9" * 5000, "0x" + "f" * 5000, "50 meV",
    "0.05 eV", "1/3",
)  # fmt: skip
WORDS = (
    "", " ", "~", "null", "yes", "No", "true", "Li", "Xx", "li", "LI", "Å", "\u200b", "🧂", "a" * 300, "../../escape",
    "/etc/passwd", "~nobody/x", "a/../b", "name\ttab", "line\nbreak", "%s%n{}", "$HOME", "`id`", "; id", "<script>",
    "__import__('os')", "Li3YCl6", "Li(", "((Li))", "Li0", "Li0.333Cl", "LiCl)2", "Q2", "2001-01-01", "2001-99-99",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10**6, 10**10, -(10**10), 10**30, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308, 1.5e300,
    float("nan"), float("inf"), float("-inf"), [], {}, [None], [[]], {"": None}, {"a": {"b": {"c": 1}}}, ["Li"] * 3,
    ["Li", "Xx"], {"Li": 1}, {"below": 0.1}, {"equals": True}, {1: 2}, [1, "a", None, {}],
)  # fmt: skip
SYNTAX = (
    "&a ", "*a", "<<: *a\n", "<<: {a: 1}\n", "!!python/object/apply:os.system ['true']", "!!binary aGk=",
    "!!set {a, b}", "!!int 'x'", "!!float []", "!!timestamp 2001-99-99", "!!omap [a: 1]", "!foo ",
    "%YAML 1.1\n---\n", "---\n", "...\n", "\t", "|\n", ">\n", "? ", ": ", "- ", "[", "]", "{", "}", "'", '"', "#",
    "@", "`", "\x00", "\x07", "\ufeff", "\u2028", "? [a, b]\n: 1\n", "1: 1\n", "null: 1\n", '"\\ud800"', '"\\x00"',
    "\r", "=",
)  # fmt: skip


def damaged_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Bits flipped, pieces cut, doubled or overwritten; another encoding."""
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: b"",
        lambda: raw[: rng.randrange(len(raw) + 1)],
        lambda: raw[rng.randrange(len(raw) + 1) :],
        lambda: _overwritten(raw, rng, bytes([rng.randrange(256)])),
        lambda: _overwritten(raw, rng, b"\x00" * rng.randint(1, 40)),
        lambda: _overwritten(raw, rng, rng.randbytes(rng.randint(1, 60))),
        lambda: raw + rng.randbytes(rng.randint(1, 200)),
        lambda: rng.randbytes(rng.randint(1, 2000)),
        lambda: raw * rng.randint(2, 5),
        lambda: b"\xef\xbb\xbf" + raw,
        lambda: _text(raw).encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-7", "cp037")), "replace"),
        lambda: (_text(raw) + "\n# Ångström ½").encode("latin-1", "replace"),
        lambda: raw.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"", b"\x0c\n"))),
        lambda: gzip.compress(raw),
    )
    return rng.choice(ways)()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _overwritten(raw: bytes, rng: random.Random, piece: bytes) -> bytes:
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + piece + raw[at + rng.choice((0, len(piece))) :]


def changed_text(text: str, rng: random.Random, syntax: tuple[str, ...] = SYNTAX) -> str:
    """One word, number, line or sign of a text exchanged, doubled, moved, or left out."""
    lines = text.splitlines(keepends=True) or [""]
    at = rng.randrange(len(lines))
    ways: tuple[Callable[[], str], ...] = (
        lambda: _exchanged(text, rng, r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", NUMBERS),
        lambda: _exchanged(text, rng, r"[A-Za-z_][A-Za-z_0-9]*", WORDS),
        lambda: _exchanged(text, rng, r"[A-Za-z_][A-Za-z_0-9]*", NUMBERS),
        lambda: _exchanged(text, rng, r"[^\w\s]", syntax),
        lambda: "".join(lines[:at] + lines[at + 1 :]),
        lambda: "".join(lines[: at + 1] + lines[at:]),
        lambda: "".join([*lines[:at], rng.choice(lines), *lines[at:]]),
        lambda: "".join([*lines[:at], " " * rng.randint(1, 4) + lines[at], *lines[at + 1 :]]),
        lambda: "".join([*lines[:at], lines[at].strip(" \n") + " " + rng.choice(syntax), "\n", *lines[at + 1 :]]),
        lambda: _inserted(text, rng, rng.choice(syntax)),
    )
    return rng.choice(ways)()


def _exchanged(text: str, rng: random.Random, pattern: str, pool: tuple[str, ...]) -> str:
    places = list(re.finditer(pattern, text))
    if not places:
        return text + rng.choice(pool)
    found = rng.choice(places)
    return text[: found.start()] + rng.choice(pool) + text[found.end() :]


def _inserted(text: str, rng: random.Random, piece: str) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + piece + text[at:]


def _places(node: Any, place: Path = ()) -> list[Path]:
    """Every place below the root of nested mappings and lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    found: list[Path] = []
    for key, value in items:
        found += [(*place, key), *_places(value, (*place, key))]
    return found


def changed_tree(tree: dict[Any, Any], rng: random.Random) -> dict[Any, Any]:
    """A copy of nested settings with one key or value dropped, renamed, moved, wrapped or replaced."""
    tree = copy.deepcopy(tree)
    places = _places(tree)
    if not places:
        return {"name": "x"}
    *above, key = rng.choice(places)
    parent: Any = tree
    for part in above:
        parent = parent[part]
    value = parent[key]
    other: Any = tree
    for part in rng.choice(places):
        other = other[part]
    ways: tuple[Callable[[], Any], ...] = (
        lambda: parent.__delitem__(key),
        lambda: parent.__setitem__(key, rng.choice(VALUES)),
        lambda: parent.__setitem__(key, rng.choice(WORDS)),
        lambda: parent.__setitem__(key, rng.choice(NUMBERS)),
        lambda: parent.__setitem__(key, copy.deepcopy(other)),
        lambda: parent.__setitem__(key, [value] * rng.choice((1, 2, 50))),
        lambda: parent.__setitem__(key, {"value": value}),
        lambda: parent.__setitem__(key, str(value)),
        lambda: parent.__setitem__(key, _other_number(value, rng)),
        lambda: _renamed(parent, key, rng),
    )
    rng.choice(ways)()
    return tree


def _other_number(value: Any, rng: random.Random) -> Any:
    if not isinstance(value, (int, float)):
        return rng.choice((rng.random(), rng.randint(-5, 500)))
    if abs(value) > sys.float_info.max:  # an integer that no float can hold
        return rng.choice((-value, value * 1000, value // 1000, value + 1))
    return rng.choice((-value, value * 1000, value / 1000, value + 1, float(value), -1e9 * value))


def _renamed(parent: Any, key: str | int, rng: random.Random) -> None:
    if not isinstance(parent, dict):
        parent.append(rng.choice(VALUES))
        return
    name = str(key)
    cut = rng.randrange(len(name) + 1)
    new = rng.choice((name[:cut] + name[cut + 1 :], name.upper(), name + "s", rng.choice(WORDS), 7, None, True, 1.5))
    parent[new] = parent.pop(key)


def alias_bomb(rng: random.Random) -> str:
    """YAML of a few lines whose aliases stand for up to billions of values (the "billion laughs")."""
    width, depth = rng.randint(2, 12), rng.randint(5, 30)
    shape = rng.choice(("list", "mapping", "merge"))
    lines = ["z0: &z0 {k: v}" if shape == "merge" else "z0: &z0 [x, y]"]
    for i in range(1, depth):
        below = ", ".join([f"*z{i - 1}"] * width)
        if shape == "list":
            lines.append(f"z{i}: &z{i} [{below}]")
        elif shape == "mapping":
            lines.append(f"z{i}: &z{i} {{" + ", ".join(f"k{j}: *z{i - 1}" for j in range(width)) + "}")
        else:
            lines.append(f"z{i}: &z{i} {{<<: [{below}], k{i}: 1}}")
    return "\n".join(lines) + "\n"


def deep_nesting(rng: random.Random) -> str:
    """YAML of one key whose value is nested tens to thousands deep."""
    depth = rng.choice((20, 60, 300, 1000, 20_000))
    left, right = rng.choice((("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")))
    return ("deep:\n  " if left in ("- ", "? ") else "deep: ") + left * depth + "1" + right * depth + "\n"
