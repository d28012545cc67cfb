"""Ionic radii that give the volumes of the Materials Project's crystals: for starting volumes, and nothing else.

The table is ``volume_radii.csv``, written by ``scripts/fit_volume_radii.py``: Shannon's radii, moved so that their
differences lead from one observed crystal to the volume of another one of its structure. Half of the observed compounds
were not used for it (:func:`in_fit`); ``scripts/validate_starting_volumes.py`` measures it on them. The volumes are the
Materials Project's (CC BY 4.0), relaxed with PBE.
"""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from kernels.assignment_space import CHARGE_OFFSET
from pipeline.reference.ions import ion, ion_table

FloatArray = npt.NDArray[np.float64]

FILE = "volume_radii.csv"
HIGHEST_Z = 104


def in_fit(formula: str) -> bool:
    """Whether compounds of a reduced formula are in the half that the radii are fitted on; the rest is held out."""
    return hashlib.sha256(formula.encode()).digest()[0] % 2 == 0


def _text() -> str:
    return resources.files("pipeline.reference").joinpath(FILE).read_text(encoding="utf-8")


@cache
def volume_radii_digest() -> str:
    """SHA-256 of the table: other radii start relaxations elsewhere."""
    return hashlib.sha256(_text().encode()).hexdigest()


@cache
def _fitted() -> dict[tuple[str, int], float]:
    rows = csv.DictReader(_text().splitlines())
    return {(row["element"], int(row["oxidation_state"])): float(row["radius"]) for row in rows}


def volume_radius(element: str, charge: int) -> float:
    """Radius of an ion in Å: the fitted one, or that of :func:`ion` where no compound tells; NaN when there is none."""
    fitted = _fitted().get((element, charge))
    return ion(element, charge).radius if fitted is None else fitted


@cache
def volume_radii() -> FloatArray:
    """(Z, charge + 8) table of :func:`volume_radius`, Å."""
    table = np.full((HIGHEST_Z, 2 * CHARGE_OFFSET + 1), np.nan)
    for z, element in {(i.atomic_number, i.element) for i in ion_table()}:
        for charge in range(-CHARGE_OFFSET, CHARGE_OFFSET + 1):
            if charge:
                table[z, CHARGE_OFFSET + charge] = volume_radius(element, charge)
    return table
