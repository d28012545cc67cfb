"""M3GNet in torch, arranged for speed, on the weights of a matgl module.

The mathematics is that of Chen and Ong, Nat. Comput. Sci. 2022, 2, 718, and of matgl:

- Edge vectors are the only leaves of the autograd graph. Forces and the virial are sums over edges of the energy's
  gradient with respect to them, so one backward pass gives both.
- The three-body sum over k of f(r_ik) P_l(cos theta_jik) factorises, by the addition theorem, into Cartesian
  moments on the atom i; the term k = j is subtracted. No list of triplets exists, and the cost grows with the
  number of bonds, not with its square.
- The first layer of the gated networks on (v_i, v_j, e_ij) is split: its atomic part is computed on atoms.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pipeline.surrogates.entries import Convention, ThreeBody
from pipeline.surrogates.loading import BadCheckpointError
from pipeline.surrogates.silu import silu

# Y_l0 at the pole: sqrt((2l + 1) / 4 pi).
_HARMONIC = tuple(math.sqrt((2 * l + 1) / (4.0 * math.pi)) for l in range(3))  # noqa: E741


class _GatedPair:
    """A gated network whose two branches share inputs (v_i, v_j, e_ij): first layers joined, atoms' part split off."""

    def __init__(self, gated: Any, width: int) -> None:
        first = torch.cat([gated.layers[0].weight, gated.gates[0].weight])
        self.source = first[:, :width].contiguous()
        self.destination = first[:, width : 2 * width].contiguous()
        self.edge = first[:, 2 * width :].contiguous()
        self.bias = torch.cat([gated.layers[0].bias, gated.gates[0].bias])
        self.half = gated.layers[0].weight.shape[0]
        self.value_layers = [gated.layers[2], gated.layers[4]] if len(gated.layers) > 4 else [gated.layers[2]]
        self.gate_layers = [gated.gates[2], gated.gates[4]] if len(gated.layers) > 4 else [gated.gates[2]]

    def __call__(self, nodes: Tensor, edges: Tensor, source: Tensor, destination: Tensor) -> Tensor:
        hidden = linear(edges, self.edge, self.bias)
        hidden = hidden + linear(nodes, self.source).index_select(0, source)
        hidden = silu(hidden + linear(nodes, self.destination).index_select(0, destination))
        value, gate = hidden[:, : self.half], hidden[:, self.half :]
        for layer in self.value_layers[:-1]:
            value = silu(layer(value))
        for layer in self.gate_layers[:-1]:
            gate = silu(layer(gate))
        return silu(self.value_layers[-1](value)) * torch.sigmoid(self.gate_layers[-1](gate))


def _traceless_moments(unit: Tensor) -> tuple[Tensor, Tensor]:
    """Second moments xx yy zz xy xz yz of unit vectors, and the weights that turn them into P_2 of the angle."""
    x, y, z = unit[:, 0], unit[:, 1], unit[:, 2]
    moments = torch.stack([x * x, y * y, z * z, x * y, x * z, y * z], dim=1)
    shift = moments.new_tensor([0.5, 0.5, 0.5, 0.0, 0.0, 0.0])
    scale = moments.new_tensor([1.5, 1.5, 1.5, 3.0, 3.0, 3.0])
    return moments, scale * moments - shift


class M3GNetNetwork(nn.Module):
    """Node features and energies of M3GNet, from edge vectors.

    Parameters
    ----------
    network : torch.nn.Module
        matgl's M3GNet with loaded weights, ``max_l`` 3, no phi, no state.
    convention : str
        Atom of an edge on which its message is summed.
    three_body : str
        ``included``, or ``omitted`` (see :class:`pipeline.surrogates.entries.CatalogueEntry`).

    Raises
    ------
    BadCheckpointError
        An architecture that this arrangement does not cover.
    """

    def __init__(self, network: Any, convention: Convention, three_body: ThreeBody = "included") -> None:
        super().__init__()
        self.network = network
        self.three_body = three_body
        self.sum_on_source = convention == "source"
        if network.max_l != 3 or network.basis_expansion.use_phi or network.include_state:
            raise BadCheckpointError(
                f"M3GNet with max_l={network.max_l}, use_phi={network.basis_expansion.use_phi}, "
                f"include_state={network.include_state} is not supported: max_l=3 without phi and state is"
            )
        self.cutoff = float(network.cutoff)
        self.threebody_cutoff = float(network.threebody_cutoff) if three_body == "included" else 0.0
        self.max_n = int(network.max_n)
        self.shares_radial = not network.basis_expansion.use_smooth
        self._pairs: list[tuple[_GatedPair, _GatedPair]] = []

    def prepare(self) -> None:
        """Rearrange the weights; call after the module is on its device."""
        width = self.network.embedding.dim_node_embedding
        self._pairs = [
            (_GatedPair(block.conv.edge_update_func, width), _GatedPair(block.conv.node_update_func, width))
            for block in self.network.graph_layers
        ]

    def node_features(
        self, types: Tensor, source: Tensor, destination: Tensor, vectors: Tensor, n_close: int
    ) -> tuple[Tensor, Tensor]:
        """Atom and edge features after all blocks; arguments as for :meth:`layers`."""
        last: deque[tuple[Tensor, Tensor]] = deque(self.layers(types, source, destination, vectors, n_close), maxlen=1)
        return last.pop()

    def layers(
        self, types: Tensor, source: Tensor, destination: Tensor, vectors: Tensor, n_close: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Atom and edge features as embedded, then after each block.

        Parameters
        ----------
        types : (N,) int64
            Embedding rows.
        source, destination : (E,) int64
            Edges; the first ``n_close`` are those within the three-body cutoff.
        vectors : (E, 3) float32
            Edge vectors, Å.
        n_close : int
            Number of edges within the three-body cutoff.

        Yields
        ------
        nodes : (N, atom features) float32
        edges : (E, edge features) float32
        """
        network = self.network
        distances = torch.linalg.vector_norm(vectors, dim=1)
        radial = network.bond_expansion(distances)
        nodes = network.embedding.layer_node_embedding(types)
        edges = network.embedding.layer_edge_embedding(radial)
        yield nodes, edges
        close = _CloseBonds(self, source, destination, vectors, distances, radial, n_close)
        sink = source if self.sum_on_source else destination
        for (edge_pair, node_pair), block, three in zip(
            self._pairs, network.graph_layers, network.three_body_interactions, strict=True
        ):
            if n_close:
                edges = torch.cat([edges[:n_close] + close.update(three, nodes), edges[n_close:]])
            conv = block.conv
            edges = edges + edge_pair(nodes, edges, source, destination) * conv.edge_weight_func(radial)
            messages = node_pair(nodes, edges, source, destination) * conv.node_weight_func(radial)
            nodes = nodes.index_add(0, sink, messages)
            yield nodes, edges

    def atomic_energies(
        self, types: Tensor, source: Tensor, destination: Tensor, vectors: Tensor, n_close: int
    ) -> Tensor:
        """(N,) network outputs of an extensive model, before scale and element offsets; arguments as above."""
        nodes, _ = self.node_features(types, source, destination, vectors, n_close)
        return self.energies_of(nodes)

    def energies_of(self, nodes: Tensor) -> Tensor:
        """(N,) network outputs, from the atoms' features after all blocks."""
        atomic: Tensor = self.network.final_layer(nodes).view(-1)
        return atomic


class _CloseBonds:
    """Three-body basis of the bonds within the three-body cutoff."""

    def __init__(
        self,
        owner: M3GNetNetwork,
        source: Tensor,
        destination: Tensor,
        vectors: Tensor,
        distances: Tensor,
        radial: Tensor,
        n_close: int,
    ) -> None:
        self.source, self.destination = source[:n_close], destination[:n_close]
        self.n = owner.max_n
        if not n_close:
            return
        distance = distances[:n_close]
        ratio = distance / owner.threebody_cutoff
        cubed = ratio**3
        # Polynomial envelope of Gasteiger et al., arXiv:2003.03123, with exponent 3.
        self.envelope = (1.0 - cubed * (10.0 + ratio * (6.0 * ratio - 15.0)))[:, None]
        basis = radial[:n_close] if owner.shares_radial else owner.network.basis_expansion.sbf(distance)
        self.basis = basis * self.envelope
        self.unit = vectors[:n_close] / distance[:, None]
        self.second, self.second_weights = _traceless_moments(self.unit)

    def update(self, three_body: Any, nodes: Tensor) -> Tensor:
        """(n_close, features) three-body change of the bond features (Eq. 2 and 3 of Chen and Ong)."""
        atoms = torch.sigmoid(three_body.update_network_atom.layers[0](nodes))
        sent = self.basis * atoms.index_select(0, self.destination)
        n, count = self.n, len(sent)
        parts = (
            sent[:, :n],
            (sent[:, n : 2 * n, None] * self.unit[:, None, :]).reshape(count, 3 * n),
            (sent[:, 2 * n :, None] * self.second[:, None, :]).reshape(count, 6 * n),
        )
        moments = sent.new_zeros(len(nodes), 10 * n).index_add(0, self.source, torch.cat(parts, dim=1))
        felt = moments.index_select(0, self.source)
        first = (felt[:, n : 4 * n].view(count, n, 3) * self.unit[:, None, :]).sum(dim=2)
        second = (felt[:, 4 * n :].view(count, n, 6) * self.second_weights[:, None, :]).sum(dim=2)
        # At k = j every Legendre polynomial is 1, so the self term is what was sent.
        legendre = torch.cat([felt[:, :n], first, second], dim=1) - sent
        received = torch.cat(
            [legendre[:, l * n : (l + 1) * n] * _HARMONIC[l] for l in range(3)],  # noqa: E741
            dim=1,
        )
        updated: Tensor = three_body.update_network_bond(received * self.envelope)
        return updated


def close_first(vectors: Tensor, cutoff: float) -> tuple[Tensor, int]:
    """Order of edges that puts those within a cutoff first, and their number."""
    close = (vectors * vectors).sum(dim=1) <= cutoff * cutoff
    within = torch.nonzero(close).view(-1)
    return torch.cat([within, torch.nonzero(~close).view(-1)]), len(within)
