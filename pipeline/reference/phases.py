"""Competing phases of one energy scheme: hull distances, decompositions, windows and reactions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.reference.formulas import CompositionKey, composition_key, composition_keys, named_amounts
from pipeline.reference.phase_system import Assemblage, PhaseIndex, PhaseSystem, atom_fractions
from pipeline.reference.tables import PhaseTable, read_elemental_references, read_phase_table
from pipeline.wording import quoted

if TYPE_CHECKING:
    from pipeline.reference.reaction import MutualReaction
    from pipeline.reference.window import ElectrochemicalWindow, VoltageProfile

DEFAULT_SCHEME = "mp2020"


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
        self._index = PhaseIndex(self._energies)

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
        keys = composition_keys(formulas)
        by_system: dict[tuple[str, ...], list[int]] = {}
        for i, key in enumerate(keys):
            by_system.setdefault(tuple([symbol for symbol, _ in key]), []).append(i)
        hull = np.empty(len(keys))
        for elements, members in by_system.items():
            # Keys name their elements in the order of the system's.
            amounts = np.array([[n for _, n in keys[i]] for i in members], dtype=float)
            hull[members] = self.system(elements).hull_energies(amounts / amounts.sum(axis=1, keepdims=True))
        return values - hull

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

    def voltage_profile(self, formula: str, ion: str = "Li", formation_energy: float | None = None) -> VoltageProfile:
        """Content of the ion and phases in equilibrium at every voltage against the ion's metal.

        See `pipeline.reference.window.voltage_profile`.
        """
        from pipeline.reference.window import voltage_profile

        return voltage_profile(self, formula, ion, formation_energy)

    def mutual_reaction(self, formula: str, partner: str, formation_energy: float | None = None) -> MutualReaction:
        """Reaction of largest driving force between a composition and a partner, such as a cathode.

        See `pipeline.reference.reaction.mutual_reaction`.
        """
        from pipeline.reference.reaction import mutual_reaction

        return mutual_reaction(self, formula, partner, formation_energy)

    def assemblage(self, formula: str) -> tuple[PhaseSystem, Assemblage]:
        """Phases of the chemical system, and those in equilibrium at the composition."""
        key = composition_key(formula)
        system = self.system(symbol for symbol, _ in key)
        return system, system.equilibrium(atom_fractions(key, system.elements))

    def system(self, elements: Iterable[str]) -> PhaseSystem:
        """Phases made of these elements, the elements first.

        Raises
        ------
        ValueError
            When an element is not among the references, naming it.
        """
        chosen = set(elements)
        unknown = sorted(chosen - self.elements)
        if unknown:
            raise ValueError(
                f"element {', '.join(unknown)} has no reference energy in {self.source}; leave it out of the "
                "campaign or add it to the elemental references"
            )
        return self._index.system(chosen)


def _agreed_scheme(table: PhaseTable, asked: str | None) -> str:
    if asked is not None and table.scheme is not None and asked != table.scheme:
        raise ValueError(
            f"{table.path} declares scheme {quoted(table.scheme)}, but {asked!r} was asked for; schemes can't be mixed"
        )
    return asked or table.scheme or DEFAULT_SCHEME
