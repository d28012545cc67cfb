"""Competing phases from the Materials Project, over the network with the user's key.

Energies are those of thermo type ``GGA_GGA+U``, asked for by name: the server's default mixes in r2SCAN, which puts
some phases eV off the MP2020 scheme. Called before a run starts, never from a stage.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any
from urllib.parse import quote

from pipeline.reference.fetched_phases import THERMO_TYPE, FetchedPhases, MaterialsProjectError, checked, shortened

ENDPOINT = "https://api.materialsproject.org/"
KEY_PAGE = "https://materialsproject.org/api"
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


def endpoint_of(environ: Mapping[str, str] = os.environ) -> str:
    """Address of the server: ``$MP_API_ENDPOINT`` (mp-api's own variable), else the Materials Project's."""
    return (environ.get("MP_API_ENDPOINT") or ENDPOINT).rstrip("/") + "/"


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
    endpoint, key = endpoint_of(environ), _key(environ)
    version = _database_version(endpoint, timeout)
    queries = list(_queries(symbols))
    say(f"fetching phases of {len(symbols)} elements from the Materials Project, database {version}")
    rows: list[dict[str, Any]] = []
    for query in queries:
        rows += _search(endpoint, key, query, timeout)
    words = f"thermo_types={THERMO_TYPE}, {_in_words(queries, symbols)}"
    return checked(rows, symbols, version, words)


def _key(environ: Mapping[str, str]) -> str:
    from pymatgen.core import SETTINGS

    for name, text in (
        ("MP_API_KEY", environ.get("MP_API_KEY")),
        ("PMG_MAPI_KEY", environ.get("PMG_MAPI_KEY") or SETTINGS.get("PMG_MAPI_KEY")),
    ):
        if not text:
            continue
        key = str(text).strip()
        if re.fullmatch(r"[A-Za-z0-9]{32}", key):
            return key
        # The key itself stays out of messages and logs.
        raise MaterialsProjectError(
            f"{name} is no Materials Project key (32 letters and digits, this has {len(key)} characters); copy it anew "
            f"from {KEY_PAGE}"
        )
    raise MaterialsProjectError(
        f"the Materials Project needs a key of your own; get one at {KEY_PAGE} and set MP_API_KEY, or use reference "
        "source 'table' or 'prototypes'"
    )


def _database_version(endpoint: str, timeout: int) -> str:
    """Ask the server for its database version: a request of our own, since mp-api's has no time limit."""
    requests = _import("requests")
    try:
        answer = requests.get(endpoint + "heartbeat", timeout=timeout)
    except requests.exceptions.RequestException as error:
        raise _explained(str(error), endpoint, unreached=True) from None
    if answer.status_code != 200:
        raise _explained(f"status code {answer.status_code}", endpoint, unreached=False)
    try:
        version = answer.json()["db_version"]
    except (ValueError, KeyError, TypeError):
        version = None
    if not isinstance(version, str) or not version:
        raise MaterialsProjectError(
            f"{endpoint}heartbeat gives no database version; check MP_API_ENDPOINT, or try again later"
        )
    return version


def _import(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MaterialsProjectError(
            f"reference source 'mp_api' needs the package mp-api ({error}); install it with: "
            "python -m pip install 'ionsieve[mp]'"
        ) from None


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


def _search(endpoint: str, key: str, query: dict[str, Any], timeout: int) -> list[dict[str, Any]]:
    """Rows of one search, all pages; as many as the server says there are."""
    module = _import("mp_api.client.routes.materials.thermo")
    criteria = {"chemsys": ",".join(query["chemsys"])} if "chemsys" in query else _span(query["num_elements"])
    try:
        with module.ThermoRester(
            api_key=key, endpoint=endpoint, use_document_model=False, mute_progress_bars=True, timeout=timeout
        ) as rester:
            rows = rester.search(thermo_types=[THERMO_TYPE], fields=list(_FIELDS), chunk_size=_PAGE, **query)
            # mp-api stops without a word when a page comes back empty.
            expected = rester.count(
                {**criteria, "thermo_types": THERMO_TYPE, "_limit": 1, "_fields": "material_id"},
            )
    # mp-api raises its own error for what it foresees; a broken answer surfaces as whatever it breaks.
    except Exception as error:
        trouble = _import("requests").exceptions.RequestException
        unreached = isinstance(error, trouble) or isinstance(error.__context__, trouble)
        raise _explained(f"{type(error).__name__}: {error}", endpoint, unreached=unreached) from None
    if not isinstance(rows, list) or len(rows) != expected:
        got = len(rows) if isinstance(rows, list) else "no"
        raise MaterialsProjectError(
            f"the answer of {endpoint} is truncated: {got} rows of {expected}; run the same command again"
        )
    return rows


def _span(num_elements: tuple[int, int]) -> dict[str, int]:
    return {"nelements_min": num_elements[0], "nelements_max": num_elements[1]}


def _explained(text: str, endpoint: str, *, unreached: bool) -> MaterialsProjectError:
    """What an error of the connection means, and the remedy."""
    found = re.search(r"status code (\d{3})|too many (\d{3}) error", text)
    status = int(next(filter(None, found.groups()))) if found else None
    if status in (401, 403):
        what = f"refused the key (status {status}); copy it anew from {KEY_PAGE} into MP_API_KEY"
    elif status == 429:
        what = "has had too many requests (status 429); wait some minutes, then run the same command again"
    elif status is not None:
        what = (
            f"answered with status {status}; see https://status.materialsproject.org, and run the same command again "
            "later"
        )
    elif "timed out" in text.lower():
        what = "did not answer in time; run the same command again later"
    elif unreached:
        what = (
            f"can't be reached ({shortened(text)}); check the network and MP_API_ENDPOINT, or use reference source "
            "'table' or 'prototypes'"
        )
    else:
        what = (
            f"gave an answer that can't be read ({shortened(text)}); run the same command again, and update mp-api if "
            "it stays so"
        )
    return MaterialsProjectError(f"{endpoint} {what}")
