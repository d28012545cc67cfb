"""From a surrogate's total energy to a formation energy, in one declared energy scheme.

Schemes of a surrogate's totals: ``mp_raw`` (PBE or PBE+U as the Materials Project computes it), ``mp2020`` (the
same with the corrections of Wang et al., Sci. Rep. 2021, 11, 15496, already in), ``matpes_pbe`` (PBE without U).
Schemes of a reference of competing phases: ``mp2020``, or ``self:<surrogate>`` for one that was relaxed with the
surrogate itself. Energies of different schemes are never mixed; a request to do so is a ValueError.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.mp2020 import mp2020_corrections, spare_mp2020_correction
from pipeline.reference.formulas import structure_formula

if TYPE_CHECKING:
    from pymatgen.core import Structure

ELEMENTAL_REFERENCES = "data/materials_project/elemental_references.csv"
_SELF = "self:"


class Surrogate(Protocol):
    """What this module needs of a potential."""

    @property
    def name(self) -> str:
        """Name in the catalogue."""

    @property
    def scheme(self) -> str | None:
        """Energy scheme of its totals; None when it was not declared."""


def self_consistent_scheme(surrogate: str | Surrogate) -> str:
    """Name of the scheme of a reference relaxed with this surrogate: ``self:<name>``."""
    return _SELF + (surrogate if isinstance(surrogate, str) else surrogate.name)


def energy_scheme(surrogate: str | Surrogate) -> str:
    """Energy scheme of a surrogate's totals.

    Parameters
    ----------
    surrogate
        A known name, or an object that has ``scheme``.

    Raises
    ------
    ValueError
        When the name isn't known, or the model's scheme was not declared.
    """
    known: Surrogate = _known_surrogate(surrogate) if isinstance(surrogate, str) else surrogate
    if known.scheme is None:
        raise ValueError(
            f"the energy scheme of model {known.name!r} is not declared; load it with scheme='mp_raw', "
            "'mp2020' or 'matpes_pbe'"
        )
    return known.scheme


def _known_surrogate(name: str) -> Surrogate:
    from pipeline.surrogates.catalogue import known_entries

    known = known_entries()
    if name not in known:
        raise ValueError(f"the energy scheme of model {name!r} is unknown; known are {', '.join(known)}")
    return known[name]


def default_elemental_references() -> Mapping[str, float]:
    """Uncorrected Materials Project energies of the elements, eV/atom, from ``$IONSIEVE_DATA``.

    Raises
    ------
    ValueError
        When ``IONSIEVE_DATA`` isn't set, or the file isn't readable there.
    """
    root = os.environ.get("IONSIEVE_DATA")
    if not root:
        raise ValueError(
            "energies of the elements are needed: give elemental_references, or set IONSIEVE_DATA to the folder "
            f"that holds {ELEMENTAL_REFERENCES}"
        )
    return _read_references(str(Path(root) / ELEMENTAL_REFERENCES))


@lru_cache(maxsize=8)
def _read_references(path: str) -> Mapping[str, float]:
    from pipeline.reference.tables import read_elemental_references

    return read_elemental_references(path)[1]


def formation_energy_per_atom(
    structure: Structure,
    total_energy: float,
    surrogate: str | Surrogate,
    *,
    elemental_references: Mapping[str, float] | None = None,
) -> float:
    """Formation energy in the MP2020 scheme.

    Parameters
    ----------
    structure
        n atoms; its oxidation states, if every site has one, decide which elements are anions.
    total_energy
        The surrogate's energy of the whole cell, eV.
    surrogate
        Name or object of the potential; ``mp_raw`` totals are corrected, ``mp2020`` totals are so already.
    elemental_references
        Uncorrected energy of each element, eV/atom; default `default_elemental_references`.

    Returns
    -------
    float
        eV/atom.

    Raises
    ------
    ValueError
        For a scheme without MP2020 corrections (MatPES), an energy that is no finite number, or an element
        without reference energy.
    """
    if elemental_references is None:
        elemental_references = default_elemental_references()
    corrected = mp2020_total_energy(structure, total_energy, surrogate)
    return relative_to_elements(structure, corrected, elemental_references)


def self_consistent_formation_energy_per_atom(
    structure: Structure, total_energy: float, surrogate: str | Surrogate, elemental_energies: Mapping[str, float]
) -> float:
    """Formation energy relative to the elements as the same surrogate relaxed them: scheme ``self:<surrogate>``.

    Compounds carry the MP2020 corrections where the surrogate's scheme has them (see `reference_total_energy`).

    Parameters
    ----------
    structure, total_energy, surrogate
        As `formation_energy_per_atom`; any scheme will do.
    elemental_energies
        The surrogate's own energy of each element, eV/atom.

    Raises
    ------
    ValueError
        As `formation_energy_per_atom`.
    """
    corrected = reference_total_energy(structure, total_energy, surrogate)
    return relative_to_elements(structure, corrected, elemental_energies)


def reference_total_energy(structure: Structure, total_energy: float, surrogate: str | Surrogate) -> float:
    """Total energy (eV) that a self-consistent hull is made of.

    ``mp_raw`` totals are corrected like the Materials Project's own: without the GGA/GGA+U mixing terms an oxide
    of iron (computed with U) and iron metal (without) differ by eV an atom, and the anion terms mend PBE's O2, F2
    and Cl2. ``mp2020`` totals have the corrections in. ``matpes_pbe`` totals are used as they are: PBE without U
    throughout, so they are consistent, with PBE's known error of the gases left in.
    """
    if energy_scheme(surrogate) == "matpes_pbe":
        _check_energy(structure, total_energy)
        return float(total_energy)
    return mp2020_total_energy(structure, total_energy, surrogate)


def mp2020_total_energy(structure: Structure, total_energy: float, surrogate: str | Surrogate) -> float:
    """Total energy with MP2020 corrections, eV for the cell.

    The difference of two surrogates' MP2020 totals, divided by the number of atoms, is the difference of their
    formation energies in the MP2020 scheme: the elemental references cancel.

    Raises
    ------
    ValueError
        For a scheme without MP2020 corrections, or an energy that is no finite number.
    """
    _check_energy(structure, total_energy)
    scheme = energy_scheme(surrogate)
    if scheme == "mp2020":
        return float(total_energy)
    if scheme == "mp_raw":
        return float(total_energy) + sum(c.energy for c in mp2020_corrections(structure))
    name = surrogate if isinstance(surrogate, str) else surrogate.name
    raise ValueError(
        f"model {name!r} has energies of scheme {scheme!r}, for which no MP2020 corrections exist; "
        "use reference source 'prototypes' (self-consistent) with it, or a model trained on Materials Project totals"
    )


def spare_correction(structure: Structure, surrogate: str | Surrogate) -> float:
    """By how much (eV for the cell) the corrections of this surrogate's totals may still fall as the atoms move."""
    return spare_mp2020_correction(structure) if energy_scheme(surrogate) == "mp_raw" else 0.0


def relative_to_elements(structure: Structure, total_energy: float, elemental_energies: Mapping[str, float]) -> float:
    """(E - sum over atoms of the element's energy) / n, in eV/atom.

    Raises
    ------
    ValueError
        When an element has no energy, naming it.
    """
    symbols = [site.specie.symbol for site in structure]
    missing = sorted(set(symbols) - set(elemental_energies))
    if missing:
        raise ValueError(
            f"no elemental reference energy for {', '.join(missing)} (in {structure_formula(structure)}); "
            "leave the element out of the campaign or add it to the elemental references"
        )
    return float(total_energy - sum(elemental_energies[s] for s in symbols)) / len(symbols)


def _check_energy(structure: Structure, total_energy: float) -> None:
    if not np.isfinite(total_energy):
        raise ValueError(
            f"total energy of {structure_formula(structure)} must be a finite number in eV, got {total_energy}"
        )
