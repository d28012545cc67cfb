"""Write pipeline/reference/ions.csv and ionic_radii.csv.

The first holds oxidation states, one ionic radius each, electronegativities and classes of the elements, the second
every radius by charge, coordination and spin. Sources: oxidation states and Shannon radii (Acta Cryst. A 1976, 32, 751)
as tabulated by pymatgen's Element; radii that Shannon does not list, from Pauling (The Nature of the Chemical Bond, 3rd
ed., 1960, table 13-3).
"""

from __future__ import annotations

import csv
from pathlib import Path

from pymatgen.core import Element

FOLDER = Path(__file__).resolve().parent.parent / "pipeline" / "reference"
TARGET = FOLDER / "ions.csv"
RADII_TARGET = FOLDER / "ionic_radii.csv"

PAULING_RADII = {
    ("C", -4): 2.60,
    ("Si", -4): 2.71,
    ("Ge", -4): 2.72,
    ("P", -3): 2.12,
    ("As", -3): 2.22,
    ("Sb", -3): 2.45,
    ("Sn", 2): 1.12,
    ("In", 1): 1.32,
}
"""Å, for ions without an entry in Shannon's table."""

ANION_CHARGES = {
    "H": -1, "C": -4, "Si": -4, "Ge": -4, "N": -3, "P": -3, "As": -3, "Sb": -3,
    "O": -2, "S": -2, "Se": -2, "Te": -2,
    "F": -1, "Cl": -1, "Br": -1, "I": -1,
}  # fmt: skip
"""The closed-shell anion of each anion former; partial ones such as S(1-) of a disulfide are polyanions."""

NEVER_PLACED_AS_CATION = {"H", "N", "O", "F", "Cl", "Br", "I"}
"""Kept in the table for the prototypes' oxidation states (NH4+, ClO4-, IO3-), not placed unless the config says so."""

RADIOACTIVE = {"Tc", "Pm", "Th", "U"}  # no stable isotope; bismuth-209 (2e19 years) is counted as stable
TOXIC = {"Be", "As", "Cd", "Hg", "Tl", "Pb"}  # cf. their group entries in Annex VI of Regulation (EC) 1272/2008
RARE = {"Se", "Ru", "Rh", "Pd", "Ag", "Te", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Bi", "Tc", "Pm"}
# below 0.1 mg/kg of the Earth's crust (CRC Handbook of Chemistry and Physics, 97th ed., section 14)

ROMAN = {"I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XI": 11,
         "XII": 12, "XIV": 14}  # fmt: skip


def shannon_radius(element: Element, charge: int) -> tuple[float, str] | None:
    """Radius in Å and its coordination: VI, else the nearest one (the higher of two equally near); high spin."""
    table = (element.data.get("Shannon radii") or {}).get(str(charge))
    if not table:
        return None
    plain = {c: v for c, v in table.items() if c in ROMAN} or table
    name = min(plain, key=lambda c: (abs(ROMAN.get(c, 4) - 6), -ROMAN.get(c, 4)))
    spins = plain[name]
    spin = "High Spin" if "High Spin" in spins else next(iter(spins))
    return float(spins[spin]["ionic_radius"]), name


def rows() -> list[list[object]]:
    out: list[list[object]] = []
    for z in [*range(1, 84), 90, 92]:
        element = Element.from_Z(z)
        if element.is_noble_gas:
            continue
        common = set(element.common_oxidation_states)
        states = {q for q in common | set(element.icsd_oxidation_states) if q > 0}
        anion = ANION_CHARGES.get(element.symbol)
        for charge in sorted(states | ({anion} if anion else set())):
            known = shannon_radius(element, charge)
            if known is not None and known[0] <= 0.0:
                known = None  # Shannon's H+ and C4+ (III) are negative: no size to compare
            source = "Shannon 1976"
            if known is None and (element.symbol, charge) in PAULING_RADII:
                known, source = (PAULING_RADII[element.symbol, charge], "VI"), "Pauling 1960"
            if known is None and charge > 0 and element.symbol != "H":
                continue  # cation without a measured radius: not a state of ionic crystals
            default = known is not None and (
                charge == anion or (charge in common and element.symbol not in NEVER_PLACED_AS_CATION)
            )
            classes = [
                n for n, s in (("radioactive", RADIOACTIVE), ("toxic", TOXIC), ("rare", RARE)) if element.symbol in s
            ]
            out.append(
                [element.symbol, charge, f"{known[0]:.3f}" if known else "", known[1] if known else "",
                 source if known else "", int(default), f"{element.X:.2f}", " ".join(classes)]
            )  # fmt: skip
    return out


def radius_rows() -> list[list[object]]:
    """Every radius that Shannon or Pauling lists, by element, charge, coordination, geometry and spin."""
    out: list[list[object]] = []
    for z in range(1, 104):
        element = Element.from_Z(z)
        for charge, coordinations in (element.data.get("Shannon radii") or {}).items():
            for name, spins in coordinations.items():
                geometry = "square" if name.endswith("SQ") else "pyramidal" if name.endswith("PY") else ""
                number = ROMAN[name.removesuffix("SQ").removesuffix("PY")]
                for spin, radii in spins.items():
                    known = [geometry, spin.removesuffix(" Spin").lower(), f"{radii['ionic_radius']:.3f}"]
                    # pymatgen lost the charge of one row: 1.01 Å, sevenfold, is Shannon's Eu3+
                    out.append([z, element.symbol, int(charge or 3), number, *known, "Shannon 1976"])
    for (symbol, charge), radius in PAULING_RADII.items():
        out.append([Element(symbol).Z, symbol, charge, 6, "", "", f"{radius:.3f}", "Pauling 1960"])
    return [row[1:] for row in sorted(out, key=lambda row: row[:6])]


def _write(target: Path, header: list[str], content: list[list[object]]) -> None:
    with target.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(content)
    print(f"{target.name}: {len(content)} rows")


def main() -> None:
    _write(
        TARGET,
        [
            "element",
            "oxidation_state",
            "ionic_radius",
            "coordination",
            "source",
            "default",
            "electronegativity",
            "classes",
        ],
        rows(),
    )
    _write(
        RADII_TARGET,
        ["element", "oxidation_state", "coordination", "geometry", "spin", "ionic_radius", "source"],
        radius_rows(),
    )


if __name__ == "__main__":
    main()
