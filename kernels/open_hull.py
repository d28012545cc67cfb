"""Lines through a lower hull: a reservoir whose price falls, and the reaction of two mixtures.

Both build on the simplex method of `kernels.hull`, whose conventions on points and costs hold here too.
"""

import numpy as np

from kernels._jit import jit
from kernels.hull import (
    GAIN,
    FloatArray,
    IntArray,
    amounts_of,
    exchange,
    invert,
    minimise,
    prices,
    start_at_units,
)

# Contents that differ by less are equal: a basis change without a step.
SAME = 1e-9
_MOST_STEPS = 20_000


@jit
def reservoir_profile(
    points: FloatArray, costs: FloatArray, contents: FloatArray, target: FloatArray
) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
    """Lowest mixtures in contact with a reservoir, from price 0 down to minus infinity.

    Minimises sum_i x_i (E_i - mu c_i) with sum_i x_i p_i = target for every mu <= 0 by the parametric simplex
    method (Gass and Saaty, Naval Res. Logist. Q. 1955, 2, 39). The content sum_i x_i c_i never rises as mu falls.

    Parameters
    ----------
    points
        Coordinates without the reservoir's, shape (m, n); the first n are the unit vectors.
    costs
        E, shape (m,).
    contents
        c: what a point takes from the reservoir, shape (m,), none negative.
    target
        Shape (n,), not negative.

    Returns
    -------
    prices : (s,)
        Upper end of each interval of mu with one content, falling; the first is 0. The last interval has no end.
    contents : (s,)
        Content in each interval, falling.
    bases : (s, n)
        Points of the mixture in each interval.
    amounts : (s, n)
        Their amounts. All arrays are empty when the method failed.
    """
    m, n = points.shape
    most = m + 8 * n + 8
    tops = np.empty(most)
    levels = np.empty(most)
    bases = np.empty((most, n), dtype=np.int64)
    amounts = np.empty((most, n))
    failed = np.empty(0), np.empty(0), np.empty((0, n), dtype=np.int64), np.empty((0, n))

    basis = np.empty(n, dtype=np.int64)
    inverse = np.empty((n, n))
    shares = np.empty(n)
    energy_prices = np.empty(n)
    content_prices = np.empty(n)
    start_at_units(basis, inverse)
    if not minimise(points, costs, target, basis, inverse, shares, energy_prices):
        return failed
    mu = 0.0
    found = 0
    for _ in range(_MOST_STEPS):
        level = 0.0
        for i in range(n):
            level += shares[i] * contents[basis[i]]
        if found == 0 or level < levels[found - 1] - SAME:
            if found and tops[found - 1] - mu <= GAIN:
                found -= 1  # an interval without length: several phases give way at one price
            if found == most:
                return failed
            tops[found] = mu
            levels[found] = level
            bases[found] = basis
            amounts[found] = shares
            found += 1
        prices(costs, basis, inverse, energy_prices)
        prices(contents, basis, inverse, content_prices)
        entering = -1
        nearest = -np.inf
        for j in range(m):
            alpha = costs[j]
            beta = contents[j]
            for i in range(n):
                alpha -= energy_prices[i] * points[j, i]
                beta -= content_prices[i] * points[j, i]
            if beta < -SAME and alpha / beta > nearest:
                nearest = alpha / beta
                entering = j
        if entering < 0:
            return tops[:found], levels[:found], bases[:found], amounts[:found]
        mu = min(mu, nearest)
        if not exchange(points, entering, basis, inverse, shares, False):
            return failed
        if not invert(points, basis, inverse):
            return failed
        amounts_of(inverse, target, shares)
    return failed


@jit
def lowest_mixture(
    points: FloatArray, costs: FloatArray, first: FloatArray, second: FloatArray, first_cost: float, second_cost: float
) -> tuple[float, float, IntArray, FloatArray]:
    """Share x of two mixtures at which the hull lies deepest below the straight line between their costs.

    Minimises h(x) = E(x a + (1 - x) b) - x E_a - (1 - x) E_b for 0 <= x <= 1. h is convex and piecewise linear, so
    the lines of two facets that bracket the minimum meet below it, and the next trial is where they meet.

    Parameters
    ----------
    points, costs
        As `kernels.hull.lower_hull`, shapes (m, n) and (m,).
    first, second
        The mixtures a and b, shape (n,).
    first_cost, second_cost
        E_a and E_b.

    Returns
    -------
    share : float
        x of the first mixture; NaN when the method failed.
    energy : float
        h there, never positive when E_a and E_b are on or above the hull.
    basis : (n,)
        Points of the mixture there.
    amounts : (n,)
        Their amounts.
    """
    n = points.shape[1]
    basis = np.empty(n, dtype=np.int64)
    amounts = np.empty(n)
    potentials = np.empty(n)
    inverse = np.empty((n, n))
    target = np.empty(n)

    best_share = np.nan
    best_energy = np.inf
    best_basis = np.empty(n, dtype=np.int64)
    best_amounts = np.empty(n)
    # tangent h >= offset + slope x of the facet at either end of the bracket
    left, right = 0.0, 1.0
    left_offset, left_slope, right_offset, right_slope = 0.0, 0.0, 0.0, 0.0
    trial = 0.0
    for step in range(_MOST_STEPS):
        for i in range(n):
            target[i] = trial * first[i] + (1.0 - trial) * second[i]
        start_at_units(basis, inverse)
        if not minimise(points, costs, target, basis, inverse, amounts, potentials):
            return np.nan, np.nan, basis, amounts
        offset = -second_cost
        slope = second_cost - first_cost
        for i in range(n):
            offset += potentials[i] * second[i]
            slope += potentials[i] * (first[i] - second[i])
        energy = offset + slope * trial
        if energy < best_energy - GAIN:
            best_share, best_energy = trial, energy
            best_basis[:] = basis
            best_amounts[:] = amounts
        if step == 0:
            left_offset, left_slope = offset, slope
            trial = 1.0
            continue
        if step == 1:
            right_offset, right_slope = offset, slope
        elif slope < 0.0:
            left, left_offset, left_slope = trial, offset, slope
        else:
            right, right_offset, right_slope = trial, offset, slope
        if left_slope >= 0.0 or right_slope <= 0.0:
            break  # the minimum is at an end
        trial = (right_offset - left_offset) / (left_slope - right_slope)
        bound = left_offset + left_slope * trial
        if bound > best_energy - GAIN or trial <= left or trial >= right:
            break
    return best_share, best_energy, best_basis, best_amounts
