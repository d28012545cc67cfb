"""docs/configuration.md: every key is there, links lead somewhere, and examples are values that are accepted."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter

from pipeline.config import Campaign
from pipeline.gates import Gate
from scripts.configuration_reference import EXAMPLES, anchor, configuration_page

PAGE = configuration_page()


def section(heading: str) -> str:
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PAGE, flags=re.M | re.S)
    assert found is not None, heading
    return found.group(1)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def keys(model: type[BaseModel], place: str) -> list[tuple[str, type[BaseModel], str]]:
    """Every key of a model and of those below it: its section, its model, its name."""
    found = []
    for name, field in model.model_fields.items():
        found.append((place, model, name))
        for below in models_in(field.annotation):
            if below is Gate or (place == "The campaign" and name == "stages"):
                continue
            found += keys(below, name if place == "The campaign" else f"{place.replace('stage: ', 'stages.')}.{name}")
    return found


def all_keys() -> list[tuple[str, type[BaseModel], str]]:
    found = keys(Campaign, "The campaign")
    for stage in models_in(Campaign.model_fields["stages"].annotation):
        found += keys(stage, f"stage: {stage.model_fields['stage'].default}")
    return [*found, *(("gates", Gate, name) for name in Gate.model_fields)]


def test_every_key_has_a_row_with_its_default() -> None:
    assert len(all_keys()) > 120
    for place, model, name in all_keys():
        where = "stages" if place.startswith("stage: ") and name in ("stage", "name", "gates") else place
        row = re.search(rf"^\| `{name}` \|(.*)$", section(where), flags=re.M)
        assert row is not None, f"{place}: {name}"
        default = model.model_fields[name].default
        if isinstance(default, bool | int) and where == place:
            assert f"| `{str(default).lower()}` |" in row.group(0)
        assert ("**required**" in row.group(0)) == (model.model_fields[name].is_required() or name == "stage")


def test_units_and_bounds_of_a_few_keys() -> None:
    assert re.search(
        r"`spacing` \| number \| `0.25` \| ≥ 0.05, ≤ 1.0 \| grid spacing, Å \|", section("stage: conduction")
    )
    assert re.search(r"conduction \| `migration_barrier_3d` \| eV \| 0 to 50", section("gates"))
    assert "| `chunk_size` | integer | `256` |" in section("stage: window")


def test_links_lead_to_headings() -> None:
    headings = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", PAGE, flags=re.M)}
    links = set(re.findall(r"\(#([^)]*)\)", PAGE))
    assert len(links) > 10
    assert links <= headings


@pytest.mark.parametrize("key", sorted(EXAMPLES))
def test_examples_of_our_own_are_accepted(key: str) -> None:
    by_place = {f"{place.replace('stage: ', 'stages.')}.{name}": (model, name) for place, model, name in all_keys()}
    model, name = by_place[key]
    adapter = TypeAdapter(model.model_fields[name].rebuild_annotation())
    adapter.validate_python(EXAMPLES[key])
    assert f"{name}: " in section(key.rpartition(".")[0].replace("stages.", "stage: ", key.count(".") == 2))
    with pytest.raises(ValueError, match="validation error"):
        adapter.validate_python(object())


def test_the_page_is_the_file() -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == PAGE, "run `make schema`"
