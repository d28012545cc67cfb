"""Measured room-temperature conductivities of lithium electrolytes, with crystals (OBELiX, Therrien et al. 2025)."""

from __future__ import annotations

import csv
import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure

LARGEST_CIF = 1_000_000
"""Bytes. A file beyond this in the archive is no CIF of one crystal."""


@dataclass(frozen=True)
class MeasuredConductivity:
    """One row of the table, with its crystal.

    Attributes
    ----------
    identifier : str
        The data set's own.
    composition : str
        Reduced composition as the table writes it.
    family : str
        Such as ``garnet``; empty where the table has none.
    conductivity : float
        S/cm at room temperature.
    is_upper_bound : bool
        The table says ``<1E-10``; ``conductivity`` is then that bound.
    cif : str
        Text of the CIF.
    """

    identifier: str
    composition: str
    family: str
    conductivity: float
    is_upper_bound: bool
    cif: str


def read_measured_conductivities(folder: Path) -> list[MeasuredConductivity]:
    """Read the rows of ``train.csv`` that have a CIF in ``train_cifs.tar.gz``, in the table's order.

    Nothing is extracted: members are read from the archive by name.

    Raises
    ------
    ValueError
        When a CIF has no row, isn't a plain file or is too large, or a conductivity isn't a positive number.
    """
    with tarfile.open(folder / "train_cifs.tar.gz", "r:gz") as archive:
        cifs = dict(_cif(archive, member) for member in archive.getmembers() if not member.isdir())
    with (folder / "train.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["ID"]: row for row in csv.DictReader(stream)}
    orphans = sorted(set(cifs) - set(rows))
    if orphans:
        raise ValueError(f"{folder}: no row of train.csv belongs to the CIFs {', '.join(orphans)}; fetch both again")
    return [_measured(row, cifs[identifier]) for identifier, row in rows.items() if identifier in cifs]


def _cif(archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str, str]:
    stream = archive.extractfile(member) if member.isfile() and member.size <= LARGEST_CIF else None
    if stream is None or not member.name.endswith(".cif"):
        raise ValueError(f"{member.name!r} in the archive is no CIF of at most {LARGEST_CIF} bytes; fetch it again")
    return PurePosixPath(member.name).stem, stream.read().decode("utf-8")


def _measured(row: dict[str, str], cif: str) -> MeasuredConductivity:
    text = row["Ionic conductivity (S cm-1)"].strip()
    value = float(text.removeprefix("<"))
    if not 0.0 < value < 1e6:
        raise ValueError(f"conductivity of {row['ID']} must be a positive number in S/cm, got {text!r}")
    composition = row["Reduced Composition"].strip()
    return MeasuredConductivity(row["ID"], composition, row["Family"].strip(), value, text.startswith("<"), cif)


def structure_from_cif(cif: str) -> Structure:
    """Crystal of a CIF in the cell that it gives, ordered or disordered.

    Raises
    ------
    ValueError
        When it can't be read or holds no crystal.
    """
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        # pymatgen tells that it rounds 0.3333 to 1/3, which is what we want
        warnings.filterwarnings("ignore", "Issues encountered while parsing CIF", UserWarning)
        return CifParser.from_str(cif).parse_structures(primitive=False)[0]
