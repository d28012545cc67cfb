"""Competing phases from the Materials Project, over the network with the user's key.

Energies are those of thermo type ``GGA_GGA+U``, asked for by name: the server's default mixes in r2SCAN, which puts
some phases eV off the MP2020 scheme. Called before a run starts, never from a stage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any
from urllib.parse import quote

from pipeline.reference.fetched_phases import THERMO_TYPE, FetchedPhases, checked
from pipeline.reference.materials_project_connection import Connection, connect

_FIELDS = (
    "material_id",
    "formula_pretty",
    "chemsys",
    "thermo_type",
    "formation_energy_per_atom",
    "uncorrected_energy_per_atom",
    "last_updated",
)
# The server's gateway refuses longer addresses; mp-api found 511 systems of 9 elements, about this much, to pass.
_QUERY_LENGTH = 6000
# Beyond this many elements, lists of all their systems cost more requests than reading the whole collection.
_MOST_ELEMENTS_LISTED = 13
_PAGE = 1000
# No entry of the collection has more elements.
_MOST_ELEMENTS = 20


def fetch_phases(
    elements: Iterable[str],
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = lambda _: None,
    timeout: int = 60,
) -> FetchedPhases:
    """Fetch every phase made of some elements, and the energies of the elements.

    Parameters
    ----------
    elements
        Symbols. Up to 13, their chemical systems are asked for by name; beyond, the whole collection is read page by
        page and filtered here, so that requests stay below about 200 for any set.
    environ
        Holds the key (``MP_API_KEY``, or pymatgen's ``PMG_MAPI_KEY``) and perhaps ``MP_API_ENDPOINT``.
    say
        Receives lines for the user.
    timeout
        Seconds to wait for an answer.

    Raises
    ------
    MaterialsProjectError
        No key, a refused key, no network, a timeout, too many requests, an unreadable or truncated answer, another
        thermo type than was asked for, two rows of one material, or an element without a phase; with the remedy.
    """
    symbols = tuple(sorted(set(elements)))
    connection = connect(environ, timeout, "reference source 'table' or 'prototypes'")
    version = connection.database_version()
    queries = list(_queries(symbols))
    say(f"fetching phases of {len(symbols)} elements from the Materials Project, database {version}")
    rows: list[dict[str, Any]] = []
    for query in queries:
        rows += _search(connection, query)
    words = f"thermo_types={THERMO_TYPE}, {_in_words(queries, symbols)}"
    return checked(rows, symbols, version, words)


def _queries(elements: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Search terms of each request: lists of chemical systems, each short enough for an address."""
    if len(elements) > _MOST_ELEMENTS_LISTED:
        yield {"num_elements": (1, min(len(elements), _MOST_ELEMENTS))}
        return
    systems: list[str] = []
    length = 0
    for size in range(1, len(elements) + 1):
        for chosen in combinations(elements, size):
            system = "-".join(chosen)
            cost = len(quote(system + ","))
            if length + cost > _QUERY_LENGTH:
                yield {"chemsys": systems}
                systems, length = [], 0
            systems.append(system)
            length += cost
    yield {"chemsys": systems}


def _in_words(queries: list[dict[str, Any]], elements: Sequence[str]) -> str:
    if "chemsys" in queries[0]:
        return f"chemsys: all {2 ** len(elements) - 1} systems of {'-'.join(elements)}"
    return f"num_elements={queries[0]['num_elements']}, filtered for {'-'.join(elements)}"


def _search(connection: Connection, query: dict[str, Any]) -> list[dict[str, Any]]:
    words = {"chemsys": ",".join(query["chemsys"])} if "chemsys" in query else span("nelements", query["num_elements"])
    return connection.search(
        ("thermo", "ThermoRester"),
        {**query, "thermo_types": [THERMO_TYPE]},
        {**words, "thermo_types": THERMO_TYPE},
        _FIELDS,
        _PAGE,
    )


def span(name: str, bounds: tuple[int, int]) -> dict[str, int]:
    """Bounds of a number, in the words of the server's addresses."""
    return {f"{name}_min": bounds[0], f"{name}_max": bounds[1]}
