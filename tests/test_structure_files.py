"""A user's structure files: every crystal of a file is read, or the file is named with what is wrong."""

from pathlib import Path

import ase
import ase.io
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from pipeline.reference.structure_files import read_structures


def salt(cation: str, anion: str, a: float) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def block(name: str, structure: Structure) -> str:
    text = str(CifWriter(structure))
    return text.replace(next(line for line in text.splitlines() if line.startswith("data_")), f"data_{name}")


def formulas(path: Path) -> list[str]:
    return [structure.composition.reduced_formula for structure in read_structures(path)]


def test_blocks_of_one_name_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "two.cif"
    path.write_text(
        block("I", salt("Na", "Cl", 5.6)) + block("I", salt("K", "Br", 6.6)) + "\ndata_global\n_audit 'x'\n"
    )
    assert formulas(path) == ["NaCl", "KBr"]


def test_a_broken_block_ends_its_file(tmp_path: Path) -> None:
    broken = block("b", salt("K", "Br", 6.6)).replace("_cell_length_a", "_cell_length_x")
    (tmp_path / "three.cif").write_text(block("a", salt("Na", "Cl", 5.6)) + broken + block("c", salt("Li", "F", 4.0)))
    with pytest.raises(ValueError, match="No structure parsed"):
        read_structures(tmp_path / "three.cif")


def test_a_cif_whose_hydrogen_has_no_site_is_another_compound(tmp_path: Path) -> None:
    text = block("hydrate", salt("Na", "Cl", 5.6))
    line = next(line for line in text.splitlines() if line.startswith("_chemical_formula_sum"))
    path = tmp_path / "hydrate.cif"
    path.write_text(text.replace(line, "_chemical_formula_sum 'Na4 Cl4 H8 O4'"))
    with pytest.raises(ValueError, match="no site of H, O, which _chemical_formula_sum has"):
        read_structures(path)
    path.write_text(text.replace(line, "_chemical_formula_sum ?"))
    assert formulas(path) == ["NaCl"]


def test_a_poscar_without_symbols_is_not_hydrogen_and_helium(tmp_path: Path) -> None:
    cell = "5.6 0 0\n0 5.6 0\n0 0 5.6\n"
    path = tmp_path / "POSCAR_old"
    path.write_text(f"rock salt\n1.0\n{cell}1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n")
    with pytest.raises(ValueError, match="no element symbols; write them"):
        read_structures(path)
    path.write_text(f"rock salt\n1.0\n{cell}Na Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n")
    assert formulas(path) == ["NaCl"]


@pytest.mark.parametrize(("share", "is_read"), [(1.0, True), (0.5, False)])
def test_a_disordered_crystal_in_extxyz_is_refused(tmp_path: Path, share: float, is_read: bool) -> None:
    structure = Structure(Lattice.cubic(4.0), [{"Cs": 1.0}, {"Cl": share}], [[0, 0, 0], [0.5, 0.5, 0.5]])
    CifWriter(structure).write_file(tmp_path / "c.cif")
    ase.io.write(tmp_path / "c.extxyz", ase.io.read(tmp_path / "c.cif"))
    assert "occupancy" in (tmp_path / "c.extxyz").read_text()
    if is_read:
        assert formulas(tmp_path / "c.extxyz") == ["CsCl"]
        return
    with pytest.raises(ValueError, match="partial occupancies"):
        read_structures(tmp_path / "c.extxyz")
