"""Exported crystals: ASE and pymatgen read them in two lines, OPTIMADE's own models accept them, nothing is lost."""

import json
import os
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
import pytest
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifParser
from pymatgen.io.optimade import OptimadeStructureAdapter
from typer.testing import CliRunner

from pipeline import schema
from pipeline.atomic_files import write_json
from pipeline.config import ConfigError
from pipeline.surrogates.catalogue import CATALOGUE
from scripts.synthetic_run import write_run
from workflows.cli import app
from workflows.export import read_crystals, write_extxyz, write_optimade
from workflows.files import digest_of_file, read_json

HOSTILE = '</script> "quoted" \\ \n2\nLattice="1 0 0 0 1 0 0 0 1"'
MODEL = "M3GNet-MP-2021.2.8-PES"


def with_energies(table: pd.DataFrame) -> pd.DataFrame:
    """Total energies, and a column of one ion, whose name has a capital letter."""
    energies = table["formation_energy_per_atom"] - 2.0
    return table.assign(energy_per_atom=energies, reduction_limit_Li=table["reduction_limit"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("export") / "run", 80, change=with_energies)
    manifest = read_json(folder / "manifest.json")
    facts = {"sha256": "0123", "scheme": "mp_raw", "convention": "destination", "found_in": "my own folder"}
    manifest["models"] = {MODEL: facts}
    write_json(folder / "manifest.json", manifest)
    return folder


def shortlist(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "shortlist.csv", keep_default_na=False, na_values=[""])


def exported(run: Path, form: str, *options: str) -> Path:
    done = CliRunner().invoke(app, ["export", str(run), "--format", form, *options])
    assert done.exit_code == 0, done.output
    path = Path(done.stdout.partition(":")[0])
    assert path.exists()
    return path


@pytest.fixture(scope="module")
def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(run, "optimade").read_text(encoding="utf-8").splitlines()]


def test_ase_reads_extended_xyz(run: Path) -> None:
    path = exported(run, "extxyz")
    frames = ase.io.read(path, ":")

    table = shortlist(run)
    assert [atoms.info["candidate_id"] for atoms in frames] == table["candidate_id"].tolist()
    for atoms, row, crystal in zip(frames, table.to_dict("records"), read_crystals(run).crystals, strict=True):
        # Without a tolerance: a coordinate that happens to lie near a third stays where it is.
        parser = CifParser(run / "structures" / f"{row['candidate_id']}.cif", frac_tolerance=0)
        (cif,) = parser.parse_structures(primitive=False)
        assert atoms.get_volume() == pytest.approx(cif.volume, rel=1e-6)  # a CIF's lengths have eight digits
        assert atoms.get_chemical_formula() == cif.composition.hill_formula.replace(" ", "")
        assert atoms.pbc.all()
        assert atoms.get_chemical_symbols() == [site.specie.symbol for site in crystal.structure]
        assert np.abs(atoms.positions - crystal.structure.cart_coords).max() < 1e-8  # ASE writes eight decimals
        assert atoms.get_potential_energy() == pytest.approx(len(atoms) * row["energy_per_atom"])
        for name in ("rank", "energy_above_hull", "shortlisted", "voltage_profile"):
            assert atoms.info[name] == row[name]
        assert atoms.info["units"]["energy_above_hull"] == "eV/atom"


def test_pymatgen_reads_extended_xyz_through_ase(run: Path) -> None:
    path = exported(run, "extxyz", "--top", "3")
    structures = [AseAtomsAdaptor.get_structure(atoms) for atoms in ase.io.read(path, ":")]

    assert path.name == "top_3.extxyz"
    assert [len(structure) for structure in structures] == [10, 10, 10]


def test_pymatgen_reads_optimade(run: Path) -> None:
    path = exported(run, "optimade")
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    structures = [OptimadeStructureAdapter.get_structure(e) for e in entries if e.get("type") == "structures"]

    exact = read_crystals(run).crystals
    assert len(structures) == len(exact) == len(shortlist(run))
    for structure, crystal in zip(structures, exact, strict=True):
        assert structure.composition == crystal.structure.composition
        # from fractional coordinates to Cartesian ones and back
        assert np.abs(structure.frac_coords - crystal.structure.frac_coords).max() < 1e-12
        kept = structure.properties["optimade_attributes"]
        assert kept["_ionsieve_energy_above_hull"] == crystal.values["energy_above_hull"]


def test_optimade_lines_are_what_the_specification_asks(lines: list[dict[str, Any]]) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("optimade", reason="of the extra `test`")
    from optimade.models import EntryInfoResource, StructureResource

    header, info, *entries = lines
    assert header["x-optimade"]["meta"]["api_version"] == "1.2.0"
    EntryInfoResource.model_validate(info)
    for entry in entries:
        accepted = StructureResource.model_validate(entry)
        assert accepted.attributes.nsites == len(entry["attributes"]["species_at_sites"])
    wrong = {**entries[0]["attributes"], "species_at_sites": ["Xx"] * 10}
    with pytest.raises(ValueError, match="species_at_sites"):
        StructureResource.model_validate({**entries[0], "attributes": wrong})


def test_every_property_is_defined_with_its_unit(run: Path, lines: list[dict[str, Any]]) -> None:
    _, info, *entries = lines
    for entry in entries:
        own = {name: value for name, value in entry["attributes"].items() if name.startswith("_")}
        assert set(own) <= set(info["properties"])
        assert all(name == name.lower() for name in own)
    assert info["properties"]["_ionsieve_density"]["unit"] == "g/cm3"
    per_ion = info["properties"]["_ionsieve_reduction_limit_li"]
    assert (per_ion["title"], per_ion["unit"]) == ("reduction_limit_Li", schema.column("reduction_limit").unit)
    row = shortlist(run).iloc[0]
    assert entries[0]["attributes"]["_ionsieve_reduction_limit_li"] == row["reduction_limit_Li"]


def test_provenance_is_in_both_files(run: Path, lines: list[dict[str, Any]]) -> None:
    in_header = lines[0]["x-optimade"]["meta"]["_ionsieve_provenance"]
    in_frame = ase.io.read(exported(run, "extxyz"), 0).info["provenance"]
    assert in_header == in_frame
    assert in_frame["config_digest"] == digest_of_file(run / "config.yaml")
    assert in_frame["models"][MODEL]["sha256"] == "0123"
    assert in_frame["models"][MODEL]["licence"] == CATALOGUE[MODEL].licence
    assert "found_in" not in in_frame["models"][MODEL]
    assert in_frame["versions"]["ionsieve"]
    assert any("CC BY 4.0" in licence for licence in in_frame["data_licences"])
    assert lines[2]["attributes"]["last_modified"] == "2026-07-01T12:10:00Z"


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    def hostile(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(oxidation_products=HOSTILE)

    run = write_run(tmp_path / "run", 60, change=hostile)
    found = read_crystals(run, 2)
    write_extxyz(found, tmp_path / "two.extxyz")
    write_optimade(found, tmp_path / "two.jsonl")
    frames = ase.io.read(tmp_path / "two.extxyz", ":")
    assert [len(atoms) for atoms in frames] == [10, 10]
    assert [atoms.info["candidate_id"] for atoms in frames] == [c.candidate_id for c in found.crystals]
    entries = [json.loads(line) for line in (tmp_path / "two.jsonl").read_text(encoding="utf-8").splitlines()[2:]]
    assert [e["attributes"]["_ionsieve_oxidation_products"] for e in entries] == [HOSTILE, HOSTILE]


def test_an_infinite_barrier_is_left_out_of_json(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 60, change=lambda table: table.assign(migration_barrier_3d=np.inf))
    write_optimade(read_crystals(run, 2), tmp_path / "two.jsonl")
    entry = json.loads((tmp_path / "two.jsonl").read_text(encoding="utf-8").splitlines()[2])
    assert "_ionsieve_migration_barrier_3d" not in entry["attributes"]
    assert entry["attributes"]["_ionsieve_migration_barrier_1d"] > 0.0


@pytest.mark.parametrize("word", ["NaN", "001234567890", "0123456789e1", "T", "1 2 3", "_JSON 3", "_JSON {"])
def test_words_that_look_like_numbers_stay_words(tmp_path: Path, word: str) -> None:
    run = write_run(tmp_path / "run", 60, change=lambda table: table.assign(prototype_id=word))
    write_extxyz(read_crystals(run, 2), tmp_path / "two.extxyz")
    frames = ase.io.read(tmp_path / "two.extxyz", ":")
    assert [atoms.info["prototype_id"] for atoms in frames] == [word, word]


def test_an_empty_shortlist_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 30, gate=0.0, change=lambda t: t.assign(energy_above_hull=0.1))
    with pytest.raises(ConfigError, match="holds no crystal to export"):
        read_crystals(run)
    done = CliRunner().invoke(app, ["export", str(run)])
    assert done.exit_code == 2
    assert not list(run.glob("*.extxyz"))


def test_a_run_that_relaxed_nothing_has_nothing_to_export(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 30)
    progress = json.loads((run / "progress.json").read_text())
    progress["steps"] = [step for step in progress["steps"] if step["stage"] != "stability"]
    (run / "progress.json").write_text(json.dumps(progress))
    with pytest.raises(ConfigError, match="relaxed nothing"):
        read_crystals(run, 5)


def test_another_file_is_not_overwritten(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept.txt").write_text("important")
    done = CliRunner().invoke(app, ["export", str(run), "-o", str(tmp_path / "kept.txt")])
    assert done.exit_code == 2
    assert "is there already" in done.stderr
    assert (tmp_path / "kept.txt").read_text() == "important"
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["export", str(run), "--top", "1", "-o", "~/one.xyz"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "one.xyz").exists()
    assert "one.xyz: 1 crystal\n" in done.output.replace("\n ", " ")
    done = CliRunner().invoke(app, ["export", str(run), "-o", "~nobody-of-that-name/one.xyz"])
    assert done.exit_code == 2
    assert "a user that does not exist" in done.stderr


def test_a_ranking_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 30)
    table = run / "ranked_candidates.csv"
    table.write_bytes(table.read_bytes()[:-40])
    done = CliRunner().invoke(app, ["top", str(run)])
    assert done.exit_code == 2
    assert "is damaged" in done.stderr


def test_a_place_that_cannot_be_written_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    done = CliRunner().invoke(app, ["export", str(run), "-o", str(tmp_path / "taken")])
    assert done.exit_code == 2
    assert "taken" in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_candidates_without_a_crystal_are_counted(tmp_path: Path) -> None:
    def first_without(table: pd.DataFrame) -> pd.DataFrame:
        best = table["energy_above_hull"].nsmallest(20).index[::2]
        table["lattice"] = [None if i in best else lattice for i, lattice in enumerate(table["lattice"])]
        return table

    run = write_run(tmp_path / "run", 60, change=first_without)
    found = read_crystals(run, 100)
    assert len(found.without_structure) > 0
    ranked = pd.read_csv(run / "ranked_candidates.csv")["candidate_id"]
    assert len(found.crystals) + len(found.without_structure) == len(ranked)
    done = CliRunner().invoke(app, ["export", str(run), "--top", "100"])
    assert f"{len(found.without_structure)} have no relaxed crystal" in done.stdout
