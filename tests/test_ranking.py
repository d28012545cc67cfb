"""The order of the ranked table: fixed bounds, Pareto fronts, controls and suspects."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from pipeline.config import Desirability, Objective, RankingSettings
from pipeline.crystal import row_from_structure
from pipeline.ranking import desirability, explain, pareto_fronts, rank, take_best

SETTINGS = RankingSettings(
    score=(
        Desirability(column="energy_above_hull", best=0.0, worst=0.1, weight=3.0),
        Desirability(column="oxidation_limit", best=5.0, worst=3.0, weight=1.0),
    ),
    pareto=(Objective(column="energy_above_hull", goal="min"), Objective(column="oxidation_limit", goal="max")),
    shortlist_size=2,
)


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "candidate_id": ["a", "b", "c", "d", "e"],
            "formula_pretty": ["LiCl", "NaCl", "LiBr", "NaBr", "LiF"],
            "energy_above_hull": [0.02, 0.00, 0.05, -0.30, 0.02],
            "oxidation_limit": [4.0, 3.0, 5.0, 5.0, np.nan],
            "suspect": [False, False, False, True, False],
            "is_known": [False, True, False, False, False],
            "is_parent": [False, False, False, False, False],
        }
    )


def test_score_by_hand() -> None:
    ranked = rank(table(), SETTINGS).set_index("candidate_id")
    assert ranked.loc["a", "score"] == pytest.approx((3 * 0.8 + 0.5) / 4)
    assert ranked.loc["e", "score"] == pytest.approx(3 * 0.8 / 4)  # a missing value scores 0


def test_order_suspects_controls_shortlist() -> None:
    ranked = rank(table(), SETTINGS)
    assert ranked["candidate_id"].tolist() == ["b", "a", "c", "e", "d"]
    assert ranked["rank"].tolist() == [1, 2, 3, 4, 5]
    assert ranked.set_index("candidate_id")["is_control"].to_dict()["b"]
    assert ranked.loc[ranked["shortlisted"], "candidate_id"].tolist() == ["a", "c"]
    allowed = SETTINGS.model_copy(update={"allow_suspects": True, "allow_known": True, "shortlist_size": 9})
    assert rank(table(), allowed)["shortlisted"].all()


def test_suspects_push_none_off_a_front() -> None:
    """Row d, too good to be believed, would dominate all others."""
    fronts = rank(table(), SETTINGS).set_index("candidate_id")["pareto_front"].to_dict()
    assert fronts == {"a": 1, "b": 1, "c": 1, "e": 2, "d": 3}
    alone = rank(table().assign(suspect=True), SETTINGS).set_index("candidate_id")["pareto_front"]
    assert alone["d"] == 1


def test_not_checked_is_not_known() -> None:
    ranked = rank(table().assign(is_known=pd.Series([None, True, None, None, None], dtype=object)), SETTINGS)
    assert ranked.set_index("candidate_id")["is_control"].to_dict() == {c: c == "b" for c in "abcde"}
    assert ranked.loc[ranked["shortlisted"], "candidate_id"].tolist() == ["a", "c"]


def test_scores_do_not_depend_on_the_other_rows() -> None:
    alone = rank(table().iloc[[0]], SETTINGS)["score"].iloc[0]
    assert alone == rank(table(), SETTINGS).set_index("candidate_id").loc["a", "score"]


def test_empty_table() -> None:
    ranked = rank(table().iloc[:0], SETTINGS)
    assert len(ranked) == 0
    assert {"rank", "score", "pareto_front", "shortlisted"} <= set(ranked.columns)


def test_a_column_that_no_row_has_counts_as_missing() -> None:
    """A stage in which nothing succeeded makes no column for an ion or a partner."""
    lacking = table().drop(columns="oxidation_limit")
    assert rank(lacking, SETTINGS)["score"].tolist() == pytest.approx([0.75, 0.6, 0.6, 0.375, 0.75])
    assert rank(lacking.iloc[:0], SETTINGS).empty


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_pareto_fronts_against_the_definition(points: list[tuple[int, int]]) -> None:
    frame = pd.DataFrame(points, columns=["energy_above_hull", "oxidation_limit"], dtype=float)
    fronts = pareto_fronts(frame, SETTINGS.pareto)

    def dominates(p: tuple[int, int], q: tuple[int, int]) -> bool:
        return p[0] <= q[0] and p[1] >= q[1] and p != q

    for i, p in enumerate(points):
        better = [fronts[j] for j, q in enumerate(points) if dominates(q, p)]
        assert fronts[i] == (max(better) + 1 if better else 1)


def test_duplicates_point_to_the_lower_energy() -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    shifted = salt.copy()
    shifted.translate_sites(range(len(shifted)), [0.1, 0.2, 0.3])
    other = Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    rows = [
        {"candidate_id": n, "formula_pretty": "NaCl", "energy_per_atom": e, **row_from_structure(s)}
        for n, s, e in (("high", shifted, -3.368), ("low", salt, -3.370), ("cscl", other, -3.369))
    ]
    frame = pd.DataFrame(rows).assign(energy_above_hull=0.0, oxidation_limit=4.0)
    ranked = rank(frame, SETTINGS).set_index("candidate_id")
    assert ranked["duplicate_of"].to_dict() == {"high": "low", "low": "", "cscl": ""}


def test_desirability_is_clipped() -> None:
    term = Desirability(column="energy_above_hull", best=0.0, worst=0.1)
    values = pd.Series([-1.0, 0.0, 0.05, 0.1, 9.0, np.nan])
    assert desirability(values, term).tolist() == pytest.approx([1, 1, 0.5, 0, 0, 0])


def test_explanation_names_every_term() -> None:
    text = explain(SETTINGS)
    assert "energy_above_hull 75% (1 at 0, 0 at 0.1)" in text
    assert "oxidation_limit high" in text


def test_a_formula_enters_the_shortlist_as_often_as_allowed() -> None:
    same = table().assign(formula_pretty="LiCl")
    assert rank(same, SETTINGS)["shortlisted"].sum() == 1
    twice = SETTINGS.model_copy(update={"max_per_formula": 2})
    assert rank(same, twice).loc[lambda t: t["shortlisted"], "candidate_id"].tolist() == ["a", "c"]


def test_a_suspect_never_displaces_its_sound_twin() -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    rows = [
        {"candidate_id": n, "formula_pretty": "NaCl", "energy_per_atom": e, "suspect": w, **row_from_structure(salt)}
        for n, e, w in (("strange", -3.371, True), ("sound", -3.370, False))
    ]
    frame = pd.DataFrame(rows).assign(energy_above_hull=0.0, oxidation_limit=4.0)
    ranked = rank(frame, SETTINGS).set_index("candidate_id")
    assert ranked["duplicate_of"].to_dict() == {"strange": "sound", "sound": ""}
    assert ranked.loc["sound", "shortlisted"]


def test_the_best_so_far_are_taken_in_the_order_they_came() -> None:
    # Scores 0.725 (a), 0.75 (b), 0.625 (c), 1.0 (d), 0.6 (e); b is known and d suspect, so they come last.
    assert take_best(table(), 2, SETTINGS)["candidate_id"].tolist() == ["a", "c"]
    assert take_best(table(), 4, SETTINGS)["candidate_id"].tolist() == ["a", "b", "c", "e"]
    without = table().drop(columns="energy_above_hull")
    assert take_best(without, 1, SETTINGS)["candidate_id"].tolist() == ["c"]
    for count in (5, None):
        pd.testing.assert_frame_equal(take_best(table(), count, SETTINGS), table())
