"""Put a trained model into the package: `python scripts/ship_model.py models/NAME`.

Copies the model, its declaration, its card and its learning curve to pipeline/surrogates/models/NAME, where the
catalogue finds it by name, and nothing else. A model is refused whose training has not come to its end, whose card has
no errors on a test split or names folders of the machine that it was made on, whose files are not those that it
declares, or that takes more than 2 MB. Afterwards `make schema`: the JSON schema names the models.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.surrogates.declared import DECLARATION, declared_entry
from pipeline.surrogates.entries import CatalogueEntry
from pipeline.surrogates.shipped import FOLDER

MODEL = ("model.json", "state.pt", "model.pt")
"""What matgl reads."""
FILES = (*MODEL, DECLARATION, "card.md", "card.json", "learning_curve.csv", "learning_curve.svg")
LARGEST = 2_000_000
"""Bytes of all files together."""


class NotShippedError(ValueError):
    """A model that does not belong into the package, with everything that is wrong and the remedy."""


def ship(folder: Path, target: Path, *, replace: bool = False) -> Path:
    """Copy a trained model into ``target/<name>``.

    Parameters
    ----------
    folder
        Of the model, as ``ionsieve train`` left it.
    target
        Folder of the shipped models.
    replace
        Whether a model of this name may be there already.

    Raises
    ------
    NotShippedError
        The model must not be shipped.
    BadDeclarationError
        Its ``ionsieve.json`` is damaged.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise NotShippedError(f"{folder} lacks {', '.join(missing)}; run the training's command again, it goes on")
    entry = declared_entry(folder)
    assert entry is not None  # its file is there
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    wrong = [*_wrong_names(folder, entry, card), *_wrong_files(folder, card), *_wrong_card(card)]
    if wrong:
        raise NotShippedError(f"{folder} is not shipped: " + "; ".join(wrong))
    home = target / entry.name
    if home.exists() and not replace:
        raise NotShippedError(f"{home} is there; give --replace to ship another model under its name")
    fresh = target / f".{entry.name}.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(folder / name, fresh / name)
    if home.exists():
        shutil.rmtree(home)
    return fresh.rename(home)


def _wrong_names(folder: Path, entry: CatalogueEntry, card: dict[str, Any]) -> Iterator[str]:
    if not entry.name == card["name"] == folder.resolve().name:
        yield (
            f"the folder is {folder.resolve().name}, ionsieve.json says {entry.name} and the card {card['name']}; "
            "train it under the name that it shall have"
        )


def _wrong_files(folder: Path, card: dict[str, Any]) -> Iterator[str]:
    declared = json.loads((folder / DECLARATION).read_text(encoding="utf-8"))["sha256"]
    for name in MODEL:
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for where, said in ((DECLARATION, declared), ("card.json", card["sha256"])):
            if said.get(name) != digest:
                yield f"{name} has SHA-256 {digest}, but {where} says {said.get(name)}; train or copy it again"
    size = sum((folder / name).stat().st_size for name in FILES)
    if size > LARGEST:
        yield f"its files take {size:,} bytes, more than {LARGEST:,}; train a smaller network"


def _wrong_card(card: dict[str, Any]) -> Iterator[str]:
    if not card["fit"]["finished"]:
        yield "its training has not come to its end; run its command again, it goes on"
    errors = card.get("errors", {}).get("all", {})
    lacking = [name for name in ("energy_mae", "energy_median", "force_mae") if errors.get(name) is None]
    if lacking:
        yield f"its card has no {', '.join(lacking)} on a test split; train it with one"
    if errors.get("failed"):
        yield f"{errors['failed']} test crystals can't be evaluated"
    places = sorted({word for text in _texts(card) for word in text.split() if Path(word).is_absolute()})
    if places:
        yield (
            f"its card names {', '.join(places)}, which is nowhere else; run the command again with relative names, "
            "the folder in its place: a finished training only writes its card anew"
        )


def _texts(value: Any) -> Iterator[str]:
    """Every text of a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def main() -> int:
    """Ship the model that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a trained model")
    parser.add_argument("--replace", action="store_true", help="replace the model of this name that is shipped")
    options = parser.parse_args()
    try:
        home = ship(options.model, FOLDER, replace=options.replace)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in home.iterdir())
    print(f"{home}: {size:,} bytes; next: make schema, and the tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
