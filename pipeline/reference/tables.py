"""Tables of reference energies, read strictly: a bad row is named by file, line and value."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.input_files import decoded, read_bytes, unpacked
from pipeline.reference.formulas import CompositionKey, composition_key, composition_keys, element_symbols
from pipeline.wording import MOST, listed, quoted

MOST_BYTES = 32 * 1024 * 1024
"""Of a table, unpacked; the whole Materials Project has 5 MB."""
MOST_ROWS = 1_000_000
"""Ten times the whole Materials Project."""
LOWEST_FORMATION_ENERGY = -100.0
"""eV/atom; below it a number has another unit (the Materials Project's lowest is -4.6)."""
SCHEME = "scheme"
"""The column that may declare the energies' scheme."""


@dataclass(frozen=True)
class PhaseTable:
    """A table of competing phases as read.

    Attributes
    ----------
    path
        The file.
    raw
        Its bytes, for the digest.
    energies
        Lowest formation energy of each composition, eV/atom.
    scheme
        Energy scheme that the table declares in its column ``scheme``, if any.
    """

    path: Path
    raw: bytes
    energies: dict[CompositionKey, float]
    scheme: str | None


def read_phase_table(path: str | Path) -> PhaseTable:
    """Read ``formula, formation_energy_per_atom`` (eV/atom) and perhaps ``scheme``; the lowest of each composition.

    Raises
    ------
    ValueError
        When the file is missing, unreadable, truncated, or a row is bad; names the path, line and value.
    """
    path = Path(path)
    raw, lines, columns = _read_csv(path, ("formula", "formation_energy_per_atom"))
    problems = _Problems(path)
    keys = _keys(lines, columns["formula"], problems)
    energies: dict[CompositionKey, float] = {}
    for line, key, text in zip(lines, keys, columns["formation_energy_per_atom"], strict=True):
        energy = _number("formation_energy_per_atom", text)
        if isinstance(energy, str):
            problems.add(line, energy)
        elif energy < LOWEST_FORMATION_ENERGY:
            problems.add(
                line, f"formation_energy_per_atom is {energy:g} eV/atom, and no phase has less than -5; check its unit"
            )
        elif key is not None and len(key) == 1 and energy < 0.0:
            problems.add(
                line,
                f"element {key[0][0]} has formation energy {energy:g} eV/atom; "
                "the most stable form of an element is zero by definition",
            )
        elif key is not None and energy < energies.get(key, math.inf):
            energies[key] = energy
    problems.raise_if_any()
    declared = set(columns.get(SCHEME, [""]))
    if len(declared) > 1:
        raise ValueError(f"{path} mixes energy schemes {listed(sorted(declared))}; one table has one scheme")
    return PhaseTable(path, raw, energies, declared.pop() or None)


class _Problems:
    """What is wrong with a table's rows, by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, text: str) -> None:
        """Note what is wrong with a line."""
        self.found.append((line, text))

    def raise_if_any(self) -> None:
        """Raise ValueError with all, or the first of many, in the order of the lines."""
        if self.found:
            told = "; ".join(f"line {line}: {text}" for line, text in sorted(self.found)[:MOST])
            more = f"; and {len(self.found) - MOST:,} more" if len(self.found) > MOST else ""
            raise ValueError(f"{self.path}, {told}{more}")


def _keys(lines: list[int], formulas: list[str], problems: _Problems) -> list[CompositionKey | None]:
    """None where a formula can't be read."""
    try:
        return list(composition_keys([formula.strip() for formula in formulas]))
    except ValueError:
        return [_key(line, formula, problems) for line, formula in zip(lines, formulas, strict=True)]


def _key(line: int, formula: str, problems: _Problems) -> CompositionKey | None:
    try:
        return composition_key(formula.strip())
    except ValueError as error:
        problems.add(line, str(error))
        return None


def read_elemental_references(path: str | Path) -> tuple[bytes, dict[str, float]]:
    """Read ``element, energy_per_atom`` (eV/atom): the file's bytes and the energies.

    Raises
    ------
    ValueError
        As `PhaseReference.from_table`.
    """
    path = Path(path)
    raw, lines, columns = _read_csv(path, ("element", "energy_per_atom"))
    energies: dict[str, float] = {}
    problems = _Problems(path)
    for line, cell, text in zip(lines, columns["element"], columns["energy_per_atom"], strict=True):
        symbol = cell.strip()
        if symbol not in element_symbols():
            problems.add(line, f"{quoted(symbol)} is no element")
        if symbol in energies:
            problems.add(line, f"element {symbol} occurs twice")
        energy = _number("energy_per_atom", text)
        if isinstance(energy, str):
            problems.add(line, energy)
        else:
            energies[symbol] = energy
    problems.raise_if_any()
    return raw, energies


def _read_csv(path: Path, needed: tuple[str, ...]) -> tuple[bytes, list[int], dict[str, list[str]]]:
    """Raw bytes, the rows' line numbers, and the columns; every cell stays text, so that sodium nitride stays NaN."""
    raw = read_bytes(path, MOST_BYTES)
    text = decoded(unpacked(raw, MOST_BYTES, path), path)
    reader = csv.reader(io.StringIO(text, newline=""))
    header: list[str] | None = None
    lines: list[int] = []
    rows: list[list[str]] = []
    for cells in _cells(reader, path):
        if not cells or (header is None and cells[0].startswith("#")):
            continue
        if header is None:
            header = _checked_header(path, [c.strip() for c in cells], needed)
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {reader.line_num}: {len(cells)} values where {len(header)} are expected: "
                f"{quoted(','.join(cells))}; the file may be truncated"
            )
        lines.append(reader.line_num)
        rows.append(cells)
        if len(rows) > MOST_ROWS:
            raise ValueError(f"{path} has more than {MOST_ROWS:,} rows, which are read at most")
    if header is None or not rows:
        raise ValueError(f"{path} holds no rows; columns {', '.join(needed)} are expected")
    wanted = [(i, name) for i, name in enumerate(header) if name in (*needed, SCHEME)]
    return raw, lines, {name: [cells[i] for cells in rows] for i, name in wanted}


def _cells(reader: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    """Rows of a table; ValueError where quotation marks or line ends make no table."""
    try:
        yield from reader
    except csv.Error as error:
        line = getattr(reader, "line_num", 0)
        raise ValueError(f"{path}, line {line}: no table of comma-separated values: {error}") from None


def _checked_header(path: Path, header: list[str], needed: tuple[str, ...]) -> list[str]:
    missing = [name for name in needed if name not in header]
    if missing:
        raise ValueError(f"{path}: column {', '.join(missing)} is missing; found {listed(header)}")
    twice = [name for name in (*needed, SCHEME) if header.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: column {', '.join(twice)} occurs twice; leave one")
    return header


def _number(name: str, text: str) -> float | str:
    """The number, or what is wrong with it."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value):
        return f"{name} must be a finite number in eV/atom, got {quoted(text)}"
    return value
