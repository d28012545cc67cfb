"""Finished DFT calculations as labels to train on: energy, forces, stress, the group and what the energies are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.crystal import row_from_structure
from pipeline.dft.calculation import DftResult
from pipeline.training.findings import Findings
from pipeline.training.groups import joined_groups, protostructure
from pipeline.training.label_checks import checked_labels
from pipeline.training.settings import DataSettings, LabelScheme
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

if TYPE_CHECKING:
    import pandas as pd

SCHEMES: dict[str, LabelScheme] = {"vasp": "mp_raw", "espresso": "other", "gpaw": "other"}
"""What each engine's energies are: VASP's inputs are the Materials Project's; the others' zero is their own."""


@dataclass(frozen=True)
class Labelled:
    """A finished calculation.

    Attributes
    ----------
    name
        Unique among those that are written together.
    prototype
        What the crystal came from; empty where nothing is known of that.
    engine
        Of stage dft's settings.
    result
        Energy in eV, forces in eV/Å, stress in eV/Å3.
    """

    name: str
    prototype: str
    engine: str
    result: DftResult


def label_rows(finished: Sequence[Labelled]) -> pd.DataFrame:
    """Rows in the columns of a file of labels (`pipeline.training.labelled`); stress in GPa, positive under tension.

    Without ``stress`` when a calculation has none. Crystals of one prototype, or of the same symmetry, are one group
    (`pipeline.training.groups`).
    """
    import pandas as pd

    rows = [_row(item) for item in finished]
    own = [protostructure(row) for row in rows]
    formulas = [item.result.structure.composition.reduced_formula for item in finished]
    names = [item.prototype or label or word for item, label, word in zip(finished, own, formulas, strict=True)]
    frame = pd.DataFrame(rows).assign(group=joined_groups(names, own))
    complete = all(np.isfinite(item.result.stress).all() for item in finished)
    return frame if complete else frame.drop(columns="stress")


def _row(item: Labelled) -> dict[str, Any]:
    result = item.result
    crystal = row_from_structure(result.structure)
    xx, yy, zz, yz, xz, xy = (GPA_PER_EV_PER_ANGSTROM3 * result.stress).tolist()
    return {
        "structure_id": item.name,
        **{name: crystal[name] for name in ("lattice", "atomic_numbers", "frac_coords")},
        "energy": result.energy,
        "forces": result.forces.reshape(-1).tolist(),
        "stress": [xx, xy, xz, xy, yy, yz, xz, yz, zz],
        "label_scheme": SCHEMES[item.engine],
        "source": f"{result.code}, {result.functional}",
    }


LARGEST_ENERGIES = {"vasp": 100.0, "gpaw": 100.0, "espresso": 1e5}
"""eV/atom: VASP and GPAW count from atoms, pseudopotentials of Quantum ESPRESSO may hold semicore and core energies."""


def refused(frame: pd.DataFrame, engine: str) -> dict[int, str]:
    """Rows (by position) that a training with its default bounds would refuse, and why.

    But for ``largest_energy``, which is that of the engine (`LARGEST_ENERGIES`).
    """
    found = {}
    for i, scheme in enumerate(frame["label_scheme"]):
        findings = Findings()
        name = str(frame["structure_id"].iloc[i])
        settings = DataSettings(files=(name,), label_scheme=scheme, largest_energy=LARGEST_ENERGIES[engine])
        checked_labels(frame.iloc[[i]].reset_index(drop=True), name, settings, findings)
        if findings:
            found[i] = "; ".join(problem.message for problem in findings.problems())
    return found
