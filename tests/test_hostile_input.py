"""Files made to break a reader: bombs, pipes, devices, other encodings; refused with their place, in little memory."""

import gzip
import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import ConfigError, load_campaign
from pipeline.input_files import InputFileError, read_bytes, read_text
from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key, composition_keys
from pipeline.reference.prototype_sources import PrototypeError, read_table
from pipeline.reference.structure_files import MOST_ATOMS, read_structures, structure_files
from pipeline.reference.tables import read_phase_table
from pipeline.references import resolve_path
from pipeline.wording import listed, quoted
from tests.prototype_inputs import salt
from tests.structure_tables import row_of
from tests.test_config import GOOD, problems_of

HEADER = b"formula,formation_energy_per_atom\n"


def laughs(start: str, line: str) -> str:
    """Thirty lines, each of which names the one before it twice: a billion values."""
    return start + "".join(line.format(i=i, below=i - 1) for i in range(1, 31))


@pytest.mark.parametrize(
    "bomb",
    [
        laughs("z0: &z0 [x, y]\n", "z{i}: &z{i} [*z{below}, *z{below}]\n"),
        laughs("z0: &z0 {k: v}\n", "z{i}: &z{i} {{a: *z{below}, b: *z{below}}}\n"),
        laughs("z0: &z0 {k: v}\n", "z{i}: &z{i} {{<<: [*z{below}, *z{below}], k{i}: 1}}\n"),
    ],
    ids=["lists", "mappings", "merged"],
)
def test_aliases_that_stand_for_a_billion_values(tmp_path: Path, bomb: str) -> None:
    (problem,) = problems_of(tmp_path, bomb + GOOD)
    assert problem.startswith("c.yaml:1")
    assert "more than 10,000 keys and values, aliases (*) written out" in problem


@pytest.mark.parametrize("depth", [45, 300, 40_000])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ("{a: ", "}")])
def test_deep_nesting(tmp_path: Path, depth: int, left: str, right: str) -> None:
    (problem,) = problems_of(tmp_path, f"{GOOD}deep: {left * depth}{right * depth}")
    assert problem.startswith("c.yaml:13: lists and mappings lie more than 40 deep")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.05}", "9" * 5000 + "}", "c.yaml:9: a number of more than 100 digits: '999"),
        ("0.05}", "0x" + "f" * 5000 + "}", "c.yaml:9: a number of more than 100 digits: '0xff"),
        ("0.05}", "1e400}", "below: input should be a finite number, got inf"),
        ("name: x", "name: " + "x" * 3000, "(2,922 more characters)"),
        ("name: x", "name: x\n1: 2", "the key 1 is no text"),
        ("name: x", "name: !!int word", "c.yaml: not valid YAML"),
        ("name: x", "name: !!python/object/apply:os.system [true]", "c.yaml:1: not valid YAML"),
        ("[Li, Cl]", "&a [Li, *a]", "c.yaml:5: an alias (*) refers to itself"),
        ("[Li, Cl]", "[Li" + ", Xx" * 900 + "]", "and 892 more; use symbols"),
    ],
)
def test_values_out_of_all_measure(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    problems = problems_of(tmp_path, GOOD.replace(old, new, 1))
    assert any(words in problem for problem in problems), problems
    assert all(len(problem) < 500 for problem in problems)


def test_lines_are_found_through_merged_mappings(tmp_path: Path) -> None:
    text = GOOD.replace("ranking:", "run: {<<: {allowed_failed_share: 2}}\nranking:")
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith("c.yaml:10: run.allowed_failed_share: input should be less than or equal to 1, got 2")


def test_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_campaign(path).name == "x"
    for raw in (GOOD.encode("utf-16"), GOOD.encode("utf-32-le"), "name: Ångström".encode("latin-1")):
        path.write_bytes(raw)
        with pytest.raises(ConfigError, match="save it as UTF-8"):
            load_campaign(path)


def test_neither_pipe_nor_device_nor_folder_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "itself").symlink_to("itself")
    for name, words in (("pipe", "a pipe or a device"), ("zero", "a pipe or a device"), ("itself", "can't be read")):
        with pytest.raises(InputFileError, match=words):
            read_bytes(tmp_path / name, 100)
        with pytest.raises(ConfigError, match=words):
            load_campaign(tmp_path / name)
    with pytest.raises(InputFileError, match="a folder"):
        read_bytes(tmp_path, 100)
    with pytest.raises(InputFileError, match="null"):
        read_bytes(Path("a\0b"), 100)


def test_no_more_than_asked_is_read(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"x" * 100)
    assert read_text(path, 100) == "x" * 100
    with pytest.raises(InputFileError, match="more than 99 bytes"):
        read_bytes(path, 99)


@pytest.mark.skipif(os.geteuid() != 0, reason="root gives its rights up here; others have not these")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    path.chmod(0)
    tmp_path.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(InputFileError, match="can't be read"):
            read_bytes(path, 100)
    finally:
        os.seteuid(0)


BOMB = """\
import resource, sys
from pathlib import Path
from pipeline.reference.tables import read_phase_table
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_phase_table(Path(sys.argv[1]))
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_gzip_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed:
        packed.write(HEADER)
        for _ in range(256):
            packed.write(b"LiCl,-2\n" * (1 << 17))
    bomb = tmp_path / "phases.csv.gz"
    bomb.write_bytes(stream.getvalue() * 4)  # a gigabyte, unpacked
    assert bomb.stat().st_size < 20_000_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(bomb)], capture_output=True, text=True, check=False, preexec_fn=limited
    )
    assert done.returncode == 0, done.stderr
    words, megabytes = done.stdout.splitlines()
    assert "holds more than 33,554,432 bytes" in words
    assert int(megabytes) < 300


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (HEADER + b'"' + b"x" * 200_000 + b'",1\n', r"line 2: no table of comma-separated values: field larger"),
        (HEADER + b"LiCl,-2\x00\n", "no text file"),
        (HEADER.decode().encode("utf-16"), "not UTF-8"),
        (HEADER + b"LiCl," + b"9" * 5000 + b"\n", r"line 2: .*finite number.*more characters"),
        (HEADER + b"Li" + b"Cl" * 5000 + b",-2\n", "line 2: .*10,002 characters"),
        (HEADER + b"(" * 240 + b"Li" + b")9" * 120 + b",-2\n", "line 2"),
        (HEADER + b"Li1234567890Cl,-2\n", "more than 9 digits"),
        (HEADER + b"LiCl,-213.7\n", "line 2: formation_energy_per_atom is -213.7 eV/atom.*check its unit"),
        (b"formula,formula,formation_energy_per_atom\nLi,LiCl,0\n", "column formula occurs twice"),
        (gzip.compress(HEADER, mtime=0)[:-4], "truncated"),
    ],
)
def test_hostile_tables(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "phases.csv"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=words) as caught:
        read_phase_table(path)
    assert "phases.csv" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_tables_as_spreadsheets_write_them(tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain.csv", tmp_path / "marked.csv"
    plain.write_bytes(HEADER + b"LiCl,-2\nNaCl,-2.1\n")
    for end in (b"\r\n", b"\r"):
        marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", end))
        assert read_phase_table(marked).energies == read_phase_table(plain).energies
    assert len(PhaseReference.from_table(marked)) == 2


def test_amounts_stay_exact() -> None:
    assert composition_key("Li999999999Cl") == (("Cl", 1), ("Li", 999999999))
    for formula in ("Li1000000000Cl", "(LiO2)999999999", "Li1e400Cl", "((((LiCl)99)99)99)99999999"):
        with pytest.raises(ValueError, match="formula"):
            composition_keys(["LiCl", formula])


def test_a_table_of_a_billion_equal_rows(tmp_path: Path) -> None:
    path = tmp_path / "crystals.parquet"
    pq.write_table(pa.table({"formula": pa.nulls(20_000_000, pa.string())}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(PrototypeError, match="20,000,000 rows"):
        read_table(path, ["formula"])


def test_a_table_without_its_columns_names_them(tmp_path: Path) -> None:
    path = tmp_path / "crystals.parquet"
    pq.write_table(pa.Table.from_pylist([row_of("mp-1", salt())]), path)
    with pytest.raises(PrototypeError, match="lacks weight"):
        read_table(path, ["formula", "weight"])


def cif(sites: int, operations: int) -> str:
    """A cell of 40 Å with sites on a line, and translations that are no space group's."""
    cell = "".join(f"_cell_length_{a} 40\n" for a in "abc")
    cell += "".join(f"_cell_angle_{a} 90\n" for a in ("alpha", "beta", "gamma"))
    listed_ones = "".join(f"{i} 'x,y+{i}/997,z'\n" for i in range(operations))
    names = "".join(f"_atom_site_{n}\n" for n in ("label", "type_symbol", "fract_x", "fract_y", "fract_z"))
    rows = "".join(f"Na{i} Na {i / sites:.4f} 0 0\n" for i in range(sites))
    columns = "_symmetry_equiv_pos_site_id\n_symmetry_equiv_pos_as_xyz\n"
    return f"data_x\n{cell}loop_\n{columns}{listed_ones}loop_\n{names}{rows}"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("many.cif", cif(MOST_ATOMS + 1, 1), "2,001 atoms"),
        ("images.cif", cif(30, 192), "5,760 atoms; 2,000 are read at most"),
        ("operations.cif", cif(1, 1001), "1,001 symmetry operations"),
        ("counts.vasp", "x\n3\n1 0 0\n0 1 0\n0 0 1\nNa\n999999999999\nDirect\n0 0 0\n", "999,999,999 atoms"),
        ("POSCAR_old", "x\n3\n1 0 0\n0 1 0\n0 0 1\n3000 1\nDirect\n0 0 0\n", "3,001 atoms"),
        ("digits.cif", cif(1, 1).replace("997", "9" * 5000), r"'x,y\+0/999.* is no symmetry operation"),
        ("nul.cif", "data_x\0", "no text file"),
    ],
)  # fmt: skip
def test_structure_files_that_ask_for_too_much(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_structures(tmp_path / name)


def test_a_file_name_is_no_query(tmp_path: Path) -> None:
    """ASE takes what stands behind an @ for the index of a frame."""
    atoms = '2\nLattice="3 0 0 0 3 0 0 0 3" pbc="T T T"\nNa 0 0 0\nCl 1.5 1.5 1.5\n'
    (tmp_path / "salt@5.xyz").write_text(atoms * 2)
    os.mkfifo(tmp_path / "pipe.cif")
    (tmp_path / "folder.cif").mkdir()
    (path,) = structure_files(tmp_path)
    assert [s.formula for s in read_structures(path)] == ["Na1 Cl1"] * 2


def test_a_home_that_does_not_exist_is_no_path(tmp_path: Path) -> None:
    assert resolve_path("~no-such-user/phases.csv", tmp_path, {}) is None
    assert resolve_path("a\0b", tmp_path, {}) is None


def test_words_of_values() -> None:
    assert quoted("short") == "'short'"
    assert quoted(10**5000) == "int of too many digits"
    assert len(quoted("x" * 10_000)) < 130
    assert listed(list(range(10))) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
