"""A crystal for the viewer: its CIF, colours that can be told apart, and which elements are tied by sticks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from workflows.report.palette import BLUE, GREEN, ORANGE, SKY, VERMILION

_SITE = re.compile(r"^\s*([A-Z][a-z]?)[0-9+-]*\s+\S+\s+\d+\s+-?\d", re.M)
_ANION = 2.5
_MOBILE = (VERMILION, ORANGE, "#F0E442")
_FRAME = (GREEN, BLUE, SKY, "#CC79A7", "#4b5563", "#a3a3a3", "#7c5c2e", "#111827")


def elements_in(cif: str) -> list[str]:
    """Symbols on the sites of a CIF that pymatgen wrote, in alphabetical order."""
    return sorted(set(_SITE.findall(cif)))


def structure_block(cif: str, mobile_ions: Iterable[str]) -> dict[str, Any]:
    """CIF, colours, and the framework's cations and anions, between which the viewer draws sticks.

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
    return {"cif": cif, "colours": colours, "cations": [e for e in frame if e not in anions], "anions": anions}
