"""Models of one's own that say what they are: ``ionsieve.json`` beside ``model.json`` and ``state.pt``.

``ionsieve train`` writes it, so that nobody has to remember convention and energy scheme; anyone may write one for
a checkpoint from elsewhere. It holds the fields of :class:`pipeline.surrogates.entries.CatalogueEntry`.
"""

import json
from pathlib import Path
from typing import Any, get_args

from pipeline.atomic_files import write_json
from pipeline.surrogates.entries import CONVENTIONS, ENERGY_SCHEMES, MODEL_FILES, CatalogueEntry, ThreeBody

DECLARATION = "ionsieve.json"
_FORMAT = 1
_TEXTS = ("name", "kind", "architecture", "licence", "citation")


class BadDeclarationError(ValueError):
    """A model's ``ionsieve.json`` cannot be read, or lacks something."""


def declared_entry(folder: Path) -> CatalogueEntry | None:
    """What the folder's model says of itself, or None if it says nothing.

    Raises
    ------
    BadDeclarationError
        A damaged file, or a value that isn't one of those allowed.
    """
    path = folder / DECLARATION
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadDeclarationError(f"{path} cannot be read as JSON: {error}; train or copy the model again") from None
    wrong = _mistakes(said)
    if wrong:
        raise BadDeclarationError(f"{path}: {'; '.join(wrong)}; see docs/training.md")
    return CatalogueEntry(
        name=said["name"],
        kind=said["kind"],
        architecture=said["architecture"],
        convention=said["convention"],
        scheme=said["scheme"],
        elements=tuple(said["elements"]),
        sha256={file: said["sha256"][file] for file in MODEL_FILES},
        url=None,
        licence=said["licence"],
        citation=said["citation"],
        three_body=said["three_body"],
    )


def _mistakes(said: Any) -> list[str]:
    if not isinstance(said, dict) or said.get("format") != _FORMAT:
        return [f"format must be {_FORMAT}"]
    wrong = [f"{key} must be text, got {said.get(key)!r}" for key in _TEXTS if not isinstance(said.get(key), str)]
    allowed: dict[str, tuple[Any, ...]] = {
        "kind": ("potential",),
        "architecture": ("M3GNet",),
        "convention": CONVENTIONS,
        "three_body": get_args(ThreeBody),
        "scheme": (*ENERGY_SCHEMES, None),
    }
    wrong += [f"{k} must be one of {v}, got {said.get(k)!r}" for k, v in allowed.items() if said.get(k) not in v]
    elements, digests = said.get("elements"), said.get("sha256")
    if not isinstance(elements, list) or not elements or not all(isinstance(symbol, str) for symbol in elements):
        wrong.append("elements must list the symbols that the model knows")
    if not isinstance(digests, dict) or not set(MODEL_FILES) <= digests.keys():
        wrong.append(f"sha256 must have {' and '.join(MODEL_FILES)}")
    return wrong


def write_declaration(folder: Path, entry: CatalogueEntry) -> None:
    """Write ``ionsieve.json``; the model's files must be there, and be those that the entry's digests are of."""
    write_json(
        folder / DECLARATION,
        {
            "format": _FORMAT,
            "name": entry.name,
            "kind": entry.kind,
            "architecture": entry.architecture,
            "convention": entry.convention,
            "three_body": entry.three_body,
            "scheme": entry.scheme,
            "elements": list(entry.elements),
            "sha256": dict(entry.sha256),
            "licence": entry.licence,
            "citation": entry.citation,
        },
    )
