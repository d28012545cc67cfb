"""Polymorphs and the hull that candidates make together, on hulls that can be worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from pipeline.polymorphs import energy_above_hull_with_candidates, lowest_polymorphs, polymorph_of
from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key


def reference() -> PhaseReference:
    energies = {composition_key("LiCl"): -2.0, composition_key("YCl3"): -2.4}
    return PhaseReference(energies, elements=["Li", "Y", "Cl"], source="test")


def candidates(*rows: tuple[str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["candidate_id", "formula_pretty", "formation_energy_per_atom"])


# 3 LiCl + YCl3 = Li3YCl6: 6 of 10 atoms at -2.0, 4 at -2.4.
TIE_LINE = -2.16


def test_the_lowest_of_a_composition_flags_the_others() -> None:
    table = candidates(("a", "Li3YCl6", -2.10), ("b", "Li3YCl6", -2.19), ("c", "Li3YCl6", -2.15), ("d", "LiYCl4", -2.2))
    assert polymorph_of(table, table) == ["b", "", "b", ""]
    assert lowest_polymorphs(table)[composition_key("Li3YCl6")] == ("b", -2.19)


def test_a_composition_is_one_however_it_is_written() -> None:
    table = candidates(("a", "Li6Y2Cl12", -2.10), ("b", "YLi3Cl6", -2.19))
    assert polymorph_of(table, table) == ["b", ""]


def test_of_equal_energies_the_first_by_name_stands_for_all() -> None:
    table = candidates(("c", "Li3YCl6", -2.19), ("b", "Li3YCl6", -2.19 + 0.9e-6), ("a", "Li3YCl6", -2.19 + 1.1e-6))
    assert polymorph_of(table, table) == ["b", "", "b"]


def test_the_order_of_rows_decides_nothing() -> None:
    table = candidates(("a", "Li3YCl6", -2.1), ("b", "Li3YCl6", -2.1), ("c", "Li3YCl6", -2.0), ("d", "LiYCl4", -2.2))
    flagged = dict(zip(table["candidate_id"], polymorph_of(table, table), strict=True))
    turned = table.iloc[::-1]
    assert dict(zip(turned["candidate_id"], polymorph_of(turned, turned), strict=True)) == flagged


def test_who_does_not_compete_displaces_nobody() -> None:
    sound = candidates(("sound", "Li3YCl6", -2.17), ("nothing", "Li3YCl6", np.nan))
    suspect = candidates(("strange", "Li3YCl6", -2.9), ("alone", "Li2YCl5", -2.9))
    assert polymorph_of(pd.concat([sound, suspect]), sound) == ["", "sound", "sound", ""]
    above = energy_above_hull_with_candidates(pd.concat([sound, suspect]), sound, reference())
    assert above[0] == 0.0
    assert np.isnan(above[1])
    assert above[2] == pytest.approx(-2.9 + 2.17)


def test_a_higher_polymorph_lies_above_by_the_gap() -> None:
    table = candidates(("a", "Li3YCl6", TIE_LINE - 0.01), ("b", "Li3YCl6", TIE_LINE + 0.02))
    above = energy_above_hull_with_candidates(table, table, reference())
    assert above.tolist() == pytest.approx([0.0, 0.03], abs=1e-9)
    # Lowest polymorph 10 meV/atom above the reference's hull: both keep that distance, and the gap.
    higher = table.assign(formation_energy_per_atom=[TIE_LINE + 0.01, TIE_LINE + 0.04])
    above = energy_above_hull_with_candidates(higher, higher, reference())
    assert above.tolist() == pytest.approx([0.01, 0.04], abs=1e-9)


def test_twins_and_repeated_rows_are_on_the_hull_together() -> None:
    table = candidates(*[(name, "Li3YCl6", TIE_LINE - 0.01) for name in "abc"])
    assert energy_above_hull_with_candidates(table, table, reference()).tolist() == [0.0, 0.0, 0.0]
    twice = pd.concat([table, table], ignore_index=True)
    assert energy_above_hull_with_candidates(twice, twice, reference()).tolist() == [0.0] * 6
    assert polymorph_of(twice, twice) == ["", "a", "a"] * 2


def test_one_candidate_puts_another_above_the_hull() -> None:
    # Li3YCl6 at -2.26: LiYCl4 (6 atoms) decomposes into Li3YCl6/3 + 2/3 YCl3, atoms 10/3 : 8/3.
    table = candidates(("a", "Li3YCl6", -2.26), ("b", "LiYCl4", -2.28))
    alone = energy_above_hull_with_candidates(table, table.iloc[1:], reference())
    assert alone[1] == 0.0
    together = energy_above_hull_with_candidates(table, table, reference())
    assert together.tolist() == pytest.approx([0.0, -2.28 - (10 * -2.26 + 8 * -2.4) / 18], abs=1e-9)


def test_nothing_to_rank_and_nobody_competing() -> None:
    none = candidates().astype({"formation_energy_per_atom": float})
    table = candidates(("a", "Li3YCl6", TIE_LINE + 0.01))
    assert polymorph_of(none, table) == []
    assert polymorph_of(table, none) == [""]
    assert len(energy_above_hull_with_candidates(none, table, reference())) == 0
    assert energy_above_hull_with_candidates(table, none, reference()).tolist() == pytest.approx([0.01])


def test_a_row_without_an_energy_may_hold_an_unknown_element() -> None:
    table = candidates(("a", "Li3YCl6", TIE_LINE + 0.01), ("b", "LiBr", float("nan")))
    above = energy_above_hull_with_candidates(table, table.iloc[:1], reference())
    np.testing.assert_allclose(above, [0.01, np.nan], atol=1e-9)
