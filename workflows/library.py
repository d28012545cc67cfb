"""The campaign's prototype library: built once for its settings and source, then taken from the user's cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from pipeline.cache import user_cache
from pipeline.config import ConfigError, Problem
from pipeline.reference.prototype_library import LIBRARY_VERSION, PrototypeLibrary
from pipeline.reference.prototypes import build_library
from workflows.files import digest_of, digest_of_file
from workflows.preflight import Inputs


def prototype_library(inputs: Inputs, folder: Path | None, say: Callable[[str], None]) -> tuple[Path, PrototypeLibrary]:
    """Load the library from the run folder, else from the cache, else build it; keep it in both.

    Without a folder (validation) it is kept in the cache only.

    Raises
    ------
    ConfigError
        When the source can't be read, or no prototype is left.
    """
    settings = inputs.campaign.candidates.prototypes
    source = _digest_of_source(inputs.prototypes)
    key = digest_of([LIBRARY_VERSION, settings.model_dump(mode="json", exclude={"path"}), source])[:16]
    name = f"prototypes-{key}.parquet"
    cache = user_cache() / "prototypes"
    places = [place for place in (folder, cache) if place is not None]
    library = _kept(places, name)
    if library is None:
        say("building the prototype library (once for these settings)")
        try:
            library = build_library(settings, inputs.prototypes)
        except (ValueError, OSError) as error:
            raise ConfigError([Problem("candidates.prototypes", str(error))]) from None
        counts = ", ".join(f"{n:,} {reason}" for reason, n in library.counts.items())
        say(f"prototypes: {len(library):,} (crystals read: {counts})")
    if len(library) == 0:
        counts = ", ".join(f"{n:,} {reason}" for reason, n in library.counts.items())
        raise ConfigError([Problem("candidates.prototypes", f"no prototype is left; crystals read: {counts}")])
    for place in places:
        if not (place / name).exists():
            _keep(library, place / name, say, required=place is folder)
    return places[0] / name, library


def _kept(places: list[Path], name: str) -> PrototypeLibrary | None:
    for place in places:
        if (place / name).exists():
            try:
                return PrototypeLibrary.load(place / name)
            except ValueError:  # damaged, or of another version: it is built anew and replaced
                (place / name).unlink()
    return None


def _keep(library: PrototypeLibrary, path: Path, say: Callable[[str], None], *, required: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        library.save(temporary)
        temporary.replace(path)
    except OSError as error:
        if required:
            raise
        say(f"{path.parent} can't be written ({error.strerror}); the prototype library is not cached")


def _digest_of_source(source: Path | None) -> str:
    if source is None:
        return "aflow:" + metadata.version("pymatgen")
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.is_file())
        return digest_of([[str(p.relative_to(source)), digest_of_file(p)] for p in files])
    return digest_of_file(source)
