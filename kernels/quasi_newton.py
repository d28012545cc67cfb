"""Limited-memory BFGS over a dense model Hessian, for many systems of different sizes in one flat workspace.

Each system owns a block of the workspace: the Cholesky factor of its model Hessian, and a ring of the latest steps and
changes of gradient. The inverse Hessian is that of Nocedal and Wright, Numerical Optimization, 2nd ed. 2006, algorithm
7.4, with the model's inverse in the middle, scaled to the latest change of gradient (their Eq. 7.20).
"""

import math

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MEMORY = 50
"""Pairs that are remembered; most crystals converge within fewer steps, so nothing is forgotten."""

LEAST_CURVATURE = 1e-4
"""Cosine between step and change of gradient below which the pair would spoil a positive Hessian: it is left out."""


def block_size(variables: IntArray) -> IntArray:
    """Numbers that systems of so many variables take in the workspace."""
    sizes: IntArray = variables * variables + 2 * MEMORY * variables
    return sizes


@jit
def _dot(a: FloatArray, b: FloatArray) -> float:
    """Sum of products in order: BLAS may sum otherwise at another address, and results must not depend on the place."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@jit
def factorise(matrix: FloatArray) -> bool:
    """Replace a positive definite matrix (n, n) by its lower Cholesky factor; False if it is not positive definite."""
    n = len(matrix)
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i > j:
                matrix[i, j] = total / matrix[j, j]
            elif total > 0.0:
                matrix[i, i] = math.sqrt(total)
            else:
                return False
    return True


@jit
def solve(factor: FloatArray, vector: FloatArray) -> None:
    """Solve L L^T x = vector in place, with the lower factor (n, n)."""
    n = len(vector)
    for i in range(n):
        total = vector[i]
        for k in range(i):
            total -= factor[i, k] * vector[k]
        vector[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        vector[i] /= factor[i, i]
        value = vector[i]
        for k in range(i):
            vector[k] -= factor[i, k] * value


@jit
def remember(
    factor: FloatArray, steps: FloatArray, changes: FloatArray, stored: int, step: FloatArray, change: FloatArray
) -> tuple[int, float]:
    """Put a pair into the ring of (m, n) steps and changes, unless its curvature is not positive.

    Returns
    -------
    stored, scale
        Pairs ever stored, and the factor on the inverse of the model Hessian (0: unchanged).
    """
    curvature = _dot(step, change)
    if not curvature > LEAST_CURVATURE * math.sqrt(_dot(step, step) * _dot(change, change)):
        return stored, 0.0
    place = stored % len(steps)
    steps[place] = step
    changes[place] = change
    preconditioned = change.copy()
    solve(factor, preconditioned)
    return stored + 1, curvature / _dot(change, preconditioned)


@jit
def direction(
    factor: FloatArray, steps: FloatArray, changes: FloatArray, stored: int, scale: float, gradient: FloatArray
) -> FloatArray:
    """(n,) inverse Hessian times gradient."""
    memory = len(steps)
    held = min(stored, memory)
    weights = np.empty(held)
    out = gradient.copy()
    for age in range(held):
        place = (stored - 1 - age) % memory
        step, change = steps[place], changes[place]
        weights[age] = _dot(step, out) / _dot(step, change)
        for a in range(len(out)):
            out[a] -= weights[age] * change[a]
    solve(factor, out)
    for a in range(len(out)):
        out[a] *= scale
    for age in range(held - 1, -1, -1):
        place = (stored - 1 - age) % memory
        step, change = steps[place], changes[place]
        missing = weights[age] - _dot(change, out) / _dot(step, change)
        for a in range(len(out)):
            out[a] += missing * step[a]
    return out


@jit
def parts(workspace: FloatArray, start: int, n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Views of a block: factor (n, n), steps and changes (m, n)."""
    square, ring = n * n, MEMORY * n
    factor = workspace[start : start + square].reshape((n, n))
    steps = workspace[start + square : start + square + ring].reshape((MEMORY, n))
    changes = workspace[start + square + ring : start + square + 2 * ring].reshape((MEMORY, n))
    return factor, steps, changes


@jit
def move_blocks(old: FloatArray, starts: IntArray, lengths: IntArray, new: FloatArray) -> None:
    """Copy blocks to the front of another workspace, one after the other; ``starts`` are overwritten."""
    place = 0
    for b in range(len(starts)):
        new[place : place + lengths[b]] = old[starts[b] : starts[b] + lengths[b]]
        starts[b] = place
        place += lengths[b]


@jit
def propose(
    chosen: BoolArray,
    starts: IntArray,
    firsts: IntArray,
    sizes: IntArray,
    workspace: FloatArray,
    stored: IntArray,
    scale: FloatArray,
    steps: FloatArray,
    changes: FloatArray,
    gradients: FloatArray,
    out: FloatArray,
) -> None:
    """Remember the latest pair of each chosen system, then write the inverse Hessian times its gradient to ``out``.

    Parameters
    ----------
    chosen : (B,) bool
        Systems to look at; the others keep everything.
    starts, firsts, sizes : (B,) int64
        Where a system's block begins in the workspace, where it begins in the flat vectors, and its variables.
    workspace : (W,) float64
        All blocks.
    stored, scale : (B,) int64, (B,) float64
        Pairs ever stored, -1 before the first gradient; factor on the inverse of the model. Written.
    steps, changes, gradients, out : (V,) float64
        Latest step, the change of gradient that it made, and gradients, system after system.
    """
    for b in range(len(chosen)):
        if not chosen[b]:
            continue
        first, last = firsts[b], firsts[b] + sizes[b]
        factor, old_steps, old_changes = parts(workspace, starts[b], sizes[b])
        if stored[b] < 0:
            stored[b], scale[b] = 0, 1.0
        else:
            stored[b], found = remember(
                factor, old_steps, old_changes, stored[b], steps[first:last], changes[first:last]
            )
            if found > 0.0:
                scale[b] = found
        out[first:last] = direction(factor, old_steps, old_changes, stored[b], scale[b], gradients[first:last])
        if not _dot(out[first:last], gradients[first:last]) > 0.0:
            # rounding has spoilt the memory: back to the model alone
            stored[b], scale[b] = 0, 1.0
            out[first:last] = gradients[first:last]
            solve(factor, out[first:last])
