"""Structure files to fuzz: CIF, POSCAR and extxyz as pymatgen and ASE write them, and mutations in their own syntax."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np

from scripts.fuzz_mutations import SYNTAX, changed_text, damaged_bytes
from scripts.fuzz_sandbox import SPECIAL

CIF_SYNTAX = (
    *SYNTAX, "loop_", "data_", ";", "?", ".", "save_", "_atom_site_fract_x", "_cell_length_a", "'x**9999, y, z'",
    "'-x,y'", "'x+1/0, y, z'", "'(x,y,z'", "_symmetry_space_group_name_H-M 'P 99'",
    "_symmetry_Int_Tables_number 999", "0.3333(9999)",
    "_space_group_magn.transform_BNS_Pp_abc 'a,b,[__import__(\"os\")];0,0,0'", "Na1+", "D", "Wat", "Na0.5", "X",
    "1.5(",
)  # fmt: skip
POSCAR_SYNTAX = (
    *SYNTAX, "Selective dynamics\n", "Direct\n", "Cartesian\n", "T F", "999999999", "-3", "0", "1 1 1 1 1", "Na Cl",
    "Na/abc", "Na_pv", "1e9", "***", "-100.0",
)  # fmt: skip
XYZ_SYNTAX = (
    *SYNTAX, "Lattice=", 'Lattice="1 2 3"', 'pbc="T F T"', "Properties=species:S:1:pos:R:3",
    "Properties=pos:R:99999999", "Properties=species:S:1:pos:R:-3", "x=_JSON [[[[", "energy=nan", '="', "REF=1e999",
    "99999999", "-1", "2\n", "Properties=a:Q:1", "Lattice=_JSON " + "[" * 3000,
)  # fmt: skip


def _crystals() -> dict[str, object]:
    from pymatgen.core import Lattice, Structure

    corners = [[0, 0, 0], [0.5, 0.5, 0.5]]
    salt = Structure(Lattice.cubic(3.5), ["Na", "Cl"], corners)
    layered = Structure(Lattice.tetragonal(3.8, 5.4), ["Li", "Na", "Cl", "Cl"], [*corners, [0.5, 0.5, 0], [0, 0, 0.5]])
    spinel = Structure.from_spacegroup(
        "Fd-3m", Lattice.cubic(8.1), ["Mg", "Al", "O"], [[0.125] * 3, [0.5] * 3, [0.2625] * 3]
    )
    partial = Structure(Lattice.hexagonal(4.1, 6.7), [{"Na": 0.5, "K": 0.25}, "Br"], [[0, 0, 0], [1 / 3, 2 / 3, 0.5]])
    charged = Structure(Lattice.cubic(4.0), ["Li+", "D-"], corners)
    skew = Structure(Lattice.from_parameters(5.1, 6.2, 7.3, 81, 97, 104), ["Li", "P", "S", "S", "S", "S"],
                     np.random.default_rng(1).random((6, 3)))  # fmt: skip
    return {"salt": salt, "layered": layered, "spinel": spinel, "partial": partial, "charged": charged, "skew": skew}


@cache
def seed_files() -> tuple[tuple[str, bytes], ...]:
    """Names and contents of sound structure files, in every dialect that the two libraries write."""
    import ase.io
    from pymatgen.io.ase import AseAtomsAdaptor
    from pymatgen.io.cif import CifWriter
    from pymatgen.io.vasp import Poscar

    files: list[tuple[str, str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, crystal in _crystals().items():
            files.append((f"{name}.cif", str(CifWriter(crystal))))
            if name == "partial":
                continue
            files.append((f"{name}-symmetry.cif", str(CifWriter(crystal, symprec=0.01))))
            poscar = Poscar(crystal, selective_dynamics=[[True, False, True]] * len(crystal))
            files.append((f"POSCAR_{name}", poscar.get_str(direct=name != "salt")))
            files.append((f"{name}.vasp", Poscar(crystal).get_str().replace("1.0\n", "-40.0\n", 1)))
            atoms = AseAtomsAdaptor.get_atoms(crystal)
            atoms.info.update(energy=-1.5, table={"a": [1, 2]}, note="a = b")
            stream = io.StringIO()
            ase.io.write(stream, [atoms, atoms] if name == "layered" else atoms, format="extxyz")
            files.append((f"{name}.extxyz", stream.getvalue()))
            stream = io.StringIO()
            ase.io.write(stream, atoms, format="vasp", direct=True, vasp5=name != "skew")
            files.append((f"{name}.poscar", stream.getvalue()))
            ase_cif = io.BytesIO()
            ase.io.write(ase_cif, atoms, format="cif")
            files.append((f"{name}-ase.cif", ase_cif.getvalue().decode("ascii")))
    return tuple((name, text.encode("utf-8")) for name, text in files)


def _syntax(name: str) -> tuple[str, ...]:
    return CIF_SYNTAX if name.endswith(".cif") else XYZ_SYNTAX if name.endswith("xyz") else POSCAR_SYNTAX


def mutated_crystal(rng: random.Random) -> tuple[str, bytes | str]:
    """Name and content of a structure file that went wrong, or of something else in its place."""
    name, raw = rng.choice(seed_files())
    if rng.random() < 0.03:
        return name, rng.choice(SPECIAL)
    if rng.random() < 0.06:
        return _bomb(rng)
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.2:
            raw = damaged_bytes(raw, rng)
        else:
            raw = changed_text(raw.decode("utf-8", "replace"), rng, _syntax(name)).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        name = rng.choice(("a@0", "x@1:3", "ü", "with space", "-n", "a" * 200, "...", "%s", "new\nline")) + "." + (
            name.rpartition(".")[2] if "." in name else "vasp"
        )  # fmt: skip
    return name, raw


def _cubes(edge: int) -> list[tuple[float, float, float]]:
    return [(i / edge, j / edge, k / edge) for i in range(edge) for j in range(edge) for k in range(edge)]


def _bomb(rng: random.Random) -> tuple[str, bytes]:
    """Small files that ask for much: many atoms, a needle of a cell, symmetry without end."""
    edge = rng.choice((6, 14, 40))
    points = "\n".join(f"{x:.4f} {y:.4f} {z:.4f}" for x, y, z in _cubes(edge))
    rows = "\n".join(f"Na{i} Na {x:.4f} {y:.4f} {z:.4f}" for i, (x, y, z) in enumerate(_cubes(edge)))
    sites = (
        "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    )
    cell = "".join(f"_cell_length_{a} {3 * edge}\n" for a in "abc") + "".join(
        f"_cell_angle_{a} 90\n" for a in ("alpha", "beta", "gamma")
    )
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(
        f"'x+{i}/997,y+{i}/991,z'\n" for i in range(rng.choice((192, 5000)))
    )
    tiny = rng.choice((0.11, 0.2, 0.5))
    needle = "Na 1\n1.0\n{a} 0 0\n0 {b} 0\n0 0 {c}\nNa Cl\n{n} {n}\nDirect\n{p}\n".format(
        a=tiny, b=rng.choice((tiny, 5, 9000)), c=rng.choice((tiny, 20)), n=20, p="\n".join(points.splitlines()[:40])
    )  # fmt: skip
    ways: tuple[Callable[[], tuple[str, bytes]], ...] = (
        lambda: ("many.vasp", f"Na\n{3 * edge}\n1 0 0\n0 1 0\n0 0 1\nNa\n{edge**3}\nDirect\n{points}\n".encode()),
        lambda: ("many.cif", f"data_x\n{cell}{sites}{rows}\n".encode()),
        lambda: ("operations.cif", f"data_x\n{cell}{operations}{sites}{rows[:600].rpartition(chr(10))[0]}\n".encode()),
        lambda: ("needle.vasp", needle.encode()),
        lambda: (
            "counts.vasp",
            b"Na\n3\n1 0 0\n0 1 0\n0 0 1\nNa\n" + b"9" * rng.choice((8, 10, 30)) + b"\nDirect\n0 0 0\n",
        ),
        lambda: ("blocks.cif", seed_files()[0][1] * rng.choice((20, 60))),
        lambda: (
            "frames.extxyz",
            next(raw for n, raw in seed_files() if n == "layered.extxyz") * rng.choice((20, 60)),
        ),
        lambda: ("json.extxyz", f'1\nLattice="3 0 0 0 3 0 0 0 3" x=_JSON {"[" * 50_000}\nNa 0 0 0\n'.encode()),
        lambda: ("long.cif", b"data_" + b"x" * 5_000_000),
        lambda: ("lines.extxyz", b"1\n" * 1_000_000),
        lambda: ("zeros.cif", bytes(30_000_000)),
    )
    return rng.choice(ways)()
