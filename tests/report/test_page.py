"""The report, parsed: its numbers are the CSV's, hostile text stays text, an empty funnel is explained."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import schema
from pipeline.atomic_files import write_json
from pipeline.config import ConfigError
from scripts.synthetic_run import write_run
from tests.report_pages import HOSTILE, Page, csv_of
from workflows.report import overview
from workflows.report import table as report_table
from workflows.report.overview import hull_histogram
from workflows.report.page import formula, write_report
from workflows.report.run_data import read_run
from workflows.report.stage_rows import candidates_of, nearest_misses, rows_of_stages
from workflows.report.structures import structure_block
from workflows.report.wording import voltage_profiles


def test_table_holds_the_csv_cell_by_cell(run: Path, page: Page) -> None:
    ranked = csv_of(run)
    block = page.blocks["table-block"]
    assert [c["name"] for c in block["columns"]] == list(ranked.columns)
    assert block["rows"] == ranked.to_numpy().tolist()
    assert block["total"] == len(ranked) > 30


def test_every_value_in_the_sections_is_the_csvs(run: Path, page: Page) -> None:
    ranked = csv_of(run).set_index("candidate_id", drop=False)
    assert len(page.cells) > 500
    for (candidate, name), value in page.cells.items():
        assert value == ranked.at[candidate, name], (candidate, name)
    for candidate in csv_of(run, "shortlist.csv")["candidate_id"]:
        for name, value in ranked.loc[candidate].items():
            if value and schema.column(name).dtype == "float64" and name != "score":
                assert page.cells[candidate, name] == value


def test_the_price_is_called_what_it_is_and_dated(page: Page) -> None:
    told = " ".join(page.text.split())
    assert "Element cost: mass-weighted price of the pure elements, nearly all of 2013" in told
    column = next(c for c in page.blocks["table-block"]["columns"] if c["name"] == "cost_per_kg")
    assert column["title"] == "element cost"
    assert "no price of the compound" in column["meaning"]
    axes = page.blocks["figure-block"]["figures"]["pareto-energy_above_hull-cost_per_kg"]["layout"]
    assert axes["yaxis"]["title"]["text"] == "element cost (USD/kg)"


def test_each_filter_shows_an_example_of_its_own_column(run: Path, page: Page) -> None:
    example = {c["name"]: c["filter"] for c in page.blocks["table-block"]["columns"]}
    assert example["rank"] == "<= 10"
    assert example["energy_above_hull"] == "< 0.05"
    assert example["oxidation_limit"] == "> 3"
    assert example["is_known"] == "yes"
    assert example["score"].startswith(">= 0.")
    assert example["pareto_front"].removeprefix("<= ").isdecimal()
    assert example["formula_pretty"] == "text"
    barriers = csv_of(run)["migration_barrier_3d"].astype(float)
    # two digits of the median
    assert float(example["migration_barrier_3d"].removeprefix("<= ")) == pytest.approx(barriers.median(), rel=0.05)


def test_failed_candidates_and_competing_phases_are_counted_apart(copied: Path) -> None:
    progress = json.loads((copied / "progress.json").read_text())
    first = progress["steps"][0]
    phases = {"step": "competing_phases", "stage": "competing_phases", "entered": 225, "failed": 2, "passed": 223}
    progress["steps"].insert(1, {**first, **phases, "gates": "", "rejected_by": {"failed": 2}})
    write_json(copied / "progress.json", progress)
    ids = csv_of(copied)["candidate_id"]
    steps = ["competing_phases", "competing_phases", "stability", "window", "window"]
    failed = pd.DataFrame({"candidate_id": [*ids[:2], ids[2], ids[2], ids[3]], "step": steps, "error": "Bad: x"})
    failed.to_csv(copied / "failures.csv", index=False)
    write_report(copied)
    told = " ".join(Page(copied / "report.html").text.split())
    assert f"2of {first['passed']} candidates failed" in told
    assert "2of 225 competing phases failed" in told


def test_the_rank_of_a_pick_is_that_of_its_time(copied: Path) -> None:
    write_json(copied / "decision.json", {"candidate_id": "x", "why": "y", "who": "z", "when": "2026", "rank": 15})
    write_report(copied)
    assert "2026, rank 15 at that time" in Page(copied / "report.html").text


def test_funnel_is_the_csvs(run: Path, page: Page) -> None:
    for row in csv_of(run, "funnel.csv").to_dict("records"):
        for name in ("entered", "passed", "failed"):
            assert page.steps[row["step"], name] == row[name]


def test_histogram_counts_every_relaxed_row_once(run: Path) -> None:
    data = read_run(run)
    stages = rows_of_stages(data, candidates_of(data))
    assert [len(rows.table) for rows in stages] == [rows.entered for rows in stages]
    histogram = hull_histogram(stages)
    assert histogram is not None
    assert sum(histogram.counts) + histogram.beyond + histogram.missing == histogram.rows == 120
    edges = np.asarray(histogram.edges)
    assert np.isclose(edges, histogram.bounds[0]).any()  # no bar straddles the gate
    energies = stages[0].table["energy_above_hull"].astype(float)
    within = int((energies < histogram.bounds[0]).sum())
    assert sum(c for c, e in zip(histogram.counts, edges[1:], strict=True) if e <= 0.05 + 1e-9) == within


def test_rows_that_a_looser_gate_left_on_disk_are_not_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 120, gate=0.1)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("below: 0.1", "below: 0.05"))
    data = read_run(folder)
    by_step = {rows.settings.step: rows for rows in rows_of_stages(data, candidates_of(data))}
    passed = (by_step["stability"].table["reason"] == "").sum()
    assert len(by_step["window"].table) == passed < by_step["window"].entered


def test_page_loads_nothing_and_holds_each_library_once(run: Path, page: Page) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed")
        assert "src" not in attributes
        assert tag != "link" or attributes["href"] == "data:,"
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "Content" in a.get("http-equiv", ""))
    assert policy.startswith("default-src 'none'")
    assert text.count("plotly.js (cartesian - minified) v") == 1
    viewer = (Path(report_table.__file__).parent / "static" / "3Dmol-2.5.5.min.js").read_text(encoding="utf-8")
    assert text.count(viewer[:500]) == 1
    assert len(text) < 15e6


def test_structures_are_those_of_the_folder(run: Path, page: Page) -> None:
    ranked = csv_of(run).set_index("rank")
    structures = page.blocks["structure-block"]
    for rank, candidate in ranked.loc[ranked["shortlisted"] == "True", "candidate_id"].items():
        cif = (run / "structures" / f"{candidate}.cif").read_text(encoding="utf-8")
        assert structures[f"candidate-{rank}"]["cif"] == cif
        assert set(structures[f"candidate-{rank}"]["colours"]) == {"Li", "Na", "Y", "Cl"}
        # two hops along the first axis, each over a pass
        assert structures[f"candidate-{rank}"]["path"] == [
            [0, 0, 0, 0.25, 0.1, 0, 0.5, 0, 0],
            [0.5, 0, 0, 0.75, 0.1, 0, 1, 0, 0],
        ]


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    def hostile(table: pd.DataFrame) -> pd.DataFrame:
        best = table["energy_above_hull"].nsmallest(12).index
        table.loc[best, "formula_pretty"] = HOSTILE
        table.loc[best, "suspect"] = False
        table.loc[best, ["reduction_limit", "migration_barrier_3d"]] = 0.0
        table.loc[best, "oxidation_limit"] = 4.0
        table.loc[best, "oxidation_products"] = HOSTILE
        table.loc[best, "prototype_source"] = f"mp-{HOSTILE}"
        table["suspect_reason"] = HOSTILE
        table.loc[table["stability_status"] == "failed", "stability_error"] = HOSTILE
        return table

    folder = write_run(tmp_path / "run", 120, change=hostile)
    candidate = csv_of(folder, "shortlist.csv")["candidate_id"].iloc[0]
    write_json(
        folder / "decision.json",
        {"candidate_id": candidate, "why": f"<b>best</b> {HOSTILE}", "who": HOSTILE, "when": "2026-07-01"},
    )
    write_report(folder)
    page = Page(folder / "report.html")
    assert not [tag for tag, attributes in page.tags if tag == "img" or "onerror" in attributes]
    assert f"<b>best</b> {HOSTILE}" in page.text
    assert page.text.count(HOSTILE) > 5
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3 + 5  # data, and scripts of ours
    assert set(page.blocks) == {"table-block", "figure-block", "structure-block"}


def test_id_that_points_elsewhere_reads_and_writes_nowhere_else(copied: Path) -> None:
    outside = copied.parent / "outside.cif"
    outside.write_text("data_secret\n")
    path = copied / "ranked_candidates.csv"
    ranked = csv_of(copied)
    first = ranked.index[ranked["shortlisted"] == "True"][0]
    ranked.loc[first, "candidate_id"] = "../../outside"
    ranked.to_csv(path, index=False, lineterminator="\n")
    write_json(
        copied / "decision.json", {"candidate_id": "../../outside", "why": "no", "who": "../../x", "when": "now"}
    )
    before = {p for p in copied.parent.rglob("*") if p.is_file()}
    assert write_report(copied) == copied / "report.html"
    assert {p for p in copied.parent.rglob("*") if p.is_file()} == before
    page = Page(copied / "report.html")
    assert "../../outside" in page.text
    assert "data_secret" not in json.dumps(page.blocks)
    assert f"candidate-{ranked.loc[first, 'rank']}" not in page.blocks["structure-block"]


def test_empty_funnel_names_the_gate_and_how_far_the_best_were(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run", 60, gate=0.0, change=lambda t: t.assign(energy_above_hull=0.03 + t.index / 1000)
    )
    write_report(folder)
    page = Page(folder / "report.html")
    assert "Nothing passed. stability rejected all 60 that entered it" in " ".join(page.text.split())
    assert "energy_above_hull < 0 eV/atom" in page.text
    data = read_run(folder)
    rows = rows_of_stages(data, candidates_of(data))[0]
    nearest = nearest_misses(rows, "energy_above_hull", 3)
    values = rows.table.loc[rows.table["reason"] != "failed", "energy_above_hull"].nsmallest(3).tolist()
    assert [m.value for m in nearest] == [m.shortfall for m in nearest] == values
    assert f"{values[0]:.3g}" in page.text
    assert not page.with_id("ranked")


def test_a_run_without_failures_has_a_report(copied: Path) -> None:
    path = copied / "failures.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    write_report(copied)
    assert not Page(copied / "report.html").with_id("failures")


def test_a_shortlist_of_known_compounds_is_counted_and_found(tmp_path: Path) -> None:
    """With allow_known a compound may be a control and on the shortlist."""
    folder = write_run(tmp_path / "run", 60, change=lambda t: t.assign(is_known=True, suspect=False))
    ranked = csv_of(folder, "ranked_candidates.csv").assign(
        shortlisted=lambda t: (t["rank"].astype(int) <= 5).astype(str)
    )
    ranked.to_csv(folder / "ranked_candidates.csv", index=False)
    write_report(folder)
    data = read_run(folder)
    assert overview.count_of(data)["shortlisted"] == 5
    assert Page(folder / "report.html").blocks["table-block"]["kinds"].count("shortlist") == 5


def test_a_crystal_as_given_is_not_called_substituted(copied: Path) -> None:
    for substitution, parent, words in (
        ("none", "False", "The crystal as given: aflow-"),
        ("isovalent", "True", "The prototype itself: FeCu2SnS4 (aflow-"),
        ("isovalent", "False", "Substituted from FeCu2SnS4 (aflow-"),
    ):
        ranked = csv_of(copied, "ranked_candidates.csv").assign(substitution=substitution, is_parent=parent)
        ranked.to_csv(copied / "ranked_candidates.csv", index=False)
        write_report(copied)
        text = Page(copied / "report.html").text
        assert words in text
        assert ("Substituted from" in text) == words.startswith("Substituted")


def test_missing_stages_leave_no_trace(tmp_path: Path) -> None:
    gone = [c.name for stage in ("window", "conduction") for c in schema.columns_of(stage)]
    folder = write_run(tmp_path / "run", 120)
    for name in ("ranked_candidates.csv", "shortlist.csv"):
        csv_of(folder, name).drop(columns=gone, errors="ignore").to_csv(folder / name, index=False)
    write_report(folder)
    page = Page(folder / "report.html")
    figures = page.blocks["figure-block"]["figures"]
    assert not [name for name in figures if "window" in name or "barrier" in name or "limit" in name]
    shown = [c["name"] for c in page.blocks["table-block"]["columns"]]
    assert not set(gone) & set(shown)


def test_a_declared_column_of_a_new_stage_appears_by_itself(copied: Path) -> None:
    """``band_gap`` was in no stage of this campaign: declared is enough."""
    path = copied / "ranked_candidates.csv"
    ranked = csv_of(copied)
    ranked["band_gap"] = [str(4.0 + i / 100) for i in range(len(ranked))]
    ranked.to_csv(path, index=False, lineterminator="\n")
    write_report(copied)
    page = Page(copied / "report.html")
    assert {"name": "band_gap", "unit": "eV"}.items() <= page.blocks["table-block"]["columns"][-1].items()
    best = ranked[ranked["shortlisted"] == "True"].iloc[0]
    assert page.cells[best["candidate_id"], "band_gap"] == best["band_gap"]


def test_long_tables_are_cut_and_the_page_says_so(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_table, "TABLE_ROWS", 10)
    write_report(copied)
    page = Page(copied / "report.html")
    ranked = csv_of(copied)
    kept = ranked[(ranked.index < 10) | (ranked["shortlisted"] == "True")]
    assert page.blocks["table-block"]["rows"] == kept.to_numpy().tolist()
    assert f"first 10 of {len(ranked)} candidates by rank" in " ".join(page.text.split())
    start = next(i for i, (t, a) in enumerate(page.tags) if (t, a.get("data-column")) == ("tr", "migration_barrier_3d"))
    values = [float(a["data-value"]) for _, a in page.tags[start : start + 10] if "data-value" in a][:4]
    barriers = ranked["migration_barrier_3d"].astype(float)
    # pandas and the page print the same double in full
    assert values == [len(barriers), barriers.min(), barriers.median(), barriers.max()]


def test_a_folder_without_a_ranking_says_what_to_do(copied: Path) -> None:
    (copied / "ranked_candidates.csv").unlink()
    with pytest.raises(ConfigError, match="finish it with `ionsieve run`"):
        write_report(copied)
    with pytest.raises(ConfigError, match="is no run folder"):
        write_report(copied / "structures")


def test_a_place_that_cannot_be_written_is_named(copied: Path) -> None:
    (copied / "report.html").unlink()
    (copied / "report.html").mkdir()  # not even root can replace a folder by a file
    with pytest.raises(ConfigError, match=r"report\.html.*can't be written"):
        write_report(copied)


def test_a_damaged_decision_is_named(copied: Path) -> None:
    write_json(copied / "decision.json", {"candidate_id": "x"})
    with pytest.raises(ConfigError, match="lacks why, who, when"):
        write_report(copied)


def test_citations_and_attribution_are_there(page: Page) -> None:
    assert "Jain et al., APL Materials 2013" in page.text
    assert "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)" in page.text
    assert "3Dmol.js is\nlicensed" in page.text or "is licensed under a BSD-3-Clause" in " ".join(page.text.split())


def test_formulas_get_subscripts_and_nothing_else() -> None:
    assert formula("Na2LiYCl6") == "Na<sub>2</sub>LiYCl<sub>6</sub>"
    assert formula("Li(PS4)2") == "Li(PS<sub>4</sub>)<sub>2</sub>"
    assert formula("<b>1") == "&lt;b&gt;1"


def test_voltage_profiles_are_read() -> None:
    lithium, sodium = voltage_profiles("Li: 4 <0.86 V> 2.5 <4.13 V> 0; Na: 1 <-0.10 V> 0")
    assert (lithium.ion, lithium.contents, lithium.voltages) == ("Li", (4.0, 2.5, 0.0), (0.86, 4.13))
    assert (sodium.contents, sodium.voltages) == ((1.0, 0.0), (-0.1,))
    assert voltage_profiles("nonsense") == voltage_profiles("Li: x <1.0 V> 0") == []


def test_elements_of_a_structure_have_different_colours(run: Path) -> None:
    cif = next((run / "structures").glob("*.cif")).read_text()
    block = structure_block(cif, ["Li", "Na"], [])
    colours = block["colours"]
    assert len(set(colours.values())) == len(colours) == 4
    assert (block["cations"], block["anions"]) == (["Y"], ["Cl"])
