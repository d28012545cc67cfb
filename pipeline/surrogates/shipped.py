"""Models that come in this package: ``models/<name>/`` beside this module, put there by ``scripts/ship_model.py``.

The name of one always means these weights, whatever lies elsewhere under it; another model of that name is given by its
path.
"""

from pathlib import Path

from pipeline.surrogates.declared import DECLARATION, declared_entry
from pipeline.surrogates.entries import CatalogueEntry

FOLDER = Path(__file__).parent / "models"


def shipped_folders() -> dict[str, Path]:
    """Folder of each shipped model by its name, sorted; empty where none is shipped."""
    return {path.parent.name: path.parent for path in sorted(FOLDER.glob(f"[!.]*/{DECLARATION}"))}


def shipped_entries() -> dict[str, CatalogueEntry]:
    """What each shipped model says of itself, by its name.

    Raises
    ------
    BadDeclarationError
        A model's ``ionsieve.json`` is damaged.
    """
    found = ((name, declared_entry(folder)) for name, folder in shipped_folders().items())
    return {name: entry for name, entry in found if entry is not None}
