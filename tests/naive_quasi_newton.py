"""A quasi-Newton relaxation of one crystal in dense algebra, as slow and plain as possible, and crystals for it."""

import numpy as np
from pymatgen.core import Lattice, Structure

from kernels import spring_hessian
from kernels.neighbors import neighbor_list
from pipeline.surrogates.active import generalised_forces
from pipeline.surrogates.batch import CrystalBatch, batch_from_structures
from tests.morse import Morse

HALF = np.sqrt(0.5)
STRAINS = np.array(
    [
        [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 1]],
        [[0, 0, 0], [0, 0, HALF], [0, HALF, 0]],
        [[0, 0, HALF], [0, 0, 0], [HALF, 0, 0]],
        [[0, HALF, 0], [HALF, 0, 0], [0, 0, 0]],
    ]
)


def crystal(seed: int, scale: float = 1.0, n: int = 4) -> Structure:
    rng = np.random.default_rng(seed)
    matrix = np.eye(3) * 3.55 * scale + rng.normal(0.0, 0.15, (3, 3))
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])[:n]
    return Structure(Lattice(matrix), ["Na", "Cl", "Li", "Na"][:n], sites + rng.normal(0.0, 0.03, (n, 3)))


def naive_springs(batch: CrystalBatch) -> np.ndarray:
    """Model Hessian of one crystal, as a sum of C^T K C."""
    n = len(batch.positions)
    source, destination, vectors, *_ = neighbor_list(batch.positions, batch.cells, batch.counts, 6.0)
    r = np.linalg.norm(vectors, axis=1)
    nearest = np.array([r[source == i].min(initial=9.0) for i in range(n)])
    total = np.diag([spring_hessian.ANCHOR] * 3 * n + [spring_hessian.ANCHOR * n] * 6)
    for i, j, v, d in zip(source, destination, vectors, r, strict=True):
        k = spring_hessian.STIFFNESS * np.exp(-spring_hessian.DECAY * (d / (0.5 * (nearest[i] + nearest[j])) - 1.0))
        t = spring_hessian.TRANSVERSE
        spring = k * ((1.0 - t) * np.outer(v, v) / d**2 + t * np.eye(3))
        moves = np.zeros((3, 3 * n + 6))
        moves[:, 3 * i : 3 * i + 3] -= np.eye(3)
        moves[:, 3 * j : 3 * j + 3] += np.eye(3)
        moves[:, 3 * n :] = (STRAINS @ v).T
        total += 0.5 * moves.T @ spring @ moves
    return total


def inverse_bfgs(model: np.ndarray, pairs: list) -> np.ndarray:
    """Inverse Hessian of BFGS (Nocedal and Wright 2006, Eq. 6.17) from the scaled inverse of a model."""
    inverse = np.linalg.inv(model)
    if pairs:
        s, y = pairs[-1]
        inverse *= s @ y / (y @ inverse @ y)
    for s, y in pairs:
        left = np.eye(len(s)) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    return inverse


def naive_relaxation(structure: Structure, fmax: float, tolerance: float, relax_cell: bool) -> tuple[np.ndarray, int]:
    """One crystal, dense algebra, no safeguard but the longest step; where it ends, and after how many steps."""
    batch = batch_from_structures([structure])
    n = len(structure)
    size = 3 * n + 6 * relax_cell
    model = naive_springs(batch)[:size, :size]
    deformation, pairs, before = np.eye(3), [], None
    for steps in range(100):
        result = Morse().evaluate_batch(batch)
        forces, cell_forces, largest = generalised_forces(result, batch, relax_cell)
        gradient = np.concatenate(
            [-(forces @ deformation.T).ravel(), -n * np.einsum("kab,ab->k", STRAINS, cell_forces[0])]
        )[:size]
        if before is not None:
            pairs.append((before[0], gradient - before[1]))
        step = -inverse_bfgs(model, pairs) @ gradient
        if largest[0] <= fmax and -0.5 * step @ gradient <= tolerance * n:
            return batch.positions, steps
        moves, strain = step[: 3 * n].reshape(n, 3), np.zeros((3, 3))
        longest = np.linalg.norm(moves, axis=1).max()
        if relax_cell:
            longest = max(longest, 2.5 * np.linalg.norm(step[3 * n :]))
        step = step * min(1.0, 0.2 / longest)
        moves = step[: 3 * n].reshape(n, 3)
        if relax_cell:
            strain = np.einsum("k,kab->ab", step[3 * n :], STRAINS)
        w, v = np.linalg.eigh(strain)
        grow = v @ np.diag(np.exp(w)) @ v.T
        batch.positions = (batch.positions + moves @ deformation) @ grow
        batch.cells, deformation, before = batch.cells @ grow, deformation @ grow, (step, gradient)
    raise AssertionError("the naive relaxation did not end")
