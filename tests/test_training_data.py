"""Labels from files: three readers that agree, every mistake named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.db import connect
from ase.io import write

from pipeline.training.baseline import fit_element_energies
from pipeline.training.findings import Findings
from pipeline.training.read_ase import read_extxyz
from pipeline.training.read_parquet import read_parquet
from pipeline.training.reading import read_training_data
from pipeline.training.settings import SplitShares
from pipeline.training.splits import split_by_group
from tests.labels import HALVES, SEED, alloys, label_problems, label_settings, parquet, table


@pytest.fixture(scope="module")
def crystals() -> list[Atoms]:
    return alloys(30)


def test_three_formats_hold_the_same(tmp_path, crystals):
    parquet(tmp_path / "a.parquet", table(crystals))
    write(tmp_path / "a.xyz", crystals, format="extxyz")
    with connect(tmp_path / "a.db") as database:
        for atoms in crystals:
            words = dict(atoms.info)
            database.write(atoms, data={"group": words.pop("group")}, **words)
    read = {name: read_training_data(label_settings(tmp_path / f"a.{name}")) for name in ("parquet", "xyz", "db")}
    for name in ("xyz", "db"):
        for (_, ours), (_, theirs) in zip(read["parquet"].splits.items(), read[name].splits.items(), strict=True):
            assert ours.ids == theirs.ids
            assert ours.groups == theirs.groups
            np.testing.assert_array_equal(ours.crystals.numbers, theirs.crystals.numbers)
            # extended XYZ has eight digits
            np.testing.assert_allclose(ours.crystals.positions, theirs.crystals.positions, atol=2e-8)
            np.testing.assert_allclose(ours.energies, theirs.energies, atol=1e-7)
            np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-7)
            np.testing.assert_allclose(ours.stresses, theirs.stresses, atol=1e-4)
    labels = read["parquet"].splits.train
    assert labels.stresses is not None
    k = int(labels.ids[0].removeprefix("alloy-"))
    np.testing.assert_allclose(labels.stresses[0], crystals[k].get_stress(voigt=False) * 160.21766, rtol=1e-6)


def test_names_in_extended_xyz_stay_the_words_that_are_written(tmp_path, crystals):
    """ASE's reader makes numbers, truth values and arrays of words that look like them."""
    names = ["1_23", "12_3", "007", "T", "1e3", "1 2", "NaN", "x y"]
    frames = [atoms.copy() for atoms in crystals[: len(names)]]
    for atoms, source, name in zip(frames, crystals, names, strict=False):
        atoms.calc = source.calc
        atoms.info = {**source.info, "structure_id": name, "group": name}
    write(tmp_path / "named.xyz", frames, format="extxyz")
    findings = Findings()
    found = read_extxyz(tmp_path / "named.xyz", findings)
    findings.raise_if_any()
    assert found["structure_id"].tolist() == found["group"].tolist() == names
    assert found["label_scheme"].unique().tolist() == ["other"]


def test_columns_of_other_types_are_converted_as_they_are_checked(tmp_path, crystals):
    frame = table(crystals)
    parquet(tmp_path / "a.parquet", frame)
    plain = pq.read_table(tmp_path / "a.parquet")
    field = plain.schema.get_field_index("energy")
    for kind in (pa.decimal128(20, 8), pa.string()):
        column = plain.column("energy").cast(pa.float64()).cast(kind, safe=False)
        pq.write_table(plain.set_column(field, "energy", column), tmp_path / "b.parquet")
        read = read_parquet(tmp_path / "b.parquet", Findings())
        assert read is not None
        np.testing.assert_allclose(read["energy"].to_numpy(float), frame["energy"].to_numpy(float), atol=1e-7)


def test_a_folder_of_parquet_files_is_no_file(tmp_path, crystals):
    (tmp_path / "all.parquet").mkdir()
    parquet(tmp_path / "all.parquet" / "part-0.parquet", table(crystals))
    assert "all.parquet: is a folder; name the files in it" in label_problems(label_settings(tmp_path / "all.parquet"))


def poisoned(frame: pd.DataFrame, row: int, **values) -> pd.DataFrame:
    frame = frame.copy()
    for name, value in values.items():
        frame.at[row, name] = value
    return frame


def _nan(values, index=0):
    values = np.array(values, float)
    values[index] = np.nan
    return values


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: poisoned(f, 2, energy=float("nan")), "a.parquet:row 3: energy missing or not finite"),
        (lambda f: poisoned(f, 2, forces=_nan(f.forces[2])), "a.parquet:row 3: forces not finite"),
        (lambda f: poisoned(f, 2, forces=f.forces[2][:-1]), "a.parquet:row 3: forces has 11 numbers instead of 12"),
        (lambda f: poisoned(f, 2, energy=-2e4), "is no pseudopotential energy"),
        (lambda f: poisoned(f, 2, energy=f.energy[2] - 60.0), "is it in another unit or scheme?"),
        (lambda f: poisoned(f, 2, label_scheme="mp_raw"), "labels of several schemes: mp_raw, other"),
        (lambda f: f.assign(label_scheme="mp2020"), "label_scheme is 'mp2020', but the training says 'other'"),
        (lambda f: f.drop(columns="group"), "has no column group"),
        (lambda f: f.iloc[:0], "holds no crystal"),
        (lambda f: f.drop(columns="forces"), "has no column forces"),
        (lambda f: f.drop(columns="energy"), "has no column energy (or energy_per_atom)"),
        (lambda f: poisoned(f, 2, structure_id="alloy-0"), "a.parquet:row 3: structure_id 'alloy-0' occurs twice"),
        (lambda f: poisoned(f, 2, frac_coords=np.zeros(12)), "a.parquet:row 3: atoms 0 and 1 are 0 Å apart"),
        (lambda f: poisoned(f, 2, forces=f.forces[2] + 0.1), "forces sum up to 0.173 eV/Å for each atom"),
        (lambda f: poisoned(f, 2, forces=f.forces[2] * 1e4), "more than data.largest_force = 100"),
        (lambda f: poisoned(f, 2, stress=np.eye(3).ravel() * 1e3), "is it in kbar"),
        (lambda f: poisoned(f, 2, lattice=np.zeros(9)), "a.parquet:row 3: 4 atoms in a cell of 0 Å3"),
        (lambda f: f.assign(energy_per_atom=f.energy), "energy_per_atom times 4 atoms"),
        (lambda f: poisoned(f, 2, atomic_numbers=np.array([29, 47, 79, 8])), "O is in "),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_file_and_row(tmp_path, crystals, change, words):
    path = parquet(tmp_path / "a.parquet", change(table(crystals)))
    assert words in label_problems(label_settings(path))


def test_all_mistakes_come_at_once(tmp_path, crystals):
    frame = poisoned(poisoned(table(crystals), 1, energy=float("nan")), 2, frac_coords=np.zeros(12))
    (tmp_path / "b.parquet").write_bytes(b"no table")
    (tmp_path / "c.xyz").write_text("2\nno lattice\nCu 0 0 0\n")
    paths = [parquet(tmp_path / "a.parquet", frame), tmp_path / "b.parquet", tmp_path / "c.xyz", tmp_path / "d.db"]
    text = label_problems(label_settings(*paths))
    for words in ("row 2: energy", "row 3: atoms", "can't be read as Parquet", "as extended XYZ", "as an ASE database"):
        assert words in text


def test_many_bad_rows_are_counted(tmp_path, crystals):
    frame = table(crystals).assign(energy=float("nan"))
    text = label_problems(label_settings(parquet(tmp_path / "a.parquet", frame)))
    assert "25 more of the last kind" in text
    assert text.count("energy missing") == 5


def test_units_are_declared_and_not_mixed(tmp_path, crystals):
    frame = table(crystals)
    in_gpa = read_training_data(label_settings(parquet(tmp_path / "a.parquet", frame)))
    whole = pq.read_table(tmp_path / "a.parquet")
    place = whole.schema.get_field_index("stress")
    values = pa.array([(s / 160.21766208).tolist() for s in frame.stress], pa.list_(pa.float64()))

    def with_unit(unit: str | None) -> Path:
        field = pa.field("stress", values.type, metadata={"unit": unit} if unit else None)
        path = tmp_path / "b.parquet"
        pq.write_table(whole.set_column(place, field, values), path)
        return path

    in_ev = read_training_data(label_settings(with_unit("eV/Å3")))
    np.testing.assert_allclose(in_ev.splits.train.stresses, in_gpa.splits.train.stresses, rtol=1e-6)
    assert "column stress declares no unit" in label_problems(label_settings(with_unit(None)))
    assert "column stress declares 'kbar'" in label_problems(label_settings(with_unit("kbar")))
    energies = pa.field("energy", pa.float64(), metadata={"unit": "Ry"})
    path = tmp_path / "c.parquet"
    pq.write_table(whole.set_column(whole.schema.get_field_index("energy"), energies, whole.column("energy")), path)
    assert "column energy must be in eV, declares Ry" in label_problems(label_settings(path))
    frames = alloys(10)
    frames[4].info["stress_unit"] = "GPa"
    write(tmp_path / "d.xyz", frames, format="extxyz")
    text = label_problems(label_settings(tmp_path / "d.xyz"))
    assert "stresses in several units: eV/Å3 (first in row 1), GPa (first in row 5)" in text


def test_baseline_recovers_the_elements_and_bears_fixed_proportions():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 5, (40, 3)).astype(float)
    counts[:, 0] += 1.0
    energies = counts @ [-3.0, -7.5, -1.2]
    np.testing.assert_allclose(fit_element_energies(counts, energies), [-3.0, -7.5, -1.2], atol=1e-9)
    salt = np.array([[1.0, 1.0], [4.0, 4.0]])
    fitted = fit_element_energies(salt, salt.sum(axis=1) * -3.4)
    np.testing.assert_allclose(fitted, [-3.4, -3.4], atol=1e-6)  # the ridge shares it evenly


def test_stress_may_be_left_out_of_all_files_only(tmp_path, crystals):
    first = parquet(tmp_path / "a.parquet", table(crystals[:15]).drop(columns="stress"))
    second = parquet(tmp_path / "b.parquet", table(crystals[15:]))
    assert read_training_data(label_settings(first, second)).splits.train.stresses is None
    findings = Findings()
    labels = read_training_data(label_settings(second)).splits.train
    assert split_by_group(labels, SEED, SplitShares(**HALVES), findings) is None
    assert findings
