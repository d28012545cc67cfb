"""Groups of frames that share a prototype, the splits they go to, and the table of what was made."""

import numpy as np
import pandas as pd
import pytest

from pipeline.distillation.contents import contents_table
from pipeline.distillation.grouping import larger_groups, splits_of
from pipeline.training.groups import joined_groups


def test_what_shares_a_prototype_or_a_protostructure_is_one_group():
    prototypes = ["b", "b", "c", "d", "a", "e"]
    labels = ["A1B1", None, "A1B1", "ABC3", "ABC3", None]
    assert joined_groups(prototypes, labels) == ["b", "b", "b", "a", "a", "e"]
    # c reaches d: all that hung together by pairs is one.
    assert joined_groups([*prototypes, "c"], [*labels, "ABC3"]) == ["a", "a", "a", "a", "a", "e", "a"]
    assert joined_groups([], []) == []


def test_joined_groups_are_the_connected_components():
    rng = np.random.default_rng(5)
    prototypes = [f"p{k}" for k in rng.integers(0, 60, 300)]
    labels = [None if k > 80 else f"s{k}" for k in rng.integers(0, 160, 300)]
    groups = joined_groups(prototypes, labels)
    reached = {p: {p} for p in prototypes}
    for _ in range(60):  # closure by brute force
        for label in set(labels) - {None}:
            together = set().union(*(reached[p] for p, s in zip(prototypes, labels, strict=True) if s == label))
            for p in together:
                reached[p] |= together
    assert groups == [min(reached[p]) for p in prototypes]


def test_splits_divide_groups_and_keep_the_reference_in_training():
    names = [f"group {k}" for k in range(3000)]
    split = splits_of(names * 2, set(names[:100]), 0.1, 0.2, 0)
    assert {split[name] for name in names[:100]} == {"train"}
    rest = [split[name] for name in names[100:]]
    assert rest.count("test") == pytest.approx(580, abs=90)  # binomial: four standard deviations
    assert rest.count("validation") == pytest.approx(290, abs=65)
    assert split != splits_of(names, set(names[:100]), 0.1, 0.2, 1)


def test_groups_with_more_than_a_share_are_found():
    groups = ["a"] * 5 + ["b"] * 3 + ["c"] * 2
    assert larger_groups(groups, 0.1) == {"a", "b", "c"}
    assert larger_groups(groups, 0.2) == {"a", "b"}
    assert larger_groups(groups, 0.3) == {"a"}
    assert larger_groups(groups, 1.0) == larger_groups([], 0.1) == set()


def test_contents_count_every_frame():
    rows = pd.DataFrame(
        {
            "split": ["train", "train", "test"],
            "source": ["drawn", "dynamics", "drawn"],
            "kind": ["binary", "binary", "element"],
            "atomic_numbers": [[3, 9], [3, 17] * 4, [3]],
        }
    )
    table = contents_table(rows, {"distorted: force": 2}).set_index(["by", "value"])["frames"]
    assert table["element"].to_dict() == {"Li": 3, "F": 1, "Cl": 1}
    assert table["anion"].to_dict() == {"F": 1, "Cl": 1}
    assert table["atoms"].to_dict() == {"1 to 4": 2, "5 to 8": 1}
    assert table["left out"].to_dict() == {"distorted: force": 2}
    assert table["split"].sum() == table["source"].sum() == table["kind"].sum() == 3
