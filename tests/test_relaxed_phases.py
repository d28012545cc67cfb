"""Relaxed competing phases in the user's cache: shared between campaigns, and never a change of a byte."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client
from rich.console import Console

from pipeline.cache import user_cache
from pipeline.config import ClusterSettings, ReferenceSettings, load_campaign
from pipeline.reference.competing import competing_phases
from pipeline.reference.self_consistent import write_self_consistent_reference
from pipeline.surrogates.potential import Potential
from tests.campaigns import events
from workflows.cluster import connect
from workflows.files import digest_of
from workflows.identity import Digests
from workflows.preflight import find_inputs
from workflows.progress import ProgressView
from workflows.relaxed_phases import RelaxedPhases, cut_by_system, first_tries
from workflows.runner import Run
from workflows.session import open_references
from workflows.store import RunFolder, Unit
from workflows.worker import ReferencesPlugin, UnitResult

CONFIG = """\
name: tiny
mobile_ions: [Li]
candidates:
  prototypes: {{source: aflow, max_sites: 2}}
  elements: [{elements}]
  substitution: isovalent
potential: {{model: CHGNet}}
reference: {{source: prototypes, max_sites: 2, chunk_size: 8}}
stages:
  - stage: stability
    max_steps: 1
ranking:
  score: [{{column: energy_above_hull, best: 0.0, worst: 0.1}}]
  pareto: [{{column: energy_above_hull, goal: min}}]
"""


class InterruptedRunError(Exception):
    """The run ended between two units."""


class View(ProgressView):
    """Keep what is said; end the run when enough units are committed."""

    def __init__(self, units: int | None) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.said: list[str] = []
        self._left = units

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, rows: int) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise InterruptedRunError


class Reference:
    """The self-consistent reference of one run folder: CHGNet on elements and salts of two atoms at most."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.folder = RunFolder(folder)
        self.folder.create()

    def relax(self, elements: str, units: int | None = None) -> str:
        """Go through the step, to its end or until some units are done; return what was said."""
        config = self.folder.path / "tiny.yaml"
        config.write_text(CONFIG.format(elements=elements))
        inputs = find_inputs(load_campaign(config), config)
        view = View(units)
        references, digests = open_references(inputs, self.folder, view)
        self.client.register_plugin(ReferencesPlugin(references, 1))
        self.home = references.phases_path.parent
        Run(inputs.campaign, self.folder, self.client, references, digests, view).relax_competing_phases()
        return "\n".join(view.said)

    def bytes(self) -> list[bytes]:
        """The tables that everything after depends on."""
        return [(self.home / name).read_bytes() for name in ("phases.csv", "elements.csv")]

    def rows(self, event: str) -> int:
        """Rows that were computed (``unit``) or taken from the cache."""
        return sum(e["rows"] for e in events(self.folder.path, event))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connect(ClusterSettings(kind="local", workers=1)) as connected:
        yield connected


@pytest.fixture(scope="module")
def alone(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Of three elements, with an empty cache."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IONSIEVE_CACHE", str(folder / "cache"))
        reference = Reference(client, folder / "run")
        reference.relax("Li, Na, Cl")
    return reference


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    return user_cache() / "competing_phases"


def test_one_element_more_relaxes_the_new_systems_only_and_changes_no_byte(
    client: Client, alone: Reference, cache: Path, tmp_path: Path
) -> None:
    smaller = Reference(client, tmp_path / "smaller")
    smaller.relax("Li, Cl")
    larger = Reference(client, tmp_path / "larger")
    said = larger.relax("Li, Na, Cl")
    assert larger.rows("unit from the cache") == smaller.rows("unit")
    assert f"{smaller.rows('unit')} from the cache" in said
    assert larger.rows("unit") == alone.rows("unit") - smaller.rows("unit") > 0
    assert larger.bytes() == alone.bytes()


def test_interrupted_and_resumed_and_damaged_give_the_same_bytes(
    client: Client, alone: Reference, cache: Path, tmp_path: Path
) -> None:
    first = Reference(client, tmp_path / "first")
    with pytest.raises(InterruptedRunError):
        first.relax("Li, Na, Cl", units=2)  # the third is in the run folder by then, and not yet in the cache
    first.relax("Li, Na, Cl")
    assert first.bytes() == alone.bytes()

    kept = sorted(cache.glob("*/*.parquet"))
    kept[0].write_bytes(kept[0].read_bytes()[:-20])
    content = bytearray(kept[1].read_bytes())
    content[100:-2000:50] = bytes(len(content[100:-2000:50]))
    kept[1].write_bytes(content)
    second = Reference(client, tmp_path / "second")
    said = second.relax("Li, Na, Cl")
    assert said.count("is damaged; its phases are relaxed again") == 2
    assert second.bytes() == alone.bytes()
    assert second.rows("unit from the cache") > 0
    assert len(sorted(cache.glob("*/*.parquet"))) >= len(kept)
    third = Reference(client, tmp_path / "third")
    assert "damaged" not in third.relax("Li, Na, Cl")
    assert third.bytes() == alone.bytes()


@pytest.fixture
def part(cache: Path) -> pd.DataFrame:
    rows = competing_phases(("Li",), ReferenceSettings(source="prototypes", max_elements=1))
    return rows.head(3)


MACHINE = {"processor": "one"}


def shared_by(conditions: str, said: list[str], *machines: dict[str, str]) -> RelaxedPhases:
    return RelaxedPhases(conditions, machines or [MACHINE], said.append)


def result(part: pd.DataFrame, error: str = "", *, whole: bool = True, machine: dict[str, str] = MACHINE) -> UnitResult:
    columns = {"candidate_id": part["candidate_id"].tolist(), "competing_phases_error": [error] * len(part)}
    return UnitResult(pa.table(columns), {"rows": len(part), "whole": whole, "machine": digest_of(machine)})


def test_a_unit_is_found_by_its_crystals_and_conditions_alone(part: pd.DataFrame) -> None:
    said: list[str] = []
    shared = shared_by("these conditions", said)
    assert shared.find(part) is None
    shared.keep(part, result(part))
    assert shared.find(part) == result(part).table
    moved = part.assign(lattice=[[1.01 * x for x in lattice] for lattice in part["lattice"]])
    assert shared.find(moved) is None
    assert shared.find(part.head(2)) is None
    assert shared_by("other conditions", said).find(part) is None
    assert said == []


def test_names_of_files_are_digests(part: pd.DataFrame) -> None:
    path = shared_by("../../elsewhere", []).path_of(part.assign(candidate_id="../../etc/passwd"))
    assert path.parent.parent == user_cache() / "competing_phases"
    assert set(path.stem) | set(path.parent.name) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("error", "whole"), [("", False), ("MemoryError: no room", True), ("OutOfMemoryError: CUDA", True)]
)
def test_what_another_run_would_not_get_is_not_kept(part: pd.DataFrame, error: str, whole: bool) -> None:
    shared = shared_by("conditions", [])
    shared.keep(part, result(part, error, whole=whole))
    assert shared.find(part) is None
    shared.keep(part, result(part, "ValueError: the cell has no volume"))
    assert shared.find(part) is not None


def test_workers_of_several_kinds_share_nothing(part: pd.DataFrame) -> None:
    shared_by("conditions", []).keep(part, result(part))
    unused = shared_by("conditions", [], MACHINE, {"processor": "other"})
    assert unused.find(part) is None
    unused.keep(part.head(2), result(part.head(2)))
    assert shared_by("conditions", []).find(part.head(2)) is None


def test_what_a_later_worker_of_another_kind_relaxed_is_not_kept(part: pd.DataFrame) -> None:
    shared = shared_by("conditions", [])
    shared.keep(part, result(part, machine={"processor": "other"}))
    assert shared.find(part) is None
    shared.keep(part, result(part))
    assert shared.find(part) is not None


def test_a_file_under_another_units_name_is_not_taken(part: pd.DataFrame) -> None:
    said: list[str] = []
    shared = shared_by("conditions", said)
    shared.keep(part, result(part))
    shared.path_of(part).rename(shared.path_of(part.head(2)))
    assert shared.find(part.head(2)) is None
    assert "is damaged" in said[0]


def test_a_folder_that_cannot_be_written_is_said_once(part: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    said: list[str] = []
    shared = shared_by("conditions", said)
    shared.keep(part, result(part))
    shared.keep(part.head(2), result(part.head(2)))
    assert len(said) == 1
    assert "can't be written" in said[0]


def test_units_are_cut_by_chemical_system_whatever_else_is_there() -> None:
    settings = ReferenceSettings(source="prototypes", max_sites=4)
    few, more = (competing_phases(e, settings) for e in (("Li", "Cl"), ("Cl", "Na", "Li")))

    def works(rows: pd.DataFrame) -> list[list[str]]:
        return cut_by_system(rows.sort_values(["nsites", "candidate_id"], ascending=[False, True]), 5)

    assert all(unit in works(more) for unit in works(few))
    assert {c for unit in works(more) for c in unit} == set(more["candidate_id"])
    assert max(map(len, works(more))) == 5


def test_the_library_changes_the_reference_only_where_it_is_substituted(tmp_path: Path) -> None:
    def digest(library: str, prototypes: str) -> str:
        config = tmp_path / "tiny.yaml"
        config.write_text(CONFIG.format(elements="Li, Cl").replace("max_sites: 2, chunk", f"{prototypes}chunk"))
        digests = Digests(load_campaign(config), library=library, models={"potential": "weights"}, table=None, known="")
        return digests.competing_phases()

    default, aflow, own = "", "prototypes: aflow, ", "prototypes: campaign, "
    assert digest("one", default) == digest("other", default) == digest("one", aflow)
    assert len({digest("one", default), digest("one", own), digest("other", own)}) == 3


def test_the_reference_is_made_of_relaxed_crystals(
    client: Client, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distances decide about corrections (oxide or peroxide); candidates are judged by their relaxed crystals too."""
    seen = []

    def watched(rows: pd.DataFrame, potential: Potential) -> tuple[pd.DataFrame, pd.DataFrame]:
        seen.append(rows)
        return write_self_consistent_reference(rows, potential)

    monkeypatch.setattr("workflows.runner.write_self_consistent_reference", watched)
    reference = Reference(client, tmp_path / "run")
    reference.relax("Li, Cl")
    (rows,) = seen
    parts = [path for path in reference.home.glob("**/*.parquet") if "candidate_id" in pq.read_schema(path).names]
    relaxed = pd.concat([pd.read_parquet(path) for path in parts]).set_index("candidate_id")
    starts = competing_phases(("Li", "Cl"), ReferenceSettings(source="prototypes", max_sites=2)).set_index(
        "candidate_id"
    )
    done = rows[rows["competing_phases_status"] == "ok"]
    assert len(done) > 3
    for row in done.to_dict("records"):
        np.testing.assert_array_equal(row["lattice"], relaxed.loc[row["candidate_id"], "lattice"])
        assert not np.array_equal(row["lattice"], starts.loc[row["candidate_id"], "lattice"])


def test_a_retry_is_no_first_try() -> None:
    assert first_tries([Unit(0, ["a", "b"]), Unit(1, ["c"]), Unit(2, ["b"]), Unit(3, ["d"])]) == {0, 1, 3}


def test_folder_follows_the_environment(tmp_path: Path) -> None:
    assert user_cache({"IONSIEVE_CACHE": str(tmp_path), "XDG_CACHE_HOME": "/elsewhere"}) == tmp_path
    assert user_cache({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "ionsieve"
    assert user_cache({}) == Path.home() / ".cache" / "ionsieve"
