"""Steps of the funnel: the exact account of what entered, what passed, and why the rest did not."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass
class Step:
    """One line of the funnel: how many came in, how many went on, and why the others did not."""

    step: str
    stage: str
    gates: str
    entered: int
    failed: int
    passed: int
    rejected_by: dict[str, int]
    computed_now: int = 0
    from_cache: int = 0
    seconds: float = 0.0
    digest: str = ""
    taken: list[str] | None = None
    """Ids of the candidates that the stage took, where it takes the best only."""
    lost_elements: list[str] | None = None
    """Elements of which no competing phase could be relaxed, in the step that relaxes these."""

    @property
    def tried(self) -> int:
        """Rows that the stage computed: those that entered, or the best of them."""
        return self.entered if self.taken is None else len(self.taken)


def funnel_table(steps: list[Step]) -> pd.DataFrame:
    """The funnel, exact and free of timings, so that equal runs give equal bytes."""
    return pd.DataFrame(
        {
            "step": [s.step for s in steps],
            "stage": [s.stage for s in steps],
            "gates": [s.gates for s in steps],
            "entered": [s.entered for s in steps],
            "failed": [s.failed for s in steps],
            "passed": [s.passed for s in steps],
            "rejected_by": ["; ".join(f"{k}: {v}" for k, v in s.rejected_by.items()) for s in steps],
        }
    )


def step_line(step: Step) -> str:
    """One line of the funnel for the terminal."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in step.rejected_by.items())
    share = f"{step.passed / step.entered:.1%}" if step.entered else "-"
    effort = "nothing new to compute"
    if step.computed_now:
        effort = f"{step.computed_now} computed now, {step.seconds:.0f} core-s in all"
    if step.from_cache:
        effort += f", {step.from_cache} from the cache"
    return f"{step.step}: {step.entered} -> {step.passed} ({share}; out: {reasons or 'none'}; {effort})"
