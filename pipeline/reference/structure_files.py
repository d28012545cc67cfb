"""The user's structure files: CIF, POSCAR and extxyz, read without trust."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.input_files import decoded, read_bytes, unpacked
from pipeline.wording import quoted

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifBlock, CifParser

MOST_BYTES = 64 * 1024 * 1024
"""Of a structure file."""
MOST_ATOMS = 2000
"""Of one crystal; reading a CIF takes time with the square of it. A prototype has 500 in its primitive cell at most."""
MOST_OPERATIONS = 1000
"""Of a CIF; a space group has 192."""

LONGEST_OPERATION = 200
"""Characters; pymatgen's time for one grows with the cube of its digits."""

FULL = 0.01
"""From an occupancy of 1: less is rounding."""

POSCAR_NAME = re.compile(r"(.*[\s._-])?(POSCAR|CONTCAR)([\s\d._-].*)?", re.IGNORECASE)
"""The word alone, or apart from what is before and after it: ``POSCAR``, ``CONTCAR.3``, ``LiCl_POSCAR``."""

FILE_NAMES = "*.cif, *.vasp, *.poscar, POSCAR*, CONTCAR*, *.extxyz and *.xyz, plain or with .gz"
SUFFIXES = {".cif": "cif", ".vasp": "poscar", ".poscar": "poscar", ".extxyz": "extxyz", ".xyz": "extxyz"}


def structure_files(folder: Path) -> list[Path]:
    """CIF, POSCAR and extxyz files of a folder, by name; OSError when it can't be listed."""
    return [p for p in sorted(folder.iterdir(), key=lambda p: p.name) if file_format(p) and p.is_file()]


def file_format(path: Path) -> str | None:
    """``cif``, ``poscar`` or ``extxyz`` by the file's name, with or without ``.gz``; None for others."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    named = SUFFIXES.get(plain.suffix.lower())
    return "poscar" if named is None and POSCAR_NAME.fullmatch(plain.name) else named


def other_entries(folder: Path) -> list[tuple[str, str]]:
    """What else a folder holds, by name: name, and why it is not read."""
    read = set(structure_files(folder))
    left = sorted((p for p in folder.iterdir() if p not in read), key=lambda p: p.name)
    return [(p.name, _why_not(p)) for p in left]


def _why_not(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    return "no file: a broken link, a pipe or a device" if not path.is_file() else f"is none of {FILE_NAMES}"


def read_structures(path: Path) -> list[Structure]:
    """All crystals of a file, at least one.

    Raises
    ------
    ValueError
        When it holds no periodic crystal, or one of more than MOST_ATOMS atoms; InputFileError when it can't be read.
    Exception
        Whatever a parser raises on a broken file.
    """
    kind = file_format(path)
    # CIF files carry names of authors in every encoding
    raw = unpacked(read_bytes(path, MOST_BYTES), MOST_BYTES, path)
    text = decoded(raw, path, errors="replace" if kind == "cif" else "strict")
    readers = {"extxyz": _from_extxyz, "poscar": _from_poscar, "cif": _from_cif}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parsers warn of rounded coordinates and missing symmetry; the result is used
        return readers[kind or "cif"](text)


def _from_extxyz(text: str) -> list[Structure]:
    import ase.io
    from pymatgen.io.ase import AseAtomsAdaptor

    frames = ase.io.read(io.StringIO(text), index=":", format="extxyz")
    if not frames:
        raise ValueError("no frame in the file")
    for frame in frames:
        _check_size(len(frame))
        if not all(frame.pbc) or not abs(frame.cell.volume) >= 1e-6:
            raise ValueError("a frame has no periodic cell (Lattice= and pbc= are needed)")
        shares = frame.info.get("occupancy")  # ASE's way to say that a site is shared, or not full
        if isinstance(shares, Mapping) and not all(_is_full(site) for site in shares.values()):
            raise ValueError("partial occupancies (occupancy=); a disordered crystal is not read from extxyz")
    return [AseAtomsAdaptor.get_structure(frame) for frame in frames]


def _is_full(site: Any) -> bool:
    return isinstance(site, Mapping) and len(site) == 1 and abs(float(*site.values()) - 1.0) < FULL


def _from_poscar(text: str) -> list[Structure]:
    from pymatgen.io.vasp import Poscar
    from pymatgen.io.vasp.inputs import BadPoscarWarning

    for line in text.splitlines()[5:10]:  # numbers of atoms stand in the sixth or seventh line, or wrapped below it
        words = line.split()
        if words and all(word.isdecimal() for word in words):
            _check_size(sum(min(int(word[:9]), 10**9) for word in words))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Elements in POSCAR cannot be determined")  # pymatgen goes on with H, He, Li
        try:
            return [Poscar.from_str(text).structure]
        except BadPoscarWarning:
            raise ValueError("no element symbols; write them in a line above the numbers of atoms") from None


def _from_cif(text: str) -> list[Structure]:
    """Crystals of all blocks that have sites; a block that can't be read ends the file, so that none is lost unseen."""
    blocks = re.split(r"^\s*data_", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
    with_sites = [block for block in blocks if "_atom_site_fract_x" in block.lower()]
    return [_from_block(f"data_{block}") for block in with_sites or ["\n" + text]]


def _from_block(text: str) -> Structure:
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifFile, CifParser

    blocks = CifFile.from_str(text).data.values()
    for block in blocks:
        _check_size(len(_column(block.data, "_atom_site_fract_x")))
        operations = _operations(block.data)
        if len(operations) > MOST_OPERATIONS:
            raise ValueError(f"{len(operations):,} symmetry operations; a space group has 192")
        if longest := next((o for o in operations if len(o) > LONGEST_OPERATION), None):
            raise ValueError(f"{quoted(longest)} is no symmetry operation such as '-x+1/2, y, z'")
    parser = CifParser.from_str(text)
    for block in blocks:
        _check_size(_atoms_of_block(parser, block))
    found = parser.parse_structures(primitive=False, on_error="raise")
    if not found:
        raise ValueError("no structure in the file")
    if not isinstance(found[0], Structure):
        raise ValueError("no periodic structure in the file")
    stated = [formula for block in blocks for formula in _column(block.data, "_chemical_formula_sum")]
    if absent := _elements_in(" ".join(stated)) - {element.symbol for element in found[0].composition.elements}:
        raise ValueError(f"no site of {', '.join(sorted(absent))}, which _chemical_formula_sum has")
    return found[0]


def _elements_in(formula: str) -> set[str]:
    """Elements that a formula of a CIF names, such as ``'Na1 Cl1 H2'``; deuterium is hydrogen."""
    from pymatgen.core import Element

    found = {"H" if symbol in ("D", "T") else symbol for symbol in re.findall(r"[A-Z][a-z]?", formula)}
    return {symbol for symbol in found if Element.is_valid_symbol(symbol)}


def _column(data: Mapping[str, Any], name: str) -> list[str]:
    found = data.get(name, [])
    return found if isinstance(found, list) else [found]


def _operations(data: Mapping[str, Any]) -> list[str]:
    return [cell for name in data if "_xyz" in name for cell in _column(data, name)]


def _atoms_of_block(parser: CifParser, block: CifBlock) -> int:
    """Number of atoms that a CIF block stands for, symmetry applied; 0 for a block that pymatgen will refuse."""
    from pymatgen.io.cif import str2float

    columns = [_column(block.data, f"_atom_site_fract_{axis}") for axis in "xyz"]
    try:
        sites = np.array([[str2float(cell) for cell in column] for column in columns], dtype=float).T
    except (ValueError, TypeError):
        return 0
    if not sites.size or not np.isfinite(sites).all():
        return 0
    images = [sites @ op.rotation_matrix.T + op.translation_vector for op in parser.get_symops(block)]
    return len(np.unique(np.round(np.concatenate(images) % 1.0, 3) % 1.0, axis=0))


def _check_size(atoms: int) -> None:
    if atoms > MOST_ATOMS:
        raise ValueError(f"a crystal of {atoms:,} atoms; {MOST_ATOMS:,} are read at most: give the primitive cell")
