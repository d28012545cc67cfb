"""Phases from the Materials Project, through a stand-in of its server."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipeline.config import load_campaign
from pipeline.reference import PhaseReference, materials_project
from pipeline.reference.fetched_phases import MaterialsProjectError
from pipeline.reference.materials_project import fetch_phases
from tests.campaigns import CONFIG
from tests.materials_project_server import KEY, MIXED, Server, row
from tests.materials_project_server import materials_project as serving
from workflows.cli import app
from workflows.phase_cache import materials_project_phases
from workflows.preflight import find_inputs
from workflows.progress import ProgressView
from workflows.provenance import manifest_of
from workflows.session import open_references
from workflows.store import RunFolder

ELEMENTS = ("Li", "Na", "Y", "Cl")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as running:
        yield running


@pytest.fixture
def environ(server: Server, tmp_path: Path) -> dict[str, str]:
    return {"MP_API_KEY": KEY, "MP_API_ENDPOINT": server.url, "IONSIEVE_CACHE": str(tmp_path / "cache")}


def refused(environ: dict[str, str], *words: str, elements: tuple[str, ...] = ELEMENTS, timeout: int = 10) -> None:
    with pytest.raises(MaterialsProjectError) as caught:
        fetch_phases(elements, environ, timeout=timeout)
    for word in words:
        assert word in str(caught.value), caught.value
    assert KEY not in str(caught.value)


def test_phases_of_every_subsystem_with_the_thermo_type_asked_for(server: Server, environ: dict[str, str]) -> None:
    found = fetch_phases(ELEMENTS, environ)
    assert found.database_version == "2025.09.25"
    assert [(p.formula, p.material_id, p.formation_energy) for p in found.phases] == [
        ("LiCl", "mp-11", -2.1),
        ("LiCl", "mp-12", -2.05),
        ("Na3YCl6", "mp-15", -2.3),
        ("NaCl", "mp-13", -2.0),
        ("YCl3", "mp-14", -2.4),
    ]
    assert found.elemental_energies == {"Cl": -1.8, "Li": -1.9, "Na": -1.3, "Y": -6.4}
    (query,) = server.searches()
    assert query["thermo_types"] == "GGA_GGA+U"
    systems = query["chemsys"].split(",")
    assert len(systems) == len(set(systems)) == 2**4 - 1
    assert {"Cl", "Cl-Li", "Cl-Li-Na-Y"} <= set(systems)
    assert set(query["_fields"].split(",")) >= {"formation_energy_per_atom", "uncorrected_energy_per_atom"}


def test_a_material_without_formation_energy_is_counted_and_left_out(environ: dict[str, str]) -> None:
    found = fetch_phases(("Na", "Y", "O", "Cl"), environ)
    assert found.without_energy == 1
    assert "mp-18" not in {p.material_id for p in found.phases}


def test_pages_are_read_to_the_last(server: Server, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fetch_phases(ELEMENTS, environ)
    server.asked.clear()
    monkeypatch.setattr(materials_project, "_PAGE", 4)
    assert fetch_phases(ELEMENTS, environ) == whole
    assert [query.get("_skip", "0") for query in server.searches()] == ["0", "4", "8"]


def test_twenty_elements_cost_few_requests(server: Server, environ: dict[str, str]) -> None:
    others = ["Be", "B", "C", "N", "F", "Mg", "Al", "Si", "P", "S", "K", "Ca", "Sc", "Ti", "V", "Cr"]
    server.rows += [row(f"mp-{100 + i}", symbol, 0.0, -3.0) for i, symbol in enumerate(others)]
    server.rows.append(row("mp-99", "Fe2O3", -1.6, -6.7))  # read, and not of these elements
    found = fetch_phases((*ELEMENTS, *others), environ)
    assert len(found.elements) == 20
    assert {p.formula for p in found.phases} == {"LiCl", "NaCl", "YCl3", "Na3YCl6"}
    assert len(server.asked) <= 4
    (query,) = server.searches()
    assert (query["nelements_min"], query["nelements_max"]) == ("1", "20")
    assert "chemsys" not in query


def test_thirteen_elements_are_asked_for_in_addresses_a_server_takes() -> None:
    symbols = ("Li", "Be", "B", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "P", "S")
    lists = [query["chemsys"] for query in materials_project._queries(symbols)]
    assert sum(map(len, lists)) == len({system for chosen in lists for system in chosen}) == 2**13 - 1
    assert len(lists) < 50
    assert max(len("%2C".join(chosen)) for chosen in lists) <= 6000


def test_another_thermo_type_is_refused(server: Server, environ: dict[str, str]) -> None:
    server.ignore_thermo_types = True
    refused(environ, "mp-17 (LiCl)", MIXED, "not mixed")


def test_two_rows_of_one_material_are_refused(server: Server, environ: dict[str, str]) -> None:
    server.rows.append(row("mp-13", "NaCl", -1.9, -3.2))
    refused(environ, "mp-13 (NaCl)", "2 times", "one row a material")


def test_an_element_without_a_phase_is_named(server: Server, environ: dict[str, str]) -> None:
    server.rows = [r for r in server.rows if r["formula_pretty"] != "Y"]
    refused(environ, "element Y", "leave it out")


def test_an_element_whose_most_stable_phase_is_missing_is_named(server: Server, environ: dict[str, str]) -> None:
    server.rows = [r for r in server.rows if r["material_id"] != "mp-1"]
    refused(environ, "element Li", "0.02")


@pytest.mark.parametrize("energy", ["-2.0", True, [1.0]])
def test_an_energy_that_is_no_number_is_named(server: Server, environ: dict[str, str], energy: object) -> None:
    server.rows[7]["formation_energy_per_atom"] = energy
    refused(environ, "mp-11", "formation_energy_per_atom", repr(energy))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"chemsys": None}, "chemical system"),
        ({"formula_pretty": "Li?"}, "formula"),
        ({"formula_pretty": "KCl"}, "system"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused(
    server: Server, environ: dict[str, str], change: dict[str, str | None], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materials_project, "_MOST_ELEMENTS_LISTED", 0)  # the whole collection, so that the row comes
    server.rows[7].update(change)
    refused(environ, word, "mp-11")


def test_rows_of_other_elements_need_no_readable_formula(
    server: Server, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materials_project, "_MOST_ELEMENTS_LISTED", 0)
    server.rows.append({**row("mp-98", "LiH", -0.4, -3.1), "formula_pretty": "LiD", "chemsys": "D-Li"})
    assert len(fetch_phases(ELEMENTS, environ).phases) == 5


def test_no_compound_at_all_is_an_error(environ: dict[str, str]) -> None:
    refused(environ, "no compound of Li", elements=("Li",))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key(server: Server, environ: dict[str, str], status: int) -> None:
    server.refuse_key_with = status
    environ["MP_API_KEY"] = "f" * 32
    refused(environ, "refused the key", str(status), "https://materialsproject.org/api", "MP_API_KEY")


def test_a_missing_key(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymatgen.core.SETTINGS", {})
    del environ["MP_API_KEY"]
    refused(environ, "https://materialsproject.org/api", "set MP_API_KEY")


def test_the_key_of_pymatgen_serves(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymatgen.core.SETTINGS", {"PMG_MAPI_KEY": KEY})
    del environ["MP_API_KEY"]
    assert fetch_phases(ELEMENTS, environ).phases


def test_a_key_of_another_kind_is_not_shown(server: Server, environ: dict[str, str]) -> None:
    environ["MP_API_KEY"] = "secret\nX-Header: 1"
    with pytest.raises(MaterialsProjectError, match="MP_API_KEY is no Materials Project key") as caught:
        fetch_phases(ELEMENTS, environ)
    assert "secret" not in str(caught.value)
    assert not server.asked


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/heartbeat", 429, ("too many requests", "wait")),
        ("/materials/thermo/", 429, ("too many requests", "wait")),
        ("/heartbeat", 503, ("status 503", "status.materialsproject.org")),
        ("/materials/thermo/", 500, ("status 500", "status.materialsproject.org")),
    ],
)
def test_a_server_in_trouble(
    server: Server, environ: dict[str, str], path: str, status: int, words: tuple[str, ...]
) -> None:
    server.statuses[path] = status
    refused(environ, server.url, *words)


@pytest.mark.parametrize(
    "body", [b'{"data": [{"material_id": "mp-1", "formu', b"<html>busy</html>", b'{"meta": {}}', b'{"data": 3}', b"[]"]
)
def test_a_broken_answer(server: Server, environ: dict[str, str], body: bytes) -> None:
    server.bodies["/materials/thermo/"] = body
    refused(environ, server.url, "answer", "run the same command again")


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"db_version": ""}'])
def test_a_broken_heartbeat(server: Server, environ: dict[str, str], body: bytes) -> None:
    server.bodies["/heartbeat"] = body
    refused(environ, "no database version", "MP_API_ENDPOINT")


def test_a_lost_page_is_noticed(server: Server, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materials_project, "_PAGE", 4)
    server.lose_pages_after = 4
    refused(environ, "truncated", "4 rows of 11")


def test_no_server(environ: dict[str, str]) -> None:
    with serving(Server()) as gone:
        environ["MP_API_ENDPOINT"] = gone.url
    refused(environ, "can't be reached", "check the network")


def test_a_server_that_does_not_answer(server: Server, environ: dict[str, str]) -> None:
    server.stall = threading.Event()
    refused(environ, "did not answer in time", timeout=1)


def test_without_mp_api_the_remedy_is_named(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mp_api.client.routes.materials.thermo", None)
    refused(environ, "ionsieve[mp]")


def test_the_second_time_nothing_is_asked(server: Server, environ: dict[str, str]) -> None:
    first = materials_project_phases(ELEMENTS, environ)
    assert first.source["database_version"] == "2025.09.25"
    assert first.source["phases"] == 5
    asked = len(server.asked)
    server.version = "2026.01.01"
    again = materials_project_phases(reversed(ELEMENTS), environ)
    assert (again.folder, again.source) == (first.folder, first.source)
    assert len(server.asked) == asked


def test_a_deleted_entry_is_fetched_anew(server: Server, environ: dict[str, str]) -> None:
    first = materials_project_phases(ELEMENTS, environ)
    shutil.rmtree(first.folder)
    server.version = "2026.01.01"
    assert materials_project_phases(ELEMENTS, environ).source["database_version"] == "2026.01.01"


def test_other_elements_are_another_entry(environ: dict[str, str]) -> None:
    first = materials_project_phases(ELEMENTS, environ)
    assert materials_project_phases(("Li", "Cl"), environ).folder != first.folder


@pytest.mark.parametrize("name", ["phases.csv", "elements.csv", "source.json"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_torn_entry_is_fetched_again(server: Server, environ: dict[str, str], name: str, how: str) -> None:
    first = materials_project_phases(ELEMENTS, environ)
    whole = (first.folder / "phases.csv").read_bytes()
    file = first.folder / name
    if how == "cut":
        file.write_bytes(file.read_bytes()[:20])
    else:
        file.unlink()
    asked = len(server.asked)
    again = materials_project_phases(ELEMENTS, environ)
    assert len(server.asked) > asked
    assert again.phases.read_bytes() == whole
    assert [path.name for path in first.folder.parent.iterdir()] == [first.folder.name]


def test_many_at_once_end_with_one_sound_entry(environ: dict[str, str]) -> None:
    torn = materials_project_phases(ELEMENTS, environ)
    (torn.folder / "phases.csv").write_text("formula,for")
    with ThreadPoolExecutor(4) as pool:
        entries = list(pool.map(lambda _: materials_project_phases(ELEMENTS, environ), range(8)))
    assert {entry.folder for entry in entries} == {torn.folder}
    assert [path.name for path in torn.folder.parent.iterdir()] == [torn.folder.name]
    reference = PhaseReference.from_table(torn.phases, elemental_references=torn.elements)
    assert reference.contains("Na3YCl6")


def test_a_cache_that_cannot_be_written(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environ["IONSIEVE_CACHE"] = str(tmp_path / "file")
    with pytest.raises(MaterialsProjectError, match="IONSIEVE_CACHE"):
        materials_project_phases(ELEMENTS, environ)


def test_the_tables_make_a_reference(environ: dict[str, str]) -> None:
    entry = materials_project_phases(ELEMENTS, environ)
    reference = PhaseReference.from_table(entry.phases, elemental_references=entry.elements)
    assert reference.scheme == "mp2020"
    assert reference.elemental_energies["Y"] == -6.4
    # The lower of the two rows of LiCl.
    assert reference.energy_above_hull(["LiCl"], [-2.0])[0] == pytest.approx(0.1)


SALT = """LiCl
5.13
0.0 0.5 0.5
0.5 0.0 0.5
0.5 0.5 0.0
Li Cl
1 1
direct
0.0 0.0 0.0
0.5 0.5 0.5
"""


@pytest.fixture
def campaign(tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "crystals").mkdir()
    (tmp_path / "crystals" / "salt.vasp").write_text(SALT)
    text = CONFIG.format(chunk_size=1, gate=0.1, workers=1, allowed=1.0)
    text = text.replace("{source: table, path: phases.csv, elemental_references: elements.csv}", "{source: mp_api}")
    config = tmp_path / "tiny.yaml"
    config.write_text(text.replace("  substitution: none", "  elements: [Li, Na, Y, Cl]\n  substitution: none"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IONSIEVE_DATA", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return config


def test_validate_fetches_once_and_says_so(server: Server, campaign: Path) -> None:
    for _ in range(2):
        done = CliRunner().invoke(app, ["validate", str(campaign)])
        assert done.exit_code == 0, done.output
        assert "5 from the Materials Project, database 2025.09.25" in done.stdout
        assert "is valid" in done.stdout
    assert len(server.searches()) == 1


def test_validate_without_a_key_ends_with_exit_code_2(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setattr("pymatgen.core.SETTINGS", {})
    done = CliRunner().invoke(app, ["validate", str(campaign)])
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert "set MP_API_KEY" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("elements: [Li, Na, Y, Cl]\n", "elements: []\n", "candidates.elements"),
        ("{source: mp_api}", "{source: mp_api, path: phases.csv}", "leave out the paths"),
    ],
)
def test_a_config_that_does_not_fit(server: Server, campaign: Path, old: str, new: str, word: str) -> None:
    campaign.write_text(campaign.read_text().replace(old, new))
    done = CliRunner().invoke(app, ["validate", str(campaign)])
    assert done.exit_code == 2, done.output
    assert word in done.stderr
    assert not server.asked


def test_the_run_folder_holds_the_phases_and_the_manifest_their_source(campaign: Path, tmp_path: Path) -> None:
    inputs = find_inputs(load_campaign(campaign), campaign)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    references, digests = open_references(inputs, folder, ProgressView(Console(quiet=True)))
    assert references.phases_path == folder.path / "reference" / "phases.csv"
    assert references.phases.contains("Na3YCl6")
    manifest = manifest_of(inputs, references)
    source = manifest["reference"]
    assert isinstance(source, dict)
    assert (source["source"], source["database_version"]) == ("mp_api", "2025.09.25")
    assert source["digest"] == inputs.table_digest
    assert "CC BY 4.0" in source["licence"]
    assert any("CC BY 4.0" in line for line in manifest["citations"])  # type: ignore[attr-defined]
    assert digests.stage(inputs.campaign.stages[0])


def test_other_energies_are_another_digest(server: Server, campaign: Path) -> None:
    found = find_inputs(load_campaign(campaign), campaign)
    before = found.table_digest
    server.rows[7]["formation_energy_per_atom"] = -2.11
    assert find_inputs(load_campaign(campaign), campaign).table_digest == before
    assert found.table is not None
    shutil.rmtree(found.table.parent)
    assert find_inputs(load_campaign(campaign), campaign).table_digest != before
