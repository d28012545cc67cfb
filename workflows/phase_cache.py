"""Phases and structures fetched from the Materials Project, kept in the user's cache."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.atomic_files import write_text
from pipeline.cache import user_cache
from pipeline.reference.fetched_phases import FetchedPhases
from pipeline.reference.materials_project import fetch_phases
from pipeline.reference.materials_project_connection import endpoint_of
from pipeline.reference.observed_structures import fetch_structures
from workflows.fetched_entries import FetchedEntry, keep_entry, newest_entry
from workflows.files import digest_of

if TYPE_CHECKING:
    from pipeline.candidate_settings import PrototypeSettings

_FORMAT = 1


class CachedPhases(FetchedEntry):
    """An entry of the cache with the two tables that a hull is made of."""

    @property
    def phases(self) -> Path:
        """Table of compounds, as ``PhaseReference.from_table`` reads it."""
        return self.folder / "phases.csv"

    @property
    def elements(self) -> Path:
        """Table of elemental references."""
        return self.folder / "elements.csv"


class CachedStructures(FetchedEntry):
    """An entry of the cache with observed structures."""

    @property
    def structures(self) -> Path:
        """Parquet file with the columns of ``structures_observed.parquet``."""
        return self.folder / "structures.parquet"


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
    entry = newest_entry(home, key)
    if entry is None:
        entry = _kept_phases(fetch_phases(symbols, environ, say), home, key)
    return CachedPhases(entry.folder, entry.source)


def materials_project_structures(
    settings: PrototypeSettings,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = lambda _: None,
) -> CachedStructures:
    """Observed structures of the numbers of elements and sites that prototypes may have; cached like phases.

    Raises
    ------
    MaterialsProjectError
        As `fetch_structures`, or when the cache can't be written.
    """
    numbers = [settings.min_elements, settings.max_elements, settings.max_sites]
    key = digest_of([_FORMAT, endpoint_of(environ), "observed structures", numbers])[:16]
    home = user_cache(environ) / "materials_project"
    entry = newest_entry(home, key)
    if entry is None:
        fetched = fetch_structures(settings, environ, say)
        about = {"query": fetched.query, "structures": len(fetched.rows)}
        entry = keep_entry(home, key, fetched.database_version, about, {"structures.parquet": fetched.save})
    return CachedStructures(entry.folder, entry.source)


def _kept_phases(fetched: FetchedPhases, home: Path, key: str) -> FetchedEntry:
    phases = [(p.formula, repr(p.formation_energy), "mp2020", p.material_id, p.last_updated) for p in fetched.phases]
    header = ("formula", "formation_energy_per_atom", "scheme", "material_id", "last_updated")
    energies = [(symbol, repr(energy)) for symbol, energy in sorted(fetched.elemental_energies.items())]
    about = {
        "query": fetched.query,
        "elements": list(fetched.elements),
        "phases": len(fetched.phases),
        "left_out_without_energy": fetched.without_energy,
    }
    files = {
        "phases.csv": lambda path: write_text(path, _csv(header, phases)),
        "elements.csv": lambda path: write_text(path, _csv(("element", "energy_per_atom"), energies)),
    }
    return keep_entry(home, key, fetched.database_version, about, files)


def _csv(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()
