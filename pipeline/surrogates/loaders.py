"""From a name to a ready model: the place where catalogue, device and evaluators meet."""

from pathlib import Path

import torch

from pipeline.surrogates.batch import BatchEvaluator
from pipeline.surrogates.catalogue import locate, resolve_convention
from pipeline.surrogates.entries import EnergyScheme, LocatedModel
from pipeline.surrogates.loading import load_matgl
from pipeline.surrogates.m3gnet import M3GNetEvaluator
from pipeline.surrogates.potential import Potential
from pipeline.surrogates.property_model import PropertyModel

# Neighbour pairs in a batch: measured best on one core, where larger ones leave the caches; a GPU wants more.
_EDGES_ON_CPU, _EDGES_ON_CUDA = 4_000, 200_000


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
) -> Potential:
    """See :func:`pipeline.surrogates.load_potential`."""
    where = resolve_device(device)
    model = locate(name_or_path)
    _wrong_kind(model, "potential")
    resolved = resolve_convention(model, convention)
    edges = edges_per_batch or (_EDGES_ON_CUDA if where.type == "cuda" else _EDGES_ON_CPU)
    evaluator: BatchEvaluator
    if resolved is None:
        from pipeline.surrogates.chgnet_model import CHGNetEvaluator

        evaluator = CHGNetEvaluator(next(iter(model.files.values())), where, edges)
    else:
        evaluator = M3GNetEvaluator(load_matgl(model, resolved), where, edges)
    declared = model.entry.scheme if model.entry is not None else scheme
    return Potential(model.name, model.sha256, declared, evaluator, str(where))


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
