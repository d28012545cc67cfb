"""Frames of a crystal: as drawn, along its relaxation, strained and rattled, and in molecular dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.distillation.settings import Distortions, DynamicsFrames, RelaxationFrames
from pipeline.surrogates.batch import FloatArray, batch_from_structures, rejection
from pipeline.surrogates.descent import PathRecorder
from pipeline.surrogates.dynamics import run_dynamics
from pipeline.surrogates.dynamics_settings import DynamicsSettings
from pipeline.surrogates.moving import random_stream
from pipeline.surrogates.potential import Potential, rattle_batch
from pipeline.surrogates.relaxation import BatchedRelaxation, RelaxationSettings

if TYPE_CHECKING:
    from pymatgen.core import Structure

SOURCES = ("drawn", "relaxation", "distorted", "dynamics")
"""How a frame came about."""


@dataclass(frozen=True)
class Frame:
    """A crystal to be labelled: its name, how it came about (one of :data:`SOURCES`), and the crystal."""

    structure_id: str
    source: str
    structure: Structure


def repeated(structure: Structure, least_sites: int) -> Structure:
    """A copy of at least so many atoms: the shortest lattice vector is doubled until it has them."""
    copy: Structure = structure.copy()
    while len(copy) < least_sites:
        times = [1, 1, 1]
        times[int(np.argmin(copy.lattice.abc))] = 2
        copy.make_supercell(times, to_unit_cell=False)
    return copy


def distorted_frames(key: str, structure: Structure, settings: Distortions, seed: int) -> list[Frame]:
    """Strained and rattled copies of one crystal.

    A copy's cell is that of the crystal times 1 + e, with e the symmetric part of nine normal deviates, scaled to
    a volume drawn evenly between the bounds; then every coordinate moves by a normal deviate.

    Parameters
    ----------
    key
        Of the crystal: with the seed it determines all that is drawn.
    structure
        The crystal.
    settings
        Number, amplitudes (Å) and bounds.
    seed
        Of the distillation.
    """
    base = repeated(structure, settings.least_sites)
    stream = random_stream(seed, f"distortions of {key}")
    first = int(stream.integers(len(settings.rattles)))
    frames = []
    for k in range(copies_of(structure, settings)):
        volume = base.volume * stream.uniform(settings.smallest_volume, settings.largest_volume)
        cell = strained_cell(np.asarray(base.lattice.matrix), stream.normal(0.0, settings.strain, (3, 3)), volume)
        shifts = stream.normal(0.0, settings.rattles[(first + k) % len(settings.rattles)], (len(base), 3))
        moved = _crystal(base, cell, base.frac_coords @ cell + shifts)
        frames.append(Frame(f"{key}-distorted-{k}", "distorted", moved))
    return frames


def copies_of(structure: Structure, settings: Distortions) -> int:
    """How many strained and rattled copies a crystal has."""
    if settings.element_copies is not None and len(structure.composition) == 1:
        return settings.element_copies
    return settings.copies


def strained_cell(cell: FloatArray, strain: FloatArray, volume: float) -> FloatArray:
    """(3, 3) cell, Å, after the symmetric part of a strain (3, 3), at a volume (Å3)."""
    strained: FloatArray = cell @ (np.eye(3) + (strain + strain.T) / 2.0)
    strained *= (volume / abs(float(np.linalg.det(strained)))) ** (1.0 / 3.0)
    return strained


def relaxation_frames(
    keys: Sequence[str], structures: Sequence[Structure], settings: RelaxationFrames, seed: int, potential: Potential
) -> list[tuple[list[Frame], Structure]]:
    """Frames along the relaxation of each crystal, and where it ended; none, and the start, for one that fails at once.

    Of a relaxation that fails later the frames before the failure are kept, and what is wrong with the last ones is
    left to the filter.
    """
    guarded = potential.guarded
    sound = [
        i for i, s in enumerate(structures) if not rejection(s, potential.elements, guarded.cutoff, guarded.max_edges)
    ]
    recorder = PathRecorder()
    if sound:
        batch = batch_from_structures([structures[i] for i in sound])
        if settings.rattle > 0.0:
            rattle_batch(batch, settings.rattle, seed, [keys[i] for i in sound])
        relaxing = RelaxationSettings(settings.fmax, settings.max_steps, True, settings.optimizer)
        BatchedRelaxation(guarded, relaxing).run(batch, recorder)
    place = {i: k for k, i in enumerate(sound)}
    found: list[tuple[list[Frame], Structure]] = []
    for i, (key, structure) in enumerate(zip(keys, structures, strict=True)):
        k = place.get(i)
        energies = [] if k is None else recorder.energies.get(k, [])
        if k is None or not energies:
            found.append(([], structure))
            continue
        path = [_crystal(structure, c, x) for c, x in zip(recorder.cells[k], recorder.positions[k], strict=True)]
        picked = equal_falls(np.array(energies), settings.frames)
        frames = [Frame(f"{key}-relaxation-{n}", "relaxation", path[t]) for n, t in enumerate(picked)]
        found.append((frames, path[-1]))
    return found


def equal_falls(energies: FloatArray, count: int) -> list[int]:
    """Places (at most ``count``, ascending, all different) of a descent (T,) between which the energy falls equally.

    The first and the last are among them; the others are where the energy first is below its share of the way from
    the first to the last.
    """
    last = len(energies) - 1
    levels = np.linspace(energies[0], energies[last], count)[1:-1]
    between = [int(np.argmax(energies <= level)) for level in levels] if energies[last] < energies[0] else []
    return sorted({0, *between, last})


def dynamics_frames(
    keys: Sequence[str],
    structures: Sequence[Structure],
    temperatures: Sequence[float],
    settings: DynamicsFrames,
    least_sites: int,
    seed: int,
    potential: Potential,
) -> list[list[Frame]]:
    """Evenly spaced frames of the dynamics of each crystal at its temperature (K); those before the failure of one."""
    if not len(structures):
        return []
    bases = [repeated(s, max(least_sites, 2)) for s in structures]
    every = settings.steps // settings.frames
    running = DynamicsSettings(
        n_steps=settings.frames * every,
        timestep=settings.timestep,
        friction_time=settings.friction_time,
        record_every=every,
        seed=seed,
    )
    results = run_dynamics(potential, bases, list(temperatures), running, keys=[f"dynamics of {key}" for key in keys])
    found = []
    for key, base, result in zip(keys, bases, results, strict=True):
        moved = zip(result.trajectory.cells[1:], result.trajectory.positions[1:], strict=True)
        frames = [Frame(f"{key}-dynamics-{n}", "dynamics", _crystal(base, c, x)) for n, (c, x) in enumerate(moved)]
        found.append(frames)
    return found


def _crystal(structure: Structure, cell: FloatArray, positions: FloatArray) -> Structure:
    """The same atoms elsewhere, Å, each taken back into the cell."""
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice(cell), structure.species, positions, coords_are_cartesian=True, to_unit_cell=True)
