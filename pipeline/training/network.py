"""The network that is trained: matgl's M3GNet, evaluated by our arrangement of it.

A trained model keeps matgl 4's convention (messages are summed on the source atom) and its three-body term, which our
kernels and matgl evaluate alike. The arrangement needs no list of triplets, which matgl makes in a Python loop; it has
matgl's parameters, so that what is saved is a plain matgl model.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.surrogates.loading import BadCheckpointError, LoadedModel
from pipeline.surrogates.m3gnet_network import M3GNetNetwork, close_first
from pipeline.training.fitting_settings import NetworkSettings
from pipeline.training.hints import Edges, Hints

# Å: a three-body cutoff that no bond is shorter than. matgl divides by it, so that zero would give NaN.
NO_THREE_BODY = 0.01


class ArrangedM3GNet(nn.Module):
    """matgl's M3GNet as ``matgl.apps.pes.Potential`` calls it, computed by :class:`M3GNetNetwork`.

    Parameters
    ----------
    network : torch.nn.Module
        matgl's M3GNet, extensive, without state.
    hints : Hints, optional
        What the features of a batch in training are compared with; ``distance`` then has the result.
    """

    def __init__(self, network: Any, hints: Hints | None = None) -> None:
        super().__init__()
        self.arranged = M3GNetNetwork(network, "source")
        self.hints = hints
        self.distance: Tensor | None = None

    @property
    def network(self) -> Any:
        """The module of matgl with the trained parameters."""
        return self.arranged.network

    @property
    def element_types(self) -> tuple[str, ...]:
        """Elements in the order of the embedding."""
        return tuple(self.network.element_types)

    def forward(self, g: Any, state_attr: Tensor | None = None, l_g: Any = None) -> Tensor:
        """(B,) outputs of a batch of graphs with ``pos`` and ``pbc_offshift`` in Å; the rest is not used."""
        self.arranged.prepare()
        source, destination = g.edge_index[0], g.edge_index[1]
        vectors = g.pos.index_select(0, destination) + g.pbc_offshift - g.pos.index_select(0, source)
        order, n_close = close_first(vectors.detach(), self.arranged.threebody_cutoff)
        source, destination, vectors = (x.index_select(0, order) for x in (source, destination, vectors))
        edges = Edges(source, destination, vectors, n_close)
        if self.hints is None or not self.training:
            atomic = self.arranged.atomic_energies(g.node_type, *edges)
        else:
            layers = list(self.arranged.layers(g.node_type, *edges))
            atomic = self.arranged.energies_of(layers[-1][0])
            self.distance = self.hints.distance(g.node_type, edges, layers, atomic)
        return atomic.new_zeros(g.num_graphs).index_add(0, g.batch, atomic)


def fresh_network(sizes: NetworkSettings, elements: Sequence[str], seed: int) -> Any:
    """An M3GNet of matgl with first weights that depend on the seed alone."""
    arguments = {
        "element_types": tuple(elements),
        "dim_node_embedding": sizes.node_width,
        "dim_edge_embedding": sizes.edge_width,
        "nblocks": sizes.blocks,
        "units": sizes.units,
        "cutoff": sizes.cutoff,
        "threebody_cutoff": NO_THREE_BODY if sizes.three_body_cutoff is None else sizes.three_body_cutoff,
        "use_smooth": sizes.smooth,
        "is_intensive": False,
        "max_n": 3,
        "max_l": 3,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _m3gnet(arguments)
    if sizes.three_body_cutoff is None:
        _silence_three_body(network)
    return network


def sizes_of(network: Any) -> dict[str, Any]:
    """Sizes of a network of :func:`fresh_network` or :func:`network_of`, by the names of the settings."""
    known = network._init_args
    angles = float(network.threebody_cutoff)
    return {
        "units": known["units"],
        "node_width": known["dim_node_embedding"],
        "edge_width": known["dim_edge_embedding"],
        "blocks": known["nblocks"],
        "cutoff": float(network.cutoff),
        "three_body_cutoff": angles if angles > NO_THREE_BODY else None,
        "smooth": bool(known["use_smooth"]),
    }


def _m3gnet(arguments: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        # torch.jit's deprecation notices, raised while matgl and torch_geometric are imported
        warnings.simplefilter("ignore")
        from matgl.models import M3GNet

        return M3GNet(**arguments)


def _silence_three_body(network: Any) -> None:
    """Zero what the term is made of, so that it is nothing whatever the cutoff."""
    for interaction in network.three_body_interactions:
        for parameter in interaction.update_network_bond.parameters():
            parameter.data.zero_()


def network_of(model: LoadedModel, elements: Sequence[str], name: str) -> Any:
    """A loaded potential as a network of matgl 4's convention with these elements only, ready to be trained.

    A model that sums messages on the destination atom is turned into one that sums them on the source and gives the
    same energies: every bond has its reverse, so the roles of the two atoms are exchanged in the weights of the gated
    networks that read them. The three-body term belongs to the bonds of one source atom and can't be exchanged so; it
    is left out where the catalogue leaves it out, and a model of the old convention that has one is refused.

    Raises
    ------
    BadCheckpointError
        An element that the model doesn't know, no M3GNet, or a three-body term in the old convention.
    """
    unknown = [symbol for symbol in elements if symbol not in model.elements]
    if unknown:
        raise BadCheckpointError(
            f"{name} does not know {', '.join(unknown)}, which the data have; it knows {', '.join(model.elements)}"
        )
    if type(model.network).__name__ != "M3GNet":
        raise BadCheckpointError(f"{name} is a {type(model.network).__name__}; only M3GNet potentials are fine-tuned")
    omitted = model.three_body == "omitted"
    if model.convention == "destination" and not omitted:
        raise BadCheckpointError(
            f"{name} sums messages on the destination atom (matgl before version 3) and has a three-body term, which "
            "belongs to bonds of one source atom: it has no equal in matgl 4's convention, and in its own matgl would "
            "give wrong energies; fine-tune a model of the catalogue, or one made by matgl 3 or later"
        )
    arguments = copy.deepcopy(model.network._init_args) | {"element_types": tuple(elements)}
    if omitted:
        arguments["threebody_cutoff"] = NO_THREE_BODY
    network = _m3gnet(arguments)
    state = {key: value.clone() for key, value in model.network.state_dict().items()}
    rows = [model.elements.index(symbol) for symbol in elements]
    state["embedding.layer_node_embedding.weight"] = state["embedding.layer_node_embedding.weight"][rows]
    if model.convention == "destination":
        state = {key: _atoms_exchanged(key, value, network) for key, value in state.items()}
    network.load_state_dict(state)
    if omitted:
        _silence_three_body(network)
    return network.requires_grad_(True)


def _atoms_exchanged(key: str, value: Tensor, network: Any) -> Tensor:
    """First layers on (v_i, v_j, e_ij) with the columns of the two atoms exchanged; other weights as they are."""
    if not key.endswith(("update_func.layers.0.weight", "update_func.gates.0.weight")):
        return value
    width = network.embedding.dim_node_embedding
    return torch.cat([value[:, width : 2 * width], value[:, :width], value[:, 2 * width :]], dim=1)
