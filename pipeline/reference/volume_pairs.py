"""Pairs of observed compounds of one structure: what a starting volume is fitted on, and measured with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.reference.formulas import atomic_number
from pipeline.reference.ions import ion
from pipeline.reference.protostructure import SymmetryError, standardise
from pipeline.reference.prototype_library import Member, Prototype, PrototypeLibrary
from pipeline.reference.prototype_sources import SYMBOL, SourceCrystal, from_parquet

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class VolumePair:
    """An observed compound and another one, in whose crystal it is made by substitution.

    Attributes
    ----------
    target_id, formula, volume
        The compound that is reached, and its observed volume for the parent's number of atoms, Å3.
    parent
        The crystal that is substituted, as a prototype of its own (without images, named by its source).
    numbers, charges
        Atomic number and charge on each of the parent's orbits that make the target.
    """

    target_id: str
    formula: str
    volume: float
    parent: Prototype
    numbers: tuple[int, ...]
    charges: tuple[int, ...]

    @property
    def substituted(self) -> Structure:
        """The target's elements in the parent's cell, unscaled."""
        from pymatgen.core import Element, Lattice, Structure

        species = [Element.from_Z(self.numbers[o]) for o in self.parent.site_orbit]
        return Structure(Lattice(self.parent.lattice), species, self.parent.frac_coords)


def observed_pairs(
    library: PrototypeLibrary,
    path: Path,
    *,
    most: int,
    seed: int,
    wanted: Callable[[Member], bool] = lambda _: True,
    parents: str = "any",
    partners: int = 1,
    per_prototype: int | None = None,
) -> list[VolumePair]:
    """Draw pairs from the members of a library's prototypes.

    Parameters
    ----------
    library, path
        Prototypes of observed crystals, and the Parquet file that they were made of.
    most
        Targets, at most, drawn at random from the members that are ``wanted`` and share their prototype with a crystal
        of other elements.
    seed
        Of all drawing. The draw does not depend on what is skipped later.
    wanted
        Which members may be targets.
    parents
        ``any``: another member at random; ``wanted``: another member that is ``wanted`` itself; ``representative``: the
        crystal that campaigns substitute, so that this one is no target.
    partners
        Parents, at most, of each target.
    per_prototype
        Targets, at most, of one prototype.

    Returns
    -------
    list
        In the order drawn. A crystal that moyopy standardises otherwise than the library did is skipped.
    """
    drawn = _draw(library, most, seed, wanted, parents, partners, per_prototype)
    ids = {m.source_id for _, target, parent in drawn for m in (target, parent)}
    crystals = _crystals(path, {m.formula for _, *both in drawn for m in both}, ids)
    prototypes: dict[str, Prototype | None] = {}
    pairs = []
    for group, target, parent in drawn:
        if parent.source_id == group.source_id:
            prototypes.setdefault(parent.source_id, group)
        elif parent.source_id not in prototypes:
            prototypes[parent.source_id] = _own_prototype(crystals[parent.source_id], parent, group)
        chosen = prototypes[parent.source_id]
        if chosen is not None:
            pairs.append(_pair(chosen, target, crystals[target.source_id]))
    return pairs


def _draw(
    library: PrototypeLibrary,
    most: int,
    seed: int,
    wanted: Callable[[Member], bool],
    parents: str,
    partners: int,
    per_prototype: int | None,
) -> list[tuple[Prototype, Member, Member]]:
    rng = np.random.default_rng(seed)
    possible: list[tuple[Prototype, Member, list[Member]]] = []
    for group in sorted((p for p in library if p.has_charges), key=lambda p: p.prototype_id):
        members = sorted(group.members, key=lambda m: m.source_id)
        of_group = []
        for target in members:
            others = [
                m
                for m in members
                if m.class_elements != target.class_elements
                and (parents != "representative" or m.source_id == group.source_id)
                and (parents != "wanted" or wanted(m))
            ]
            if others and wanted(target):
                of_group.append((group, target, others))
        chosen = rng.permutation(len(of_group))[:per_prototype]
        possible += [of_group[i] for i in chosen]
    drawn = []
    for i in rng.permutation(len(possible))[:most]:
        group, target, others = possible[i]
        drawn += [(group, target, others[k]) for k in rng.permutation(len(others))[:partners]]
    return drawn


def _crystals(path: Path, formulas: set[str], ids: Iterable[str]) -> dict[str, SourceCrystal]:
    systems = {frozenset(SYMBOL.findall(formula)) for formula in formulas}
    items = from_parquet(path, lambda elements: None if frozenset(elements) in systems else "not_drawn")
    wanted = set(ids)
    return {i.source_id: i for i in items if isinstance(i, SourceCrystal) and i.source_id in wanted}


def _own_prototype(item: SourceCrystal, member: Member, group: Prototype) -> Prototype | None:
    charges = dict(zip(member.class_elements, group.class_charges, strict=True))
    radii = {e: size if (size := ion(e, q).radius) == size else 0.0 for e, q in charges.items()}
    try:
        crystal = standardise(item.lattice, item.frac_coords, item.elements, charges, radii)
    except SymmetryError:
        return None
    if (crystal.frame, crystal.orbit_charges) != (group.frame, group.orbit_charges):
        return None
    return replace(
        group,
        prototype_id=item.source_id,
        source_id=item.source_id,
        formula=item.formula,
        lattice=crystal.lattice,
        frac_coords=crystal.frac_coords,
        site_orbit=crystal.site_orbit,
        orbit_elements=crystal.orbit_elements,
        orbit_multiplicities=crystal.orbit_multiplicities,
        orbit_wyckoffs=crystal.orbit_wyckoffs,
        orbit_class=crystal.orbit_class,
        images=np.zeros((0, len(crystal.orbit_charges), len(crystal.orbit_charges)), dtype=bool),
        members=(member,),
    )


def _pair(parent: Prototype, target: Member, item: SourceCrystal) -> VolumePair:

    volume = abs(float(np.linalg.det(item.lattice))) * parent.n_sites / len(item.elements)
    numbers = tuple(atomic_number(target.class_elements[c]) for c in parent.orbit_class)
    return VolumePair(target.source_id, target.formula, volume, parent, numbers, parent.orbit_charges)
