"""Every model that can be named, with where it was found: what ``ionsieve models`` shows. Imports no torch."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.cache import user_cache
from pipeline.surrogates.catalogue import known_entries, locate
from pipeline.surrogates.declared import BadDeclarationError
from pipeline.surrogates.entries import MODEL_FILES, ChecksumError, ModelListing, ModelNotFoundError

_SAYS_NOTHING = "no ionsieve.json: potential.convention and potential.scheme must be given"


def list_models(environ: Mapping[str, str] = os.environ, own: Iterable[Path] = ()) -> list[ModelListing]:
    """The known models, found or not, then those of one's own that are there.

    Parameters
    ----------
    environ : mapping
        Environment variables.
    own : iterable of Path
        Model folders, and folders that hold some, looked into beside ``$IONSIEVE_DATA/models`` and the user's cache.
    """
    known = known_entries()
    data = environ.get("IONSIEVE_DATA")
    places = [*([Path(data) / "models"] if data else []), user_cache(environ) / "models"]
    named = [folder for place in places for folder in _model_folders(place) if folder.name not in known]
    given = [folder for place in own for folder in _model_folders(place)]
    listings = [_known(name, environ) for name in known]
    return listings + [_own(folder, environ) for folder in dict.fromkeys([*named, *given])]


def _model_folders(place: Path) -> Iterator[Path]:
    """The folder itself if it is a model's, else the models' folders in it."""
    for folder in (place, *(sorted(place.iterdir()) if place.is_dir() else ())):
        if all((folder / file).is_file() for file in MODEL_FILES):
            yield folder
            if folder == place:
                return


def _known(name: str, environ: Mapping[str, str]) -> ModelListing:
    entry = known_entries()[name]
    try:
        found = locate(name, environ)
    except ModelNotFoundError:
        return ModelListing(name, entry, None, "not found")
    except ChecksumError as error:
        return ModelListing(name, entry, None, str(error))
    path = next(iter(found.files.values()))
    return ModelListing(name, entry, path if entry.convention is None else path.parent, None)


def _own(folder: Path, environ: Mapping[str, str]) -> ModelListing:
    try:
        found = locate(folder, environ)
    except (ChecksumError, BadDeclarationError) as error:
        return ModelListing(folder.resolve().name, None, folder, str(error))
    return ModelListing(found.name, found.entry, folder, None if found.entry else _SAYS_NOTHING)
