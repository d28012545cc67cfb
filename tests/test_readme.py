"""The README's commands work: the same commands, with a tiny campaign in the place of the quickstart's."""

import re
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import load_campaign
from tests.campaigns import ionsieve, write_campaign

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.S)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_blocks_of_a_page_are_closed(page: Path) -> None:
    fences = [line for line in page.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("```")]
    assert len(fences) % 2 == 0
    assert all(fence.strip() == "```" for fence in fences[1::2])


def test_make_targets_exist() -> None:
    targets = [c.split()[1] for c in commands() if c.startswith("make ")]
    assert targets == ["quickstart", "test"]
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_ionsieve_commands_run_in_the_order_given(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    outside_data = ("halides", "paper")
    lines = [c for c in commands() if c.startswith("ionsieve ") and not any(name in c for name in outside_data)]
    assert len(lines) >= 8
    for line in lines:
        arguments = shlex.split(line.replace("configs/quickstart.yaml", str(config)).replace("quickstart", "tiny"))[1:]
        if "<candidate_id>" in arguments:
            table = (tmp_path / "runs" / "tiny" / "ranked_candidates.csv").read_text().splitlines()
            arguments[arguments.index("<candidate_id>")] = table[1].split(",")[1]
        done = ionsieve(tmp_path, *arguments)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def test_configs_that_the_readme_names_exist() -> None:
    named = set(re.findall(r"configs/\w+\.yaml", README))
    assert named
    for name in named:
        assert (ROOT / name).exists()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_example_campaign_of_ones_own_crystals_loads(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(example, encoding="utf-8")
    assert load_campaign(path).candidates.substitution == "none"


def test_python_examples_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "quickstart"
    folder.mkdir(parents=True)
    (folder / "columns.csv").write_text("column,unit,dtype\nformula_pretty,,string\nrank,,int64\nsuspect,,bool\n")
    (folder / "ranked_candidates.csv").write_text("formula_pretty,rank,suspect\nNaN,1,True\nLiCl,,\n")
    monkeypatch.chdir(tmp_path)
    loader, example = blocks("python")
    read: dict[str, object] = {}
    exec(compile(loader, "README.md", "exec"), read)
    table = read["table"]
    assert isinstance(table, pd.DataFrame)
    assert table["formula_pretty"].tolist() == ["NaN", "LiCl"]
    assert [str(t) for t in table.dtypes[1:]] == ["Int64", "boolean"]
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    found = re.search(r"a = ([\d.]+) Å", printed)
    assert found is not None
    # LiCl: 5.13 Å measured (ICSD 26909), 5.15 Å in PBE; CHGNet's lattice constants are within 2 %.
    assert float(found[1]) == pytest.approx(5.15, rel=0.02)
