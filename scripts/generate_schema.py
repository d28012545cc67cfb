"""Write the JSON schemas in configs/ and the generated pages of docs/; --check fails when they are stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from configuration_reference import configuration_page
from training_reference import training_page

from pipeline import schema
from pipeline.config import json_schema
from pipeline.training.settings import training_schema

ROOT = Path(__file__).resolve().parent.parent


def columns_page() -> str:
    """Markdown table of every column."""
    lines = [
        "# Columns",
        "",
        "Generated from `pipeline/schema.py` by `scripts/generate_schema.py`; do not edit.",
        "",
        "| column | unit | type | stage | meaning |",
        "|---|---|---|---|---|",
    ]
    for c in schema.COLUMNS:
        meaning = c.meaning.replace("|", "\\|")
        lines.append(f"| `{c.name}` | {c.unit} | {c.dtype} | {c.stage} | {meaning} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a file is stale, write nothing")
    check = parser.parse_args().check
    stale = []
    for path, text in (
        (ROOT / "configs" / "campaign.schema.json", json_schema()),
        (ROOT / "docs" / "columns.md", columns_page()),
        (ROOT / "docs" / "configuration.md", configuration_page()),
        (ROOT / "configs" / "training.schema.json", training_schema()),
        (ROOT / "docs" / "training_configuration.md", training_page()),
    ):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(("stale: " if check else "wrote: ") + ", ".join(stale))
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
