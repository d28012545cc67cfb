"""docs/training_configuration.md: every key of a training file, and the columns of a file of labels.

`scripts/generate_schema.py` writes the page, and fails with --check when it is stale.
"""

from __future__ import annotations

from typing import Any

from configuration_reference import Reference, files_in_configs

from pipeline.training.labelled import LABEL_COLUMNS
from pipeline.training.settings import Training

_SHOWN = ("configs/train_example.yaml",)
# Of keys that the example does not set, and whose default says nothing.
_EXAMPLES: dict[str, Any] = {
    "data.train": ["labels/train.parquet"],
    "data.validation": ["labels/validation.parquet"],
    "data.test": ["labels/test.parquet"],
    "network.elements": ["Li", "Y", "Cl"],
    "fine_tune.model": "M3GNet-MP-2021.2.8-PES",
    "fine_tune.convention": "source",
    "fine_tune.rehearse.files": ["models/mine-1/labels/train.parquet"],
    "fine_tune.rehearse.label_scheme": "mp_raw",
}


def training_page() -> str:
    """The whole page, as Markdown."""
    root = Training.model_json_schema()
    reference = Reference(root["$defs"], files_in_configs(_SHOWN), _EXAMPLES)
    lines = [
        "# Configuration of a training",
        "",
        "Generated from the models in `pipeline/training/` by `scripts/generate_schema.py`; do not edit. "
        "[training.md](training.md) says how a potential is trained. Where the default is –, the key is not set. "
        "Examples are from `configs/train_example.yaml` where it sets the key.",
        "",
        "## The training",
        "",
        *reference.table("", root),
    ]
    for name, node in root["properties"].items():
        lines += reference.sections(name, node, 2)
    lines += ["", "## Columns of a file of labels", "", "| column | unit | type | meaning |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.unit} | {c.dtype} | {c.meaning} |" for c in LABEL_COLUMNS]
    return "\n".join(lines) + "\n"
