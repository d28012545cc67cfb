"""Training, validation and test split, by group and never by frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.surrogates.batch import IntArray
from pipeline.training.findings import Findings
from pipeline.training.groups import joined_groups, protostructure
from pipeline.training.labelled import LabelledCrystals
from pipeline.training.settings import GroupBy, SplitShares

SPLITS = ("train", "validation", "test")
# Distances between atoms of one crystal in two files agree to this, Å.
_SAME_DISTANCE = 1e-3


@dataclass(frozen=True)
class Splits:
    """The three splits; no group is in two of them."""

    train: LabelledCrystals
    validation: LabelledCrystals
    test: LabelledCrystals

    def items(self) -> Iterator[tuple[str, LabelledCrystals]]:
        """Name and crystals of each."""
        yield from ((name, getattr(self, name)) for name in SPLITS)


def split_of(group: str, seed: int, shares: SplitShares) -> str:
    """The split of a group: a hash of seed and name, so that more data never move it.

    The hash, as a number from 0 to 1, is compared with the shares of validation and test, and what is left trains.
    """
    word = hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8]
    place = int.from_bytes(word, "big") / 2.0**64
    if place < shares.validation:
        return "validation"
    return "test" if place < shares.validation + shares.test else "train"


def families(labels: LabelledCrystals) -> list[str]:
    """Group of each crystal, groups joined that share a prototype: each file, and each drawing, has names of its own.

    A distorted crystal that is grouped by its formula belongs to all prototypes of that formula.
    """
    prototypes, formulas = _prototypes(labels), labels.formulas
    by_formula = {g for g, f, p in zip(labels.groups, formulas, prototypes, strict=True) if p is None and g == f}
    shared = {(f, p) for f, p in zip(formulas, prototypes, strict=True) if p is not None and f in by_formula}
    first, second = zip(*sorted(shared), strict=True) if shared else ((), ())
    return joined_groups([*labels.groups, *first], [*prototypes, *second])[: len(labels)]


def split_by_group(labels: LabelledCrystals, seed: int, shares: SplitShares, findings: Findings) -> Splits | None:
    """Divide labels by their groups; None, with the reason in ``findings``, when a split would be empty."""
    of_group = {group: split_of(group, seed, shares) for group in set(labels.groups)}
    names = np.array([of_group[group] for group in labels.groups])
    rows = {name: np.flatnonzero(names == name) for name in SPLITS}
    empty = [name for name in SPLITS if not len(rows[name])]
    if empty:
        findings.add(
            "split",
            "data",
            None,
            f"{len(of_group)} groups leave no crystal for {' and '.join(empty)}; give more groups, another data.seed, "
            "larger data.shares, or files for each split",
        )
        return None
    return Splits(*(labels.select(rows[name]) for name in SPLITS))


def check_leaks(splits: Splits, findings: Findings, group_by: GroupBy = "group") -> None:
    """Find groups, crystals and (unless the groups are formulas) prototypes that two splits share.

    They would make the errors on the model's card look small. Labels' own groups say what a distorted crystal came
    from, those by symmetry can't: there a formula of distorted crystals is in one split alone.
    """
    for k, first in enumerate(SPLITS):
        for second in SPLITS[k + 1 :]:
            a, b = getattr(splits, first), getattr(splits, second)
            _shared_groups(first, a, second, b, findings)
            _shared_crystals(first, a, second, b, findings)
            if group_by != "formula":
                _shared_prototypes(first, a, second, b, findings)
            if group_by == "protostructure":
                _shared_formulas(first, a, second, b, findings)


def _shared_groups(first: str, a: LabelledCrystals, second: str, b: LabelledCrystals, findings: Findings) -> None:
    first_of_a, first_of_b = _first_places(a), _first_places(b)
    for group in sorted(first_of_a.keys() & first_of_b.keys()):
        message = f"group {group!r} is in data.{first} and in data.{second} ({first_of_b[group]})"
        findings.add(f"leak {first} {second}", "data", first_of_a[group], message)


def _first_places(labels: LabelledCrystals) -> dict[str, str]:
    """Where each group occurs first."""
    return dict(zip(reversed(labels.groups), reversed(labels.places), strict=True))


def _shared_crystals(first: str, a: LabelledCrystals, second: str, b: LabelledCrystals, findings: Findings) -> None:
    for i, j in same_crystals(a, b):
        message = f"the same crystal is in data.{first} and in data.{second} ({b.places[j]})"
        findings.add(f"same {first} {second}", "data", a.places[i], message)


def _shared_prototypes(first: str, a: LabelledCrystals, second: str, b: LabelledCrystals, findings: Findings) -> None:
    for i, j, prototype in same_prototypes(a, b):
        message = f"prototype {prototype} is in data.{first} and in data.{second} ({b.places[j]})"
        findings.add(f"prototype {first} {second}", "data", a.places[i], message)


def _shared_formulas(first: str, a: LabelledCrystals, second: str, b: LabelledCrystals, findings: Findings) -> None:
    """A distorted crystal that is grouped by its formula may be one of the other split's, rattled."""
    for formula in sorted(set(a.formulas) & set(b.formulas) & {*a.groups, *b.groups}):
        i, j = a.formulas.index(formula), b.formulas.index(formula)
        message = f"crystals of {formula}, some distorted, are in data.{first} and in data.{second} ({b.places[j]})"
        findings.add(f"formula {first} {second}", "data", a.places[i], message)


def same_crystals(a: LabelledCrystals, b: LabelledCrystals) -> Iterator[tuple[int, int]]:
    """Crystals of a that are in b under whatever name, each with one of b: the same atoms at the same distances."""
    known: dict[bytes, list[int]] = {}
    for i, key in enumerate(_composition_keys(b)):
        known.setdefault(key, []).append(i)
    profiles: dict[int, np.ndarray] = {}
    for i, key in enumerate(_composition_keys(a)):
        mine = _distance_profile(a, i) if key in known else np.empty(0)
        for j in known.get(key, ()):
            if j not in profiles:
                profiles[j] = _distance_profile(b, j)
            if mine.shape == profiles[j].shape and np.abs(mine - profiles[j]).max(initial=0.0) < _SAME_DISTANCE:
                yield i, j
                break


def same_prototypes(a: LabelledCrystals, b: LabelledCrystals) -> Iterator[tuple[int, int, str]]:
    """Crystals of a whose prototype, by symmetry, b has too, each with one of b and the prototype."""
    prototypes = {p: j for j, p in enumerate(_prototypes(b)) if p}
    for i, prototype in enumerate(_prototypes(a)):
        if prototype in prototypes:
            assert prototype is not None
            yield i, prototypes[prototype], prototype


def _composition_keys(labels: LabelledCrystals) -> list[bytes]:
    batch = labels.crystals
    return [np.sort(batch.numbers[o : o + n]).tobytes() for o, n in zip(batch.offsets, batch.counts, strict=True)]


def _distance_profile(labels: LabelledCrystals, b: int) -> np.ndarray:
    """Sorted distances within 4 Å of one crystal, after its volume: neither origin nor order of atoms matters.

    Where these are fewer than the atoms, as between far noble gases, it looks farther: no distance tells nothing.
    """
    from kernels.neighbors import neighbor_list

    part, reach = labels.crystals.part(b, b + 1), 4.0
    vectors = neighbor_list(part.positions, part.cells, part.counts, reach)[2]
    while len(vectors) < len(part.numbers):
        reach *= 1.5
        vectors = neighbor_list(part.positions, part.cells, part.counts, reach)[2]
    return np.concatenate([part.volumes, np.sort(np.linalg.norm(vectors, axis=1))])


def _prototypes(labels: LabelledCrystals) -> list[str | None]:
    """Chemical prototype of each crystal that has symmetry."""
    batch, found = labels.crystals, []
    for b in range(len(labels)):
        part = batch.part(b, b + 1)
        row = {
            "lattice": part.cells[0],
            "frac_coords": part.positions @ np.linalg.inv(part.cells[0]),
            "atomic_numbers": part.numbers,
        }
        found.append(protostructure(row))
    return found


def rows_of_elements(labels: LabelledCrystals, elements: tuple[str, ...]) -> IntArray:
    """(K,) number of crystals that each element occurs in."""
    counts: IntArray = (labels.composition_counts(elements) > 0).sum(axis=0).astype(np.int64)
    return counts
