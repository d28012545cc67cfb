"""Tables to fuzz: competing phases, elemental references, crystals in Parquet, with mutations of cells and bytes."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Callable
from typing import Any

from scripts.fuzz_mutations import NUMBERS, WORDS, changed_text, damaged_bytes
from scripts.fuzz_sandbox import SPECIAL

# Materials Project, MP2020 scheme (CC BY 4.0), eV/atom, rounded.
PHASES = """\
# formation energies
formula,formation_energy_per_atom,scheme
LiCl,-2.1371,mp2020
NaCl,-2.1144,mp2020
MgCl2,-2.2190,mp2020
Li2MgCl4,-2.1760,mp2020
"K2(NaAl)F6",-3.31,mp2020
NaN,0.4,mp2020
"""
ELEMENTS = """\
element,energy_per_atom
"""
ENERGIES = {"Li": -1.9089, "Na": -1.3225, "Mg": -1.5997, "Al": -3.7456, "Cl": -1.8485, "F": -1.9114, "K": -1.1105,
            "N": -8.3365, "Br": -1.6369, "Y": -6.4668, "Sc": -6.3325, "O": -4.9480}  # fmt: skip

ROWS: list[dict[str, Any]] = [
    {
        "material_id": "mp-1",
        "formula": "NaCl",
        "n_sites": 2,
        "cell_parameters": [3.99, 3.99, 3.99, 60.0, 60.0, 60.0],
        "species": ["Na", "Cl"],
        "frac_coords": [0.0, 0.0, 0.0, 0.5, 0.5, 0.5],
    },
    {
        "material_id": "mp-2",
        "formula": "LiMgCl3",
        "n_sites": 5,
        "cell_parameters": [5.0, 5.0, 5.0, 90.0, 90.0, 90.0],
        "species": ["Li", "Mg", "Cl", "Cl", "Cl"],
        "frac_coords": [0.5, 0.5, 0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.5],
    },
]
CELLS: tuple[Any, ...] = (None, 0.0, -1.0, 1e-300, 1e300, float("nan"), float("inf"), 1e9, 0.11, 180.0, 179.999, 1e-3)


def elements_csv(energies: dict[str, float] = ENERGIES) -> bytes:
    """A sound table of elemental references."""
    return (ELEMENTS + "".join(f"{e},{v}\n" for e, v in energies.items())).encode()


def mutated_csv(raw: bytes, rng: random.Random) -> bytes | str:
    """A CSV table that went wrong, or something else in its place."""
    if rng.random() < 0.04:
        return rng.choice(SPECIAL)
    if rng.random() < 0.06:
        return _csv_bomb(raw, rng)
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.25:
            raw = damaged_bytes(raw, rng)
        elif rng.random() < 0.4:
            raw = _changed_cell(raw, rng)
        else:
            raw = changed_text(raw.decode("utf-8", "replace"), rng).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        raw = gzip.compress(raw)
        if rng.random() < 0.5:
            raw = damaged_bytes(raw, rng)
    return raw


def _changed_cell(raw: bytes, rng: random.Random) -> bytes:
    lines = raw.decode("utf-8", "replace").splitlines() or [""]
    at = rng.randrange(len(lines))
    cells = lines[at].split(",")
    cells[rng.randrange(len(cells))] = rng.choice(NUMBERS + WORDS)
    lines[at] = ",".join(cells)
    return "\n".join(lines).encode()


def _csv_bomb(raw: bytes, rng: random.Random) -> bytes:
    """Little on disk, much in memory, or much work in one cell."""
    row = raw.rstrip().rpartition(b"\n")[2] + b"\n"
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: gzip.compress(raw + row * rng.choice((10**5, 2 * 10**7)), compresslevel=1),
        lambda: gzip.compress(raw + bytes(rng.choice((10**6, 2 * 10**9 // 8))), compresslevel=1) * rng.choice((1, 8)),
        lambda: raw + b'"' + b"x" * 300_000 + b'",1,mp2020\n',
        lambda: raw + b'"' + b"Li,Cl\n" * 50_000,
        lambda: raw + b"(" * 100_000 + b"Li" + b")" * 100_000 + b",-1,mp2020\n",
        lambda: raw + b"(LiCl)" + b"9" * 4000 + b",-1,mp2020\n",
        lambda: raw + b"(" * 30 + b"Li" + b")9999" * 30 + b",-1,mp2020\n",
        lambda: raw + b"LiCl" * 30_000 + b",-1,mp2020\n",
        lambda: b"formula,formation_energy_per_atom" + b",x" * 100_000 + b"\n",
        lambda: b"\n" * 10_000_000 + raw,
    )
    return rng.choice(ways)()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a Parquet file; Arrow infers the types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def mutated_parquet(rng: random.Random) -> bytes | str:
    """A table of crystals that went wrong: a column, a cell, or the file."""
    import pyarrow as pa

    if rng.random() < 0.04:
        return rng.choice(SPECIAL)
    if rng.random() < 0.04:
        return _parquet_bomb(rng)
    if rng.random() < 0.3:
        return damaged_bytes(parquet(ROWS), rng)
    rows = [dict(row) for row in ROWS]
    for _ in range(rng.randint(1, 3)):
        _change_row(rows, rng)
    try:
        return parquet(rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):  # values that no column holds
        return b"PAR1"


def _change_row(rows: list[dict[str, Any]], rng: random.Random) -> None:
    row = rng.choice(rows)
    name = rng.choice(list(ROWS[0]))
    value = row.get(name)
    if isinstance(value, list) and value and rng.random() < 0.7:
        cells = list(value)
        word = name == "species" and rng.random() < 0.7
        cells[rng.randrange(len(cells))] = rng.choice(WORDS) if word else rng.choice(CELLS)
        row[name] = rng.choice((cells, cells[:-1], cells + cells, []))
        return
    everywhere = rows if rng.random() < 0.3 else [row]
    other = rng.choice((None, 0, 1.5, "x", rng.choice(WORDS), [], ["Na"], [1.0], b"\xff", True))
    for each in everywhere:
        each[name] = other
        if rng.random() < 0.2:
            del each[name]


def _parquet_bomb(rng: random.Random) -> bytes:
    """A few kilobytes that stand for many rows, or rows for many atoms."""
    if rng.random() < 0.3:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = 50_000_000
        columns = {name: pa.nulls(rows, pa.string() if name == "formula" else pa.null()) for name in ROWS[0]}
        stream = io.BytesIO()
        pq.write_table(pa.table(columns), stream)
        return stream.getvalue()
    atoms = rng.choice((300, 3000, 100_000))
    row = {**ROWS[0], "species": ["Na", "Cl"] * atoms, "frac_coords": [0.1, 0.2, 0.3] * (2 * atoms), "n_sites": 2}
    if rng.random() < 0.5:
        row["frac_coords"] = [rng.random() for _ in range(6 * atoms)]
    return parquet([*ROWS, row])
