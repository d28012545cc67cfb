"""Energy of the mobile ion with one framework ion, by formula and by table."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

FloatArray = npt.NDArray[np.float64]

NEAREST_DISTANCE = 1e-3
"""Å. Grid points closer to an ion are treated as being at this distance, so that energies stay finite."""

ERFC_UNDERFLOW = 6.0
"""erfc(6) = 2e-17: beyond this argument a Coulomb term is below the sum's rounding error and is skipped."""

TABLE_START = 2.0
"""Å². Nearer pairs are few, and their energies steep: they are computed."""

TABLE_STEP = 1.0 / 24.0
"""Å². Polynomials of degree five over such steps hold TABLE_ERROR for all softBV pairs."""

TABLE_ERROR = 1e-11
"""Largest error of a tabulated energy, as a part of it, or of 1 eV where it is smaller."""

DEGREE = 5


class PairTables(NamedTuple):
    """Pair energies of each kind of ion against the squared distance.

    Attributes
    ----------
    kinds : (n, 5) float64
        d0, r_min, alpha, Coulomb prefactor, screening length.
    limits : (n,) float64
        Å, where the pair's energy ends; 0 for an ion that doesn't act.
    coefficients : (n, rows, 6) float64
        Of t, in a polynomial for the squared distance ``start + (row + t) step``, 0 <= t < 1.
    start, step : float
        Å².
    tabulated : (n,) bool
        Whether the table holds TABLE_ERROR; the kind is computed by formula otherwise.
    """

    kinds: FloatArray
    limits: FloatArray
    coefficients: FloatArray
    start: float
    step: float
    tabulated: npt.NDArray[np.bool_]


def pair_tables(kinds: FloatArray, cutoff: float) -> PairTables:
    """Tabulate the pair energies of each kind (n, 5) up to the cutoff (Å) and check them between the nodes.

    The polynomials interpolate at Chebyshev's nodes.
    """
    kinds = np.ascontiguousarray(kinds, dtype=np.float64)
    attracts, repels = kinds[:, 0] != 0.0, kinds[:, 3] != 0.0
    # without a Morse term nothing is left beyond the end of the screened Coulomb term
    ends = np.where(repels, np.minimum(cutoff, ERFC_UNDERFLOW * kinds[:, 4]), 0.0)
    limits = np.where(attracts, cutoff, ends)
    rows = max(1, math.ceil((cutoff * cutoff - TABLE_START) / TABLE_STEP) + 1)
    nodes = 0.5 - 0.5 * np.cos((np.arange(DEGREE + 1) + 0.5) * math.pi / (DEGREE + 1))
    inverse = np.linalg.inv(np.vander(nodes, increasing=True))
    starts = TABLE_START + TABLE_STEP * np.arange(rows)
    values = _energies_at(starts[:, None] + TABLE_STEP * nodes, kinds)
    tables = np.ascontiguousarray(values @ inverse.T)
    between = (np.concatenate([[0.0], nodes]) + np.concatenate([nodes, [1.0]])) / 2.0
    exact = _energies_at(starts[:, None] + TABLE_STEP * between, kinds)
    errors = np.abs(tables @ np.vander(between, DEGREE + 1, increasing=True).T - exact)
    tabulated: npt.NDArray[np.bool_] = np.all(errors <= TABLE_ERROR * np.maximum(1.0, np.abs(exact)), axis=(1, 2))
    return PairTables(kinds, limits, tables, TABLE_START, TABLE_STEP, tabulated)


@jit
def pair_energy(r2: float, kind: FloatArray) -> float:
    """Energy (eV) of a pair at the squared distance (Å²), its kind given as (d0, r_min, alpha, prefactor, length)."""
    r = max(math.sqrt(r2), NEAREST_DISTANCE)
    energy = 0.0
    if kind[0] != 0.0:
        bond = math.exp(kind[2] * (kind[1] - r))
        energy = 0.5 * kind[0] * (bond * bond - 2.0 * bond)
    if kind[3] != 0.0 and r < ERFC_UNDERFLOW * kind[4]:
        energy += kind[3] / r * math.erfc(r / kind[4])
    return energy


@jit
def _energies_at(r2: FloatArray, kinds: FloatArray) -> FloatArray:
    """Energies (kinds, rows, columns), eV, at squared distances (rows, columns)."""
    energies = np.empty((kinds.shape[0], r2.shape[0], r2.shape[1]))
    for kind in range(kinds.shape[0]):
        for row in range(r2.shape[0]):
            for column in range(r2.shape[1]):
                energies[kind, row, column] = pair_energy(r2[row, column], kinds[kind])
    return energies
