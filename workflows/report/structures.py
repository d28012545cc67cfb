"""A crystal for the viewer: its CIF, colours that can be told apart, and which elements are tied by sticks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from workflows.report.palette import BLUE, GREEN, ORANGE, SKY, VERMILION
from workflows.report.run_data import RunData
from workflows.step_results import read_step

_SITE = re.compile(r"^\s*([A-Z][a-z]?)[0-9+-]*\s+\S+\s+\d+\s+-?\d", re.M)
_ANION = 2.5
_MOBILE = (VERMILION, ORANGE, "#F0E442")
_FRAME = (GREEN, BLUE, SKY, "#CC79A7", "#4b5563", "#a3a3a3", "#7c5c2e", "#111827")


def elements_in(cif: str) -> list[str]:
    """Symbols on the sites of a CIF that pymatgen wrote, in alphabetical order."""
    return sorted(set(_SITE.findall(cif)))


def paths_of(run: RunData, candidates: Collection[str]) -> dict[str, list[list[float]]]:
    """Bond-valence ways of candidates: nine fractional coordinates a hop, of its start, its pass and its end."""
    names = [stage.step for stage in run.campaign.stages if stage.stage == "conduction"]
    step = next((step for step in run.steps if step["step"] in names), None)
    if step is None or not candidates:
        return {}
    rows = read_step(run.folder, step, ["candidate_id", "conduction_path_points"], candidates)
    if "conduction_path_points" not in rows:
        return {}
    ways = rows[rows["conduction_path_points"].notna()]
    points = (np.asarray(way, dtype=float).reshape(-1, 9).round(4) for way in ways["conduction_path_points"])
    return {str(name): way.tolist() for name, way in zip(ways["candidate_id"], points, strict=True) if len(way)}


def structure_block(cif: str, mobile_ions: Iterable[str], path: list[list[float]]) -> dict[str, Any]:
    """CIF, colours, the mobile ion's path, and the framework's cations and anions, between which sticks are drawn.

    Mobile ions are warm, the framework is cool: the usual colours make Li and Na both violet. An anion is an element
    of Pauling electronegativity above 2.5 (C, N, O, F, S, Cl, Se, Br, I).
    """
    from pymatgen.core import Element

    mobile = list(mobile_ions)
    there = elements_in(cif)
    colours = {e: _MOBILE[mobile.index(e) % len(_MOBILE)] for e in there if e in mobile}
    frame = [e for e in there if e not in mobile]
    colours |= {e: _FRAME[i % len(_FRAME)] for i, e in enumerate(frame)}
    anions = [e for e in frame if Element(e).X > _ANION]
    cations = [e for e in frame if e not in anions]
    return {"cif": cif, "colours": colours, "cations": cations, "anions": anions, "path": path}
