"""Groups that hold whatever shares a prototype, and the splits that they go to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from pipeline.training.settings import SplitShares
from pipeline.training.splits import split_of


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


def larger_groups(groups: Sequence[str], share: float) -> set[str]:
    """Groups that more than a share of the frames belong to.

    Parameters
    ----------
    groups
        (n,) of each frame.
    share
        Of n.
    """
    return {group for group, frames in Counter(groups).items() if frames > share * len(groups)}


def splits_of(
    groups: Sequence[str], always_trained: Collection[str], validation: float, held_out: float, seed: int
) -> dict[str, str]:
    """Split of each group: train, validation or test.

    Parameters
    ----------
    groups
        Names, repeated or not.
    always_trained
        Groups that go to training; the others are divided by :func:`pipeline.training.splits.split_of`.
    validation, held_out
        Shares of the groups that go to validation and to test.
    seed
        Another one, another division.
    """
    shares = SplitShares(train=1.0 - validation - held_out, validation=validation, test=held_out)
    return {g: "train" if g in always_trained else split_of(g, seed, shares) for g in sorted(set(groups))}
