"""The peer of ``benchmark_conduction.py``: bvlain, with all the neighbours it needs and told whether it kept them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from pymatgen.core import Structure

from pipeline.site_energies import FrameworkIon

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecated SciPy names and escapes
    from bvlain import Lain

CUTOFF = 10.0
"""Å, of the pair energies."""


class FullPeer(Lain):  # type: ignore[misc]
    """The peer, told whether it kept all neighbours that it found."""

    complete = False

    def _neighbors(self, **arguments: Any) -> Any:
        found = super()._neighbors(**arguments)
        self.complete = bool(np.isinf(found[1][:, -1]).all())
        return found


def peer_energies(structure: Structure, element: str, spacing: float, k: int) -> tuple[FullPeer, np.ndarray]:
    """The peer and its energies, without the far faces, which repeat the near ones."""
    peer = FullPeer(verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # divisions by zero
        peer.read_structure(structure, oxi_check=False)
        peer.bvse_distribution(
            mobile_ion=f"{element}1+", r_cut=CUTOFF, resolution=spacing, k=k, use_softbv_covalent_radii=True
        )
    return peer, peer.data[:-1, :-1, :-1]


def neighbours_needed(structure: Structure, framework: list[FrameworkIon]) -> int:
    """More than any point has: the mean number within the cutoff and a margin, checked by FullPeer."""
    return int(1.15 * len(framework) / structure.volume * 4.0 / 3.0 * math.pi * CUTOFF**3) + 20
