"""Anion class of a composition: what a surrogate's errors are grouped by."""

from __future__ import annotations

from pipeline.reference.formulas import composition_key

# Pauling's electronegativities (CRC Handbook), highest first: the order in which one element takes another's electrons.
ANIONS = ("F", "O", "Cl", "N", "Br", "I", "S", "Se", "H", "P", "As", "Te")
HALOGENS = frozenset(["F", "Cl", "Br", "I"])
# Elements that can be an anion beside a more electronegative one. N, H, P and As then are cations, as a rule
# (ammonium, hydroxide, phosphate, arsenate).
_COMPANIONS = HALOGENS | {"O", "S", "Se", "Te"}
# An oxyanion has at least three atoms about its centre (BrO3, SO4), an oxyhalide or a sulfide chloride fewer.
_MOST_ABOUT_A_CENTRE = 3

MIXED_HALIDE = "mixed halide"
MIXED_ANION = "mixed anion"
NO_ANION = "no anion"

ANION_CLASSES = (*ANIONS, MIXED_HALIDE, MIXED_ANION, NO_ANION)
"""Every class there is."""


def anion_class(formula: str) -> str:
    """Class of a composition by its most electronegative anion.

    The class is the symbol of that anion; ``mixed halide`` or ``mixed anion`` when a further halogen, oxygen or
    chalcogen is there that is no mere centre of an oxyanion, which is to say more than a third of the first one's
    atoms (LaOCl, Li6PS5Cl are mixed; LiClO4, Na2SO4, Li3PS4 are not); ``no anion`` without any of them.

    Parameters
    ----------
    formula
        Any formula that pymatgen reads.

    Returns
    -------
    str
        One of ``ANION_CLASSES``.
    """
    amounts = dict(composition_key(formula))
    present = [symbol for symbol in ANIONS if symbol in amounts]
    if not present or len(amounts) == 1:
        return NO_ANION
    first = present[0]
    companions = [s for s in present[1:] if s in _COMPANIONS and _MOST_ABOUT_A_CENTRE * amounts[s] > amounts[first]]
    if not companions:
        return first
    return MIXED_HALIDE if {first, *companions} <= HALOGENS else MIXED_ANION
