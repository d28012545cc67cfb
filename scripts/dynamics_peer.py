"""What ``benchmark_dynamics.py`` runs in worker processes: ASE's Langevin with matgl's calculator, and ionsieve.

Both have the same weights and the same corrected message convention (see ``relaxation_peer.py``), the same crystals,
temperature, time step and friction. The peer moves one crystal after the other, as its users do.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymatgen.core import Structure
from relaxation_costs import matrix_rates
from relaxation_peer import loaded_network, our_potential, peers_relaxer

from pipeline.surrogates.dynamics import DynamicsResult, run_dynamics
from pipeline.surrogates.dynamics_settings import DynamicsSettings


@dataclass(frozen=True)
class Motion:
    """How to move, the same for both; temperature in K."""

    model: str
    temperature: float
    settings: DynamicsSettings
    device: str = "cpu"


@dataclass(frozen=True)
class Slice:
    """Steps of all crystals, the seconds on the clock and of the processor, and the mean temperature of each, K."""

    steps: int
    wall: float
    cpu: float
    temperatures: list[float]


def move_ours(motion: Motion, structures: Sequence[Structure]) -> Slice:
    """All crystals at once with ionsieve."""
    potential = our_potential(motion.model, motion.device)
    wall, cpu = time.perf_counter(), time.process_time()
    results = run_dynamics(potential, structures, motion.temperature, motion.settings)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    _refuse_failures(results)
    return Slice(sum(r.n_steps for r in results), wall, cpu, [r.temperature for r in results])


def move_peers(motion: Motion, structures: Sequence[Structure]) -> Slice:
    """One crystal after the other with ASE and matgl's calculator."""
    from ase import units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

    how = motion.settings
    calculator = peers_relaxer(motion.model, motion.device).calculator
    temperatures = []
    wall, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for structure in structures:
            atoms = structure.to_ase_atoms()
            atoms.calc = calculator
            chance = np.random.default_rng(how.seed)
            MaxwellBoltzmannDistribution(atoms, temperature_K=motion.temperature, rng=chance)
            Stationary(atoms)
            dynamics = Langevin(
                atoms,
                how.timestep * units.fs,
                temperature_K=motion.temperature,
                friction=1.0 / (how.friction_time * units.fs),
                rng=chance,
            )
            seen: list[float] = []
            dynamics.attach(lambda seen=seen, atoms=atoms: seen.append(atoms.get_temperature()), how.record_every)
            dynamics.run(how.n_steps)
            temperatures.append(float(np.mean(seen)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Slice(how.n_steps * len(structures), wall, cpu, temperatures)


PEER, OURS = "ASE, matgl", "ionsieve"
SIDES = {PEER: move_peers, OURS: move_ours}


def differences(motion: Motion, structures: Sequence[Structure]) -> list[tuple[float, float]]:
    """Of each crystal: ionsieve's energy less the peer's, eV/atom, and the largest difference of forces, eV/Å."""
    calculator = peers_relaxer(motion.model, motion.device).calculator
    found = []
    for structure, ours in zip(
        structures, our_potential(motion.model, motion.device).evaluate(structures), strict=True
    ):
        atoms = structure.to_ase_atoms()
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        found.append(((ours.energy - energy) / len(atoms), float(np.abs(ours.forces - forces).max())))
    return found


def neighbours(model: str, structures: Sequence[Structure]) -> list[tuple[int, int, int]]:
    """Of each crystal: directed pairs within the cutoff, bonds within the three-body cutoff, triplets."""
    network: Any = loaded_network(model).network
    found = []
    for structure in structures:
        pairs = len(structure.get_neighbor_list(float(network.cutoff))[0])
        sources = structure.get_neighbor_list(float(network.threebody_cutoff))[0]
        own = np.bincount(sources, minlength=len(structure))
        found.append((pairs, int(own.sum()), int((own * (own - 1)).sum())))
    return found


def fastest_product(device: str) -> float:
    """Multiply-adds a second of the fastest matrix product."""
    return max(matrix_rates(device).values())


def relaxed(motion: Motion, structures: Sequence[Structure]) -> list[Structure]:
    """The crystals in their minima with ionsieve."""
    results = our_potential(motion.model, motion.device).relax(structures, optimizer="quasi-newton")
    for structure, result in zip(structures, results, strict=True):
        if result.error is not None:
            raise ValueError(f"{structure.formula} can't be relaxed: {result.error}")
    return [result.structure for result in results]


def drifts(motion: Motion, structures: Sequence[Structure]) -> list[DynamicsResult]:
    """Dynamics with ionsieve; what is asked of them is their conserved quantity."""
    results = run_dynamics(our_potential(motion.model, motion.device), structures, motion.temperature, motion.settings)
    _refuse_failures(results)
    return results


def _refuse_failures(results: Sequence[DynamicsResult]) -> None:
    failed = [f"{r.structure.formula}: {r.error}" for r in results if r.error is not None]
    if failed:
        raise ValueError("; ".join(failed))
