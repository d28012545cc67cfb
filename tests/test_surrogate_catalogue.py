"""The catalogue: look-up order, checksums, conventions; and that asking it does not import torch."""

import subprocess
import sys

import pytest

from pipeline.surrogates import (
    CATALOGUE,
    ChecksumError,
    ModelNotFoundError,
    UnknownConventionError,
    list_models,
    load_potential,
    load_property_model,
    locate,
    model_digest,
)
from pipeline.surrogates.catalogue import resolve_convention
from pipeline.surrogates.entries import ENERGY_SCHEMES


def _checkpoint(folder, state=b"weights", description=b"{}"):
    folder.mkdir(parents=True)
    (folder / "model.json").write_bytes(description)
    (folder / "state.pt").write_bytes(state)
    return folder


def test_entries_are_complete():
    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert entry.scheme in ENERGY_SCHEMES
        assert all(len(digest) == 64 and int(digest, 16) for digest in entry.sha256.values())
        assert entry.licence
        assert entry.citation
        assert len(entry.elements) == 89
        assert len(entry.file_urls()) == (0 if name == "CHGNet" else 2)


def test_looking_things_up_imports_no_torch():
    code = (
        "import sys; from pipeline.surrogates import list_models, model_digest; list_models(); "
        "model_digest('CHGNet'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_order_is_path_then_data_then_cache(tmp_path):
    environ = {"IONSIEVE_DATA": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    in_cache = _checkpoint(tmp_path / "cache" / "ionsieve" / "models" / "mine", b"cache")
    assert locate("mine", environ).files["state.pt"].parent == in_cache
    in_data = _checkpoint(tmp_path / "data" / "models" / "mine", b"data")
    assert locate("mine", environ).files["state.pt"].parent == in_data
    path = _checkpoint(tmp_path / "elsewhere" / "mine", b"path")
    assert locate(path, environ).files["state.pt"].parent == path
    assert locate("mine", environ).found_in == "$IONSIEVE_DATA/models"


def test_a_name_too_long_for_a_file_is_not_found_in_few_words(tmp_path):
    with pytest.raises(ModelNotFoundError) as error:
        locate("M3GNet" + "x" * 5000, {"IONSIEVE_DATA": str(tmp_path)})
    assert len(str(error.value)) < 2000


def test_not_found_lists_what_was_tried_and_the_remedy(tmp_path):
    environ = {"IONSIEVE_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with pytest.raises(ModelNotFoundError) as error:
        locate("M3GNet-MP-2021.2.8-PES", environ)
    text = str(error.value)
    assert str(tmp_path / "models" / "M3GNet-MP-2021.2.8-PES") in text
    assert str(tmp_path / "cache") in text
    assert "set IONSIEVE_DATA to a folder that has models/M3GNet-MP-2021.2.8-PES" in text
    with pytest.raises(ModelNotFoundError, match="IONSIEVE_DATA is not set"):
        locate("M3GNet-MP-2021.2.8-PES", {"XDG_CACHE_HOME": str(tmp_path)})
    with pytest.raises(ModelNotFoundError, match=r"known models: .*M3GNet-MP"):
        locate("no-such-model", environ)


def test_other_weights_under_a_known_name_are_refused(tmp_path):
    _checkpoint(tmp_path / "models" / "MEGNet-MP-2018.6.1-Eform")
    environ = {"IONSIEVE_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with pytest.raises(ChecksumError, match="SHA-256"):
        locate("MEGNet-MP-2018.6.1-Eform", environ)
    listing = {item.entry.name: item for item in list_models(environ)}
    assert "SHA-256" in listing["MEGNet-MP-2018.6.1-Eform"].problem
    assert listing["M3GNet-MP-2018.6.1-Eform"].problem == "not found"
    assert listing["CHGNet"].path is not None


def test_unknown_checkpoint_must_be_told_its_convention(tmp_path):
    model = locate(_checkpoint(tmp_path / "mine"))
    assert model.entry is None
    with pytest.raises(UnknownConventionError, match="must be given"):
        resolve_convention(model, None)
    with pytest.raises(UnknownConventionError, match="write one of: source, destination"):
        resolve_convention(model, "sideways")
    assert resolve_convention(model, "source") == "source"
    with pytest.raises(UnknownConventionError, match="must be given"):
        load_potential(tmp_path / "mine")


def test_convention_word_is_checked_for_known_models_too():
    with pytest.raises(UnknownConventionError, match="sideways"):
        load_potential("CHGNet", convention="sideways")
    with pytest.raises(UnknownConventionError, match="leave it out"):
        load_potential("CHGNet", convention="source")


def test_digest_is_the_pinned_one():
    assert model_digest("CHGNet") == next(iter(CATALOGUE["CHGNet"].sha256.values()))


def test_wrong_kind_and_device_are_refused():
    with pytest.raises(ValueError, match="load it with load_potential"):
        load_property_model("CHGNet")
    with pytest.raises(ValueError, match="write auto, cpu or cuda"):
        load_potential("CHGNet", device="abacus")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (b"{", "cannot be read as JSON"),
        (b'{"kwargs": {}}', "cannot be read as plain weights"),
        (b"[]", "not a matgl model description"),
    ],
)
def test_broken_checkpoints_are_named(tmp_path, description, message):
    folder = _checkpoint(tmp_path / "broken", description=description)
    with pytest.raises(ValueError, match=message):
        load_potential(folder, convention="source")
