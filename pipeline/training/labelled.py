"""Labelled crystals: energies, forces and stresses of many crystals in flat arrays, and the columns they come in.

A Parquet file of labels has the columns of ``LABEL_COLUMNS``, one row a crystal. Units stand in the fields' metadata
(key ``unit``); the file's metadata may hold JSON under ``ionsieve_labels`` (teacher, licence, what made it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.columns.column import Column
from pipeline.surrogates.batch import CrystalBatch, FloatArray, IntArray
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

if TYPE_CHECKING:
    from pymatgen.core import Structure

LABEL_METADATA_KEY = b"ionsieve_labels"

_STAGE = "training"
LABEL_COLUMNS: tuple[Column, ...] = (
    Column("structure_id", "string", "", _STAGE, "name of the row, unique in its file"),
    Column("lattice", "list<float64>", "Å", _STAGE, "9 numbers, lattice vectors as rows"),
    Column("atomic_numbers", "list<int64>", "", _STAGE, "n"),
    Column("frac_coords", "list<float64>", "", _STAGE, "3n"),
    Column("energy", "float64", "eV", _STAGE, "total energy of the cell"),
    Column("energy_per_atom", "float64", "eV/atom", _STAGE, "instead of energy"),
    Column("forces", "list<float64>", "eV/Å", _STAGE, "3n"),
    Column("stress", "list<float64>", "GPa", _STAGE, "9 numbers, positive under tension; may be left out"),
    Column("group", "string", "", _STAGE, "prototype; crystals of one group are never in two splits"),
    Column("label_scheme", "string", "", _STAGE, "energy scheme: mp_raw, mp2020, matpes_pbe or other"),
    Column("source", "string", "", _STAGE, "where the label comes from: a code with its functional, or the teacher"),
)
"""Every column that a file of labels may have; without ``stress`` it trains no stresses."""

STRESS_UNITS = {"GPa": 1.0, "eV/Å3": GPA_PER_EV_PER_ANGSTROM3, "eV/Å^3": GPA_PER_EV_PER_ANGSTROM3}
"""GPa in one of each unit that a file may declare."""


@dataclass(frozen=True)
class LabelledCrystals:
    """Labelled crystals, checked (see :mod:`pipeline.training.label_checks`).

    Attributes
    ----------
    ids : (B,) tuple of str
        Names of the crystals.
    crystals : CrystalBatch
        Positions (N, 3) Å, cells (B, 3, 3) Å, atomic numbers (N,), atoms of each crystal (B,).
    energies : (B,) float64
        Total energies, eV.
    forces : (N, 3) float64
        eV/Å.
    stresses : (B, 3, 3) float64 or None
        GPa, tension positive.
    groups : (B,) tuple of str
        Prototype of each.
    sources : (B,) tuple of str
        Where each label comes from.
    places : (B,) tuple of str
        File and row of each.
    scheme : str
        Energy scheme of all.
    """

    ids: tuple[str, ...]
    crystals: CrystalBatch
    energies: FloatArray
    forces: FloatArray
    stresses: FloatArray | None
    groups: tuple[str, ...]
    sources: tuple[str, ...]
    places: tuple[str, ...]
    scheme: str

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: IntArray) -> LabelledCrystals:
        """The crystals of (M,) rows, in that order."""
        batch = self.crystals
        offsets = batch.offsets
        atoms = np.concatenate(
            [np.arange(offsets[b], offsets[b] + batch.counts[b]) for b in rows] or [np.empty(0, np.int64)]
        )
        return LabelledCrystals(
            ids=tuple(self.ids[b] for b in rows),
            crystals=CrystalBatch(batch.positions[atoms], batch.cells[rows], batch.numbers[atoms], batch.counts[rows]),
            energies=self.energies[rows],
            forces=self.forces[atoms],
            stresses=None if self.stresses is None else self.stresses[rows],
            groups=tuple(self.groups[b] for b in rows),
            sources=tuple(self.sources[b] for b in rows),
            places=tuple(self.places[b] for b in rows),
            scheme=self.scheme,
        )

    def composition_counts(self, elements: Sequence[str]) -> FloatArray:
        """(B, K) atoms of each element in each crystal."""
        from ase.data import atomic_numbers

        columns = np.full(119, -1, np.int64)
        columns[[atomic_numbers[symbol] for symbol in elements]] = np.arange(len(elements))
        counts = np.zeros((len(self), len(elements)))
        np.add.at(counts, (self.crystals.owners, columns[self.crystals.numbers]), 1.0)
        return counts

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols by ascending atomic number."""
        from ase.data import chemical_symbols

        return tuple(chemical_symbols[z] for z in np.unique(self.crystals.numbers))

    @property
    def rms_forces(self) -> FloatArray:
        """(B,) root mean squares of the force components, eV/Å."""
        squares = np.add.reduceat((self.forces**2).mean(axis=1), self.crystals.offsets)
        return np.sqrt(squares / self.crystals.counts)

    @property
    def formulas(self) -> tuple[str, ...]:
        """(B,) reduced formulas."""
        from ase.data import chemical_symbols
        from pymatgen.core import Composition

        offsets, counts = self.crystals.offsets, self.crystals.counts
        known: dict[bytes, str] = {}
        found = []
        for first, count in zip(offsets, counts, strict=True):
            numbers = np.sort(self.crystals.numbers[first : first + count])
            key = numbers.tobytes()
            if key not in known:
                symbols, amounts = np.unique(numbers, return_counts=True)
                amounts_of = {chemical_symbols[z]: int(n) for z, n in zip(symbols, amounts, strict=True)}
                known[key] = Composition(amounts_of).reduced_formula
            found.append(known[key])
        return tuple(found)

    def structures(self) -> list[Structure]:
        """(B,) the crystals."""
        from pymatgen.core import Element, Lattice, Structure

        def structure(part: CrystalBatch) -> Structure:
            species = [Element.from_Z(int(z)) for z in part.numbers]
            return Structure(Lattice(part.cells[0]), species, part.positions, coords_are_cartesian=True)

        return [structure(self.crystals.part(b, b + 1)) for b in range(len(self))]

    def digest(self) -> str:
        """SHA-256 of everything a model learns from, in order."""
        digest = hashlib.sha256()
        batch = self.crystals
        arrays: list[NDArray[np.generic]] = [batch.positions, batch.cells, batch.numbers, batch.counts]
        arrays += [self.energies, self.forces] + ([] if self.stresses is None else [self.stresses])
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def joined(parts: Sequence[LabelledCrystals]) -> LabelledCrystals:
    """All crystals of several tables of one scheme; stresses only where every table has them."""
    stresses = [part.stresses for part in parts if part.stresses is not None]
    batches = [part.crystals for part in parts]
    return LabelledCrystals(
        ids=tuple(i for part in parts for i in part.ids),
        crystals=CrystalBatch(
            np.concatenate([b.positions for b in batches]),
            np.concatenate([b.cells for b in batches]),
            np.concatenate([b.numbers for b in batches]),
            np.concatenate([b.counts for b in batches]),
        ),
        energies=np.concatenate([part.energies for part in parts]),
        forces=np.concatenate([part.forces for part in parts]),
        stresses=np.concatenate(stresses) if len(stresses) == len(parts) else None,
        groups=tuple(g for part in parts for g in part.groups),
        sources=tuple(s for part in parts for s in part.sources),
        places=tuple(p for part in parts for p in part.places),
        scheme=parts[0].scheme,
    )
