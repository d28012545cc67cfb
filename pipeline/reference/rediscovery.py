"""Leave-one-out rediscovery: is an observed compound enumerated again when its crystals are not in the library?

A compound is removed with every source crystal that is the same one (:mod:`pipeline.reference.observed_compounds`).
Where it represented a prototype, the library of its label is built anew from the crystals that are left, so that
another one represents it or the prototype is gone. What is left is enumerated as a campaign does, and the compound is
looked up by its identity, the elements on the orbits.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.site_images import canonical_forms
from pipeline.candidate_settings import CandidateGates, CandidateSettings
from pipeline.reference.formulas import atomic_number
from pipeline.reference.ions import allowed_ions
from pipeline.reference.observed_compounds import Compound
from pipeline.reference.protostructure import tied_permutations
from pipeline.reference.prototype_library import Prototype, PrototypeLibrary
from pipeline.reference.prototypes import build_library

if TYPE_CHECKING:
    import pyarrow as pa

NO_GATES = CandidateGates(mobile_ion_fraction=None, electronegativity_order=False, require_mobile_ion=False)

GATES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("require_one_of", {"require_one_of": ()}),
    ("not_together", {"not_together": ()}),
    ("mobile ions", {"mobile_ion_fraction": None, "require_mobile_ion": False}),
    ("electronegativity_order", {"electronegativity_order": False}),
    ("radius_mismatch", {"radius_mismatch": None}),
    ("substitution_probability", {"substitution_probability": None}),
)
"""Each gate of a campaign, and what turns it off."""


@dataclass(frozen=True)
class Outcome:
    """What became of a compound that was left out.

    ``found``: enumerated again. ``represented``: a prototype of its label and its charges is left (with
    ``charge_neutral`` substitution: of its label). ``miss`` says why it is not found, ``gates`` which of the
    campaign's gates alone would reject it; both are empty otherwise.
    """

    compound: Compound
    found: bool
    represented: bool
    miss: str
    gates: tuple[str, ...]


def leave_one_out(
    compounds: Sequence[Compound],
    library: PrototypeLibrary,
    crystals: pa.Table,
    settings: CandidateSettings,
    mobile_ions: tuple[str, ...],
) -> Iterator[Outcome]:
    """Remove each compound by itself and enumerate what is left.

    A label's candidates are listed once for all compounds that represent none of its prototypes: what is listed
    depends on the representative, not on the other crystals behind it.

    Parameters
    ----------
    compounds
        Of the file that the library was built from.
    library
        All prototypes of that file.
    crystals
        The file itself, all columns.
    settings
        The campaign's, substitution not ``none``. Gates are asked about one by one, after the compound is found.
    mobile_ions
        Elements whose ions should move, for the gates.
    """
    row_of = {source: row for row, source in enumerate(crystals["material_id"].to_pylist())}
    open_settings = settings.model_copy(update={"gates": NO_GATES})
    placed = {(i.element, i.charge) for i in allowed_ions(settings)}

    @lru_cache(maxsize=16)
    def listed_whole(frame: str) -> frozenset[str]:
        return _listed(library.by_frame.get(frame, ()), open_settings, mobile_ions)

    for compound in sorted(compounds, key=lambda c: c.addresses[0].frame):
        left: list[Prototype] = []
        found_on: list[Prototype] = []
        for frame in sorted({a.frame for a in compound.addresses}):
            whole = library.by_frame.get(frame, ())
            represents = any(p.source_id in compound.source_ids for p in whole)
            rest = _without(whole, compound, crystals, row_of, settings) if represents else whole
            left.extend(rest)
            rows = _listed(rest, open_settings, mobile_ions) if represents else listed_whole(frame)
            if any(name in rows for p in rest for name in _names(p, compound)):
                found_on.extend(rest)
        represented = _represented(left, compound, settings)
        yield Outcome(
            compound,
            found=bool(found_on),
            represented=represented,
            miss="" if found_on else _reason(compound, left, represented, placed, settings),
            gates=_gates(compound, found_on, settings, mobile_ions) if found_on else (),
        )


def _without(
    whole: Sequence[Prototype],
    compound: Compound,
    crystals: pa.Table,
    row_of: dict[str, int],
    settings: CandidateSettings,
) -> tuple[Prototype, ...]:
    """The prototypes of a label as they are built from all their crystals but the compound's."""
    import pyarrow.parquet as pq

    kept = [m.source_id for p in whole for m in p.members if m.source_id not in compound.source_ids]
    if not kept:
        return ()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crystals.parquet"
        pq.write_table(crystals.take(sorted(row_of[source] for source in kept)), path)
        return build_library(settings.prototypes, path).prototypes


def _listed(
    prototypes: Sequence[Prototype], settings: CandidateSettings, mobile_ions: tuple[str, ...]
) -> frozenset[str]:
    """Identities (``candidate_id`` without its formula) of all candidates of the prototypes of a label."""
    from pipeline.stages.candidates import enumerate_unit, plan_units

    library = PrototypeLibrary(tuple(prototypes), {"kept": len(prototypes)})
    names: set[str] = set()
    for unit in plan_units(settings, library):
        rows, _ = enumerate_unit(unit, settings, library, mobile_ions)
        names.update(name.partition("-")[2] for name in rows["candidate_id"])
    return frozenset(names)


def _names(prototype: Prototype, compound: Compound) -> set[str]:
    """Identities that the compound may have on a prototype.

    On a prototype of its charges its elements stand as they do in the crystal. On one of other charges, classes that
    the label does not tell apart may stand in another order.
    """
    from pipeline.stages.candidate_rows import candidate_id

    written: set[tuple[int, ...]] = set()
    for address in compound.addresses:
        if address.frame != prototype.frame:
            continue
        numbers = [atomic_number(e) for e in address.class_elements]
        same = address.class_charges == prototype.class_charges
        for order in tied_permutations(prototype.n_classes, () if same else prototype.ties):
            written.add(tuple(numbers[order[c]] for c in prototype.orbit_class))
    forms = canonical_forms(
        np.array(sorted(written), dtype=np.int64).reshape(-1, len(prototype.orbit_class)), prototype.images
    )
    return {candidate_id("", prototype.prototype_id, form).partition("-")[2] for form in forms.tolist()}


def _represented(left: Sequence[Prototype], compound: Compound, settings: CandidateSettings) -> bool:
    if settings.substitution == "charge_neutral":
        return bool(left)
    wanted = {(a.frame, a.class_charges) for a in compound.addresses}
    return any((p.frame, p.class_charges) in wanted for p in left)


def _reason(
    compound: Compound,
    left: Sequence[Prototype],
    represented: bool,
    placed: set[tuple[str, int]],
    settings: CandidateSettings,
) -> str:
    """Why a compound is not found, the first that applies."""
    if compound.ambiguous and not represented:
        return "oxidation states ambiguous, and no prototype of any choice"
    if not left:
        return "the only crystal of its prototype"
    if not represented:
        return "its prototype is left with other charges only"
    wanted = {ion for a in compound.addresses for ion in zip(a.class_elements, a.class_charges, strict=True)}
    if not wanted <= placed:
        return "an ion that the campaign does not place"
    if any(len(set(a.class_elements)) > settings.max_elements for a in compound.addresses):
        return "more elements than the campaign allows"
    return "unexplained"


def _gates(
    compound: Compound, prototypes: Sequence[Prototype], settings: CandidateSettings, mobile_ions: tuple[str, ...]
) -> tuple[str, ...]:
    """Names of the campaign's gates that reject a compound that was found, each asked alone.

    Only the compound's own elements are placed: a gate looks at one candidate at a time.
    """
    elements = tuple(sorted({e for a in compound.addresses for e in a.class_elements}))
    own = settings.model_copy(update={"elements": elements})
    wanted = {name for p in prototypes for name in _names(p, compound)}
    off = {key: value for _, change in GATES for key, value in change.items()}
    rejecting = []
    for name, change in GATES:
        others_off = {key: value for key, value in off.items() if key not in change}
        gates = settings.gates.model_copy(update={**others_off, "keep_parents": True})
        if gates == NO_GATES:
            continue
        if not wanted & _listed(prototypes, own.model_copy(update={"gates": gates}), mobile_ions):
            rejecting.append(name)
    return tuple(rejecting)


def wilson_interval(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share (J. Am. Stat. Assoc. 1927, 22, 209); 95 % by default, (nan, nan) without trials."""
    if not trials:
        return math.nan, math.nan
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return centre - half, centre + half
