"""Counts in words, and campaigns that the cheap gates leave without a candidate."""

from pathlib import Path

import pytest

from tests.campaigns import ionsieve, write_campaign
from workflows.candidate_counts import counts_in_words, none_passes, uncharged_in_words
from workflows.plan_view import time_in_words

COUNTS = {
    "prototypes": 30,
    "prototypes_without_oxidation_states": 0,
    "prototypes_element_wise": 0,
    "raw_assignments": 1234,
    "candidates": 122,
}


def test_noughts_are_left_out_and_faulty_crystals_told() -> None:
    assert counts_in_words(COUNTS) == [
        "prototypes: 30",
        "raw assignments of ions: 1,234",
        "candidates before the cheap gates: 122",
    ]
    lines = counts_in_words({**COUNTS, "prototypes_without_oxidation_states": 2, "prototypes_element_wise": 1})
    assert lines[1] == "of these without oxidation states that balance their charge, or with several: 2"
    assert lines[2] == "of these with an element too large to be substituted by orbit: 1"


def test_crystals_without_charges_are_named() -> None:
    assert uncharged_in_words(["Li2YCl6 (faulty.cif)"]).startswith("without oxidation states: Li2YCl6 (faulty.cif); ")
    assert "x7 and 3 more;" in uncharged_in_words([f"x{i}" for i in range(11)])


def test_what_leaves_nothing_is_named_with_its_remedy() -> None:
    assert none_passes(1, {"element_not_allowed": 1}) == (
        "none of 1 passes the cheap gates (out: 1 element_not_allowed): "
        "candidates.elements lacks elements that they have, or exclude_elements or exclude_classes takes them out"
    )
    assert none_passes(9, {"radius_mismatch": 9}).endswith("widen candidates.gates.radius_mismatch")
    assert "no ions of these elements fit" in none_passes(0, {})


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.0, "0 s"), (1e-6, "< 1 s"), (0.01, "36 s"), (0.5, "30.0 min"), (2.0, "2.0 h"), (100.0, "4.2 days")],
)
def test_times_are_in_the_unit_that_suits_them(hours: float, text: str) -> None:
    assert time_in_words(hours) == text


def test_a_campaign_without_a_candidate_is_not_valid_and_relaxes_nothing(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    text = config.read_text().replace("  substitution: none", "  elements: [Li, Br, Na]\n  substitution: none")
    source = "reference: {source: prototypes, max_elements: 2}"
    config.write_text("\n".join(source if line.startswith("reference:") else line for line in text.splitlines()))
    for words in (("validate",), ("run",)):
        done = ionsieve(tmp_path, *words, config)
        assert done.returncode == 2, done.stdout
        assert "none of 7 passes the cheap gates (out: 7 element_not_allowed)" in done.stderr
        assert "competing_phases" not in done.stdout
        assert "is valid" not in done.stdout
