"""Crystals, tables and folders that make prototypes or fail to, and how a library accounts for them."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Lattice, Structure

from pipeline.candidate_settings import PrototypeSettings
from pipeline.reference.prototypes import build_library

TABLE = PrototypeSettings(source="materials_project", path="x.parquet", max_sites=8)
FOLDER = PrototypeSettings(source="folder", path="x", max_sites=8, on_broken_file="skip")
SCHEMA = pa.schema(
    [
        ("material_id", pa.string()),
        ("formula", pa.string()),
        ("n_sites", pa.int64()),
        ("cell_parameters", pa.list_(pa.float64())),
        ("species", pa.list_(pa.string())),
        ("frac_coords", pa.list_(pa.float64())),
    ]
)


def salt(cation="Na", anion="Cl", a=3.5):
    return Structure(Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def chain(pairs):
    """Lithium and chlorine in turn, 2 Å apart, the last one moved so that no smaller cell repeats."""
    places = [[0, 0, i / (2 * pairs)] for i in range(2 * pairs)]
    places[-1][0] = 0.3
    return Structure(Lattice.tetragonal(3, 4.0 * pairs), ["Li", "Cl"] * pairs, places)


def magnetite():
    """Fe3O4 as an ordered inverse of corundum-like layers: Fe on two orbits, one atom and two."""
    places = [[0, 0, 0], [0.5, 0.5, 0.3], [0.5, 0.5, 0.7], [0.5, 0, 0.1], [0.5, 0, 0.9], [0, 0.5, 0.4], [0, 0.5, 0.6]]
    return Structure(Lattice.orthorhombic(4, 4.2, 8), ["Fe"] * 3 + ["O"] * 4, places)


def build_table(path, rows, chosen=TABLE):
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return build_library(chosen, path)


def reasons(library):
    return {entry.source_id: entry.reason for entry in library.left_out}


def assert_accounted(library, read):
    """Every crystal that was read is kept or left out, and the list agrees with the counts."""
    assert sum(library.counts.values()) == read
    counted = {reason: n for reason, n in library.counts.items() if reason != "kept"}
    assert Counter(entry.reason for entry in library.left_out) == counted
    assert library.counts.get("kept", 0) == len(library)


def write_folder(folder):
    """Six files that hold no prototype, each for another reason, and three that do, two of them alike."""
    folder.mkdir(exist_ok=True)
    disordered = Structure(Lattice.cubic(4.0), [{"Na": 0.5, "Li": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    vacant = Structure(Lattice.cubic(4.0), [{"Na": 0.9}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    crystals = {
        "alike.cif": salt("K", "Cl", 3.9),
        "disordered.cif": disordered,
        "element.cif": Structure(Lattice.cubic(3), ["Na"], [[0, 0, 0]]),
        "large.cif": chain(5),
        "metal.cif": salt("Na", "Y", 3.6),
        "mixed.cif": magnetite(),
        "oxide.cif": salt("Mg", "O", 2.6),
        "salt.cif": salt(),
        "vacant.cif": vacant,
    }
    for name, structure in crystals.items():
        structure.to(filename=str(folder / name))
    (folder / "POSCAR_flat").write_text(salt().to(fmt="poscar").replace("3.5", "0.0"), encoding="utf-8")
    (folder / "broken.cif").write_text("data_x\n_cell_length_a 3\n", encoding="utf-8")
    return len(crystals) + 2
