"""Cubic crystals made quickly, and tables of structures as the Materials Project's file holds them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pymatgen.core import Lattice, Structure


def face_centred(a, sites):
    """Cubic cell with each site at the four lattice points (pymatgen takes two seconds to generate Fm-3m)."""
    centres = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    species = [element for element, _ in sites for _ in centres]
    return Structure(Lattice.cubic(a), species, np.concatenate([(centres + place) % 1 for _, place in sites]))


def rocksalt(cation="Na", anion="Cl", a=5.64):
    return face_centred(a, [(cation, [0, 0, 0]), (anion, [0.5, 0.5, 0.5])])


def elpasolite(a="Na", b="Li", m="Y", x="Cl"):
    corners = [(a, [0.25, 0.25, 0.25]), (a, [0.75, 0.75, 0.75])]
    octahedron = [(x, place) for k in range(3) for place in (0.25 * np.eye(3)[k], -0.25 * np.eye(3)[k])]
    return face_centred(10.5, [*corners, (b, [0, 0, 0]), (m, [0.5, 0.5, 0.5]), *octahedron])


def row_of(name, structure, **changes):
    """One row; ``changes`` override its columns."""
    row = {
        "material_id": name,
        "formula": structure.composition.reduced_formula,
        "n_sites": len(structure),
        "cell_parameters": list(structure.lattice.parameters),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.reshape(-1).tolist(),
    }
    return {**row, **changes}


def write_table(path, structures):
    """A table of structures named mp-0, mp-1, ...; returns its path."""
    pq.write_table(pa.Table.from_pylist([row_of(f"mp-{i}", s) for i, s in enumerate(structures)]), path)
    return path
