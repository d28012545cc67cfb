"""Input that makes no prototype: counted by reason, named, and never the end of the build."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from pipeline.reference.oxidation import mixed_valences
from pipeline.reference.prototypes import PrototypeError, build_library
from scripts.build_prototypes import main as build_prototypes
from tests.prototype_inputs import (
    SCHEMA,
    TABLE,
    assert_accounted,
    build_table,
    chain,
    magnetite,
    reasons,
    salt,
    write_folder,
)
from tests.structure_tables import row_of
from workflows.library import left_out_beside

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
