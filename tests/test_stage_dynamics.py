"""The dynamics stage: ions in wells whose barriers are known, Morse salts, its contract as a stage, and going on."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from pipeline import schema
from pipeline.crystal import row_from_structure
from pipeline.diffusion.series import read_series, temperature_series
from pipeline.diffusion.simulation import mobile_cell, run_cells
from pipeline.settings import DynamicsStageSettings
from pipeline.stages import dynamics
from pipeline.surrogates.moving import atomic_masses
from pipeline.units import BOLTZMANN
from tests.morse import MorseOneByOne, morse_potential
from tests.moving_salts import Analytic, analytic_potential, resting_salts

SPACING = 3.0
BARRIERS = {"Li": 0.2, "Na": 3.0}
STIFFNESS = 5.0


class Wells(Analytic):
    """Cations in cosine wells of known barriers in eV; iodine on springs in eV/Å2, fluorine free.

    Wells and springs are at the sites of simple cubic lattices, which move with the iodine's mean displacement, so
    momentum is conserved. Cations do not see each other.
    """

    elements = ("Li", "Na", "I", "F")

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.evaluations = 0
        self.interrupted_at = interrupted_at

    def evaluate_batch(self, batch: Any) -> Any:
        self.evaluations += 1
        if self.evaluations == self.interrupted_at:
            raise KeyboardInterrupt
        n, owners, x = len(batch.counts), batch.owners, batch.positions
        half = 0.5 * np.array([BARRIERS.get({3: "Li", 11: "Na"}.get(z, ""), 0.0) for z in batch.numbers])
        iodine = (batch.numbers == 53).astype(float)
        n_iodine = np.maximum(np.bincount(owners, iodine, n), 1.0)
        away = (x - SPACING * np.round(x / SPACING)) * iodine[:, None]
        shift = _sums(away, owners, n) / n_iodine[:, None]
        away = (away - shift[owners]) * iodine[:, None]
        phase = 2.0 * np.pi * (x - shift[owners]) / SPACING
        pull = half[:, None] * (2.0 * np.pi / SPACING) * np.sin(phase)
        recoil = _sums(pull, owners, n) / n_iodine[:, None]
        forces = pull - STIFFNESS * away - recoil[owners] * iodine[:, None]
        energies = (half[:, None] * (1.0 + np.cos(phase)) + 0.5 * STIFFNESS * away**2).sum(axis=1)
        return self.answer(batch, np.bincount(owners, energies, n), forces)


def _sums(vectors: Any, owners: Any, n: int) -> Any:
    return np.stack([np.bincount(owners, column, n) for column in vectors.T], axis=1)


def salt(cation: str, anion: str = "I") -> Structure:
    """Caesium chloride's structure, the cation in the middle."""
    return Structure(Lattice.cubic(SPACING), [f"{cation}+", f"{anion}-"], [[0.5] * 3, [0.0] * 3])


def part_of(*crystals: Structure) -> pd.DataFrame:
    rows = [
        {"candidate_id": f"{s.composition.element_composition.reduced_formula}-{i}", **row_from_structure(s)}
        for i, s in enumerate(crystals)
    ]
    return pd.DataFrame(rows, index=range(7, 7 + len(rows)))


def refs_of(model: Any = None, ions: tuple[str, ...] = ("Li", "Na")) -> Any:
    return SimpleNamespace(mobile_ions=ions, potential=analytic_potential(Wells() if model is None else model))


SHORT = DynamicsStageSettings(
    temperatures=(600.0, 900.0), timestep=4.0, equilibration_time=0.2, production_time=1.0, seed=3
)


def run(part: pd.DataFrame, settings: DynamicsStageSettings = SHORT, model: Any = None, folder: Any = None) -> Any:
    return dynamics.run(part, settings, refs_of(model), folder)


# physics


def test_activation_energy_is_the_height_of_the_barrier() -> None:
    settings = DynamicsStageSettings(
        temperatures=(500.0, 700.0, 1000.0),
        timestep=4.0,
        equilibration_time=1.0,
        production_time=12.0,
        thermostat="langevin",
    )
    done = run(part_of(salt("Li")), settings)
    (row,) = done.to_dict("records")
    assert row["dynamics_status"] == "ok", row["dynamics_error"]
    assert row["md_is_reliable"] is True, row["md_notes"]
    assert row["md_is_upper_bound"] is False
    assert (row["md_framework_state"], row["md_ions"], row["md_temperature"]) == ("solid", "Li", 1000.0)
    # D is k T times a mobility that goes as exp(-E / k T), and its prefactor as 1 / (k T) with much friction and as a
    # constant with little (Kramers 1940, Physica 7, 284): between E and E + k T at 700 K
    assert row["md_activation_energy_low"] < BARRIERS["Li"] + BOLTZMANN * 700.0
    assert row["md_activation_energy_high"] > BARRIERS["Li"]
    assert row["md_activation_energy"] == pytest.approx(BARRIERS["Li"] + 0.03, abs=0.1)
    assert row["md_activation_energy_low"] < row["md_activation_energy"] < row["md_activation_energy_high"]
    assert row["diffusivity_md_low"] < row["diffusivity_md"] < row["diffusivity_md_high"]
    assert row["md_n_hops"] > 100
    # ions that do not see each other
    assert row["haven_ratio_md_low"] < 1.0 < row["haven_ratio_md_high"]
    assert row["md_temperature_mean"] == pytest.approx(1000.0, rel=0.05)
    # by hand: sigma = n e^2 D / (V k T), one ion in each cell of 27 Å3
    diffusivity = row["diffusivity_md"] * np.exp(
        -row["md_activation_energy"] / BOLTZMANN * (1.0 / 300.0 - 1.0 / 1000.0)
    )
    expected = 1.602176634e-19 * diffusivity / (27e-24 * BOLTZMANN * 300.0)
    # the fit's line passes by the hottest point within its interval
    assert row["conductivity_md_300K"] == pytest.approx(expected, rel=0.5)
    points = read_series(row["md_series"])
    assert "; ".join(map(str, points)) == row["md_series"]
    assert [p.temperature for p in points] == [500.0, 700.0, 1000.0]
    hottest = points[-1]
    assert (hottest.n_hops, hottest.framework, hottest.is_upper_bound) == (row["md_n_hops"], "solid", False)
    told = (hottest.diffusivity, *hottest.interval)
    exact = [row[name] for name in ("diffusivity_md", "diffusivity_md_low", "diffusivity_md_high")]
    assert told == pytest.approx(exact, rel=0.05)  # two digits


def test_free_ions_diffuse_as_einstein_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """D = k T / (m friction), Einstein 1905: ions without wells, slowed by the thermostat alone."""
    settings = DynamicsStageSettings(
        temperatures=(300.0,), equilibration_time=1.0, production_time=15.0, thermostat="langevin", timestep=4.0
    )
    monkeypatch.setitem(BARRIERS, "Li", 0.0)
    done = run(part_of(salt("Li")), settings)
    exact = 0.1 * BOLTZMANN * 300.0 * 500.0 / atomic_masses(np.array([3]))[0]
    assert done["diffusivity_md_low"].iloc[0] < exact < done["diffusivity_md_high"].iloc[0]
    assert done["diffusivity_md"].iloc[0] == pytest.approx(exact, rel=0.3)


def test_without_hops_there_is_a_bound_that_says_so() -> None:
    part = part_of(salt("Na"))
    (row,) = run(part).to_dict("records")
    assert row["dynamics_status"] == "ok", row["dynamics_error"]
    assert row["md_n_hops"] == 0
    assert row["md_is_upper_bound"] is True
    assert row["md_is_reliable"] is False
    ions, frames = row["md_atoms"] // 2, 51
    assert row["diffusivity_md_high"] == pytest.approx(0.1 * 3 * SPACING**2 / (6 * ions * frames * 20.0))
    assert row["diffusivity_md_low"] == 0.0
    assert np.isnan(row["diffusivity_md"])  # no gate and no score may take a bound for a measurement
    assert np.isnan([row["conductivity_md_300K"], row["md_activation_energy"], row["haven_ratio_md"]]).all()
    hottest = read_series(row["md_series"])[-1]
    assert (hottest.temperature, hottest.is_upper_bound, hottest.n_hops) == (row["md_temperature"], True, 0)
    assert hottest.diffusivity == hottest.interval[1] == pytest.approx(row["diffusivity_md_high"], rel=0.05)
    assert "upper bound made of three hops" in row["md_notes"]
    assert "no conductivity at 300 K" in row["md_notes"]


def test_a_molten_framework_leaves_no_diffusivity() -> None:
    settings = SHORT.model_copy(update={"production_time": 4.0})
    (row,) = run(part_of(salt("Li", "F")), settings).to_dict("records")
    assert row["dynamics_status"] == "ok", row["dynamics_error"]
    assert row["md_framework_state"] == "diffusing"
    assert np.isnan([row["diffusivity_md"], row["md_temperature"], row["conductivity_md_300K"]]).all()
    assert row["md_is_upper_bound"] is None
    assert row["md_is_reliable"] is False
    assert "600 K: the framework diffuses; left out; 900 K" in row["md_notes"]


def test_npt_gives_each_temperature_its_volume() -> None:
    """Morse crystals expand; the production's volume is the mean of the equilibration's second half."""
    settings = DynamicsStageSettings(
        temperatures=(200.0, 600.0),
        timestep=4.0,
        equilibration="npt",
        equilibration_time=0.6,
        production_time=1.0,
        image_distance=6.0,
    )
    crystal = resting_salts()[2].copy()
    crystal.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    cell = mobile_cell("a", crystal, ("Na",), settings)
    (runs,) = run_cells(morse_potential(), [cell], settings)
    assert isinstance(runs, list), runs
    cold, hot = (r.volume_change for r in runs)
    assert 0.0 < cold < hot < 0.2
    assert all(np.ptp(r.dynamics.trajectory.volumes) == 0.0 for r in runs)
    series = temperature_series(cell, runs[::-1])
    assert [r.analysis.temperature for r in series.runs] == [200.0, 600.0]


# the contract of a stage

PART = part_of(salt("Li"), salt("Na"))


def test_columns_are_those_declared(tmp_path: Path) -> None:
    done = run(PART, folder=tmp_path)
    declared = [c.name for c in schema.columns_of("dynamics")]
    assert list(done.columns) == [*PART.columns, *declared]
    assert list(done.index) == list(PART.index)
    arrow = schema.to_arrow(done, declared)
    empty = run(PART.iloc[:0], folder=tmp_path)
    assert len(empty) == 0
    assert schema.to_arrow(empty, declared).schema == arrow.schema


def test_partitions_and_order_do_not_matter() -> None:
    whole = run(PART)
    pieces = pd.concat([run(PART.iloc[a:b]) for a, b in ((0, 1), (1, 2))])
    pd.testing.assert_frame_equal(pieces, whole)
    pd.testing.assert_frame_equal(run(PART.iloc[::-1]).iloc[::-1], whole)
    first = PART.iloc[:1]
    for other in (
        run(first, SHORT.model_copy(update={"seed": 4})),
        run(first.assign(candidate_id="another")),
    ):
        assert other["md_temperature_mean"].iloc[0] != whole["md_temperature_mean"].iloc[0]


def test_poisoned_rows_fail_alone_with_a_message() -> None:
    good = PART.iloc[:1]
    large = salt("Li")
    large.make_supercell([5, 5, 5])
    strange = Structure(Lattice.cubic(SPACING), ["Rb+", "I-"], [[0.5] * 3, [0.0] * 3])
    hydride = Structure(Lattice.cubic(SPACING), ["Li+", "H-"], [[0.5] * 3, [0.0] * 3])
    metal = Structure(Lattice.cubic(SPACING), ["Li", "Na"], [[0.5] * 3, [0.0] * 3])
    xenon = Structure(Lattice.cubic(SPACING), ["Li+", "Br-"], [[0.5] * 3, [0.0] * 3])
    part = pd.concat([good, part_of(large, strange, hydride, metal, xenon)])
    part = pd.concat([part, good.assign(candidate_id="unrelaxed", lattice=None, stability_status="failed")])
    done = run(part)
    assert done["dynamics_status"].tolist() == ["ok", *["failed"] * 6]
    errors = done["dynamics_error"].tolist()
    assert "max_atoms = 200" in errors[1]
    assert "holds none of the mobile ions Li, Na" in errors[2]
    assert "set timestep to 0.5" in errors[3]
    assert "has no framework" in errors[4]
    assert "Br" in errors[5]
    assert "(LiBr-4 at 600 K, equilibration)" in errors[5]
    assert "carries no crystal" in errors[6]
    declared = [c.name for c in schema.columns_of("dynamics")]
    pd.testing.assert_frame_equal(done[declared].iloc[:1], run(good)[declared])
    assert done["diffusivity_md"].iloc[1:].isna().all()
    schema.to_arrow(done, declared)


class Cracking(MorseOneByOne):
    """A Morse solid whose bromides have no finite forces from the hundredth look on."""

    def alone(self, one: Any) -> Any:
        answer = super().alone(one)
        if 35 in one.numbers and len(self.asked) > 100:
            answer[1][0, 0] = np.nan
        return answer


def test_a_run_that_breaks_down_fails_its_row() -> None:
    crystals = [resting_salts()[k].copy() for k in (1, 3)]
    for crystal in crystals:
        crystal.add_oxidation_state_by_guess()
    settings = SHORT.model_copy(update={"image_distance": 5.0, "temperatures": (600.0,), "timestep": 2.0})
    refs = SimpleNamespace(mobile_ions=("Li", "Na"), potential=morse_potential(Cracking()))
    done = dynamics.run(part_of(*crystals), settings, refs, None)
    assert done["dynamics_status"].tolist() == ["ok", "failed"]
    assert "NaBr-1 at 600 K" in done["dynamics_error"].iloc[1]


@pytest.mark.parametrize("evaluation", [30, 400])
def test_a_killed_part_goes_on_as_if_undisturbed(tmp_path: Path, evaluation: int) -> None:
    """Killed in the equilibration (50 steps) and in the production (500); checkpoints are 250 steps apart."""
    settings = SHORT.model_copy(update={"production_time": 2.0})
    undisturbed = run(PART, settings)
    with pytest.raises(KeyboardInterrupt):
        run(PART, settings, Wells(interrupted_at=evaluation), tmp_path)
    model = Wells()
    pd.testing.assert_frame_equal(run(PART, settings, model, tmp_path), undisturbed)
    # 552 looks at everything; the equilibration and 250 steps are on disk in the second case
    assert model.evaluations == (552 if evaluation < 50 else 250)
    finished = Wells()
    pd.testing.assert_frame_equal(run(PART, settings, finished, tmp_path), undisturbed)
    assert finished.evaluations == 0


def test_what_changes_no_result_starts_no_dynamics_anew(tmp_path: Path) -> None:
    part = PART.iloc[:1]
    undisturbed = run(part, folder=tmp_path)
    same = SHORT.model_copy(update={"best": 3, "name": "md", "chunk_size": 5, "required": True})
    model = Wells()
    pd.testing.assert_frame_equal(run(part, same, model, tmp_path), undisturbed)
    assert model.evaluations == 0


def test_a_damaged_checkpoint_says_what_to_delete(tmp_path: Path) -> None:
    part = PART.iloc[:1]
    undisturbed = run(part, folder=tmp_path)
    (checkpoint,) = tmp_path.glob("*/production/checkpoint.npz")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    damaged = run(part, folder=tmp_path)
    assert damaged["dynamics_status"].tolist() == ["failed"]
    assert f"delete {checkpoint.parent} to run the dynamics anew" in damaged["dynamics_error"].iloc[0]
    shutil.rmtree(checkpoint.parent)
    pd.testing.assert_frame_equal(run(part, folder=tmp_path), undisturbed)
