"""MP2020 energy corrections of a crystal (Wang et al., Sci. Rep. 2021, 11, 15496), by pymatgen."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.reference.formulas import structure_formula

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Compositions above this many atoms are not searched for oxidation states: the Materials Project's own limit.
_GUESS_SITES = -20


@dataclass(frozen=True)
class Correction:
    """One MP2020 correction of a structure.

    Attributes
    ----------
    label
        ``oxide``, ``peroxide``, ``superoxide``, ``ozonide``, an anion such as ``Cl``, or ``U:Fe`` for GGA/GGA+U mixing.
    n_atoms
        Atoms it applies to.
    energy
        eV for the whole cell.
    """

    label: str
    n_atoms: float
    energy: float


def mp2020_corrections(structure: Structure, **kinds: str) -> tuple[Correction, ...]:
    """MP2020 corrections of a structure computed as the Materials Project does (GGA, or GGA+U where it uses U).

    Anions are told by the structure's oxidation states if every site has one, else by pymatgen's guess from the
    composition, and failing that by electronegativity. Peroxides and superoxides are told by the O-O distances.

    Parameters
    ----------
    structure
        Ordered crystal.
    **kinds
        ``oxide_type`` or ``sulfide_type`` in pymatgen's words, instead of what the distances say.

    Raises
    ------
    ValueError
        From pymatgen, when the structure can't be treated.
    """
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    scheme = _compatibility()
    bare = structure.copy()
    bare.remove_oxidation_states()
    formula = structure_formula(bare)
    if "S" in bare.symbol_set and not _takes_electrons_from_sulfur(bare):
        # Sulfides and polysulfides are corrected alike; telling them apart costs pymatgen a search for symmetry.
        kinds = {"sulfide_type": "sulfide", **kinds}
    hubbards = _hubbards(bare)
    entry = ComputedStructureEntry(
        bare,
        0.0,
        parameters={"run_type": "GGA+U" if hubbards else "GGA", "hubbards": hubbards, "software": "surrogate"},
        data={"oxidation_states": _oxidation_states(structure) or _guessed_oxidation_states(formula), **kinds},
        entry_id=formula,
    )
    with warnings.catch_warnings():
        # pymatgen announces a composition without sensible oxidation states, and noble gases without
        # electronegativity; both are handled above and in its fallback.
        warnings.simplefilter("ignore")
        adjustments = scheme.get_adjustments(entry)
    return tuple(Correction(_label(a.name), float(a.n_atoms), float(a.value)) for a in adjustments)


def spare_mp2020_correction(structure: Structure) -> float:
    """By how much (eV for the cell) the sum of corrections may still fall as these atoms move.

    Only what distances decide can change: a peroxide may become an oxide, which is corrected by more, and sulfur may
    leave the oxygen or halogen about it. Sulfur with a positive oxidation state stays what it is.
    """
    kinds = {}
    if "O" in structure.symbol_set:
        kinds["oxide_type"] = "oxide"
    sulfates = "S" in structure.symbol_set and _takes_electrons_from_sulfur(structure)
    if sulfates and _oxidation_states(structure).get("S", -2.0) <= 0.0:
        kinds["sulfide_type"] = "sulfide"
    if not kinds:
        return 0.0
    now, then = mp2020_corrections(structure), mp2020_corrections(structure, **kinds)
    return max(0.0, sum(c.energy for c in now) - sum(c.energy for c in then))


def _takes_electrons_from_sulfur(structure: Structure) -> bool:
    of_sulfur = 2.58  # Pauling's electronegativity, which pymatgen's search for sulfates compares with
    return bool(max(site.specie.X for site in structure) > of_sulfur)


@lru_cache(maxsize=1)
def _compatibility() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

        # No POTCAR stands behind a surrogate's energy.
        return MaterialsProject2020Compatibility(check_potcar=False)


def _hubbards(structure: Structure) -> dict[str, float]:
    """U values (eV) that the Materials Project uses here: by metal, where O or F is the most electronegative."""
    elements = structure.composition.elements
    if len(elements) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anion = max(elements, key=lambda e: e.X if np.isfinite(e.X) else -1.0).symbol
    table = _compatibility().u_settings.get(anion, {})
    return {e.symbol: float(table[e.symbol]) for e in elements if table.get(e.symbol)}


def _oxidation_states(structure: Structure) -> dict[str, float]:
    """Mean oxidation state of each element; empty unless every site has one."""
    states: dict[str, list[float]] = {}
    for site in structure:
        state = getattr(site.specie, "oxi_state", None)
        if state is None:
            return {}
        states.setdefault(site.specie.symbol, []).append(float(state))
    return {symbol: float(np.mean(values)) for symbol, values in states.items()}


@lru_cache(maxsize=65536)
def _guessed_oxidation_states(formula: str) -> dict[str, float]:
    """Give pymatgen's first guess from the composition; empty when there is none, as in the Materials Project's use."""
    from pymatgen.core import Composition

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            guesses = Composition(formula).oxi_state_guesses(max_sites=_GUESS_SITES)
        except ValueError:
            # Raised for compositions too large to search: pymatgen's scheme then goes by electronegativity.
            return {}
    return dict(guesses[0]) if guesses else {}


def _label(name: str) -> str:
    """``MP2020 anion correction (Cl)`` to ``Cl``; ``MP2020 GGA/GGA+U mixing correction (Fe)`` to ``U:Fe``."""
    inside = name[name.rindex("(") + 1 : name.rindex(")")]
    return f"U:{inside}" if "mixing" in name else inside
