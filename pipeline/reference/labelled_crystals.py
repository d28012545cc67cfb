"""Known crystals with their Materials Project labels, for fits and validations (never for a campaign's results)."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
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


def known_chemical_systems(root: Path, max_sites: int) -> list[str]:
    """Chemical system, such as ``Cl-Li-Y``, of every crystal of at most ``max_sites`` atoms."""
    known = _listing(root)
    symbols = known.loc[known["n_sites"] <= max_sites, "formula"].str.findall("[A-Z][a-z]?")
    return ["-".join(sorted(set(found))) for found in symbols]


def smallest_crystals(root: Path, formulas: set[str], each: int = 8, max_sites: int = 100) -> dict[str, str]:
    """Formula by material_id: the smallest ``each`` crystals of each formula, observed ones first."""
    known = _listing(root)
    known = known[known["formula"].isin(formulas) & (known["n_sites"] <= max_sites)]
    known = known.sort_values(["experimentally_observed", "n_sites", "material_id"], ascending=[False, True, True])
    known = known.groupby("formula").head(each)
    return dict(zip(known["material_id"], known["formula"], strict=True))


def _listing(root: Path) -> pd.DataFrame:
    import pandas as pd

    columns = ["material_id", "formula", "n_sites", "experimentally_observed"]
    return pd.concat([pd.read_parquet(root / name, columns=columns) for name in STRUCTURE_FILES])


def lowest_energies(path: Path) -> dict[str, float]:
    """Lowest formation energy (eV/atom) by formula of a table of phases."""
    import pandas as pd

    listed = pd.read_csv(path, keep_default_na=False)
    energies = listed.groupby("formula")["formation_energy_per_atom"].min()
    return {str(formula): float(energy) for formula, energy in energies.items()}
