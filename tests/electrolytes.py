"""Crystals from the literature that several tests compute with."""

from pymatgen.core import Lattice, Structure


def lithium_iron_phosphate() -> Structure:
    """LiFePO4, olivine: Streltsov et al., Acta Cryst. B 1993, 49, 147."""
    return Structure.from_spacegroup(
        "Pnma",
        Lattice.orthorhombic(10.332, 6.010, 4.692),
        ["Li+", "Fe2+", "P5+", "O2-", "O2-", "O2-"],
        [
            [0.0, 0.0, 0.0],
            [0.28222, 0.25, 0.97472],
            [0.09486, 0.25, 0.41820],
            [0.09678, 0.25, 0.74279],
            [0.45710, 0.25, 0.20602],
            [0.16558, 0.04646, 0.28478],
        ],
    )


def lithium_cobaltate() -> Structure:
    """LiCoO2, layered, hexagonal cell: Orman and Wiseman, Acta Cryst. C 1984, 40, 12."""
    return Structure.from_spacegroup(
        "R-3m",
        Lattice.hexagonal(2.8161, 14.0536),
        ["Li+", "Co3+", "O2-"],
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.0, 0.2395]],
    )


def sodium_chloride() -> Structure:
    """NaCl, rock salt: Wyckoff, Crystal Structures, 1963."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64056), ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0, 0]])


def lithium_sulfide() -> Structure:
    """Li2S, antifluorite: Wyckoff, Crystal Structures, 1963."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.708), ["Li+", "S2-"], [[0.25] * 3, [0, 0, 0]])
