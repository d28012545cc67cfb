"""Splits of labels: no group is divided, and nothing that is in two of them stays unseen."""

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from pipeline.training.findings import Findings
from pipeline.training.reading import read_labels, read_training_data
from pipeline.training.settings import DataSettings, SplitShares
from pipeline.training.splits import families, same_crystals, split_of
from tests.labels import alloys, label_problems, label_settings, parquet, table


@pytest.fixture(scope="module")
def crystals() -> list[Atoms]:
    return alloys(30)


def test_far_atoms_are_told_apart_too(tmp_path):
    """Nothing within 4 Å: the pairs along the axis and along the diagonal are different crystals."""

    def pairs(place, energy):
        atoms = Atoms("Au2", [[0.0, 0.0, 0.0], place], cell=[6.0, 6.0, 12.0], pbc=True)
        atoms.info = {"group": f"g{energy}", "structure_id": f"p{energy}", "label_scheme": "other", "source": "none"}
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((2, 3)), stress=np.zeros(6))
        return atoms

    write(tmp_path / "a.xyz", [pairs([0.0, 0.0, 6.0], -1.0)], format="extxyz")
    write(tmp_path / "b.xyz", [pairs([3.0, 3.0, 6.0], -2.0)], format="extxyz")
    write(tmp_path / "c.xyz", [pairs([0.0, 0.0, 6.0], -3.0)], format="extxyz")
    one, other, same = (read_labels([str(f)], label_settings(f), Findings())[0] for f in sorted(tmp_path.iterdir()))
    assert list(same_crystals(one, other)) == []
    assert list(same_crystals(one, same)) == [(0, 0)]


def test_no_group_is_divided_and_shares_are_kept(tmp_path, crystals):
    data = read_training_data(label_settings(parquet(tmp_path / "a.parquet", table(crystals))))
    groups = {name: set(labels.groups) for name, labels in data.splits.items()}
    assert sum(len(g) for g in groups.values()) == len(set().union(*groups.values())) == 5
    assert sum(len(labels) for _, labels in data.splits.items()) == len(crystals)
    assert data.elements == ("Cu", "Ag", "Au")
    shares = SplitShares()
    placed = [split_of(f"group {k}", 0, shares) for k in range(4000)]
    # Binomial: 400 expected of 4000, standard deviation 19.
    assert placed.count("test") == pytest.approx(400, abs=80)
    assert placed.count("validation") == pytest.approx(400, abs=80)
    assert placed == [split_of(f"group {k}", 0, shares) for k in range(4000)]
    assert placed != [split_of(f"group {k}", 1, shares) for k in range(4000)]


def test_more_data_moves_no_group(tmp_path, crystals):
    few = read_training_data(label_settings(parquet(tmp_path / "few.parquet", table(crystals[:20]))))
    many = read_training_data(label_settings(parquet(tmp_path / "many.parquet", table(crystals))))
    for name, labels in few.splits.items():
        assert set(labels.groups) == set(getattr(many.splits, name).groups)


def test_leaks_between_given_splits(tmp_path, crystals):
    frame = table(crystals)
    by_group = {name: frame[frame.group == name] for name in ("fcc", "L1_2", "B2")}
    files = {
        split: [str(parquet(tmp_path / f"{split}.parquet", by_group[group]))]
        for split, group in zip(("train", "validation", "test"), by_group, strict=True)
    }
    clean = DataSettings(label_scheme="other", min_structures_per_element=1, **files)
    assert read_training_data(clean).splits.test.groups[0] == "B2"
    parquet(tmp_path / "test.parquet", pd.concat([by_group["B2"], by_group["fcc"][:1].assign(structure_id="x")]))
    text = label_problems(clean)
    assert "train.parquet:row 1: group 'fcc' is in data.train and in data.test" in text
    assert "the same crystal is in data.train and in data.test" in text
    renamed = by_group["fcc"][:1].assign(structure_id="x", group="other name")
    parquet(tmp_path / "test.parquet", pd.concat([by_group["B2"], renamed]))
    text = label_problems(clean)
    assert "group" not in text
    assert "the same crystal is in data.train and in data.test" in text


def test_a_shared_prototype_is_a_leak_unless_groups_are_formulas(tmp_path):
    def rock(symbol: str, size: float, energy: float) -> Atoms:
        atoms = Atoms(
            [symbol, "O"], scaled_positions=[[0] * 3, [0.5] * 3], cell=(np.ones((3, 3)) - np.eye(3)) * size / 2
        )
        atoms.pbc = True
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((2, 3)), stress=np.zeros(6))
        atoms.info = {"group": symbol, "label_scheme": "other"}
        return atoms

    files = {}
    for split, crystal in zip(("train", "validation", "test"), (rock("Mg", 4.2, -12.0), rock("Ca", 4.8, -12.6), rock("Sr", 5.2, -12.3)), strict=True):  # fmt: skip # noqa: E501
        write(tmp_path / f"{split}.xyz", crystal, format="extxyz")
        files[split] = [str(tmp_path / f"{split}.xyz")]
    text = label_problems(DataSettings(label_scheme="other", min_structures_per_element=1, **files))
    assert "prototype A1B1_2_225_a_b is in data.train and in data.validation" in text
    text = label_problems(DataSettings(label_scheme="other", group_by="formula", min_structures_per_element=1, **files))
    assert "prototype" not in text
    assert "Ca is in 0 crystals of the training split" in text


def test_groups_of_several_files_that_share_a_prototype_are_one(tmp_path):
    """Each file has names of its own for what it was drawn from."""
    ideal = alloys(20, distortion=0.0)
    other = table([*ideal[15:], *alloys(40)[20:]])
    first = parquet(tmp_path / "a.parquet", table(ideal[:15]))
    second = parquet(tmp_path / "b.parquet", other.assign(group="other " + other["group"]))
    found = read_training_data(label_settings(first, second))
    of_split = [set(labels.groups) for _, labels in found.splits.items()]
    assert sum(map(len, of_split)) == len(set().union(*of_split)) == 5
    assert not any(group.startswith("other") for groups in of_split for group in groups)


def test_distorted_crystals_go_with_the_prototypes_of_their_formula(tmp_path):
    """By symmetry they have no prototype; the crystal that they were does."""
    path = parquet(tmp_path / "both.parquet", table([*alloys(15, distortion=0.0), *alloys(30)[15:]]))
    (labels,) = read_labels([str(path)], label_settings(path, group_by="protostructure"), Findings())
    pairs = set(zip(labels.formulas, families(labels), strict=True))
    assert len(pairs) == len(set(labels.formulas)) == 9
    assert len({family for _, family in pairs}) == 3  # L1_2; fcc and bcc, both of pure metals; L1_0 and B2
    files = {
        name: [str(parquet(tmp_path / f"{name}.parquet", table(alloys(15, seed, distortion))))]
        for name, seed, distortion in (("train", 0, 0.0), ("validation", 1, 1.0), ("test", 2, 1.0))
    }
    text = label_problems(DataSettings(label_scheme="other", group_by="protostructure", **files))
    assert "some distorted, are in data.train and in data.validation" in text


def test_a_group_named_by_its_formula_is_no_leak(tmp_path):
    """A known crystal without symmetry gives its group that name; each frame's own says what it was drawn from."""
    files = {}
    for seed, name in enumerate(("train", "validation", "test")):
        labels = table(alloys(15, seed))
        labels = labels[labels["group"] == "L1_2"].assign(group=[f"{name} of {other}" for other in "abc"])
        if name == "train":
            labels["group"] = ["CuAg3", "AgAu3", "Cu3Au"]
        files[name] = [str(parquet(tmp_path / f"{name}.parquet", labels))]
    found = DataSettings(label_scheme="other", min_structures_per_element=1, **files)
    assert set(read_training_data(found).splits.test.formulas) & set(read_training_data(found).splits.train.groups)
    assert "CuAg3, some distorted" in label_problems(found.model_copy(update={"group_by": "protostructure"}))


def test_groups_that_leave_a_split_empty(crystals, tmp_path):
    path = parquet(tmp_path / "a.parquet", table(crystals[:1]))
    assert "1 groups leave no crystal for" in label_problems(label_settings(path))
