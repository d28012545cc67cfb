"""CHGNet (Deng et al., Nat. Mach. Intell. 2023, 5, 1031) as a batch evaluator.

The network is the ``chgnet`` package's; the neighbour list is ours.
"""

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kernels.neighbors import neighbor_list
from pipeline.surrogates.batch import BatchResult, CrystalBatch
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
        self.elements = CHGNET_ELEMENTS
        self.cutoff = float(self.network.graph_converter.atom_graph_cutoff)
        self.bond_cutoff = float(self.network.graph_converter.bond_graph_cutoff)
        self.edges_per_batch = edges_per_batch

    def evaluate_batch(self, batch: CrystalBatch) -> BatchResult:
        """Evaluate crystals that :func:`pipeline.surrogates.batch.rejection` lets through."""
        source, destination, vectors, images, edges, closest = neighbor_list(
            batch.positions, batch.cells, batch.counts, self.cutoff
        )
        first_edges = np.cumsum(edges) - edges
        errors: list[str | None] = []
        graphs = []
        for b, (atom, edge) in enumerate(zip(batch.offsets, first_edges, strict=True)):
            atoms = slice(atom, atom + batch.counts[b])
            pairs = slice(edge, edge + edges[b])
            lonely = np.setdiff1d(np.arange(batch.counts[b]), source[pairs] - atom)
            if len(lonely):
                errors.append(f"IsolatedAtom: atom {lonely[0]} has no neighbour within {self.cutoff} Å")
                continue
            try:
                graph = self._graph(
                    batch.positions[atoms],
                    batch.cells[b],
                    batch.numbers[atoms],
                    source[pairs] - atom,
                    destination[pairs] - atom,
                    vectors[pairs],
                    images[pairs],
                )
            except ValueError as error:  # chgnet could not pair the directed edges of this crystal
                errors.append(f"GraphError: {error}")
                continue
            errors.append(None)
            graphs.append(graph)
        energies = np.full(len(batch.counts), np.nan)
        forces = np.full((len(batch.numbers), 3), np.nan)
        stresses = np.full((len(batch.counts), 3, 3), np.nan)
        good = [b for b, error in enumerate(errors) if error is None]
        if good:
            with _quiet():
                totals, pulls, strain_gradients = self._predict(graphs)
            start = 0
            for k, b in enumerate(good):
                first, count = batch.offsets[b], int(batch.counts[b])
                energies[b] = totals[k]
                forces[first : first + count] = -pulls[start : start + count]
                start += count
                symmetric = 0.5 * (strain_gradients[k] + strain_gradients[k].T)
                stresses[b] = symmetric / batch.volumes[b]
        return BatchResult(energies, forces, stresses, edges, closest, errors)

    def _predict(self, graphs: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies (B,), their gradients by positions (N, 3) and by strain (B, 3, 3), in float64.

        The package's own prediction runs two backward passes and keeps their graphs for training; one suffices.
        """
        from chgnet.model.model import BatchedGraph

        network = self.network
        batched = BatchedGraph.from_graphs(
            graphs,
            bond_basis_expansion=network.bond_basis_expansion,
            angle_basis_expansion=network.angle_basis_expansion,
            compute_stress=True,
        )
        prediction = network._compute(batched)
        counts = prediction["atoms_per_graph"]
        # The network and the composition model give eV/atom.
        energies = prediction["e"] * counts
        leaves = [*batched.atom_positions, *batched.strains]
        gradients = torch.autograd.grad(energies.sum(), leaves)
        totals = energies.detach() + network.composition_model(graphs) * counts
        n = len(graphs)
        return (
            totals.cpu().numpy().astype(np.float64),
            torch.cat(gradients[:n]).cpu().numpy().astype(np.float64),
            torch.stack(gradients[n:]).cpu().numpy().astype(np.float64),
        )

    def _graph(
        self,
        positions: np.ndarray,
        cell: np.ndarray,
        numbers: np.ndarray,
        source: np.ndarray,
        destination: np.ndarray,
        vectors: np.ndarray,
        images: np.ndarray,
    ) -> Any:
        """A ``CrystalGraph`` of one crystal, by chgnet's own (compiled) edge pairing."""
        from chgnet.graph.crystalgraph import CrystalGraph

        distances = np.sqrt(np.einsum("ea,ea->e", vectors, vectors))
        graph = self.network.graph_converter.create_graph(len(numbers), source, destination, images, distances)
        atom_graph, directed = graph.adjacency_list()
        bond_graph, undirected = graph.line_graph_adjacency_list(cutoff=self.bond_cutoff)
        fractional = positions @ np.linalg.inv(cell)
        # chgnet takes float32 and differentiates with respect to what it builds from these.
        tensors = {
            "atomic_number": torch.from_numpy(numbers.astype(np.int32)),
            "atom_frac_coord": torch.tensor(fractional, dtype=torch.float32, requires_grad=True),
            "atom_graph": torch.tensor(atom_graph, dtype=torch.int32),
            "neighbor_image": torch.tensor(images, dtype=torch.float32),
            "directed2undirected": torch.tensor(directed, dtype=torch.int32),
            "undirected2directed": torch.tensor(undirected, dtype=torch.int32),
            "bond_graph": torch.tensor(bond_graph, dtype=torch.int32),
            "lattice": torch.tensor(cell, dtype=torch.float32, requires_grad=True),
        }
        return CrystalGraph(**tensors, atom_graph_cutoff=self.cutoff, bond_graph_cutoff=self.bond_cutoff).to(
            str(self.device)
        )


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep chgnet from printing and from warning about its own imports."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
