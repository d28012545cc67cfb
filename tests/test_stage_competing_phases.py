"""Stage competing_phases: what collapses is no phase."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.config import load_campaign
from pipeline.crystal import row_from_structure
from pipeline.settings import CompetingPhasesSettings
from pipeline.stages import competing_phases
from tests.campaigns import write_campaign
from tests.test_stage_stability import EffectiveMedium
from workflows.relaxed_phases import competing_phases_settings

AS_GIVEN = CompetingPhasesSettings(rattle=0.0, max_steps=0)
# Two atoms of copper, 1.32 Å each, in a cube of 5 Å.
DISTANCES = (1.45, 1.75, 2.6)


def crystals() -> pd.DataFrame:
    pairs = [Structure(Lattice.cubic(5.0), ["Cu", "Cu"], [[0, 0, 0], [d / 5.0, 0, 0]]) for d in DISTANCES]
    return pd.DataFrame([{**row_from_structure(s), "candidate_id": f"Cu-{k}"} for k, s in enumerate(pairs)])


@pytest.mark.parametrize(("least", "failing"), [(0.6, 1), (0.7, 2), (0.0, 0)])
def test_a_collapsed_phase_fails_by_name(tmp_path, least, failing):
    settings = AS_GIVEN.model_copy(update={"distance_ratio_below": least})
    refs = SimpleNamespace(potential=EffectiveMedium())
    table = competing_phases.run(crystals(), settings, refs, tmp_path)
    status = table["competing_phases_status"].tolist()
    assert status == ["failed"] * failing + ["ok"] * (3 - failing)
    assert np.isfinite(table["energy_per_atom"].to_numpy(float)).tolist() == [s == "ok" for s in status]
    if failing:
        error = table["competing_phases_error"].iloc[0]
        assert error.startswith(f"HoleOfThePotential: Cu-Cu at 0.55 of the sum of their radii, below {least:g}, at ")
        assert error.endswith("eV/atom")


def test_the_bound_is_that_of_the_candidates(tmp_path):
    config: Path = write_campaign(tmp_path)
    assert competing_phases_settings(load_campaign(config)).distance_ratio_below == 0.6
    text = config.read_text()
    assert text.count("stage: stability") == 1
    config.write_text(text.replace("stage: stability", "stage: stability\n    suspect: {distance_ratio_below: 0.5}"))
    assert competing_phases_settings(load_campaign(config)).distance_ratio_below == 0.5
