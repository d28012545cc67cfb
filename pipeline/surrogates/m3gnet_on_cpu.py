"""M3GNet's energy and its gradient by edge vectors on one CPU core, without autograd.

The same mathematics as :class:`pipeline.surrogates.m3gnet.M3GNetNetwork`, which is its oracle in the tests; the
gradient is written out in :mod:`kernels.gated_messages` and :mod:`kernels.three_body`. Only the radial basis and the
readout, a few numbers for each edge and atom, are left to torch.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.activations import logistic_rows, silu_rows
from kernels.gated_messages import (
    GatedWeights,
    gated_backward,
    gated_forward,
    gated_pair_backward,
    gated_pair_forward,
)
from kernels.three_body import three_body_backward, three_body_forward
from pipeline.surrogates.m3gnet_geometry import EdgeGeometry, edge_geometry

if TYPE_CHECKING:
    from pipeline.surrogates.m3gnet import M3GNetNetwork

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Larger arrays are not kept: a crystal of 300 atoms must not hold 0.3 GB for the rest of a worker's life.
_KEPT_EDGES = 16_000


class Workspace:
    """Memory of one evaluation's intermediate arrays, used again by the next one.

    Fresh memory costs a page fault for every 4 KiB, and one evaluation writes 11 kB for each edge.
    """

    def __init__(self) -> None:
        self._blocks: dict[str, Float32Array] = {}

    def array(self, name: str, rows: int, width: int) -> Float32Array:
        """(rows, width) array with undefined contents; a name has the same memory in every evaluation."""
        kept = self._blocks.get(name)
        if kept is None or kept.shape[0] < rows:
            kept = np.empty((rows, width), np.float32)
            if rows <= _KEPT_EDGES:
                self._blocks[name] = kept
        return kept[:rows]


# Three arrays that a layer's forward pass leaves for its backward pass.
_Tape = tuple[Float32Array, Float32Array, Float32Array]


@dataclass(frozen=True)
class _Graph:
    """Edges of a batch; ``every`` numbers them, ``close_*`` are the atoms of those within the three-body cutoff."""

    n_atoms: int
    source: IntArray
    destination: IntArray
    every: IntArray
    close_source: IntArray
    close_destination: IntArray


def _matrix(weight: Tensor) -> Float32Array:
    """(inputs, outputs) of a linear layer's weight."""
    matrix: Float32Array = np.ascontiguousarray(weight.detach().numpy().T, dtype=np.float32)
    return matrix


def _vector(bias: Tensor) -> Float32Array:
    vector: Float32Array = np.ascontiguousarray(bias.detach().numpy(), dtype=np.float32)
    return vector


class _GatedNetwork:
    """A gated network on (v_i, v_j, e_ij) with the linear map of the radial basis that weights its messages."""

    def __init__(self, name: str, gated: Any, radial: Any, atom_width: int) -> None:
        layers, gates = gated.layers, gated.gates
        first = _matrix(torch.cat([layers[0].weight, gates[0].weight]))
        self.name = name
        self.by_source = np.ascontiguousarray(first[:atom_width])
        self.by_destination = np.ascontiguousarray(first[atom_width : 2 * atom_width])
        self.bias = np.concatenate([_vector(layers[0].bias), _vector(gates[0].bias)])
        deeper = (layers[2], gates[2], layers[4], gates[4])
        matrices = [np.ascontiguousarray(first[2 * atom_width :]), *(_matrix(layer.weight) for layer in deeper)]
        biases = [_vector(layer.bias) for layer in deeper]
        weighting = _matrix(radial.weight)
        transposed = [np.ascontiguousarray(matrix.T) for matrix in (*matrices, weighting)]
        self.weights = GatedWeights._make([*matrices, *biases, weighting, *transposed])

    def forward(
        self,
        space: Workspace,
        graph: _Graph,
        radial: Float32Array,
        nodes: Float32Array,
        edges: Float32Array,
        target: Float32Array,
        rows: IntArray,
    ) -> _Tape:
        """Add the messages to rows of ``target``; returns what the way back needs."""
        n_edges, width = len(edges), self.weights.value_3.shape[1]
        tape = (
            space.array(f"{self.name} slope 1", n_edges, len(self.bias)),
            space.array(f"{self.name} slope 2", n_edges, len(self.bias)),
            space.array(f"{self.name} factors", n_edges, 3 * width),
        )
        sent, received = nodes @ self.by_source + self.bias, nodes @ self.by_destination
        gated_forward(self.weights, edges, sent, received, graph.source, graph.destination, radial, target, rows, *tape)
        return tape

    def backward(
        self,
        tape: _Tape,
        graph: _Graph,
        gradient: Float32Array,
        rows: IntArray,
        radial_gradient: Float32Array,
        node_gradient: Float32Array,
        edge_gradient: Float32Array,
    ) -> None:
        """Add the gradient, given that with respect to the target, to those of the inputs."""
        sent = np.zeros((graph.n_atoms, len(self.bias)), np.float32)
        received = np.zeros_like(sent)
        gated_backward(
            self.weights,
            gradient,
            rows,
            graph.source,
            graph.destination,
            *tape,
            edge_gradient,
            sent,
            received,
            radial_gradient,
        )
        node_gradient += sent @ self.by_source.T + received @ self.by_destination.T


class _ThreeBody:
    """A three-body interaction: what the bonds of an atom add to the features of each."""

    def __init__(self, name: str, interaction: Any) -> None:
        atom, bond = interaction.update_network_atom, interaction.update_network_bond
        self.name = name
        self.atom, self.atom_bias = _matrix(atom.layers[0].weight), _vector(atom.layers[0].bias)
        self.bond = _matrix(torch.cat([bond.layers[0].weight, bond.gates[0].weight]))

    def forward(
        self, space: Workspace, graph: _Graph, geometry: EdgeGeometry, nodes: Float32Array, edges: Float32Array
    ) -> _Tape:
        """Change the features of close edges; returns what the way back needs."""
        n_close, n = geometry.basis.shape
        atoms = nodes @ self.atom
        logistic_rows(atoms, self.atom_bias, atoms)
        moments = np.zeros((graph.n_atoms, 10 * n // 3), np.float32)
        received = space.array("received", n_close, n)
        three_body_forward(
            graph.close_source,
            graph.close_destination,
            geometry.unit,
            geometry.basis,
            geometry.envelope,
            atoms,
            moments,
            received,
        )
        hidden = space.array("three-body hidden", n_close, self.bond.shape[1])
        factors = space.array(f"{self.name} factors", n_close, self.bond.shape[1])
        np.matmul(received, self.bond, out=hidden)
        gated_pair_forward(hidden, edges, geometry.close, factors)
        return atoms, moments, factors

    def backward(
        self,
        tape: _Tape,
        space: Workspace,
        graph: _Graph,
        geometry: EdgeGeometry,
        node_gradient: Float32Array,
        edge_gradient: Float32Array,
    ) -> None:
        """Add the gradient, given that with respect to the edges, to those of the atoms and of the geometry."""
        atoms, moments, factors = tape
        hidden = space.array("three-body hidden", *factors.shape)
        gated_pair_backward(edge_gradient, geometry.close, factors, hidden)
        atoms_gradient = np.zeros_like(atoms)
        three_body_backward(
            hidden @ self.bond.T,
            graph.close_source,
            graph.close_destination,
            geometry.unit,
            geometry.basis,
            geometry.envelope,
            atoms,
            moments,
            geometry.unit_gradient,
            geometry.basis_gradient,
            geometry.envelope_gradient,
            atoms_gradient,
        )
        node_gradient += (atoms_gradient * atoms * (1.0 - atoms)) @ self.atom.T


class M3GNetOnCpu:
    """Energies of atoms, and the gradient of their sum by edge vectors.

    Not for several threads at once: the intermediate arrays belong to the object.

    Parameters
    ----------
    network : M3GNetNetwork
        The torch module, on the CPU.
    """

    def __init__(self, network: "M3GNetNetwork") -> None:
        self.network = network
        inner = network.network
        atom_width = inner.embedding.dim_node_embedding
        self._atom_embedding = np.ascontiguousarray(inner.embedding.layer_node_embedding.weight.detach().numpy())
        edge = inner.embedding.layer_edge_embedding.layers[0]
        self._edge, self._edge_bias = _matrix(edge.weight), _vector(edge.bias)
        self._blocks = [
            (
                _ThreeBody(f"three-body {k}", three),
                _GatedNetwork(f"edge {k}", block.conv.edge_update_func, block.conv.edge_weight_func, atom_width),
                _GatedNetwork(f"node {k}", block.conv.node_update_func, block.conv.node_weight_func, atom_width),
            )
            for k, (three, block) in enumerate(zip(inner.three_body_interactions, inner.graph_layers, strict=True))
        ]
        self._space = Workspace()

    def energies_and_gradient(
        self, types: IntArray, source: IntArray, destination: IntArray, vectors: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Energies of atoms and their sum's gradient.

        Parameters
        ----------
        types : (N,) int64
            Embedding rows.
        source, destination : (E,) int64
            Edges by ascending source.
        vectors : (E, 3) float64
            Å.

        Returns
        -------
        energies : (N,) float64
            Network outputs, before scale and element offsets.
        gradient : (E, 3) float64
            Of the energies' sum by edge vectors.
        """
        if not len(source):
            energies, _ = self._readout(self._atom_embedding[types])
            return energies, np.zeros((0, 3))
        with np.errstate(all="ignore"):  # atoms on top of each other give NaN, which the caller looks for
            geometry = edge_geometry(self.network, vectors)
            close = geometry.close
            graph = _Graph(len(types), source, destination, np.arange(len(source)), source[close], destination[close])
            return self._there_and_back(types, graph, geometry)

    def _there_and_back(self, types: IntArray, graph: _Graph, geometry: EdgeGeometry) -> tuple[FloatArray, FloatArray]:
        space, radial = self._space, geometry.radial
        sink = graph.source if self.network.sum_on_source else graph.destination
        nodes = self._atom_embedding[types]
        edges = space.array("edges", len(radial), self._edge.shape[1])
        edge_slope = space.array("edge slope", *edges.shape)
        np.matmul(radial, self._edge, out=edges)
        silu_rows(edges, self._edge_bias, edges, edge_slope)
        tapes = []
        for three, edge_network, node_network in self._blocks:
            bonds = three.forward(space, graph, geometry, nodes, edges)
            onto_edges = edge_network.forward(space, graph, radial, nodes, edges, edges, graph.every)
            onto_nodes = node_network.forward(space, graph, radial, nodes, edges, nodes, sink)
            tapes.append((bonds, onto_edges, onto_nodes))
        energies, by_nodes = self._readout(nodes)
        by_radial = geometry.radial_gradient
        by_edges = space.array("edge gradient", *edges.shape)
        by_edges[:] = 0.0
        for (three, edge_network, node_network), (bonds, onto_edges, onto_nodes) in zip(
            reversed(self._blocks), reversed(tapes), strict=True
        ):
            node_network.backward(onto_nodes, graph, by_nodes, sink, by_radial, by_nodes, by_edges)
            edge_network.backward(onto_edges, graph, by_edges, graph.every, by_radial, by_nodes, by_edges)
            three.backward(bonds, space, graph, geometry, by_nodes, by_edges)
        by_edges *= edge_slope
        by_radial += by_edges @ self._edge.T
        return energies, geometry.gradient()

    def _readout(self, nodes: Float32Array) -> tuple[FloatArray, Float32Array]:
        """(N,) energies from (N, features), and the gradient of their sum."""
        leaf = torch.from_numpy(nodes).requires_grad_(True)
        atomic = self.network.network.final_layer(leaf).view(-1)
        (gradient,) = torch.autograd.grad(atomic.sum(), leaf)
        energies: FloatArray = atomic.detach().numpy().astype(np.float64)
        return energies, gradient.contiguous().numpy()
