"""Input that makes no prototype: counted by reason, named, and never the end of the build."""

import csv
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import DummySpecies, Lattice, Structure

from pipeline.candidate_settings import PrototypeSettings
from pipeline.config import ConfigError, load_campaign
from pipeline.reference.oxidation import mixed_valences
from pipeline.reference.prototypes import PrototypeError, build_library
from scripts.build_prototypes import main as build_prototypes
from workflows.library import left_out_beside, prototype_library
from workflows.preflight import find_inputs

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


def row_of(name, structure, **changes):
    row = {
        "material_id": name,
        "formula": structure.composition.reduced_formula,
        "n_sites": len(structure),
        "cell_parameters": list(structure.lattice.parameters),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.reshape(-1).tolist(),
    }
    return row | changes


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


BROKEN = {
    "nan-coordinates": {"frac_coords": [0, 0, 0, float("nan"), 0.5, 0.5]},
    "infinite-coordinates": {"frac_coords": [0, 0, 0, float("inf"), 0.5, 0.5]},
    "huge-coordinates": {"frac_coords": [0, 0, 0, 1e300, 0.5, 0.5]},
    "null-coordinate": {"frac_coords": [0, 0, 0, None, 0.5, 0.5]},
    "no-coordinates": {"frac_coords": None},
    "too-few-coordinates": {"frac_coords": [0.0, 0.0]},
    "zero-cell": {"cell_parameters": [0, 0, 0, 90, 90, 90]},
    "flat-cell": {"cell_parameters": [4, 4, 4, 120, 120, 120]},
    "impossible-angles": {"cell_parameters": [4, 4, 4, 10, 100, 10]},
    "needle": {"cell_parameters": [9000, 9000, 0.01, 90, 90, 90]},
    "negative-cell": {"cell_parameters": [-4, 4, 4, 90, 90, 90]},
    "no-cell": {"cell_parameters": None},
    "short-cell": {"cell_parameters": [4, 4, 4]},
    "no-species": {"species": []},
    "null-species": {"species": None},
    "null-symbol": {"species": ["Na", None]},
    "no-formula": {"formula": None},
}


def test_every_reason_of_a_table(tmp_path):
    rows = [
        row_of("kept", salt()),
        row_of("alike", salt("K", "Cl", 3.9)),
        row_of("same-id", salt("Rb", "Cl", 4.0)),
        row_of("same-id", salt("Rb", "Cl", 4.0)),
        row_of("metal", salt("Na", "Y", 3.6)),
        row_of("element", Structure(Lattice.cubic(3), ["Na"], [[0, 0, 0]])),
        row_of("large", chain(5)),
        row_of("just-fits", chain(4)),
        row_of("mixed", magnetite()),
        row_of("deuteride", salt("Li", "H", 4.0), formula="LiD", species=["Li", "D"]),
        row_of("dummy", salt(), formula="NaX", species=["Na", "X"]),
        row_of("nonsense", salt(), species=["Na", "Zz"]),
        row_of("coincident", salt(), frac_coords=[0.0] * 6),
        row_of("empty-formula", salt(), formula=""),
        *(row_of(name, salt(), **change) for name, change in BROKEN.items()),
        row_of(None, salt("Na", "Br")),
        dict.fromkeys(SCHEMA.names),
    ]
    library = build_table(tmp_path / "t.parquet", rows)
    assert_accounted(library, len(rows))
    found = reasons(library)
    assert {name: found[name] for name in BROKEN} == dict.fromkeys(BROKEN, "broken_row")
    assert found["metal"] == "no_charge_balance"
    assert found["element"] == "one_element"
    assert found["large"] == "too_many_sites"
    assert found["mixed"] == "mixed_valence"
    assert found["coincident"] == "no_symmetry_found"
    assert found["empty-formula"] == "number_of_elements"
    for name in ("deuteride", "dummy", "nonsense"):
        assert found[name] == "element_without_oxidation_states"
    assert found[f"row {len(rows) - 2}"] == found[f"row {len(rows) - 1}"] == "broken_row"
    assert library.counts["duplicate"] == 3
    assert {p.source_id for p in library} >= {"just-fits"}
    assert len(library) == 2


def test_an_empty_table(tmp_path):
    library = build_table(tmp_path / "t.parquet", [])
    assert (len(library), library.counts, library.left_out) == (0, {}, ())


def test_columns_of_another_type_are_broken_rows(tmp_path):
    rows = [row_of("a", salt()) | {"cell_parameters": "4 4 4 90 90 90", "frac_coords": "0 0 0", "species": "NaCl"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert build_library(TABLE, tmp_path / "t.parquet").counts == {"broken_row": 1}
    pq.write_table(pa.Table.from_pylist([row_of("a", salt()) | {"formula": 3}]), tmp_path / "t.parquet")
    assert build_library(TABLE, tmp_path / "t.parquet").counts == {"broken_row": 1}


def test_ambiguous_crystals_are_listed_with_their_solutions(tmp_path):
    # Cu+ Fe3+ or Cu2+ Fe2+: bonds of more than 3 Å say nothing of either
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]]
    structure = Structure(Lattice.tetragonal(7, 7.2), ["Cu", "Fe", "O", "O"], places)
    library = build_table(tmp_path / "t.parquet", [row_of("who-knows", structure)])
    (entry,) = library.left_out
    assert entry.reason == "ambiguous_oxidation_states"
    solutions = entry.detail.split("; ")
    assert len(solutions) > 1
    deviations = [float(s.rpartition("(")[2].rstrip(")")) for s in solutions]
    assert deviations == sorted(deviations)
    assert "O2-" in solutions[0]
    listed = tmp_path / "left_out.csv"
    library.save_left_out(listed)
    with listed.open(encoding="utf-8") as handle:
        (written,) = csv.DictReader(handle)
    assert written == {
        "source_id": "who-knows", "formula": entry.formula, "reason": entry.reason, "detail": entry.detail
    }  # fmt: skip


# mixed valence


@pytest.mark.parametrize(
    ("orbits", "expected"),
    [
        ({"Fe": [2, 1], "O": [4]}, {("Fe", 2, 3)}),
        ({"Fe": [3], "O": [4]}, set()),  # one orbit has one charge
        ({"Pb": [2, 1], "O": [4]}, {("Pb", 2, 4)}),
        ({"Na": [1], "Y": [1]}, set()),
        ({"Xe": [1, 1], "F": [3]}, set()),
        ({"Fe": [1, 1], "Li": [1], "O": [3]}, {("Fe", 2, 3)}),
    ],
)
def test_mixed_valence(orbits, expected):
    assert {(m.element, m.low, m.high) for m in mixed_valences(orbits)} == expected


def test_mixed_valence_names_the_states_and_respects_the_anions(tmp_path):
    rows = [row_of("mixed", magnetite())]
    (entry,) = build_table(tmp_path / "t.parquet", rows).left_out
    assert (entry.reason, entry.detail) == ("mixed_valence", "Fe2+ Fe3+")
    chlorides = TABLE.model_copy(update={"anions": ("Cl",)})
    assert build_table(tmp_path / "t.parquet", rows, chlorides).counts == {"other_anions": 1}


# folders


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


def test_no_prototype_at_all_names_the_crystals(tmp_path, monkeypatch):
    (tmp_path / "crystals").mkdir()
    salt("Na", "Y").to(filename=str(tmp_path / "crystals" / "metal.cif"))
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    config = tmp_path / "folder.yaml"
    config.write_text(CAMPAIGN.replace("SUBSTITUTION", "isovalent"), encoding="utf-8")
    inputs = find_inputs(load_campaign(config), config)
    with pytest.raises(ConfigError, match=r"metal\.cif: no_charge_balance"):
        prototype_library(inputs, None, print)


# the script


def test_the_script_writes_library_and_list(tmp_path, capsys):
    write_folder(tmp_path / "crystals")
    output = tmp_path / "out" / "library.parquet"
    options = ["--source", "folder", "--path", str(tmp_path / "crystals"), "--max-sites", "8"]
    assert build_prototypes([str(output), *options]) == 2
    assert "broken.cif" in capsys.readouterr().err
    assert build_prototypes([str(output), *options, "--on-broken-file", "skip"]) == 0
    printed = capsys.readouterr().out
    assert "2  partial_occupancy" in printed
    assert output.exists()
    assert "disordered.cif" in left_out_beside(output).read_text(encoding="utf-8")


def test_the_script_refuses_what_it_cannot_read(tmp_path, capsys):
    assert build_prototypes([str(tmp_path / "l.parquet"), "--path", "nowhere.parquet"]) == 2
    assert "nowhere.parquet" in capsys.readouterr().err
    assert build_prototypes([str(tmp_path / "l.parquet"), "--max-sites", "0"]) == 2
    assert build_prototypes([str(tmp_path / "l.parquet"), "--source", "folder"]) == 2
    with pytest.raises(PrototypeError):
        build_library(TABLE, None)


# anything

numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-1.0, 2.0),
    st.sampled_from([0.0, 0.5, 0.25, 90.0]),
    st.none(),
)
lengths = st.one_of(st.floats(0.05, 30), numbers)
angles = st.one_of(st.floats(1, 179), st.sampled_from([60.0, 90.0, 120.0]), numbers)
symbols = st.one_of(st.sampled_from(["Na", "Cl", "Fe", "O", "Li", "H", "D", "X", "", "Zz", "na", "Cu"]), st.none())
rows = st.fixed_dictionaries(
    {
        "material_id": st.one_of(st.none(), st.sampled_from(["a", "b", "", "../x", "a,b\n"])),
        "formula": st.one_of(st.none(), st.sampled_from(["NaCl", "Fe3O4", "CuFeO2", "LiD", "", "?", "Na", "NaX"])),
        "n_sites": st.one_of(st.none(), st.integers(-3, 10)),
        "cell_parameters": st.one_of(st.none(), st.tuples(*[lengths] * 3, *[angles] * 3).map(list), st.lists(numbers)),
        "species": st.one_of(st.none(), st.lists(symbols, max_size=6)),
        "frac_coords": st.one_of(st.none(), st.lists(numbers, max_size=20)),
    }
)
sound = st.builds(
    lambda cell, species, coords: {
        "material_id": "s",
        "formula": "".join(species),
        "n_sites": len(species),
        "cell_parameters": cell,
        "species": species,
        "frac_coords": np.array(coords[: 3 * len(species)]).tolist(),
    },
    st.tuples(*[st.floats(0.5, 12)] * 3, *[st.floats(15, 165)] * 3).map(list),
    st.lists(st.sampled_from(["Na", "Cl", "Fe", "O", "Cu"]), min_size=1, max_size=6),
    st.lists(st.one_of(st.floats(-2, 2), st.sampled_from([0.0, 0.5, 1 / 3])), min_size=18, max_size=18),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(rows, sound), max_size=5))
def test_random_rows_never_end_the_build(tmp_path, given_rows):
    library = build_table(tmp_path / "t.parquet", given_rows)
    assert_accounted(library, len(given_rows))
    library.save(tmp_path / "l.parquet")
    library.save_left_out(tmp_path / "l.csv")
