"""Bond-valence site energy of a mobile ion on a periodic grid: Morse and screened Coulomb terms."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.grid_symmetry import orbit_representatives
from kernels.pair_energies import PairTables, pair_energy, pair_tables

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

COULOMB_CONSTANT = 14.4
"""e²/(4 pi epsilon_0) in eV Å, rounded as softBV rounds it (14.39964 exactly)."""

CUTOFF_MARGIN = 1e-10
"""An ion nearer to the cutoff than this part of it counts as being at the cutoff, so that rounding can't
part points that symmetry makes equal."""


def site_energy_grid(
    lattice: FloatArray,
    shape: tuple[int, int, int],
    frac_coords: FloatArray,
    weights: FloatArray,
    morse: FloatArray,
    coulomb: FloatArray,
    cutoff: float,
    threads: int = 1,
    symmetry: tuple[IntArray, IntArray] | None = None,
) -> FloatArray:
    """Site energy of a mobile ion at every point of a grid, with all framework ions nearer than the cutoff.

    An ion attracts with ``d0/2 ((exp(alpha (r_min - r)) - 1)² - 1)`` or repels with
    ``prefactor/r erfc(r/screening_length)`` (the softBV site energy of Chen, Wong and Adams, Acta Cryst. B
    2019, 75, 18), or both or neither, by which of its parameters are non-zero. Its weight multiplies both.
    The energy of a pair is read from a table that is right to 1e-11 of it, or of 1 eV (``pair_tables``).

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
        Threads that share the grid's lines. The result doesn't depend on it.
    symmetry : ((m, 3, 3) int64, (m, 3) int64), optional
        A group of rotations and translations in grid steps (see ``orbit_representatives``) that map ions onto
        equal ions. One point of each orbit is computed and the others get its energy.

    Returns
    -------
    (n1, n2, n3) float64
        Energies, eV.

    Raises
    ------
    ValueError
        When a shape is wrong, a number isn't finite, the cell has no volume, the cutoff isn't positive, or an
        operation doesn't map the grid onto itself.
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

    representatives = None if symmetry is None else orbit_representatives(shape, *symmetry)
    first, stop = _line_ranges(shape, representatives)
    limit = cutoff * (1.0 - CUTOFF_MARGIN)
    kinds, kind_of_ion = np.unique(np.hstack([arrays["morse"][0], arrays["coulomb"][0]]), axis=0, return_inverse=True)
    tables = pair_tables(kinds, limit)
    ions = (frac_coords % 1.0, arrays["weights"][0], kind_of_ion.reshape(-1).astype(np.int64))
    energies = np.zeros(shape, dtype=np.float64)
    lines = energies.reshape(-1, shape[2])
    reach = limit * np.linalg.norm(np.linalg.inv(lattice), axis=0)
    done = np.concatenate([np.zeros(1, np.int64), np.cumsum(stop - first)])
    bounds = np.searchsorted(done, np.linspace(0, done[-1], threads + 1))
    bounds[-1] = len(lines)

    def add(block: int) -> None:
        part = slice(bounds[block], bounds[block + 1])
        _add_lines(lines[part], part.start, first[part], stop[part], shape[0], shape[1], lattice, *ions, tables, reach)

    if threads == 1:
        add(0)
    else:
        with ThreadPoolExecutor(max_workers=threads) as pool:
            list(pool.map(add, range(threads)))
    return energies if representatives is None else energies.reshape(-1)[representatives].reshape(shape)


def _line_ranges(shape: tuple[int, int, int], representatives: IntArray | None) -> tuple[IntArray, IntArray]:
    """First point and one past the last point to compute on each line along the third axis."""
    n_lines = shape[0] * shape[1]
    if representatives is None:
        return np.zeros(n_lines, np.int64), np.full(n_lines, shape[2], np.int64)
    wanted = (representatives == np.arange(len(representatives))).reshape(n_lines, shape[2])
    some = wanted.any(axis=1)
    first = np.where(some, wanted.argmax(axis=1), 0)
    return first, np.where(some, shape[2] - wanted[:, ::-1].argmax(axis=1), 0)


@jit
def _add_lines(
    lines: FloatArray,
    first_line: int,
    first: IntArray,
    stop: IntArray,
    n1: int,
    n2: int,
    lattice: FloatArray,
    frac_coords: FloatArray,
    weights: FloatArray,
    kind_of_ion: IntArray,
    tables: PairTables,
    reach: FloatArray,
) -> None:
    """Add all ions' energies to some lines of the grid, each from its point ``first`` to before ``stop``.

    For each ion and image of the line, the piece inside the ion's cutoff sphere is walked in unwrapped
    indices; ``reach`` holds the sphere's half-widths in fractional coordinates. A point's sum has the same
    order however the lines are shared out.
    """
    n3 = lines.shape[1]
    kinds, limits, coefficients, table_start, table_step, tabulated = tables
    rows_per_area = 1.0 / table_step
    step_x, step_y, step_z = lattice[2, 0] / n3, lattice[2, 1] / n3, lattice[2, 2] / n3
    step2 = step_x * step_x + step_y * step_y + step_z * step_z
    for line in range(lines.shape[0]):
        if first[line] >= stop[line]:
            continue
        energies = lines[line]
        fraction1 = (first_line + line) // n2 / n1
        fraction2 = (first_line + line) % n2 / n2
        for ion in range(frac_coords.shape[0]):
            kind = kind_of_ion[ion]
            weight = weights[ion]
            pair = kinds[kind]
            limit2 = limits[kind] * limits[kind]
            if limit2 == 0.0:
                continue
            start2 = table_start if tabulated[kind] else math.inf
            height = frac_coords[ion, 2] * n3
            offset1 = fraction1 - frac_coords[ion, 0]
            offset2 = fraction2 - frac_coords[ion, 1]
            for t1 in range(math.ceil(-reach[0] - offset1), math.floor(reach[0] - offset1) + 1):
                u = offset1 + t1
                for t2 in range(math.ceil(-reach[1] - offset2), math.floor(reach[1] - offset2) + 1):
                    v = offset2 + t2
                    # the line is base + m step, with m the index along it counted from the ion's own height
                    base_x = u * lattice[0, 0] + v * lattice[1, 0]
                    base_y = u * lattice[0, 1] + v * lattice[1, 1]
                    base_z = u * lattice[0, 2] + v * lattice[1, 2]
                    along = base_x * step_x + base_y * step_y + base_z * step_z
                    base2 = base_x * base_x + base_y * base_y + base_z * base_z
                    discriminant = along * along - step2 * (base2 - limit2)
                    if discriminant < 0.0:
                        continue
                    middle = height - along / step2
                    half_width = math.sqrt(discriminant) / step2
                    k_low = math.ceil(middle - half_width)
                    k_stop = math.floor(middle + half_width) + 1
                    for image in range((k_low - stop[line]) // n3 + 1, (k_stop - 1 - first[line]) // n3 + 1):
                        shift = image * n3
                        for k in range(max(first[line], k_low - shift), min(stop[line], k_stop - shift)):
                            m = k + shift - height
                            r2 = base2 + m * (2.0 * along + m * step2)
                            if r2 >= start2:
                                place = (r2 - table_start) * rows_per_area
                                row = np.uint32(place)  # unsigned: no check for negative indices
                                t = place - row
                                energy = coefficients[kind, row, 4] + t * coefficients[kind, row, 5]
                                energy = coefficients[kind, row, 2] + t * (coefficients[kind, row, 3] + t * energy)
                                energy = coefficients[kind, row, 0] + t * (coefficients[kind, row, 1] + t * energy)
                            else:
                                x = base_x + m * step_x
                                y = base_y + m * step_y
                                z = base_z + m * step_z
                                energy = pair_energy(x * x + y * y + z * z, pair)
                            energies[k] += weight * energy


@jit
def site_energies_at(
    points: FloatArray,
    lattice: FloatArray,
    frac_coords: FloatArray,
    weights: FloatArray,
    pairs: FloatArray,
    reach: FloatArray,
    cutoff: float,
) -> FloatArray:
    """Site energies (m,), eV, at any points, by the formulas themselves; few points, where no grid is worth it.

    Parameters
    ----------
    points : (m, 3) float64
        Fractional coordinates.
    lattice, frac_coords, weights, cutoff
        As ``site_energy_grid``; coordinates of ions in the home cell.
    pairs : (n, 5) float64
        d0, r_min, alpha, prefactor and screening length of each ion.
    reach : (3,) float64
        Half-widths of the cutoff sphere in fractional coordinates.
    """
    energies = np.zeros(points.shape[0])
    limit2 = cutoff * cutoff
    for p in range(points.shape[0]):
        for ion in range(frac_coords.shape[0]):
            d0 = points[p, 0] - frac_coords[ion, 0]
            d1 = points[p, 1] - frac_coords[ion, 1]
            d2 = points[p, 2] - frac_coords[ion, 2]
            for t0 in range(math.ceil(-reach[0] - d0), math.floor(reach[0] - d0) + 1):
                for t1 in range(math.ceil(-reach[1] - d1), math.floor(reach[1] - d1) + 1):
                    for t2 in range(math.ceil(-reach[2] - d2), math.floor(reach[2] - d2) + 1):
                        u, v, w = d0 + t0, d1 + t1, d2 + t2
                        x = u * lattice[0, 0] + v * lattice[1, 0] + w * lattice[2, 0]
                        y = u * lattice[0, 1] + v * lattice[1, 1] + w * lattice[2, 1]
                        z = u * lattice[0, 2] + v * lattice[1, 2] + w * lattice[2, 2]
                        r2 = x * x + y * y + z * z
                        if r2 < limit2:
                            energies[p] += weights[ion] * pair_energy(r2, pairs[ion])
    return energies
