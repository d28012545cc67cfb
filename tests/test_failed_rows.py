"""Failed rows: candidates and competing phases are told apart, and each kind has its own bound."""

import pandas as pd
import pytest

from workflows.failed_rows import failures_told, largest_failed_share, lost_elements, too_many_failed
from workflows.steps import Step


def step(stage: str, entered: int, failed: int, lost: list[str] | None = None) -> Step:
    return Step(stage, stage, "", entered, failed, entered - failed, {}, lost_elements=lost)


def test_hypothetical_phases_that_burst_are_no_failed_candidates() -> None:
    steps = [step("candidates", 122, 0), step("competing_phases", 225, 25, []), step("stability", 42, 2)]
    assert largest_failed_share(steps) == pytest.approx(2 / 42)
    assert too_many_failed(steps, 0.05) == []
    assert failures_told(steps) == ("2 of 42 candidates failed in stability (4.8%); 25 of 225 competing phases failed")


def test_the_share_is_that_of_the_rows_that_are_told() -> None:
    steps = [step("competing_phases", 225, 13, []), step("stability", 3, 1)]
    (problem,) = too_many_failed(steps, 0.05)
    assert problem == ("1 of 3 candidates failed in stability (33.3%), 5.0% are allowed (run.allowed_failed_share)")
    assert failures_told(steps).startswith("1 of 3 candidates failed in stability (33.3%); 13 of 225")
    assert too_many_failed(steps, 0.34) == []


@pytest.mark.parametrize(
    ("failed", "lost", "words"),
    [
        (113, [], "113 of 225 competing phases failed (50.2%), 50% are allowed"),
        (12, ["Cl", "Y"], "every crystal of the element Cl, Y failed"),
    ],
)
def test_a_potential_that_fails_everywhere_or_at_an_element_is_a_problem(
    failed: int, lost: list[str], words: str
) -> None:
    (problem,) = too_many_failed([step("competing_phases", 225, failed, lost), step("stability", 9, 0)], 0.05)
    assert words in problem


def test_of_a_stage_that_takes_the_best_those_count_that_it_took() -> None:
    dear = step("dft", 85, 2)
    dear.taken = ["a", "b"]
    assert largest_failed_share([dear]) == 1.0
    assert failures_told([dear]) == "2 of 2 candidates failed in dft (100.0%)"
    assert too_many_failed([dear], 0.05)[0].startswith("2 of 2 candidates failed in dft (100.0%)")
    dear.taken, dear.failed = [], 0
    assert too_many_failed([dear], 0.0) == []


def test_steps_without_rows_and_runs_without_failures_say_nothing() -> None:
    steps = [step("candidates", 5, 0), step("stability", 0, 0)]
    assert failures_told(steps) == ""
    assert too_many_failed(steps, 0.0) == []
    assert largest_failed_share([]) == 0.0


def test_lost_elements_are_those_without_an_energy() -> None:
    rows = pd.DataFrame({"chemsys": ["Li", "Li", "Cl", "Cl-Li", "Br-Li"]})
    assert lost_elements(rows, pd.DataFrame({"element": ["Li"]})) == ["Cl"]
    assert lost_elements(rows, pd.DataFrame({"element": ["Cl", "Li"]})) == []
