"""The campaign's prototype library: built once for its settings and source, then taken from the user's cache.

Beside the library lies ``<its name>.left_out.csv``: every crystal that is no prototype, and why.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from pipeline.cache import user_cache
from pipeline.config import ConfigError, Problem
from pipeline.reference.prototype_library import LIBRARY_VERSION, PrototypeLibrary
from pipeline.reference.prototypes import build_library
from pipeline.reference.structure_files import structure_files
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
    keep_all = inputs.campaign.candidates.substitution == "none"
    try:
        source = _digest_of_source(inputs.prototypes)
    except OSError as error:
        text = f"{error.filename} can't be read ({error.strerror}); make it readable, or take it out of the folder"
        raise ConfigError([Problem("candidates.prototypes.path", text)]) from None
    key = digest_of([LIBRARY_VERSION, settings.model_dump(mode="json", exclude={"path"}), keep_all, source])[:16]
    name = f"prototypes-{key}.parquet"
    cache = user_cache() / "prototypes"
    places = [place for place in (folder, cache) if place is not None]
    library = _kept(places, name)
    if library is None:
        say("building the prototype library (once for these settings)")
        try:
            library = build_library(settings, inputs.prototypes, keep_all=keep_all)
        except (ValueError, OSError) as error:
            raise ConfigError([Problem("candidates.prototypes", str(error))]) from None
    counts = ", ".join(f"{n:,} {reason}" for reason, n in library.counts.items())
    say(f"prototypes: {len(library):,} (crystals read: {counts})")
    if len(library) == 0:
        named = "; ".join(f"{c.source_id}: {c.reason} {c.detail}".rstrip() for c in library.left_out[:5])
        text = f"no prototype is left; crystals read: {counts} ({named}{', ...' if len(library.left_out) > 5 else ''})"
        raise ConfigError([Problem("candidates.prototypes", text)])
    for place in places:
        if not (place / name).exists():
            _keep(library, place / name, [p / name for p in places], say, required=place is folder)
    listed = left_out_beside(places[0] / name)
    if listed.exists():
        say(f"crystals left out, with the reasons: {listed}")
    return places[0] / name, library


def left_out_beside(path: Path) -> Path:
    """Where the list of what a library leaves out lies."""
    return path.with_suffix(".left_out.csv")


def _kept(places: list[Path], name: str) -> PrototypeLibrary | None:
    for place in places:
        if (place / name).exists():
            try:
                return PrototypeLibrary.load(place / name)
            except ValueError:  # damaged, or of another version: it is built anew and replaced
                (place / name).unlink()
    return None


def _keep(
    library: PrototypeLibrary, path: Path, places: list[Path], say: Callable[[str], None], *, required: bool
) -> None:
    """Write a library and its list of what was left out; a library from elsewhere has its list there."""
    listed = next((p for p in map(left_out_beside, places) if p.exists()), None)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if library.left_out:
            _write(left_out_beside(path), library.save_left_out)
        elif listed is not None:
            _write(left_out_beside(path), lambda temporary: shutil.copyfile(listed, temporary))
        _write(path, library.save)
    except OSError as error:
        if required:
            raise
        say(f"{path.parent} can't be written ({error.strerror}); the prototype library is not cached")


def _write(path: Path, save: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save(temporary)
    temporary.replace(path)


def _digest_of_source(source: Path | None) -> str:
    if source is None:
        return "aflow:" + metadata.version("pymatgen")
    if source.is_dir():
        return digest_of([[p.name, _digest_if_readable(p)] for p in structure_files(source)])
    return digest_of_file(source)


def _digest_if_readable(path: Path) -> str | None:
    """None for a file that building the library will report."""
    try:
        return digest_of_file(path)
    except OSError:
        return None
