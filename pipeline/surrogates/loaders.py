"""From a name to a ready model: the place where catalogue, device and evaluators meet."""

from pathlib import Path

import torch

from pipeline.surrogates.batch import BatchEvaluator
from pipeline.surrogates.batch_budget import BatchBudget, first_budget, largest_graph
from pipeline.surrogates.catalogue import locate, resolve_convention
from pipeline.surrogates.device_memory import CudaMemory, available_host_memory
from pipeline.surrogates.entries import EnergyScheme, LocatedModel
from pipeline.surrogates.loading import load_matgl
from pipeline.surrogates.m3gnet import M3GNetEvaluator
from pipeline.surrogates.potential import Potential
from pipeline.surrogates.property_model import PropertyModel

# Memory for each neighbour pair, measured on MgO, which is dense: 16 kB and 61 kB (CHGNet has angles and 6 Å).
_M3GNET_BYTES, _CHGNET_BYTES = 16_000.0, 64_000.0


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA if present, else the CPU; asking for an absent CUDA is an error."""
    if device not in ("auto", "cpu", "cuda") and not device.startswith("cuda:"):
        raise ValueError(f"device {device!r} is unknown; write auto, cpu or cuda")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} was asked for, but torch sees no CUDA device; write auto or cpu")
    return torch.device(device)


def _wrong_kind(model: LocatedModel, wanted: str) -> None:
    if model.entry is not None and model.entry.kind != wanted:
        loader = "load_potential" if model.entry.kind == "potential" else "load_property_model"
        raise ValueError(f"model {model.name!r} is a {model.entry.kind} model; load it with {loader}")


def build_potential(
    name_or_path: str | Path,
    device: str,
    convention: str | None,
    scheme: EnergyScheme | None,
    edges_per_batch: int | None,
    max_edges: int | None,
) -> Potential:
    """See :func:`pipeline.surrogates.load_potential`."""
    where = resolve_device(device)
    model = locate(name_or_path)
    _wrong_kind(model, "potential")
    resolved = resolve_convention(model, convention)
    bytes_per_edge = _CHGNET_BYTES if resolved is None else _M3GNET_BYTES
    memory = CudaMemory(where) if where.type == "cuda" else None
    room = available_host_memory() if memory is None else memory.room()
    budget = BatchBudget(memory, grows=memory is not None and edges_per_batch is None)
    edges = edges_per_batch
    if edges is None:
        edges = first_budget(room, bytes_per_edge, accelerator=memory is not None)
    limit = largest_graph(room, bytes_per_edge) if max_edges is None else max_edges
    evaluator: BatchEvaluator
    if resolved is None:
        from pipeline.surrogates.chgnet_model import CHGNetEvaluator

        evaluator = CHGNetEvaluator(next(iter(model.files.values())), where, edges)
    else:
        evaluator = M3GNetEvaluator(load_matgl(model, resolved), where, edges)
    declared = (None if model.entry is None else model.entry.scheme) or scheme
    return Potential(model.name, model.sha256, declared, evaluator, str(where), max_edges=limit, budget=budget)


def build_property_model(name_or_path: str | Path, device: str, convention: str | None) -> PropertyModel:
    """See :func:`pipeline.surrogates.load_property_model`."""
    where = resolve_device(device)
    model = locate(name_or_path)
    _wrong_kind(model, "property")
    resolved = resolve_convention(model, convention)
    assert resolved is not None  # only CHGNet, a potential, has none
    loaded = load_matgl(model, resolved)
    scheme = model.entry.scheme if model.entry is not None else None
    return PropertyModel(model.name, model.sha256, scheme, loaded, where)
