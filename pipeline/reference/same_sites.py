"""Prototypes whose sites are the same whatever their charges: labels without signs, and which class is which."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from pipeline.reference.prototype_library import Prototype
from pipeline.reference.wyckoff import wyckoff_permutations

FloatArray = npt.NDArray[np.float64]

NEIGHBOURS = 8
"""Distances from a site to each class by which classes are told apart."""


def unsigned_label(prototype: Prototype) -> str:
    """Protostructure label without charges and without their signs: of all settings the one that sorts first."""
    settings = [sorted(letters) for letters in _class_letters(prototype)]
    return "_".join([str(prototype.n_sites), str(prototype.spacegroup_number), *min(settings)])


def _class_letters(prototype: Prototype) -> list[tuple[str, ...]]:
    """Wyckoff letters of each class, in each setting that the space group's normaliser allows."""
    out = []
    for table in wyckoff_permutations(prototype.spacegroup_number):
        moved = [letter.translate(table) for letter in prototype.orbit_wyckoffs]
        out.append(
            tuple(
                "".join(sorted(w for w, own in zip(moved, prototype.orbit_class, strict=True) if own == c))
                for c in range(prototype.n_classes)
            )
        )
    return out


def class_order(prototype: Prototype, other: Prototype) -> tuple[int, ...]:
    """For each class of a prototype, the class of another one with the same unsigned label that stands in its place.

    Where the label leaves a choice, distances decide: to the nearest sites of each class, in units of the cube root of
    the volume an atom, the mean over a class's sites.
    """
    if prototype is other:
        return tuple(range(prototype.n_classes))
    own = min(_class_letters(prototype), key=sorted)
    orders: dict[tuple[int, ...], None] = {}
    for letters in dict.fromkeys(_class_letters(other)):
        if sorted(letters) != sorted(own):
            continue
        places = [[d for d in range(len(own)) if letters[d] == own[c]] for c in range(len(own))]
        orders.update(dict.fromkeys(o for o in itertools.product(*places) if len(set(o)) == len(o)))
    if len(orders) == 1:
        return next(iter(orders))
    first, second = _distances(prototype), _distances(other)
    return min(orders, key=lambda order: (round(_mismatch(first, second, order), 6), order))


def _distances(prototype: Prototype) -> FloatArray:
    """(classes, classes, NEIGHBOURS) sorted distances from a class's sites to another's."""
    scale = (abs(float(np.linalg.det(prototype.lattice))) / prototype.n_sites) ** (1 / 3)
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)), dtype=float)
    steps = prototype.frac_coords[None, :, None, :] - prototype.frac_coords[:, None, None, :]
    steps = steps - np.round(steps) + shifts
    cartesian = steps @ prototype.lattice
    length = np.sqrt(np.einsum("ijka,ijka->ijk", cartesian, cartesian)) / scale
    length[length < 1e-3] = np.inf  # a site itself
    site_class = np.array(prototype.orbit_class)[prototype.site_orbit]
    n = prototype.n_classes
    out = np.empty((n, n, NEIGHBOURS))
    for c, d in itertools.product(range(n), repeat=2):
        between = np.sort(length[np.ix_(site_class == c, site_class == d)].reshape(int((site_class == c).sum()), -1))
        out[c, d] = between[:, :NEIGHBOURS].mean(axis=0)
    return out


def _mismatch(first: FloatArray, second: FloatArray, order: tuple[int, ...]) -> float:
    return float(np.abs(first - second[np.ix_(order, order)]).mean())
