"""Runs of dynamics: independence of companions, failures, folders, and going on after a kill."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.surrogates import checkpoint
from pipeline.surrogates.dynamics import run_dynamics
from pipeline.surrogates.dynamics_settings import DynamicsSettings
from tests.morse import Morse, MorseOneByOne, morse_potential
from tests.moving_salts import resting_salts
from tests.potentials import rock_salt

ROOT = Path(__file__).resolve().parent.parent
ENSEMBLES = ["nve", "langevin", "nose-hoover", "npt"]
KELVIN = [300.0, 500.0, 700.0, 400.0]
NAMES = ["a", "b", "c", "d"]


def settings(ensemble="langevin", **changes):
    common = {"n_steps": 43, "record_every": 3, "checkpoint_every": 10, "thermostat_time": 20.0, "barostat_time": 100.0}
    return DynamicsSettings(ensemble=ensemble, **({"seed": 7} | common | changes))


def run(model=None, folder=None, how=None, which=(0, 1, 2, 3)):
    return run_dynamics(
        morse_potential(model if model is not None else MorseOneByOne()),
        [resting_salts()[k] for k in which],
        [KELVIN[k] for k in which],
        how if how is not None else settings(),
        keys=[NAMES[k] for k in which],
        folder=folder,
    )


def assert_same(ours, others):
    """To the last bit."""
    for a, b in zip(ours, others, strict=True):
        assert (a.key, a.n_steps, a.finished, a.error) == (b.key, b.n_steps, b.finished, b.error)
        np.testing.assert_array_equal(a.velocities, b.velocities)
        np.testing.assert_array_equal(a.structure.lattice.matrix, b.structure.lattice.matrix)
        for f in dataclasses.fields(a.trajectory):
            np.testing.assert_array_equal(getattr(a.trajectory, f.name), getattr(b.trajectory, f.name), f.name)
        np.testing.assert_array_equal([a.temperature, a.energy_drift], [b.temperature, b.energy_drift])


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_companions_place_and_batches_change_not_a_bit(ensemble):
    how = settings(ensemble)
    alone = [run(how=how, which=[k])[0] for k in range(4)]
    assert_same(run(how=how), alone)
    assert_same(run(how=how, which=[2, 0, 3, 1]), [alone[k] for k in (2, 0, 3, 1)])
    model = MorseOneByOne()
    model.edges_per_batch = 100_000
    assert_same(run(model, how=how), alone)
    moved = [np.abs(r.trajectory.positions[-1] - r.trajectory.positions[0]).max() for r in alone]
    assert min(moved) > 0.02


def test_seed_and_key_decide():
    first = run()
    assert_same(run(), first)
    for other in (run(how=settings(seed=8)), run(which=[1, 0])):
        assert not np.array_equal(other[0].trajectory.positions[1], first[0].trajectory.positions[1])


def test_frames_are_where_they_should_be():
    (result,) = run(which=[0])
    trajectory = result.trajectory
    assert trajectory.steps.tolist() == list(range(0, 43, 3))
    np.testing.assert_array_equal(trajectory.times, 2.0 * trajectory.steps)
    assert trajectory.positions.shape == (15, 16, 3)
    (again,) = morse_potential().evaluate([_frame(trajectory, -1)])
    assert trajectory.energies[-1] == pytest.approx(again.energy, abs=1e-9)
    np.testing.assert_allclose(trajectory.stresses[-1], again.stress, atol=1e-9)
    assert result.n_steps == 43
    assert result.finished


def _frame(trajectory, f):
    return Structure(
        Lattice(trajectory.cells[f]), trajectory.numbers, trajectory.positions[f], coords_are_cartesian=True
    )


def test_an_atom_that_leaves_the_cell_goes_on():
    gas = Structure(Lattice.cubic(11.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    fast = np.array([[0.05, 0.0, 0.0], [-0.03, 0.0, 0.0]])
    how = settings("nve", n_steps=500, record_every=100, timestep=1.0, max_temperature=1e6)
    (result,) = run_dynamics(morse_potential(), [gas], 300.0, how, velocities=[fast])
    away = result.trajectory.positions[:, 0, 0]
    assert away[-1] > 11.0 * 1.5
    assert np.all(np.diff(away) > 3.0)


def test_extxyz_holds_every_frame(tmp_path):
    (result,) = run(which=[3], how=settings("npt"))
    result.trajectory.write_extxyz(tmp_path / "frames.xyz")
    frames = ase.io.read(tmp_path / "frames.xyz", ":")
    assert len(frames) == 15
    np.testing.assert_allclose(frames[-1].positions, result.trajectory.positions[-1], atol=1e-7)
    np.testing.assert_allclose(frames[-1].cell, result.trajectory.cells[-1], atol=1e-7)
    assert frames[-1].info["energy_eV"] == pytest.approx(result.trajectory.energies[-1], abs=1e-7)


# Failures


class Spoilt(MorseOneByOne):
    """From a call on, the crystals that hold an element have other answers; or the calls raise."""

    def __init__(self, call, spoil):
        super().__init__()
        self.call, self.spoil, self.calls = call, spoil, 0

    def alone(self, one):
        answer = super().alone(one)
        self.calls += 1
        return self.spoil(one, answer) if self.calls >= self.call else answer


def _nan_forces_on_bromine(one, answer):
    if 35 in one.numbers:
        answer[1][0, 0] = np.nan
    return answer


def _no_chlorine_with_lithium(one, answer):
    if {3, 17} <= set(one.numbers.tolist()):
        raise RuntimeError("graph is empty")
    return answer


@pytest.mark.parametrize(
    ("spoil", "bad", "error"),
    [
        (_nan_forces_on_bromine, 3, "NonFiniteResult: "),
        (_no_chlorine_with_lithium, 1, "RuntimeError: graph is empty"),
    ],
)
def test_a_crystal_that_fails_leaves_alone(spoil, bad, error, tmp_path):
    results = run(Spoilt(4 * 25, spoil), tmp_path)
    good = [k for k in range(4) if k != bad]
    assert_same([results[k] for k in good], run(which=good))
    failed = results[bad]
    assert failed.error.startswith(error)
    assert not failed.finished
    assert failed.n_steps in (24, 25)
    assert failed.trajectory.steps.tolist() == list(range(0, failed.n_steps, 3))
    assert np.isfinite(failed.trajectory.positions).all()
    # Done is done, also for the one that failed.
    model = MorseOneByOne()
    assert_same(run(model, tmp_path), results)
    assert not model.asked


def test_each_failure_has_its_name():
    salt = resting_salts()[3]
    colliding = Structure(Lattice.cubic(8.0), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]])
    cases = {
        "CollidingAtoms: atoms 0 and 1 are 0.08 Å apart after 0 steps": (colliding, None),
        "ExplodingTemperature: ": (salt, np.where(np.arange(24).reshape(8, 3) % 2, 0.5, -0.5)),
        "TooFewAtoms: one atom of Na1": (Structure(Lattice.cubic(3.0), ["Na"], [[0, 0, 0]]), None),
        "UnknownElement: ": (rock_salt("Na", "Po", 6.7), None),
        "NonFiniteCoordinates: ": (Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, np.nan]]), None),
        "DisorderedStructure: ": (
            Structure(Lattice.cubic(5.0), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0] * 3, [0.5] * 3]),
            None,
        ),
    }
    crystals, velocities = [c for c, _ in cases.values()], [v for _, v in cases.values()]
    results = run_dynamics(
        morse_potential(), [*crystals, salt], 400.0, settings(), keys=list("abcdefg"), velocities=[*velocities, None]
    )
    for message, result in zip(cases, results, strict=False):
        assert result.error.startswith(message)
        assert not result.finished
    assert results[-1].error is None
    assert results[-1].finished
    disordered, moving = run_dynamics(morse_potential(), [crystals[-1], salt], 400.0, settings())
    assert disordered.error.startswith("DisorderedStructure: ")
    assert moving.finished


def test_a_volume_that_explodes_fails():
    (result,) = run(which=[3], how=settings("npt", pressure=-50.0, n_steps=2000, compressibility=0.1))
    assert result.error.startswith(("ExplodingVolume: ", "DegenerateCell: "))


# Going on


class Stopped(MorseOneByOne):
    """Interrupted at a call, as by Ctrl-C; no guard catches that."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def alone(self, one):
        if len(self.asked) > self.at:
            raise KeyboardInterrupt
        return super().alone(one)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("at", [[2], [41, 60], [10, 90, 50, 20]])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(ensemble, at, tmp_path):
    how = settings(ensemble)
    for call in at:
        with pytest.raises(KeyboardInterrupt):
            run(Stopped(call), tmp_path, how)
    model = MorseOneByOne()
    assert_same(run(model, tmp_path, how), run(how=how))
    if len(at) > 1:
        assert len(model.asked) < 4 * 40


def test_a_kill_between_frames_and_checkpoint_doubles_no_frame(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    run(how=settings(n_steps=20), folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_archive", stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder=tmp_path)
    assert len(list(tmp_path.glob("frames-*.npz"))) == 3
    (tmp_path / ".checkpoint.npz.1.tmp").write_bytes(b"half")
    assert_same(run(folder=tmp_path), run())
    assert not list(tmp_path.glob(".*"))


KILLED = """
import sys, time
from pathlib import Path
from tests.morse import MorseOneByOne
from tests.test_dynamics_runs import run, settings

class Slow(MorseOneByOne):
    def alone(self, one):
        time.sleep(0.002)
        return super().alone(one)

run(Slow(), Path(sys.argv[1]), settings("npt", n_steps=400))
"""


def test_a_killed_process_is_gone_on_with(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    until = time.monotonic() + 120.0
    while not (tmp_path / "frames-000002.npz").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    how = settings("npt", n_steps=400)
    model = MorseOneByOne()
    assert_same(run(model, tmp_path, how), run(how=how))
    assert 0 < len(model.asked) < 4 * 390


def test_a_longer_run_continues_a_shorter_one(tmp_path):
    run(how=settings(n_steps=17), folder=tmp_path)
    assert_same(run(folder=tmp_path), run())
    with pytest.raises(ValueError, match=r"holds 43 steps, more than n_steps = 17; raise n_steps"):
        run(how=settings(n_steps=17), folder=tmp_path)


def test_out_of_time_it_stops_and_goes_on(tmp_path):
    crystals, keys = resting_salts(), NAMES
    (stopped, *_) = run_dynamics(
        morse_potential(MorseOneByOne()), crystals, KELVIN, settings(), keys=keys, folder=tmp_path, max_seconds=0.0
    )
    assert (stopped.n_steps, stopped.finished, stopped.error) == (0, False, None)
    assert_same(run(folder=tmp_path), run())


def test_a_folder_of_other_dynamics_is_refused(tmp_path):
    run(folder=tmp_path, how=settings(n_steps=3))
    with pytest.raises(ValueError, match=r"holds other dynamics: seed was 7 and is 8; timestep was 2.0 and is 1.0; go"):
        run(folder=tmp_path, how=settings(timestep=1.0, seed=8))
    with pytest.raises(ValueError, match=r"temperatures was \[300.0, 500.0, 700.0, 400.0\] and is \[300.0\]"):
        run(folder=tmp_path, which=[0])
    (tmp_path / "checkpoint.npz").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"checkpoint.npz is missing or damaged .*; delete .* to run the dynamics anew"
    ):
        run(folder=tmp_path)


# Bad input


def test_bad_settings_are_refused_all_at_once():
    with pytest.raises(ValueError, match="timestep") as caught:
        DynamicsSettings(ensemble="nvt", timestep=-1.0, n_steps=-3, pressure=np.nan, max_volume_ratio=1.0, seed=0.5)
    message = str(caught.value)
    for part in (
        "timestep must be a positive number in fs, got -1.0",
        "n_steps must be a whole number, 0 or more, got -3",
        "seed must be a whole number, 0 or more, got 0.5",
        "pressure must be a number in GPa, got nan",
        "max_volume_ratio must be above 1, got 1.0",
        "ensemble 'nvt' is unknown; write 'nve' or 'langevin' or 'nose-hoover' or 'npt'",
    ):
        assert part in message
    with pytest.raises(ValueError, match=r"thermostat_time must be at least five time steps of 4.0 fs, got 10.0"):
        DynamicsSettings(timestep=4.0, thermostat_time=10.0)


def test_bad_arguments_are_refused_all_at_once():
    crystals = resting_salts()[:2]
    with pytest.raises(ValueError, match="3 temperatures and 1 keys for 2 structures"):
        run_dynamics(morse_potential(), crystals, [1.0, 2.0, 3.0], keys=["a"])
    with pytest.raises(ValueError, match="temperature") as caught:
        run_dynamics(morse_potential(), crystals, [-1.0, 300.0], keys=["a", "a"], velocities=[np.zeros((2, 3)), None])
    message = str(caught.value)
    assert "temperature must be a positive number in K, got -1.0" in message
    assert "keys must differ, or runs would be copies; more than once: 'a'" in message
    assert "velocities of structure 0 must be (16, 3) finite numbers in Å/fs" in message


def test_a_batch_is_evaluated_in_parts():
    model = Morse()
    run(model, how=settings(n_steps=5))
    assert max(model.batches) < 4  # 1,500 edges hold fewer than the four crystals
    assert model.evaluations == 4 * 6
