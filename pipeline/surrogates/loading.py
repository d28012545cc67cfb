"""Build matgl models from ``model.json`` and ``state.pt``, with the right message-passing convention.

``model.pt`` is never read: the old ones hold pickled objects. Weights are read with ``weights_only=True`` and
loaded strictly. matgl itself is left as it is; a checkpoint that aggregates on the destination atom gets its node
update replaced on its own layers, so models of both conventions work side by side in one process.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.surrogates.entries import Convention, LocatedModel, ThreeBody

# Buffers that older checkpoints do not carry: constants, rebuilt from model.json. Nothing else may be missing.
_REBUILT_BUFFERS = re.compile(r"(bond_expansion\.rbf|basis_expansion\.sbf)\.cutoff")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


class BadCheckpointError(ValueError):
    """A model's files cannot be read, or do not describe a model of this project."""


@dataclass(frozen=True)
class LoadedModel:
    """A network and what turns its output into the target.

    Attributes
    ----------
    network : torch.nn.Module
        matgl's M3GNet or MEGNet, in evaluation mode, its parameters frozen.
    mean, scale : float
        Target = ``scale * output + mean`` (for potentials the output is the energy of the structure).
    element_energies : Tensor or None
        Energy offset of each element, eV, float64, in the order of ``elements``; None for properties.
    elements : tuple of str
        The order of the embedding.
    convention : str
        Atom on which messages are aggregated.
    three_body : str
        ``included`` or ``omitted``.
    """

    network: Any
    mean: float
    scale: float
    element_energies: Tensor | None
    elements: tuple[str, ...]
    convention: Convention
    three_body: ThreeBody = "included"


def numbers_in_text(value: object, place: str) -> list[float]:
    """Numbers of a value that model.json stores as text: ``tensor([1., 2.], device='cuda:0')``."""
    if isinstance(value, int | float):
        return [float(value)]
    if isinstance(value, list):
        return [float(item) for item in value]
    if isinstance(value, str) and (match := re.match(r"tensor\(\s*(\[.*?\]|" + _NUMBER + r")", value, re.DOTALL)):
        return [float(number) for number in re.findall(_NUMBER, match.group(1))]
    raise BadCheckpointError(f"{place}: expected a number, a list or the text of a tensor, got {value!r}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadCheckpointError(f"{path} cannot be read as JSON: {error}; fetch the model again") from error
    if not isinstance(text, dict) or "kwargs" not in text:
        raise BadCheckpointError(f"{path} is not a matgl model description (no 'kwargs')")
    return text


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many unrelated types for a broken or pickled file
        raise BadCheckpointError(
            f"{path} cannot be read as plain weights (weights_only=True): {error}; fetch the model again"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadCheckpointError(f"{path} does not hold a state dict of tensors")
    return dict(state)


def _build_network(description: Mapping[str, Any], place: Path) -> Any:
    """Instantiate matgl's M3GNet or MEGNet from its init arguments."""
    with warnings.catch_warnings():
        # torch.jit's deprecation notices, raised while matgl and torch_geometric are imported.
        warnings.simplefilter("ignore")
        from matgl.config import DEFAULT_ELEMENTS
        from matgl.models import M3GNet, MEGNet

        classes = {"M3GNet": M3GNet, "MEGNet": MEGNet}
        name = description.get("@class")
        if name not in classes:
            raise BadCheckpointError(f"{place}: network class {name!r} is not one of {', '.join(classes)}")
        arguments = dict(description["init_args"])
        if arguments.get("element_types") is None:
            arguments["element_types"] = DEFAULT_ELEMENTS
        arguments["element_types"] = tuple(arguments["element_types"])
        return classes[name](**arguments)


def _current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Network weights under matgl 4's names: old M3GNet checkpoints nest the set2set readout one level deeper."""
    return {
        key.removeprefix("model.").replace("readout.set2set.lstm.", "readout.lstm."): value
        for key, value in state.items()
        if key.startswith("model.")
    }


def _load_strictly(network: nn.Module, weights: Mapping[str, Tensor], place: Path) -> None:
    result = network.load_state_dict(dict(weights), strict=False)
    missing = [key for key in result.missing_keys if not _REBUILT_BUFFERS.fullmatch(key)]
    if missing or result.unexpected_keys:
        raise BadCheckpointError(
            f"{place} does not fit its model.json: missing {missing or 'none'}, "
            f"unexpected {result.unexpected_keys or 'none'}"
        )


def _m3gnet_destination_update(
    self: Any,
    edge_index: Tensor,
    edge_feat: Tensor,
    node_feat: Tensor,
    rbf: Tensor,
    u_per_edge: Tensor | None,
    num_nodes: int,
) -> Tensor:
    """Node update that sums messages on the destination atom (matgl before version 3)."""
    source, destination = edge_index[0].long(), edge_index[1].long()
    parts = [node_feat[source], node_feat[destination], edge_feat]
    if self.include_state and u_per_edge is not None:
        parts.append(u_per_edge)
    messages = self.node_update_func(torch.hstack(parts)) * self.node_weight_func(rbf)
    summed: Tensor = messages.new_zeros(num_nodes, messages.shape[1]).index_add(0, destination, messages)
    return summed


def _megnet_destination_update(
    self: Any, edge_index: Tensor, edge_feat: Tensor, node_feat: Tensor, u_per_node: Tensor, num_nodes: int
) -> Tensor:
    """Node update that averages edges on the destination atom (matgl before version 3)."""
    destination = edge_index[1].long()
    total = edge_feat.new_zeros(num_nodes, edge_feat.shape[1]).index_add(0, destination, edge_feat)
    degree = torch.bincount(destination, minlength=num_nodes).clamp(min=1).to(edge_feat.dtype)
    inputs = torch.hstack([node_feat, total / degree[:, None], u_per_node])
    updated: Tensor = self.node_func(inputs)
    return updated


def set_convention(network: nn.Module, convention: Convention) -> None:
    """Make this instance's convolutions aggregate on the given atom; other instances are not touched."""
    from matgl.layers._graph_convolution import M3GNetGraphConv, MEGNetGraphConv

    updates: dict[type, Callable[..., Tensor]] = {
        M3GNetGraphConv: _m3gnet_destination_update,
        MEGNetGraphConv: _megnet_destination_update,
    }
    changed = 0
    for module in network.modules():
        update = updates.get(type(module))
        if update is None:
            continue
        changed += 1
        if convention == "destination":
            # Set past torch's __setattr__, whose types are for parameters and submodules.
            object.__setattr__(module, "node_update_", MethodType(update, module))
    if not changed:
        raise BadCheckpointError(f"{type(network).__name__} has no graph convolution whose convention could be set")


def load_matgl(model: LocatedModel, convention: Convention) -> LoadedModel:
    """Build a located matgl model and load its weights.

    Parameters
    ----------
    model : LocatedModel
        From :func:`pipeline.surrogates.catalogue.locate`.
    convention : str
        From :func:`pipeline.surrogates.catalogue.resolve_convention`.

    Raises
    ------
    BadCheckpointError
        Unreadable files, another architecture, weights that do not fit.
    """
    description = _read_json(model.files["model.json"])
    state = _read_state(model.files["state.pt"])
    kwargs = description["kwargs"]
    place = model.files["model.json"]
    network = _build_network(kwargs["model"], place)
    _load_strictly(network, _current_names(state), model.files["state.pt"])
    set_convention(network, convention)
    network.eval()
    network.requires_grad_(False)
    elements = tuple(str(symbol) for symbol in network.element_types)
    if description["@class"] == "Potential":
        mean, scale, offsets = _potential_constants(kwargs, state, elements, place)
    else:
        mean, scale, offsets = *_normalizer(kwargs["target_transformer"], place), None
    three_body = model.entry.three_body if model.entry is not None else "included"
    return LoadedModel(network, mean, scale, offsets, elements, convention, three_body)


def _potential_constants(
    kwargs: Mapping[str, Any], state: Mapping[str, Tensor], elements: tuple[str, ...], place: Path
) -> tuple[float, float, Tensor]:
    """Mean, scale and element offsets of a potential; those in the weights are exact, model.json has 8 digits."""
    if kwargs.get("calc_repuls"):
        raise BadCheckpointError(f"{place}: a potential with ZBL repulsion (calc_repuls) is not supported")

    def constant(key: str, text_key: str) -> Tensor:
        if key in state:
            return state[key].detach().to(torch.float64).reshape(-1)
        return torch.tensor(numbers_in_text(kwargs[text_key], f"{place}: {text_key}"), dtype=torch.float64)

    offsets = constant("element_refs.property_offset", "element_refs")
    if len(offsets) != len(elements):
        raise BadCheckpointError(f"{place}: {len(offsets)} element_refs for {len(elements)} elements")
    return float(constant("data_mean", "data_mean")[0]), float(constant("data_std", "data_std")[0]), offsets


def _normalizer(text: object, place: Path) -> tuple[float, float]:
    """Mean and standard deviation from ``Normalizer: Mean=-1.65, Std: 1.07``."""
    pattern = rf"Normalizer: Mean=({_NUMBER}), Std: ({_NUMBER})"
    match = re.fullmatch(pattern, text) if isinstance(text, str) else None
    if match is None:
        raise BadCheckpointError(f"{place}: target_transformer {text!r} is not a Normalizer with mean and std")
    return float(match.group(1)), float(match.group(2))
