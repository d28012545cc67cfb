"""The prototype library: real crystals with oxidation states, reduced to orbits that ions are placed on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.reference.bonds import cation_anion_bonds
from pipeline.reference.ions import ion
from pipeline.reference.isometries import orbit_images
from pipeline.reference.protostructure import (
    SymmetricCrystal,
    SymmetryError,
    standardise,
    without_symmetry,
)
from pipeline.reference.prototype_charges import assign_charges, refusal
from pipeline.reference.prototype_library import LeftOut, Member, Prototype, PrototypeLibrary
from pipeline.reference.prototype_sources import (
    PrototypeError,
    SourceCrystal,
    from_aflow,
    from_folder,
    from_parquet,
    read_table,
)

if TYPE_CHECKING:
    from pipeline.candidate_settings import PrototypeSettings

__all__ = ["Member", "Prototype", "PrototypeError", "PrototypeLibrary", "build_library", "observed_formulas"]

Pair = tuple[SourceCrystal, SymmetricCrystal]

SAME_SHAPE = 1e-4
"""Mean distance of metric tensors below which cells count as equally near; the files' digits make 1e-6."""


def observed_formulas(path: Path) -> frozenset[str]:
    """Reduced formulas of a structures file."""
    formulas = read_table(path, ["formula"])["formula"].to_pylist()
    if not all(isinstance(formula, str) for formula in formulas):
        raise PrototypeError(f"column formula of {path} holds values that are no text; reduced formulas are expected")
    return frozenset(formulas)


def build_library(
    settings: PrototypeSettings, path: Path | None = None, *, keep_all: bool | None = None
) -> PrototypeLibrary:
    """Read, filter, assign oxidation states, find symmetry and deduplicate.

    Crystals that share protostructure label and charges become one prototype. Its representative is the member
    nearest to all others in the shape of the cell (:func:`_representative`).

    Parameters
    ----------
    settings
        ``source``, ``max_sites``, numbers of elements, ``anions``.
    path
        The Parquet file or the folder; what was fetched, for ``mp_api``.
    keep_all
        Keep every crystal, also those without oxidation states or that share a label: they are screened as they are,
        not substituted. None: where the source is a folder. Numbers of elements and anions are asked of a folder's
        crystals only where they are substituted.

    Raises
    ------
    PrototypeError
        When the file or folder can't be read.
    """
    own = settings.source == "folder" if keep_all is None else keep_all
    left_out: list[LeftOut] = []
    found: dict[tuple[object, ...], list[Pair]] = {}
    for pair in _pairs(settings, path, own=own):
        if isinstance(pair, LeftOut):
            left_out.append(pair)
            continue
        item, crystal = pair
        key: tuple[object, ...] = (crystal.frame, crystal.orbit_charges)
        found.setdefault((*key, item.source_id) if own else key, []).append(pair)
    made = []
    for group in found.values():
        chosen = _representative([c for _, c in group])
        others = [item for k, (item, _) in enumerate(group) if k != chosen]
        made.append((make_prototype(group[chosen], group), group[chosen][0], others))
    kept: dict[str, Prototype] = {}
    for prototype, item, others in sorted(made, key=lambda m: _order(m[0])):
        first = kept.setdefault(prototype.prototype_id, prototype)
        alike = f"of {first.source_id} ({first.formula})"
        twice = others if first is prototype else [item, *others]
        left_out += [LeftOut(i.source_id, i.formula, "duplicate", alike) for i in twice]
    counts = Counter(kept=len(kept)) + Counter(entry.reason for entry in left_out)
    return PrototypeLibrary(tuple(kept.values()), dict(sorted(counts.items())), tuple(left_out))


def _order(prototype: Prototype) -> tuple[object, ...]:
    return (
        prototype.n_sites,
        prototype.frame,
        prototype.orbit_charges,
        prototype.prototype_id,
        prototype.source_id,
    )


def _pairs(settings: PrototypeSettings, path: Path | None, *, own: bool) -> Iterator[Pair | LeftOut]:
    """Each crystal of the source beside its symmetric form, or the reason for which it is left out."""
    for item in _source(settings, path, own=own):
        if isinstance(item, LeftOut):
            yield item
            continue
        outcome = _prepare(item, settings, keep_without_charges=own)
        yield outcome if isinstance(outcome, LeftOut) else (item, outcome)


def _source(settings: PrototypeSettings, path: Path | None, *, own: bool) -> Iterator[SourceCrystal | LeftOut]:
    if settings.source == "aflow":
        return from_aflow()
    if path is None:
        raise PrototypeError(f"prototype source {settings.source!r} needs a path")
    if settings.source == "folder":
        return from_folder(path, settings.on_broken_file)
    return from_parquet(path, lambda elements: refusal(elements, settings, substituted=not own))


def _prepare(
    item: SourceCrystal, settings: PrototypeSettings, *, keep_without_charges: bool
) -> SymmetricCrystal | LeftOut:
    """The symmetric crystal, or the reason for which it is left out."""

    def left_out(reason: str, detail: str = "") -> LeftOut:
        return LeftOut(item.source_id, item.formula, reason, detail)

    present = set(item.elements)
    if not (keep_without_charges and settings.source == "folder"):
        reason = refusal(present, settings, substituted=not keep_without_charges)
        if reason is not None:
            return left_out(reason)
    charges = assign_charges(item, settings)
    if charges.reason is not None and not (keep_without_charges and charges.reason != "other_anions"):
        return left_out(charges.reason, charges.detail)
    radii = {e: _radius(e, charges.by_element.get(e, 0)) for e in present}
    try:
        crystal = standardise(item.lattice, item.frac_coords, item.elements, charges.by_element, radii)
    except SymmetryError as error:
        if not keep_without_charges:
            return left_out("no_symmetry_found", str(error))
        crystal = without_symmetry(item.lattice, item.frac_coords, item.elements, charges.by_element, radii)
    if len(crystal.site_orbit) > settings.max_sites:
        return left_out("too_many_sites", str(len(crystal.site_orbit)))
    return crystal


def _radius(element: str, charge: int) -> float:
    radius = ion(element, charge).radius if charge else 0.0
    return radius if radius == radius else 0.0


def _representative(crystals: list[SymmetricCrystal]) -> int:
    """Index of the member with the least sum of distances to all others (the medoid).

    The distance compares the metric tensors of the primitive standardised cells at unit volume, so it sees axial
    ratios and angles but not the free coordinates of the sites. Equal ones (two members, cubic cells) are settled by
    :func:`_bond_deviation`: of those that fit Shannon's radii best the rescaled volumes are the most reliable.
    """
    if len(crystals) == 1:
        return 0
    shapes = []
    for crystal in crystals:
        scaled = crystal.lattice / abs(np.linalg.det(crystal.lattice)) ** (1 / 3)
        shapes.append((scaled @ scaled.T)[np.triu_indices(3)])
    points = np.array(shapes)
    total = np.linalg.norm(points[:, None, :] - points[None, :, :], axis=2).sum(axis=1) / len(crystals)
    tied = np.flatnonzero(total < total.min() + SAME_SHAPE)
    return int(min(tied, key=lambda k: _bond_deviation(crystals[k])))


def _bond_deviation(crystal: SymmetricCrystal) -> float:
    r"""Mean over the bonds of \|ln(length / sum of Shannon's radii)\|; infinite when a radius is unknown."""
    if not all(crystal.orbit_charges):
        return np.inf
    pairs, counts, lengths = cation_anion_bonds(
        crystal.lattice, crystal.frac_coords, crystal.site_orbit, crystal.orbit_elements, crystal.orbit_charges
    )
    radii = np.array([ion(e, q).radius for e, q in zip(crystal.orbit_elements, crystal.orbit_charges, strict=True)])
    deviation = np.abs(np.log(lengths / radii[pairs].sum(axis=1)))
    mean = float(np.average(deviation, weights=counts)) if len(pairs) else np.inf
    return round(mean, 9) if np.isfinite(mean) else np.inf


def make_prototype(chosen: Pair, group: list[Pair]) -> Prototype:
    """Make the prototype of a group of crystals that share frame and charges, represented by one of them."""
    item, crystal = chosen
    charges = np.array(crystal.orbit_charges)[crystal.site_orbit]
    n_orbits = len(crystal.orbit_charges)
    return Prototype(
        prototype_id=_prototype_id(item, crystal),
        source_id=item.source_id,
        formula=item.formula,
        frame=crystal.frame,
        spacegroup_number=crystal.spacegroup_number,
        lattice=crystal.lattice,
        frac_coords=crystal.frac_coords,
        site_orbit=crystal.site_orbit,
        orbit_elements=crystal.orbit_elements,
        orbit_charges=crystal.orbit_charges,
        orbit_multiplicities=crystal.orbit_multiplicities,
        orbit_wyckoffs=crystal.orbit_wyckoffs,
        orbit_class=crystal.orbit_class,
        ties=crystal.ties,
        images=orbit_images(crystal.lattice, crystal.frac_coords, charges, crystal.site_orbit)
        if charges.all()
        else np.zeros((0, n_orbits, n_orbits), dtype=bool),
        members=tuple(Member(i.source_id, i.formula, _class_elements(c)) for i, c in group),
    )


def _class_elements(crystal: SymmetricCrystal) -> tuple[str, ...]:
    return tuple(crystal.orbit_elements[crystal.orbit_class.index(c)] for c in range(max(crystal.orbit_class) + 1))


def _prototype_id(item: SourceCrystal, crystal: SymmetricCrystal) -> str:
    """Twelve hexadecimal digits of label, charges, elements, cell and sites.

    Cell and sites enter as the source gives them, rounded, so that no arithmetic of one machine moves them.
    """
    from pymatgen.core import Lattice

    cell = np.round(Lattice(item.lattice).parameters, 2) + 0.0
    identity = [
        crystal.frame,
        crystal.orbit_charges,
        item.elements,
        [f"{x:.2f}" for x in cell],
        [f"{x % 1.0:.3f}" for x in np.round(item.frac_coords, 3).reshape(-1) % 1.0],
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
