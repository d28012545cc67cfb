"""Causes of a disagreement between a table and a self-consistent reference, in closed form."""

import numpy as np
import pytest

from pipeline.reference.hull_comparison import (
    Disagreement,
    PhaseEnergies,
    balanced_accuracy,
    cause,
    complete_height,
    confusion_lines,
    interval,
)

GATE = 0.05


def case(by_table: float, by_reference: float, formation: float = -1.0, **products: float) -> Disagreement:
    return Disagreement(formation, by_table, by_reference, GATE, products or {"TiF3": 0.5, "CaF2": 0.5}, {"CaF2": 1.0})


def energies(true: dict[str, float], reference: dict[str, float], **elements: float) -> PhaseEnergies:
    return PhaseEnergies({"TiF3": -1.2, "CaF2": -1.0}, reference, true, elements)


def test_a_lacking_phase_and_a_poor_one_are_told_apart() -> None:
    lacking = energies({"TiF3": -1.2, "CaF2": -1.0}, {"CaF2": -1.0})
    assert complete_height(case(0.1, 0.0), lacking) == pytest.approx(-1.0 + 1.1)
    assert cause(case(0.1, 0.0), lacking) == ("missing competitor", "no TiF3")
    poor = energies({"TiF3": -1.2, "CaF2": -1.0}, {"TiF3": -1.17, "CaF2": -1.0})
    assert cause(case(0.1, 0.0), poor) == ("missing competitor", "TiF3 +30")


def test_the_potentials_own_error_is_named_with_its_sign() -> None:
    # even with every competitor the candidate lies 20 meV/atom above the hull of the potential
    soft = energies({"TiF3": -1.04, "CaF2": -1.0}, {"TiF3": -1.04, "CaF2": -1.0})
    assert complete_height(case(0.1, 0.0), soft) == pytest.approx(0.02)
    assert cause(case(0.1, 0.0), soft) == ("potential", "TiF3 +160")


def test_an_element_among_the_products() -> None:
    mine = energies({"CaF2": -1.0}, {"CaF2": -1.0}, F=-0.26)
    assert cause(case(0.0, 0.1, -0.75, CaF2=0.75, F2=0.25), mine) == ("element", "F2 -260")


def test_an_unknown_crystal_is_said_to_be_unknown() -> None:
    assert cause(case(0.1, 0.0), energies({"CaF2": -1.0}, {})) == ("no structure", "the table's TiF3")


def test_balanced_accuracy_weighs_both_sides_alike() -> None:
    truth = np.array([True] * 8 + [False] * 2)
    assert balanced_accuracy(truth, np.ones(10, dtype=bool)) == pytest.approx(0.5)
    assert balanced_accuracy(truth, truth) == 1.0
    assert np.isnan(balanced_accuracy(truth[:8], truth[:8]))
    low, high = interval(truth, np.ones(10, dtype=bool), ["a", "b"] * 5, seed=0)
    assert low == high == pytest.approx(0.5)


def test_the_report_counts_each_decision_where_it_belongs() -> None:
    by_table, by_reference = np.array([0.01, 0.02, 0.03, 0.20, 0.06]), np.array([0.00, 0.09, 0.01, 0.10, 0.01])
    accuracy, lines = confusion_lines(by_table, by_reference, GATE, list("abcab"))
    assert accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert [line.split()[-2:] for line in lines[1:3]] == [["2", "1"], ["1", "1"]]
    assert "balanced accuracy 0.583" in lines[3]
    assert lines[4].endswith("-50, -20, -10")
