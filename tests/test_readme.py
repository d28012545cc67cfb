"""The README's commands work: the same commands, with a tiny campaign in the place of the quickstart's."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.campaigns import ionsieve, write_campaign

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.S)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_make_targets_exist() -> None:
    targets = [c.split()[1] for c in commands() if c.startswith("make ")]
    assert targets == ["quickstart", "test"]
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_ionsieve_commands_run_in_the_order_given(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    lines = [c for c in commands() if c.startswith("ionsieve ") and "halides" not in c]
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


def test_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    found = re.search(r"a = ([\d.]+) Å", printed)
    assert found is not None
    # LiCl: 5.13 Å measured (ICSD 26909), 5.15 Å in PBE; CHGNet's lattice constants are within 2 %.
    assert float(found[1]) == pytest.approx(5.15, rel=0.02)
