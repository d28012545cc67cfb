"""Atomic environments of many crystals, and how far each is from the nearest of others.

The fingerprint of an atom are radial symmetry functions (`kernels.symmetry_functions`) for each element of its
neighbours, as a vector of length one. Two atoms of one element are sqrt(1 - cosine) apart, 0 to 1; atoms of different
elements, and an element that the others lack, 1. Angles are not looked at: up to 6 Å the distances of all shells tell
crystals apart, at a hundredth of the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kernels.neighbors import neighbor_list
from kernels.symmetry_functions import radial_symmetry_functions
from pipeline.surrogates.batch import CrystalBatch, FloatArray, IntArray

CUTOFF = 6.0
"""Å."""

CENTRES = np.arange(1.5, CUTOFF, 0.5)
"""Å, of the Gaussians."""

WIDTH = 4.0
"""Å^-2: a standard deviation of 0.35 Å."""

SAME = 0.03
"""Distance below which two environments count as one: what shifts of 0.03 Å make of a relaxed halide."""

_BATCH = 256
_MOST_COSINES = 20_000_000
_TAIL = 1e-4  # of a Gaussian: tells nothing apart, and would fill the sparse rows


@dataclass(frozen=True)
class Environments:
    """Different atomic environments of B crystals: within a crystal, those nearer than `SAME` are kept once.

    Attributes
    ----------
    fingerprints : (M, E * K) sparse array
        Rows of length one; K symmetry functions for each of E elements.
    elements : (M,) int64
        Atomic number of the atom in the middle.
    owners : (M,) int64
        Crystal of each, ascending.
    n_crystals : int
        B.
    """

    fingerprints: Any
    elements: IntArray
    owners: IntArray
    n_crystals: int

    def of(self, crystal: int) -> Environments:
        """Those of one crystal."""
        first, last = np.searchsorted(self.owners, [crystal, crystal + 1])
        own = self.owners[first:last] - crystal
        return Environments(self.fingerprints[first:last], self.elements[first:last], own, 1)

    def distances_to(self, others: Environments) -> FloatArray:
        """(M,) distance of each environment to the nearest of the others, 0 to 1."""
        nearest = np.ones(len(self.elements))
        for z in np.unique(self.elements):
            mine, theirs = np.flatnonzero(self.elements == z), np.flatnonzero(others.elements == z)
            if not len(theirs):
                continue
            own = self.fingerprints[mine]
            cosines = np.zeros(len(mine))
            step = max(1, _MOST_COSINES // len(mine))
            for first in range(0, len(theirs), step):
                columns = others.fingerprints[theirs[first : first + step]].toarray().T
                cosines = np.maximum(cosines, (own @ np.ascontiguousarray(columns)).max(axis=1))
            nearest[mine] = np.sqrt(np.clip(1.0 - cosines, 0.0, 1.0))
        return nearest

    def largest_of_each(self, distances: FloatArray) -> FloatArray:
        """(B,) the largest of a crystal's (M,) distances: a crystal is as new as the newest of its environments."""
        largest = np.zeros(self.n_crystals)
        np.maximum.at(largest, self.owners, distances)
        return largest


def environments_of(crystals: CrystalBatch, elements: Sequence[int]) -> Environments:
    """Environments of the atoms of B crystals.

    Parameters
    ----------
    crystals
        Positions and cells in Å.
    elements
        (E,) atomic numbers, ascending, of all crystals that are to be compared.

    Raises
    ------
    ValueError
        When a crystal holds another element.
    """
    known = np.asarray(elements, np.int64)
    strange = np.setdiff1d(crystals.numbers, known)
    if len(strange):
        raise ValueError(f"atomic numbers {strange.tolist()} are not among the elements that are compared")
    parts = list(_parts(crystals, known))
    width = len(known) * len(CENTRES)
    matrices = [sparse.csr_array(rows) for rows, _ in parts]
    kept = [atoms for _, atoms in parts]
    atoms = np.concatenate(kept) if kept else np.empty(0, np.int64)
    stacked = sparse.vstack(matrices, format="csr") if matrices else sparse.csr_array((0, width))
    return Environments(stacked, crystals.numbers[atoms], crystals.owners[atoms], len(crystals.counts))


def _parts(crystals: CrystalBatch, elements: IntArray) -> Iterator[tuple[FloatArray, IntArray]]:
    """Fingerprints (m, E * K) of some crystals at a time, and the atoms (m,) that they belong to."""
    offsets = crystals.offsets
    for first in range(0, len(crystals.counts), _BATCH):
        part = crystals.part(first, min(first + _BATCH, len(crystals.counts)))
        source, destination, vectors, _, _, _ = neighbor_list(part.positions, part.cells, part.counts, CUTOFF)
        kinds = np.searchsorted(elements, part.numbers)
        distances = np.linalg.norm(vectors, axis=1)
        shape = (len(part.numbers), len(elements))
        summed = radial_symmetry_functions(source, kinds[destination], distances, shape, CENTRES, WIDTH, CUTOFF)
        rows = _of_length_one(summed.reshape(len(part.numbers), -1))
        kept = np.concatenate([_different(rows, part.numbers, a, a + n) for a, n in _slices(part)])
        yield rows[kept], kept + offsets[first]


def _slices(part: CrystalBatch) -> Iterator[tuple[int, int]]:
    yield from zip(part.offsets.tolist(), part.counts.tolist(), strict=True)


def _of_length_one(rows: FloatArray) -> FloatArray:
    """Rows over their lengths, without what is smaller than `_TAIL`; an atom without neighbours keeps its zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = rows / np.where(lengths > 0.0, lengths, 1.0)
    scaled[scaled < _TAIL] = 0.0
    return scaled


def _different(rows: FloatArray, numbers: IntArray, first: int, last: int) -> NDArray[np.int64]:
    """Atoms of one crystal without those that an earlier one of the same element is like."""
    own = rows[first:last]
    alike = (own @ own.T > 1.0 - SAME**2) & (numbers[first:last, None] == numbers[None, first:last])
    kept: list[int] = []
    for i in range(last - first):
        if not alike[i, kept].any():
            kept.append(i)
    return np.array(kept, np.int64) + first
