"""Voltage profile and electrochemical window by the grand potential of the mobile ion's metal.

A solid in contact with a reservoir of M (Li metal, say) at chemical potential mu feels the voltage
V = -(mu - mu0) / (z e) against that metal (Ong, Wang, Kang and Ceder, Chem. Mater. 2008, 20, 1798; Zhu, He and Mo,
ACS Appl. Mater. Interfaces 2015, 7, 23685). With all other elements held, the phases in equilibrium are those of
lowest grand potential E - mu n_M, and their content of M can only fall as the voltage rises: a staircase. Where a
composition's own content lies on it is its window:

- reduction limit: the voltage below which the staircase lies higher, so that the composition takes up M;
- oxidation limit: the voltage above which it lies lower, so that the composition gives M off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.reference.formulas import CompositionKey, composition_key, named_amounts
from pipeline.reference.phase_system import AMOUNT_TOLERANCE, PhaseSystem, atom_fractions

if TYPE_CHECKING:
    from pipeline.reference.phases import PhaseReference

ION_CHARGES: Mapping[str, int] = MappingProxyType({"Li": 1, "Na": 1, "K": 1, "Mg": 2, "Ca": 2, "Zn": 2, "Al": 3})
"""Charge z of each mobile ion in V = -(mu - mu0)/(z e)."""

# Contents (ions an atom) that differ by less are equal.
_SAME_CONTENT = 1e-8


@dataclass(frozen=True)
class VoltageProfile:
    """What a composition turns into at every voltage from the ion's metal upwards, in s steps.

    Attributes
    ----------
    ion
        The mobile ion; voltages are against its metal.
    formula_content
        Ions in one formula unit of the composition itself.
    voltages
        V at which each step begins, shape (s,), from 0 upwards; the last step has no end.
    contents
        Ions in the phases of each step, per formula unit of the composition; falling.
    phases_of
        Gives the phases of a step by its number, with their atom fractions (sum 1, the metal of the reservoir not
        counted).
    """

    ion: str
    formula_content: float
    voltages: NDArray[np.float64]
    contents: NDArray[np.float64]
    phases_of: Callable[[int], dict[str, float]]

    @property
    def text(self) -> str:
        """Contents and, between them, the voltages at which they change: ``6 <0.62 V> 3 <4.26 V> 0``."""
        words = [f"{self.contents[0]:.4g}"]
        for voltage, content in zip(self.voltages[1:], self.contents[1:], strict=True):
            words += [f"<{voltage:.2f} V>", f"{content:.4g}"]
        return " ".join(words)


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
        is NaN. The metal itself is in equilibrium at 0 V alone.
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
    return window_of(voltage_profile(reference, formula, ion, formation_energy))


def window_of(profile: VoltageProfile) -> ElectrochemicalWindow:
    """Limits of the composition that a profile was made for."""
    own, contents = profile.formula_content, profile.contents
    tolerance = _SAME_CONTENT * max(contents[0], 1.0)
    at = int(np.argmax(contents <= own + tolerance))  # first step that holds no more than the composition
    gives_off = own > 0.0
    below = int(np.argmax(contents < own - tolerance)) if gives_off else 0  # first step that holds less
    return ElectrochemicalWindow(
        profile.ion,
        float(profile.voltages[at]),
        float(profile.voltages[below]) if gives_off else float("nan"),
        profile.phases_of(at - 1) if at else {},
        profile.phases_of(below) if gives_off else {},
    )


def voltage_profile(
    reference: PhaseReference, formula: str, ion: str = "Li", formation_energy: float | None = None
) -> VoltageProfile:
    """Phases in equilibrium and their content of the ion at every voltage against the ion's metal.

    Parameters
    ----------
    reference, formula, ion, formation_energy
        As `electrochemical_window`.

    Raises
    ------
    ValueError
        As `electrochemical_window`.
    RuntimeError
        When the simplex method fails, naming the chemical system.
    """
    from kernels.open_hull import reservoir_profile

    charge = ion_charge(ion)
    if formation_energy is not None and not np.isfinite(formation_energy):
        raise ValueError(f"formation energy of {formula} must be a finite number in eV/atom, got {formation_energy}")
    key = composition_key(formula)
    atoms = sum(amount for _, amount in key)
    if len(key) == 1 and key[0][0] == ion:
        return _profile_of_the_metal(ion)
    system, target = _system_with_candidate(reference, key, ion, formation_energy)
    metal = system.elements.index(ion)
    others = np.delete(np.arange(len(system.elements)), metal)
    # The metal itself is the reservoir, not a product.
    products = np.delete(np.arange(len(system.energies)), metal)
    potentials, contents, bases, amounts = reservoir_profile(
        np.ascontiguousarray(system.fractions[np.ix_(products, others)]),
        system.energies[products],
        np.ascontiguousarray(system.fractions[products, metal]),
        target[others],
    )
    if not len(potentials):
        raise RuntimeError(f"the simplex method found no voltage profile of {formula} in {'-'.join(system.elements)}")
    return VoltageProfile(
        ion,
        float(target[metal] * atoms),
        -potentials / charge + 0.0,
        contents * atoms,
        lambda step: _named(system, products[bases[step]], amounts[step]),
    )


def _profile_of_the_metal(ion: str) -> VoltageProfile:
    """The metal is given off at any voltage above its own."""
    return VoltageProfile(ion, 1.0, np.zeros(1), np.zeros(1), lambda step: {})


def _system_with_candidate(
    reference: PhaseReference, key: CompositionKey, ion: str, formation_energy: float | None
) -> tuple[PhaseSystem, NDArray[np.float64]]:
    system = reference.system([*(symbol for symbol, _ in key), ion])
    target = atom_fractions(key, system.elements)
    if formation_energy is not None and formation_energy < system.hull_energies(target[None, :])[0]:
        system = system.with_phase(key, formation_energy)
    return system, target


def _named(system: PhaseSystem, rows: NDArray[np.int64], amounts: NDArray[np.float64]) -> dict[str, float]:
    shares = amounts / amounts.sum()
    present = np.flatnonzero(shares > AMOUNT_TOLERANCE)
    return named_amounts((system.keys[rows[i]], shares[i]) for i in present)
