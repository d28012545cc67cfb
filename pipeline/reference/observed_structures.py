"""Observed crystal structures from the Materials Project, over the network with the user's key: prototypes.

Observed means that the server does not call the material theoretical. Called before a run starts, never from a stage.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.reference.fetched_phases import MaterialsProjectError, shortened
from pipeline.reference.materials_project import span
from pipeline.reference.materials_project_connection import Connection, connect

if TYPE_CHECKING:
    from pipeline.candidate_settings import PrototypeSettings

_FIELDS = ("material_id", "formula_pretty", "nelements", "nsites", "theoretical", "structure")
_PAGE = 500
# Structures are large: each search is turned into rows of numbers before the next, so that memory stays flat.
_MOST_SITES_OF_A_SEARCH = (4, 8, 12, 16, 24, 32, 48, 80, 160, 500)


@dataclass(frozen=True)
class FetchedStructures:
    """What the Materials Project has observed.

    Attributes
    ----------
    database_version
        As the server names it.
    query
        The search, in words.
    rows
        One a material, by id, with the columns of ``structures_observed.parquet`` that prototypes are read from. One
        whose structure can't be read has no cell, so that the library counts and names it as a broken row.
    """

    database_version: str
    query: str
    rows: tuple[dict[str, Any], ...]

    def save(self, path: Path) -> None:
        """Write the table as Parquet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {
            "material_id": pa.string(),
            "formula": pa.string(),
            "n_sites": pa.int64(),
            "cell_parameters": pa.list_(pa.float64()),
            "species": pa.list_(pa.string()),
            "frac_coords": pa.list_(pa.float64()),
        }
        pq.write_table(pa.Table.from_pylist(list(self.rows), schema=pa.schema(list(kinds.items()))), path)


def fetch_structures(
    settings: PrototypeSettings,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = lambda _: None,
    timeout: int = 120,
) -> FetchedStructures:
    """Fetch every observed structure with the numbers of elements and sites that prototypes may have.

    The server counts the sites of its own cell, which is primitive for nearly all of its materials.

    Parameters
    ----------
    settings
        ``min_elements``, ``max_elements``, ``max_sites``.
    environ
        Holds the key (``MP_API_KEY``, or pymatgen's ``PMG_MAPI_KEY``) and perhaps ``MP_API_ENDPOINT``.
    say
        Receives lines for the user.
    timeout
        Seconds to wait for an answer.

    Raises
    ------
    MaterialsProjectError
        No key, a refused key, no network, a timeout, too many requests, an unreadable or truncated answer, a
        theoretical structure, two rows of one material, or no structure at all; with the remedy.
    """
    connection = connect(environ, timeout, "prototype source 'materials_project', 'aflow' or 'folder'")
    version = connection.database_version()
    say(f"fetching observed structures from the Materials Project, database {version}; this takes some minutes")
    rows: list[dict[str, Any]] = []
    for elements in range(settings.min_elements, settings.max_elements + 1):
        for sites in _ranges(settings.max_sites):
            found = _search(connection, elements, sites)
            rows += [_row(document) for document in found]
        say(f"observed structures: {len(rows):,} so far, of up to {elements} elements")
    _refuse_repeated(rows)
    if not rows:
        raise MaterialsProjectError(
            "the Materials Project has no observed structure of so many elements and sites; widen "
            "candidates.prototypes.min_elements, max_elements or max_sites"
        )
    rows.sort(key=lambda row: str(row["material_id"]))
    words = (
        f"theoretical=False, deprecated=False, num_elements={(settings.min_elements, settings.max_elements)}, "
        f"num_sites={(1, settings.max_sites)}"
    )
    return FetchedStructures(version, words, tuple(rows))


def _ranges(most: int) -> list[tuple[int, int]]:
    """Numbers of sites from 1 to the most, in ranges of about equally many crystals."""
    ends = [*(e for e in _MOST_SITES_OF_A_SEARCH if e < most), most]
    return [(first + 1, last) for first, last in zip([0, *ends], ends, strict=False)]


def _search(connection: Connection, elements: int, sites: tuple[int, int]) -> Iterable[dict[str, Any]]:
    numbers = span("nelements", (elements, elements)) | span("nsites", sites)
    chosen = {"theoretical": False, "deprecated": False}
    rows = connection.search(
        ("summary", "SummaryRester"),
        {"num_elements": (elements, elements), "num_sites": sites, **chosen},
        {**numbers, **chosen},
        _FIELDS,
        _PAGE,
    )
    for row in rows:
        if row.get("theoretical") is not False:
            raise MaterialsProjectError(
                f"{row.get('material_id')} ({row.get('formula_pretty')}) came with theoretical = "
                f"{row.get('theoretical')!r} where observed structures were asked for; update mp-api, or use prototype "
                "source 'materials_project', 'aflow' or 'folder'"
            )
    return rows


def _row(document: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of one document; without cell when its structure can't be read."""
    from pymatgen.core import Structure

    name, formula = document.get("material_id"), document.get("formula_pretty")
    if not isinstance(name, str) or not isinstance(formula, str):
        raise MaterialsProjectError(
            f"the Materials Project sent a structure without id or formula ({shortened(str(name))}, "
            f"{shortened(str(formula))}); run the same command again, and update mp-api if it stays so"
        )
    row: dict[str, Any] = {"material_id": name, "formula": formula, "n_sites": 0}
    row |= {"cell_parameters": [], "species": [], "frac_coords": []}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns of site properties that it does not know
            structure = Structure.from_dict(document["structure"])
        return row | {
            "n_sites": len(structure),
            "cell_parameters": [float(x) for x in structure.lattice.parameters],
            "species": [site.specie.symbol for site in structure],
            "frac_coords": [float(x) for x in structure.frac_coords.reshape(-1)],
        }
    except Exception:  # whatever a malformed document breaks: the row is named as broken when the library is built
        return row


def _refuse_repeated(rows: list[dict[str, Any]]) -> None:
    name, times = Counter(row["material_id"] for row in rows).most_common(1)[0] if rows else ("", 0)
    if times > 1:
        raise MaterialsProjectError(
            f"{name} came {times} times where one row a material is expected; run the same command again, and update "
            "mp-api if it stays so"
        )
