"""Stage candidates: units, cheap gates, identities, structures."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Species, Structure

from kernels.site_images import canonical_forms
from pipeline import schema
from pipeline.candidate_settings import CandidateGates, CandidateSettings, PrototypeSettings
from pipeline.crystal import STRUCTURE_COLUMNS, structure_from_row
from pipeline.reference.prototypes import build_library
from pipeline.stages import candidate_rows, candidates
from pipeline.stages.candidates import count, enumerate_unit, judge_unit, parse_ions, plan_units, with_structures
from pipeline.stages.cheap_gates import pair_probability
from tests.enumerations import listed

OPEN = CandidateGates(
    mobile_ion_fraction=None, electronegativity_order=False, require_mobile_ion=False, radius_mismatch=None
)
MOBILE = ("Li", "Na")


def settings(**changes):
    given = {
        "prototypes": PrototypeSettings(source="aflow", max_sites=12),
        "elements": ("Li", "Na", "Mg", "Y", "O", "Cl"),
        "gates": OPEN,
    }
    return CandidateSettings(**{**given, **changes})


@pytest.fixture(scope="module")
def library():
    return build_library(PrototypeSettings(source="aflow", max_sites=12))


def run(chosen, library, mobile=MOBILE):
    return listed(chosen, library, mobile)


def hexagonal_salt():
    """A made-up A3MX6 with two A orbits: one atom on a threefold axis and two beside it."""
    return Structure.from_spacegroup(
        "R-3",
        Lattice.hexagonal(7.0, 18.5),
        ["K", "K", "Sc", "Br"],
        [[0, 0, 0.5], [0, 0, 0.17], [0, 0, 0], [0.25, 0.04, 0.09]],
    )


@pytest.fixture(scope="module")
def salt_library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("salt")
    hexagonal_salt().to(filename=str(folder / "salt.cif"))
    return build_library(PrototypeSettings(source="folder", path=str(folder)), folder)


def salt_settings(**changes):
    return settings(**{"elements": ("Li", "Na", "Y", "Cl"), "by": "orbit", **changes})


# enumeration as a stage


@pytest.mark.parametrize("keep_parents", [True, False])
def test_rows_made_together_are_those_made_one_by_one(library, monkeypatch, keep_parents):
    chosen = settings(by="orbit", gates=OPEN.model_copy(update={"keep_parents": keep_parents}), chunk_size=1000)
    together, counts = run(chosen, library)
    monkeypatch.setattr(candidates, "TOGETHER", 1)
    alone, again = run(chosen, library)
    pd.testing.assert_frame_equal(together, alone, check_exact=True)
    assert counts == again
    assert counts["passed"] == len(together)


def test_judging_is_listing_without_rows(library):
    chosen = settings(substitution="charge_neutral", gates=CandidateGates(radius_mismatch=0.3))
    table, counts = run(chosen, library)
    judged = [j for unit in plan_units(chosen, library) for j in judge_unit(unit, chosen, library, MOBILE)]
    assert sum(len(j.rejected) for j in judged) == counts["enumerated"]
    kept = [j.placed.of_rows(j.rejected < 0) for j in judged]
    assert np.concatenate([p.mismatch for p in kept]).tolist() == table.radius_mismatch.tolist()
    names = [p.prototype.prototype_id for p in kept for _ in range(len(p.elements))]
    assert names == table.prototype_id.tolist()


@pytest.mark.parametrize("substitution", ["isovalent", "charge_neutral"])
@pytest.mark.parametrize("by", ["element", "orbit"])
def test_units_do_not_show_in_the_result(library, substitution, by):
    big = settings(substitution=substitution, by=by, chunk_size=100_000)
    small = settings(substitution=substitution, by=by, chunk_size=37)
    assert len(plan_units(small, library)) > len(plan_units(big, library))
    one, one_counts = run(big, library)
    two, two_counts = run(small, library)
    pd.testing.assert_frame_equal(one, two)
    assert one_counts == two_counts
    assert one_counts["enumerated"] == count(big, library)["candidates"] == one_counts["passed"] == len(one)


def test_units_are_json_and_deterministic(library):
    chosen = settings(substitution="charge_neutral", chunk_size=50)
    units = plan_units(chosen, library)
    assert json.loads(json.dumps(units)) == units == plan_units(chosen, library)
    sizes = [sum(last - first for _, first, last in unit["slices"]) for unit in units]
    assert set(sizes[:-1]) == {50}
    assert sum(sizes) == count(chosen, library)["raw_assignments"]


def test_empty_unit(library):
    for unit in ({"slices": []}, {"slices": [[library.prototypes[0].prototype_id, 0, 0]]}):
        table, counts = enumerate_unit(unit, settings(), library, MOBILE)
        assert len(table) == 0
        assert tuple(table.columns) == candidates.COLUMN_NAMES
        assert counts == {"enumerated": 0, "passed": 0}
        schema.to_arrow(table, candidates.COLUMN_NAMES)
        assert len(with_structures(table, library)) == 0


def test_unit_of_another_library(library):
    with pytest.raises(KeyError, match="feedfeedfeed"):
        enumerate_unit({"slices": [["feedfeedfeed", 0, 1]]}, settings(), library, MOBILE)


def test_rows_are_whole_and_agree_with_pymatgen(library):
    table, _ = run(settings(substitution="charge_neutral"), library)
    schema.to_arrow(table, candidates.COLUMN_NAMES)
    assert table.candidate_id.is_unique
    assert table.candidate_id.str.fullmatch(r"[A-Za-z0-9.-]+").all()
    for row in with_structures(table, library).sample(40, random_state=0).to_dict("records"):
        structure = structure_from_row(row)
        assert structure.composition.remove_charges().reduced_formula == row["formula_pretty"]
        assert structure.chemical_system == row["chemsys"]
        assert len(structure) == row["nsites"]
        assert structure.charge == 0
        lithium_sodium = sum(structure.composition.get_el_amt_dict().get(e, 0.0) for e in MOBILE)
        assert row["mobile_ion_fraction"] == pytest.approx(lithium_sodium / len(structure), abs=1e-12)
        assert row["candidate_id"].split("-")[0] == _plain(Composition(row["formula_pretty"]))


def _plain(composition):
    reduced = composition.reduced_composition
    return "".join(f"{e.symbol}{'' if reduced[e] == 1 else int(reduced[e])}" for e in sorted(reduced))


def test_mixed_members_come_out_orbit_wise(salt_library):
    table, _ = run(salt_settings(), salt_library)
    formulas = Counter(table.formula_pretty)
    assert formulas == {"Li3YCl6": 1, "Na3YCl6": 1, "Na2LiYCl6": 1, "NaLi2YCl6": 1}
    kinds = table.set_index("formula_pretty").substitution
    assert kinds.to_dict() == {"Li3YCl6": "element", "Na3YCl6": "element", "Na2LiYCl6": "orbit", "NaLi2YCl6": "orbit"}
    whole, _ = run(settings(elements=("Li", "Na", "Y", "Cl"), by="element"), salt_library)
    assert set(whole.formula_pretty) == {"Li3YCl6", "Na3YCl6"}


def test_bounds_of_orbit_wise_substitution(salt_library):
    bounded = salt_settings(max_mixed_orbits=1)
    assert count(bounded, salt_library)["prototypes_element_wise"] == 1
    assert set(run(bounded, salt_library)[0].formula_pretty) == {"Li3YCl6", "Na3YCl6"}
    assert count(salt_settings(), salt_library)["prototypes_element_wise"] == 0
    assert set(run(salt_settings(max_elements=3), salt_library)[0].formula_pretty) == {"Li3YCl6", "Na3YCl6"}


def test_parents_are_marked(library):
    table, _ = run(settings(elements=("Na", "Cl", "Mg", "O", "Ti", "Ca"), substitution="charge_neutral"), library)
    parents = set(table[table.is_parent].formula_pretty)
    assert {"NaCl", "CaTiO3"} <= parents
    rocksalt = table[(table.spacegroup_number == 225) & (table.prototype_formula == "NaCl") & (table.nsites == 2)]
    assert rocksalt.set_index("formula_pretty").is_parent["NaCl"]
    assert not rocksalt.set_index("formula_pretty").is_parent.get("MgO", False)


def test_a_parent_is_marked_where_a_prototype_of_the_same_sites_reaches_it(tmp_path):
    """NaCl is listed at the prototype of MgO when its ions may be double; it stays a control."""
    for name, a, b in (("one", "Na", "Cl"), ("two", "Mg", "O")):
        cell = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.0), [a, b], [[0, 0, 0], [0.5, 0.5, 0.5]])
        (tmp_path / f"POSCAR_{name}").write_text(cell.to(fmt="poscar"), encoding="utf-8")
    library = build_library(PrototypeSettings(source="folder", path="x"), tmp_path)
    table, _ = run(settings(elements=("Na", "Cl"), charges={"Na": (1, 2), "Cl": (-1, -2)}), library)
    assert table[["formula_pretty", "prototype_formula", "is_parent"]].to_numpy().tolist() == [["NaCl", "MgO", True]]


def test_crystals_whose_charges_do_not_balance_are_counted_as_they_are(tmp_path):
    for name, anions in (("sound", ["Cl"]), ("faulty", ["Cl", "Cl"])):
        sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]][: 1 + len(anions)]
        cell = Structure(Lattice.tetragonal(4.0, 4.3), ["Li", *anions], sites)
        (tmp_path / f"POSCAR_{name}").write_text(cell.to(fmt="poscar"), encoding="utf-8")
    library = build_library(PrototypeSettings(source="folder", path="x"), tmp_path, keep_all=True)
    found = count(settings(substitution="none"), library)
    assert (found["candidates"], found["prototypes_without_oxidation_states"]) == (2, 1)


def test_identity_does_not_depend_on_the_campaign(library):
    narrow, _ = run(settings(elements=("Na", "Cl", "Mg")), library)
    wide, _ = run(settings(elements=("Li", "Na", "K", "Mg", "Ca", "Cl", "Br", "F")), library)
    assert set(narrow.candidate_id) <= set(wide.candidate_id)


def test_same_crystal_never_twice_with_two_charge_assignments(tmp_path):
    """Fe(2+)Ti(4+)O3 and a frame with 3+ and 3+ on the same sites reach the same crystals."""
    for name, a, b in (("one", "Mg", "Ti"), ("two", "Al", "Y")):
        s = Structure.from_spacegroup(
            "R-3", Lattice.hexagonal(5.09, 14.09), [a, b, "O"], [[0, 0, 0.355], [0, 0, 0.146], [0.317, 0.023, 0.245]]
        )
        (tmp_path / f"POSCAR_{name}").write_text(s.to(fmt="poscar"), encoding="utf-8")
    library = build_library(PrototypeSettings(source="folder", path="x"), tmp_path)
    assert len({p.frame for p in library}) == 1
    chosen = settings(elements=("Fe", "Mn", "O"), charges={"Fe": (2, 3), "Mn": (3, 4)})
    table, _ = run(chosen, library)
    # 2+/4+ gives MnFeO3 with iron at z = 0.355; 3+/3+ gives Fe2O3, Mn2O3 and MnFeO3 in both orders, one of which the
    # first frame reaches as well. The sites differ by 0.001 in z: strictly the two orders are two crystals.
    assert Counter(table.formula_pretty) == {"MnFeO3": 2, "Fe2O3": 1, "Mn2O3": 1}
    assert Counter(table[table.formula_pretty == "MnFeO3"].prototype_id).most_common(1)[0][1] == 1
    neutral, _ = run(chosen.model_copy(update={"substitution": "charge_neutral"}), library)
    assert neutral.prototype_id.nunique() == 1


# cheap gates


def gated(**gates):
    return settings(gates=CandidateGates(**{**OPEN.model_dump(), **gates}))


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        ({"require_mobile_ion": True}, "no_mobile_ion"),
        ({"mobile_ion_fraction": 0.3}, "mobile_ion_fraction"),
        ({"radius_mismatch": 0.3}, "radius_mismatch"),
        ({"substitution_probability": 1e-3}, "substitution_probability"),
    ],
)
def test_gates_count_what_they_reject(library, gates, reason):
    everything, _ = run(settings(), library)
    table, counts = run(gated(**gates), library)
    assert counts[reason] > 0
    assert counts["enumerated"] == len(everything) == counts["passed"] + counts[reason]
    assert counts["passed"] == len(table) > 0
    assert set(table.candidate_id) < set(everything.candidate_id)


def test_electronegativity_order(library):
    chosen = settings(
        elements=("Li", "S", "Te", "O"), gates=CandidateGates(**{**OPEN.model_dump(), "electronegativity_order": True}),
        substitution="charge_neutral",
    )  # fmt: skip
    table, counts = run(chosen, library)
    assert counts["electronegativity_order"] > 0
    # a sulfur cation beside a tellurium anion is the wrong way round
    assert not table.ions.str.contains(r"Te2-").to_numpy()[table.ions.str.contains(r"S[46]\+").to_numpy()].any()


def test_one_mobile_atom_in_ten_passes_a_tenth(salt_library):
    chosen = settings(elements=("Li", "Rb", "Y", "Cl"), by="orbit", gates=CandidateGates(mobile_ion_fraction=0.10))
    table, counts = run(chosen, salt_library, ("Li",))
    assert "Rb2LiYCl6" in set(table.formula_pretty)
    assert table.mobile_ion_fraction.min() == pytest.approx(0.1)
    assert counts["no_mobile_ion"] == 1
    stricter = chosen.model_copy(update={"gates": CandidateGates(mobile_ion_fraction=0.11)})
    assert run(stricter, salt_library, ("Li",))[1]["mobile_ion_fraction"] == 1


def test_probability_is_pymatgens():
    from pymatgen.core.structure_prediction.substitution_probability import SubstitutionProbability

    model = SubstitutionProbability()
    for new, old in (("Li+", "Na+"), ("Y3+", "In3+"), ("Br-", "Cl-"), ("Zr4+", "Y3+")):
        one, two = Species.from_str(new), Species.from_str(old)
        ours = pair_probability((one.Z, int(one.oxi_state)), (two.Z, int(two.oxi_state)))
        assert ours == pytest.approx(model.cond_prob(one, two), rel=1e-12)
    assert 0 < pair_probability((3, 1), (92, 4)) < 1


def test_probability_does_not_change_with_the_seed_of_the_hash():
    code = (
        "from pipeline.stages.cheap_gates import pair_probability as p; print(p((3, 1), (11, 1)), p((8, -2), (16, -2)))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(printed) == 1


def test_probability_of_a_row_is_the_product_over_ions(salt_library):
    from pymatgen.core.structure_prediction.substitution_probability import SubstitutionProbability

    model = SubstitutionProbability()
    table, _ = run(salt_settings(), salt_library)
    value = table.set_index("formula_pretty").substitution_probability["Li3YCl6"]
    pairs = (("Li+", "K+"), ("Y3+", "Sc3+"), ("Cl-", "Br-"))
    expected = np.prod([model.cond_prob(Species.from_str(a), Species.from_str(b)) for a, b in pairs])
    assert value == pytest.approx(expected, rel=1e-12)


# structures


def test_structures_of_the_users_folder_are_taken_as_they_are(tmp_path):
    (tmp_path / "POSCAR").write_text(hexagonal_salt().to(fmt="poscar"), encoding="utf-8")
    alloy = Structure(Lattice.cubic(3.5), ["Na", "Y"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    (tmp_path / "POSCAR_alloy").write_text(alloy.to(fmt="poscar"), encoding="utf-8")
    prototypes = PrototypeSettings(source="folder", path=str(tmp_path))
    library = build_library(prototypes, tmp_path)
    chosen = CandidateSettings(prototypes=prototypes, substitution="none", gates=OPEN)
    table, counts = run(chosen, library)
    assert counts["passed"] == 2
    assert not table.is_parent.any()
    assert set(table.substitution) == {"none"}
    filled = with_structures(table, library).set_index("formula_pretty")
    assert list(filled.loc["NaY", "oxidation_states"]) == []
    salt = structure_from_row(filled.loc["K3ScBr6"].to_dict())
    assert salt.volume == pytest.approx(hexagonal_salt().volume / 3, rel=1e-6)
    excluded = chosen.model_copy(update={"exclude_elements": ("Sc",)})
    assert run(excluded, library)[1]["element_not_allowed"] == 1


def test_given_structures_are_kept(salt_library):
    table, _ = run(salt_settings(), salt_library)
    filled = with_structures(table, salt_library)
    mine = filled.copy()
    mine.at[0, "lattice"] = [5.0, 0, 0, 0, 5.0, 0, 0, 0, 5.0]
    mine.at[1, "lattice"] = None
    again = with_structures(mine, salt_library)
    assert list(again.lattice[0]) == [5.0, 0, 0, 0, 5.0, 0, 0, 0, 5.0]
    assert list(again.lattice[1]) == list(filled.lattice[1])
    assert set(STRUCTURE_COLUMNS) <= set(again.columns)


def test_starting_volume_follows_the_radii(salt_library):
    table, _ = run(salt_settings(elements=("K", "Na", "Sc", "Br", "Cl")), salt_library)
    filled = with_structures(table, salt_library).set_index("formula_pretty")
    volume = {f: abs(np.linalg.det(np.reshape(v, (3, 3)))) for f, v in filled.lattice.items()}
    assert volume["K3ScBr6"] == pytest.approx(hexagonal_salt().volume / 3, rel=1e-6)
    assert volume["Na3ScCl6"] < volume["K3ScCl6"] < volume["K3ScBr6"]


def test_rows_of_another_library_are_refused(library, salt_library):
    table, _ = run(salt_settings(), salt_library)
    with pytest.raises(KeyError, match="not in this library"):
        with_structures(table, library)
    table["ions"] = "Na+ Cl-"
    with pytest.raises(ValueError, match="another library"):
        with_structures(table, salt_library)


def test_ions_are_read_back():
    assert parse_ions("Cl- Y3+ Na+ O2- Fe") == ((17, 39, 11, 8, 26), (-1, 3, 1, -2, 0))


def test_ids_are_digests_of_the_canonical_form(salt_library):
    (prototype,) = salt_library
    table, _ = run(salt_settings(), salt_library)
    for row in table.to_dict("records"):
        numbers = np.array([parse_ions(row["ions"])[0]])
        form = tuple(canonical_forms(numbers, prototype.images)[0].tolist())
        expected = candidate_rows.candidate_id(row["candidate_id"].split("-")[0], prototype.prototype_id, form)
        assert row["candidate_id"] == expected


@pytest.mark.data
def test_the_published_family_is_enumerated():
    """The paper's Na(x)Li(3-x)YCl6 (arXiv:2401.04070), end members and mixed, in a trigonal Na3MCl6 prototype."""
    path = Path(os.environ["IONSIEVE_DATA"]) / "data/materials_project/structures_observed.parquet"
    prototypes = PrototypeSettings(source="materials_project", path=str(path), anions=("Cl",), max_sites=12)
    library = build_library(prototypes, path)
    parents = {p.prototype_id for p in library if any(m.formula == "Na3YCl6" for m in p.members)}
    for substitution in ("isovalent", "charge_neutral"):
        chosen = CandidateSettings(
            prototypes=prototypes, elements=("Li", "Na", "Y", "Cl"), substitution=substitution, by="orbit"
        )
        table, _ = run(chosen, library)
        family = table[table.prototype_id.isin(parents) & (table.spacegroup_number == 148)].set_index("formula_pretty")
        assert {"Li3YCl6", "Na2LiYCl6", "NaLi2YCl6", "Na3YCl6"} <= set(family.index)
        # with any neutral assignment, yttrium may also take a sodium site: that one is no parent
        parent = family.is_parent.groupby(level=0).sum()
        assert parent["Na3YCl6"] == 1
        assert parent["Li3YCl6"] == 0
