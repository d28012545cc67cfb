"""Measures of assignments for cheap gates, and their compositions."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class MeasureTables(NamedTuple):
    """What the measures of one prototype look up; elements are the space's small integers, columns charge + 8.

    Attributes
    ----------
    multiplicity
        (slots,) atoms.
    old_ion
        (slots,) equal numbers where the prototype has the same ion.
    mobile
        (elements,) whether an element's cations are to move.
    electronegativity
        (elements,)
    mismatch
        (slots, elements, 17) what a new ion costs on a slot; NaN where it is unknown.
    probability
        (slots, elements, 17) of a new ion in place of the old one.
    """

    multiplicity: IntArray
    old_ion: IntArray
    mobile: BoolArray
    electronegativity: FloatArray
    mismatch: FloatArray
    probability: FloatArray


class Measures(NamedTuple):
    """``mobile_atoms`` (m,); ``ordered`` (m,) every cation less electronegative than every anion; ``mismatch`` (m,)
    largest over the slots, NaN when one is; ``probability`` (m,) product over different (old, new) pairs.
    """

    mobile_atoms: IntArray
    ordered: BoolArray
    mismatch: FloatArray
    probability: FloatArray


def measure_assignments(elements: IntArray, charges: IntArray, tables: MeasureTables) -> Measures:
    """Measures of (m, slots) elements and charges."""
    m = len(elements)
    out = Measures(np.empty(m, np.int64), np.empty(m, np.bool_), np.empty(m), np.empty(m))
    _measure(elements, charges, tables, out)
    return out


def compositions(elements: IntArray, multiplicity: IntArray, rank: IntArray) -> tuple[IntArray, IntArray]:
    """Reduced compositions of assignments.

    Parameters
    ----------
    elements : (m, slots) int
    multiplicity : (slots,) int
    rank : (elements,) int
        Order in which the elements of a row are given.

    Returns
    -------
    elements, amounts : (m, k) int64
        In order of rank, padded with -1 and 0; amounts divided by their greatest common divisor. ``k`` is the
        largest number of elements of a row.
    """
    shape = elements.shape
    found, amounts = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    widest = int(_compositions(elements, multiplicity, rank, found, amounts)) if len(elements) else 0
    return found[:, :widest], amounts[:, :widest]


@jit
def _measure(elements: IntArray, charges: IntArray, tables: MeasureTables, out: Measures) -> None:
    n = elements.shape[1]
    for row in range(elements.shape[0]):
        atoms = 0
        highest_cation, lowest_anion = -np.inf, np.inf
        worst = 0.0
        likely = 1.0
        for s in range(n):
            e, q = elements[row, s], charges[row, s]
            if tables.mobile[e] and q >= 0:
                atoms += tables.multiplicity[s]
            chi = tables.electronegativity[e]
            if q > 0 and not chi <= highest_cation and highest_cation == highest_cation:
                highest_cation = chi  # also when it is NaN, which then stays
            if q < 0 and not chi >= lowest_anion and lowest_anion == lowest_anion:
                lowest_anion = chi
            cost = tables.mismatch[s, e, 8 + q]
            if not cost <= worst and worst == worst:
                worst = cost
            new = True
            for t in range(s):
                if tables.old_ion[t] == tables.old_ion[s] and elements[row, t] == e and charges[row, t] == q:
                    new = False
                    break
            if new:
                likely *= tables.probability[s, e, 8 + q]
        out.mobile_atoms[row] = atoms
        out.ordered[row] = highest_cation < lowest_anion
        out.mismatch[row] = worst
        out.probability[row] = likely


@jit
def _compositions(
    elements: IntArray, multiplicity: IntArray, rank: IntArray, found: IntArray, amounts: IntArray
) -> int:
    widest = 0
    for row in range(elements.shape[0]):
        count = 0
        for s in range(elements.shape[1]):
            e = elements[row, s]
            place = 0
            while place < count and rank[found[row, place]] < rank[e]:
                place += 1
            if place == count or found[row, place] != e:
                for k in range(count, place, -1):
                    found[row, k] = found[row, k - 1]
                    amounts[row, k] = amounts[row, k - 1]
                found[row, place] = e
                amounts[row, place] = 0
                count += 1
            amounts[row, place] += multiplicity[s]
        divisor = amounts[row, 0]
        for k in range(1, count):
            a, b = divisor, amounts[row, k]
            while b:
                a, b = b, a % b
            divisor = a
        for k in range(count):
            amounts[row, k] //= divisor
        widest = max(widest, count)
    return widest
