"""Frames of a distillation: strained and rattled copies, relaxations, dynamics."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.distillation.frames import (
    distorted_frames,
    dynamics_frames,
    equal_falls,
    relaxation_frames,
    repeated,
    strained_cell,
)
from pipeline.distillation.settings import Distortions, DynamicsFrames, RelaxationFrames
from tests.morse import MorseOneByOne, morse_potential
from tests.potentials import rock_salt


def spread(frames, base):
    """Standard deviation of the atoms' displacements in Å, all frames taken together."""
    shifts = []
    for frame in frames:
        steps = frame.structure.frac_coords - base.frac_coords
        shifts.append((steps - np.round(steps)) @ frame.structure.lattice.matrix)
    return np.std(shifts)


def test_copies_are_strained_and_rattled_as_the_settings_say():
    crystal = rock_salt()
    wanted = Distortions(copies=400, rattles=(0.05, 0.2), strain=0.0, smallest_volume=0.9, largest_volume=1.1)
    frames = distorted_frames("NaCl", crystal, wanted, 0)
    base = repeated(crystal, 6)
    assert len(base) == 8
    ratios = np.array([f.structure.volume / base.volume for f in frames])
    assert 0.9 <= ratios.min() < 0.91 < 1.09 < ratios.max() <= 1.1
    # 200 x 8 x 3 deviates: the standard deviation is known to 1 %.
    assert sorted(spread(frames[parity::2], base) for parity in (0, 1)) == pytest.approx(list(wanted.rattles), rel=0.05)
    again = distorted_frames("NaCl", crystal, wanted.model_copy(update={"copies": 3}), 0)
    assert [f.structure for f in again] == [f.structure for f in frames[:3]]
    assert distorted_frames("KCl", crystal, wanted, 0)[0].structure != frames[0].structure


def test_two_copies_of_many_crystals_have_all_the_rattles():
    wanted = Distortions(copies=2, rattles=(0.02, 0.1, 0.5), strain=0.0)
    base = repeated(rock_salt(), 6)
    found = [spread([frame], base) for n in range(60) for frame in distorted_frames(f"{n}", rock_salt(), wanted, 0)]
    nearest = [int(np.argmin(np.abs(np.log(wanted.rattles) - np.log(width)))) for width in found]
    # A third of 120, within four standard deviations of a draw of 60.
    assert np.bincount(nearest) == pytest.approx([40, 40, 40], abs=4 * 2 * (60 * 2 / 9) ** 0.5 / 2)


def test_a_crystal_of_one_element_has_copies_of_its_own_number():
    copper = Structure(Lattice.cubic(3.6), ["Cu"] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    wanted = Distortions(copies=2, element_copies=5)
    assert [len(distorted_frames("x", crystal, wanted, 0)) for crystal in (rock_salt(), copper)] == [2, 5]
    assert len(distorted_frames("x", copper, wanted.model_copy(update={"element_copies": None}), 0)) == 2


def test_strain_is_symmetric_and_the_volume_is_reached():
    cell = np.array([[3.0, 0.1, 0.0], [0.0, 4.0, 0.2], [0.3, 0.0, 5.0]])
    strain = np.random.default_rng(0).normal(0.0, 0.05, (3, 3))
    strained = strained_cell(cell, strain, 66.0)
    assert abs(np.linalg.det(strained)) == pytest.approx(66.0)
    gradient = np.linalg.solve(cell, strained)
    np.testing.assert_allclose(gradient, gradient.T, atol=1e-12)
    assert not np.allclose(gradient, gradient[0, 0] * np.eye(3))


def test_small_cells_are_repeated_without_a_change_of_density():
    for least in (1, 2, 5, 16):
        found = repeated(rock_salt(), least)
        assert len(found) >= least
        assert len(found) < 2 * max(least, 2)
        assert found.density == pytest.approx(rock_salt().density)


def test_equal_falls():
    assert equal_falls(np.array([0.0, -6.0, -7.0, -9.0, -9.5, -10.0]), 3) == [0, 1, 5]
    assert equal_falls(np.array([0.0, -1.0, -2.0, -3.0]), 4) == [0, 1, 2, 3]
    assert equal_falls(np.array([-1.0, -1.0]), 4) == [0, 1]  # nothing falls
    assert equal_falls(np.array([-1.0]), 4) == [0]


@pytest.mark.parametrize("optimizer", ["quasi-newton", "fire", "fire-quasi-newton"])
def test_frames_of_a_relaxation_lie_on_the_way_that_relax_takes(optimizer):
    potential = morse_potential(MorseOneByOne())
    crystals = [repeated(rock_salt(halogen="F", a=a, seed=k), 4) for k, a in enumerate((4.6, 5.2))]
    wanted = RelaxationFrames(frames=4, max_steps=15, optimizer=optimizer)
    keys = ["first", "second"]
    found = relaxation_frames(keys, crystals, wanted, 7, potential)
    relaxed = potential.relax(crystals, 0.05, 15, optimizer=optimizer, rattle=0.02, seed=7, keys=keys)
    for (frames, end), direct in zip(found, relaxed, strict=True):
        assert frames[0].structure_id.endswith("-relaxation-0")
        energies = [e.energy for e in potential.evaluate([f.structure for f in frames])]
        # A frame's atoms are taken back into the cell: the last digits of its coordinates move.
        assert energies[0] == pytest.approx(direct.energy_initial, abs=1e-9)
        assert energies[-1] == pytest.approx(direct.energy, abs=1e-9)
        assert energies[0] > energies[1] > energies[-1]
        assert end.volume == pytest.approx(direct.structure.volume)


def test_a_crystal_that_no_model_takes_has_no_path():
    frames, end = relaxation_frames(["a"], [rock_salt("Cs", "I")], RelaxationFrames(), 0, morse_potential())[0]
    assert frames == []
    assert end == rock_salt("Cs", "I")


def test_frames_of_dynamics_are_even_and_move():
    potential = morse_potential(MorseOneByOne())
    wanted = DynamicsFrames(steps=9, frames=3, temperatures=(900.0,))
    (frames,) = dynamics_frames(["NaCl"], [rock_salt()], [900.0], wanted, 6, 0, potential)
    assert [f.structure_id for f in frames] == [f"NaCl-dynamics-{n}" for n in range(3)]
    assert {len(f.structure) for f in frames} == {8}
    first, second = (np.sort(f.structure.distance_matrix.reshape(-1)) for f in frames[:2])
    assert np.abs(first - second).max() > 1e-3
    assert dynamics_frames([], [], [], wanted, 6, 0, potential) == []
