"""Which systems and candidates a validation takes: rules that must not depend on the order of what was read."""

import pandas as pd

from pipeline.reference.kept_relaxations import starting_key
from pipeline.reference.prototypes import build_library
from pipeline.reference.substituted_systems import (
    GATES,
    PROTOTYPES,
    draw_candidates,
    draw_systems,
    substituted_crystals,
)


def test_systems_have_a_mobile_ion_one_anion_and_crystals_enough() -> None:
    known = ["Ca-Cl-K"] * 4 + ["Ca-Cl-Cs"] * 3 + ["Cs-Cl-Rb"] * 9 + ["Cl-F-Li"] * 9 + ["Fe-Li-O"] * 9 + ["Li-O-Si"] * 5
    assert draw_systems(known, 4, seed=0) == ["Ca-Cl-K", "Li-O-Si"]
    assert draw_systems(reversed(known), 4, seed=0) == ["Ca-Cl-K", "Li-O-Si"]
    assert draw_systems(known, 3, seed=0)[:2] in (["Ca-Cl-K", "Ca-Cl-Cs"], ["Ca-Cl-Cs", "Ca-Cl-K"])


def test_no_stratum_gives_more_than_its_number() -> None:
    known = [f"{metal}-F-Li" for metal in ("Al", "Ba", "Ca", "Cs", "K", "Mg")] * 4
    systems = [{draw_systems(known, 4, seed)[k] for k in range(4)} for seed in range(6)]
    assert all(len(draw_systems(known, 4, seed)) == 4 for seed in range(6))
    assert len({frozenset(s) for s in systems}) > 1


def candidates() -> pd.DataFrame:
    formulas = ["LiYCl4"] * 5 + ["Li3YCl6"] * 3 + ["Li2YCl5"] + ["NaCl"] * 3
    return pd.DataFrame(
        {
            "candidate_id": [f"{f}-{i}" for i, f in enumerate(formulas)],
            "formula_pretty": formulas,
            "chemsys": ["Cl-Na" if f == "NaCl" else "Cl-Li-Y" for f in formulas],
        }
    )


def test_few_of_a_composition_and_of_a_system() -> None:
    drawn = draw_candidates(candidates(), 4, 2, seed=0)
    assert drawn["formula_pretty"].value_counts().max() == 2
    assert drawn["chemsys"].value_counts().to_dict() == {"Cl-Li-Y": 4, "Cl-Na": 2}
    assert draw_candidates(candidates(), 99, 2, seed=0)["chemsys"].value_counts()["Cl-Li-Y"] == 5


def test_the_draw_depends_on_the_seed_not_on_the_order_of_rows() -> None:
    rows = candidates()
    names = [draw_candidates(rows, 2, 2, seed)["candidate_id"].tolist() for seed in range(6)]
    assert names[3] == draw_candidates(rows[::-1], 2, 2, 3)["candidate_id"].tolist()
    assert len({tuple(n) for n in names}) > 1
    # a larger draw holds the smaller one: a validation can be extended
    assert set(names[0]) <= set(draw_candidates(rows, 4, 2, 0)["candidate_id"])


def test_substituted_crystals_have_every_element_and_pass_the_gates() -> None:
    # AFLOW's prototypes need no data; a perovskite and others with one ion an element
    library = build_library(PROTOTYPES.model_copy(update={"source": "aflow"}))
    rows = substituted_crystals("Ca-O-Ti", library)
    assert len(rows)
    assert set(rows["chemsys"]) == {"Ca-O-Ti"}
    assert (rows["radius_mismatch"] <= GATES.radius_mismatch).all()
    assert set(rows["substitution"]) == {"element"}
    assert all(len(row["atomic_numbers"]) == row["nsites"] for row in rows.to_dict("records"))


def test_the_key_of_a_start_is_the_crystal_not_its_name_alone() -> None:
    row = {
        "candidate_id": "NaCl-0",
        "lattice": [4.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 4.0],
        "atomic_numbers": [11, 17],
        "frac_coords": [0.0] * 6,
        "oxidation_states": [1.0, -1.0],
    }
    stretched = row | {"lattice": [4.1, *row["lattice"][1:]]}
    assert starting_key(row) == starting_key(dict(row))
    assert starting_key(row) != starting_key(stretched)
    assert starting_key(row) != starting_key(row | {"candidate_id": "NaCl-1"})
