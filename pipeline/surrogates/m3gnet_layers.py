"""Layers of M3GNet as kernels run them: weights arranged, intermediate arrays kept, forward and backward."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.activations import logistic_rows
from kernels.gated_messages import GatedWeights, gated_backward, gated_forward
from kernels.gated_pair import gated_pair_backward, gated_pair_forward
from kernels.row_products import row_product
from kernels.three_body import three_body_backward, three_body_forward
from pipeline.surrogates.m3gnet_geometry import EdgeGeometry

Float32Array = NDArray[np.float32]
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
class Graph:
    """Edges of a batch; ``every`` numbers them, ``close_*`` are the atoms of those within the three-body cutoff."""

    n_atoms: int
    source: IntArray
    destination: IntArray
    every: IntArray
    close_source: IntArray
    close_destination: IntArray


def layer_matrix(weight: Tensor) -> Float32Array:
    """(inputs, outputs) of a linear layer's weight."""
    matrix: Float32Array = np.ascontiguousarray(weight.detach().numpy().T, dtype=np.float32)
    return matrix


def layer_vector(bias: Tensor) -> Float32Array:
    """(outputs,) bias of a linear layer."""
    vector: Float32Array = np.ascontiguousarray(bias.detach().numpy(), dtype=np.float32)
    return vector


class GatedNetwork:
    """A gated network on (v_i, v_j, e_ij) with the linear map of the radial basis that weights its messages."""

    def __init__(self, name: str, gated: Any, radial: Any, atom_width: int) -> None:
        layers, gates = gated.layers, gated.gates
        first = layer_matrix(torch.cat([layers[0].weight, gates[0].weight]))
        self.name = name
        self.by_source = np.ascontiguousarray(first[:atom_width])
        self.by_destination = np.ascontiguousarray(first[atom_width : 2 * atom_width])
        self.source_back = np.ascontiguousarray(self.by_source.T)
        self.destination_back = np.ascontiguousarray(self.by_destination.T)
        self.bias = np.concatenate([layer_vector(layers[0].bias), layer_vector(gates[0].bias)])
        deeper = (layers[2], gates[2], layers[4], gates[4])
        matrices = [np.ascontiguousarray(first[2 * atom_width :]), *(layer_matrix(layer.weight) for layer in deeper)]
        biases = [layer_vector(layer.bias) for layer in deeper]
        weighting = layer_matrix(radial.weight)
        transposed = [np.ascontiguousarray(matrix.T) for matrix in (*matrices, weighting)]
        self.weights = GatedWeights._make([*matrices, *biases, weighting, *transposed])

    def forward(
        self,
        space: Workspace,
        graph: Graph,
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
        sent = np.empty((graph.n_atoms, len(self.bias)), np.float32)
        received = np.empty_like(sent)
        row_product(nodes, self.by_source, sent)
        row_product(nodes, self.by_destination, received)
        sent += self.bias
        gated_forward(self.weights, edges, sent, received, graph.source, graph.destination, radial, target, rows, *tape)
        return tape

    def backward(
        self,
        tape: _Tape,
        graph: Graph,
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
        change = np.empty_like(node_gradient)
        for gradient_part, back in ((sent, self.source_back), (received, self.destination_back)):
            row_product(gradient_part, back, change)
            node_gradient += change


class ThreeBody:
    """A three-body interaction: what the bonds of an atom add to the features of each."""

    def __init__(self, name: str, interaction: Any) -> None:
        atom, bond = interaction.update_network_atom, interaction.update_network_bond
        self.name = name
        self.atom, self.atom_bias = layer_matrix(atom.layers[0].weight), layer_vector(atom.layers[0].bias)
        self.atom_back = np.ascontiguousarray(self.atom.T)
        self.bond = layer_matrix(torch.cat([bond.layers[0].weight, bond.gates[0].weight]))
        self.bond_back = np.ascontiguousarray(self.bond.T)

    def forward(
        self, space: Workspace, graph: Graph, geometry: EdgeGeometry, nodes: Float32Array, edges: Float32Array
    ) -> _Tape:
        """Change the features of close edges; returns what the way back needs."""
        n_close, n = geometry.basis.shape
        atoms = np.empty((graph.n_atoms, n), np.float32)
        row_product(nodes, self.atom, atoms)
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
        row_product(received, self.bond, hidden)
        gated_pair_forward(hidden, edges, geometry.close, factors)
        return atoms, moments, factors

    def backward(
        self,
        tape: _Tape,
        space: Workspace,
        graph: Graph,
        geometry: EdgeGeometry,
        node_gradient: Float32Array,
        edge_gradient: Float32Array,
    ) -> None:
        """Add the gradient, given that with respect to the edges, to those of the atoms and of the geometry."""
        atoms, moments, factors = tape
        hidden = space.array("three-body hidden", *factors.shape)
        gated_pair_backward(edge_gradient, geometry.close, factors, hidden)
        atoms_gradient = np.zeros_like(atoms)
        by_received = np.empty_like(geometry.basis)
        row_product(hidden, self.bond_back, by_received)
        three_body_backward(
            by_received,
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
        change = np.empty_like(node_gradient)
        row_product(atoms_gradient * atoms * (np.float32(1.0) - atoms), self.atom_back, change)
        node_gradient += change
