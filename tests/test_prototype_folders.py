"""Folders of files as prototypes, or as the user's own crystals."""

import gzip

import pytest
from pymatgen.core import DummySpecies, Lattice, Structure

from pipeline.config import ConfigError, load_campaign
from pipeline.reference.prototypes import PrototypeError, build_library
from tests.prototype_inputs import FOLDER, assert_accounted, build_table, chain, reasons, salt, write_folder
from tests.structure_tables import row_of
from workflows.library import left_out_beside, prototype_library
from workflows.preflight import find_inputs


def test_a_folder_that_is_substituted_is_read_like_a_table(tmp_path):
    read = write_folder(tmp_path)
    library = build_library(FOLDER, tmp_path, keep_all=False)
    assert_accounted(library, read)
    found = reasons(library)
    assert {found.pop(name) for name in ("alike.cif", "salt.cif") if name in found} == {"duplicate"}
    assert found == {
        "POSCAR_flat": "broken_file",
        "broken.cif": "broken_file",
        "disordered.cif": "partial_occupancy",
        "element.cif": "one_element",
        "large.cif": "too_many_sites",
        "metal.cif": "no_charge_balance",
        "mixed.cif": "mixed_valence",
        "vacant.cif": "partial_occupancy",
    }
    details = {entry.source_id: entry.detail for entry in library.left_out}
    assert details["disordered.cif"] == "Na:0.5, Li:0.5"
    assert "ValueError" in details["broken.cif"]
    assert len(library) == 2
    assert all(p.has_charges for p in library)


def test_a_folder_and_a_table_of_the_same_crystals_give_the_same_labels(tmp_path):
    crystals = {"a": salt(), "b": salt("K", "Cl", 3.9), "c": salt("Mg", "O", 2.6), "d": chain(3)}
    for name, structure in crystals.items():
        structure.to(filename=str(tmp_path / f"{name}.vasp"), fmt="poscar")
    one = build_library(FOLDER, tmp_path, keep_all=False)
    two = build_table(tmp_path / "t.parquet", [row_of(n, s) for n, s in crystals.items()])
    assert one.counts == two.counts
    assert [(p.frame, p.orbit_charges, p.formula) for p in one] == [(p.frame, p.orbit_charges, p.formula) for p in two]


def test_own_crystals_are_kept_but_disordered_ones_are_named(tmp_path):
    read = write_folder(tmp_path)
    library = build_library(FOLDER, tmp_path)
    assert_accounted(library, read)
    assert reasons(library) == {
        "POSCAR_flat": "broken_file",
        "broken.cif": "broken_file",
        "disordered.cif": "partial_occupancy",
        "large.cif": "too_many_sites",
        "vacant.cif": "partial_occupancy",
    }


def test_what_else_lies_in_a_folder_is_named(tmp_path):
    read = {
        **dict.fromkeys(("POSCAR.1", "contcar", "NaCl_POSCAR", "a.vasp", "CONTCAR.gz"), "poscar"),
        **dict.fromkeys(("POSCAR_salt.cif", "b.cif.gz"), "cif"),
    }
    for i, (name, kind) in enumerate(read.items()):
        content = salt("Na", "Cl", 2.8 + 0.01 * i).to(fmt=kind).encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    for name in ("POSCARs.zip", "notes.txt", "INPOSCAR"):
        (tmp_path / name).write_text(salt().to(fmt="poscar"))
    (tmp_path / "sub.cif").mkdir()
    (tmp_path / "gone.cif").symlink_to(tmp_path / "nowhere.cif")
    library = build_library(FOLDER, tmp_path)
    assert {p.source_id for p in library} == set(read)
    assert library.counts == {"kept": 7, "not_read": 5}
    details = {entry.source_id: entry.detail for entry in library.left_out}
    assert details["sub.cif"] == "a folder"
    assert details["gone.cif"].startswith("no file")
    assert all(details[name].startswith("is none of *.cif") for name in ("POSCARs.zip", "notes.txt", "INPOSCAR"))


def test_a_folder_without_structures_says_which_names_they_have(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "structures.json").write_text("{}")
    with pytest.raises(PrototypeError, match=r"holds no CIF, .* \(\*\.cif, .* with \.gz; subfolders are not read\)"):
        build_library(FOLDER, tmp_path)


def test_a_damaged_archive_is_a_broken_file(tmp_path):
    (tmp_path / "a.cif.gz").write_bytes(gzip.compress(salt().to(fmt="cif").encode())[:-20])
    with pytest.raises(PrototypeError, match=r"1 of 1 files in .* a\.cif\.gz \(InputFileError: .*truncated"):
        build_library(FOLDER.model_copy(update={"on_broken_file": "stop"}), tmp_path)


@pytest.mark.parametrize("keep_all", [True, False])
def test_sites_that_are_no_elements(tmp_path, keep_all):
    dummy = Structure(Lattice.cubic(4.0), [DummySpecies("X"), "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    dummy.to(filename=str(tmp_path / "dummy.cif"))
    charged = Structure(Lattice.cubic(4.0), ["Li+", "D-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    charged.to(filename=str(tmp_path / "deuteride.cif"))
    salt().to(filename=str(tmp_path / "salt.cif"))
    library = build_library(FOLDER, tmp_path, keep_all=keep_all)
    assert_accounted(library, 3)
    assert reasons(library)["dummy.cif"] == "unknown_species"
    # deuterium is hydrogen to pymatgen, and to us
    hydride = next(p for p in library if "deuteride.cif" in {m.source_id for m in p.members})
    assert "H" in {e for m in hydride.members for e in m.class_elements}
    assert "LiH" in library.parent_formulas


def test_charges_that_a_file_states_are_taken(tmp_path):
    # both Cu+ Fe3+ and Cu2+ Fe2+ are neutral; the file says which
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]]
    stated = Structure(Lattice.tetragonal(4, 5), ["Cu2+", "Fe2+", "O2-", "O2-"], places)
    stated.to(filename=str(tmp_path / "a.cif"))
    (prototype,) = build_library(FOLDER, tmp_path, keep_all=False)
    assert dict(zip(prototype.orbit_elements, prototype.orbit_charges, strict=True)) == {"Cu": 2, "Fe": 2, "O": -2}


CAMPAIGN = """\
name: folder
mobile_ions: [Na]
candidates:
  prototypes: {source: folder, path: crystals, max_sites: 8, on_broken_file: skip}
  elements: [Na, K, Cl, Br]
  substitution: SUBSTITUTION
potential: {model: CHGNet}
reference: {source: prototypes}
stages:
  - stage: stability
  - stage: window
  - stage: conduction
  - stage: practicality
"""


@pytest.mark.parametrize(("substitution", "kept"), [("isovalent", 2), ("none", 6)])
def test_a_campaign_says_where_the_list_is(tmp_path, monkeypatch, substitution, kept):
    write_folder(tmp_path / "crystals")
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    config = tmp_path / "folder.yaml"
    config.write_text(CAMPAIGN.replace("SUBSTITUTION", substitution), encoding="utf-8")
    inputs = find_inputs(load_campaign(config), config)
    said: list[str] = []
    path, library = prototype_library(inputs, None, said.append)
    assert len(library) == kept
    listed = left_out_beside(path)
    assert str(listed) in said[-1]
    text = listed.read_text(encoding="utf-8")
    assert "disordered.cif" in text
    # a run takes library and list from the cache
    path, again = prototype_library(inputs, tmp_path, said.append)
    assert path.parent == tmp_path
    assert again.digest == library.digest
    assert left_out_beside(path).read_text(encoding="utf-8") == text


def test_a_table_that_is_not_substituted_is_kept_whole(tmp_path, monkeypatch):
    """Rock salts alike are one prototype, but as many candidates as they are; those without charges too."""
    crystals = {"licl": salt("Li", "Cl", 3.2), "nacl": salt(), "nabr": salt("Na", "Br"), "alloy": salt("Na", "Y")}
    crystals["sodium"] = Structure(Lattice.cubic(3.6), ["Na"], [[0, 0, 0]])
    crystals["chain"] = chain(6)
    rows = [row_of(n, s) for n, s in crystals.items()]
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    config = tmp_path / "table.yaml"
    text = CAMPAIGN.replace("source: folder, path: crystals", "source: materials_project, path: t.parquet")
    build_table(tmp_path / "t.parquet", rows)
    config.write_text(text.replace("SUBSTITUTION", "none"), encoding="utf-8")
    _, library = prototype_library(find_inputs(load_campaign(config), config), None, print)
    assert {p.source_id for p in library} == {"licl", "nacl", "nabr", "alloy"}
    assert reasons(library) == {"sodium": "number_of_elements", "chain": "too_many_sites"}
    config.write_text(text.replace("SUBSTITUTION", "isovalent"), encoding="utf-8")
    _, library = prototype_library(find_inputs(load_campaign(config), config), None, print)
    assert library.counts["kept"] == 1


def test_no_prototype_at_all_names_the_crystals(tmp_path, monkeypatch):
    (tmp_path / "crystals").mkdir()
    salt("Na", "Y").to(filename=str(tmp_path / "crystals" / "metal.cif"))
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    config = tmp_path / "folder.yaml"
    config.write_text(CAMPAIGN.replace("SUBSTITUTION", "isovalent"), encoding="utf-8")
    inputs = find_inputs(load_campaign(config), config)
    with pytest.raises(ConfigError, match=r"metal\.cif: no_charge_balance"):
        prototype_library(inputs, None, print)
