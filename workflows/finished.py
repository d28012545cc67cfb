"""What the folder of a finished run says of it, kept while its candidates are listed once more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.atomic_files import write_atomically
from pipeline.problems import ConfigError
from workflows.files import read_json
from workflows.store import RunFolder


@dataclass(frozen=True)
class FinishedRun:
    """Contents of the files that listing candidates replaces, and the digest of the candidates that the run had."""

    contents: Mapping[Path, bytes]
    campaign: Mapping[str, object] | None
    candidates: str

    def restore(self, folder: RunFolder, digest: str) -> None:
        """Put the files back, the manifest last, if the folder's campaign and candidates are still those of the run."""
        if digest == self.candidates and _campaign(folder) == self.campaign:
            for path, content in self.contents.items():
                write_atomically(path, lambda stream, content=content: stream.write(content) and None)


def manifest_of_earlier(folder: RunFolder) -> dict[str, Any]:
    """What the folder's manifest says, nothing where it is missing or damaged: a run writes it anew."""
    try:
        return read_json(folder.manifest)
    except ConfigError:
        return {}


def campaign_of_earlier(folder: RunFolder) -> str | None:
    """Name of the campaign whose run a folder holds: its manifest's, or the config.yaml's beside a damaged one."""
    beside = _campaign(folder) if folder.config.exists() else None
    name = manifest_of_earlier(folder).get("campaign") or (beside or {}).get("name")
    return None if name is None else str(name)


def finished_run(folder: RunFolder) -> FinishedRun | None:
    """The finished run that a folder holds, None when there is none."""
    files = (folder.progress, folder.current, folder.manifest)
    if not all(path.exists() for path in (folder.config, *files)):
        return None
    manifest = manifest_of_earlier(folder)
    candidates = manifest.get("digests", {}).get("candidates")
    if not manifest.get("finished") or candidates is None:
        return None
    return FinishedRun({path: path.read_bytes() for path in files}, _campaign(folder), str(candidates))


def _campaign(folder: RunFolder) -> dict[str, object] | None:
    """A folder's campaign, wherever it is computed; None where its file was damaged since."""
    try:
        whole = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError):
        return None
    return {key: value for key, value in whole.items() if key != "cluster"} if isinstance(whole, dict) else None
