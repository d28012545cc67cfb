"""A stand-in for the Materials Project's server on 127.0.0.1: its routes and JSON shapes, invented rows.

Routes and parameters are those that mp-api 0.46 requests and emmet-api answers: ``/heartbeat`` and
``/materials/thermo/`` with ``chemsys``, ``thermo_types``, ``nelements_min/max``, ``_fields``, ``_limit``, ``_skip``;
``/materials/summary/`` with ``nelements_min/max``, ``nsites_min/max``, ``theoretical``, ``deprecated``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pymatgen.core import Composition, Structure

KEY = "0123456789abcdef0123456789abcdef"
MIXED = "GGA_GGA+U_R2SCAN"


def row(material: str, formula: str, formation: float | None, total: float, thermo_type: str = "GGA_GGA+U") -> Any:
    """One document of the thermo collection."""
    composition = Composition(formula)
    symbols = sorted(element.symbol for element in composition.elements)
    return {
        "material_id": material,
        "thermo_id": f"{material}_{thermo_type}",
        "thermo_type": thermo_type,
        "formula_pretty": composition.reduced_formula,
        "elements": symbols,
        "nelements": len(symbols),
        "chemsys": "-".join(symbols),
        "formation_energy_per_atom": formation,
        "uncorrected_energy_per_atom": total,
        "last_updated": {"$date": "2025-02-12T18:53:34.120Z"},
    }


def collection() -> list[dict[str, Any]]:
    """Invented energies, eV/atom; Li and Cl have two phases each, and one row is of the mixed type."""
    return [
        row("mp-1", "Li", 0.0, -1.9),
        row("mp-2", "Li", 0.02, -1.88),
        row("mp-3", "Na", 0.0, -1.3),
        row("mp-4", "Cl2", 0.0, -1.8),
        row("mp-5", "Cl2", 0.01, -1.79),
        row("mp-6", "Y", 0.0, -6.4),
        row("mp-7", "O2", 0.0, -4.9),
        row("mp-11", "LiCl", -2.1, -3.6),
        row("mp-12", "LiCl", -2.05, -3.55),
        row("mp-13", "NaCl", -2.0, -3.3),
        row("mp-14", "YCl3", -2.4, -5.1),
        row("mp-15", "Na3YCl6", -2.3, -4.5),
        row("mp-16", "Li2O", -2.0, -4.7),
        row("mp-17", "LiCl", -9.9, -9.9, MIXED),
        row("mp-18", "NaYO2", None, -6.0),
    ]


def document(material: str, structure: Structure, *, theoretical: bool = False, deprecated: bool = False) -> Any:
    """One document of the summary collection."""
    return {
        "material_id": material,
        "formula_pretty": structure.composition.reduced_formula,
        "nelements": len(structure.composition),
        "nsites": len(structure),
        "theoretical": theoretical,
        "deprecated": deprecated,
        "structure": structure.as_dict(),
    }


@dataclass
class Server:
    """What the stand-in holds, how it misbehaves, and what it was asked."""

    rows: list[dict[str, Any]] = field(default_factory=collection)
    documents: list[dict[str, Any]] = field(default_factory=list)
    version: str = "2025.09.25"
    url: str = ""
    refuse_key_with: int = 401
    statuses: dict[str, int] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    ignore_thermo_types: bool = False
    ignore_theoretical: bool = False
    lose_pages_after: int | None = None
    stall: threading.Event | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def searches(self) -> list[dict[str, str]]:
        """Parameters of the requests for phases and structures, counts left out."""
        return [query for path, query in self.asked if path.startswith("/materials/") and query["_limit"] != "1"]

    def answer(self, path: str, query: dict[str, str], key: str | None) -> tuple[int, bytes]:
        """Status and body of a request."""
        self.asked.append((path, query))
        if self.stall is not None:
            self.stall.wait(timeout=30)
        if path in self.statuses:
            return self.statuses[path], json.dumps({"message": "API rate limit exceeded"}).encode()
        if path in self.bodies:
            return 200, self.bodies[path]
        if path == "/heartbeat":
            return 200, json.dumps(
                {"status": "OK", "version": "0.87.3", "db_version": self.version, "access_controlled_batch_ids": []}
            ).encode()
        if path not in ("/materials/thermo/", "/materials/summary/"):
            return 404, b'{"message":"no Route matched with those values"}'
        if key != KEY:
            return self.refuse_key_with, b'{"message":"Invalid authentication credentials"}'
        return 200, json.dumps(self._search(query, path)).encode()

    def _search(self, query: dict[str, str], path: str) -> dict[str, Any]:
        found = self.rows if path == "/materials/thermo/" else self.documents
        if "thermo_types" in query and not self.ignore_thermo_types:
            found = [r for r in found if r["thermo_type"] in query["thermo_types"].split(",")]
        if "chemsys" in query:
            found = [r for r in found if r["chemsys"] in query["chemsys"].split(",")]
        if "nelements_max" in query:
            span = range(int(query["nelements_min"]), int(query["nelements_max"]) + 1)
            found = [r for r in found if r["nelements"] in span]
        if "nsites_max" in query:
            found = [r for r in found if int(query["nsites_min"]) <= r["nsites"] <= int(query["nsites_max"])]
        for flag in ("theoretical", "deprecated"):
            if flag in query and not (flag == "theoretical" and self.ignore_theoretical):
                found = [r for r in found if r[flag] is (query[flag].lower() == "true")]
        start = int(query.get("_skip", 0))
        page = found[start : start + int(query.get("_limit", 100))]
        if self.lose_pages_after is not None and start >= self.lose_pages_after:
            page = []
        fields = query["_fields"].split(",")
        return {
            "data": [{name: r[name] for name in fields} for r in page],
            "meta": {"api_version": "0.87.3", "time_stamp": "2025-10-01T00:00:00", "total_doc": len(found)},
        }


@contextmanager
def materials_project(server: Server) -> Iterator[Server]:
    """Serve on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, body = server.answer(parts.path, query, self.headers.get("x-api-key"))
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client stopped waiting

        def log_message(self, format: str, *args: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{listener.server_port}"
    try:
        yield server
    finally:
        if server.stall is not None:
            server.stall.set()
        listener.shutdown()
        listener.server_close()
        thread.join()
