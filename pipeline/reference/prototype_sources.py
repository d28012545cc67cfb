"""Where prototypes come from: the observed structures' Parquet file, pymatgen's AFLOW library, a folder of files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.input_files import require_file
from pipeline.reference.prototype_library import LeftOut
from pipeline.reference.structure_files import FILE_NAMES, MOST_ATOMS, other_entries, read_structures, structure_files
from pipeline.reference.wyckoff import pymatgen_data
from pipeline.wording import shortened

if TYPE_CHECKING:
    from pymatgen.core import Structure

FloatArray = npt.NDArray[np.float64]

SYMBOL = re.compile(r"[A-Z][a-z]?")

LEAST_VOLUME = 1.0
"""Å3 per atom; the least of the observed crystals is 5.3."""

LEAST_SPACING = 0.1
"""Å, of lattice planes. Below it the cell is a needle, and a search for neighbours would not end."""

MOST_ROWS = 1_000_000
"""Of a Parquet file, and fifty times as many values in a column; the Materials Project has 155,000 crystals."""


MOST_NAMED = 6
"""Broken files that an error names."""


class PrototypeError(ValueError):
    """Prototype data that can't be used; names every file at fault."""


@dataclass(frozen=True)
class SourceCrystal:
    """A crystal as its source gives it.

    ``source_id`` names it, ``lattice`` (3,3) Å rows, ``frac_coords`` (n,3), ``elements`` n symbols,
    ``parameters`` a b c alpha beta gamma (Å, degrees). ``charges`` by element when the source states them.
    ``names`` are what the structure type is called.
    """

    source_id: str
    formula: str
    lattice: FloatArray
    frac_coords: FloatArray
    elements: tuple[str, ...]
    charges: tuple[tuple[str, int], ...] = ()
    names: tuple[str, ...] = ()


def read_table(path: Path, columns: list[str]) -> Any:
    """Columns of a Parquet file as an Arrow table.

    Raises
    ------
    PrototypeError
        When the file is missing, truncated, not Parquet, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        require_file(path)
        with pq.ParquetFile(path) as file:
            _check_counts(file.metadata)
            if missing := [c for c in columns if c not in file.schema_arrow.names]:
                raise ValueError(f"it lacks {', '.join(missing)}")
            return file.read(columns=columns)
    except (OSError, ValueError, pa.ArrowException, KeyError) as error:
        reason = shortened((str(error).splitlines() or [""])[0], 300)
        raise PrototypeError(
            f"prototype file {path} can't be read ({type(error).__name__}: {reason}); it must be a whole Parquet file "
            f"with the columns {', '.join(columns)}"
        ) from error


def _check_counts(metadata: Any) -> None:
    """Refuse what would not fit into memory: a few bytes can stand for any number of equal values."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = max((g.column(i).num_values for g in groups for i in range(g.num_columns)), default=0)
    if metadata.num_rows > MOST_ROWS or values > 50 * MOST_ROWS:
        raise ValueError(
            f"{metadata.num_rows:,} rows, {values:,} values in a column; {MOST_ROWS:,} rows are read at most"
        )


TABLE_COLUMNS = ["material_id", "formula", "n_sites", "cell_parameters", "species", "frac_coords"]


def from_parquet(path: Path, refused: Callable[[set[str]], str | None]) -> Iterator[SourceCrystal | LeftOut]:
    """Crystals of a Materials Project table, a thousand rows in memory at a time.

    A row whose formula has elements that ``refused`` gives a reason against is not read further; one that describes no
    crystal is a ``broken_row``.
    """
    table = read_table(path, TABLE_COLUMNS)
    first = 0
    for batch in table.to_batches(max_chunksize=1000):
        outcomes = [_first_look(formula, refused) for formula in batch["formula"].to_pylist()]
        names = batch["material_id"].to_pylist()
        wanted = [i for i, reason in enumerate(outcomes) if reason is None]
        rows = iter(batch.take(np.array(wanted, dtype=np.int64)).to_pylist())
        for index, (reason, name) in enumerate(zip(outcomes, names, strict=True)):
            row = next(rows) if reason is None else {}
            crystal = _crystal_of_row(row) if row else None
            if crystal is not None:
                yield crystal
                continue
            known = name if isinstance(name, str) else f"row {first + index}"
            formula = batch["formula"][index].as_py()
            yield LeftOut(known, formula if isinstance(formula, str) else "", reason or "broken_row")
        first += batch.num_rows


def _first_look(formula: Any, refused: Callable[[set[str]], str | None]) -> str | None:
    return refused(set(SYMBOL.findall(formula))) if isinstance(formula, str) else "broken_row"


def _crystal_of_row(row: dict[str, Any]) -> SourceCrystal | None:
    """The crystal that a row describes; None when its values describe none."""
    from pymatgen.core import Lattice

    try:
        cell = np.array(row["cell_parameters"], dtype=float)
        coords = np.array(row["frac_coords"], dtype=float)
        elements = tuple(row["species"])
        sized = 0 < len(elements) <= MOST_ATOMS and coords.shape == (3 * len(elements),)
        whole = sized and cell.shape == (6,) and cell.min() > 0
        if not whole or not isinstance(row["material_id"], str) or not all(isinstance(e, str) for e in elements):
            return None
        lattice = np.array(Lattice.from_parameters(*row["cell_parameters"]).matrix)
    except (TypeError, ValueError, ArithmeticError):
        return None
    coords = coords.reshape(-1, 3)
    if cell_fault(lattice, coords):
        return None
    return SourceCrystal(row["material_id"], row["formula"], lattice, coords, elements)


def cell_fault(lattice: FloatArray, frac_coords: FloatArray) -> str:
    """What keeps cell and sites from being a crystal's; empty when they can be.

    They must be finite, the cell not flat, and the coordinates still have digits to spare.
    """
    if not (np.isfinite(lattice).all() and np.isfinite(frac_coords).all()):
        return "a cell or coordinates that are no finite numbers"
    if np.abs(lattice).max() > 1e4 or np.abs(frac_coords).max() > 1e6:
        return "a cell beyond 10,000 Å, or a site beyond a million cells"
    volume = abs(np.linalg.det(lattice)) / len(frac_coords)
    if volume < LEAST_VOLUME:
        return f"{volume:.3g} Å3 per atom, where crystals have more than {LEAST_VOLUME:g}: a flat cell, or a small one"
    spacing = float((1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)).min())
    if spacing <= LEAST_SPACING:
        return f"lattice planes {spacing:.3g} Å apart, where crystals have more than {LEAST_SPACING:g}"
    return ""


def from_aflow() -> Iterator[SourceCrystal | LeftOut]:
    """The AFLOW prototypes (Mehl et al., Comput. Mater. Sci. 2017, 136, S1) that pymatgen carries."""
    from pymatgen.core import Structure

    seen: dict[str, int] = {}
    for entry in pymatgen_data("aflow_prototypes.json.gz"):
        label = str(entry["tags"]["aflow"])
        seen[label] = seen.get(label, 0) + 1
        name = f"aflow-{label}" + (f"-{seen[label]}" if seen[label] > 1 else "")
        crystal = from_structure(name, Structure.from_dict(entry["snl"]))
        names = (str(entry["tags"]["strukturbericht"]), str(entry["tags"]["mineral"]))
        yield replace(crystal, names=names) if isinstance(crystal, SourceCrystal) else crystal


def from_folder(folder: Path, on_broken_file: str) -> Iterator[SourceCrystal | LeftOut]:
    """Crystals of a folder's CIF, POSCAR and extxyz files, by file name; what is left out is named, with the reason.

    Raises
    ------
    PrototypeError
        When the folder is missing or holds no such file; when files can't be read and ``on_broken_file`` is
        ``stop``: all are named.
    """
    if not folder.is_dir():
        raise PrototypeError(f"prototype folder {folder} is not a folder")
    files = structure_files(folder)
    if not files:
        raise PrototypeError(
            f"prototype folder {folder} holds no CIF, POSCAR or extxyz file ({FILE_NAMES}; subfolders are not read)"
        )
    crystals: list[SourceCrystal | LeftOut] = [
        LeftOut(name, "", "not_read", why) for name, why in other_entries(folder)
    ]
    broken: list[str] = []
    for path in files:
        try:
            structures = read_structures(path)
            for structure in structures:
                if fault := cell_fault(np.array(structure.lattice.matrix), np.array(structure.frac_coords)):
                    raise ValueError(fault)
            found = [from_structure(_name(path, structures, i), s) for i, s in enumerate(structures)]
        except Exception as error:  # parsers raise anything on a broken file; each is reported below
            text = str(error).strip().splitlines()
            trouble = f"{type(error).__name__}: {shortened(text[0], 200) if text else 'no message'}"
            broken.append(f"{path.name} ({trouble})")
            crystals.append(LeftOut(path.name, "", "broken_file", trouble))
            continue
        crystals += found
    if broken and on_broken_file != "skip":
        more = f"; and {len(broken) - MOST_NAMED:,} more" if len(broken) > MOST_NAMED else ""
        raise PrototypeError(
            f"{len(broken)} of {len(files)} files in {folder} can't be read: {'; '.join(broken[:MOST_NAMED])}{more}. "
            "Mend or remove them, or set prototypes.on_broken_file: skip"
        )
    yield from crystals


def _name(path: Path, structures: list[Structure], frame: int) -> str:
    return path.name if len(structures) == 1 else f"{path.name}:{frame}"


def from_structure(name: str, structure: Structure) -> SourceCrystal | LeftOut:
    """Take a pymatgen structure; oxidation states are kept when integer and the same for all atoms of an element.

    Left out are crystals with partial occupancy, and those with a site that is no element (a vacancy, a dummy).
    """
    from pymatgen.core import Element

    formula = structure.composition.reduced_formula
    strange = sorted({str(s) for s in structure.composition if not Element.is_valid_symbol(s.symbol)})
    if strange:
        return LeftOut(name, formula, "unknown_species", " ".join(strange))
    if not structure.is_ordered:
        partial = sorted({site.species_string for site in structure if not site.is_ordered})
        return LeftOut(name, formula, "partial_occupancy", "; ".join(partial))
    return SourceCrystal(
        source_id=name,
        formula=formula,
        lattice=np.array(structure.lattice.matrix, dtype=float),
        frac_coords=np.array(structure.frac_coords, dtype=float),
        elements=tuple(site.specie.symbol for site in structure),
        charges=_stated_charges(structure),
    )


def _stated_charges(structure: Structure) -> tuple[tuple[str, int], ...]:
    stated: dict[str, set[float]] = {}
    for site in structure:
        state = getattr(site.specie, "oxi_state", None)
        stated.setdefault(site.specie.symbol, set()).add(np.nan if state is None else float(state))
    values = {e: next(iter(s)) for e, s in stated.items() if len(s) == 1}
    whole = len(values) == len(stated) and all(q == round(q) and q != 0 for q in values.values() if not np.isnan(q))
    if not whole or any(np.isnan(q) for q in values.values()):
        return ()
    if sum(values[site.specie.symbol] for site in structure) != 0:
        return ()
    return tuple(sorted((e, int(q)) for e, q in values.items()))
