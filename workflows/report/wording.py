"""How numbers, column names and recorded texts of phases and voltages are put before a reader."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pipeline import schema

_ION = re.compile(r"(?P<ion>[A-Z][a-z]?): (?P<steps>[^;]+)")
_VOLTAGE = re.compile(r"<(-?[\d.]+) V>")
_TITLES = {"cost_per_kg": "element cost"}
_SPELLED = {
    "1d": "1D",
    "2d": "2D",
    "3d": "3D",
    "dft": "DFT",
    "haven": "Haven",
    "md": "MD",
    "pareto": "Pareto",
    "poisson": "Poisson",
    "pugh": "Pugh",
    "reuss": "Reuss",
    "sha256": "SHA-256",
    "spacegroup": "space group",
    "voigt": "Voigt",
    "youngs": "Young's",
}


@dataclass(frozen=True)
class VoltageProfile:
    """Ions that a formula unit holds against one metal: ``contents[i]`` up to ``voltages[i]`` (V), falling."""

    ion: str
    contents: tuple[float, ...]
    voltages: tuple[float, ...]


def voltage_profiles(text: str) -> list[VoltageProfile]:
    """Read the column ``voltage_profile``: 'Li: 4 <0.86 V> 2 <4.13 V> 0; Na: ...'; what can't be read is left out."""
    found = []
    for match in _ION.finditer(text):
        steps = match["steps"]
        voltages = tuple(float(v) for v in _VOLTAGE.findall(steps))
        try:
            contents = tuple(float(c) for c in _VOLTAGE.sub("|", steps).split("|"))
        except ValueError:
            continue
        found.append(VoltageProfile(match["ion"], contents, voltages))
    return [p for p in found if len(p.contents) == len(p.voltages) + 1]


def title_of(name: str) -> str:
    """A column's name as words: ``energy_above_hull`` becomes 'energy above hull'."""
    if name in _TITLES:
        return _TITLES[name]
    return " ".join(_SPELLED.get(word, word) for word in name.removesuffix("_pretty").split("_"))


def labelled(name: str) -> str:
    """A column's name as words with its unit in parentheses, for axes."""
    unit = schema.column(name).unit
    return f"{title_of(name)} ({unit})" if unit else title_of(name)


def shown(text: str, dtype: str) -> str:
    """A cell as it is shown: numbers to four significant digits, true and false as yes and no."""
    if dtype == "bool":
        return {"True": "yes", "False": "no"}.get(text, text)
    if dtype != "float64" or not text:
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:.4g}".replace("-", "−") if number == number else ""


def number_in(row: dict[str, str], name: str) -> float | None:
    """A finite number of a row, None where there is none."""
    try:
        number = float(row.get(name, ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def subscripted(formula: str) -> str:
    """A formula that is known to be one, with its numbers as subscripts, for the labels of figures."""
    return re.sub(r"(?<=[A-Za-z)])(\d+(?:\.\d+)?)", r"<sub>\1</sub>", formula)
