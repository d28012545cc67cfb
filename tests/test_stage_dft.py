"""Stage dft with engine vasp: pending rows, results read on the next run, failures as rows, partitions."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from pipeline import schema
from pipeline.config import load_campaign
from pipeline.crystal import row_from_structure
from pipeline.dft import engine
from pipeline.dft.calculation import load_calculation
from pipeline.dft.manifest import MANIFEST, calculations, write_manifest
from pipeline.gates import Gate
from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key
from pipeline.settings import DftSettings, StabilitySettings
from pipeline.stages import dft
from pipeline.surrogates import load_potential
from scripts.small_campaign import write_small_campaign
from tests.dft_crystals import lithium_chloride
from tests.structure_tables import write_table
from tests.vasprun_files import write_vasprun
from workflows.identity import Digests
from workflows.models_found import find_models
from workflows.preflight import Inputs
from workflows.repeats import columns_for_repeats, rows_to_repeat

SETTINGS = DftSettings(engine="vasp", gates={"dft_energy_above_hull": {"below": 0.05}})
# Per atom, in the range of VASP's PBE with these POTCARs.
ENERGIES = {"Li": -1.9089, "Cl2": -1.8485, "LiCl": -3.73}
CHLORINE_CORRECTION = -0.614  # eV per Cl, Wang et al., Sci. Rep. 2021, 11, 15496


@pytest.fixture(scope="module")
def refs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    lithium = Structure(Lattice.cubic(3.44), ["Li", "Li"], [[0, 0, 0], [0.5] * 3])
    chlorine = Structure(Lattice.orthorhombic(6.2, 8.2, 4.5), ["Cl"] * 2, [[0, 0, 0], [0.2, 0.2, 0.0]])
    folder = tmp_path_factory.mktemp("observed")
    path = folder / "structures_observed.parquet"
    write_table(path, [lithium, chlorine, lithium_chloride()])
    return SimpleNamespace(
        phases=PhaseReference({composition_key("LiCl"): -2.1371}, elements=("Li", "Cl")),
        potential=load_potential("CHGNet", "cpu"),
        observed_path=path,
        campaign=SimpleNamespace(stages=(StabilitySettings(max_steps=200, fmax=0.2),)),
    )


def part_of(**crystals: Structure) -> pd.DataFrame:
    rows = [{"candidate_id": name, **row_from_structure(s)} for name, s in crystals.items()]
    return pd.DataFrame(rows, index=range(5, 5 + len(rows)))


CAESIUM_TYPE = Structure(Lattice.cubic(3.2), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
PART = part_of(salt=lithium_chloride(), caesium=CAESIUM_TYPE)


def answer(workspace: Path, energies: dict[str, float]) -> None:
    """Write what VASP would into every folder that waits."""
    for item in calculations(workspace):
        folder = workspace / item["folder"]
        sites = len(load_calculation(folder)[0].structure)
        key = item["candidate_id"] or item["formula"]
        if item["state"] == "waiting" and key in energies:
            write_vasprun(folder, energies[key] * sites)


def test_pending_then_ok(refs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    workspace = tmp_path / "workspace"
    first = dft.run(PART, SETTINGS, refs, workspace)
    declared = [c.name for c in schema.columns_of("dft")]
    assert list(first.columns) == [*PART.columns, *declared]
    assert list(first.index) == list(PART.index)
    schema.to_arrow(first, declared)
    assert first["dft_status"].tolist() == ["pending"] * 2, first["dft_error"].tolist()
    assert "no vasprun.xml" in first["dft_error"].iloc[0]
    write_manifest(workspace)
    manifest = pd.read_csv(workspace / MANIFEST, keep_default_na=False)
    assert sorted(zip(manifest["candidate_id"], manifest["formula"], strict=True)) == [
        ("", "Cl2"),
        ("", "Li"),
        ("", "LiCl"),
        ("caesium", "LiCl"),
        ("salt", "LiCl"),
    ]
    answer(workspace, {"salt": -3.735, "Li": ENERGIES["Li"]})
    half = dft.run(PART, SETTINGS, refs, workspace)
    assert half["dft_status"].tolist() == ["pending"] * 2
    assert half["dft_energy_per_atom"].iloc[0] == pytest.approx(-3.735)
    answer(workspace, {**ENERGIES, "caesium": -3.60})
    done = dft.run(PART, SETTINGS, refs, workspace)
    assert done["dft_status"].tolist() == ["ok"] * 2, done["dft_error"].tolist()
    elements = (ENERGIES["Li"] + ENERGIES["Cl2"] - CHLORINE_CORRECTION) / 2
    assert done["dft_formation_energy_per_atom"].tolist() == pytest.approx([-3.735 - elements, -3.60 - elements])
    assert done["dft_energy_above_hull"].tolist() == pytest.approx([-0.005, 0.13])
    assert done["dft_decomposition"].tolist() == ["LiCl 1.00"] * 2
    assert done["dft_code"].tolist() == ["VASP 6.4.2"] * 2
    gate: Gate = SETTINGS.gates["dft_energy_above_hull"]
    assert gate.passes(done["dft_energy_above_hull"]).tolist() == [True, False]
    pieces = [dft.run(PART.iloc[i : i + 1], SETTINGS, refs, workspace) for i in range(2)]
    pd.testing.assert_frame_equal(pd.concat(pieces), done)
    # Another run folder finds all in the cache, and has it in its own folders as if it were computed there.
    elsewhere = tmp_path / "elsewhere"
    pd.testing.assert_frame_equal(dft.run(PART, SETTINGS, refs, elsewhere), done)
    assert [item["state"] for item in calculations(elsewhere)] == ["finished"] * 5
    # A candidate that is new to the cache waits for itself alone.
    dft.run(part_of(new=lithium_chloride().scale_lattice(36.0)), SETTINGS, refs, tmp_path / "third")
    states = {item["candidate_id"] or item["formula"]: item["state"] for item in calculations(tmp_path / "third")}
    assert states == {"new": "waiting", "Li": "finished", "Cl2": "finished", "LiCl": "finished"}


SALT = PART.iloc[:1]


@pytest.fixture
def workspace(refs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In which all has been answered but lithium."""
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    dft.run(SALT, SETTINGS, refs, tmp_path / "workspace")
    answer(tmp_path / "workspace", {"LiCl": ENERGIES["LiCl"], "Cl2": ENERGIES["Cl2"], "salt": -3.735})
    return tmp_path / "workspace"


def answer_lithium(workspace: Path, **how: Any) -> None:
    (lithium,) = workspace.glob("competing/Li-*")
    write_vasprun(lithium, 2 * ENERGIES["Li"], **how)


def test_the_output_of_a_competing_phase_may_be_mended(refs: Any, workspace: Path) -> None:
    answer_lithium(workspace, electronic_steps=100)
    for _ in range(2):
        failed = dft.run(SALT, SETTINGS, refs, workspace)
        assert failed["dft_error"].iloc[0].startswith("NotConvergedError"), failed["dft_error"].iloc[0]
    answer_lithium(workspace)
    assert dft.run(SALT, SETTINGS, refs, workspace)["dft_status"].tolist() == ["ok"]


def test_two_pseudopotentials_of_one_element_share_no_hull(refs: Any, workspace: Path) -> None:
    answer_lithium(workspace, potcars=["PAW_PBE Li_sv 10Sep2004"])
    error = dft.run(SALT, SETTINGS, refs, workspace)["dft_error"].iloc[0]
    assert "pseudopotentials differ: Li's is PAW_PBE Li_sv 06Sep2000 in salt and PAW_PBE Li_sv 10Sep2004 in Li" in error


def test_rows_without_all_phases_are_collected_again() -> None:
    done = pd.DataFrame(
        {
            "candidate_id": ["whole", "lacking", "failed", "pending"],
            "dft_status": ["ok", "ok", "failed", "pending"],
            "dft_missing_phases": ["", "Li2Cl7 (MismatchError)", None, None],
        }
    )
    assert list(done.columns) == columns_for_repeats(SETTINGS)
    asked = {"retry_failed": False, "collect": False}
    assert rows_to_repeat(SETTINGS, done, **asked) == set()
    assert rows_to_repeat(SETTINGS, done, **{**asked, "retry_failed": True}) == {"lacking", "failed"}
    assert rows_to_repeat(SETTINGS, done, **{**asked, "collect": True}) == {"lacking", "failed", "pending"}
    stability = done.rename(columns={"dft_status": "stability_status"}).drop(columns="dft_missing_phases")
    assert rows_to_repeat(StabilitySettings(), stability, **{**asked, "collect": True}) == set()


def test_a_phase_keeps_the_cell_that_it_was_written_with(
    refs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The symmetrised cell of a symmetrised cell may have another origin: then no output fits what is asked next."""
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    original = engine.symmetrised

    def with_another_origin(structure: Structure, tolerance: float) -> Structure:
        found = original(structure, tolerance)
        return found.translate_sites(range(len(found)), [0.1, 0.2, 0.3])

    monkeypatch.setattr(engine, "symmetrised", with_another_origin)
    workspace = tmp_path / "workspace"
    dft.run(PART, SETTINGS, refs, workspace)
    written = {path: path.read_bytes() for path in workspace.rglob("POSCAR")}
    assert len(written) == 5
    dft.run(PART, SETTINGS, refs, workspace)
    assert {path: path.read_bytes() for path in workspace.rglob("POSCAR")} == written
    answer(workspace, {**ENERGIES, "salt": -3.735, "caesium": -3.60})
    done = dft.run(PART, SETTINGS, refs, workspace)
    assert done["dft_status"].tolist() == ["ok"] * 2, done["dft_error"].tolist()


def test_failures_are_rows(refs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    overlapping = Structure(Lattice.cubic(5.0), ["Li", "Cl"], [[0, 0, 0], [0, 0, 0]])
    strange = Structure(Lattice.cubic(3.4), ["Xe", "Cl"], [[0, 0, 0], [0.5] * 3])
    part = part_of(salt=lithium_chloride(), overlapping=overlapping, strange=strange)
    dft.run(part, SETTINGS, refs, tmp_path / "workspace")
    write_vasprun(tmp_path / "workspace" / "salt", -7.4, settings={"ENCUT": 400.0})
    result = dft.run(part, SETTINGS, refs, tmp_path / "workspace")
    assert result["dft_status"].tolist() == ["failed"] * 3
    errors = result["dft_error"].tolist()
    assert "ENCUT is 400 eV, 520 was asked" in errors[0]
    assert "atoms 0" in errors[1]
    assert "element Xe has no reference energy" in errors[2]
    assert result["dft_energy_above_hull"].isna().all()


def test_a_competing_phase_without_crystal_fails_the_row_that_needs_it(
    refs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))
    phases = PhaseReference({composition_key("LiCl"): -2.1, composition_key("Li2Cl7"): -1.5}, elements=("Li", "Cl"))
    monkeypatch.setattr("pipeline.dft.known_crystals._in_prototypes", lambda *_: [])
    others = SimpleNamespace(**{**vars(refs), "phases": phases})
    rich = Structure(Lattice.cubic(6.0), ["Li", "Cl", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]])
    result = dft.run(part_of(rich=rich, salt=lithium_chloride()), SETTINGS, others, tmp_path / "workspace")
    assert result["dft_status"].tolist() == ["failed", "pending"]
    assert "no crystal of Li2Cl7 with at most 32 atoms" in result["dft_error"].iloc[0]
    answer(tmp_path / "workspace", {**ENERGIES, "salt": -3.73})
    done = dft.run(part_of(salt=lithium_chloride()), SETTINGS, others, tmp_path / "workspace")
    assert done["dft_missing_phases"].tolist() == ["Li2Cl7 (NoCrystal)"]


def test_empty_partition(refs: Any, tmp_path: Path) -> None:
    empty = dft.run(PART.iloc[:0], SETTINGS, refs, tmp_path)
    assert len(empty) == 0
    assert {c.name for c in schema.columns_of("dft")} <= set(empty.columns)


def test_rows_are_computed_anew_when_the_tables_of_known_crystals_change(tmp_path: Path) -> None:
    path = write_small_campaign(tmp_path)
    text = path.read_text()
    campaign = load_campaign(path)
    assert Inputs(campaign, None, tmp_path, None, None, {}, ()).known_crystals_digest == ""
    path.write_text(text.replace("  - stage: conduction\n", "  - {stage: dft, engine: vasp}\n  - stage: conduction\n"))
    campaign = load_campaign(path)

    def digest() -> str:
        inputs = Inputs(campaign, None, tmp_path / "structures_observed.parquet", None, None, {}, ())
        tables = inputs.known_crystals_digest
        models = {"potential": "m"}
        made = Digests(campaign, library="l", models=models, table="t", known="k", known_crystals=tables)
        return made.stage(next(stage for stage in campaign.stages if stage.stage == "dft"))

    write_table(tmp_path / "structures_observed.parquet", [lithium_chloride()])
    first = digest()
    assert digest() == first
    write_table(tmp_path / "structures_theoretical_1.parquet", [lithium_chloride()])
    assert digest() != first


def test_rows_are_computed_anew_with_another_version_of_gpaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_small_campaign(tmp_path)
    text = path.read_text()
    path.write_text(text.replace("  - stage: conduction\n", "  - {stage: dft, engine: gpaw}\n  - stage: conduction\n"))

    def digest(version: str) -> str:
        monkeypatch.setattr("workflows.models_found.gpaw_version", lambda: version)
        campaign, models = find_models(load_campaign(path), str(path), {}, [], [])
        made = Digests(campaign, library="l", models=models, table="t", known="k")
        return made.stage(next(stage for stage in campaign.stages if stage.stage == "dft"))

    assert digest("gpaw 25.7.0") == digest("gpaw 25.7.0") != digest("gpaw 25.8.0")
