"""The prototype library: real crystals with oxidation states, reduced to orbits that ions are placed on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.reference.bonds import cation_anion_bonds
from pipeline.reference.ions import ion, oxidation_states
from pipeline.reference.oxidation import charge_solutions, decide_charges
from pipeline.reference.protostructure import (
    SymmetricCrystal,
    SymmetryError,
    equivalent_images,
    standardise,
    without_symmetry,
)
from pipeline.reference.prototype_library import Member, Prototype, PrototypeLibrary
from pipeline.reference.prototype_sources import (
    SYMBOL,
    PrototypeError,
    SourceCrystal,
    from_aflow,
    from_folder,
    from_parquet,
    read_table,
)

if TYPE_CHECKING:
    from pipeline.settings import PrototypeSettings

__all__ = ["Member", "Prototype", "PrototypeError", "PrototypeLibrary", "build_library", "observed_formulas"]

SAME_SHAPE = 1e-4
"""Mean distance of metric tensors below which cells count as equally near; the files' digits make 1e-6."""


def observed_formulas(path: Path) -> frozenset[str]:
    """Reduced formulas of a structures file."""
    formulas = read_table(path, ["formula"])["formula"].to_pylist()
    if not all(isinstance(formula, str) for formula in formulas):
        raise PrototypeError(f"column formula of {path} holds values that are no text; reduced formulas are expected")
    return frozenset(formulas)


def build_library(settings: PrototypeSettings, path: Path | None = None) -> PrototypeLibrary:
    """Read, filter, assign oxidation states, find symmetry and deduplicate.

    Crystals from a table or from AFLOW that share protostructure label and charges become one prototype. Its
    representative is the member nearest to all others in the shape of the cell (:func:`_representative`). Crystals
    of the user's own folder are all kept, also without oxidation states.

    Parameters
    ----------
    settings
        ``source``, ``max_sites``, numbers of elements, ``anions``.
    path
        The Parquet file or the folder.

    Raises
    ------
    PrototypeError
        When the file or folder can't be read.
    """
    own = settings.source == "folder"
    counts: Counter[str] = Counter()
    found: dict[tuple[object, ...], list[tuple[SourceCrystal, SymmetricCrystal]]] = {}
    for item in _source(settings, path):
        if isinstance(item, str):
            counts[item] += 1
            continue
        crystal = _prepare(item, settings, keep_without_charges=own)
        if isinstance(crystal, str):
            counts[crystal] += 1
            continue
        key: tuple[object, ...] = (crystal.frame, crystal.orbit_charges)
        found.setdefault((*key, item.source_id) if own else key, []).append((item, crystal))
    prototypes = []
    for group in found.values():
        chosen = _representative([c for _, c in group])
        prototypes.append(make_prototype(group[chosen], group))
        counts["kept"] += 1
        counts["duplicate"] += len(group) - 1
    order = sorted(prototypes, key=lambda p: (p.n_sites, p.frame, p.orbit_charges, p.prototype_id, p.source_id))
    distinct = {p.prototype_id: p for p in reversed(order)}
    counts["kept"] -= len(order) - len(distinct)
    counts["duplicate"] += len(order) - len(distinct)
    kept = tuple(p for p in order if distinct[p.prototype_id] is p)
    return PrototypeLibrary(kept, {k: v for k, v in sorted(counts.items()) if v})


def _source(settings: PrototypeSettings, path: Path | None) -> Iterator[SourceCrystal | str]:
    if settings.source == "aflow":
        return from_aflow()
    if path is None:
        raise PrototypeError(f"prototype source {settings.source!r} needs a path")
    if settings.source == "folder":
        return from_folder(path, settings.on_broken_file)
    return from_parquet(path, _refusal(settings))


def _refusal(settings: PrototypeSettings) -> Callable[[str], str | None]:
    """Reason for which a formula alone is enough to leave a crystal out, or None."""

    def reason(formula: str) -> str | None:
        present = set(SYMBOL.findall(formula))
        if len(present) == 1:
            return "one_element"
        if not settings.min_elements <= len(present) <= settings.max_elements:
            return "number_of_elements"
        if settings.anions and not present & set(settings.anions):
            return "other_anions"
        if not all(oxidation_states(e) for e in present):
            return "element_without_oxidation_states"
        return None

    return reason


def _prepare(item: SourceCrystal, settings: PrototypeSettings, *, keep_without_charges: bool) -> SymmetricCrystal | str:
    """The symmetric crystal, or the reason for which it is left out."""
    if item.disordered:
        return "partial_occupancy"
    present = set(item.elements)
    if not keep_without_charges:
        reason = _refusal(settings)(item.formula)
        if reason is not None:
            return reason
    charges, trouble = _charges(item, settings)
    if trouble is not None and not keep_without_charges:
        return trouble
    if trouble == "other_anions":
        return trouble
    radii = {e: _radius(e, charges.get(e, 0)) for e in present}
    try:
        crystal = standardise(item.lattice, item.frac_coords, item.elements, charges, radii)
    except SymmetryError:
        if not keep_without_charges:
            return "no_symmetry_found"
        crystal = without_symmetry(item.lattice, item.frac_coords, item.elements, charges, radii)
    if len(crystal.site_orbit) > settings.max_sites:
        return "too_many_sites"
    return crystal


def _radius(element: str, charge: int) -> float:
    radius = ion(element, charge).radius if charge else 0.0
    return radius if radius == radius else 0.0


def _charges(item: SourceCrystal, settings: PrototypeSettings) -> tuple[dict[str, int], str | None]:
    """Oxidation states by element, and the reason when there are none."""
    if item.charges:
        solutions = [dict(item.charges)]
    elif len(set(item.elements)) == 1:
        return {}, "one_element"
    else:
        solutions = charge_solutions(Counter(item.elements))
    if not solutions:
        return {}, "no_charge_balance"
    if settings.anions and all(_other_anion(s, settings.anions) for s in solutions):
        return {}, "other_anions"
    if len(solutions) > 1:
        from pymatgen.core import Lattice, Structure

        decided = decide_charges(Structure(Lattice(item.lattice), item.elements, item.frac_coords), solutions)
        if decided is None:
            return {}, "ambiguous_oxidation_states"
        solutions = [decided]
    if settings.anions and _other_anion(solutions[0], settings.anions):
        return {}, "other_anions"
    return solutions[0], None


def _other_anion(solution: dict[str, int], anions: tuple[str, ...]) -> bool:
    return any(q < 0 and e not in anions for e, q in solution.items())


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


def make_prototype(
    chosen: tuple[SourceCrystal, SymmetricCrystal], group: list[tuple[SourceCrystal, SymmetricCrystal]]
) -> Prototype:
    """Make the prototype of a group of crystals that share frame and charges, represented by one of them."""
    item, crystal = chosen
    colours = np.array([1 if q >= 0 else 2 for q in crystal.orbit_charges])[crystal.site_orbit]
    known = all(crystal.orbit_charges)
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
        images=equivalent_images(crystal.lattice, crystal.frac_coords, colours, crystal.site_orbit)
        if known
        else np.zeros((0, len(crystal.site_orbit)), dtype=np.int64),
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
