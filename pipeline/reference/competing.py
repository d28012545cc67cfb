"""Competing phases of the self-consistent reference: elements and salts in known prototypes, unrelaxed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.candidate_settings import CandidateGates, CandidateSettings, PrototypeSettings
from pipeline.crystal import STRUCTURE_COLUMNS
from pipeline.reference.ions import oxidation_states
from pipeline.reference.protostructure import standardise
from pipeline.reference.prototype_library import LeftOut
from pipeline.reference.prototype_sources import from_aflow
from pipeline.reference.prototypes import Prototype, build_library, make_prototype

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.config import ReferenceSettings
    from pipeline.reference.prototype_library import PrototypeLibrary

METALS = ("A1", "A2", "A3", "A3'", "C19", "A5", "A6", "A7", "A10", "A11", "A20")
"""Strukturbericht symbols in which a metal is tried: fcc, bcc, hcp, dhcp, alpha-Sm, beta-Sn, In, alpha-As, alpha-Hg,
alpha-Ga, alpha-U."""

NONMETALS = ("A2", "A4", "A7", "A8", "A9", "A14", "A17", "A18", "alpha oxygen", "Cubic alpha N2")
"""Those of a nonmetal: bcc, diamond, alpha-As, gamma-Se, graphite, I2, black P, Cl2, and two molecular crystals
that have no Strukturbericht symbol."""

CUBIC_CENTIMETRES_PER_MOLE = 1.0 / 0.602214076
"""Å3 an atom that one cm3/mol is."""

LARGEST_RADIUS_MISMATCH = 0.35
"""Of an ion placed in a prototype of the campaign, |ln(r_new/r_old)|: ions of other sizes crystallise otherwise."""

LEAST_PROBABILITY = 1e-4
"""Of a substitution into a prototype of the campaign (Hautier's probability, as the gate of that name has it)."""

MOST_POLYMORPHS = 2
"""Crystals of one composition taken from the campaign's prototypes: a library of thousands gives dozens of some."""

COLUMNS = ("candidate_id", "formula_pretty", "chemsys", "nsites", "prototype_id", *STRUCTURE_COLUMNS)


def competing_phases(
    elements: tuple[str, ...],
    settings: ReferenceSettings,
    charges: Mapping[str, tuple[int, ...]] | None = None,
    library: PrototypeLibrary | None = None,
) -> pd.DataFrame:
    """Structures whose relaxation gives the reference hull: nothing but the Python packages is needed.

    Parameters
    ----------
    elements
        Every element of the campaign.
    settings
        ``max_elements`` of a phase, ``max_sites`` of its primitive cell, and which ``prototypes``.
    charges
        Oxidation states beside those of the table of ions. All of them are placed, also those that a campaign does not
        place by default: what it leaves out competes all the same.
    library
        Prototypes of the campaign; used, and needed, with ``prototypes: campaign`` alone.

    Returns
    -------
    DataFrame
        ``candidate_id, formula_pretty, chemsys, nsites, prototype_id`` and the structure columns: each element in the
        common elemental structures at the volume of the pure substance (molar volume at room temperature), each
        charge-neutral element-wise substitution of the AFLOW prototypes, at the volume rescaled by its bonds, and
        with ``prototypes: campaign`` isovalent ones of the campaign's prototypes: known crystals, and others that are
        probable (`LEAST_PROBABILITY`); all respect the order of electronegativities and change no radius by more than
        `LARGEST_RADIUS_MISMATCH`. Of each composition `MOST_POLYMORPHS` are taken, known ones first, then those that
        change radii least. The campaign's own gates do not apply. One row for each ``candidate_id``.

    Raises
    ------
    ValueError
        When an element is in no table of ions, or the library is needed and missing.
    """
    import pandas as pd

    if settings.prototypes == "campaign" and library is None:
        raise ValueError("reference.prototypes is 'campaign', but no prototype library was given; pass the campaign's")
    symbols = tuple(dict.fromkeys(elements))
    parts = [_elements(symbols, settings.max_sites)]
    if settings.max_elements > 1:
        placed = {e: tuple(sorted({*oxidation_states(e), *(charges or {}).get(e, ())})) for e in symbols}
        parts.append(_aflow_compounds(settings, placed))
        if settings.prototypes == "campaign" and library is not None:
            parts.append(_own_compounds(settings, placed, library))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)].drop_duplicates("candidate_id", ignore_index=True)


def _aflow_compounds(settings: ReferenceSettings, charges: dict[str, tuple[int, ...]]) -> pd.DataFrame:
    from pipeline.stages.candidates import with_structures

    prototypes = PrototypeSettings(source="aflow", max_sites=settings.max_sites, max_elements=settings.max_elements)
    wanted = CandidateSettings(
        prototypes=prototypes,
        elements=tuple(charges),
        charges=charges,
        substitution="charge_neutral",
        by="element",
        max_elements=settings.max_elements,
        gates=CandidateGates(mobile_ion_fraction=None, require_mobile_ion=False),
    )
    library = build_library(prototypes)
    return with_structures(_substitutions(wanted, library), library)


def _own_compounds(
    settings: ReferenceSettings, charges: dict[str, tuple[int, ...]], library: PrototypeLibrary
) -> pd.DataFrame:
    """Isovalent substitutions of the small prototypes of a campaign, few of each composition."""
    from pipeline.stages.candidates import with_structures

    small = tuple(p for p in library if p.n_sites <= settings.max_sites and 1 < p.n_classes <= settings.max_elements)
    wanted = CandidateSettings(
        prototypes=PrototypeSettings(source="aflow"),  # where the prototypes came from changes no substitution
        elements=tuple(charges),
        charges=charges,
        substitution="isovalent",
        by="element",
        max_elements=settings.max_elements,
        gates=CandidateGates(
            mobile_ion_fraction=None, require_mobile_ion=False, radius_mismatch=LARGEST_RADIUS_MISMATCH
        ),
    )
    rows = _substitutions(wanted, replace(library, prototypes=small)).drop_duplicates("candidate_id")
    believed = rows[rows["is_parent"] | (rows["substitution_probability"] >= LEAST_PROBABILITY)]
    order = believed.assign(unknown=~believed["is_parent"]).sort_values(
        ["unknown", "radius_mismatch", "nsites", "candidate_id"]
    )
    return with_structures(order.groupby("formula_pretty").head(MOST_POLYMORPHS).sort_index(), library)


def _substitutions(wanted: CandidateSettings, library: PrototypeLibrary) -> pd.DataFrame:
    import pandas as pd

    from pipeline.stages.candidates import empty_table, enumerate_unit, plan_units

    tables = [enumerate_unit(unit, wanted, library, ())[0] for unit in plan_units(wanted, library)]
    return pd.concat(tables, ignore_index=True) if tables else empty_table()


def _elements(elements: tuple[str, ...], max_sites: int) -> pd.DataFrame:
    import pandas as pd
    from pymatgen.core import Element

    metals, nonmetals = _elemental_prototypes(METALS, max_sites), _elemental_prototypes(NONMETALS, max_sites)
    rows: list[dict[str, Any]] = []
    for symbol in elements:
        own = metals if Element(symbol).is_metal else nonmetals
        rows.extend(_element_row(symbol, prototype) for prototype in own)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _elemental_prototypes(names: tuple[str, ...], max_sites: int) -> list[Prototype]:
    """Prototypes of one element by Strukturbericht symbol or mineral name, in the order of ``names``."""
    found: dict[str, Prototype] = {}
    for item in from_aflow():
        if isinstance(item, LeftOut):
            continue
        name = next((n for n in item.names if n in names), None)
        if name is None or name in found or len(set(item.elements)) != 1:
            continue
        crystal = standardise(item.lattice, item.frac_coords, item.elements, {}, {})
        if len(crystal.site_orbit) <= max_sites:
            found[name] = make_prototype((item, crystal), [(item, crystal)])
    return [found[n] for n in names if n in found]


def _element_row(symbol: str, prototype: Prototype) -> dict[str, Any]:
    from pymatgen.core import Element

    from pipeline.stages.candidate_rows import candidate_id, formulas

    element = Element(symbol)
    (pretty,), (plain,), (chemsys,) = formulas(np.array([[element.Z]]), np.array([prototype.n_sites]))
    wanted = atomic_volume(symbol) * prototype.n_sites
    scale = (wanted / abs(float(np.linalg.det(prototype.lattice)))) ** (1 / 3)
    return {
        "candidate_id": candidate_id(plain, prototype.prototype_id, (int(element.Z),) * len(prototype.orbit_elements)),
        "formula_pretty": pretty,
        "chemsys": chemsys,
        "nsites": prototype.n_sites,
        "prototype_id": prototype.prototype_id,
        "lattice": [float(v) for v in (prototype.lattice * scale).reshape(-1)],
        "atomic_numbers": [int(element.Z)] * prototype.n_sites,
        "frac_coords": [float(v) for v in prototype.frac_coords.reshape(-1)],
        "oxidation_states": [],
    }


def atomic_volume(symbol: str) -> float:
    """Å3 an atom of the pure substance, from pymatgen's molar volumes; from the atomic radius where there is none.

    Raises
    ------
    ValueError
        When pymatgen knows neither.
    """
    from pymatgen.core import Element

    element = Element(symbol)
    try:
        return float(element.molar_volume) * CUBIC_CENTIMETRES_PER_MOLE
    except (TypeError, ValueError):
        radius = element.atomic_radius
        if radius is None:
            raise ValueError(
                f"element {symbol!r} has neither a molar volume nor an atomic radius in pymatgen"
            ) from None
        # spheres of a close packing fill 74 % of space
        return float(4 / 3 * np.pi * float(radius) ** 3 / 0.74)
