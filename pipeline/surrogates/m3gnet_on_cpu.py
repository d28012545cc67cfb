"""M3GNet's energy and its gradient by edge vectors on one CPU core, without autograd.

The same mathematics as :class:`pipeline.surrogates.m3gnet.M3GNetNetwork`, which is its oracle in the tests; the
gradient is written out in :mod:`kernels.gated_messages` and :mod:`kernels.three_body`. Only the radial basis and the
readout, a few numbers for each edge and atom, are left to torch.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.activations import silu_rows
from pipeline.surrogates.m3gnet_geometry import EdgeGeometry, edge_geometry
from pipeline.surrogates.m3gnet_layers import GatedNetwork, Graph, ThreeBody, Workspace, layer_matrix, layer_vector

if TYPE_CHECKING:
    from pipeline.surrogates.m3gnet import M3GNetNetwork

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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
        self._edge, self._edge_bias = layer_matrix(edge.weight), layer_vector(edge.bias)
        self._blocks = [
            (
                ThreeBody(f"three-body {k}", three),
                GatedNetwork(f"edge {k}", block.conv.edge_update_func, block.conv.edge_weight_func, atom_width),
                GatedNetwork(f"node {k}", block.conv.node_update_func, block.conv.node_weight_func, atom_width),
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
            graph = Graph(len(types), source, destination, np.arange(len(source)), source[close], destination[close])
            return self._there_and_back(types, graph, geometry)

    def _there_and_back(self, types: IntArray, graph: Graph, geometry: EdgeGeometry) -> tuple[FloatArray, FloatArray]:
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
