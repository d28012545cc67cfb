"""Prototype library: sources, oxidation states, symmetry, deduplication, storage."""

import logging
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.candidate_settings import PrototypeSettings
from pipeline.reference.oxidation import bond_valence_deviations, charge_solutions, decisive
from pipeline.reference.protostructure import standardise
from pipeline.reference.prototypes import PrototypeError, PrototypeLibrary, build_library, observed_formulas
from tests.structure_tables import elpasolite, rocksalt, write_table


def decided(structure, solutions):
    elements = [site.specie.symbol for site in structure]
    index = decisive(bond_valence_deviations(structure.lattice.matrix, structure.frac_coords, elements, solutions))
    return None if index is None else solutions[index]


def table_settings(**changes):
    return PrototypeSettings(**{"source": "materials_project", "path": "x.parquet", **changes})


def folder_settings(**changes):
    return PrototypeSettings(**{"source": "folder", "path": "x", **changes})


@pytest.fixture(scope="module")
def aflow():
    return build_library(PrototypeSettings(source="aflow", max_sites=24))


# oxidation states


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ({"Na": 3, "Y": 1, "Cl": 6}, [{"Na": 1, "Y": 3, "Cl": -1}]),
        ({"Mg": 1, "O": 1}, [{"Mg": 2, "O": -2}]),
        ({"Li": 3, "P": 1, "S": 4}, [{"Li": 1, "P": 5, "S": -2}]),
        ({"Na": 1, "Y": 1}, []),
        ({"Xe": 1, "F": 2}, []),
    ],
)
def test_charge_balance(amounts, expected):
    assert charge_solutions(amounts) == expected


def test_bond_lengths_decide_between_solutions():
    # delafossite CuFeO2: Cu(1+) at 1.84 Å from two oxygens, Fe(3+) at 2.03 Å from six (Prewitt et al. 1971)
    structure = Structure.from_spacegroup(
        "R-3m", Lattice.hexagonal(3.035, 17.17), ["Cu", "Fe", "O"], [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.1066]]
    )
    solutions = charge_solutions({"Cu": 1, "Fe": 1, "O": 2})
    assert len(solutions) == 2
    assert decided(structure, solutions) == {"Cu": 1, "Fe": 3, "O": -2}


def test_bond_lengths_that_do_not_decide_give_nothing():
    structure = rocksalt("Fe", "O", 4.3)
    same = [{"Fe": 2, "O": -2}, {"Fe": 2, "O": -2}]
    assert decided(structure, same) is None


# symmetry


def test_rocksalt_orbits_and_label():
    structure = rocksalt()
    crystal = standardise(
        structure.lattice.matrix,
        structure.frac_coords,
        ["Na"] * 4 + ["Cl"] * 4,
        {"Na": 1, "Cl": -1},
        {"Na": 1.02, "Cl": 1.81},
    )
    assert crystal.spacegroup_number == 225
    assert len(crystal.site_orbit) == 2
    assert crystal.orbit_elements == ("Cl", "Na")
    assert crystal.orbit_charges == (-1, 1)
    assert "225" in crystal.frame


def test_label_does_not_depend_on_origin_or_cell():
    one = elpasolite()
    moved = one.copy()
    moved.translate_sites(list(range(len(moved))), [0.5, 0.5, 0.5])
    moved.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    charges, radii = {"Na": 1, "Li": 1, "Y": 3, "Cl": -1}, {"Na": 1.02, "Li": 0.76, "Y": 0.9, "Cl": 1.81}
    frames = {
        standardise(s.lattice.matrix, s.frac_coords, [x.specie.symbol for x in s], charges, radii).frame
        for s in (one, moved, one.get_primitive_structure())
    }
    assert len(frames) == 1


def test_symmetry_search_leaves_the_log_level_alone():
    before = logging.getLogger("moyo").level
    s = rocksalt()
    standardise(s.lattice.matrix, s.frac_coords, [x.specie.symbol for x in s], {"Na": 1, "Cl": -1}, {})
    assert logging.getLogger("moyo").level == before


# libraries


def test_aflow_library(aflow):
    assert len(aflow) == aflow.counts["kept"] > 80
    assert aflow.counts["one_element"] == 55
    assert all(p.has_charges for p in aflow)
    neutral = [sum(q * m for q, m in zip(p.orbit_charges, p.orbit_multiplicities, strict=True)) for p in aflow]
    assert set(neutral) == {0}
    assert "NaCl" in aflow.parent_formulas
    assert all(p.prototype_id.isalnum() for p in aflow)
    assert len({p.prototype_id for p in aflow}) == len(aflow)


def test_library_is_deterministic(aflow):
    again = build_library(PrototypeSettings(source="aflow", max_sites=24))
    assert again.digest == aflow.digest
    assert [p.prototype_id for p in again] == [p.prototype_id for p in aflow]


def test_save_and_load(aflow, tmp_path):
    path = tmp_path / "library.parquet"
    aflow.save(path)
    loaded = PrototypeLibrary.load(path)
    assert loaded.digest == aflow.digest
    assert loaded.counts == aflow.counts
    one = aflow.prototypes[-1]
    assert loaded[one.prototype_id].members == one.members
    with pytest.raises(KeyError, match="nonesuch"):
        loaded["nonesuch"]


def test_broken_library_file(aflow, tmp_path):
    path = tmp_path / "library.parquet"
    aflow.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PrototypeError, match=r"library\.parquet"):
        PrototypeLibrary.load(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(PrototypeError, match="no prototype library"):
        PrototypeLibrary.load(path)


def test_members_share_a_prototype_and_reasons_are_counted(tmp_path):
    structures = [
        rocksalt("Na", "Cl", 5.64),
        rocksalt("K", "Cl", 6.29),
        rocksalt("Mg", "O", 4.21),
        rocksalt("Na", "Y", 5.0),
        Structure(Lattice.cubic(3.0), ["Fe"], [[0, 0, 0]]),
        elpasolite(),
    ]
    library = build_library(table_settings(), write_table(tmp_path / "t.parquet", structures))
    assert library.counts == {"duplicate": 1, "kept": 3, "no_charge_balance": 1, "one_element": 1}
    salts = next(p for p in library if p.class_charges == (-1, 1))
    assert {m.formula for m in salts.members} == {"NaCl", "KCl"}
    assert len(library.by_frame[salts.frame]) == 2


def test_filters(tmp_path):
    path = write_table(tmp_path / "t.parquet", [rocksalt(), rocksalt("Mg", "O", 4.2), elpasolite()])
    halides = build_library(table_settings(anions=("Cl",)), path)
    assert halides.counts == {"kept": 2, "other_anions": 1}
    assert build_library(table_settings(max_sites=2), path).counts["too_many_sites"] == 1
    assert build_library(table_settings(max_elements=3), path).counts["number_of_elements"] == 1


def test_order_of_the_source_does_not_matter_for_identity(tmp_path):
    structures = [rocksalt("Na", "Cl", 5.64), rocksalt("Mg", "O", 4.21), elpasolite()]
    one = build_library(table_settings(), write_table(tmp_path / "a.parquet", structures))
    two = build_library(table_settings(), write_table(tmp_path / "b.parquet", structures[::-1]))
    assert {p.prototype_id for p in one} == {p.prototype_id for p in two}


def test_truncated_parquet_names_the_path(tmp_path):
    path = write_table(tmp_path / "t.parquet", [rocksalt()])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(PrototypeError, match=r"t\.parquet"):
        build_library(table_settings(), path)
    with pytest.raises(ValueError, match=r"missing\.parquet"):
        build_library(table_settings(), tmp_path / "missing.parquet")
    pq.write_table(pa.table({"formula": ["NaCl"]}), path)
    with pytest.raises(PrototypeError, match="cell_parameters"):
        build_library(table_settings(), path)


def test_broken_rows_are_counted(tmp_path):
    path = write_table(tmp_path / "t.parquet", [rocksalt(), rocksalt("K", "Cl", 6.29), rocksalt("Li", "Cl", 5.1)])
    rows = pq.read_table(path).to_pylist()
    rows[0]["frac_coords"] = rows[0]["frac_coords"][:-1]
    rows[1]["cell_parameters"] = [float("nan")] * 6
    pq.write_table(pa.Table.from_pylist(rows), path)
    library = build_library(table_settings(), path)
    assert library.counts == {"broken_row": 2, "kept": 1}


def test_representative_of_equal_shapes_fits_shannons_radii_best(tmp_path):
    # AgCl has the rocksalt cell too, but its bond (2.77 Å) is 6 % shorter than Shannon's sum; KCl's is not
    path = write_table(tmp_path / "t.parquet", [rocksalt("Ag", "Cl", 5.55), rocksalt("K", "Cl", 6.29)])
    (prototype,) = build_library(table_settings(), path)
    assert prototype.formula == "KCl"


def test_observed_formulas(tmp_path):
    path = write_table(tmp_path / "t.parquet", [rocksalt(), rocksalt("K", "Cl", 6.29)])
    assert observed_formulas(path) == {"NaCl", "KCl"}


# folders


def test_folder_reads_all_three_formats(tmp_path):
    import ase.io
    from pymatgen.io.ase import AseAtomsAdaptor

    rocksalt().to(filename=str(tmp_path / "a.cif"))
    (tmp_path / "POSCAR_b").write_text(elpasolite().to(fmt="poscar"), encoding="utf-8")
    frames = [AseAtomsAdaptor.get_atoms(rocksalt("K", "Cl", 6.29)), AseAtomsAdaptor.get_atoms(rocksalt("Mg", "O", 4.2))]
    ase.io.write(tmp_path / "c.extxyz", frames, format="extxyz")
    (tmp_path / "notes.txt").write_text("not a structure", encoding="utf-8")
    library = build_library(folder_settings(), tmp_path)
    assert {p.source_id for p in library} == {"POSCAR_b", "a.cif", "c.extxyz:0", "c.extxyz:1"}


def test_user_structures_are_kept_without_oxidation_states(tmp_path):
    (tmp_path / "POSCAR").write_text(rocksalt("Na", "Y", 5.0).to(fmt="poscar"), encoding="utf-8")
    (prototype,) = build_library(folder_settings(), tmp_path)
    assert not prototype.has_charges
    assert prototype.orbit_charges == (0, 0)


def test_coincident_atoms_do_not_break_the_build(tmp_path):
    bad = Structure(Lattice.cubic(4.0), ["Li", "Cl"], [[0, 0, 0], [0, 0, 0]])
    (tmp_path / "POSCAR").write_text(bad.to(fmt="poscar"), encoding="utf-8")
    (prototype,) = build_library(folder_settings(), tmp_path)
    assert prototype.n_sites == 2
    assert prototype.spacegroup_number == 1


def test_broken_files_are_all_named_and_can_be_skipped(tmp_path):
    rocksalt().to(filename=str(tmp_path / "good.cif"))
    (tmp_path / "broken.cif").write_text("data_x\n_cell_length_a 3\n", encoding="utf-8")
    (tmp_path / "POSCAR_empty").write_text("", encoding="utf-8")
    (tmp_path / "bad.extxyz").write_text("2\nnothing\nNa 0 0\n", encoding="utf-8")
    with pytest.raises(PrototypeError, match="on_broken_file: skip") as caught:
        build_library(folder_settings(), tmp_path)
    assert all(name in str(caught.value) for name in ("broken.cif", "POSCAR_empty", "bad.extxyz"))
    assert "good.cif" not in str(caught.value)
    library = build_library(folder_settings(on_broken_file="skip"), tmp_path)
    assert library.counts == {"broken_file": 3, "kept": 1}


def test_disordered_and_elemental_files_are_counted(tmp_path):
    disordered = Structure(Lattice.cubic(4.0), [{"Na": 0.5, "Li": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    disordered.to(filename=str(tmp_path / "disordered.cif"))
    rocksalt().to(filename=str(tmp_path / "good.cif"))
    library = build_library(folder_settings(), tmp_path)
    assert library.counts == {"kept": 1, "partial_occupancy": 1}


def test_empty_folder(tmp_path):
    with pytest.raises(PrototypeError, match="no CIF"):
        build_library(folder_settings(), tmp_path)
    with pytest.raises(PrototypeError, match="not a folder"):
        build_library(folder_settings(), tmp_path / "nowhere")


@pytest.mark.data
def test_observed_halides():
    path = Path(os.environ["IONSIEVE_DATA"]) / "data/materials_project/structures_observed.parquet"
    library = build_library(table_settings(max_sites=30, anions=("Cl",)), path)
    assert len(library) > 200
    # Na3YCl6 is known in P2_1/n and in R-3 (Stenzel and Meyer, Z. Anorg. Allg. Chem. 1993, 619, 652)
    parents = [p for p in library if any(m.formula == "Na3YCl6" for m in p.members)]
    assert {p.spacegroup_number for p in parents} == {14, 148}


def test_crystals_with_exchanged_elements_are_two_prototypes(tmp_path: Path) -> None:
    lattice = Lattice.tetragonal(3.8, 5.4)
    places = [[0, 0, 0], [0.5, 0.5, 0.45], [0.5, 0.5, 0], [0, 0, 0.5]]
    for name, species in (
        ("a", ["Na", "Li", "Cl", "Cl"]),
        ("b", ["Li", "Na", "Cl", "Cl"]),
        ("c", ["Li", "Na", "Cl", "Cl"]),
    ):
        Structure(lattice, species, places).to(filename=str(tmp_path / f"{name}.cif"))
    library = build_library(PrototypeSettings(source="folder", path=str(tmp_path)), tmp_path)
    assert len(library) == 2
    assert library.counts == {"duplicate": 1, "kept": 2}
