"""Stage ``practicality``: symmetry, density, price of the elements, and whether the composition is known."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.stages.rows import Failure, attempt, crystals, with_columns
from pipeline.units import G_PER_CM3_PER_DALTON_PER_ANGSTROM3

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from pymatgen.core import Structure

    from pipeline.reference import PhaseReference
    from pipeline.reference.formulas import CompositionKey
    from pipeline.references import References
    from pipeline.settings import PracticalitySettings

NAME = "practicality"
STAGE_VERSION = 4

SYMMETRY_TOLERANCE = 0.1
"""Å."""

PRICE_SOURCE = (
    "pymatgen's costdb_elements.csv, USD/kg of the pure element: 77 of its prices are of September 2013, one of 2019 "
    "and six of 2020 (Wikipedia, Wolfram Alpha)"
)
"""Where the prices come from and how old they are: they order candidates, they are no market prices."""


def run(part: pd.DataFrame, settings: PracticalitySettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Add density, ``cost_per_kg``, ``is_known`` and ``in_database``.

    ``cost_per_kg`` is the mass-weighted price of the elements (USD/kg, see `PRICE_SOURCE`), NaN when one of them has
    no price; making the compound is not in it. What no list tells stays missing: ``is_known`` of a composition that is
    not listed where there is no list of observed compositions, ``in_database`` where the reference is no database.

    Parameters
    ----------
    part
        Rows with ``formula_pretty`` and crystals.
    settings, refs, workspace
        ``refs.observed_formulas``, ``refs.known_formulas`` (also of other steps), ``refs.has_observed_list`` and
        ``refs.database`` are used; the workspace is not.
    """
    from pipeline.reference.formulas import composition_key

    if not len(part):
        return with_columns(part, NAME, [])
    known = _keys(refs.observed_formulas) | {
        composition_key(f) for f in {*settings.known_formulas, *refs.known_formulas}
    }
    unlisted = False if refs.has_observed_list else None
    formulas = part["formula_pretty"].tolist()
    lists = (known, unlisted, refs.database)
    records = [
        crystal if isinstance(crystal, Failure) else attempt(_record, str(formula), crystal, *lists)
        for formula, crystal in zip(formulas, crystals(part, refs), strict=True)
    ]
    return with_columns(part, NAME, records)


def _record(
    formula: str,
    structure: Structure,
    known: frozenset[CompositionKey],
    unlisted: bool | None,
    database: PhaseReference | None,
) -> dict[str, Any]:
    from pipeline.reference.formulas import composition_key

    key = composition_key(formula)
    mass = float(structure.composition.weight)
    return {
        "spacegroup_relaxed": spacegroup_number(structure),
        "density": mass / float(structure.volume) * G_PER_CM3_PER_DALTON_PER_ANGSTROM3,
        "cost_per_kg": cost_per_kg(key),
        "is_known": True if key in known else unlisted,
        "in_database": None if database is None else database.contains(formula),
    }


def spacegroup_number(structure: Structure) -> int | None:
    """Number of the space group, sites matched within `SYMMETRY_TOLERANCE`; None where moyopy finds none.

    Forces converged to 0.05 eV/Å from a rattled start leave sites a few hundredths of an Å off their places.
    """
    import moyopy
    from moyopy.interface import MoyoAdapter

    from pipeline.reference.protostructure import quiet_moyo

    cell = MoyoAdapter.from_structure(structure.copy().remove_oxidation_states())
    with quiet_moyo():
        try:
            return int(moyopy.MoyoDataset(cell, symprec=SYMMETRY_TOLERANCE).number)
        except (ValueError, RuntimeError):  # the row's other columns do not hang on it
            return None


@lru_cache(maxsize=4)
def _keys(formulas: frozenset[str]) -> frozenset[CompositionKey]:
    """Compositions; a formula that can't be read (of deuterium, for one) is none of a candidate's."""
    from pipeline.reference.formulas import composition_key

    found = set()
    for formula in formulas:
        with suppress(ValueError):
            found.add(composition_key(formula))
    return frozenset(found)


def cost_per_kg(key: CompositionKey) -> float:
    """Price of the elements of a composition, USD/kg; NaN when one of them has no price.

    Parameters
    ----------
    key
        Element and amount, from `pipeline.reference.formulas.composition_key`.
    """
    from pymatgen.core import Element

    prices = element_prices()
    masses = {symbol: amount * float(Element(symbol).atomic_mass) for symbol, amount in key}
    total = sum(masses.values())
    return sum(mass * prices.get(symbol, float("nan")) for symbol, mass in masses.items()) / total


@lru_cache(maxsize=1)
def element_prices() -> Mapping[str, float]:
    """Price of each element that has one, USD/kg (`PRICE_SOURCE`)."""
    import csv
    from importlib.resources import files

    text = files("pymatgen.analysis").joinpath("costdb_elements.csv").read_text(encoding="utf-8")
    # Two polymorphs of an element would be two rows: the cheaper counts, as in pymatgen's CostAnalyzer.
    prices: dict[str, float] = {}
    for symbol, price, *_ in csv.reader(text.splitlines(), quotechar="|"):
        prices[symbol] = min(float(price), prices.get(symbol, float("inf")))
    return prices
