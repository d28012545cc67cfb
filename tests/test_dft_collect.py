"""A campaign whose DFT is done elsewhere: run, answer, `ionsieve dft collect`."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.dft.calculation import load_calculation
from tests.campaigns import ionsieve, write_campaign
from tests.vasprun_files import write_vasprun

DFT = """\
  - stage: dft
    engine: vasp
    max_polymorphs: 1
    competing_phases: decomposition
    gates: {dft_energy_above_hull: {below: 0.05}}
"""
# eV/atom, in the range of VASP's PBE; phases lie at the hull, and every candidate 0.02 above it.
ENERGIES = {"Li": -1.9, "Na": -1.3, "Mg": -1.6, "Cl2": -1.85, "LiCl": -3.7, "NaCl": -3.4}
ABOVE = 0.02


def answer(workspace: Path) -> list[str]:
    """Write what VASP would into the folders whose energies are known; return those of the candidates."""
    answered = []
    for row in csv.DictReader((workspace / "manifest.csv").read_text().splitlines()):
        if row["formula"] not in ENERGIES:
            continue
        folder = workspace / row["folder"]
        sites = len(load_calculation(folder)[0].structure)
        write_vasprun(folder, (ENERGIES[row["formula"]] + (ABOVE if row["candidate_id"] else 0.0)) * sites)
        answered += [row["candidate_id"]] if row["candidate_id"] else []
    return answered


@pytest.mark.slow
def test_run_answer_collect(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    (tmp_path / "crystals" / "inverse.vasp").unlink()
    (tmp_path / "crystals" / "layered.vasp").unlink()
    config.write_text(config.read_text().replace("  - stage: conduction\n", DFT + "  - stage: conduction\n"))
    run = tmp_path / "runs" / "tiny"
    done = ionsieve(tmp_path, "run", config)
    assert done.returncode == 0, done.stderr
    assert "rows wait for calculations listed in" in done.stdout
    funnel = pd.read_csv(run / "funnel.csv").set_index("step")
    pending = int(funnel.loc["dft", "entered"])
    assert funnel.loc["dft", "rejected_by"] == f"pending: {pending}"
    (workspace,) = (path.parent for path in (run / "stages" / "dft").rglob("manifest.csv"))

    again = ionsieve(tmp_path, "dft", "collect", run)
    assert again.returncode == 0, again.stderr
    assert "waiting" in again.stdout
    answered = answer(workspace)
    assert answered
    (wrong,) = answered[:1]
    write_vasprun(workspace / wrong, -9.0, settings={"GGA": "PS"})
    collected = ionsieve(tmp_path, "dft", "collect", run, "--json")
    assert collected.returncode == 0, collected.stderr
    rows = {row["candidate_id"]: row for row in json.loads(collected.stdout)["rows"]}
    assert rows[wrong]["dft_status"] == "failed"
    assert "GGA is PS" in rows[wrong]["dft_error"]
    for name in answered[1:]:
        assert rows[name]["dft_status"] == "ok"
        assert abs(rows[name]["dft_energy_above_hull"] - ABOVE) < 1e-6
    answer(workspace)  # the refused one is mended
    mended = ionsieve(tmp_path, "dft", "collect", run, "--json", "--labels", tmp_path / "labels.parquet")
    told = json.loads(mended.stdout)
    rows = {row["candidate_id"]: row for row in told["rows"]}
    assert {row["dft_status"] for row in rows.values()} == {"ok"}
    labels = pd.read_parquet(tmp_path / "labels.parquet")
    assert told["labels"]["crystals"] == len(labels)
    assert set(answered) < set(labels["structure_id"])
    assert any(name.startswith("competing/Cl2") for name in labels["structure_id"])
    assert set(labels["label_scheme"]) == {"mp_raw"}
    assert labels["group"].notna().all()
    ranked = pd.read_csv(run / "ranked_candidates.csv")
    assert sorted(ranked["candidate_id"]) == sorted(answered)


def test_collect_needs_a_campaign_with_dft(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"config": str(write_campaign(tmp_path))}))
    refused = ionsieve(tmp_path, "dft", "collect", run)
    assert refused.returncode == 2
    assert "has no stage dft" in refused.stderr
