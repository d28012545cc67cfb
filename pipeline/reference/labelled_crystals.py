"""Known crystals with their Materials Project labels, for fits and validations (never for a campaign's results)."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure

STRUCTURE_FILES = tuple(f"structures_{name}.parquet" for name in ("observed", "theoretical_1", "theoretical_2"))
"""The structure files of ``$IONSIEVE_DATA/data/materials_project``."""


def read_labels(path: Path, source: str = "mp2020") -> dict[str, float]:
    """Formation energy (eV/atom) by material_id, of the rows of one source.

    Parameters
    ----------
    path
        ``phases.csv.gz``, with columns formula, formation_energy_per_atom, material_id and source.
    source
        ``mp2020``, the Materials Project's own MP2020 labels, or ``mpf2021_corrected``, its raw energies of 2021 with
        MP2020 corrections.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return {
            row["material_id"]: float(row["formation_energy_per_atom"])
            for row in csv.DictReader(stream)
            if row["source"] == source and row["material_id"]
        }


def read_structures(paths: Sequence[Path], wanted: Sequence[str]) -> Iterator[tuple[str, Structure]]:
    """Read crystals by material_id, in the files' order.

    Parameters
    ----------
    paths
        Parquet files with columns material_id, cell_parameters (a b c alpha beta gamma, Å and degrees), species and
        frac_coords (flat).
    wanted
        The material_ids.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from pymatgen.core import Lattice, Structure

    columns = ["material_id", "cell_parameters", "species", "frac_coords"]
    identifiers = pa.array(list(wanted), type=pa.string())
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(8192, columns=columns):
            chosen = batch.filter(pc.is_in(batch["material_id"], value_set=identifiers))
            for row in chosen.to_pylist():
                lattice = Lattice.from_parameters(*row["cell_parameters"])
                coords = [row["frac_coords"][i : i + 3] for i in range(0, len(row["frac_coords"]), 3)]
                yield row["material_id"], Structure(lattice, row["species"], coords)
