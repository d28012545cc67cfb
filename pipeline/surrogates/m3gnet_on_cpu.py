"""M3GNet's energy and its gradient by edge vectors on one CPU core, without autograd.

The same mathematics as :class:`pipeline.surrogates.m3gnet_network.M3GNetNetwork`, which is its oracle in the tests; the
gradient is written out in :mod:`kernels.gated_messages` and :mod:`kernels.three_body`.

A crystal's numbers are the same to the last bit whatever its companions in the batch: each crystal's edges begin at a
multiple of :data:`kernels.row_products.ROWS`, between them lie edges of an atom that is no crystal's.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kernels.activations import silu_rows
from kernels.padded_edges import fill_edges
from kernels.row_products import ROWS, tile_product
from pipeline.surrogates.m3gnet_geometry import EdgeGeometry, RadialBasis, edge_geometry
from pipeline.surrogates.m3gnet_layers import GatedNetwork, Graph, ThreeBody, Workspace, layer_matrix, layer_vector
from pipeline.surrogates.m3gnet_readout import Readout

if TYPE_CHECKING:
    from pipeline.surrogates.m3gnet_network import M3GNetNetwork

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
        self._edge_back = np.ascontiguousarray(self._edge.T)
        self._readout = Readout(inner.final_layer.gated)
        self._radial_basis = RadialBasis(inner.bond_expansion.rbf)
        self._bond_basis = RadialBasis(inner.basis_expansion.sbf)
        self._space = Workspace()

    def energies_and_gradient(
        self, types: IntArray, source: IntArray, destination: IntArray, vectors: FloatArray, edges: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Energies of atoms and their sum's gradient.

        Parameters
        ----------
        types : (N,) int64
            Embedding rows.
        source, destination : (E,) int64
            Edges, crystal after crystal, by ascending source.
        vectors : (E, 3) float64
            Å.
        edges : (B,) int64
            Edges of each crystal.

        Returns
        -------
        energies : (N,) float64
            Network outputs, before scale and element offsets.
        gradient : (E, 3) float64
            Of the energies' sum by edge vectors.
        """
        # One atom more than there are, for the edges that only fill up.
        n_atoms, n_rows = len(types) + 1, int(np.sum(-(-edges // ROWS) * ROWS))
        from_atom, to_atom = np.full(n_rows, n_atoms - 1), np.full(n_rows, n_atoms - 1)
        apart = np.zeros((n_rows, 3))
        apart[:, 0] = 2.0 * self.network.cutoff
        places = np.empty(len(source), np.int64)
        fill_edges(source, destination, vectors, edges, ROWS, from_atom, to_atom, apart, places)
        with np.errstate(all="ignore"):  # atoms on top of each other give NaN, which the caller looks for
            geometry = edge_geometry(self.network, self._radial_basis, self._bond_basis, apart)
            close = geometry.close
            graph = Graph(n_atoms, from_atom, to_atom, np.arange(n_rows), from_atom[close], to_atom[close])
            energies = self._there_and_back(np.append(types, 0), graph, geometry)
            return energies[:-1], geometry.gradient()[places]

    def _there_and_back(self, types: IntArray, graph: Graph, geometry: EdgeGeometry) -> FloatArray:
        """Energies of the atoms; gradients are left in ``geometry``."""
        space, radial = self._space, geometry.radial
        sink = graph.source if self.network.sum_on_source else graph.destination
        nodes = self._atom_embedding[types]
        edges = space.array("edges", len(radial), self._edge.shape[1])
        edge_slope = space.array("edge slope", *edges.shape)
        tile_product(radial, self._edge, edges)
        silu_rows(edges, self._edge_bias, edges, edge_slope)
        tapes = []
        for three, edge_network, node_network in self._blocks:
            bonds = three.forward(space, graph, geometry, nodes, edges)
            onto_edges = edge_network.forward(space, graph, radial, nodes, edges, edges, graph.every)
            onto_nodes = node_network.forward(space, graph, radial, nodes, edges, nodes, sink)
            tapes.append((bonds, onto_edges, onto_nodes))
        energies, by_nodes = self._readout.energies_and_gradient(nodes)
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
        change = np.empty_like(by_radial)
        tile_product(by_edges, self._edge_back, change)
        by_radial += change
        return energies
