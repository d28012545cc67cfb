"""Prototype libraries on disk: one Parquet row a prototype, version and counts in the file's metadata.

What was left out is a CSV file of its own: only people read it.
"""

from __future__ import annotations

import csv
import json
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.reference.prototype_library import LIBRARY_VERSION, LeftOut, Member, Prototype, PrototypeLibrary
from pipeline.reference.prototype_sources import PrototypeError

META_KEY = b"ionsieve_prototypes"


def save(library: PrototypeLibrary, path: Path) -> None:
    """Write a library; arrays become lists, members a JSON string."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(p) for p in library.prototypes]
    strings = [("prototype_id", "source_id", "formula", "frame", "members", "ties"), pa.string()]
    floats = [("lattice", "frac_coords"), pa.list_(pa.float64())]
    integers = [("site_orbit", "orbit_charges", "orbit_multiplicities", "orbit_class", "images"), pa.list_(pa.int64())]
    lists = [("orbit_elements", "orbit_wyckoffs"), pa.list_(pa.string())]
    numbers = [("spacegroup_number",), pa.int64()]
    kinds = {n: kind for names, kind in (strings, floats, integers, lists, numbers) for n in names}
    schema = pa.schema([pa.field(f.name, kinds[f.name]) for f in fields(Prototype)])
    meta = json.dumps({"version": LIBRARY_VERSION, "counts": library.counts, "digest": library.digest})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema).replace_schema_metadata({META_KEY: meta}), path)


def save_left_out(library: PrototypeLibrary, path: Path) -> None:
    """Write the list of crystals that are no prototype."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([f.name for f in fields(LeftOut)])
        writer.writerows(astuple(entry) for entry in library.left_out)


def _row(prototype: Prototype) -> dict[str, Any]:
    row: dict[str, Any] = {f.name: getattr(prototype, f.name) for f in fields(Prototype)}
    for name in ("lattice", "frac_coords", "site_orbit"):
        row[name] = row[name].reshape(-1).tolist()
    row["images"] = [len(prototype.images), *np.flatnonzero(prototype.images).tolist()]
    for name in ("orbit_elements", "orbit_charges", "orbit_multiplicities", "orbit_wyckoffs", "orbit_class"):
        row[name] = list(row[name])
    row["members"] = json.dumps([[m.source_id, m.formula, list(m.class_elements)] for m in prototype.members])
    row["ties"] = json.dumps([list(t) for t in prototype.ties])
    return row


def load(path: Path) -> PrototypeLibrary:
    """Read a library.

    Raises
    ------
    PrototypeError
        When the file can't be read, is no library, is of another version, or does not match its own digest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise PrototypeError(
            f"prototype library {path} can't be read ({str(error).splitlines()[0]}); delete it and run again"
        ) from error
    meta = (table.schema.metadata or {}).get(META_KEY)
    if meta is None:
        raise PrototypeError(f"{path} is no prototype library of ionsieve")
    about = json.loads(meta)
    if about["version"] != LIBRARY_VERSION:
        raise PrototypeError(
            f"prototype library {path} has version {about['version']}, not {LIBRARY_VERSION}; build it anew"
        )
    library = PrototypeLibrary(tuple(_prototype(row) for row in table.to_pylist()), about["counts"])
    if library.digest != about["digest"]:
        raise PrototypeError(f"prototype library {path} does not match its own digest; delete it and run again")
    return library


def _prototype(row: dict[str, Any]) -> Prototype:
    row["lattice"] = np.array(row["lattice"], dtype=float).reshape(3, 3)
    row["frac_coords"] = np.array(row["frac_coords"], dtype=float).reshape(-1, 3)
    row["site_orbit"] = np.array(row["site_orbit"], dtype=np.int64)
    count, *filled = row["images"]
    images = np.zeros((count, len(row["orbit_elements"]), len(row["orbit_elements"])), dtype=bool)
    images.reshape(-1)[filled] = True
    row["images"] = images
    for name in ("orbit_elements", "orbit_charges", "orbit_multiplicities", "orbit_wyckoffs", "orbit_class"):
        row[name] = tuple(row[name])
    row["members"] = tuple(Member(s, f, tuple(e)) for s, f, e in json.loads(row["members"]))
    row["ties"] = tuple(tuple(t) for t in json.loads(row["ties"]))
    return Prototype(**row)
