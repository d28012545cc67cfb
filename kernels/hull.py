"""Lower hulls by a dense simplex method: many targets over one small set of points.

Every function solves the linear program

    minimise  sum_i x_i E_i   subject to   sum_i x_i p_i = t,  x_i >= 0

over m points p_i of n coordinates with costs E_i. The first n points must be the unit vectors (in a phase diagram:
the elements), so that any t >= 0 has a start. An optimal basis (n points) with its dual prices is a facet of the
lower hull: it is optimal for every target in its cone, not for one alone.

The revised simplex method with an explicit inverse (Dantzig and Orchard-Hays, Math. Tables Aids Comput. 1954, 8, 64;
Bland's rule, Math. Oper. Res. 1977, 2, 103, once progress stalls) suits n up to about ten and m up to thousands.
"""

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# A reduced cost above minus this is no gain; costs are eV/atom with five decimals at most.
GAIN = 1e-10
# Entries of a direction below this are no pivot; coordinates are ratios of small whole numbers.
PIVOT = 1e-10
# Amounts above minus this are inside a facet.
INSIDE = 1e-11
_DANTZIG_STEPS = 200
_MOST_STEPS = 20_000


@jit
def invert(points: FloatArray, basis: IntArray, inverse: FloatArray) -> bool:
    """Invert the matrix whose columns are the basis points, shape (n, n); False when it is singular."""
    n = basis.shape[0]
    matrix = np.empty((n, n))
    for k in range(n):
        for i in range(n):
            matrix[i, k] = points[basis[k], i]
            inverse[i, k] = 1.0 if i == k else 0.0
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(matrix[i, k]) > abs(matrix[best, k]):
                best = i
        if abs(matrix[best, k]) < PIVOT:
            return False
        for c in range(n):
            matrix[k, c], matrix[best, c] = matrix[best, c], matrix[k, c]
            inverse[k, c], inverse[best, c] = inverse[best, c], inverse[k, c]
        scale = matrix[k, k]
        for c in range(n):
            matrix[k, c] /= scale
            inverse[k, c] /= scale
        for i in range(n):
            factor = matrix[i, k]
            if i != k and factor != 0.0:
                for c in range(n):
                    matrix[i, c] -= factor * matrix[k, c]
                    inverse[i, c] -= factor * inverse[k, c]
    return True


@jit
def prices(costs: FloatArray, basis: IntArray, inverse: FloatArray, out: FloatArray) -> None:
    """Dual prices y of a basis, y . p_k = E_k for each of its points; shape (n,). In a hull: chemical potentials."""
    n = basis.shape[0]
    for i in range(n):
        total = 0.0
        for k in range(n):
            total += costs[basis[k]] * inverse[k, i]
        out[i] = total


@jit
def amounts_of(inverse: FloatArray, target: FloatArray, out: FloatArray) -> None:
    """Amounts x of the basis points that make up a target; shape (n,)."""
    n = target.shape[0]
    for k in range(n):
        total = 0.0
        for i in range(n):
            total += inverse[k, i] * target[i]
        out[k] = total


@jit
def exchange(
    points: FloatArray, entering: int, basis: IntArray, inverse: FloatArray, amounts: FloatArray, lowest_index: bool
) -> bool:
    """Bring a point into the basis in the place of the first that would become negative; False when there is none.

    Of equal candidates the one with the largest pivot leaves, or with ``lowest_index`` the one of lowest index.
    """
    n = basis.shape[0]
    direction = np.empty(n)
    row = -1
    step = np.inf
    for k in range(n):
        total = 0.0
        for i in range(n):
            total += inverse[k, i] * points[entering, i]
        direction[k] = total
        if total > PIVOT:
            ratio = max(amounts[k], 0.0) / total
            tied = row >= 0 and abs(ratio - step) <= 1e-14
            better = basis[k] < basis[row] if lowest_index else total > direction[row]
            if row < 0 or (tied and better) or (not tied and ratio < step):
                row = k
                step = ratio
    if row < 0:
        return False
    for i in range(n):
        inverse[row, i] /= direction[row]
    for k in range(n):
        if k != row:
            amounts[k] -= direction[k] * step
            for i in range(n):
                inverse[k, i] -= direction[k] * inverse[row, i]
    amounts[row] = step
    basis[row] = entering
    return True


@jit
def start_at_units(basis: IntArray, inverse: FloatArray) -> None:
    """Set the basis of the n unit vectors."""
    n = basis.shape[0]
    for k in range(n):
        basis[k] = k
        for i in range(n):
            inverse[k, i] = 1.0 if i == k else 0.0


@jit
def minimise(points: FloatArray, costs: FloatArray, target: FloatArray, basis: IntArray, inverse: FloatArray,
             amounts: FloatArray, potentials: FloatArray) -> bool:  # fmt: skip
    """Solve for one target, from the basis given (whose amounts must not be negative); all outputs in place.

    The last basis is inverted anew and checked once more, so that rounding of the exchanges leaves no trace. False
    when the number of steps runs out or a basis is singular.
    """
    m, n = points.shape
    amounts_of(inverse, target, amounts)
    fresh = False
    for step in range(_MOST_STEPS):
        prices(costs, basis, inverse, potentials)
        bland = step >= _DANTZIG_STEPS
        entering = -1
        best = -GAIN
        for j in range(m):
            reduced = costs[j]
            for i in range(n):
                reduced -= potentials[i] * points[j, i]
            if reduced < best:
                entering = j
                if bland:
                    break
                best = reduced
        if entering < 0:
            if fresh:
                return True
            if not invert(points, basis, inverse):
                return False
            amounts_of(inverse, target, amounts)
            fresh = True
            continue
        fresh = False
        if not exchange(points, entering, basis, inverse, amounts, bland):
            return False
    return False


@jit
def lower_hull(
    points: FloatArray, costs: FloatArray, targets: FloatArray, facets_kept: int
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Lowest mixture at each of many targets; facets that were met are tried first, by barycentric coordinates.

    Parameters
    ----------
    points
        Shape (m, n); the first n are the unit vectors.
    costs
        Shape (m,).
    targets
        Shape (k, n), none negative.
    facets_kept
        Facets remembered. A target in one of them costs a matrix product, any other a run of the simplex method.

    Returns
    -------
    basis : (k, n)
        Points of the facet over each target; -1 in the first place where the method failed.
    amounts : (k, n)
        Their amounts, not negative.
    potentials : (k, n)
        Dual prices of the facet.
    energies : (k,)
        Lowest costs; NaN where the method failed.
    """
    n = points.shape[1]
    k = targets.shape[0]
    bases = np.empty((k, n), dtype=np.int64)
    amounts = np.empty((k, n))
    potentials = np.empty((k, n))
    energies = np.empty(k)
    inverse = np.empty((n, n))
    kept_inverse = np.empty((max(facets_kept, 1), n, n))
    kept_from = np.empty(max(facets_kept, 1), dtype=np.int64)
    kept = 0
    for t in range(k):
        found = -1
        for f in range(kept):
            inside = True
            for i in range(n):
                total = 0.0
                for j in range(n):
                    total += kept_inverse[f, i, j] * targets[t, j]
                amounts[t, i] = total
                if total < -INSIDE:
                    inside = False
                    break
            if inside:
                found = kept_from[f]
                break
        if found >= 0:
            bases[t] = bases[found]
            potentials[t] = potentials[found]
        else:
            start_at_units(bases[t], inverse)
            if not minimise(points, costs, targets[t], bases[t], inverse, amounts[t], potentials[t]):
                bases[t, 0] = -1
                energies[t] = np.nan
                continue
            if kept < facets_kept:
                kept_inverse[kept] = inverse
                kept_from[kept] = t
                kept += 1
        total = 0.0
        for i in range(n):
            amounts[t, i] = max(amounts[t, i], 0.0)
            total += amounts[t, i] * costs[bases[t, i]]
        energies[t] = total
    return bases, amounts, potentials, energies


@jit
def gather_points(
    rows: IntArray, starts: IntArray, coordinates: IntArray, values: FloatArray, place: IntArray, n: int
) -> FloatArray:
    """Dense points (n + len(rows), n): the unit vectors, then some rows of a sparse table.

    Parameters
    ----------
    rows
        Rows of the table, shape (m,).
    starts
        Where each row of the table begins in ``coordinates`` and ``values``, and the end of the last.
    coordinates, values
        Coordinates that a row has, and their values.
    place
        Column of each coordinate in the result.
    """
    points = np.zeros((n + rows.shape[0], n))
    for i in range(n):
        points[i, i] = 1.0
    for i in range(rows.shape[0]):
        for entry in range(starts[rows[i]], starts[rows[i] + 1]):
            points[n + i, place[coordinates[entry]]] = values[entry]
    return points
