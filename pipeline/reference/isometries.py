"""Which assignments of elements to a crystal's orbits are the same crystal: the isometries of its set of sites."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.reference.protostructure import SYMPREC, quiet_moyo

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def orbit_images(lattice: FloatArray, frac_coords: FloatArray, charges: IntArray, site_orbit: IntArray) -> BoolArray:
    """How the isometries of a set of sites move its orbits.

    Only isometries: an operation of the space group's affine normaliser that changes the metric (a and b exchanged in
    an orthorhombic cell with a != b) maps a crystal onto a deformed one, which is another crystal. Sites are not told
    apart by what stands on them: anions and cations of zinc blende may change places. Isometries that map the cell's
    lattice onto another one count too: they relate crystals of a smaller period than the cell's, such as stripes along
    one axis and along another.

    Parameters
    ----------
    lattice : (3, 3) float
        Å, rows.
    frac_coords : (n, 3) float
    charges : (n,) int
        Of the sites. Operations that keep their signs are looked for by themselves too, so that a tolerance that is
        lost among all sites loses none of them.
    site_orbit : (n,) int
        Orbit of each site, ascending from 0.

    Returns
    -------
    (g, orbits, orbits) bool
        For each operation, the orbits from which each orbit is filled: an assignment x is the same crystal as y with
        ``y[o] = x[p]`` for all p of ``images[g, o]``, wherever x is the same on these. Each once, without the identity.
    """
    size = int(site_orbit.max()) + 1
    everything = np.ones(len(site_orbit), dtype=np.int64)
    signs = np.where(charges < 0, 2, 1)
    fills = np.concatenate([_fills(lattice, frac_coords, numbers, site_orbit, size) for numbers in (everything, signs)])
    fills = fills[~(fills == np.eye(size, dtype=bool)).all(axis=(1, 2))]
    if len(fills) > 1:
        fills = np.unique(fills.reshape(len(fills), -1), axis=0).reshape(-1, size, size)
    return fills


def _fills(
    lattice: FloatArray, frac_coords: FloatArray, numbers: IntArray, site_orbit: IntArray, size: int
) -> BoolArray:
    """(operations, orbits, orbits) for the isometries that keep the sites' numbers."""
    empty = np.zeros((0, size, size), dtype=bool)
    own = _operations(lattice, frac_coords, numbers)
    if own is None:
        return empty
    rotations, translations = own
    pure = translations[(rotations == np.eye(3)).all(axis=(1, 2))]
    shifts = _matches(lattice, frac_coords + pure[:, None, :], frac_coords, numbers)
    if len(shifts) > 1:
        smaller = _of_the_smaller_lattice(lattice, frac_coords, numbers, pure)
        if smaller is not None:
            rotations, translations = smaller
    fills = [empty]
    for rotation, translation in zip(rotations, translations, strict=True):
        # Sites of one cell may fall into one place where the cell itself is not kept.
        target = _matches(lattice, (frac_coords @ rotation.T + translation)[None], frac_coords, numbers, once=False)
        if not len(target):
            continue
        # A site of the next cell may come from another place than the one of this cell: all must carry one element.
        cosets = _subgroup(rotation.T % 1.0, shifts, lattice, frac_coords, numbers)
        for shift in shifts:
            images = np.zeros((size, size), dtype=bool)
            for other in cosets:
                images[site_orbit, site_orbit[other[shift[target[0]]]]] = True
            fills.append(images[None])
    return np.concatenate(fills)


def _operations(
    lattice: FloatArray, frac_coords: FloatArray, numbers: IntArray
) -> tuple[FloatArray, FloatArray] | None:
    """Rotations and translations that map the cell's crystal onto itself, in the basis of the cell."""
    import moyopy

    cell = moyopy.Cell(lattice.tolist(), frac_coords.tolist(), numbers.tolist())
    with quiet_moyo():
        try:
            operations = moyopy.MoyoDataset(cell, symprec=SYMPREC).operations
        except (ValueError, RuntimeError):
            return None
    return np.array(operations.rotations, dtype=float), np.array(operations.translations, dtype=float)


def _of_the_smaller_lattice(
    lattice: FloatArray, frac_coords: FloatArray, numbers: IntArray, pure: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """The same for the primitive cell of the sites, in the basis of the larger one: also what does not keep that."""
    basis = _lattice_basis(pure)
    inverse = np.linalg.inv(basis)
    coords = frac_coords @ inverse
    kept: list[int] = []
    for i in range(len(coords)):
        steps = coords[i] - coords[kept]
        apart = np.linalg.norm((steps - np.round(steps)) @ basis @ lattice, axis=1)
        same = numbers[kept] == numbers[i]
        if not (same & (apart < 10 * SYMPREC)).any():
            kept.append(i)
    if len(kept) * round(1.0 / abs(np.linalg.det(basis))) != len(coords):
        return None
    found = _operations(basis @ lattice, coords[kept], numbers[kept])
    if found is None:
        return None
    # x' = W x + w in the primitive basis; rows of coordinates go as x -> x W^T
    rotations = np.array([(inverse @ w.T @ basis).T for w in found[0]])
    return rotations, found[1] @ basis


def _lattice_basis(translations: FloatArray) -> FloatArray:
    """(3, 3) rows: basis of the lattice that the unit cell and a group of n translations generate.

    By Euclid's algorithm on whole numbers: the order of a translation divides that of the group.
    """
    order = len(translations)
    rows = list(np.round(np.vstack([np.eye(3), translations]) * order).astype(np.int64))
    basis = []
    for column in range(3):
        while True:
            live = [k for k, row in enumerate(rows) if row[column]]
            pivot = min(live, key=lambda k: abs(rows[k][column]))
            if len(live) == 1:
                break
            for k in live:
                if k != pivot:
                    rows[k] = rows[k] - rows[k][column] // rows[pivot][column] * rows[pivot]
        basis.append(rows.pop(pivot))
    return np.array(basis, dtype=float) / order


def _subgroup(
    generators: FloatArray, shifts: IntArray, lattice: FloatArray, frac_coords: FloatArray, numbers: IntArray
) -> list[IntArray]:
    """Permutations of the sites by the translations that three generators make, the identity first."""
    identity = np.arange(len(frac_coords))
    if np.allclose(generators - np.round(generators), 0.0, atol=1e-6):
        return [identity]
    moves = _matches(lattice, frac_coords + generators[:, None, :], frac_coords, numbers)
    known = {identity.tobytes(): identity}
    todo = [identity]
    while todo:
        at = todo.pop()
        for move in moves:
            after = move[at]
            if after.tobytes() not in known and len(known) <= len(shifts):
                known[after.tobytes()] = after
                todo.append(after)
    return list(known.values())


def _matches(
    lattice: FloatArray, moved: FloatArray, sites: FloatArray, numbers: IntArray, *, once: bool = True
) -> IntArray:
    """Site that each moved site falls on, for each operation that puts every site on one of its number (each once)."""
    difference = moved[:, :, None, :] - sites
    difference -= np.round(difference)
    distance = np.linalg.norm(difference @ lattice, axis=3)
    distance[:, numbers[:, None] != numbers] = np.inf
    target = np.argmin(distance, axis=2)
    # generous: the operations of a set found at SYMPREC compose errors of several sites
    near = np.take_along_axis(distance, target[:, :, None], axis=2).max(axis=(1, 2)) <= 10 * SYMPREC
    if once:
        near &= (np.sort(target, axis=1) == np.arange(len(sites))).all(axis=1)
    return np.asarray(target[near], dtype=np.int64)
