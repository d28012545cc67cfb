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
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.reference.formulas import CompositionKey

FACETS_KEPT = 1024
"""Facets of one system that are remembered for its other compositions (scripts/benchmark_hull.py --facets)."""

AMOUNT_TOLERANCE = 1e-6
"""Atom fractions below this are rounding."""

ENERGY_TOLERANCE = 1e-8
"""Distances to the hull below this are rounding, eV/atom."""

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
    keys
        Compositions of the m phases; the first n are the elements.
    fractions
        Atom fractions, shape (m, n).
    energies
        Formation energies, eV/atom, shape (m,); zero for the elements.
    """

    elements: tuple[str, ...]
    keys: Sequence[CompositionKey]
    fractions: NDArray[np.float64]
    energies: NDArray[np.float64]

    def with_phase(self, key: CompositionKey, energy: float) -> PhaseSystem:
        """Return the same system with one phase more."""
        return PhaseSystem(
            self.elements,
            [*self.keys, key],
            np.vstack([self.fractions, atom_fractions(key, self.elements)]),
            np.append(self.energies, energy),
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

    def stable(self) -> NDArray[np.int64]:
        """Rows of the phases on the hull, the elements among them; shape (s,).

        Raises
        ------
        RuntimeError
            As `hull_energies`.
        """
        return np.flatnonzero(self.energies <= self.hull_energies(self.fractions) + ENERGY_TOLERANCE)

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
        self._keys = [key for key, energy in energies.items() if len(key) > 1 and energy < 0.0]
        self._energies = np.array([energies[key] for key in self._keys], dtype=float)
        sizes = np.array([len(key) for key in self._keys], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        amounts = np.array([n for key in self._keys for _, n in key], dtype=float)
        totals = np.add.reduceat(amounts, self._starts[:-1]) if len(amounts) else amounts
        self._fractions = amounts / np.repeat(totals, sizes)
        symbols = [symbol for key in self._keys for symbol, _ in key]
        self._number_of = {symbol: i for i, symbol in enumerate(sorted(set(symbols)))}
        self._elements = np.array([self._number_of[symbol] for symbol in symbols], dtype=np.int64)
        self._members: dict[tuple[str, ...], list[int]] = {}
        for row, (start, stop) in enumerate(pairwise(self._starts.tolist())):
            self._members.setdefault(tuple(symbols[start:stop]), []).append(row)
        self._systems: OrderedDict[tuple[str, ...], PhaseSystem] = OrderedDict()

    def system(self, elements: Iterable[str]) -> PhaseSystem:
        """Phases made of these elements, the elements first."""
        from kernels.hull import gather_points

        chosen = tuple(sorted(set(elements)))
        if chosen in self._systems:
            self._systems.move_to_end(chosen)
            return self._systems[chosen]
        n = len(chosen)
        rows: list[int] = []
        for size in range(2, n + 1):
            for part in combinations(chosen, size):
                rows.extend(self._members.get(part, ()))
        place = np.zeros(len(self._number_of), dtype=np.int64)
        for column, symbol in enumerate(chosen):
            if symbol in self._number_of:
                place[self._number_of[symbol]] = column
        members = np.array(rows, dtype=np.int64)
        system = PhaseSystem(
            chosen,
            [*(((symbol, 1),) for symbol in chosen), *[self._keys[row] for row in rows]],
            gather_points(members, self._starts, self._elements, self._fractions, place, n),
            np.concatenate([np.zeros(n), self._energies[members]]),
        )
        self._systems[chosen] = system
        if len(self._systems) > _SYSTEMS_KEPT:
            self._systems.popitem(last=False)
        return system


def atom_fractions(key: CompositionKey, elements: Sequence[str]) -> NDArray[np.float64]:
    """Atom fractions of a composition over ``elements``; shape (len(elements),)."""
    amounts = dict(key)
    total = sum(amounts.values())
    return np.array([amounts.get(e, 0) / total for e in elements])
