"""Competing phases sorted by chemical system, and the phases of one system as arrays for the kernels.

The hull energy at a composition c (atom fractions) is the linear program

    E(c) = min  sum_i x_i E_i   subject to   sum_i x_i n_i = c,  x_i >= 0

over the phases i of the chemical system, with n_i their atom fractions and E_i their formation energies per atom
(Akbarzadeh, Ozoliņš and Wolverton, Adv. Mater. 2007, 19, 3233). `kernels.hull` solves it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.reference.formulas import CompositionKey

FACETS_KEPT = 64
"""Facets of one system that are remembered for its other compositions (scripts/benchmark_hull.py --facets)."""

AMOUNT_TOLERANCE = 1e-6
"""Atom fractions below this are rounding."""

_SYSTEMS_KEPT = 4096


class Assemblage(NamedTuple):
    """Phases in equilibrium at a composition.

    Attributes
    ----------
    phases
        Rows of a ``PhaseSystem``, largest part of a facet; shape (p,).
    amounts
        Their atom fractions, shape (p,), sum 1.
    energy
        eV/atom.
    """

    phases: NDArray[np.int64]
    amounts: NDArray[np.float64]
    energy: float


@dataclass(frozen=True)
class PhaseSystem:
    """The phases of one chemical system.

    Attributes
    ----------
    elements
        n symbols, alphabetical.
    fractions
        Atom fractions, shape (m, n); the first n phases are the elements.
    energies
        Formation energies, eV/atom, shape (m,); zero for the elements.
    members
        Compositions and energies of the compounds, in blocks.
    """

    elements: tuple[str, ...]
    fractions: NDArray[np.float64]
    energies: NDArray[np.float64]
    members: Sequence[Sequence[tuple[CompositionKey, float]]]

    @cached_property
    def keys(self) -> list[CompositionKey]:
        """Compositions of the m phases."""
        elements: list[CompositionKey] = [((symbol, 1),) for symbol in self.elements]
        return elements + [key for block in self.members for key, _ in block]

    def with_phase(self, key: CompositionKey, energy: float) -> PhaseSystem:
        """Return the same system with one phase more."""
        return PhaseSystem(
            self.elements,
            np.vstack([self.fractions, atom_fractions(key, self.elements)]),
            np.append(self.energies, energy),
            [*self.members, [(key, energy)]],
        )

    def hull_energies(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Formation energies of the stable phases at many compositions.

        Parameters
        ----------
        targets
            Atom fractions over ``elements``, shape (k, n).

        Returns
        -------
        numpy.ndarray
            eV/atom, shape (k,).

        Raises
        ------
        RuntimeError
            When the simplex method fails, naming the system.
        """
        return self._lower_hull(targets)[2]

    def equilibrium(self, target: NDArray[np.float64]) -> Assemblage:
        """Phases of lowest energy at one composition; atom fractions over ``elements``, shape (n,).

        Raises
        ------
        RuntimeError
            As `hull_energies`.
        """
        bases, amounts, energies = self._lower_hull(target[None, :])
        present = np.flatnonzero(amounts[0] > AMOUNT_TOLERANCE)
        return Assemblage(bases[0, present], amounts[0, present], float(energies[0]))

    def _lower_hull(
        self, targets: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        from kernels.hull import lower_hull

        bases, amounts, _, energies = lower_hull(self.fractions, self.energies, targets, FACETS_KEPT)
        if np.isnan(energies).any():
            raise RuntimeError(f"the simplex method found no hull energy in {'-'.join(self.elements)}")
        return bases, amounts, energies


class PhaseIndex:
    """Phases by chemical system, from which any larger system is put together.

    Parameters
    ----------
    energies
        Formation energy of each composition, eV/atom. Those of one element, or not below zero, are never on a hull
        and left out.
    """

    def __init__(self, energies: Mapping[CompositionKey, float]) -> None:
        self._members: dict[tuple[str, ...], list[tuple[CompositionKey, float]]] = {}
        for key, energy in energies.items():
            if len(key) > 1 and energy < 0.0:
                self._members.setdefault(tuple([symbol for symbol, _ in key]), []).append((key, energy))
        self._blocks: dict[tuple[str, ...], tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self._systems: OrderedDict[tuple[str, ...], PhaseSystem] = OrderedDict()

    def system(self, elements: Iterable[str]) -> PhaseSystem:
        """Phases made of these elements, the elements first."""
        chosen = tuple(sorted(set(elements)))
        if chosen in self._systems:
            self._systems.move_to_end(chosen)
            return self._systems[chosen]
        n = len(chosen)
        parts = [
            (part, places)
            for size in range(2, n + 1)
            for places in combinations(range(n), size)
            if (part := tuple([chosen[i] for i in places])) in self._members
        ]
        fractions = np.zeros((n + sum([len(self._members[part]) for part, _ in parts]), n))
        energies = np.zeros(len(fractions))
        fractions[:n] = np.eye(n)
        row = n
        for part, places in parts:
            block, values = self._block(part)
            rows = slice(row, row + len(values))
            fractions[rows, places] = block
            energies[rows] = values
            row = rows.stop
        members = [self._members[part] for part, _ in parts]
        system = PhaseSystem(chosen, fractions, energies, members)
        self._systems[chosen] = system
        if len(self._systems) > _SYSTEMS_KEPT:
            self._systems.popitem(last=False)
        return system

    def _block(self, part: tuple[str, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Atom fractions (k, size) and energies (k,) of the phases of exactly these elements."""
        if part not in self._blocks:
            members = self._members[part]
            amounts = np.array([[n for _, n in key] for key, _ in members], dtype=float)
            self._blocks[part] = (
                amounts / amounts.sum(axis=1, keepdims=True),
                np.array([energy for _, energy in members]),
            )
        return self._blocks[part]


def atom_fractions(key: CompositionKey, elements: Sequence[str]) -> NDArray[np.float64]:
    """Atom fractions of a composition over ``elements``; shape (len(elements),)."""
    amounts = dict(key)
    total = sum(amounts.values())
    return np.array([amounts.get(e, 0) / total for e in elements])
