"""Figures of the report: Arrhenius plots, agreement with DFT, phase diagrams; their numbers are the CSV's."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline import schema
from pipeline.config import ConfigError
from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key, reduced_formula
from pipeline.units import BOLTZMANN
from scripts.synthetic_run import write_run
from tests.report_pages import HOSTILE, Page, csv_of
from workflows.report import table
from workflows.report.arrhenius_figure import arrhenius_figure
from workflows.report.candidate_figures import PROFILED, window_figure, window_looks
from workflows.report.page import write_report
from workflows.report.phase_diagrams import candidate_figure, chemical_systems, system_figure
from workflows.report.run_data import read_run
from workflows.stable_phases import read_stable_phases, systems_kept

SIDES = ("reduction", "oxidation")


def test_points_of_the_trade_offs_are_the_csvs(run: Path, page: Page) -> None:
    ranked = csv_of(run)
    figure = page.blocks["figure-block"]["figures"]["pareto-energy_above_hull-migration_barrier_3d"]
    drawn = sorted((x, y) for trace in figure["data"] for x, y in zip(trace["x"], trace["y"], strict=True))
    expected = zip(ranked["energy_above_hull"].astype(float), ranked["migration_barrier_3d"].astype(float), strict=True)
    assert drawn == sorted(expected)


def test_arrhenius_points_are_the_csvs_and_the_line_leads_to_300_kelvin(run: Path, page: Page) -> None:
    figures = page.blocks["figure-block"]["figures"]
    seen = set()
    for row in csv_of(run, "shortlist.csv").to_dict("records"):
        traces = {t["like"]: t for t in figures[f"candidate-{row['rank']}-arrhenius"]["data"]}
        told = row["md_series"].split("; ")
        bounds = [text for text in told if "<" in text]
        assert traces["measured"]["text"] == [text for text in told if "<" not in text]
        assert traces.get("bound", {"text": []})["text"] == bounds
        seen.add(len(bounds))
        for text, x, y in zip(*(traces["measured"][name] for name in ("text", "x", "y")), strict=True):
            assert text.startswith(f"{1000 / x:.0f} K {y:.1e} (")
        energy = float(row["md_activation_energy"])
        assert traces["fit"]["name"] == f"fit, {energy:.3f} eV"
        inverse = [*traces["fit"]["x"], traces["at 300 K"]["x"][0]]
        logs = np.log([*traces["fit"]["y"], *traces["at 300 K"]["y"]])
        # six decimals of 1000 / T and five digits of D
        assert np.diff(logs) == pytest.approx(-1e-3 * energy / BOLTZMANN * np.diff(inverse), rel=1e-4)
        # the points were drawn on the line and rounded to two digits
        assert traces["fit"]["y"][0] == pytest.approx(1e-3 * np.exp(-energy / (BOLTZMANN * 1000.0)), rel=0.1)
        low, high = (
            float(row[f"conductivity_md_300K_{end}"]) / float(row["conductivity_md_300K"]) for end in ("low", "high")
        )
        room = traces["at 300 K"]
        errors = [room["error_y"]["arrayminus"][0], room["error_y"]["array"][0]]
        assert np.array(errors) / room["y"][0] == pytest.approx([1 - low, high - 1], rel=1e-3)
    assert seen == {0, 1}
    assert "upper bound made of three hops; too few hops at 600 K" in page.text


def test_series_that_cannot_be_read_leaves_its_text_only(copied: Path) -> None:
    path = copied / "ranked_candidates.csv"
    ranked = csv_of(copied)
    ranked["md_series"], ranked["md_activation_energy"] = "600 K fast", "nan"
    ranked.to_csv(path, index=False, lineterminator="\n")
    write_report(copied)
    page = Page(copied / "report.html")
    assert not [name for name in page.blocks["figure-block"]["figures"] if "arrhenius" in name]
    assert "600 K fast" in page.text


def test_a_molten_framework_is_marked_and_without_a_fit_there_is_no_line() -> None:
    molten = "600 K <2.0e-08, 0 hops; 900 K 1.0e-04 (9.0e-05 to 1.2e-04), 900 hops, framework diffusing"
    figure = arrhenius_figure({"md_series": molten, "md_activation_energy": ""})
    assert figure is not None
    assert [t["like"] for t in figure["data"]] == ["bound", "molten"]
    assert arrhenius_figure({"md_series": molten, "md_activation_energy": "0.3"}) == figure
    hotter = f"{molten}; 1100 K 2.0e-04 (1.0e-04 to 3.0e-04), 900 hops, framework displaced"
    assert [len(t["x"]) for t in arrhenius_figure({"md_series": hotter, "md_activation_energy": ""})["data"]] == [1, 2]


def test_columns_that_tables_show_are_declared() -> None:
    for name in (*table._ALWAYS_SHOWN, *table._SHOWN_LAST):
        assert schema.column(name).name == name
    assert arrhenius_figure({}) is None


def test_agreement_with_dft_is_that_of_the_csv(run: Path, page: Page) -> None:
    ranked = csv_of(run)
    surrogate, dft = (ranked[name].astype(float) for name in ("energy_above_hull", "dft_energy_above_hull"))
    text = " ".join(page.text.split())
    difference = 1000 * (surrogate - dft)
    assert f"of {len(ranked)} ranked candidates by both" in text
    assert f"differs by {difference.abs().mean():.1f} meV/atom on average" in text
    assert f"surrogate minus DFT {difference.mean():.1f} meV/atom" in text
    assert f"rank correlation {surrogate.rank().corr(dft.rank()):.2f} (Spearman)" in text
    best = ranked.iloc[0]
    told = f"{float(best['dft_energy_above_hull']):.3f} eV/atom above the hull"
    assert f"puts it {told}, the surrogate {float(best['energy_above_hull']):.3f}" in text
    for name in ("bulk_modulus", "shear_modulus", "dft_band_gap"):
        assert page.cells[best["candidate_id"], name] == best[name]


def test_phase_diagrams_hold_the_stable_phases_and_the_candidates(run: Path, page: Page) -> None:
    block = page.blocks["figure-block"]
    ranked = csv_of(run)
    marked = ranked[(ranked[["shortlisted", "is_control", "suspect"]] == "True").any(axis=1)]
    assert set(block["bases"]) == set(marked["chemsys"])
    for row in marked.to_dict("records"):
        own = block["figures"][f"candidate-{row['rank']}-phases"]
        assert own["base"] == row["chemsys"]
        told = [[f"{float(row[name]):.3f}" for name in ("formation_energy_per_atom", "energy_above_hull")]]
        assert [t["customdata"] for t in own["data"]] == ([told] if row["chemsys"].count("-") == 2 else [])
        if row["chemsys"].count("-") == 3:
            assert own["row"] == [reduced_formula(composition_key(row["formula_pretty"])), *told[0], "candidate"]
    rows = block["bases"]["Cl-Li-Na-Y"]["rows"]
    competing = [formula for formula, *_, kind in rows if kind == "competing phase"]
    assert sorted(competing) == ["Li3YCl6", "LiCl", "Na3YCl6", "NaCl", "YCl3"]


def test_lines_of_a_phase_diagram_are_its_tie_lines() -> None:
    energies = {"LiCl": -2.0, "LiBr": -1.8, "BrCl3": -0.4}
    stable = {composition_key(formula): energy for formula, energy in energies.items()}
    ranked = pd.DataFrame({"formula_pretty": [], "chemsys": []})
    [figure] = map(system_figure, chemical_systems(stable, ranked, ["Br-Cl-Li"]).values())
    traces = {trace["name"]: trace for trace in figure["data"]}
    places = {
        (0.0, 0.5, 0.5): "LiCl",
        (0.5, 0.0, 0.5): "LiBr",
        (0.25, 0.75, 0.0): "BrCl3",
        (1.0, 0.0, 0.0): "Br",
        (0.0, 1.0, 0.0): "Cl",
        (0.0, 0.0, 1.0): "Li",
    }
    drawn, previous = set(), None
    for point in zip(*(traces["tie lines"][axis] for axis in "abc"), strict=True):
        here = None if None in point else places[point]
        if here and previous:
            drawn.add(frozenset((here, previous)))
        previous = here
    triangles = ("Li LiCl LiBr", "LiCl LiBr BrCl3", "LiCl BrCl3 Cl", "LiBr BrCl3 Br")
    assert drawn == {frozenset(pair) for names in triangles for pair in combinations(names.split(), 2)}


def test_what_figures_share_is_in_the_page(page: Page) -> None:
    block = page.blocks["figure-block"]
    own = [figure for name, figure in block["figures"].items() if name.startswith("candidate-")]
    used = {(figure["look"], trace["like"]) for figure in own for trace in figure["data"]}
    assert {look for look, _ in used} == {"window and profile", "barriers", "arrhenius", "phases"}
    assert all(like in block["looks"][look]["traces"] for look, like in used)


def test_tie_lines_are_between_phases_in_equilibrium() -> None:
    phases = {composition_key(f): e for f, e in (("LiCl", -1.97), ("YCl3", -2.5), ("Li3YCl6", -2.19))}
    (system,) = chemical_systems(phases, pd.DataFrame({"chemsys": []}), ["Cl-Li-Y", "../x", "Cl"]).values()
    pairs = {frozenset(map(reduced_formula, pair)) for pair in system.tie_lines}
    # a triangulation of the triangle with V corners and sides and I inside has 3 V - 3 - B lines, B of V on the rim
    assert len(pairs) == 3 * 6 - 3 - 5
    assert {frozenset(("LiCl", "Li3YCl6")), frozenset(("YCl3", "Li3YCl6"))} <= pairs
    assert frozenset(("LiCl", "YCl3")) not in pairs  # Li3YCl6 lies between them
    reference = PhaseReference(phases)
    for pair in pairs:
        middle = "".join(f"({name})1" for name in pair)
        assert set(reference.decomposition(middle)) == set(pair)


def test_binary_hull_and_hostile_rows() -> None:
    rows = [
        {"chemsys": "Cl-Li", "formula_pretty": f, "formation_energy_per_atom": e, "energy_above_hull": a, "suspect": s}
        for f, e, a, s in (
            ("Li2Cl", "-1.2", "0.113", "False"),
            ("Li2Cl", "-1.1", "0.213", "False"),
            ("LiCl3", "-0.9", "0.085", "True"),
            (HOSTILE, "-0.9", "0.085", "False"),
            ("Li3Cl", "", "", "False"),
        )
    ]
    (system,) = chemical_systems({composition_key("LiCl"): -1.97}, pd.DataFrame(rows), ["Cl-Li"]).values()
    figure = system_figure(system)
    phases, candidates = figure["data"][1:]
    assert (phases["x"], phases["y"]) == ([0.5], [-1.97])
    assert (candidates["x"], candidates["y"], candidates["text"]) == ([0.6667], [-1.2], ["Li<sub>2</sub>Cl"])
    assert candidate_figure(system, rows[3], "Cl-Li") is None
    assert candidate_figure(system, rows[2], "Cl-Li")["data"][0]["x"] == [0.25]


def test_stable_phases_of_a_candidates_system_are_kept(run: Path, copied: Path) -> None:
    kept = read_stable_phases(run)
    assert kept[composition_key("Li3YCl6")] == -2.19
    (copied / "stable_phases.csv").write_text("formula,formation_energy_per_atom\nLi?,-1\n")
    with pytest.raises(ConfigError, match=r"stable_phases\.csv.*damaged"):
        write_report(copied)
    (copied / "stable_phases.csv").unlink()
    write_report(copied)
    assert Page(copied / "report.html").blocks["figure-block"]["bases"] == {}


def test_phases_of_every_ranked_system_are_kept_the_shortlists_first(tmp_path: Path) -> None:
    """A pick may be neither on the shortlist nor a control."""
    run = write_run(tmp_path / "run", 120, shortlist=1, change=lambda t: t.assign(is_known=False, suspect=False))
    ranked = csv_of(run, "ranked_candidates.csv")
    marked = ranked[["shortlisted", "is_control", "suspect"]].eq("True").any(axis=1)
    assert "Cl-Li-Y" in set(ranked.loc[~marked, "chemsys"]) - set(ranked.loc[marked, "chemsys"])
    assert composition_key("Li3YCl6") in read_stable_phases(run)
    systems = pd.Series(["Br-Li", "Cl-Li", "Br-Li", "F-Na", "Cl-Na"])
    assert systems_kept(systems, pd.Series([False, False, False, True, True])) == ["F-Na", "Cl-Na", "Br-Li", "Cl-Li"]


def test_the_window_names_the_electrode_that_is_no_mobile_ion(run: Path) -> None:
    campaign = read_run(run).campaign
    stages = tuple(
        s.model_copy(update={"reference_electrode": "Mg"}) if s.stage == "window" else s for s in campaign.stages
    )
    row = {"reduction_limit_Mg": "0.1", "oxidation_limit_Mg": "3.0", "reduction_limit": "0.1", "oxidation_limit": "3.0"}
    figure = window_figure(row, campaign.model_copy(update={"stages": stages}))
    assert figure is not None
    assert figure["data"][0]["y"] == ["vs Mg"]


def window_of(limits: dict[str, tuple[float, float]], run: Path) -> dict[str, dict[str, Any]]:
    row = {f"{side}_limit_{ion}": str(v) for ion, both in limits.items() for side, v in zip(SIDES, both, strict=True)}
    figure = window_figure({**row, "voltage_profile": "Li: 3 <4.13 V> 0; Na: 1 <3.5 V> 0"}, read_run(run).campaign)
    assert figure is not None
    return {trace["like"]: trace for trace in figure["data"]}


def test_a_narrow_window_has_its_label_beside_it_where_there_is_room(run: Path) -> None:
    traces = window_of({"Li": (3.75, 4.32), "Na": (0.0, 3.4)}, run)
    assert traces["window"]["text"] == ["", "0.00 – 3.40 V"]
    beside = traces["beside"]
    assert (beside["y"], beside["text"]) == (["vs Li"], ["\u00a03.75 – 4.32 V\u00a0"])
    assert (beside["x"], beside["textposition"]) == ([3.75], ["middle left"])
    low = window_of({"Li": (0.0, 0.4), "Na": (0.0, 3.4)}, run)["beside"]
    assert (low["x"], low["textposition"]) == ([0.4], ["middle right"])
    assert "beside" not in window_of({"Li": (0.0, 4.0)}, run)


def test_gates_on_the_windows_are_named(run: Path) -> None:
    layout = window_looks(read_run(run).campaign)[PROFILED]["layout"]
    told = [(note["x"], note["text"]) for note in layout["annotations"]]
    assert told == [(1.0, "gate < 1 V"), (3.0, "gate > 3 V")]
    assert [line["x0"] for line in layout["shapes"]] == [1.0, 3.0]
    assert layout["yaxis2"]["title"]["text"] == "ions per formula unit"


def test_one_kind_of_mark_has_a_legend_too(page: Page) -> None:
    figures = page.blocks["figure-block"]["figures"]
    assert all(figure["layout"]["showlegend"] for name, figure in figures.items() if name.startswith("pareto-"))


def test_phases_on_the_edges_of_a_triangle_have_their_labels_outside() -> None:
    stable = {composition_key(f): -1.0 for f in ("LiCl", "NaCl", "NaLi", "NaLi3Cl4")}
    ranked = pd.DataFrame({"chemsys": ["Cl-Li-Na"], "formula_pretty": ["LiCl"]})
    system = chemical_systems(stable, ranked, ["Cl-Li-Na"])["Cl-Li-Na"]
    labels = system_figure(system)["data"][1]
    place = dict(zip(labels["text"], labels["textposition"], strict=True))
    assert place.pop("NaLi<sub>3</sub>Cl<sub>4</sub>") == "top center"
    # plotly draws a (Cl) above, b (Li) at the left, c (Na) at the right
    assert place == {
        "LiCl": "middle left",
        "NaCl": "middle right",
        next(iter(place.keys() - {"LiCl", "NaCl"})): "bottom center",
    }


def test_labels_of_windows_keep_their_size_and_the_legend_stays_off_the_bars(run: Path) -> None:
    look = window_looks(read_run(run).campaign)[PROFILED]
    window, beside = look["traces"]["window"], look["traces"]["beside"]
    assert (window["textangle"], window["constraintext"]) == (0, "none")
    assert window["textfont"]["size"] == beside["textfont"]["size"] == 12
    legend = look["layout"]["legend"]
    assert (legend["yref"], legend["y"], legend["yanchor"]) == ("container", 0.0, "bottom")
