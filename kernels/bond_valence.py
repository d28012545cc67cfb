"""Bond-valence site energy of a mobile ion on a periodic grid: Morse and screened Coulomb terms."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

FloatArray = npt.NDArray[np.float64]

COULOMB_CONSTANT = 14.4
"""e²/(4 pi epsilon_0) in eV Å, rounded as softBV rounds it (14.39964 exactly)."""

NEAREST_DISTANCE = 1e-3
"""Å. Grid points closer to an ion are treated as being at this distance, so that energies stay finite."""

ERFC_UNDERFLOW = 6.0
"""erfc(6) = 2e-17: beyond this argument a Coulomb term is below the sum's rounding error and is skipped."""


def site_energy_grid(
    lattice: FloatArray,
    shape: tuple[int, int, int],
    frac_coords: FloatArray,
    weights: FloatArray,
    morse: FloatArray,
    coulomb: FloatArray,
    cutoff: float,
    threads: int = 1,
) -> FloatArray:
    """Site energy of a mobile ion at every point of a grid, with all framework ions nearer than the cutoff.

    An ion attracts with ``d0/2 ((exp(alpha (r_min - r)) - 1)² - 1)`` or repels with
    ``prefactor/r erfc(r/screening_length)`` (the softBV site energy of Chen, Wong and Adams, Acta Cryst. B
    2019, 75, 18), or both or neither, by which of its parameters are non-zero. Its weight multiplies both.

    Parameters
    ----------
    lattice : (3, 3) float64
        Rows are the lattice vectors, Å.
    shape : (n1, n2, n3)
        Point (i, j, k) lies at the fractional coordinates (i/n1, j/n2, k/n3).
    frac_coords : (n, 3) float64
        Framework ions, fractional, in any cell.
    weights : (n,) float64
        Occupancies.
    morse : (n, 3) float64
        d0 (eV), r_min (Å) and alpha (1/Å) of each ion; d0 = 0 where it doesn't attract.
    coulomb : (n, 2) float64
        Prefactor (eV Å) and screening length (Å) of each ion; prefactor = 0 where it doesn't repel.
    cutoff : float
        Å; ions at this distance and beyond don't count.
    threads : int
        Threads that share the grid's planes. The result doesn't depend on it.

    Returns
    -------
    (n1, n2, n3) float64
        Energies, eV.

    Raises
    ------
    ValueError
        When a shape is wrong, a number isn't finite, the cell has no volume, or the cutoff isn't positive.
    """
    lattice = np.ascontiguousarray(lattice, dtype=np.float64)
    frac_coords = np.ascontiguousarray(frac_coords, dtype=np.float64).reshape(-1, 3)
    n_ions = len(frac_coords)
    arrays = {
        "lattice": (lattice, (3, 3)),
        "frac_coords": (frac_coords, (n_ions, 3)),
        "weights": (np.ascontiguousarray(weights, dtype=np.float64), (n_ions,)),
        "morse": (np.ascontiguousarray(morse, dtype=np.float64), (n_ions, 3)),
        "coulomb": (np.ascontiguousarray(coulomb, dtype=np.float64), (n_ions, 2)),
    }
    for name, (array, expected) in arrays.items():
        if array.shape != expected:
            raise ValueError(f"{name} must have the shape {expected}, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds a number that isn't finite: {array[~np.isfinite(array)][0]}")
    if abs(np.linalg.det(lattice)) < 1e-6:
        raise ValueError(f"lattice has no volume: {lattice.tolist()}")
    if min(shape) < 1:
        raise ValueError(f"shape must be three positive integers, got {shape}")
    if not (math.isfinite(cutoff) and cutoff > 0.0):
        raise ValueError(f"cutoff must be a positive length in Å, got {cutoff}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")

    energies = np.zeros(shape, dtype=np.float64)
    ions = (frac_coords % 1.0, arrays["weights"][0], arrays["morse"][0], arrays["coulomb"][0])
    reach = cutoff * np.linalg.norm(np.linalg.inv(lattice), axis=0)
    bounds = np.linspace(0, shape[0], min(threads, shape[0]) + 1).astype(np.int64)

    def add(block: int) -> None:
        _add_planes(energies, bounds[block], bounds[block + 1], lattice, *ions, cutoff, reach)

    if threads == 1:
        add(0)
    else:
        with ThreadPoolExecutor(max_workers=threads) as pool:
            list(pool.map(add, range(len(bounds) - 1)))
    return energies


@jit
def _add_planes(
    energies: FloatArray,
    first: int,
    last: int,
    lattice: FloatArray,
    frac_coords: FloatArray,
    weights: FloatArray,
    morse: FloatArray,
    coulomb: FloatArray,
    cutoff: float,
    reach: FloatArray,
) -> None:
    """Add all ions' energies to the planes [first, last) of the grid.

    For each ion the grid lines along the third axis that pierce its cutoff sphere are walked from where they
    enter to where they leave it, in unwrapped indices; ``reach`` holds the sphere's half-widths in fractional
    coordinates. Each point's sum has the same order however the planes are shared out.
    """
    n1, n2, n3 = energies.shape
    cutoff2 = cutoff * cutoff
    step_x, step_y, step_z = lattice[2, 0] / n3, lattice[2, 1] / n3, lattice[2, 2] / n3
    step2 = step_x * step_x + step_y * step_y + step_z * step_z
    for i in range(first, last):
        for ion in range(frac_coords.shape[0]):
            half_d0 = 0.5 * weights[ion] * morse[ion, 0]
            r_min = morse[ion, 1]
            alpha = morse[ion, 2]
            prefactor = weights[ion] * coulomb[ion, 0]
            screening = coulomb[ion, 1] if prefactor != 0.0 else 1.0
            r_coulomb = min(cutoff, ERFC_UNDERFLOW * screening) if prefactor != 0.0 else 0.0
            if half_d0 == 0.0 and prefactor == 0.0:
                continue
            # without a Morse term nothing is left beyond the end of the screened Coulomb term
            limit2 = cutoff2 if half_d0 != 0.0 else r_coulomb * r_coulomb
            offset1 = i / n1 - frac_coords[ion, 0]
            for t1 in range(math.ceil(-reach[0] - offset1), math.floor(reach[0] - offset1) + 1):
                u = offset1 + t1
                centre2 = frac_coords[ion, 1] * n2
                for j_free in range(math.ceil(centre2 - reach[1] * n2), math.floor(centre2 + reach[1] * n2) + 1):
                    v = j_free / n2 - frac_coords[ion, 1]
                    # the line is base + m step, with m the index along it counted from the ion's own height
                    base_x = u * lattice[0, 0] + v * lattice[1, 0]
                    base_y = u * lattice[0, 1] + v * lattice[1, 1]
                    base_z = u * lattice[0, 2] + v * lattice[1, 2]
                    along = base_x * step_x + base_y * step_y + base_z * step_z
                    base2 = base_x * base_x + base_y * base_y + base_z * base_z
                    discriminant = along * along - step2 * (base2 - limit2)
                    if discriminant < 0.0:
                        continue
                    centre3 = frac_coords[ion, 2] * n3 - along / step2
                    half_width = math.sqrt(discriminant) / step2
                    j = j_free % n2
                    k_first = math.ceil(centre3 - half_width)
                    k = k_first % n3
                    for k_free in range(k_first, math.floor(centre3 + half_width) + 1):
                        m = k_free - frac_coords[ion, 2] * n3
                        x = base_x + m * step_x
                        y = base_y + m * step_y
                        z = base_z + m * step_z
                        r2 = x * x + y * y + z * z
                        if r2 < limit2:
                            r = max(math.sqrt(r2), NEAREST_DISTANCE)
                            energy = 0.0
                            if half_d0 != 0.0:
                                bond = math.exp(alpha * (r_min - r))
                                energy = half_d0 * (bond * bond - 2.0 * bond)
                            if r < r_coulomb:
                                energy += prefactor / r * math.erfc(r / screening)
                            energies[i, j, k] += energy
                        k += 1
                        if k == n3:
                            k = 0
