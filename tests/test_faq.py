"""docs/faq.md: its numbers are the code's, its names exist, its examples run."""

import re
from pathlib import Path

import pytest

from pipeline import schema
from pipeline.config import PracticalitySettings, RunSettings, StabilitySettings
from pipeline.stages.practicality import SYMMETRY_TOLERANCE
from pipeline.surrogates.catalogue import CATALOGUE
from scripts.configuration_reference import anchor
from scripts.synthetic_run import write_run
from tests.test_configuration_page import all_keys
from workflows.export import read_crystals, write_extxyz, write_optimade
from workflows.lock import STALE_AFTER_SECONDS
from workflows.terminal import EXIT_BAD_INPUT, EXIT_FAILED_ROWS, EXIT_INTERRUPTED

DOCS = Path(__file__).resolve().parent.parent / "docs"
FAQ = (DOCS / "faq.md").read_text(encoding="utf-8")
TEXT = " ".join(FAQ.split())


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", FAQ)
    assert len(links) >= 3
    for name, place in links:
        headings = re.findall(r"^#+ (.*)$", (DOCS / name).read_text(encoding="utf-8"), flags=re.M)
        assert not place or place in {anchor(heading) for heading in headings}


def test_bounds_of_suspicion_are_the_defaults() -> None:
    bounds = StabilitySettings().suspect
    assert f"more than {-bounds.energy_above_hull_below:g} eV/atom below the hull" in TEXT
    assert f"nearer than {bounds.distance_ratio_below:g} of the sum" in TEXT
    assert f"changed by more than {bounds.volume_change_above:.0%}".replace("%", " %") in TEXT
    assert f"disagree by more than {bounds.energy_disagreement_above:g} eV/atom" in TEXT


def test_numbers_are_those_of_the_code() -> None:
    assert f"`stability.rattle`, {StabilitySettings().rattle:g} Å" in TEXT
    assert f"`run.allowed_failed_share` ({RunSettings().allowed_failed_share:.0%})".replace("%", " %") in TEXT
    assert f"heartbeat is {STALE_AFTER_SECONDS:.0f} s old" in TEXT
    assert f"found within {SYMMETRY_TOLERANCE:g} Å" in TEXT
    assert (EXIT_FAILED_ROWS, EXIT_BAD_INPUT, EXIT_INTERRUPTED) == (1, 2, 3)
    assert re.search(r"0: done\. 1: done, and more rows failed .* 2: bad configuration .* 3: interrupted", TEXT)


def test_models_have_the_conventions_and_schemes_it_names() -> None:
    assert CATALOGUE["M3GNet-MP-2021.2.8-PES"].scheme == "mp_raw"
    assert CATALOGUE["CHGNet"].scheme == "mp2020"
    assert CATALOGUE["M3GNet-MatPES-PBE-v2025.1-PES"].scheme == "matpes_pbe"
    of_matgl = [entry for entry in CATALOGUE.values() if entry.architecture != "CHGNet"]
    assert {entry.convention for entry in of_matgl} == {"destination"}


def test_keys_and_columns_that_it_names_exist() -> None:
    keys = {f"{place.replace('stage: ', '')}.{name}" for place, _, name in all_keys()}
    named = re.findall(r"`((?:stability|conduction|window|practicality|ranking|potential|run|cluster)\.\w+)`", FAQ)
    assert len(set(named)) >= 10
    assert set(named) <= keys
    assert {PracticalitySettings, StabilitySettings} <= {model for _, model, _ in all_keys()}
    for column in ("energy_above_hull_with_candidates", "reduction_limit_Li", "suspect_reason", "in_database"):
        assert f"`{column}`" in FAQ
        assert schema.column(column).meaning


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", FAQ, flags=re.S))
def test_examples_run(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_crystals(write_run(tmp_path / "run", 60))
    write_extxyz(found, tmp_path / "shortlist.extxyz")
    write_optimade(found, tmp_path / "shortlist.optimade.jsonl")
    monkeypatch.chdir(tmp_path)
    read: dict[str, object] = {}
    exec(compile(example, "faq.md", "exec"), read)
    loaded = read.get("frames") or read["structures"]
    assert isinstance(loaded, list)
    assert len(loaded) == len(found.crystals)
