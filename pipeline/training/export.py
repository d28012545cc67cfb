"""A trained model's folder: matgl 4's own format, and what it says of itself."""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.atomic_files import write_atomically
from pipeline.surrogates.declared import write_declaration
from pipeline.surrogates.entries import CatalogueEntry, EnergyScheme
from pipeline.training.fitting import Start
from pipeline.training.settings import Training

if TYPE_CHECKING:
    from pymatgen.core import Structure

# ``ionsieve.json`` is written last: it has the digests of the others.
_MATGL_FILES = ("model.pt", "model.json", "state.pt")


def export_model(settings: Training, start: Start, network: Any) -> CatalogueEntry:
    """Write ``model.json``, ``state.pt`` and ``model.pt`` as matgl 4 does, and ``ionsieve.json``.

    Parameters
    ----------
    settings : Training
        Name, folder, scheme and terms.
    start : Start
        Element energies and scale, which training does not change.
    network : torch.nn.Module
        matgl's M3GNet with the trained weights, on the CPU.

    Returns
    -------
    CatalogueEntry
        What ``ionsieve.json`` says.
    """
    from matgl.apps.pes import Potential

    network.requires_grad_(True)
    potential = Potential(
        model=network,
        data_std=torch.tensor(start.scale, dtype=torch.float32),
        element_refs=torch.tensor(start.element_energies, dtype=torch.float32),
    )
    folder = settings.folder
    scheme = settings.data.label_scheme
    with tempfile.TemporaryDirectory(prefix="ionsieve-model-") as scratch:
        potential.save(scratch, metadata={"trained_by": "ionsieve", "name": settings.name, "label_scheme": scheme})
        digests = {name: _moved(Path(scratch) / name, folder / name) for name in _MATGL_FILES}
    known: EnergyScheme | None = None if scheme == "other" else scheme
    entry = CatalogueEntry(
        name=settings.name,
        kind="potential",
        architecture="M3GNet",
        convention="source",
        scheme=known,
        elements=tuple(network.element_types),
        sha256=digests,
        url=None,
        licence=settings.card.data_licence,
        citation=settings.card.data_citation,
    )
    write_declaration(folder, entry)
    return entry


def _moved(written: Path, target: Path) -> str:
    """Put a file in its place at once; its SHA-256."""
    content = written.read_bytes()
    write_atomically(target, lambda stream: stream.write(content))
    return hashlib.sha256(content).hexdigest()


def matgl_energies(folder: Path, structures: Sequence[Structure]) -> np.ndarray:
    """(B,) total energies in eV that plain ``matgl.load_model`` gives, with matgl's own graphs and line graphs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit's deprecation notices while matgl is imported
        import matgl
        from matgl.ext.pymatgen import Structure2Graph

        potential = matgl.load_model(folder).eval()
    converter = Structure2Graph(potential.model.element_types, potential.model.cutoff)
    energies = []
    for structure in structures:
        graph, lattice, _ = converter.get_graph(structure)
        energies.append(float(potential(graph, lattice)[0].detach()))
    return np.array(energies)
