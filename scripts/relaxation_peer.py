"""What ``benchmark_relaxation.py`` runs in worker processes: matgl's Relaxer, and ionsieve's batched relaxation.

The peer gets ionsieve's corrected message convention: matgl's own ``Potential`` is put around a network that
``pipeline.surrogates.loading`` has set on its own layers, so that matgl itself stays as it is. Its weights are frozen,
which spares it a little work that its users do not spare it.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from pymatgen.core import Structure

from pipeline.surrogates.batch import BatchEvaluator, BatchResult, CrystalBatch
from pipeline.surrogates.relaxation import OptimizerName

DEVICE_THREADS = 4


@dataclass(frozen=True)
class Job:
    """How to relax, the same for both."""

    model: str
    fmax: float = 0.05
    max_steps: int = 500
    rattle: float = 0.0
    seed: int = 0
    device: str = "cpu"
    optimizer: OptimizerName = "fire-quasi-newton"  # of ionsieve; the peer's is FIRE


@dataclass(frozen=True)
class Outcome:
    """A relaxed crystal: energies in eV/atom, evaluations of the model, and what failed."""

    start: float
    energy: float
    evaluations: int
    converged: bool
    volume_change: float
    structure: dict[str, Any]
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a cache of JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Timed:
    """Outcomes, and the seconds on the clock and of the processor that they took together."""

    outcomes: list[Outcome]
    wall: float
    cpu: float
    evaluations: int


class CountingEvaluator:
    """An evaluator that counts the crystals it was given."""

    def __init__(self, evaluator: BatchEvaluator) -> None:
        self._evaluator = evaluator
        self.crystals = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluator, name)

    def evaluate_batch(self, batch: CrystalBatch) -> BatchResult:
        """Count and pass on."""
        self.crystals += len(batch.counts)
        return self._evaluator.evaluate_batch(batch)


@cache
def our_potential(model: str, device: str = "cpu") -> Any:
    """Potential of ionsieve; its evaluator counts."""
    from pipeline.surrogates import load_potential

    _one_thread(device)
    potential = load_potential(model, device=device)
    potential.evaluator = potential.guarded.model = CountingEvaluator(potential.evaluator)
    return potential


@cache
def peers_relaxer(model: str, device: str = "cpu") -> Any:
    """Relaxer of matgl with the convention that the checkpoint needs: FIRE and FrechetCellFilter, its defaults."""
    import torch

    _one_thread()
    network = loaded_network(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matgl.apps.pes import Potential
        from matgl.ext.ase import Relaxer
    potential = Potential(
        network.network,
        data_mean=torch.tensor(network.mean, dtype=torch.float32),
        data_std=torch.tensor(network.scale, dtype=torch.float32),
        element_refs=network.element_energies.to(torch.float32),
    )
    return Relaxer(potential.to(device))


@cache
def loaded_network(model: str) -> Any:
    """Network of matgl with its weights, as :func:`pipeline.surrogates.loading.load_matgl` gives it."""
    from pipeline.surrogates.catalogue import locate, resolve_convention
    from pipeline.surrogates.loading import load_matgl

    located = locate(model)
    convention = resolve_convention(located, None)
    if convention is None:
        raise ValueError(f"model {model!r} is not one of matgl's; the peer relaxes those only")
    return load_matgl(located, convention)


def _one_thread(device: str = "cpu") -> None:
    """Of torch; beside a device a few, which make the neighbour lists."""
    import torch

    torch.set_num_threads(1 if device == "cpu" else DEVICE_THREADS)


def relax_ours(job: Job, structures: Sequence[Structure], keys: Sequence[str] | None = None) -> Timed:
    """All structures at once with ionsieve."""
    potential = our_potential(job.model, job.device)
    potential.evaluator.crystals = 0
    wall, cpu = time.perf_counter(), time.process_time()
    results = potential.relax(
        structures,
        fmax=job.fmax,
        max_steps=job.max_steps,
        optimizer=job.optimizer,
        rattle=job.rattle,
        seed=job.seed,
        keys=keys,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    outcomes = [
        Outcome(
            start=r.energy_initial / len(s),
            energy=r.energy / len(s),
            evaluations=r.n_steps + 1,
            converged=r.converged,
            volume_change=r.volume_change,
            structure=r.structure.as_dict(),
            error=r.error,
        )
        for s, r in zip(structures, results, strict=True)
    ]
    return Timed(outcomes, wall, cpu, potential.evaluator.crystals)


def relax_peers(job: Job, structures: Sequence[Structure], keys: Sequence[str] | None = None) -> Timed:
    """One structure after the other with matgl's Relaxer; a rattle is Gaussian, from the seed and the structure."""
    relaxer = peers_relaxer(job.model, job.device)
    starts = [_rattled(s, job) for s in structures]
    results: list[Any] = []
    wall, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        # ASE's notice that Atoms.set_calculator, which the Relaxer calls, will go
        warnings.simplefilter("ignore")
        for start in starts:
            try:
                results.append(relaxer.relax(start, fmax=job.fmax, steps=job.max_steps))
            except Exception as error:  # whatever it raises for a crystal is its result
                results.append(f"{type(error).__name__}: {error}")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    outcomes = [_peers_outcome(s, r, job) for s, r in zip(starts, results, strict=True)]
    return Timed(outcomes, wall, cpu, sum(o.evaluations for o in outcomes))


def start_digest(structure: Structure) -> int:
    """Checksum of lattice and coordinates."""
    return zlib.crc32(np.round(np.vstack([structure.lattice.matrix, structure.frac_coords]), 8).tobytes())


def _rattled(structure: Structure, job: Job) -> Structure:
    if not job.rattle:
        return structure
    chance = np.random.default_rng([job.seed, start_digest(structure)])
    moves = chance.normal(0.0, job.rattle, (len(structure), 3))
    return Structure(structure.lattice, structure.species, structure.cart_coords + moves, coords_are_cartesian=True)


def _peers_outcome(start: Structure, result: Any, job: Job) -> Outcome:
    if isinstance(result, str):
        nan = float("nan")
        return Outcome(nan, nan, 0, False, nan, start.as_dict(), result)
    trajectory, final = result["trajectory"], result["final_structure"]
    # the observer is called at every step and once more at the end
    evaluations = len(trajectory) - 1
    return Outcome(
        start=trajectory.energies[0] / len(start),
        energy=trajectory.energies[-1] / len(start),
        evaluations=evaluations,
        converged=evaluations - 1 < job.max_steps,
        volume_change=final.volume / start.volume - 1.0,
        structure=final.as_dict(),
    )


SIDES: dict[str, Callable[..., Timed]] = {"matgl Relaxer": relax_peers, "ionsieve": relax_ours}


def first_calls(side: str, job: Job, structures: Sequence[Structure]) -> tuple[float, float, float]:
    """In a fresh process: seconds to load the model, of the first call, and of the same call again."""
    started = time.perf_counter()
    (our_potential if side == "ionsieve" else peers_relaxer)(job.model, job.device)
    loaded = time.perf_counter() - started
    return loaded, SIDES[side](job, structures).wall, SIDES[side](job, structures).wall


@contextmanager
def workers(count: int, **environment: str) -> Iterator[list[ProcessPoolExecutor]]:
    """Fresh processes, one thread each, with the environment that a campaign's workers get."""
    from workflows.cluster import worker_environment

    wanted = {**worker_environment(1), **environment}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with ExitStack() as stack:
            spawn = multiprocessing.get_context("spawn")
            pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for _ in range(count)]
            for started in [pool.submit(_one_thread) for pool in pools]:
                started.result()
            yield pools
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def share_out(
    pools: Sequence[ProcessPoolExecutor],
    side: str,
    job: Job,
    structures: Sequence[Structure],
    keys: Sequence[str] | None = None,
) -> tuple[list[Outcome], list[Timed]]:
    """Relax on all processes at the same time; outcomes in order, and what each process took."""
    # the large ones are dealt out in turn, so that all processes are busy to about the end
    order = np.argsort([-len(s) for s in structures], kind="stable")
    hands = [order[k :: len(pools)] for k in range(len(pools))]
    calls = [
        pool.submit(SIDES[side], job, [structures[i] for i in np.sort(hand)], keys and [keys[i] for i in np.sort(hand)])
        for pool, hand in zip(pools, hands, strict=True)
        if len(hand)
    ]
    timed = [call.result() for call in calls]
    outcomes: dict[int, Outcome] = {}
    for hand, result in zip(hands, timed, strict=False):
        outcomes.update(zip(np.sort(hand).tolist(), result.outcomes, strict=True))
    return [outcomes[i] for i in range(len(structures))], timed
