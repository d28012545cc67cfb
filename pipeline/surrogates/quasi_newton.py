"""Quasi-Newton steps of atoms and cells of many crystals at once.

L-BFGS over a model Hessian of springs between neighbours (:mod:`kernels.spring_hessian`), built once a crystal from its
first geometry. Positions and gradients are pulled back to the first cell, in which strains leave atoms where they are,
so steps and changes of gradient of different cells belong together. The gradient of the strain is volume times stress.

A step is cut to a longest displacement. A step that leads uphill is taken back: what it taught stays in the memory, and
the next one starts from the same place, half as long at most. After `_RETURNS` such steps in a row the crystal goes on
from where it is with nothing but the model Hessian, since energy and forces then contradict each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.neighbors import neighbor_list
from kernels.quasi_newton import block_size, move_blocks, propose
from kernels.spring_hessian import write_models
from pipeline.surrogates.active import ActiveCrystals, BoolArray, entering, matrix_exponential
from pipeline.surrogates.batch import CrystalBatch, FloatArray, IntArray

_SPRING_CUTOFF = 6.0  # Å; springs between atoms farther apart have no stiffness worth counting
_STRAIN_LENGTH = 2.5  # Å, about a bond: strain times this counts as a displacement in the limit of a step
_UPHILL = 5e-4  # eV/atom; less is the noise of energies in single precision, or a ridge worth crossing
_RETURNS = 4
_FRESH_TRUST = 0.25  # of the longest step, where a crystal starts again after its returns
_HALF = np.sqrt(0.5)


@dataclass
class QuasiNewtonCrystals(ActiveCrystals):
    """What the optimiser remembers of each crystal; ``_kept`` is of the last place from which a step was made.

    ``deformation`` leads from the first cell to the present one, ``block`` is its place in the workspace (-1: none).
    """

    deformation: FloatArray
    block: IntArray
    stored: IntArray
    scale: FloatArray
    trust: FloatArray
    returns: IntArray
    energy_kept: FloatArray
    positions_kept: FloatArray
    cells_kept: FloatArray
    deformation_kept: FloatArray
    gradient_kept: FloatArray
    strain_gradient_kept: FloatArray
    move: FloatArray
    strain: FloatArray

    ATOMIC: ClassVar[frozenset[str]] = ActiveCrystals.ATOMIC | {"positions_kept", "gradient_kept", "move"}


class QuasiNewton:
    """L-BFGS over springs, as an optimiser of the batched relaxation.

    Parameters
    ----------
    cutoff : float
        Of the model, Å: edges are estimated with it.
    max_displacement : float
        Longest step of any atom, Å; a strain counts as its norm times 2.5 Å.
    energy_tolerance : float
        Energy that the optimiser's Hessian may still promise where small forces end the relaxation, eV/atom.
    relax_cell : bool
        Whether the cell moves.
    """

    def __init__(self, cutoff: float, max_displacement: float, energy_tolerance: float, relax_cell: bool) -> None:
        self.cutoff = cutoff
        self.max_displacement = max_displacement
        self.energy_tolerance = energy_tolerance
        self.strains = 6 if relax_cell else 0
        self._workspace: FloatArray = np.empty(0)
        self._used = 0

    def start(self, batch: CrystalBatch, indices: Sequence[int]) -> QuasiNewtonCrystals:
        """Without a Hessian yet: it is built when the model has found nothing wrong with the crystal."""
        common = entering(batch, indices, self.cutoff)
        return QuasiNewtonCrystals(**common, **without_memory(common["positions"], common["cells"], self.strains))

    def settled(
        self,
        state: QuasiNewtonCrystals,
        energies: FloatArray,
        forces: FloatArray,
        cell_forces: FloatArray,
        valid: BoolArray,
    ) -> BoolArray:
        """Find every crystal's next step; settled is one that stands no higher than before and can gain little."""
        counts = state.counts
        self._give_blocks(state, valid)
        gradient = -np.einsum("na,nba->nb", forces, np.repeat(state.deformation, counts, axis=0))
        strain_gradient = _as_vectors(-cell_forces * counts[:, None, None])[:, : self.strains]
        vectors = _FlatVectors(counts, self.strains)
        steps = vectors.join(state.move, state.strain)
        changes = vectors.join(gradient - state.gradient_kept, strain_gradient - state.strain_gradient_kept)
        uphill = valid & (energies > state.energy_kept + _UPHILL * counts) & (state.returns < _RETURNS)
        accepted = valid & ~uphill
        self._set_trust(state, uphill, accepted)
        _keep_place(state, energies, gradient, strain_gradient, accepted)
        kept = vectors.join(state.gradient_kept, state.strain_gradient_kept)
        ascent = np.zeros(len(kept))
        propose(
            valid,
            state.block,
            vectors.firsts,
            vectors.sizes,
            self._workspace,
            state.stored,
            state.scale,
            steps,
            changes,
            kept,
            ascent,
        )
        state.move, state.strain = -ascent[vectors.of_atoms], -ascent[vectors.of_strain]
        promised = 0.5 * np.add.reduceat(ascent * kept, vectors.firsts)
        settled: BoolArray = accepted & (promised <= self.energy_tolerance * counts)
        return settled

    def _set_trust(self, state: QuasiNewtonCrystals, uphill: BoolArray, accepted: BoolArray) -> None:
        """Shorten what follows a step uphill, and let the others grow; count the returns."""
        forget = accepted & (state.returns >= _RETURNS)
        taken = np.minimum(self._lengths(state) / self.max_displacement, state.trust)
        state.trust = np.where(uphill, 0.5 * taken, np.minimum(2.0 * state.trust, 1.0))
        state.trust = np.where(forget, _FRESH_TRUST, state.trust)
        state.stored = np.where(forget, -1, state.stored)
        state.returns = np.where(uphill, state.returns + 1, 0)

    def step(self, state: QuasiNewtonCrystals, forces: FloatArray, cell_forces: FloatArray) -> None:
        """Make the steps that :meth:`settled` found, cut to the longest displacement allowed."""
        counts = state.counts
        cut = np.minimum(1.0, state.trust * self.max_displacement / np.maximum(self._lengths(state), 1e-300))
        state.move = state.move * np.repeat(cut, counts)[:, None]
        state.strain = state.strain * cut[:, None]
        deformed = np.repeat(state.deformation_kept, counts, axis=0)
        state.positions = state.positions_kept + np.einsum("na,nab->nb", state.move, deformed)
        if self.strains:
            strain = matrix_exponential(_as_matrices(state.strain))
            state.positions = np.einsum("na,nab->nb", state.positions, np.repeat(strain, counts, axis=0))
            state.cells = state.cells_kept @ strain
            state.deformation = state.deformation_kept @ strain
        state.steps += 1

    def _lengths(self, state: QuasiNewtonCrystals) -> FloatArray:
        """(B,) longest displacement of an atom or by the strain, Å."""
        atoms = np.maximum.reduceat(np.linalg.norm(state.move, axis=1), np.cumsum(state.counts) - state.counts)
        lengths: FloatArray = np.maximum(atoms, _STRAIN_LENGTH * np.linalg.norm(state.strain, axis=1))
        return lengths

    def _give_blocks(self, state: QuasiNewtonCrystals, valid: BoolArray) -> None:
        """Find place for crystals that have none, and build their model Hessians."""
        new = valid & (state.block < 0)
        if not new.any():
            return
        sizes = 3 * state.counts + self.strains
        lengths = block_size(sizes)
        needed = int(lengths[new].sum())
        if self._used + needed > len(self._workspace):
            held = state.block >= 0
            self._used = int(lengths[held].sum())
            moved = state.block[held]
            workspace = np.empty(2 * (self._used + needed))
            move_blocks(self._workspace, moved, lengths[held], workspace)
            state.block[held] = moved
            self._workspace = workspace
        starts = self._used + np.cumsum(lengths[new]) - lengths[new]
        self._used += needed
        entered = state.as_batch().positions[np.repeat(new, state.counts)]
        source, destination, vectors, _, edges, _ = neighbor_list(
            entered, state.cells[new], state.counts[new], _SPRING_CUTOFF
        )
        good = np.zeros(len(starts), bool)
        write_models(source, destination, vectors, edges, state.counts[new], starts, sizes[new], self._workspace, good)
        assert good.all()  # springs of finite stiffness and an anchor on each atom
        state.block[new] = starts


def without_memory(positions: FloatArray, cells: FloatArray, strains: int) -> dict[str, Any]:
    """What the optimiser remembers of crystals that it has not moved yet."""
    n = len(cells)
    identity = np.tile(np.eye(3), (n, 1, 1))
    return {
        "deformation": identity,
        "block": np.full(n, -1, np.int64),
        "stored": np.full(n, -1, np.int64),
        "scale": np.ones(n),
        "trust": np.ones(n),
        "returns": np.zeros(n, np.int64),
        "energy_kept": np.full(n, np.inf),
        "positions_kept": positions.copy(),
        "cells_kept": cells.copy(),
        "deformation_kept": identity.copy(),
        "gradient_kept": np.zeros_like(positions),
        "strain_gradient_kept": np.zeros((n, strains)),
        "move": np.zeros_like(positions),
        "strain": np.zeros((n, strains)),
    }


class _FlatVectors:
    """Where each crystal's variables lie in flat vectors: three an atom, then the strains, crystal after crystal."""

    def __init__(self, counts: IntArray, strains: int) -> None:
        self.sizes = 3 * counts + strains
        self.firsts = np.cumsum(self.sizes) - self.sizes
        strains_before = np.repeat(np.arange(len(counts)) * strains, counts)
        self.of_atoms = np.arange(3 * int(counts.sum())).reshape(-1, 3) + strains_before[:, None]
        self.of_strain = (self.firsts + 3 * counts)[:, None] + np.arange(strains)

    def join(self, of_atoms: FloatArray, of_strain: FloatArray) -> FloatArray:
        """(V,) of (N, 3) and (B, strains)."""
        out = np.empty(int(self.sizes.sum()))
        out[self.of_atoms] = of_atoms
        out[self.of_strain] = of_strain
        return out


def _keep_place(
    state: QuasiNewtonCrystals,
    energies: FloatArray,
    gradient: FloatArray,
    strain_gradient: FloatArray,
    accepted: BoolArray,
) -> None:
    """Start the next steps of accepted crystals from where they are."""
    atoms = np.repeat(accepted, state.counts)
    state.positions_kept[atoms] = state.positions[atoms]
    state.gradient_kept[atoms] = gradient[atoms]
    state.energy_kept[accepted] = energies[accepted]
    state.cells_kept[accepted] = state.cells[accepted]
    state.deformation_kept[accepted] = state.deformation[accepted]
    state.strain_gradient_kept[accepted] = strain_gradient[accepted]


def _as_vectors(matrices: FloatArray) -> FloatArray:
    """(B, 6) xx, yy, zz and sqrt(2) times yz, xz, xy of symmetric (B, 3, 3): scalar products are the same."""
    diagonal = matrices[:, [0, 1, 2], [0, 1, 2]]
    return np.concatenate([diagonal, 2.0 * _HALF * matrices[:, [1, 0, 0], [2, 2, 1]]], axis=1)


def _as_matrices(vectors: FloatArray) -> FloatArray:
    """Inverse of :func:`_as_vectors`."""
    matrices = np.empty((len(vectors), 3, 3))
    matrices[:, [0, 1, 2], [0, 1, 2]] = vectors[:, :3]
    matrices[:, [1, 0, 0], [2, 2, 1]] = _HALF * vectors[:, 3:]
    matrices[:, [2, 2, 1], [1, 0, 0]] = _HALF * vectors[:, 3:]
    return matrices
