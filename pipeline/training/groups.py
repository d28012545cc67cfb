"""What crystals are never divided between splits by: groups that hold whatever shares a prototype."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.reference.protostructure import SymmetryError, standardise


def _symbols(row: Mapping[str, Any]) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[int(z)] for z in row["atomic_numbers"]]


def formula_group(row: Mapping[str, Any]) -> str:
    """Reduced formula of a row with ``atomic_numbers``."""
    from pymatgen.core import Composition

    symbols = _symbols(row)
    return str(Composition({symbol: symbols.count(symbol) for symbol in set(symbols)}).reduced_formula)


def protostructure(row: Mapping[str, Any]) -> str | None:
    """Anonymous formula, sites, space group and Wyckoff letters of a row's crystal; None where there is no symmetry.

    Distorted crystals have none, so that their label would be that of any crystal with as many atoms.
    """
    lattice = np.asarray(row["lattice"], np.float64).reshape(3, 3)
    coords = np.asarray(row["frac_coords"], np.float64).reshape(-1, 3)
    try:
        crystal = standardise(lattice, coords, _symbols(row), {}, {})
    except SymmetryError:
        return None
    return crystal.frame if crystal.spacegroup_number > 1 else None


def protostructure_group(row: Mapping[str, Any]) -> str:
    """Protostructure of a row's crystal; the reduced formula where there is no symmetry."""
    return protostructure(row) or formula_group(row)


def joined_groups(prototypes: Sequence[str], protostructures: Sequence[str | None]) -> list[str]:
    """Group of each of n frames, so that no prototype and no protostructure is in two groups.

    Two frames are in one group when they come from one prototype, when both have the symmetry of one protostructure,
    or when a chain of such frames joins them: ions of one kind on two orbits may turn one prototype into another, and
    so may a relaxation.

    Parameters
    ----------
    prototypes
        (n,) what each frame was drawn from.
    protostructures
        (n,) label of each frame's own symmetry, None without any.

    Returns
    -------
    list of str
        (n,) the first of its group's prototypes in alphabetical order.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for prototype, label in zip(prototypes, protostructures, strict=True):
        # The root is the least of its tree, and "p" comes before "s": a prototype.
        ends = sorted([root(("p", prototype)), *([root(("s", label))] if label is not None else [])])
        parent[ends[-1]] = ends[0]
    return [root(("p", prototype))[1] for prototype in prototypes]


def linked(prototypes: Sequence[str], protostructures: Sequence[str | None], known: Collection[str]) -> list[bool]:
    """Which of n frames are of a prototype that is known, or that has a frame of a known protostructure.

    Parameters
    ----------
    prototypes, protostructures
        (n,) as in :func:`joined_groups`.
    known
        Prototypes and protostructures of other frames.
    """
    near = {p for p, label in zip(prototypes, protostructures, strict=True) if p in known or label in known}
    return [prototype in near for prototype in prototypes]
