"""Cheap measures of candidates and the gates on them, for whole arrays of assignments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.enumeration import CHARGE_OFFSET
from pipeline.reference.ions import ion, ion_table, parse_ion
from pipeline.reference.prototypes import Prototype
from pipeline.settings import CandidateSettings

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

HIGHEST_Z = 104


@dataclass(frozen=True)
class IonTables:
    """``radius`` (Z, charge + 8) in Å, NaN when unknown, and Pauling ``electronegativity`` (Z,)."""

    radius: FloatArray
    electronegativity: FloatArray


@cache
def ion_tables(own_radii: tuple[tuple[str, float], ...] = ()) -> IonTables:
    """Radii and electronegativities, with the nearest-charge rule of :func:`pipeline.reference.ions.ion`.

    ``own_radii`` are ``candidates.radii`` as (label, Å), and override the table.
    """
    from pymatgen.core import Element

    radius = np.full((HIGHEST_Z, 2 * CHARGE_OFFSET + 1), np.nan)
    electronegativity = np.full(HIGHEST_Z, np.nan)
    for listed in ion_table():
        electronegativity[listed.atomic_number] = listed.electronegativity
        for charge in range(-CHARGE_OFFSET, CHARGE_OFFSET + 1):
            if charge:
                radius[listed.atomic_number, CHARGE_OFFSET + charge] = ion(listed.element, charge).radius
    for label, size in own_radii:
        element, charge = parse_ion(label)
        radius[int(Element(element).Z), CHARGE_OFFSET + charge] = size
    return IonTables(radius, electronegativity)


def measures(
    prototype: Prototype, elements: IntArray, charges: IntArray, mobile_ions: tuple[str, ...], tables: IonTables
) -> dict[str, npt.NDArray[Any]]:
    r"""Measures of assignments to one prototype.

    Parameters
    ----------
    elements, charges : (m, orbits) int
        Atomic numbers and charges (0: unknown).

    Returns
    -------
    dict
        ``mobile_atoms`` (m,) int, atoms of the mobile ions; an element counts where it is a cation, or where no
        charge is known. ``radius_mismatch`` (m,) largest \|ln(r_new/r_old)\| over the orbits, NaN when a radius
        is unknown. ``substitution_probability`` (m,) product over the different (old ion, new ion) pairs of Hautier's
        conditional probabilities.
    """
    from pymatgen.core import Element

    multiplicity = np.array(prototype.orbit_multiplicities, dtype=np.int64)
    mobile_numbers = [int(Element(e).Z) for e in mobile_ions]
    mobile_atoms = (np.isin(elements, mobile_numbers) & (charges >= 0)) @ multiplicity
    if not prototype.has_charges:
        unknown = np.full(len(elements), np.nan)
        return {"mobile_atoms": mobile_atoms, "radius_mismatch": unknown, "substitution_probability": unknown.copy()}
    old_numbers = np.array([int(Element(e).Z) for e in prototype.orbit_elements])
    old_charges = np.array(prototype.orbit_charges)
    old = tables.radius[old_numbers, CHARGE_OFFSET + old_charges]
    new = tables.radius[elements, CHARGE_OFFSET + charges]
    return {
        "mobile_atoms": mobile_atoms,
        "radius_mismatch": np.abs(np.log(new / old)).max(axis=1),
        "substitution_probability": _probabilities(old_numbers, old_charges, elements, charges),
    }


def _probabilities(old_numbers: IntArray, old_charges: IntArray, elements: IntArray, charges: IntArray) -> FloatArray:
    """(m,) products over the different (old, new) pairs of each row."""
    code = elements * 32 + charges + CHARGE_OFFSET
    old_code = old_numbers * 32 + old_charges + CHARGE_OFFSET
    out = np.ones(len(elements))
    for o in range(elements.shape[1]):
        repeated = np.zeros(len(elements), dtype=bool)
        for before in range(o):
            if old_code[before] == old_code[o]:
                repeated |= code[:, before] == code[:, o]
        kinds, inverse = np.unique(code[:, o], return_inverse=True)
        factors = np.array([pair_probability(_key(int(k)), _key(int(old_code[o]))) for k in kinds])
        out *= np.where(repeated, 1.0, factors[inverse]) if len(kinds) else 1.0
    return out


def _key(code: int) -> tuple[int, int]:
    return code // 32, code % 32 - CHARGE_OFFSET


@cache
def _lambda_table() -> tuple[dict[tuple[str, str], float], dict[str, float], int, float]:
    from pymatgen.core.structure_prediction.substitution_probability import SubstitutionProbability

    model = SubstitutionProbability()
    weights = {}
    for pair, value in model._l.items():
        names = sorted(str(s) for s in pair)
        weights[names[0], names[-1]] = float(value)
    return weights, {str(s): float(model._px[s]) for s in model.species}, len(model.species), float(model.alpha)


@cache
def pair_probability(new: tuple[int, int], old: tuple[int, int]) -> float:
    """Probability that ``new`` takes the place of ``old``, both (atomic number, charge).

    Hautier et al. (Inorg. Chem. 2011, 50, 656, eq. 8), with pymatgen's table of weights lambda. The table's rule for a
    pair that was never observed is lambda = -5; an ion that the table does not hold at all is treated alike: every
    pair with it has lambda = -5, so its marginal is the number of the table's ions times exp(-5).
    """
    from pymatgen.core import Element, Species

    names = [str(Species(Element.from_Z(z).symbol, q)) for z, q in (new, old)]
    weights, marginal, ions, alpha = _lambda_table()
    first, second = sorted(names)
    weight = weights.get((first, second), alpha)
    return math.exp(weight) / marginal.get(names[1], ions * math.exp(alpha))


def rejection_reasons(
    prototype: Prototype,
    elements: IntArray,
    charges: IntArray,
    measured: dict[str, npt.NDArray[Any]],
    settings: CandidateSettings,
    tables: IonTables,
) -> npt.NDArray[Any]:
    """(m,) the first gate that each candidate fails, or an empty string.

    The order is ``element_not_allowed`` (structures taken as they are), ``no_mobile_ion``, ``mobile_ion_fraction``,
    ``electronegativity_order``, ``radius_mismatch``, ``substitution_probability``. An unknown measure fails its gate.
    With ``substitution: none`` nothing is substituted and the last two gates do not apply.
    """
    gates = settings.gates
    reasons = np.full(len(elements), "", dtype=object)

    def reject(failed: npt.NDArray[np.bool_], reason: str) -> None:
        reasons[failed & (reasons == "")] = reason

    none = settings.substitution == "none"
    if none:
        reject(~_allowed(elements, settings), "element_not_allowed")
    atoms = measured["mobile_atoms"]
    if gates.require_mobile_ion:
        reject(atoms == 0, "no_mobile_ion")
    if gates.mobile_ion_fraction is not None:
        # compared as integers: 1 of 10 passes 0.10, which no binary number equals
        least = Fraction(repr(gates.mobile_ion_fraction))
        reject(atoms * least.denominator < least.numerator * prototype.n_sites, "mobile_ion_fraction")
    if gates.electronegativity_order and prototype.has_charges:
        chi = tables.electronegativity[elements]
        highest_cation = np.where(charges > 0, chi, -np.inf).max(axis=1)
        lowest_anion = np.where(charges < 0, chi, np.inf).min(axis=1)
        reject(~(highest_cation < lowest_anion), "electronegativity_order")
    if gates.radius_mismatch is not None and not none:
        reject(~(measured["radius_mismatch"] <= gates.radius_mismatch), "radius_mismatch")
    if gates.substitution_probability is not None and not none:
        reject(~(measured["substitution_probability"] >= gates.substitution_probability), "substitution_probability")
    return reasons


def _allowed(elements: IntArray, settings: CandidateSettings) -> npt.NDArray[np.bool_]:
    from pymatgen.core import Element

    excluded: set[str] = set(settings.exclude_elements)
    excluded |= {i.element for i in ion_table() if set(i.classes) & set(settings.exclude_classes)}
    bad = np.isin(elements, [int(Element(e).Z) for e in excluded]).any(axis=1)
    if settings.elements:
        bad |= ~np.isin(elements, [int(Element(e).Z) for e in settings.elements]).all(axis=1)
    return np.asarray(~bad, dtype=bool)
