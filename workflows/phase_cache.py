"""Phases fetched from the Materials Project, kept on disk: asked for once, then read without any request.

An entry is a folder with ``phases.csv``, ``elements.csv`` and ``source.json``; the last holds the digests of the other
two, so that a torn entry is found. Entries are made under another name and renamed, so that of two processes one wins.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cache import user_cache
from pipeline.reference.fetched_phases import FetchedPhases, MaterialsProjectError
from pipeline.reference.materials_project import endpoint_of, fetch_phases
from workflows.files import digest_of, digest_of_file, write_json, write_text

_FORMAT = 1
_TABLES = ("phases.csv", "elements.csv")


@dataclass(frozen=True)
class CachedPhases:
    """An entry of the cache.

    Attributes
    ----------
    folder
        Where it lies.
    source
        What ``source.json`` holds: database version, when and how it was fetched, counts, digests, licence.
    """

    folder: Path
    source: dict[str, Any]

    @property
    def phases(self) -> Path:
        """Table of compounds, as ``PhaseReference.from_table`` reads it."""
        return self.folder / "phases.csv"

    @property
    def elements(self) -> Path:
        """Table of elemental references."""
        return self.folder / "elements.csv"


def materials_project_phases(
    elements: Iterable[str],
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = lambda _: None,
) -> CachedPhases:
    """Phases of a set of elements: the newest entry of the cache, else fetched and kept.

    An entry stays until its folder is deleted, so that a run goes on with the phases it began with.

    Raises
    ------
    MaterialsProjectError
        As `fetch_phases`, or when the cache can't be written.
    """
    symbols = sorted(set(elements))
    key = digest_of([_FORMAT, endpoint_of(environ), symbols])[:16]
    home = user_cache(environ) / "materials_project"
    found = [entry for path in home.glob(f"{key}-*") if (entry := _read(path)) is not None]
    if found:
        return max(found, key=lambda entry: str(entry.source["fetched"]))
    fetched = fetch_phases(symbols, environ, say)
    version = re.sub(r"[^A-Za-z0-9._]", "_", fetched.database_version)
    try:
        return _keep(fetched, home / f"{key}-{version}")
    except OSError as error:
        raise MaterialsProjectError(
            f"{home} can't be written ({error.strerror}); set IONSIEVE_CACHE to a folder that can"
        ) from None


def _read(folder: Path) -> CachedPhases | None:
    """An entry, or None when it is torn."""
    try:
        source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        if all(digest_of_file(folder / name) == source["sha256"][name] for name in _TABLES) and source["fetched"]:
            return CachedPhases(folder, source)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _keep(fetched: FetchedPhases, folder: Path) -> CachedPhases:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(fetched, temporary / "entry")
        while True:
            try:
                (temporary / "entry").rename(folder)
            except OSError:
                # Another process was faster, or left a torn entry: that one goes out of the way.
                if not folder.exists():
                    raise
                kept = _read(folder)
                if kept is not None:
                    return kept
                folder.rename(temporary / f"torn-{time.monotonic_ns()}")
                continue
            break
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    kept = _read(folder)
    if kept is None:
        raise MaterialsProjectError(f"{folder} was damaged while it was written; run the same command again")
    return kept


def _write(fetched: FetchedPhases, folder: Path) -> None:
    phases = [(p.formula, repr(p.formation_energy), "mp2020", p.material_id, p.last_updated) for p in fetched.phases]
    header = ("formula", "formation_energy_per_atom", "scheme", "material_id", "last_updated")
    write_text(folder / "phases.csv", _csv(header, phases))
    energies = [(symbol, repr(energy)) for symbol, energy in sorted(fetched.elemental_energies.items())]
    write_text(folder / "elements.csv", _csv(("element", "energy_per_atom"), energies))
    source = {
        "database_version": fetched.database_version,
        "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "query": fetched.query,
        "elements": list(fetched.elements),
        "phases": len(fetched.phases),
        "left_out_without_energy": fetched.without_energy,
        "licence": "CC BY 4.0, Materials Project",
        "sha256": {name: digest_of_file(folder / name) for name in _TABLES},
    }
    write_json(folder / "source.json", source)


def _csv(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()
