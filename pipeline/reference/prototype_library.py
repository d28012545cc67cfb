"""What a prototype is, and a library of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pymatgen.core import Structure

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LIBRARY_VERSION = 2


@dataclass(frozen=True)
class Member:
    """A crystal that shares a prototype: where it is from, and its element on each class, in the prototype's order."""

    source_id: str
    formula: str
    class_elements: tuple[str, ...]


@dataclass(frozen=True)
class Prototype:
    """A crystal to substitute into.

    Attributes
    ----------
    prototype_id
        Digest of label, charges, elements and cell; the same on every machine, safe as a file name.
    source_id, formula
        The representative crystal.
    frame
        Protostructure label without charges; ``orbit_charges`` are all 0 when oxidation states are unknown.
    lattice, frac_coords, site_orbit
        (3,3) Å rows, (n,3), (n,) ascending: the primitive standardised cell, sites sorted by orbit.
    images
        (g, orbits, orbits): orbits from which each isometry of the sites fills each orbit
        (:func:`pipeline.reference.isometries.orbit_images`).
    ties
        Classes (elements) that the label does not tell apart.
    """

    prototype_id: str
    source_id: str
    formula: str
    frame: str
    spacegroup_number: int
    lattice: FloatArray
    frac_coords: FloatArray
    site_orbit: IntArray
    orbit_elements: tuple[str, ...]
    orbit_charges: tuple[int, ...]
    orbit_multiplicities: tuple[int, ...]
    orbit_wyckoffs: tuple[str, ...]
    orbit_class: tuple[int, ...]
    ties: tuple[tuple[int, ...], ...]
    images: npt.NDArray[np.bool_]
    members: tuple[Member, ...]

    @property
    def n_sites(self) -> int:
        """Atoms in the primitive cell."""
        return len(self.site_orbit)

    @property
    def n_classes(self) -> int:
        """Elements of the representative."""
        return max(self.orbit_class) + 1

    @property
    def has_charges(self) -> bool:
        """Whether oxidation states are known; without them nothing is substituted."""
        return all(self.orbit_charges)

    @cached_property
    def class_charges(self) -> tuple[int, ...]:
        """Charge of each class."""
        first = [self.orbit_class.index(c) for c in range(self.n_classes)]
        return tuple(self.orbit_charges[i] for i in first)

    def structure(self) -> Structure:
        """The representative crystal, without oxidation states."""
        from pymatgen.core import Lattice, Structure

        species = [self.orbit_elements[o] for o in self.site_orbit]
        return Structure(Lattice(self.lattice), species, self.frac_coords)


@dataclass(frozen=True)
class LeftOut:
    """A source crystal that is no prototype: its name, its formula where known, why, and what there is to say of it."""

    source_id: str
    formula: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class PrototypeLibrary:
    """Prototypes by size and label, and how many source crystals were kept or left out, by reason.

    ``left_out`` names the latter in the order of the source, duplicates last: one entry for each crystal that
    ``counts`` has under a reason other than ``kept``. A library that was read from its file has none: the list is
    another file.
    """

    prototypes: tuple[Prototype, ...]
    counts: dict[str, int]
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.prototypes)

    def __iter__(self) -> Iterator[Prototype]:
        return iter(self.prototypes)

    def __getitem__(self, prototype_id: str) -> Prototype:
        """Prototype of an id; KeyError names one that is not in the library."""
        try:
            return self._by_id[prototype_id]
        except KeyError:
            raise KeyError(f"prototype {prototype_id!r} is not in this library of {len(self)} prototypes") from None

    @cached_property
    def _by_id(self) -> dict[str, Prototype]:
        return {p.prototype_id: p for p in self.prototypes}

    @cached_property
    def by_frame(self) -> dict[str, tuple[Prototype, ...]]:
        """Prototypes of the same label without charges, in the library's order."""
        groups: dict[str, list[Prototype]] = {}
        for prototype in self.prototypes:
            groups.setdefault(prototype.frame, []).append(prototype)
        return {frame: tuple(group) for frame, group in groups.items()}

    @cached_property
    def by_unsigned_label(self) -> dict[str, tuple[Prototype, ...]]:
        """Prototypes with oxidation states and the same sites, whatever stands on them, in the library's order."""
        from pipeline.reference.same_sites import unsigned_label

        groups: dict[str, list[Prototype]] = {}
        for prototype in self.prototypes:
            if prototype.has_charges:
                groups.setdefault(unsigned_label(prototype), []).append(prototype)
        return {label: tuple(group) for label, group in groups.items()}

    @cached_property
    def same_sites(self) -> dict[str, tuple[tuple[Prototype, tuple[int, ...]], ...]]:
        """For each prototype (by id) the group of :attr:`by_unsigned_label` that it is in.

        Each of the group stands with its order of classes: the class of the group's first prototype at whose place each
        of its own stands (:func:`pipeline.reference.same_sites.class_order`).
        """
        from pipeline.reference.same_sites import class_order

        out = {}
        for group in self.by_unsigned_label.values():
            ordered = tuple((p, class_order(p, group[0])) for p in group)
            out.update({p.prototype_id: ordered for p in group})
        return out

    def members_on(self, prototype: Prototype) -> set[tuple[str, ...]]:
        """Elements, on a prototype's classes, of all crystals behind the prototypes with the same sites as it."""
        group = self.same_sites[prototype.prototype_id]
        order = next(order for p, order in group if p is prototype)
        found: set[tuple[str, ...]] = set()
        for other, theirs in group:
            at = [theirs.index(place) for place in order]
            found.update(tuple(m.class_elements[d] for d in at) for m in other.members)
        return found

    @cached_property
    def parent_formulas(self) -> frozenset[str]:
        """Reduced formulas of all crystals behind the prototypes."""
        return frozenset(m.formula for p in self.prototypes for m in p.members)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the library."""
        digest = hashlib.sha256(f"prototype library {LIBRARY_VERSION}".encode())
        for p in self.prototypes:
            members = [(m.source_id, m.formula, m.class_elements) for m in p.members]
            digest.update(json.dumps([p.prototype_id, p.orbit_charges, p.source_id, members]).encode())
            digest.update(np.round(p.lattice, 6).tobytes() + np.round(p.frac_coords, 6).tobytes() + p.images.tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the library as Parquet."""
        from pipeline.reference.prototype_store import save

        save(self, path)

    def save_left_out(self, path: Path) -> None:
        """Write ``left_out`` as CSV: source_id, formula, reason, detail."""
        from pipeline.reference.prototype_store import save_left_out

        save_left_out(self, path)

    @classmethod
    def load(cls, path: Path) -> PrototypeLibrary:
        """Read a library that :meth:`save` wrote; PrototypeError when it is broken or of another version."""
        from pipeline.reference.prototype_store import load

        return load(path)
