"""Splits that groups go to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from pipeline.training.settings import SplitShares
from pipeline.training.splits import split_of


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
