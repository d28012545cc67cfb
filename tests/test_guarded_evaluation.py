"""A crystal fails alone, whatever the model raises; batches follow memory."""

import math
import re
import weakref

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from kernels.neighbors import neighbor_list
from pipeline.broken_device import is_broken_device
from pipeline.stages.rows import attempt
from pipeline.surrogates import load_potential
from pipeline.surrogates.batch import BatchResult, CrystalBatch, batch_from_structures
from pipeline.surrogates.batch_budget import BatchBudget, first_budget, largest_graph
from pipeline.surrogates.device_memory import available_host_memory
from pipeline.surrogates.guarded_evaluation import GuardedEvaluator, ran_out_of_memory
from pipeline.surrogates.potential import Potential
from pipeline.surrogates.relaxation import RelaxationSettings
from tests.morse import Morse, morse_potential
from tests.potentials import rock_salt, salts


def crystals(n):
    rng = np.random.default_rng(5)
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return [
        Structure(
            Lattice(np.eye(3) * 3.6 + rng.normal(0.0, 0.1, (3, 3))),
            ["Na", "Cl", "Li", "Na"],
            sites + rng.normal(0.0, 0.03, (4, 3)),
        )
        for _ in range(n)
    ]


@pytest.mark.parametrize("text", ["CUDA error: uncorrectable ECC error encountered", "CUDA error: an illegal access"])
@pytest.mark.parametrize("kind", [torch.AcceleratorError, RuntimeError])
def test_a_broken_gpu_is_no_crystals_fault(text, kind):
    structures = crystals(4)
    guarded = GuardedEvaluator(Fragile(structures, error=lambda _: kind(text)))
    with pytest.raises(RuntimeError, match="CUDA error"):
        guarded.evaluate_batch(batch_from_structures(structures))
    with pytest.raises(RuntimeError, match="CUDA error"):
        attempt(guarded.evaluate_batch, batch_from_structures(structures))


def test_memory_that_does_not_suffice_breaks_no_gpu():
    assert not is_broken_device(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_broken_device(RuntimeError("CUDA error: out of memory"))
    assert not is_broken_device(ValueError("CUDA error: in the name of a crystal"))


class Fragile(Morse):
    """Raises, with the crystal's own message, for each batch that holds a marked crystal (marked by its lattice)."""

    def __init__(self, marked, error=ValueError):
        super().__init__()
        self.marked = [float(s.lattice.matrix[0, 0]) for s in marked]
        self.error = error
        self.calls = 0

    def evaluate_batch(self, batch):
        self.calls += 1
        for value in self.marked:
            if (batch.cells[:, 0, 0] == value).any():
                raise self.error(f"cell {value:.6f}")
        return super().evaluate_batch(batch)


@pytest.mark.parametrize("guilty", [[], [0], [63], [17, 18, 40], list(range(64))])
def test_guilty_crystals_stand_alone(guilty):
    structures = crystals(64)
    model = Fragile([structures[k] for k in guilty])
    batch = batch_from_structures(structures)
    result = GuardedEvaluator(model).evaluate_batch(batch)
    expected = Morse().evaluate_batch(batch)
    fine = np.array([k not in guilty for k in range(64)])
    assert [error is None for error in result.errors] == fine.tolist()
    for k in guilty:
        assert result.errors[k] == f"ValueError: cell {structures[k].lattice.matrix[0, 0]:.6f}"
    np.testing.assert_allclose(result.energies[fine], expected.energies[fine], atol=1e-12)
    np.testing.assert_allclose(result.forces[fine[batch.owners]], expected.forces[fine[batch.owners]], atol=1e-12)
    np.testing.assert_allclose(result.stresses[fine], expected.stresses[fine], atol=1e-12)
    np.testing.assert_array_equal(result.edges[fine], expected.edges[fine])
    for values in (result.energies[~fine], result.forces[~fine[batch.owners]], result.stresses[~fine]):
        assert np.isnan(values).all()
    # Bisection: each guilty crystal costs at most two calls a level; parts are equal in edges, not in number.
    assert model.calls <= 1 + 2 * len(guilty) * (math.log2(64) + 1)
    assert model.edges_per_batch == Morse.edges_per_batch


def test_relaxation_goes_on_without_the_crystal_that_raises():
    structures = crystals(12)
    model = Fragile([structures[7]], RuntimeError)
    results = morse_potential(model).relax(structures)
    expected = morse_potential().relax(structures)
    assert results[7].error == f"RuntimeError: cell {model.marked[0]:.6f}"
    for k in set(range(12)) - {7}:
        assert results[k].n_steps == expected[k].n_steps
        assert results[k].energy == pytest.approx(expected[k].energy, abs=1e-9)  # float64; the order of sums differs


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_being_told_to_stop_is_no_failure_of_a_crystal(error):
    structures = crystals(3)
    with pytest.raises(error):
        GuardedEvaluator(Fragile(structures[1:2], error)).evaluate_batch(batch_from_structures(structures))


def test_chgnet_with_crystals_it_cannot_take():
    guarded = load_potential("CHGNet").guarded
    batch = batch_from_structures(salts(5))
    batch.positions[batch.offsets[1]] = np.nan
    batch.cells[3, 2] = batch.cells[3, 1]
    result = guarded.evaluate_batch(batch)
    assert [error is None for error in result.errors] == [True, False, True, False, True]
    assert "must be finite" in result.errors[1]
    assert result.errors[3].startswith("GraphTooLarge: ")
    (alone,) = guarded.evaluate_batch(batch_from_structures(salts(5)[4:])).energies
    assert result.energies[4] == pytest.approx(alone, abs=1e-5 * batch.counts[4])  # float32


class SmallDevice:
    """A model on a device whose memory holds so many neighbour pairs: the model is real, its memory is counted here.

    It is its own ``DeviceMemory`` of 1000 bytes a pair, of which ``understated`` hides a part.
    """

    BYTES = 1000

    def __init__(self, model, holds, edges_per_batch, understated=1.0):
        self.model = model
        self.cutoff, self.elements = model.cutoff, model.elements
        self.holds, self.edges_per_batch, self.understated = holds, edges_per_batch, understated
        self.taken = self.overflows = self.releases = 0
        self.batches = []

    def evaluate_batch(self, batch):
        edges = int(neighbor_list(batch.positions, batch.cells, batch.counts, self.cutoff)[4].sum())
        if edges > self.holds:
            self.overflows += 1
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {edges * self.BYTES} bytes")
        self.taken = max(self.taken, edges * self.BYTES)
        self.batches.append(edges)
        return self.model.evaluate_batch(batch)

    def start_measuring(self):
        self.taken = 0

    def peak(self):
        return int(self.taken * self.understated)

    def room(self):
        return self.holds * self.BYTES

    def release(self):
        self.releases += 1


def on_small_device(model, holds, edges_per_batch, **settings):
    device = SmallDevice(model, holds, edges_per_batch, settings.pop("understated", 1.0))
    budget = BatchBudget(device, **settings)
    return Potential("small", "0" * 64, None, device, "cpu", budget=budget), device


@pytest.fixture(scope="module")
def chgnet():
    return load_potential("CHGNet")


def test_out_of_memory_halves_the_batch_and_goes_on(chgnet):
    structures = salts(20)
    potential, device = on_small_device(chgnet.evaluator, 800, 100_000)
    results = potential.evaluate(structures)
    assert device.overflows > 0
    assert device.releases == device.overflows
    for structure, result, expected in zip(structures, results, chgnet.evaluate(structures), strict=True):
        assert result.error is None
        assert result.energy == pytest.approx(expected.energy, abs=1e-5 * len(structure))  # float32
        np.testing.assert_allclose(result.forces, expected.forces, atol=1e-4)
    assert potential.guarded.edges_per_batch <= 800
    before = device.overflows
    assert all(r.error is None for r in potential.evaluate(structures))
    assert device.overflows == before


def test_relaxation_on_a_device_that_holds_a_part_of_the_batch():
    structures = crystals(30)
    potential, device = on_small_device(Morse(), 1200, 100_000)
    expected = morse_potential().relax(structures)
    for result, reference in zip(potential.relax(structures), expected, strict=True):
        assert result.converged
        assert result.n_steps == reference.n_steps
        assert result.energy == pytest.approx(reference.energy, abs=1e-9)  # float64
    # The batch that is under way stays cut: it does not run out of memory at every step.
    assert 0 < device.overflows <= 8


def test_a_crystal_that_does_not_fit_alone():
    large = crystals(1)[0] * (3, 3, 3)
    structures = [*crystals(3), large, *crystals(3)]
    potential, _ = on_small_device(Morse(), 2000, 100_000)
    results = potential.relax(structures, max_steps=2)
    assert [r.error is None for r in results] == [True] * 3 + [False] + [True] * 3
    assert re.match(
        r"OutOfMemory: 108 atoms with about [\d.e+]+ neighbour pairs do not fit into memory, even alone "
        r"\(OutOfMemoryError: CUDA out of memory.*\); evaluate them on a device, or in a worker, with more memory",
        results[3].error,
    )
    assert potential.guarded.edges_per_batch >= 1


def test_budget_grows_while_memory_holds_it():
    potential, device = on_small_device(Morse(), 20_000, 500, grows=True)
    potential.evaluate(crystals(400))
    # 500 doubled five times would be 16,000: more than the share of the memory that growth may fill.
    assert potential.guarded.edges_per_batch == 8_000
    assert device.overflows == 0
    assert max(device.batches) > 6_000


def test_budget_that_grew_too_far_is_kept_below():
    # The peak is understated by ten, so that growth runs into the limit.
    potential, device = on_small_device(Morse(), 5_000, 500, grows=True, understated=0.1)
    assert all(e.error is None for e in potential.evaluate(crystals(400)))
    assert 1 <= device.overflows <= 4
    assert potential.guarded.edges_per_batch <= 5_000
    overflows = device.overflows
    potential.evaluate(crystals(400))
    assert device.overflows == overflows


def test_small_batches_prove_nothing():
    potential, _ = on_small_device(Morse(), 10**9, 100_000, grows=True)
    for _ in range(5):
        potential.evaluate(crystals(2))
    assert potential.guarded.edges_per_batch == 100_000
    with pytest.raises(ValueError, match="give it a DeviceMemory"):
        BatchBudget(grows=True)


def test_what_failed_is_gone_before_memory_is_released():
    class Tensor:
        """Stands for what the failed batch had allocated."""

    class Overflowing(Morse):
        def evaluate_batch(self, batch):
            tensor = Tensor()
            held.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("CUDA out of memory")

    class Memory(SmallDevice):
        def release(self):
            alive.append(held[-1]() is not None)

    held, alive = [], []
    budget = BatchBudget(Memory(Morse(), 1, 1))
    result = GuardedEvaluator(Overflowing(), budget=budget).evaluate_batch(batch_from_structures(crystals(4)))
    assert len(alive) >= 5  # the batch and its four crystals
    assert not any(alive)
    assert all(error.startswith("OutOfMemory: 4 atoms") for error in result.errors)


def test_real_allocation_failures_are_recognised():
    for allocate in (lambda: torch.empty(2**50, dtype=torch.uint8), lambda: np.empty(2**50, np.uint8)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert ran_out_of_memory(caught.value)
    assert not ran_out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
    assert not ran_out_of_memory(ValueError("out of memory of the user"))


def test_one_structure_s_graph_is_limited():
    large = rock_salt() * (6, 5, 5)
    assert len(large) == 300
    potential = load_potential("CHGNet", max_edges=1000)
    results = potential.evaluate([rock_salt(), large])
    assert results[0].error is None
    said = re.fullmatch(
        r"GraphTooLarge: 300 atoms in [\de.+]+ Å3 mean about [\de.+]+ neighbour pairs within 6.0 Å \(limit 1000\); "
        r"if memory holds them, raise the limit: load_potential\(..., max_edges=(\d+)\)",
        results[1].error,
    )
    (result,) = load_potential("CHGNet", max_edges=int(said.group(1))).evaluate([large])
    (cell,) = potential.evaluate([rock_salt()])
    assert result.energy / 300 == pytest.approx(cell.energy / 2, abs=1e-5)  # float32
    for name in ("max_edges", "edges_per_batch"):
        with pytest.raises(ValueError, match=f"{name} must be a number of neighbour pairs, 1 or more, got 0"):
            load_potential("CHGNet", **{name: 0})


def test_a_crystal_that_becomes_too_dense_on_the_way_fails_alone():
    # Loosely packed atoms pull together.
    gas = Structure(Lattice.cubic(4.8), ["Na"] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    gas *= (2, 1, 1)
    settings = RelaxationSettings(max_volume_ratio=10.0)
    good = crystals(2)
    limited = morse_potential(max_edges=450)
    results = limited.relax([good[0], gas, good[1]], settings=settings)
    assert [r.error is None for r in results] == [True, False, True]
    assert results[1].error.startswith("GraphTooLarge: 8 atoms")
    assert results[1].n_steps > 0


def test_nothing_in_nothing_out():
    empty = CrystalBatch(np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    result = GuardedEvaluator(Morse()).evaluate_batch(empty)
    assert isinstance(result, BatchResult)
    assert result.forces.shape == (0, 3)
    assert result.errors == []


def test_first_guesses_follow_the_memory():
    assert first_budget(16 << 30, 16_000.0, accelerator=False) == 4_000
    assert first_budget(64_000_000, 16_000.0, accelerator=False) == 500
    assert first_budget(80 << 30, 16_000.0, accelerator=True) == 50_000
    assert first_budget(1_024_000_000, 64_000.0, accelerator=True) == 2_000
    assert largest_graph(80 << 30, 64_000.0) == 200_000
    assert largest_graph(1_280_000_000, 64_000.0) == 10_000
    assert largest_graph(0, 64_000.0) == first_budget(0, 64_000.0, accelerator=True) == 1


def _write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_memory_of_a_control_group_is_respected(tmp_path):
    unlimited = available_host_memory(tmp_path)
    assert unlimited > 2**20
    _write(tmp_path / "proc/self", cgroup="0::/job/step")
    groups = tmp_path / "sys/fs/cgroup"
    _write(groups / "job/step", memory__max="max", memory__current=4096, memory__stat="anon 96\ninactive_file 4000")
    # Within a factor of two: the machine's own available memory moves.
    assert available_host_memory(tmp_path) == pytest.approx(unlimited, rel=1.0)
    _write(groups / "job", memory__max=50_000, memory__current=42_000, memory__stat="anon 1\ninactive_file 2000")
    assert available_host_memory(tmp_path) == 10_000
    # Version 1, whose path is the host's: only the mounted root is seen.
    _write(tmp_path / "proc/self", cgroup="4:cpu,memory:/docker/0123\n2:cpu:/x")
    _write(
        groups / "memory",
        memory__limit_in_bytes=9_000,
        memory__usage_in_bytes=8_500,
        memory__stat="total_inactive_file 500",
    )
    assert available_host_memory(tmp_path) == 1_000
