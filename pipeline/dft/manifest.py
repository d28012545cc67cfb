"""The list of a stage's DFT calculations: which folder is whose, and how far it is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pipeline.atomic_files import write_text
from pipeline.dft.calculation import ASKED, FAILURE, load_calculation, load_result
from pipeline.dft.espresso import OUTPUT as ESPRESSO_OUTPUT
from pipeline.dft.vasp import OUTPUTS as VASP_OUTPUTS

MANIFEST = "manifest.csv"
COLUMNS = ("folder", "candidate_id", "formula", "engine", "state")


def calculations(workspace: Path) -> list[dict[str, str]]:
    """All calculations below a workspace, by folder.

    Returns
    -------
    list
        ``folder`` (relative to the workspace), ``candidate_id`` (empty for a competing phase), ``formula``, ``engine``
        and ``state``: finished, failed, output (there is one that has not been accepted), waiting, or damaged.
    """
    found = []
    for path in sorted(workspace.rglob(ASKED)):
        folder = path.parent
        name = folder.relative_to(workspace).as_posix()
        try:
            calculation, written = load_calculation(folder)
        except (OSError, ValueError):
            found.append({"folder": name, "candidate_id": "", "formula": "", "engine": "", "state": "damaged"})
            continue
        found.append(
            {
                "folder": name,
                "candidate_id": str(written.get("candidate_id", "")),
                "formula": str(written.get("formula") or written.get("phase", "")),
                "engine": str(calculation.settings["engine"]),
                "state": "finished" if load_result(folder, calculation) is not None else _state(folder),
            }
        )
    return found


def _state(folder: Path) -> str:
    if (folder / FAILURE).exists():
        return "failed"
    outputs = (*VASP_OUTPUTS, ESPRESSO_OUTPUT)
    return "output" if any((folder / name).exists() for name in outputs) else "waiting"


def write_manifest(workspace: Path) -> None:
    """Write ``manifest.csv`` into the workspace."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(calculations(workspace))
    write_text(workspace / MANIFEST, stream.getvalue())
