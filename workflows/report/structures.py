"""A crystal for the viewer: its CIF, and a colour for each element that can be told from the others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from workflows.report.palette import BLUE, GREEN, ORANGE, SKY, VERMILION

_SITE = re.compile(r"^\s*([A-Z][a-z]?)[0-9+-]*\s+\S+\s+\d+\s+-?\d", re.M)
_MOBILE = (VERMILION, ORANGE, "#F0E442")
_FRAME = (GREEN, BLUE, SKY, "#CC79A7", "#4b5563", "#a3a3a3", "#7c5c2e", "#111827")


def elements_in(cif: str) -> list[str]:
    """Symbols on the sites of a CIF that pymatgen wrote, in alphabetical order."""
    return sorted(set(_SITE.findall(cif)))


def structure_block(cif: str, mobile_ions: Iterable[str]) -> dict[str, Any]:
    """CIF and colours. Mobile ions are warm, the framework is cool; the usual ones make Li and Na both violet."""
    mobile = list(mobile_ions)
    there = elements_in(cif)
    colours = {e: _MOBILE[mobile.index(e) % len(_MOBILE)] for e in there if e in mobile}
    frame = [e for e in there if e not in mobile]
    colours |= {e: _FRAME[i % len(_FRAME)] for i, e in enumerate(frame)}
    return {"cif": cif, "colours": colours}
