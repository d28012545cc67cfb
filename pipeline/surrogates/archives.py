"""NumPy archives that are written whole or not at all, and never hold pickles."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic_files import write_atomically

Arrays = Mapping[str, NDArray[Any]]


def write_archive(path: Path, arrays: Arrays) -> None:
    """Write named arrays, uncompressed; a reader or a run after a crash sees the old file or the new."""
    save: Callable[..., None] = np.savez  # its stub takes the names of arrays for an option
    write_atomically(path, lambda stream: save(stream, **arrays))


def read_archive(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays.

    Raises
    ------
    ValueError
        The file is missing or damaged.
    """
    try:
        # numpy leaves a file open whose archive it can't read
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(
            f"{path} is missing or damaged ({error}); delete {path.parent} to run the dynamics anew"
        ) from None
