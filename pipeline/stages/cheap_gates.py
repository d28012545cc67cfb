"""Cheap measures of candidates and the gates on them, for whole arrays of assignments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from kernels.assignment_measures import Measures, MeasureTables, measure_assignments
from kernels.assignment_space import CHARGE_OFFSET
from pipeline.candidate_settings import CandidateSettings
from pipeline.reference.formulas import atomic_number
from pipeline.reference.ions import ion, ion_table, parse_ion
from pipeline.reference.prototypes import Prototype

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
    radius = np.full((HIGHEST_Z, 2 * CHARGE_OFFSET + 1), np.nan)
    electronegativity = np.full(HIGHEST_Z, np.nan)
    for listed in ion_table():
        electronegativity[listed.atomic_number] = listed.electronegativity
        for charge in range(-CHARGE_OFFSET, CHARGE_OFFSET + 1):
            if charge:
                radius[listed.atomic_number, CHARGE_OFFSET + charge] = ion(listed.element, charge).radius
    for label, size in own_radii:
        element, charge = parse_ion(label)
        radius[atomic_number(element), CHARGE_OFFSET + charge] = size
    return IonTables(radius, electronegativity)


def measures(
    prototype: Prototype,
    slot_of: IntArray,
    elements: IntArray,
    charges: IntArray,
    mobile_ions: tuple[str, ...],
    placed: frozenset[int],
    own_radii: tuple[tuple[str, float], ...] = (),
) -> Measures:
    r"""Measures of assignments to one prototype.

    Parameters
    ----------
    slot_of : (orbits,) int
        Slot of each orbit; the orbits of a slot have one element.
    elements, charges : (m, slots) int
        Atomic numbers and charges (0: unknown).
    placed
        :func:`ion_code` of every ion that occurs in them.
    own_radii
        As :func:`ion_tables` takes them.

    Returns
    -------
    Measures
        ``mobile_atoms``: an element counts where it is a cation, or where no charge is known. ``mismatch``: largest
        \|ln(r_new/r_old)\| over the orbits, NaN when a radius is unknown. ``probability``: product over the
        different (old ion, new ion) pairs of Hautier's conditional probabilities; NaN without charges.
    """
    slots = slot_of.tolist()
    first = [slots.index(s) for s in range(max(slots) + 1)]
    old = [(atomic_number(prototype.orbit_elements[o]), prototype.orbit_charges[o]) for o in first]
    mismatch, probability = np.empty((2, len(old), HIGHEST_Z, 2 * CHARGE_OFFSET + 1))
    for slot, own in enumerate(old):
        mismatch[slot] = _mismatch(*own, own_radii) if prototype.has_charges else np.nan
        probability[slot] = _probabilities(own, placed) if prototype.has_charges else np.nan
    return measure_assignments(
        elements,
        charges,
        MeasureTables(
            multiplicity=np.bincount(slot_of, weights=prototype.orbit_multiplicities).astype(np.int64),
            old_ion=np.array([ion_code(z, q) for z, q in old], dtype=np.int64),
            mobile=_mobile(mobile_ions),
            electronegativity=ion_tables().electronegativity,
            mismatch=mismatch,
            probability=probability,
        ),
    )


@cache
def _mobile(mobile_ions: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """(Z,) whether an element's ions should move."""
    mobile = np.zeros(HIGHEST_Z, dtype=bool)
    mobile[[atomic_number(e) for e in mobile_ions]] = True
    return mobile


@cache
def _mismatch(number: int, charge: int, own_radii: tuple[tuple[str, float], ...]) -> FloatArray:
    r"""(Z, charge + 8) \|ln(r_new/r_old)\| of every ion in place of one; 0 for itself, also where it has no radius."""
    radius = ion_tables(own_radii).radius
    out = np.asarray(np.abs(np.log(radius / radius[number, CHARGE_OFFSET + charge])))
    out[number, CHARGE_OFFSET + charge] = 0.0
    return out


@lru_cache(maxsize=4096)
def _probabilities(old: tuple[int, int], placed: frozenset[int]) -> FloatArray:
    """(Z, charge + 8) probability of the placed ions (as codes) in place of one."""
    out = np.full((HIGHEST_Z, 2 * CHARGE_OFFSET + 1), np.nan)
    for code in placed:
        number, column = code // 32, code % 32
        out[number, column] = pair_probability((number, column - CHARGE_OFFSET), old)
    return out


def ion_code(number: int, charge: int) -> int:
    """One whole number for an atomic number and a charge."""
    return number * 32 + charge + CHARGE_OFFSET


@cache
def _lambda_table() -> tuple[dict[tuple[str, str], float], dict[str, float], int, float]:
    """Weights of pairs in alphabetical order, marginal of each ion, number of ions, weight of a pair without one."""
    from pymatgen.core.structure_prediction.substitution_probability import SubstitutionProbability

    model = SubstitutionProbability()
    alpha = float(model.alpha)
    weights = {}
    for pair, value in model._l.items():
        names = sorted(str(s) for s in pair)
        weights[names[0], names[-1]] = float(value)
    ions = sorted(str(s) for s in model.species)
    # pymatgen's own marginals are sums in the order of a set: their last digits change with the seed of its hash
    marginal = {a: math.fsum(math.exp(weights.get((min(a, b), max(a, b)), alpha)) for b in ions) for a in ions}
    return weights, marginal, len(ions), alpha


@cache
def _name(number: int, charge: int) -> str:
    """An ion as the table of weights names it."""
    from pymatgen.core import Element, Species

    return str(Species(Element.from_Z(number).symbol, charge))


def pair_probability(new: tuple[int, int], old: tuple[int, int]) -> float:
    """Probability that ``new`` takes the place of ``old``, both (atomic number, charge).

    Hautier et al. (Inorg. Chem. 2011, 50, 656, eq. 8), with pymatgen's table of weights lambda. The table's rule for a
    pair that was never observed is lambda = -5; an ion that the table does not hold at all is treated alike: every
    pair with it has lambda = -5, so its marginal is the number of the table's ions times exp(-5).
    """
    a, b = _name(*new), _name(*old)
    weights, marginal, ions, alpha = _lambda_table()
    weight = weights.get((a, b) if a <= b else (b, a), alpha)
    return math.exp(weight) / marginal.get(b, ions * math.exp(alpha))


REASONS = (
    "element_not_allowed",
    "no_mobile_ion",
    "mobile_ion_fraction",
    "electronegativity_order",
    "radius_mismatch",
    "substitution_probability",
    "require_one_of",
    "not_together",
)
"""Gates in the order in which they are asked; a candidate is counted under the first that it fails."""


def rejections(
    prototype: Prototype, elements: IntArray, measured: Measures, settings: CandidateSettings
) -> npt.NDArray[np.int8]:
    """(m,) place in :data:`REASONS` of the first gate that each candidate fails, or -1.

    ``element_not_allowed`` is asked of structures taken as they are. An unknown measure fails its gate. With
    ``substitution: none`` nothing is substituted, and radius and probability are not asked.
    """
    gates = settings.gates
    first = np.full(len(elements), -1, dtype=np.int8)

    def reject(failed: npt.NDArray[np.bool_], reason: str) -> None:
        first[failed & (first < 0)] = REASONS.index(reason)

    none = settings.substitution == "none"
    if none:
        reject(~_allowed(elements, settings), "element_not_allowed")
    atoms = measured.mobile_atoms
    if gates.require_mobile_ion:
        reject(atoms == 0, "no_mobile_ion")
    if gates.mobile_ion_fraction is not None:
        # compared as integers: 1 of 10 passes 0.10, which no binary number equals
        least = Fraction(repr(gates.mobile_ion_fraction))
        reject(atoms * least.denominator < least.numerator * prototype.n_sites, "mobile_ion_fraction")
    if gates.electronegativity_order and prototype.has_charges:
        reject(~measured.ordered, "electronegativity_order")
    if gates.radius_mismatch is not None and not none:
        reject(~(measured.mismatch <= gates.radius_mismatch), "radius_mismatch")
    if gates.substitution_probability is not None and not none:
        reject(~(measured.probability >= gates.substitution_probability), "substitution_probability")
    for group in gates.require_one_of:
        reject(~np.any(_holds(elements, group), axis=1), "require_one_of")
    for group in gates.not_together:
        all_of_them = np.ones(len(elements), dtype=bool)
        for element in group:
            all_of_them &= np.any(_holds(elements, (element,)), axis=1)
        reject(all_of_them, "not_together")
    return first


def _holds(elements: IntArray, group: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    return np.isin(elements, [atomic_number(e) for e in group])


def _allowed(elements: IntArray, settings: CandidateSettings) -> npt.NDArray[np.bool_]:

    excluded: set[str] = set(settings.exclude_elements)
    excluded |= {i.element for i in ion_table() if set(i.classes) & set(settings.exclude_classes)}
    bad = np.isin(elements, [atomic_number(e) for e in excluded]).any(axis=1)
    if settings.elements:
        bad |= ~np.isin(elements, [atomic_number(e) for e in settings.elements]).all(axis=1)
    return np.asarray(~bad, dtype=bool)
