"""CHGNet (Deng et al., Nat. Mach. Intell. 2023, 5, 1031) as a batch evaluator.

The network is the ``chgnet`` package's. The graph is ours: edges, their pairs and the angles of all crystals in flat
arrays, without a loop over crystals, and one backward pass to the edge vectors for forces and stress.
"""

import contextlib
import dataclasses
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.neighbors import neighbor_list
from pipeline.surrogates.batch import BatchResult, CrystalBatch, FloatArray, IntArray
from pipeline.surrogates.edge_sums import sum_over_edges
from pipeline.surrogates.entries import CHGNET_ELEMENTS


class CHGNetEvaluator:
    """Energies, forces and stresses of batches with CHGNet 0.3.0.

    Parameters
    ----------
    weights : Path
        The package's checkpoint.
    device : torch.device
        Where the network runs.
    edges_per_batch : int
        Neighbour pairs (within 6 Å) that a batch should have at most.
    """

    def __init__(self, weights: Path, device: torch.device, edges_per_batch: int) -> None:
        with _quiet():
            from chgnet.model.model import CHGNet

            state = torch.load(weights, map_location="cpu", weights_only=True)
            self.network: Any = CHGNet.from_dict(state["model"], mlp_out_bias=False, version="0.3.0")
        self.network = self.network.to(device).eval()
        self.network.requires_grad_(False)
        self.device = device
        self._threads = 1 if device.type == "cpu" else torch.get_num_threads()
        self.elements = CHGNET_ELEMENTS
        self.cutoff = float(self.network.graph_converter.atom_graph_cutoff)
        self.bond_cutoff = float(self.network.graph_converter.bond_graph_cutoff)
        self.edges_per_batch = edges_per_batch

    def evaluate_batch(self, batch: CrystalBatch) -> BatchResult:
        """Evaluate crystals that :func:`pipeline.surrogates.batch.rejection` lets through."""
        source, destination, vectors, images, edges, closest = neighbor_list(
            batch.positions, batch.cells, batch.counts, self.cutoff, self._threads
        )
        errors = self._isolated_atoms(batch, source)
        if not len(source):
            return dataclasses.replace(BatchResult.failed(batch.counts, ""), closest=closest, errors=errors)
        pairs = pair_edges(source, destination, images)
        paired = pairs >= 0
        if not paired.all():
            source, destination, vectors, pairs = source[paired], destination[paired], vectors[paired], pairs[paired]
        leaf = torch.from_numpy(vectors.astype(np.float32)).to(self.device).requires_grad_(True)
        src, dst = (torch.from_numpy(a).to(self.device) for a in (source, destination))
        owners = torch.from_numpy(batch.owners).to(self.device)
        numbers = torch.from_numpy(batch.numbers).to(self.device)
        n_crystals = len(batch.counts)
        with _quiet():
            graph = self._graph(numbers, owners, n_crystals, src, dst, leaf, vectors, pairs)
            prediction = self.network._compute(graph)
            counts = prediction["atoms_per_graph"]
            composition = torch.zeros(n_crystals, 94, device=self.device)
            composition.index_put_((owners, numbers - 1), torch.ones(len(numbers), device=self.device), accumulate=True)
            # The network and the composition model give eV/atom.
            totals = prediction["e"] * counts
            (gradient,) = torch.autograd.grad(totals.sum(), leaf)
            reference = self.network.composition_model._get_energy(composition / counts[:, None]) * counts
        by_atoms, virial = sum_over_edges(src, dst, owners, leaf.detach(), gradient, n_crystals)
        all_forces = by_atoms.cpu().numpy()
        stresses = virial.cpu().numpy() / batch.volumes[:, None, None]
        energies = (totals.detach() + reference).cpu().numpy().astype(np.float64)
        failed = np.array([error is not None for error in errors], bool)
        energies[failed], stresses[failed], all_forces[failed[batch.owners]] = np.nan, np.nan, np.nan
        return BatchResult(energies, all_forces, stresses, edges, closest, errors)

    def _isolated_atoms(self, batch: CrystalBatch, source: IntArray) -> list[str | None]:
        """Errors of crystals with an atom that has no neighbour: the model was not trained on such."""
        errors: list[str | None] = [None] * len(batch.counts)
        isolated = np.flatnonzero(np.bincount(source, minlength=len(batch.numbers)) == 0)
        owners = batch.owners[isolated]
        for atom, b in zip(isolated[::-1], owners[::-1], strict=True):
            errors[b] = f"IsolatedAtom: atom {atom - batch.offsets[b]} has no neighbour within {self.cutoff} Å"
        return errors

    def _graph(
        self,
        numbers: Tensor,
        owners: Tensor,
        n_crystals: int,
        source: Tensor,
        destination: Tensor,
        leaf: Tensor,
        vectors: FloatArray,
        pairs: IntArray,
    ) -> Any:
        """The package's ``BatchedGraph``, with the edge vectors (E, 3) as the leaf of all that is differentiated."""
        from chgnet.model.model import BatchedGraph

        network = self.network
        lengths = torch.linalg.vector_norm(leaf, dim=1)
        # One directed edge of each pair; with the pair's number it is where the pair's length is taken from.
        chosen = np.empty(len(pairs) // 2, np.int64)
        chosen[pairs] = np.arange(len(pairs))
        pair_lengths = lengths.index_select(0, torch.from_numpy(chosen).to(self.device))
        # of the vectors in float64, so that rounding does not decide here and elsewhere otherwise
        one, other = bond_angles(source, torch.from_numpy(vectors).to(self.device), self.bond_cutoff)
        unit = leaf / lengths[:, None]
        undirected = torch.from_numpy(pairs).to(self.device)
        angles = (
            network.angle_basis_expansion(unit.index_select(0, one), unit.index_select(0, other))
            if len(one)
            else leaf.new_zeros(0)
        )
        centers = [source.index_select(0, one), undirected.index_select(0, one), undirected.index_select(0, other)]
        return BatchedGraph(
            atomic_numbers=numbers,
            bond_bases_ag=network.bond_basis_expansion.rbf_expansion_ag(pair_lengths),
            bond_bases_bg=network.bond_basis_expansion.rbf_expansion_bg(pair_lengths),
            angle_bases=angles,
            batched_atom_graph=torch.stack([source, destination], dim=1),
            batched_bond_graph=torch.stack(centers, dim=1),
            atom_owners=owners,
            directed2undirected=undirected,
            atom_positions=[],
            strains=[],
            volumes=leaf.new_zeros(n_crystals),
        )


def pair_edges(source: IntArray, destination: IntArray, images: IntArray) -> IntArray:
    """Number of the undirected edge that each directed edge belongs to.

    Parameters
    ----------
    source, destination : (E,) int64
        Atoms in the batch.
    images : (E, 3) int64
        Cell of the destination, relative to the source's.

    Returns
    -------
    pairs : (E,) int64
        Numbers from zero, each for two edges; -1 for an edge without its reverse, which rounding can leave out
        at the cutoff, where it has no weight.
    """
    # Of an edge and its reverse one has the lower source, or between images of one atom the positive first component.
    leading = np.where(images[:, 0] != 0, images[:, 0], np.where(images[:, 1] != 0, images[:, 1], images[:, 2]))
    forward = np.where(source != destination, source < destination, leading > 0)
    low, high = np.where(forward, source, destination), np.where(forward, destination, source)
    shift = np.where(forward[:, None], images, -images)
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], high, low))
    keys = np.column_stack([low, high, shift])[order]
    same = (keys[1:] == keys[:-1]).all(axis=1)
    firsts = np.flatnonzero(same)
    pairs = np.full(len(source), -1, np.int64)
    pairs[order[firsts]] = np.arange(len(firsts))
    pairs[order[firsts + 1]] = np.arange(len(firsts))
    return pairs


def bond_angles(source: Tensor, vectors: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """All ordered pairs of different edges within a cutoff that leave the same atom, on the tensors' device.

    Parameters
    ----------
    source : (E,) int64
        Atom that each edge leaves, ascending.
    vectors : (E, 3)
        Å.
    cutoff : float
        Å.

    Returns
    -------
    first, second : (A,) int64
        Edges.
    """
    close = torch.nonzero((vectors * vectors).sum(dim=1) < cutoff * cutoff).view(-1)
    _, sizes = torch.unique_consecutive(source.index_select(0, close), return_counts=True)
    starts = sizes.cumsum(0) - sizes
    partners = sizes.repeat_interleave(sizes)
    first = torch.arange(len(close), device=close.device).repeat_interleave(partners)
    within = torch.arange(len(first), device=close.device) - (partners.cumsum(0) - partners).repeat_interleave(partners)
    second = starts.repeat_interleave(sizes).repeat_interleave(partners) + within
    different = first != second
    return close[first[different]], close[second[different]]


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep chgnet from printing and from warning about its own imports."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
