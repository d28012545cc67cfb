"""Electrochemical window by the grand potential of the mobile ion's metal.

A solid in contact with a reservoir of M (Li metal, say) at chemical potential mu feels the voltage
V = -(mu - mu0) / (z e) against that metal (Ong, Wang, Kang and Ceder, Chem. Mater. 2008, 20, 1798; Zhu, He and Mo,
ACS Appl. Mater. Interfaces 2015, 7, 23685). On the hull, the chemical potentials that hold a composition in
equilibrium are the optimal dual solutions mu of its linear program: n_i . mu <= E_i for every phase i, with equality
for the phases that are there. The window is the range of mu_M over them:

- reduction limit: the highest mu_M, above which the composition takes up M;
- oxidation limit: the lowest mu_M, below which it gives M off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.reference.formulas import composition_key, named_amounts

if TYPE_CHECKING:
    from pipeline.reference.phases import Assemblage, PhaseReference, PhaseSystem

ION_CHARGES: Mapping[str, int] = MappingProxyType({"Li": 1, "Na": 1, "K": 1, "Mg": 2, "Ca": 2, "Zn": 2, "Al": 3})
"""Charge z of each mobile ion in V = -(mu - mu0)/(z e)."""

# eV: the open system is looked at this far beyond a limit, above the solver's tolerance of 1e-7 eV/atom.
_BEYOND = 1e-5
_AMOUNT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ElectrochemicalWindow:
    """Voltages between which a composition is stable against uptake and release of an ion.

    Attributes
    ----------
    ion
        The mobile ion; voltages are against its metal.
    reduction_limit
        V; below it the composition takes up the ion. 0.0 when it is stable against the metal.
    oxidation_limit
        V; above it the composition gives the ion off. NaN when it holds none of the ion, so that nothing can
        be given off and the limit isn't defined.
    reduction_products, oxidation_products
        Phases that form just beyond each limit, with their atom fractions (sum 1, the metal of the reservoir not
        counted). Empty when nothing forms: stable against the metal, or no ion to give off.
    """

    ion: str
    reduction_limit: float
    oxidation_limit: float
    reduction_products: Mapping[str, float] = field(default_factory=dict)
    oxidation_products: Mapping[str, float] = field(default_factory=dict)


def ion_charge(ion: str) -> int:
    """Charge of a mobile ion.

    Raises
    ------
    ValueError
        When it is none of Li, Na, K, Mg, Ca, Zn, Al.
    """
    if ion not in ION_CHARGES:
        raise ValueError(f"no charge is known for mobile ion {ion!r}; it is one of {', '.join(ION_CHARGES)}")
    return ION_CHARGES[ion]


def electrochemical_window(
    reference: PhaseReference, formula: str, ion: str = "Li", formation_energy: float | None = None
) -> ElectrochemicalWindow:
    """Reduction and oxidation limit of a composition against the ion's metal.

    Parameters
    ----------
    reference
        Competing phases.
    formula
        The candidate's composition. It may lack the ion: then it can only take it up, and its oxidation limit
        is NaN.
    ion
        One of Li, Na, K, Mg, Ca, Zn, Al.
    formation_energy
        The candidate's, eV/atom, in the reference's scheme. Below the hull, the candidate is added to it; above
        it, or None, the limits are those of the phases stable at its composition (those that pymatgen's
        ``PhaseDiagram.get_element_profile`` gives).

    Raises
    ------
    ValueError
        For an unknown ion or element, an unreadable formula, or a formation energy that is no finite number.
    """
    charge = ion_charge(ion)
    if formation_energy is not None and not np.isfinite(formation_energy):
        raise ValueError(f"formation energy of {formula} must be a finite number in eV/atom, got {formation_energy}")
    system, target, found = _equilibrium(reference, formula, ion, formation_energy)
    metal = system.elements.index(ion)
    contains_ion = bool(target[metal] > 0.0)
    highest = min(_extreme_potential(system, found, metal, highest=True), 0.0)
    reduction_products: dict[str, float] = {}
    if highest < -_BEYOND:
        reduction_products = _open_products(system, target, metal, highest + _BEYOND)
    if not contains_ion:
        return ElectrochemicalWindow(ion, -highest / charge + 0.0, float("nan"), reduction_products)
    lowest = min(_extreme_potential(system, found, metal, highest=False), highest)
    return ElectrochemicalWindow(
        ion,
        -highest / charge + 0.0,
        -lowest / charge + 0.0,
        reduction_products,
        _open_products(system, target, metal, lowest - _BEYOND),
    )


def _equilibrium(
    reference: PhaseReference, formula: str, ion: str, formation_energy: float | None
) -> tuple[PhaseSystem, NDArray[np.float64], Assemblage]:
    from pipeline.reference.phases import atom_fractions, equilibrium

    key = composition_key(formula)
    system = reference.system([symbol for symbol, _ in key] + [ion])
    target = atom_fractions(key, system.elements)
    found = equilibrium(system, target)
    if formation_energy is not None and formation_energy < found.energy:
        system = system.with_phase(key, formation_energy)
        found = equilibrium(system, target)
    return system, target, found


def _extreme_potential(system: PhaseSystem, found: Assemblage, metal: int, *, highest: bool) -> float:
    """Largest or smallest mu_M (eV) among the chemical potentials that keep ``found`` in equilibrium."""
    from scipy.optimize import linprog

    objective = np.zeros(len(system.elements))
    objective[metal] = -1.0 if highest else 1.0
    others = np.setdiff1d(np.arange(len(system.keys)), found.phases)
    solution = linprog(
        objective,
        A_ub=system.fractions[others],
        b_ub=system.energies[others],
        A_eq=system.fractions[found.phases],
        b_eq=system.energies[found.phases],
        bounds=(None, None),
        method="highs-ds",
    )
    if solution.x is None:
        raise RuntimeError(f"HiGHS found no chemical potentials in {'-'.join(system.elements)}: {solution.message}")
    return float(solution.x[metal])


def _open_products(system: PhaseSystem, target: NDArray[np.float64], metal: int, potential: float) -> dict[str, float]:
    """Phases of lowest grand potential E - mu_M n_M at the composition of all other elements."""
    from scipy.optimize import linprog

    others = np.delete(np.arange(len(system.elements)), metal)
    # The metal itself is the reservoir, not a product.
    products = np.delete(np.arange(len(system.keys)), metal)
    solution = linprog(
        system.energies[products] - potential * system.fractions[products, metal],
        A_eq=system.fractions[np.ix_(products, others)].T,
        b_eq=target[others],
        bounds=(0, None),
        method="highs-ds",
    )
    if solution.x is None:
        raise RuntimeError(f"HiGHS found no products in {'-'.join(system.elements)}: {solution.message}")
    amounts = solution.x / solution.x.sum()
    present = np.flatnonzero(amounts > _AMOUNT_TOLERANCE)
    return named_amounts((system.keys[products[i]], amounts[i]) for i in present)
