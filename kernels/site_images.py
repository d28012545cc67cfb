"""How the symmetry of a crystal moves slots, sets of sites that carry one ion; and canonical forms under it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class SlotImages(NamedTuple):
    """Operations, each once, the identity left out.

    An assignment x is the same crystal as y with ``y[s] = x[source[g, s]]``, where the sites of a slot come from
    several slots (``more_slot``, ``more_source``; those of g stand from ``more_start[g]`` on) only if these carry
    the same element.
    """

    source: IntArray
    more_start: IntArray
    more_slot: IntArray
    more_source: IntArray


def slot_images(images: BoolArray, slot_of: IntArray) -> SlotImages:
    """Reduce operations on orbits to operations on slots.

    Parameters
    ----------
    images : (g, orbits, orbits) bool
        Orbits from which each operation fills each orbit.
    slot_of : (orbits,) int
        Slot of each orbit, ascending from 0 without gaps.
    """
    n_slots = int(slot_of.max()) + 1 if len(slot_of) else 0
    if not len(images):
        none = np.zeros(0, dtype=np.int64)
        return SlotImages(np.zeros((0, n_slots), dtype=np.int64), np.zeros(1, dtype=np.int64), none, none)
    fills = np.zeros((len(images), n_slots, n_slots), dtype=bool)
    g, orbit, other = np.nonzero(images)
    fills[g, slot_of[orbit], slot_of[other]] = True
    fills = fills[~(fills == np.eye(n_slots, dtype=bool)).all(axis=(1, 2))]
    if len(fills) > 1:
        fills = np.unique(fills.reshape(len(fills), -1), axis=0).reshape(-1, n_slots, n_slots)
    source = np.asarray(fills.argmax(axis=2) if n_slots else np.zeros((0, 0)), dtype=np.int64)
    more = fills.copy()
    np.put_along_axis(more, source[:, :, None], False, axis=2)
    g, slot, other = np.nonzero(more)
    start = np.concatenate([[0], np.cumsum(np.bincount(g, minlength=len(fills)))])
    return SlotImages(
        np.ascontiguousarray(source), start.astype(np.int64), slot.astype(np.int64), other.astype(np.int64)
    )


def canonical_forms(elements: IntArray, images: BoolArray) -> IntArray:
    """The lexicographically first assignment that the symmetry maps each one onto.

    Parameters
    ----------
    elements : (m, orbits) int
    images : (g, orbits, orbits) bool
        As :func:`slot_images` takes them.

    Returns
    -------
    (m, orbits) int64
    """
    elements = np.ascontiguousarray(elements, dtype=np.int64)
    out = elements.copy()
    _canonical(elements, slot_images(images, np.arange(elements.shape[1])), out)
    return out


@jit
def image_of(x: IntArray, images: SlotImages, g: int, y: IntArray) -> bool:
    """Write the image of an assignment into ``y``; False when it is not constant on each slot."""
    for s in range(x.shape[0]):
        y[s] = x[images.source[g, s]]
    for k in range(images.more_start[g], images.more_start[g + 1]):
        if x[images.more_source[k]] != y[images.more_slot[k]]:
            return False
    return True


@jit
def precedes(y: IntArray, x: IntArray) -> bool:
    """Whether ``y`` comes before ``x`` in lexicographic order."""
    for o in range(x.shape[0]):
        if y[o] != x[o]:
            return bool(y[o] < x[o])
    return False


@jit
def _canonical(elements: IntArray, images: SlotImages, out: IntArray) -> None:
    y = np.empty(elements.shape[1], dtype=np.int64)
    for row in range(elements.shape[0]):
        for g in range(images.source.shape[0]):
            if image_of(elements[row], images, g, y) and precedes(y, out[row]):
                out[row] = y
