"""Where models are looked for, and the checks on what is found.

Nothing here imports torch: ``ionsieve models`` and the provenance digests stay instant.
"""

import hashlib
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from pipeline.cache import user_cache
from pipeline.surrogates.declared import declared_entry
from pipeline.surrogates.entries import (
    CATALOGUE,
    CONVENTIONS,
    MODEL_FILES,
    CatalogueEntry,
    ChecksumError,
    Convention,
    LocatedModel,
    ModelNotFoundError,
    UnknownConventionError,
)
from pipeline.surrogates.shipped import shipped_entries, shipped_folders
from pipeline.wording import did_you_mean, quoted, shortened

__all__ = [
    "CATALOGUE",
    "CONVENTIONS",
    "MODEL_FILES",
    "CatalogueEntry",
    "ChecksumError",
    "LocatedModel",
    "ModelNotFoundError",
    "UnknownConventionError",
    "known_entries",
    "locate",
    "model_digest",
    "resolve_convention",
]


def known_entries() -> dict[str, CatalogueEntry]:
    """Models that are known by name: those that come in this package, then the catalogue's."""
    return {**shipped_entries(), **CATALOGUE}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _candidate_folders(name_or_path: str | Path, environ: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Where to look, best first: (what it is, folder)."""
    if isinstance(name_or_path, Path):
        return [("the path itself", name_or_path)]
    if name_or_path in (shipped := shipped_folders()):
        return [("this package", shipped[name_or_path])]
    folders = [("the path itself", Path(name_or_path))]
    if Path(name_or_path).name != name_or_path:
        return folders
    data = environ.get("IONSIEVE_DATA")
    if data:
        folders.append(("$IONSIEVE_DATA/models", Path(data) / "models" / name_or_path))
    folders.append(("the user's cache", user_cache(environ) / "models" / name_or_path))
    return folders


def _packaged_chgnet() -> Path | None:
    """Weights file inside the installed ``chgnet`` package, without importing it."""
    spec = find_spec("chgnet")
    if spec is None or not spec.submodule_search_locations:
        return None
    (file,) = CATALOGUE["CHGNet"].sha256
    path = Path(spec.submodule_search_locations[0]) / "pretrained" / "0.3.0" / file
    return path if path.is_file() else None


def _locate_chgnet() -> LocatedModel:
    entry = CATALOGUE["CHGNet"]
    path = _packaged_chgnet()
    if path is None:
        raise ModelNotFoundError(
            "model 'CHGNet': the weights inside the Python package chgnet (0.4) were not found; "
            "install it with: python -m pip install 'chgnet>=0.4.2'"
        )
    digest = _checked_digest(entry, path)
    return LocatedModel("CHGNet", entry, {path.name: path}, digest, "the chgnet package")


def _checked_digest(entry: CatalogueEntry, path: Path) -> str:
    digest = _sha256(path)
    if digest != entry.sha256[path.name]:
        raise ChecksumError(
            f"{path} has SHA-256 {digest}, but {entry.name} has {entry.sha256[path.name]}; fetch it again, "
            "or put a model of your own under another name and state its convention"
        )
    return digest


def _not_found(name_or_path: str, tried: list[tuple[str, Path]], environ: Mapping[str, str]) -> ModelNotFoundError:
    lines = [f"  {what}: {shortened(str(folder), 300)}" for what, folder in tried]
    if not environ.get("IONSIEVE_DATA") and len(tried) > 1:
        lines.append("  $IONSIEVE_DATA/models: IONSIEVE_DATA is not set")
    unknown = name_or_path not in CATALOGUE
    known = f"known models: {', '.join(known_entries())}; " if unknown else ""
    near = did_you_mean(name_or_path, known_entries()) if unknown else ""
    return ModelNotFoundError(
        f"model {quoted(name_or_path)} not found{near} ({' and '.join(MODEL_FILES)} were looked for); tried\n"
        + "\n".join(lines)
        + f"\n{known}set IONSIEVE_DATA to a folder that has models/{shortened(Path(name_or_path).name)}, or give the "
        "path of a folder that holds the two files"
    )


def _entry_of(name: str, digest: str) -> CatalogueEntry | None:
    """Entry by the checkpoint's SHA-256; a known name with other weights is an error."""
    by_digest = next((e for e in CATALOGUE.values() if e.sha256.get("state.pt") == digest), None)
    if by_digest is None and name in CATALOGUE:
        raise ChecksumError(
            f"state.pt of {name!r} has SHA-256 {digest}, but the catalogue has "
            f"{CATALOGUE[name].sha256['state.pt']}; fetch it again, or put a model of your own in a folder "
            "of another name and state its convention"
        )
    return by_digest


def locate(name_or_path: str | Path, environ: Mapping[str, str] = os.environ) -> LocatedModel:
    """Find a model's files and check them against the catalogue.

    Looked up in this order: a name of a shipped model (:mod:`pipeline.surrogates.shipped`), a path,
    ``$IONSIEVE_DATA/models/<name>``, the user's cache. CHGNet comes from its Python package. A model that isn't in the
    catalogue may declare itself (:mod:`pipeline.surrogates.declared`).

    Parameters
    ----------
    name_or_path : str or Path
        Name of a known model, or a folder with ``model.json`` and ``state.pt``; a Path is no name.
    environ : mapping
        Environment variables.

    Raises
    ------
    ModelNotFoundError
        With everything that was tried and the remedy.
    ChecksumError
        A file of a known model differs from the pinned SHA-256, or one of a model of one's own from what it declares.
    BadDeclarationError
        A model's ``ionsieve.json`` is damaged.
    """
    if name_or_path == "CHGNet":
        return _locate_chgnet()
    tried = _candidate_folders(name_or_path, environ)
    for what, folder in tried:
        files = {file: folder / file for file in MODEL_FILES}
        if not all(os.path.isfile(path) for path in files.values()):  # noqa: PTH113 (no error for a name that is too long)
            continue
        digest = _sha256(files["state.pt"])
        entry = _entry_of(folder.resolve().name, digest) or declared_entry(folder)
        if entry is not None:
            for path in files.values():
                _checked_digest(entry, path)
        return LocatedModel(entry.name if entry else folder.resolve().name, entry, files, digest, what)
    raise _not_found(str(name_or_path), tried, environ)


def resolve_convention(model: LocatedModel, convention: str | None) -> Convention | None:
    """Message-passing convention of a located model: the catalogue's, else the caller's; never a guess.

    Raises
    ------
    UnknownConventionError
        An invalid word, an unknown checkpoint without one, or one that contradicts the catalogue.
    """
    if convention is not None and convention not in CONVENTIONS:
        raise UnknownConventionError(
            f"message-passing convention {convention!r} of model {model.name!r} is unknown; "
            f"write one of: {', '.join(CONVENTIONS)}"
        )
    if model.entry is None:
        if convention is None:
            raise UnknownConventionError(
                f"model {model.name!r} (state.pt SHA-256 {model.sha256}) is not in the catalogue, so its "
                "message-passing convention must be given: convention: destination for checkpoints made "
                "before matgl 3, convention: source for later ones. Guessing is refused: the wrong one gives "
                "wrong energies without any error"
            )
        return convention
    if convention is not None and convention != model.entry.convention:
        raise UnknownConventionError(
            f"model {model.name!r} has the convention {model.entry.convention!r}, by the catalogue or its "
            f"ionsieve.json, got {convention!r}; leave it out"
        )
    return model.entry.convention


def model_digest(name_or_path: str | Path, environ: Mapping[str, str] = os.environ) -> str:
    """SHA-256 of the model's weights file, in hexadecimal, for provenance. Imports no torch."""
    return locate(name_or_path, environ).sha256
