"""Prototypes from the Materials Project, through a stand-in of its server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mp_api.client.routes.materials.summary import SummaryRester
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from pipeline.candidate_settings import PrototypeSettings
from pipeline.config import load_campaign
from pipeline.reference import observed_structures
from pipeline.reference.fetched_phases import MaterialsProjectError
from pipeline.reference.observed_structures import fetch_structures
from pipeline.reference.prototypes import build_library
from tests.campaigns import CONFIG
from tests.materials_project_server import KEY, Server, document
from tests.materials_project_server import materials_project as serving
from workflows.cli import app
from workflows.phase_cache import materials_project_structures
from workflows.preflight import find_inputs

SETTINGS = PrototypeSettings(source="mp_api", max_elements=3, max_sites=8)


def salt(cation: str, anion: str, a: float) -> Structure:
    side = a / 2**0.5
    return Structure(Lattice.from_parameters(side, side, side, 60, 60, 60), [cation, anion], [[0, 0, 0], [0.5] * 3])


def collection() -> list[dict[str, Any]]:
    chain = Structure(Lattice.tetragonal(3, 18), ["Li", "Cl"] * 3, [[0, 0, i / 6] for i in range(6)])
    faces = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    perovskite = Structure(Lattice.cubic(4.4), ["K", "Mg", "F", "F", "F"], [[0, 0, 0], [0.5] * 3, *faces])
    return [
        document("mp-3", salt("Na", "Cl", 5.64)),
        document("mp-1", salt("K", "Cl", 6.29)),
        document("mp-2", perovskite),
        document("mp-4", chain),
        document("mp-5", salt("Na", "I", 6.5), theoretical=True),
        document("mp-6", salt("Na", "Br", 6.0), deprecated=True),
        document("mp-7", Structure(Lattice.cubic(3.0), ["Po"], [[0, 0, 0]])),
    ]


@pytest.fixture(autouse=True)
def quick_mp_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare mp-api from making the JSON schema of all its fields, once for each field of each search."""
    names = list(SummaryRester.document_model.model_fields)
    monkeypatch.setattr(SummaryRester, "available_fields", property(lambda self: names))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server(documents=collection())) as running:
        yield running


@pytest.fixture
def environ(server: Server, tmp_path: Path) -> dict[str, str]:
    return {"MP_API_KEY": KEY, "MP_API_ENDPOINT": server.url, "IONSIEVE_CACHE": str(tmp_path / "cache")}


def refused(environ: dict[str, str], *words: str, timeout: int = 10) -> None:
    with pytest.raises(MaterialsProjectError) as caught:
        fetch_structures(SETTINGS, environ, timeout=timeout)
    for word in words:
        assert word in str(caught.value), caught.value
    assert KEY not in str(caught.value)


def test_observed_structures_of_the_allowed_numbers(server: Server, environ: dict[str, str], tmp_path: Path) -> None:
    found = fetch_structures(SETTINGS, environ)
    assert [row["material_id"] for row in found.rows] == ["mp-1", "mp-2", "mp-3", "mp-4"]
    assert found.rows[0]["formula"] == "KCl"
    assert found.rows[0]["cell_parameters"] == pytest.approx([6.29 / 2**0.5] * 3 + [60] * 3)
    spans = {(q["nelements_min"], q["nelements_max"], q["nsites_min"], q["nsites_max"]) for q in server.searches()}
    assert {s[:2] for s in spans} == {("2", "2"), ("3", "3")}
    assert {s[2:] for s in spans} == {("1", "4"), ("5", "8")}
    assert all(q["theoretical"] == "False" for q in server.searches())


def test_ranges_cover_every_number_of_sites_once() -> None:
    for most in (1, 4, 5, 50, 500):
        covered = [n for first, last in observed_structures._ranges(most) for n in range(first, last + 1)]
        assert covered == list(range(1, most + 1))


def test_what_was_fetched_makes_a_library(environ: dict[str, str]) -> None:
    cached = materials_project_structures(SETTINGS, environ)
    library = build_library(SETTINGS, cached.structures)
    assert library.counts == {"duplicate": 1, "kept": 3}
    assert {m.source_id for p in library for m in p.members} == {"mp-1", "mp-2", "mp-3", "mp-4"}
    assert pq.read_table(cached.structures).num_rows == cached.source["structures"] == 4


def test_a_structure_that_cannot_be_read_is_a_broken_row(server: Server, environ: dict[str, str]) -> None:
    server.documents[0]["structure"] = {"lattice": None}
    server.documents[1]["structure"] = None
    library = build_library(SETTINGS, materials_project_structures(SETTINGS, environ).structures)
    assert library.counts == {"broken_row": 2, "kept": 2}
    assert {e.source_id for e in library.left_out} == {"mp-1", "mp-3"}


def test_pages_are_read_to_the_last(server: Server, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fetch_structures(SETTINGS, environ)
    monkeypatch.setattr(observed_structures, "_PAGE", 1)
    assert fetch_structures(SETTINGS, environ) == whole


def test_a_lost_page_is_noticed(server: Server, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed_structures, "_PAGE", 1)
    server.lose_pages_after = 1
    refused(environ, "truncated", "1 rows of 2")


def test_theoretical_structures_are_refused(server: Server, environ: dict[str, str]) -> None:
    server.ignore_theoretical = True
    refused(environ, "mp-5 (NaI)", "theoretical = True")


def test_two_rows_of_one_material_are_refused(server: Server, environ: dict[str, str]) -> None:
    server.documents.append(document("mp-3", salt("Na", "Cl", 5.6)))
    refused(environ, "mp-3 came 2 times")


def test_no_structure_at_all_is_an_error(server: Server, environ: dict[str, str]) -> None:
    server.documents = []
    refused(environ, "no observed structure", "max_sites")


def test_a_missing_key_names_other_sources(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymatgen.core.SETTINGS", {})
    del environ["MP_API_KEY"]
    refused(environ, "set MP_API_KEY", "'materials_project', 'aflow' or 'folder'")


def test_a_refused_key(environ: dict[str, str]) -> None:
    environ["MP_API_KEY"] = "f" * 32
    refused(environ, "refused the key (status 401)")


def test_the_second_time_nothing_is_asked(server: Server, environ: dict[str, str]) -> None:
    first = materials_project_structures(SETTINGS, environ)
    asked = len(server.asked)
    again = materials_project_structures(SETTINGS, environ)
    assert (again.folder, again.source) == (first.folder, first.source)
    assert len(server.asked) == asked
    other = SETTINGS.model_copy(update={"max_sites": 4})
    assert materials_project_structures(other, environ).folder != first.folder


def test_a_torn_entry_is_fetched_again(server: Server, environ: dict[str, str]) -> None:
    first = materials_project_structures(SETTINGS, environ)
    whole = first.structures.read_bytes()
    first.structures.write_bytes(whole[:40])
    assert materials_project_structures(SETTINGS, environ).structures.read_bytes() == whole


@pytest.fixture
def campaign(tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    text = CONFIG.format(chunk_size=1, gate=0.1, workers=1, allowed=1.0)
    text = text.replace("{source: table, path: phases.csv, elemental_references: elements.csv}", "{source: prototypes}")
    text = text.replace(
        "{source: folder, path: crystals, min_elements: 1}", "{source: mp_api, max_elements: 3, max_sites: 8}"
    )
    config = tmp_path / "tiny.yaml"
    config.write_text(text.replace("substitution: none", "elements: [Li, Na, Cl]"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IONSIEVE_DATA", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return config


def test_a_campaign_names_what_it_fetched(server: Server, campaign: Path, environ: dict[str, str]) -> None:
    inputs = find_inputs(load_campaign(campaign), campaign, environ)
    assert inputs.fetched_structures["structures"] == 4
    assert any("4 observed structures" in note for note in inputs.notes)
    asked = len(server.asked)
    result = CliRunner().invoke(app, ["validate", str(campaign)])
    assert result.exit_code == 0, result.output
    assert "crystals read: 1 duplicate, 3 kept" in result.output
    assert ".left_out.csv" in result.output
    assert len(server.asked) == asked


def test_without_a_key_the_config_is_refused(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setattr("pymatgen.core.SETTINGS", {})
    result = CliRunner().invoke(app, ["validate", str(campaign)])
    assert result.exit_code == 2
    assert "candidates.prototypes: the Materials Project needs a key" in result.output.replace("\n", " ")


def test_a_path_beside_mp_api_is_refused() -> None:
    with pytest.raises(ValueError, match="has its own file"):
        PrototypeSettings(source="mp_api", path="x.parquet")
