"""A whole small campaign: results, failed rows, kills at bad moments, moved gates."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from pymatgen.core import Structure

from pipeline.config import ClusterSettings, RankingSettings
from pipeline.ranking import rank
from pipeline.reference.formulas import reduced_formula
from tests.campaigns import PHASES, command, environment, events, ionsieve, write_campaign
from workflows.cluster import connect
from workflows.stable_phases import read_stable_phases
from workflows.step_results import outcomes
from workflows.views import read_steps


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    config = write_campaign(folder, workers=1)
    done = ionsieve(folder, "run", config)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "tiny"


def ranked(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "ranked_candidates.csv", keep_default_na=False, na_values=[""])


def test_known_salts_lie_near_the_hull(undisturbed: Path) -> None:
    table = ranked(undisturbed).set_index("formula_pretty")
    # Twice CHGNet's published mean error of 30 meV/atom (Deng et al., Nat. Mach. Intell. 2023, 5, 1031).
    assert table.loc["NaCl", "energy_above_hull"].min() == pytest.approx(0.0, abs=0.06)
    assert table.loc["LiCl", "energy_above_hull"].min() == pytest.approx(0.0, abs=0.06)
    assert (table["surrogate"] == "CHGNet").all()


def test_stable_phases_of_the_marked_candidates_are_kept(undisturbed: Path) -> None:
    table = ranked(undisturbed)
    marked = table[table["shortlisted"] | table["is_control"] | table["suspect"]]
    kept = {reduced_formula(key): energy for key, energy in read_stable_phases(undisturbed).items()}
    systems = [set(name.split("-")) for name in marked["chemsys"]]
    symbols = {"LiCl": "Li Cl", "NaCl": "Na Cl", "MgCl2": "Mg Cl", "Li2MgCl4": "Li Mg Cl"}
    # all four are on the hull: 2 LiCl + MgCl2 is 4 meV/atom above Li2MgCl4
    within = {f for f, elements in symbols.items() if any(set(elements.split()) <= system for system in systems)}
    assert kept == {formula: PHASES[formula] for formula in within}
    assert kept


def test_confidence_and_polymorphs_are_in_the_table(undisturbed: Path) -> None:
    table = ranked(undisturbed)
    assert (table["energy_above_hull_error"] > 0.0).all()
    assert table["stability_probability"].between(0.0, 1.0).all()
    by_energy = table.sort_values("energy_above_hull")
    assert by_energy["stability_probability"].is_monotonic_decreasing  # chlorides alike: one bias, one error
    for _, group in by_energy.groupby("formula_pretty"):
        first, *others = group["candidate_id"]
        named = [name if isinstance(name, str) else "" for name in group["polymorph_of"]]
        assert named == ["", *[first] * len(others)]


def test_overlapping_atoms_are_a_failed_row_and_the_run_ends(undisturbed: Path) -> None:
    failures = pd.read_csv(undisturbed / "failures.csv")
    stability = failures[failures["step"] == "stability"]
    assert len(stability) == 1
    assert "atoms 0" in stability["error"].iloc[0]
    funnel = pd.read_csv(undisturbed / "funnel.csv").set_index("step")
    assert funnel.loc["stability", "failed"] == 1
    assert "failed: 1" in funnel.loc["stability", "rejected_by"]


def test_funnel_adds_up(undisturbed: Path) -> None:
    funnel = pd.read_csv(undisturbed / "funnel.csv", keep_default_na=False)
    for row in funnel.to_dict("records"):
        rejected = sum(int(part.rpartition(": ")[2]) for part in row["rejected_by"].split("; ") if part)
        assert row["entered"] == row["passed"] + rejected
    assert funnel["entered"].tolist()[1:] == funnel["passed"].tolist()[:-1]
    assert funnel["passed"].iloc[-1] == len(ranked(undisturbed))


def test_every_ranked_candidate_has_a_cif_and_every_column_a_description(undisturbed: Path) -> None:
    table = ranked(undisturbed)
    assert sorted(p.stem for p in (undisturbed / "structures").glob("*.cif")) == sorted(table["candidate_id"])
    shortlisted = table.loc[table["shortlisted"], "candidate_id"]
    assert sorted(p.stem for p in (undisturbed / "structures").glob("*.cube")) == sorted(shortlisted)
    assert len(shortlisted) > 0
    for path in (undisturbed / "structures").glob("*.cif"):
        crystal = Structure.from_file(path)
        row = table.set_index("candidate_id").loc[path.stem]
        assert crystal.composition.reduced_formula == row["formula_pretty"]
        assert crystal.density == pytest.approx(row["density"], rel=1e-5)  # coordinates carry eight digits
    described = pd.read_csv(undisturbed / "columns.csv", keep_default_na=False)
    assert described["column"].tolist() == table.columns.tolist()


def test_exit_code_follows_the_allowed_share(undisturbed: Path, tmp_path: Path) -> None:
    folder = undisturbed.parent.parent
    config = write_campaign(folder, workers=1, allowed=0.0)
    strict = ionsieve(folder, "run", config)
    write_campaign(folder, workers=1)
    assert strict.returncode == 1
    assert "failures.csv" in strict.stderr


def test_views_of_the_finished_run(undisturbed: Path) -> None:
    folder = undisturbed.parent.parent
    first = ranked(undisturbed)["candidate_id"].iloc[0]
    top = ionsieve(folder, "top", undisturbed)
    assert top.returncode == 0
    assert first in top.stdout
    show = ionsieve(folder, "show", undisturbed, first)
    assert "energy_above_hull" in show.stdout
    assert "eV/atom" in show.stdout
    status = ionsieve(folder, "status", undisturbed)
    assert "stability" in status.stdout
    assert "not running" in status.stdout
    nobody = ionsieve(folder, "show", undisturbed, "nobody")
    assert nobody.returncode == 2
    assert "no candidate 'nobody'" in nobody.stderr


def test_nothing_passes_and_the_run_still_ends(undisturbed: Path) -> None:
    folder = undisturbed.parent.parent
    config = write_campaign(folder, gate=0.0)
    done = ionsieve(folder, "run", config)
    assert done.returncode == 0, done.stderr
    assert "dashboard: http://127.0.0.1:" in done.stdout
    assert done.stdout.splitlines()[-1] == "next: ionsieve report runs/tiny, ionsieve status runs/tiny"
    assert "structures/" not in done.stdout
    assert len(ranked(undisturbed)) == 0
    assert not list((undisturbed / "structures").glob("*.cif"))
    assert ionsieve(folder, "top", undisturbed).returncode == 0
    assert ionsieve(folder, "run", write_campaign(folder)).returncode == 0
    assert len(ranked(undisturbed)) > 0


def test_a_finished_run_stays_finished_when_its_candidates_are_listed_again(undisturbed: Path) -> None:
    folder = undisturbed.parent.parent
    before = ionsieve(folder, "status", undisturbed).stdout
    assert "interrupted" not in before
    done = ionsieve(folder, "enumerate", write_campaign(folder), "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert ionsieve(folder, "status", undisturbed).stdout == before
    dearer = ionsieve(folder, "enumerate", write_campaign(folder, gate=0.0))
    assert dearer.returncode == 0, dearer.stderr
    assert "interrupted" in ionsieve(folder, "status", undisturbed).stdout
    assert ionsieve(folder, "run", write_campaign(folder)).returncode == 0


def test_a_dear_stage_takes_the_best_and_the_rest_are_accounted_for(undisturbed: Path) -> None:
    folder = undisturbed.parent.parent
    before = ranked(undisturbed)
    config = write_campaign(folder)
    text = config.read_text().replace("stage: conduction", "stage: conduction\n    best: 2")
    dear = folder / "dear.yaml"
    dear.write_text(text.replace("name: tiny", "name: dear"))
    done = ionsieve(folder, "run", dear)
    assert done.returncode == 0, done.stderr
    run = folder / "runs" / "dear"
    step = pd.read_csv(run / "funnel.csv").set_index("step").loc["conduction"]
    assert (step["entered"], step["passed"]) == (len(before), 2)
    assert step["rejected_by"] == f"beyond the best: {len(before) - 2}"
    counts = outcomes(run, read_steps(run))["outcome"].value_counts()
    assert counts["conduction: beyond the best"] == len(before) - 2
    # Without the barrier, which conduction makes: the order of the rest of the score.
    terms = [term for term in RankingSettings().score if term.column != "migration_barrier_3d"]
    order = rank(before, RankingSettings(score=tuple(terms), shortlist_size=2))
    expected = order.sort_values(["shortlisted", "rank"], ascending=[False, True])["candidate_id"].iloc[:2]
    assert set(ranked(run)["candidate_id"]) == set(expected)


def stop_after(folder: Path, config: Path, step: str, units: int, sent: signal.Signals = signal.SIGKILL) -> int:
    """Start the run in a process group of its own, and signal the whole group once enough units of a step are done.

    Returns the exit code.
    """
    run = folder / "runs" / "tiny"
    log = (folder / "killed.log").open("a")
    process = subprocess.Popen(
        command("run", config), cwd=folder, env=environment(folder), stdout=log, stderr=log, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while sum(e["step"] == step for e in events(run, "unit")) < units:
        assert process.poll() is None, (folder / "killed.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, sent)
    code = process.wait(timeout=60)
    log.close()
    return code


def test_killed_three_times_gives_the_same_bytes_and_recomputes_nothing(undisturbed: Path, tmp_path: Path) -> None:
    config = write_campaign(tmp_path, workers=2)
    run = tmp_path / "runs" / "tiny"
    for step, units in (("candidates", 1), ("stability", 2), ("conduction", 1)):
        assert stop_after(tmp_path, config, step, units) == -signal.SIGKILL
    done = ionsieve(tmp_path, "run", config)
    assert done.returncode == 0, done.stderr
    for name in ("ranked_candidates.csv", "shortlist.csv", "funnel.csv", "failures.csv"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    committed = [(e["step"], e["unit"]) for e in events(run, "unit")]
    assert len(committed) == len(set(committed)), "a unit that was on disk was computed again"


def test_tighter_gate_recomputes_nothing_and_looser_computes_what_was_missing(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = undisturbed.parent.parent
    before = len(events(undisturbed, "unit"))
    config = write_campaign(folder, gate=0.05)
    assert ionsieve(folder, "run", config).returncode == 0
    assert len(events(undisturbed, "unit")) == before
    sure = ranked(undisturbed).set_index("candidate_id")["stability_probability"]
    tight = set(sure.index)
    config = write_campaign(folder, gate=5.0)
    assert ionsieve(folder, "run", config).returncode == 0
    added = events(undisturbed, "unit")[before:]
    assert {e["step"] for e in added} == {"window", "conduction", "practicality"}
    wide = set(ranked(undisturbed)["candidate_id"])
    config = write_campaign(folder, gate=0.12)
    assert ionsieve(folder, "run", config).returncode == 0
    assert len(events(undisturbed, "unit")) == before + len(added)
    middle = set(ranked(undisturbed)["candidate_id"])
    assert tight < middle < wide
    surer = ranked(undisturbed).set_index("candidate_id")["stability_probability"]
    assert (surer[sorted(tight)] > sure[sorted(tight)]).all()  # the same energies against a looser gate
    assert sum(e["rows"] for e in added if e["step"] == "window") == len(wide - middle)


def test_ctrl_c_exits_with_3_and_says_how_to_go_on(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    assert stop_after(tmp_path, config, "stability", 1, signal.SIGINT) == 3
    said = (tmp_path / "killed.log").read_text()
    assert "the same command goes on" in said
    assert "Traceback" not in said
    status = ionsieve(tmp_path, "status", "runs/tiny")
    assert status.returncode == 0
    assert " done" in status.stdout
    assert "not running: interrupted; go on with `ionsieve run tiny.yaml`" in status.stdout


def test_a_scheduler_that_is_already_there_gives_the_same_bytes(undisturbed: Path, tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    with connect(ClusterSettings(kind="local", workers=1)) as client:
        address = client.scheduler.address
        text = config.read_text().replace("{workers: 1}", f"{{kind: address, address: '{address}'}}")
        config.write_text(text)
        done = ionsieve(tmp_path, "run", config)
    assert done.returncode == 0, done.stderr
    here = tmp_path / "runs" / "tiny" / "ranked_candidates.csv"
    assert here.read_bytes() == (undisturbed / "ranked_candidates.csv").read_bytes()
