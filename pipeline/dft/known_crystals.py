"""Crystals of a competing phase: those of the Materials Project's tables, else common prototypes with its elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymatgen.core import Structure

from pipeline.crystal import structure_from_row
from pipeline.dft.calculation import bare_crystal
from pipeline.reference.formulas import composition_key, reduced_formula

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.references import References

TABLES = "structures_*.parquet"
"""Beside the table of observed structures lie those of theoretical ones."""


def known_crystals(formula: str, refs: References, max_sites: int, most: int) -> list[tuple[str, Structure]]:
    """Primitive cells of a phase with their ids: observed crystals first, then small ones before large ones.

    Parameters
    ----------
    formula
        Of the phase.
    refs
        ``observed_path`` names the table of observed structures, if there is one; otherwise, and for phases that it
        lacks, the prototypes of a self-consistent reference are used (`pipeline.reference.competing`).
    max_sites
        Atoms that a cell may have.
    most
        How many crystals are wanted.

    Returns
    -------
    list
        Empty when no crystal is small enough.
    """
    found = _in_tables(formula, refs.observed_path, max_sites) if refs.observed_path is not None else []
    if not found:
        found = _in_prototypes(formula, refs, max_sites)
    return found[:most]


def tables_of(observed: Path | None) -> list[Path]:
    """Tables of known crystals: that of observed ones, if there is one, and those of others beside it."""
    return [] if observed is None else sorted({observed, *observed.parent.glob(TABLES)})


def _in_tables(formula: str, observed: Path, max_sites: int) -> list[tuple[str, Structure]]:
    rows: list[tuple[bool, int, str, Structure]] = []
    for path in tables_of(observed):
        for name, structure in _rows_of(formula, path):
            primitive = structure.get_primitive_structure()
            if len(primitive) <= max_sites:
                rows.append((path != observed, len(primitive), name, primitive))
    return [(name, structure) for _, _, name, structure in sorted(rows, key=lambda row: row[:3])]


def _rows_of(formula: str, path: Path) -> list[tuple[str, Structure]]:
    import pyarrow.parquet as pq
    from pymatgen.core import Lattice

    # The table writes chlorine as Cl2, bromine as Br: an element is looked for under both names.
    key = composition_key(formula)
    names = [key[0][0], f"{key[0][0]}2"] if len(key) == 1 else [reduced_formula(key)]
    columns = ["material_id", "cell_parameters", "species", "frac_coords"]
    table = pq.read_table(path, columns=[*columns, "formula"], filters=[("formula", "in", names)])
    return [
        (
            str(row["material_id"]),
            Structure(
                Lattice.from_parameters(*row["cell_parameters"]),
                row["species"],
                [row["frac_coords"][i : i + 3] for i in range(0, len(row["frac_coords"]), 3)],
            ),
        )
        for row in table.to_pylist()
    ]


def _in_prototypes(formula: str, refs: References, max_sites: int) -> list[tuple[str, Structure]]:
    from pipeline.reference.competing import competing_phases

    key = composition_key(formula)
    elements = tuple(symbol for symbol, _ in key)
    settings = refs.campaign.reference.model_copy(
        update={"max_sites": max_sites, "max_elements": len(key), "prototypes": "aflow"}
    )
    rows = competing_phases(elements, settings, refs.campaign.candidates.charges).to_dict("records")
    found = [row for row in rows if composition_key(str(row["formula_pretty"])) == key]
    found.sort(key=lambda row: (int(row["nsites"]), str(row["candidate_id"])))
    return [(str(row["candidate_id"]), _bare(row)) for row in found]


def _bare(row: Any) -> Structure:
    return bare_crystal(structure_from_row(row))
