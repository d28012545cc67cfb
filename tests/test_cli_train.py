"""`ionsieve train`: every mistake with its line, exit codes, and a kill that costs an epoch at most."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipeline.problems import ConfigError
from pipeline.training.settings import load_training
from tests.campaigns import write_campaign
from tests.labels import write_alloys
from workflows.cli import app
from workflows.training_view import TrainingView

GOOD = """\
name: alloys
output: {output}
data:
  files: [{labels}]
  label_scheme: other
  shares: {{train: 0.5, validation: 0.25, test: 0.25}}
  min_structures_per_element: 2
network: {{units: 8, node_width: 8, edge_width: 8, blocks: 1, cutoff: 4.0, three_body_cutoff: 3.5}}
fitting: {{batch_size: 8, max_epochs: {epochs}, learning_rate: 0.01}}
card: {{data_licence: LGPL, data_citation: ASE}}
device: cpu
threads: 1
"""


def config(folder: Path, labels: Path, epochs: int = 2) -> Path:
    path = folder / "train.yaml"
    path.write_text(GOOD.format(output=folder / "models", labels=labels, epochs=epochs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    return write_alloys(tmp_path_factory.mktemp("labels") / "alloys.parquet", 30)


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("name: alloys", "name: alloys\nnmae: y", ":2: nmae", "unknown key"),
        ("name: alloys", "name: CHGNet", ":1: name", "CHGNet is a model of the catalogue"),
        ("label_scheme: other", "label_scheme: pbe", ":5: data.label_scheme", "'matpes_pbe' or 'other'"),
        ("  label_scheme: other\n", "", ":3: data.label_scheme", "is missing"),
        ("train: 0.5", "train: 0.6", ":6: data.shares", "must sum to 1, got 1.1"),
        ("files: [", "train: [", ":3: data", "needs files, or all of train, validation and test"),
        ("three_body_cutoff: 3.5", "three_body_cutoff: 4.5", ":8: network", "beyond the cutoff at 4 Å"),
        ("device: cpu", "fine_tune: {model: x}", ":1: training", "exclude each other"),
        ("learning_rate: 0.01", "learning_rate: -1", ":9: fitting.learning_rate", "greater than 0, got -1"),
        ("network: {", "network: {elements: [Xy], ", ":8: network.elements", "unknown element 'Xy'"),
        ("card: {", "loss: {energy: 0, force: 0}\ncard: {", ":10: loss", "nothing determines the potential"),
    ],
)  # fmt: skip
def test_mistakes_have_a_line(tmp_path, old, new, place, words):
    path = config(tmp_path, tmp_path / "labels.parquet")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_training(path)
    said = str(caught.value)
    assert f"{path}{place}" in said
    assert words in said


def test_bad_files_are_exit_code_2(tmp_path, labels):
    missing = CliRunner().invoke(app, ["train", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 2
    assert "can't be read" in missing.output
    (tmp_path / "list.yaml").write_text("- a\n")
    assert "a training is a mapping of keys" in CliRunner().invoke(app, ["train", str(tmp_path / "list.yaml")]).output
    no_data = CliRunner().invoke(app, ["train", str(config(tmp_path, tmp_path / "none.parquet"))])
    assert no_data.exit_code == 2
    assert "none.parquet: can't be read as Parquet" in no_data.output


def test_a_folder_that_cannot_be_made_is_no_traceback(tmp_path, labels):
    path = config(tmp_path, labels)
    (tmp_path / "taken").write_text("a file")
    path.write_text(re.sub("output: .*", f"output: {tmp_path / 'taken'}", path.read_text()))
    refused = CliRunner().invoke(app, ["train", str(path)])
    assert refused.exit_code == 2
    assert "output: " in refused.output
    assert "name another folder" in " ".join(refused.output.split())


def test_training_goes_on_after_an_interruption(tmp_path, labels, monkeypatch):
    path = config(tmp_path, labels)

    def interrupt(view, row) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingView, "epoch", interrupt)
        interrupted = CliRunner().invoke(app, ["train", str(path)])
    assert interrupted.exit_code == 3
    assert "the same command goes on" in interrupted.output
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    done = CliRunner().invoke(app, ["train", str(path)])
    assert done.exit_code == 0, done.output
    assert "epoch 2: loss" in done.output
    assert "epoch 1:" not in done.output
    assert f"potential: {{model: {tmp_path / 'models' / 'alloys'}}}" in done.output
    card = json.loads((tmp_path / "models" / "alloys" / "card.json").read_text())
    assert card["provenance"]["command"] == f"ionsieve train {path}"
    assert card["provenance"]["versions"]["matgl"] == "4.1.2"
    monkeypatch.chdir(tmp_path)
    campaign = write_campaign(tmp_path)
    campaign.write_text(campaign.read_text().replace("model: CHGNet", f"model: {tmp_path / 'models' / 'alloys'}"))
    refused = CliRunner().invoke(app, ["run", str(campaign)])
    assert refused.exit_code == 2
    assert "alloys does not know" in refused.output
    assert "it knows Cu, Ag, Au" in refused.output


@pytest.mark.slow
def test_killed_training_goes_on_to_the_same_weights(tmp_path, labels):
    """SIGKILL while epochs run: what comes out is what an undisturbed training gives, to the last bit."""
    folders = {name: tmp_path / name for name in ("undisturbed", "killed")}
    paths = {}
    for name, folder in folders.items():
        folder.mkdir()
        paths[name] = config(folder, labels, epochs=20)

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "workflows.entry", "train", str(paths[name])])

    assert start("undisturbed").wait() == 0
    checkpoint = folders["killed"] / "models" / "alloys" / "training" / "last.ckpt"
    process = start("killed")
    while not checkpoint.exists():
        time.sleep(0.02)
        assert process.poll() is None
    time.sleep(0.5)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folders["killed"] / "models" / "alloys" / "state.pt").exists()
    assert start("killed").wait() == 0
    states = [torch.load(f / "models" / "alloys" / "state.pt", weights_only=True) for f in folders.values()]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
