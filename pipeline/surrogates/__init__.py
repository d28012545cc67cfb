"""The machine-learned models. torch, matgl and chgnet are imported only when a model is loaded."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.surrogates.catalogue import known_entries, locate, model_digest
from pipeline.surrogates.entries import (
    CATALOGUE,
    CONVENTIONS,
    CatalogueEntry,
    ChecksumError,
    LocatedModel,
    ModelListing,
    ModelNotFoundError,
    UnknownConventionError,
)
from pipeline.surrogates.listing import list_models
from pipeline.surrogates.results import Evaluation, Relaxation

if TYPE_CHECKING:
    from pipeline.surrogates.entries import EnergyScheme
    from pipeline.surrogates.potential import Potential
    from pipeline.surrogates.property_model import PropertyModel

__all__ = [
    "CATALOGUE",
    "CONVENTIONS",
    "CatalogueEntry",
    "ChecksumError",
    "Evaluation",
    "LocatedModel",
    "ModelListing",
    "ModelNotFoundError",
    "Potential",
    "PropertyModel",
    "Relaxation",
    "UnknownConventionError",
    "known_entries",
    "list_models",
    "load_potential",
    "load_property_model",
    "locate",
    "model_digest",
]


def __getattr__(name: str) -> Any:
    """Classes of loaded models, imported (with torch) only when named."""
    if name == "Potential":
        from pipeline.surrogates.potential import Potential

        return Potential
    if name == "PropertyModel":
        from pipeline.surrogates.property_model import PropertyModel

        return PropertyModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_potential(
    name_or_path: str | Path,
    device: str = "cpu",
    *,
    convention: str | None = None,
    scheme: "EnergyScheme | None" = None,
    edges_per_batch: int | None = None,
    max_edges: int | None = None,
) -> "Potential":
    """Load an interatomic potential.

    Parameters
    ----------
    name_or_path : str or Path
        A name of `list_models`, or a folder with ``model.json`` and ``state.pt``.
    device : str
        ``cpu``, ``cuda`` or ``auto`` (CUDA if there is one).
    convention : str, optional
        Message-passing convention (``source`` or ``destination``) of a checkpoint that the catalogue does not
        know; it must be given then, and must not contradict the catalogue otherwise.
    scheme : str, optional
        Energy scheme of a checkpoint that the catalogue does not know.
    edges_per_batch : int, optional
        Neighbour pairs evaluated together. By default what is fastest on a CPU; on CUDA a small part of the memory,
        doubled while the measured need fits. Out of memory lowers it, given or not.
    max_edges : int, optional
        Neighbour pairs (estimated from the density) that one structure may have; a larger one fails alone with
        ``GraphTooLarge``. Default: 200,000, or what half of the memory available holds.

    Raises
    ------
    ModelNotFoundError, ChecksumError, UnknownConventionError
        See :mod:`pipeline.surrogates.entries`.
    ValueError
        Unknown device, a property model, an unreadable checkpoint, a limit below one.
    """
    from pipeline.surrogates.loaders import build_potential

    return build_potential(name_or_path, device, convention, scheme, edges_per_batch, max_edges)


def load_property_model(
    name_or_path: str | Path, device: str = "cpu", *, convention: str | None = None
) -> "PropertyModel":
    """Load a one-number model: formation energy (eV/atom) or band gap (eV). Arguments as in :func:`load_potential`."""
    from pipeline.surrogates.loaders import build_property_model

    return build_property_model(name_or_path, device, convention)
