"""The funnel, as the paper's figure shows it: candidates in, a ranked shortlist out."""

from __future__ import annotations

import pandas as pd

from workflows.runner import Run


def screen(run: Run) -> pd.DataFrame:
    """Carry a campaign from prototypes to the ranked table.

    Chen et al. (J. Am. Chem. Soc. 2024, 146, 20009) went from 32,598,079 substituted crystals to 18: relaxed with
    M3GNet and kept when near the hull, then sieved by band gap, electrochemical window, mobility, cost and
    density. The stages, their order and their gates come from the campaign file.

    Every step is resumable: what an earlier run left on disk under the same digest is not computed again.
    """
    candidates = run.enumerate_candidates()  # ionic substitution, cheap gates

    if run.campaign.reference.source == "prototypes":
        run.relax_competing_phases()  # a hull of our own, with the same surrogate

    survivors = candidates
    for stage in run.campaign.stages:  # stability, band gap, window, conduction, practicality, dynamics, DFT ...
        entering = run.take_best(stage, survivors)  # all, unless the stage is too dear for that
        computed = run.compute(stage, entering)
        survivors = run.gate(stage, computed)

    ranking = run.rank(survivors)
    run.write_results(ranking)
    return ranking
