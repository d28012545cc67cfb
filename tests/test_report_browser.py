"""The report in headless Chromium: no console error, it sorts, filters, opens and draws, on wide and narrow screens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scripts.headless_chromium import NoBrowserError, headless_chromium, set_screen, wait_until
from scripts.synthetic_run import write_run
from workflows.report.page import write_report

pytestmark = pytest.mark.browser

HOSTILE = "<b onmouseover=alert(1)>LiCl"
WIDTHS = (1280, 390)

# Shares of pixels of a canvas that differ from its corner, and how many colours there are.
READ_PIXELS = """
const canvas = document.querySelector(arguments[0] + ' canvas');
const copy = document.createElement('canvas');
copy.width = canvas.width; copy.height = canvas.height;
const context = copy.getContext('2d');
context.drawImage(canvas, 0, 0);
const data = context.getImageData(0, 0, copy.width, copy.height).data;
let different = 0; const colours = new Set();
for (let i = 0; i < data.length; i += 4) {
  if (data[i] !== data[0] || data[i + 1] !== data[1] || data[i + 2] !== data[2]) different += 1;
  colours.add((data[i] >> 5) * 64 + (data[i + 1] >> 5) * 8 + (data[i + 2] >> 5));
}
return [different / (data.length / 4), colours.size];
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def hostile(table: pd.DataFrame) -> pd.DataFrame:
        best = table["energy_above_hull"].idxmin()
        chosen = {
            "formula_pretty": HOSTILE,
            "migration_barrier_3d": 0.1,
            "oxidation_limit": 4.5,
            "reduction_limit": 0.0,
        }
        chosen |= {"suspect": False, "is_known": False, "is_parent": False}
        for name, value in chosen.items():
            table.loc[best, name] = value
        return table

    folder = write_run(tmp_path_factory.mktemp("browser") / "run", 200, validated=True, change=hostile)
    assert (pd.read_csv(folder / "shortlist.csv")["formula_pretty"] == HOSTILE).any()
    return write_report(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            session = stack.enter_context(headless_chromium())
        except NoBrowserError as error:
            if os.environ.get("CI"):
                pytest.fail(str(error))
            pytest.skip(str(error))
        yield session


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, chromium: Any, report: Path) -> Any:
    set_screen(chromium, request.param, 900)
    chromium.get(report.as_uri())
    wait_until(chromium, "return document.querySelectorAll('#figure-hull .main-svg').length > 0")
    return chromium


def column(session: Any, name: str) -> list[str]:
    cells = f"document.querySelectorAll('#candidates td[data-column={name}]')"
    return list(session.execute_script(f"return [...{cells}].map(c => c.dataset.value)"))


def type_into(session: Any, selector: str, text: str) -> None:
    write = "const box = document.querySelector(arguments[0]); box.value = arguments[1];"
    session.execute_script(f"{write} box.dispatchEvent(new Event('input'));", selector, text)


def test_no_console_error_no_overflow_and_every_figure_drawn(page: Any) -> None:
    drawn = "return [...document.querySelectorAll('[data-figure]')].filter(f => !f.closest('details.candidate'))"
    wait_until(page, f"{drawn}.every(f => f.querySelector('.main-svg'))")
    assert page.execute_script(f"{drawn}.length") >= 8
    assert [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_table_sorts_and_filters(page: Any) -> None:
    ranks = column(page, "rank")
    assert ranks == [str(i + 1) for i in range(len(ranks))]
    page.execute_script("document.querySelector('#candidates th[data-column=density] button').click()")
    densities = [float(v) for v in column(page, "density")]
    assert densities == sorted(densities)
    page.execute_script("document.querySelector('#candidates th[data-column=density] button').click()")
    densities = [float(v) for v in column(page, "density")]
    assert densities == sorted(densities, reverse=True)
    assert densities[0] > densities[-1]
    type_into(page, "[data-filter=density]", "1.8..2.2")
    assert column(page, "density")
    assert all(1.8 <= float(v) <= 2.2 for v in column(page, "density"))
    type_into(page, "[data-filter=density]", "<2")
    assert all(float(v) < 2.0 for v in column(page, "density"))
    type_into(page, "[data-filter=density]", "abc")
    told = page.execute_script("return document.getElementById('table-count').textContent")
    assert told.startswith("0 of ")
    assert "density holds numbers: write <= " in told
    type_into(page, "[data-filter=density]", "")
    assert "holds numbers" not in page.execute_script("return document.getElementById('table-count').textContent")
    type_into(page, "#search", "no such text")
    assert column(page, "rank") == []
    type_into(page, "#search", "")
    assert len(column(page, "rank")) == len(ranks)


def test_download_is_the_csv(page: Any, report: Path) -> None:
    text = page.execute_script("return csvOf(tableBlock.rows.map((_, i) => i))")
    assert text == (report.parent / "ranked_candidates.csv").read_text(encoding="utf-8")


def test_a_candidate_opens_and_its_structure_is_drawn(page: Any) -> None:
    link = "document.querySelector('#candidates tbody tr.kind-shortlist a')"
    anchor = page.execute_script(f"const link = {link}; link.click(); return link.getAttribute('href')")
    assert page.execute_script("return document.querySelector(arguments[0]).open", anchor)
    wait_until(page, f"return document.querySelector('{anchor} .structure canvas') !== null")
    for name in ("window", "barrier", "arrhenius"):
        wait_until(page, f"return document.querySelector('#figure-{anchor[1:]}-{name} .main-svg') !== null")
    share, colours = page.execute_script(READ_PIXELS, anchor)
    assert 0.02 < share < 0.9
    assert colours > 8  # four elements, shaded
    page.execute_script(f"document.querySelector('{anchor} .path').click()")
    without_path, _ = page.execute_script(READ_PIXELS, anchor)
    assert without_path != share
    page.execute_script(f"document.querySelector('{anchor} .supercell').click()")
    supercell, _ = page.execute_script(READ_PIXELS, anchor)
    assert supercell != share
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_phase_diagram_is_drawn_with_the_candidate_on_it(page: Any) -> None:
    name = page.execute_script(
        "const marked = ([name, figure]) => name.endsWith('-phases') && figure.data.length;"
        "const [name] = Object.entries(figureBlock.figures).find(marked);"
        "openSection(name.replace('-phases', '')); return name"
    )
    wait_until(page, f"return document.querySelector('#figure-{name} .ternarylayer .scatterlayer path.point') !== null")
    drawn = page.execute_script(f"return document.getElementById('figure-{name}').data.map(trace => trace.name)")
    assert drawn[:2] == ["tie lines", "stable competing phase"]
    assert drawn[-1] == "this candidate"
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_table_of_phases_begins_with_the_candidate(page: Any) -> None:
    name, own, rows = page.execute_script(
        "const [name, figure] = Object.entries(figureBlock.figures).find(([_, figure]) => figure.row);"
        "openSection(name.replace('-phases', '')); return [name, figure.row, figureBlock.bases[figure.base].rows]"
    )
    wait_until(page, f"return document.querySelector('#figure-{name} tr.own') !== null")
    lines = page.execute_script(
        f"const lines = [...document.querySelectorAll('#figure-{name} tbody tr')];"
        "return lines.map(line => [...line.children].map(cell => cell.textContent.replace('−', '-')))"
    )
    assert lines[0] == [*own[:3], "this candidate"]
    assert lines[1:] == [row for row in rows if row != own]
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_many_open_sections_keep_the_newest_structures(page: Any) -> None:
    count = page.execute_script(
        "const all = [...document.querySelectorAll('details.candidate')].filter(s => structureBlock[s.id]).slice(0, 9);"
        "all.forEach(s => { s.open = true; }); return all.length"
    )
    assert count == 9
    wait_until(page, "return openViewers.size === 6")
    assert page.execute_script("return document.querySelectorAll('.structure canvas').length") == 6


def test_hostile_formula_is_text_in_table_and_figures(page: Any) -> None:
    cells = page.execute_script(
        "state.rows = 1000; drawBody();"
        "return [...document.querySelectorAll('#candidates td[data-column=formula_pretty]')].map(c => c.textContent)"
    )
    assert HOSTILE in cells
    ticks = page.execute_script(
        "return [...document.querySelectorAll('#figure-uncertainty .xtick text')].map(t => t.textContent)"
    )
    assert any(HOSTILE in tick for tick in ticks)
    assert page.execute_script("return document.querySelectorAll('[onmouseover]').length") == 0
