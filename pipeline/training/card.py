"""The card of a trained model: what it was made of, how, and how wrong it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.training.curve_figure import FIGURE
from pipeline.training.errors import ALL
from pipeline.training.labelled import LabelledCrystals
from pipeline.training.reading import TrainingData
from pipeline.training.rehearsal import Rehearsal

Card = dict[str, Any]


def data_facts(data: TrainingData, rehearsal: Rehearsal | None, folder: Path) -> dict[str, Any]:
    """Files with their SHA-256, those in the model's folder named as seen from there, and what each split holds."""
    files = {**data.files, **(rehearsal.files if rehearsal else {})}
    return {
        "files": {_named_from(folder, file): digest for file, digest in files.items()},
        "label_scheme": data.splits.train.scheme,
        "splits": {name: _split_facts(labels, data.elements) for name, labels in data.splits.items()},
        "rehearsed": rehearsal
        and {
            "label_scheme": rehearsal.labels.scheme,
            "left_out": rehearsal.left_out,
            **_split_facts(rehearsal.labels, data.elements),
        },
    }


def _named_from(folder: Path, file: str) -> str:
    return str(Path(file).relative_to(folder)) if Path(file).is_relative_to(folder) else file


def _split_facts(labels: LabelledCrystals, elements: tuple[str, ...]) -> dict[str, Any]:
    present = (labels.composition_counts(elements) > 0).sum(axis=0)
    return {
        "crystals": len(labels),
        "atoms": int(labels.crystals.counts.sum()),
        "groups": len(set(labels.groups)),
        "crystals_with_element": {symbol: int(n) for symbol, n in zip(elements, present, strict=True)},
        "sources": dict(Counter(labels.sources).most_common()),
        "digest": labels.digest(),
    }


def card_page(card: Card) -> str:
    """The card as Markdown."""
    data, fit = card["data"], card["fit"]
    splits = data["splits"]
    kind = "formula" if card["settings"]["data"]["group_by"] == "formula" else "prototype"
    duration = (
        f"{fit['epochs']} epochs in {fit['seconds'] / 3600.0:.2f} h on {' and '.join(fit['devices'])}, "
        f"weights after epoch {fit['best_epoch']}"
    )
    ended = "" if fit["finished"] else "; max_minutes ended it, the same command goes on"
    lines = [
        f"# {card['name']}",
        "",
        f"An M3GNet potential of {card['parameters']:,} parameters for {', '.join(card['elements'])}, "
        f"{card['start']['description']}.",
        "",
        *([card["notes"], ""] if card["notes"] else []),
        "| | |",
        "|---|---|",
        f"| energies | {data['label_scheme']} |",
        f"| labels from | {card['citation']} |",
        f"| teacher | {card['teacher'] or 'none: labels are computed'} |",
        f"| terms | {card['licence']} |",
        "| convention | messages summed on the source atom, as in matgl 3 and 4; `matgl.load_model` reads the folder |",
        f"| three-body term | {card['three_body']} |",
        f"| training | {duration}{ended} |",
        f"| weights | SHA-256 {card['sha256']['state.pt']} |",
        f"| command | `{card['provenance'].get('command', '')}` |",
        "",
        "## Data",
        "",
        f"Split by {kind}: no group is in two splits.",
        "",
        "| split | crystals | groups | atoms |",
        "|---|---|---|---|",
        *(f"| {name} | {s['crystals']:,} | {s['groups']:,} | {s['atoms']:,} |" for name, s in splits.items()),
        "",
        *_rehearsed_lines(data.get("rehearsed")),
        "Crystals of the training split with each element: "
        + ", ".join(f"{symbol} {n}" for symbol, n in splits["train"]["crystals_with_element"].items())
        + ".",
        "",
        *(f"- `{file}`: SHA-256 {digest}" for file, digest in data["files"].items()),
        "",
        "## Errors on the test split",
        "",
        f"Of {kind}s that were not trained on, against the labels. Mean and median of the absolute error; energies "
        "by crystal, forces and stresses by component. Forces are small where their root mean square is at most "
        f"{card['settings']['fitting']['near_force']:g} eV/Å.",
        "",
        *_error_table(card["errors"]),
        "",
        f"Energies by `matgl.load_model` agree to {card['agreement_with_matgl']['largest']:.1e} eV/atom "
        f"({card['agreement_with_matgl']['crystals']} test crystals).",
        "",
        "## Learning curve",
        "",
        f"![Errors of training and validation split along the epochs]({FIGURE})",
        "",
        "Mean absolute errors after each epoch; those of the training split are taken before each step.",
        "",
        "## Made with",
        "",
        *(f"- {name} {version}" for name, version in card["provenance"].get("versions", {}).items()),
    ]
    return "\n".join(lines) + "\n"


def _rehearsed_lines(rehearsed: Mapping[str, Any] | None) -> list[str]:
    if not rehearsed:
        return []
    left_out = "".join(f"; left out: {count} {reason}" for reason, count in rehearsed["left_out"].items())
    return [
        f"Beside the training split it rehearsed {rehearsed['crystals']:,} crystals of {rehearsed['groups']:,} groups "
        f"with older labels ({rehearsed['label_scheme']}), their energies moved to the zero of the new ones{left_out}.",
        "",
    ]


def _error_table(errors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "| class | crystals | energy, meV/atom | median | force, meV/Å | median | stress, GPa | median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in errors.items():
        numbers = [
            "–" if row[f"{quantity}_{measure}"] is None else f"{row[f'{quantity}_{measure}']:.3g}"
            for quantity in ("energy", "force", "stress")
            for measure in ("mae", "median")
        ]
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        title = f"**{name}**" if name == ALL else name
        lines.append(f"| {title} | {row['crystals']}{failed} | {' | '.join(numbers)} |")
    return lines
