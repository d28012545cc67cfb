"""Every candidate of a library, as a campaign lists them unit by unit."""

from collections import Counter

import pandas as pd

from pipeline.candidate_settings import CandidateSettings
from pipeline.reference.prototypes import PrototypeLibrary
from pipeline.stages.candidates import enumerate_unit, plan_units


def listed(
    settings: CandidateSettings, library: PrototypeLibrary, mobile_ions: tuple[str, ...]
) -> tuple[pd.DataFrame, Counter]:
    """Rows that pass the cheap gates, and the counts of all units."""
    tables, counts = [], Counter()
    for unit in plan_units(settings, library):
        table, found = enumerate_unit(unit, settings, library, mobile_ions)
        tables.append(table)
        counts.update(found)
    return pd.concat(tables, ignore_index=True), counts
