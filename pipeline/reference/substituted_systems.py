"""Chemical systems by a seeded rule, and the substituted crystals of exactly their elements, for validations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pipeline.candidate_settings import CandidateGates, CandidateSettings, PrototypeSettings

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.reference.prototype_library import PrototypeLibrary

MOBILE = frozenset(["Li", "Na", "K", "Mg", "Ca", "Zn", "Al"])
CATIONS = (
    MOBILE
    | frozenset(
        ["Rb", "Cs", "Sr", "Ba", "Cd", "Sc", "Y", "La", "Ti", "Zr", "Hf", "Nb", "Ta", "B", "Ga", "In", "Si", "Ge", "Sn"]
    )
    | frozenset(["P", "Sb", "Bi"])
)
STRATA = {(3, "F"): 4, (3, "Cl"): 3, (3, "Br"): 3, (3, "I"): 3, (3, "O"): 6, (3, "S"): 5} | {
    (4, "F"): 1,
    (4, "O"): 3,
    (4, "S"): 2,
}
"""Systems drawn, by number of elements and anion: thirty."""

PROTOTYPES = PrototypeSettings(source="materials_project", max_sites=30, min_elements=3, max_elements=4)
"""Observed crystals that are substituted. One ion takes the place of each element, so that binary crystals cannot give
candidates with all elements of a ternary system."""

GATES = CandidateGates(mobile_ion_fraction=0.10, radius_mismatch=0.35, substitution_probability=1e-4)
"""The cheap gates of ``configs/halides.yaml``."""


def draw_systems(chemical_systems: Iterable[str], least: int, seed: int) -> list[str]:
    """Draw the number of `STRATA` of each stratum, at random.

    Parameters
    ----------
    chemical_systems
        One for each known crystal, such as ``Cl-Li-Y``.
    least
        Known crystals that a system must have.
    seed
        Of the order in which systems are taken.
    """
    counts = Counter(chemical_systems)
    rich = sorted(system for system, n in counts.items() if n >= least)
    order = [rich[i] for i in np.random.default_rng(seed).permutation(len(rich))]
    return [s for stratum, wanted in STRATA.items() for s in [s for s in order if _stratum(s) == stratum][:wanted]]


def _stratum(system: str) -> tuple[int, str] | None:
    elements = set(system.split("-"))
    anions = elements - CATIONS
    if len(anions) != 1 or not elements & MOBILE:
        return None
    return len(elements), anions.pop()


def substituted_crystals(system: str, library: PrototypeLibrary) -> pd.DataFrame:
    """Rows of stage candidates, with crystals, of every isovalent substitution that has all elements of a system."""
    import pandas as pd

    from pipeline.stages.candidates import empty_table, enumerate_unit, plan_units, with_structures

    elements = tuple(system.split("-"))
    wanted = CandidateSettings(
        prototypes=PROTOTYPES,
        elements=elements,
        substitution="isovalent",
        by="element",
        max_elements=len(elements),
        gates=GATES,
    )
    mobile = tuple(sorted(MOBILE & set(elements)))
    tables = [enumerate_unit(unit, wanted, library, mobile)[0] for unit in plan_units(wanted, library)]
    rows = pd.concat(tables, ignore_index=True) if tables else empty_table()
    return with_structures(rows[rows["chemsys"] == system].reset_index(drop=True), library)


def draw_candidates(rows: pd.DataFrame, most: int, polymorphs: int, seed: int) -> pd.DataFrame:
    """At most ``most`` rows of each ``chemsys`` and ``polymorphs`` of each ``formula_pretty``, at random.

    Crystals of one composition are not decided independently. The order depends on the ``candidate_id`` and the seed
    alone, not on the order of the rows.
    """
    ordered = rows.sort_values("candidate_id", ignore_index=True)
    shuffled = ordered.iloc[np.random.default_rng(seed).permutation(len(ordered))]
    few = shuffled.groupby("formula_pretty").head(polymorphs)
    return few.groupby("chemsys").head(most).sort_values("candidate_id", ignore_index=True)
