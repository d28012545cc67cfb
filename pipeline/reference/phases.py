"""Competing phases: a table of formation energies, indexed by chemical system, and the lower hull over it.

The hull energy at a composition c (atom fractions) is the linear program

    E(c) = min  sum_i x_i E_i   subject to   sum_i x_i n_i = c,  x_i >= 0

over the phases i of the chemical system, with n_i their atom fractions and E_i their formation energies per atom
(Akbarzadeh, Ozoliņš and Wolverton, Adv. Mater. 2007, 19, 3233). It is solved by HiGHS, one program a composition.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.reference.formulas import CompositionKey, composition_key, element_symbols, named_amounts
from pipeline.reference.tables import PhaseTable, read_elemental_references, read_phase_table

if TYPE_CHECKING:
    from pipeline.reference.window import ElectrochemicalWindow

DEFAULT_SCHEME = "mp2020"
_SYSTEMS_KEPT = 4096
# Amounts below this are rounding of the linear program (its feasibility tolerance is 1e-7).
AMOUNT_TOLERANCE = 1e-6


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
    keys: tuple[CompositionKey, ...]
    fractions: NDArray[np.float64]
    energies: NDArray[np.float64]

    def with_phase(self, key: CompositionKey, energy: float) -> PhaseSystem:
        """Return the same system with one phase more."""
        return PhaseSystem(
            self.elements,
            (*self.keys, key),
            np.vstack([self.fractions, atom_fractions(key, self.elements)]),
            np.append(self.energies, energy),
        )


@dataclass(frozen=True)
class Assemblage:
    """Phases in equilibrium at a composition: rows of a ``PhaseSystem`` and their atom fractions."""

    phases: NDArray[np.int64]
    amounts: NDArray[np.float64]
    energy: float


def atom_fractions(key: CompositionKey, elements: Sequence[str]) -> NDArray[np.float64]:
    """Atom fractions of a composition over ``elements``; shape (len(elements),)."""
    amounts = dict(key)
    vector = np.array([amounts.get(e, 0) for e in elements], dtype=float)
    fractions: NDArray[np.float64] = vector / sum(amounts.values())
    return fractions


def equilibrium(system: PhaseSystem, target: NDArray[np.float64]) -> Assemblage:
    """Phases of lowest energy at a composition.

    Parameters
    ----------
    system
        Phases to choose from.
    target
        Atom fractions over ``system.elements``, shape (n,).

    Raises
    ------
    RuntimeError
        When HiGHS finds no solution, with its own message.
    """
    from scipy.optimize import linprog

    solution = linprog(system.energies, A_eq=system.fractions.T, b_eq=target, bounds=(0, None), method="highs-ds")
    if solution.x is None:
        raise RuntimeError(f"HiGHS found no hull energy in {'-'.join(system.elements)}: {solution.message}")
    phases = np.flatnonzero(solution.x > AMOUNT_TOLERANCE)
    # The basis is known; solving it directly gives the amounts to rounding instead of to the program's tolerance.
    amounts = np.asarray(np.linalg.lstsq(system.fractions[phases].T, target, rcond=None)[0], dtype=np.float64)
    return Assemblage(phases, amounts, float(amounts @ system.energies[phases]))


class PhaseReference:
    """Competing phases of one energy scheme, with hull distances and electrochemical windows.

    Make it with `PhaseReference.from_table`. Compositions are indexed by chemical system on loading; the phases
    of a system are gathered when first asked for.
    """

    def __init__(
        self,
        energies: Mapping[CompositionKey, float],
        *,
        elemental_energies: Mapping[str, float] | None = None,
        elements: Iterable[str] | None = None,
        scheme: str = DEFAULT_SCHEME,
        digest: str = "",
        source: str = "memory",
    ) -> None:
        """Index formation energies by chemical system.

        Parameters
        ----------
        energies
            Lowest formation energy of each composition, eV/atom.
        elemental_energies
            Total energy of each element in the same scheme, eV/atom; carried for `pipeline.energetics`.
        elements
            Elements whose formation energy is zero by definition; default those of ``elemental_energies``, else
            all that occur in ``energies``.
        scheme
            What the formation energies are: ``mp2020`` or ``self:<surrogate>``.
        digest, source
            Provenance: hash of what was read, and from where.
        """
        self._energies = dict(energies)
        self.elemental_energies = None if elemental_energies is None else dict(elemental_energies)
        if elements is None:
            found = {symbol for key in self._energies for symbol, _ in key}
            elements = found if elemental_energies is None else elemental_energies
        self.elements = frozenset(elements)
        self.scheme = scheme
        self.digest = digest
        self.source = source
        self._bits = {symbol: 1 << i for i, symbol in enumerate(sorted(element_symbols()))}
        self._by_mask: dict[int, list[CompositionKey]] = {}
        for key, energy in self._energies.items():
            # A phase above its elements is never on the hull.
            if len(key) > 1 and energy < 0.0:
                self._by_mask.setdefault(self._mask(key), []).append(key)
        self._systems: OrderedDict[tuple[str, ...], PhaseSystem] = OrderedDict()

    @classmethod
    def from_table(
        cls,
        path: str | Path,
        *,
        elemental_references: str | Path | None = None,
        scheme: str | None = None,
    ) -> PhaseReference:
        """Read a table of formation energies.

        Parameters
        ----------
        path
            CSV (or .csv.gz) with columns ``formula`` and ``formation_energy_per_atom`` (eV/atom), and perhaps
            ``scheme``. Of several rows of one composition the lowest counts. Elements are zero by definition.
        elemental_references
            CSV with columns ``element`` and ``energy_per_atom`` (eV/atom, same scheme). The elements in it are
            those that are zero by definition; without it, all elements of the table are.
        scheme
            Energy scheme; default what the table's column ``scheme`` says, else ``mp2020``. A table that
            declares another scheme is refused.

        Raises
        ------
        ValueError
            When a file is missing, unreadable, truncated, or a row is bad; names the path, line and value.
        """
        table = read_phase_table(path)
        scheme = _agreed_scheme(table, scheme)
        digest = hashlib.sha256(table.raw)
        elemental: dict[str, float] | None = None
        if elemental_references is not None:
            elemental_raw, elemental = read_elemental_references(elemental_references)
            digest.update(elemental_raw)
        digest.update(scheme.encode())
        return cls(
            table.energies,
            elemental_energies=elemental,
            scheme=scheme,
            digest=digest.hexdigest(),
            source=str(path),
        )

    def with_phases(self, formulas: Sequence[str], formation_energies: Sequence[float]) -> PhaseReference:
        """Make a reference in which further phases compete too; the lowest of each composition counts.

        Parameters
        ----------
        formulas
            n compositions.
        formation_energies
            eV/atom in this reference's scheme, shape (n,).

        Raises
        ------
        ValueError
            When lengths differ or a formula can't be read.
        """
        energies = dict(self._energies)
        for formula, energy in zip(formulas, formation_energies, strict=True):
            key = composition_key(formula)
            energies[key] = min(float(energy), energies.get(key, np.inf))
        return PhaseReference(
            energies,
            elemental_energies=self.elemental_energies,
            elements=self.elements,
            scheme=self.scheme,
            source=f"{self.source} and {len(formulas)} more phases",
        )

    def __len__(self) -> int:
        return len(self._energies)

    def __repr__(self) -> str:
        return f"PhaseReference({len(self)} compositions, scheme {self.scheme!r}, from {self.source})"

    def contains(self, formula: str) -> bool:
        """Tell whether the table has an entry of this composition; elements count when they are references."""
        key = composition_key(formula)
        return key in self._energies or (len(key) == 1 and key[0][0] in self.elements)

    def energy_above_hull(self, formulas: Sequence[str], formation_energies: Sequence[float] | Any) -> Any:
        """Distance of each candidate to the hull of the reference; candidates do not compete with each other.

        Parameters
        ----------
        formulas
            n compositions.
        formation_energies
            eV/atom in this reference's scheme, shape (n,).

        Returns
        -------
        numpy.ndarray
            eV/atom, shape (n,); negative below the hull, NaN where the formation energy is NaN.

        Raises
        ------
        ValueError
            When lengths differ, a formula can't be read, or an element is not among the references.
        """
        values = np.asarray(formation_energies, dtype=float)
        if values.shape != (len(formulas),):
            raise ValueError(f"{len(formulas)} formulas and formation_energies of shape {values.shape}")
        hull: dict[str, float] = {f: self.hull_energy(f) for f in dict.fromkeys(formulas)}
        return values - np.array([hull[f] for f in formulas], dtype=float)

    def hull_energy(self, formula: str) -> float:
        """Formation energy of the stable phases at a composition, eV/atom."""
        return self.assemblage(formula)[1].energy

    def decomposition(self, formula: str) -> dict[str, float]:
        """Stable phases at a composition, with their atom fractions (sum 1), largest first.

        Raises
        ------
        ValueError
            As `energy_above_hull`.
        """
        system, found = self.assemblage(formula)
        return named_amounts((system.keys[i], x) for i, x in zip(found.phases, found.amounts, strict=True))

    def electrochemical_window(
        self, formula: str, ion: str = "Li", formation_energy: float | None = None
    ) -> ElectrochemicalWindow:
        """Voltages between which a composition neither takes up nor releases the ion.

        See `pipeline.reference.window.electrochemical_window` for the conventions.
        """
        from pipeline.reference.window import electrochemical_window

        return electrochemical_window(self, formula, ion, formation_energy)

    def assemblage(self, formula: str) -> tuple[PhaseSystem, Assemblage]:
        """Phases of the chemical system, and those in equilibrium at the composition."""
        key = composition_key(formula)
        system = self.system(symbol for symbol, _ in key)
        return system, equilibrium(system, atom_fractions(key, system.elements))

    def system(self, elements: Iterable[str]) -> PhaseSystem:
        """Phases made of these elements, the elements first.

        Raises
        ------
        ValueError
            When an element is not among the references, naming it.
        """
        chosen = tuple(sorted(set(elements)))
        if chosen in self._systems:
            self._systems.move_to_end(chosen)
            return self._systems[chosen]
        unknown = [e for e in chosen if e not in self.elements]
        if unknown:
            raise ValueError(
                f"element {', '.join(unknown)} has no reference energy in {self.source}; leave it out of the "
                "campaign or add it to the elemental references"
            )
        full = sum(self._bits[e] for e in chosen)
        keys: list[CompositionKey] = [((e, 1),) for e in chosen]
        part = full
        while part:
            keys.extend(self._by_mask.get(part, ()))
            part = (part - 1) & full
        system = PhaseSystem(
            chosen,
            tuple(keys),
            np.array([atom_fractions(key, chosen) for key in keys]),
            np.array([0.0 if len(key) == 1 else self._energies[key] for key in keys]),
        )
        self._systems[chosen] = system
        if len(self._systems) > _SYSTEMS_KEPT:
            self._systems.popitem(last=False)
        return system

    def _mask(self, key: CompositionKey) -> int:
        return sum(self._bits[symbol] for symbol, _ in key)


def _agreed_scheme(table: PhaseTable, asked: str | None) -> str:
    if asked is not None and table.scheme is not None and asked != table.scheme:
        raise ValueError(
            f"{table.path} declares scheme {table.scheme!r}, but {asked!r} was asked for; schemes can't be mixed"
        )
    return asked or table.scheme or DEFAULT_SCHEME
