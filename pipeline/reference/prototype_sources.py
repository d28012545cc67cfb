"""Where prototypes come from: the observed structures' Parquet file, pymatgen's AFLOW library, a folder of files."""

from __future__ import annotations

import gzip
import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pymatgen.core import Structure

FloatArray = npt.NDArray[np.float64]

SYMBOL = re.compile(r"[A-Z][a-z]?")

POSCAR_NAMES = ("POSCAR", "CONTCAR")
SUFFIXES = {".cif": "cif", ".vasp": "poscar", ".poscar": "poscar", ".extxyz": "extxyz", ".xyz": "extxyz"}


class PrototypeError(ValueError):
    """Prototype data that can't be used; names every file at fault."""


@dataclass(frozen=True)
class SourceCrystal:
    """A crystal as its source gives it.

    ``source_id`` names it, ``lattice`` (3,3) Å rows, ``frac_coords`` (n,3), ``elements`` n symbols,
    ``parameters`` a b c alpha beta gamma (Å, degrees). ``charges`` by element when the source states them.
    ``disordered`` crystals have no arrays. ``names`` are what the structure type is called.
    """

    source_id: str
    formula: str
    lattice: FloatArray
    frac_coords: FloatArray
    elements: tuple[str, ...]
    charges: tuple[tuple[str, int], ...] = ()
    disordered: bool = False
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
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise PrototypeError(
            f"prototype file {path} can't be read ({type(error).__name__}: {reason}); it must be a whole Parquet file "
            f"with the columns {', '.join(columns)}"
        ) from error


TABLE_COLUMNS = ["material_id", "formula", "n_sites", "cell_parameters", "species", "frac_coords"]


def from_parquet(path: Path, wanted: Callable[[str], str | None]) -> Iterator[SourceCrystal | str]:
    """Crystals of a Materials Project table; for each one that ``wanted`` refuses by its formula, the reason."""
    from pymatgen.core import Lattice

    table = read_table(path, TABLE_COLUMNS)
    missing = [c for c in TABLE_COLUMNS if c not in table.column_names]
    if missing:
        raise PrototypeError(f"prototype file {path} lacks the columns {', '.join(missing)}")
    for index, formula in enumerate(table["formula"].to_pylist()):
        reason = wanted(formula) if isinstance(formula, str) else "broken_row"
        if reason is not None:
            yield reason
            continue
        row = table.slice(index, 1).to_pylist()[0]
        if not _is_whole(row):
            yield "broken_row"
            continue
        yield SourceCrystal(
            source_id=row["material_id"],
            formula=formula,
            lattice=np.array(Lattice.from_parameters(*row["cell_parameters"]).matrix),
            frac_coords=np.array(row["frac_coords"], dtype=float).reshape(-1, 3),
            elements=tuple(row["species"]),
        )


def _is_whole(row: dict[str, Any]) -> bool:
    """Whether a row describes a crystal: finite numbers, three coordinates an atom, a cell with a volume."""
    from pymatgen.core import Lattice

    cell, species, coords = row["cell_parameters"], row["species"], row["frac_coords"]
    if (
        not cell
        or not species
        or not all(isinstance(symbol, str) for symbol in species)
        or len(cell) != 6
        or len(coords or []) != 3 * len(species)
    ):
        return False
    numbers = np.array([*cell, *coords], dtype=float)
    return bool(np.isfinite(numbers).all()) and min(cell) > 0 and Lattice.from_parameters(*cell).volume > 1e-3


def from_aflow() -> Iterator[SourceCrystal]:
    """The AFLOW prototypes (Mehl et al., Comput. Mater. Sci. 2017, 136, S1) that pymatgen carries."""
    from pymatgen.core import Structure

    data = resources.files("pymatgen.analysis.prototypes").joinpath("aflow_prototypes.json.gz").read_bytes()
    seen: dict[str, int] = {}
    for entry in json.loads(gzip.decompress(data)):
        label = str(entry["tags"]["aflow"])
        seen[label] = seen.get(label, 0) + 1
        name = f"aflow-{label}" + (f"-{seen[label]}" if seen[label] > 1 else "")
        crystal = from_structure(name, Structure.from_dict(entry["snl"]))
        yield replace(crystal, names=(str(entry["tags"]["strukturbericht"]), str(entry["tags"]["mineral"])))


def from_folder(folder: Path, on_broken_file: str) -> Iterator[SourceCrystal | str]:
    """Crystals of a folder's CIF, POSCAR and extxyz files, by file name; ``broken_file`` for each one skipped.

    Raises
    ------
    PrototypeError
        When the folder is missing or holds no such file; when files can't be read and ``on_broken_file`` is
        ``stop``: all are named.
    """
    if not folder.is_dir():
        raise PrototypeError(f"prototype folder {folder} is not a folder")
    files = [p for p in sorted(folder.iterdir(), key=lambda p: p.name) if p.is_file() and file_format(p)]
    if not files:
        raise PrototypeError(f"prototype folder {folder} holds no CIF, POSCAR or extxyz file")
    crystals: list[SourceCrystal | str] = []
    broken: list[str] = []
    for path in files:
        try:
            structures = _read_structures(path)
        except Exception as error:  # parsers raise anything on a broken file; each is reported below
            text = str(error).strip().splitlines()
            broken.append(f"{path.name} ({type(error).__name__}: {text[0] if text else 'no message'})")
            crystals.append("broken_file")
            continue
        for frame, structure in enumerate(structures):
            name = path.name if len(structures) == 1 else f"{path.name}:{frame}"
            crystals.append(from_structure(name, structure))
    if broken and on_broken_file != "skip":
        raise PrototypeError(
            f"{len(broken)} of {len(files)} files in {folder} can't be read: {'; '.join(broken)}. Mend or remove them, "
            "or set prototypes.on_broken_file: skip"
        )
    yield from crystals


def file_format(path: Path) -> str | None:
    """``cif``, ``poscar`` or ``extxyz`` by the file's name; None for others."""
    if path.name.upper().startswith(POSCAR_NAMES):
        return "poscar"
    return SUFFIXES.get(path.suffix.lower())


def _read_structures(path: Path) -> list[Structure]:
    from pymatgen.core import Structure

    kind = file_format(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parsers warn of rounded coordinates and missing symmetry; the result is used
        if kind == "extxyz":
            import ase.io
            from pymatgen.io.ase import AseAtomsAdaptor

            frames = ase.io.read(path, index=":", format="extxyz")
            if not frames:
                raise ValueError("no frame in the file")
            for frame in frames:
                if not all(frame.pbc) or abs(frame.cell.volume) < 1e-6:
                    raise ValueError("a frame has no periodic cell (Lattice= and pbc= are needed)")
            return [AseAtomsAdaptor.get_structure(frame) for frame in frames]
        if kind == "poscar":
            from pymatgen.io.vasp import Poscar

            return [Poscar.from_str(path.read_text(encoding="utf-8")).structure]
        from pymatgen.io.cif import CifParser

        found = CifParser(path).parse_structures(primitive=False)
    if not found:
        raise ValueError("no structure in the file")
    if not all(isinstance(s, Structure) for s in found):
        raise ValueError("no periodic structure in the file")
    return list(found)


def from_structure(name: str, structure: Structure) -> SourceCrystal:
    """Take a pymatgen structure; oxidation states are kept when integer and the same for all atoms of an element."""
    ordered = structure.is_ordered
    elements = tuple(site.specie.symbol for site in structure) if ordered else ()
    return SourceCrystal(
        source_id=name,
        formula=structure.composition.reduced_formula,
        lattice=np.array(structure.lattice.matrix, dtype=float),
        frac_coords=np.array(structure.frac_coords, dtype=float),
        elements=elements,
        charges=_stated_charges(structure) if ordered else (),
        disordered=not ordered,
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
