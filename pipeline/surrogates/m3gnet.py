"""M3GNet's energy, forces and stress for a batch of crystals.

On a CPU the network runs in kernels (:mod:`pipeline.surrogates.m3gnet_on_cpu`), on CUDA in torch
(:mod:`pipeline.surrogates.m3gnet_network`). Distances are made in float64 on both.
"""

from typing import NamedTuple

import numpy as np
import torch

from kernels.edge_forces import edge_forces
from kernels.neighbors import neighbor_list
from pipeline.surrogates.batch import BatchResult, CrystalBatch, FloatArray, IntArray
from pipeline.surrogates.edge_sums import sum_over_edges
from pipeline.surrogates.loading import BadCheckpointError, LoadedModel
from pipeline.surrogates.m3gnet_network import M3GNetNetwork, close_first
from pipeline.surrogates.m3gnet_on_cpu import M3GNetOnCpu


class _Pairs(NamedTuple):
    """Neighbour pairs of a batch: (N,) embedding rows of its atoms, and what :func:`neighbor_list` gives."""

    types: IntArray
    source: IntArray
    destination: IntArray
    vectors: FloatArray
    edges: IntArray


class M3GNetEvaluator:
    """Energies, forces and stresses of batches with an M3GNet potential.

    Parameters
    ----------
    model : LoadedModel
        A potential (it has element energies).
    device : torch.device
        Where the network runs; neighbour lists are made on the CPU, by torch's number of threads beside a device.
    edges_per_batch : int
        Neighbour pairs that a batch should have at most.
    """

    def __init__(self, model: LoadedModel, device: torch.device, edges_per_batch: int) -> None:
        if model.element_energies is None:
            raise BadCheckpointError("this model is not a potential: it has no element energies")
        self.network = M3GNetNetwork(model.network, model.convention, model.three_body).to(device)
        self.network.prepare()
        self.device = device
        self._on_cpu: M3GNetOnCpu | None = None
        if device.type == "cpu" and len(model.network.graph_layers[0].conv.edge_update_func.layers) > 4:
            self._on_cpu = M3GNetOnCpu(self.network)
        # A device is faster than one thread that makes its neighbour lists.
        self._threads = 1 if device.type == "cpu" else torch.get_num_threads()
        self.elements = model.elements
        self.cutoff = self.network.cutoff
        self.edges_per_batch = edges_per_batch
        self.mean, self.scale = model.mean, model.scale
        self._element_energies = model.element_energies.numpy()
        self._types = embedding_rows(model.elements)

    def evaluate_batch(self, batch: CrystalBatch) -> BatchResult:
        """Evaluate crystals that :func:`pipeline.surrogates.batch.rejection` lets through."""
        source, destination, vectors, _, edges, closest = neighbor_list(
            batch.positions, batch.cells, batch.counts, self.cutoff, self._threads
        )
        pairs = _Pairs(self._types[batch.numbers], source, destination, vectors, edges)
        run = self._kernels if self._on_cpu is not None else self._on_device
        atomic, forces, virial = run(batch, pairs)
        per_atom = atomic * self.scale + self._element_energies[pairs.types]
        return BatchResult(
            energies=np.add.reduceat(per_atom, batch.offsets) + self.mean,
            forces=self.scale * forces,
            stresses=self.scale * virial / batch.volumes[:, None, None],
            edges=edges,
            closest=closest,
            errors=[None] * len(batch.counts),
        )

    def _kernels(self, batch: CrystalBatch, pairs: _Pairs) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(N,) atomic outputs, and forces (N, 3) and virials (B, 3, 3) of their sum, by kernels on a CPU."""
        assert self._on_cpu is not None
        atomic, gradient = self._on_cpu.energies_and_gradient(*pairs)
        forces, virial = np.zeros((len(batch.numbers), 3)), np.zeros((len(batch.counts), 3, 3))
        edge_forces(pairs.source, pairs.destination, batch.owners, pairs.vectors, gradient, forces, virial)
        return atomic, forces, 0.5 * (virial + virial.transpose(0, 2, 1))

    def _on_device(self, batch: CrystalBatch, pairs: _Pairs) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The same by torch's autograd, all of it on the device: what comes back is as small as the batch."""
        device, n_crystals = self.device, len(batch.counts)
        src, dst, exact = (torch.from_numpy(a).to(device) for a in (pairs.source, pairs.destination, pairs.vectors))
        order, n_close = close_first(exact, self.network.threebody_cutoff)
        src, dst, exact = (a.index_select(0, order) for a in (src, dst, exact))
        leaf = exact.to(torch.float32).requires_grad_(True)
        atomic = self.network.atomic_energies(torch.from_numpy(pairs.types).to(device), src, dst, leaf, n_close)
        gradient = torch.autograd.grad(atomic.sum(), leaf)[0] if len(src) else torch.zeros_like(leaf)
        owners = torch.from_numpy(batch.owners).to(device)
        found = (atomic.detach(), *sum_over_edges(src, dst, owners, exact, gradient, n_crystals))
        atomic_values, forces, virial = (a.to(torch.float64).cpu().numpy() for a in found)
        return atomic_values, forces, virial


def embedding_rows(elements: tuple[str, ...]) -> np.ndarray:
    """(119,) embedding row by atomic number, -1 for an unknown element."""
    from pymatgen.core import Element

    rows = np.full(119, -1, np.int64)
    for row, symbol in enumerate(elements):
        rows[Element(symbol).Z] = row
    return rows
