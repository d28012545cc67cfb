"""A vasprun.xml for a folder of VASP inputs, with the fields that pymatgen reads; any of them can be made wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.vasp import Incar, Kpoints, Poscar

DEFAULTS = {"GGA": "PE", "LHFCALC": False, "METAGGA": "--", "NELM": 100, "IBRION": -1, "LDAU": False, "LCHIMAG": False}


def write_vasprun(
    folder: Path,
    energy: float,
    *,
    gap: float = 6.3,
    settings: Mapping[str, Any] | None = None,
    potcars: list[str] | None = None,
    divisions: list[int] | None = None,
    structure: Structure | None = None,
    final: Structure | None = None,
    steps: int = 1,
    electronic_steps: int = 9,
) -> Path:
    """Write what VASP would after a run on this folder's inputs that ended at ``energy`` (eV for the cell).

    Ionic steps before the last have other energies and the crystal of the start; free energies differ too.
    """
    asked = Poscar.from_file(folder / "POSCAR", check_for_potcar=False).structure
    start = asked if structure is None else structure
    end = start if final is None else final
    incar = {**DEFAULTS, **Incar.from_file(folder / "INCAR"), **(settings or {})}
    grid = divisions or list(Kpoints.from_file(folder / "KPOINTS").kpts[0])
    symbols = potcars or [f"PAW_PBE {name} 06Sep2000" for name in (folder / "POTCAR.spec").read_text().split()]
    cutoff = float(incar.pop("ENCUT"))
    types = list(dict.fromkeys(site.specie.symbol for site in start))
    rows = "".join(f"<rc><c>{s.specie.symbol}</c><c>{types.index(s.specie.symbol) + 1}</c></rc>" for s in start)
    kinds = "".join(
        f"<rc><c>1</c><c>{t}</c><c>1.0</c><c>1.0</c><c>{p}</c></rc>" for t, p in zip(types, symbols, strict=False)
    )
    tags = "".join(_tag(name, value) for name, value in incar.items())
    text = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
<generator><i name="program" type="string">vasp</i><i name="version" type="string">6.4.2</i></generator>
<incar>{tags}{_tag("ENCUT", cutoff)}</incar>
<kpoints><generation param="Gamma"><v type="int" name="divisions">{" ".join(map(str, grid))}</v></generation>
<varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1.0</v></varray></kpoints>
<parameters>{tags}{_tag("ENMAX", cutoff)}</parameters>
<atominfo><array name="atoms"><set>{rows}</set></array><array name="atomtypes"><set>{kinds}</set></array></atominfo>
<structure name="initialpos">{_crystal(start)}</structure>
{"".join(_step(start, energy + 0.3 * left, gap, electronic_steps) for left in range(steps - 1, 0, -1))}
{_step(end, energy, gap, electronic_steps)}
<structure name="finalpos">{_crystal(end)}</structure>
</modeling>
"""
    path = folder / "vasprun.xml"
    path.write_text(text)
    return path


def _tag(name: str, value: Any) -> str:
    if isinstance(value, list):
        return f'<v name="{name}">{" ".join(map(str, value))}</v>'
    if isinstance(value, bool):
        return f'<i type="logical" name="{name}">{"T" if value else "F"}</i>'
    kind = {int: ' type="int"', str: ' type="string"'}.get(type(value), "")
    return f'<i{kind} name="{name}">{value}</i>'


def _crystal(structure: Structure) -> str:
    basis, places = _vectors(structure.lattice.matrix), _vectors(structure.frac_coords)
    return f'<crystal><varray name="basis">{basis}</varray></crystal><varray name="positions">{places}</varray>'


def _vectors(values: Any) -> str:
    return "".join(f"<v>{' '.join(f'{x:.8f}' for x in row)}</v>" for row in values)


def _step(structure: Structure, energy: float, gap: float, electronic_steps: int) -> str:
    away = {"e_fr_energy": -0.02, "e_wo_entrp": 0.02, "e_0_energy": 0.0}
    energies = "".join(f'<i name="{name}">{energy + by:.8f}</i>' for name, by in away.items())
    forces = np.zeros((len(structure), 3))
    forces[0, 2], forces[-1, 2] = 0.012, -0.012
    stress = np.diag([10.0, 20.0, 30.0])
    stress[0, 1] = stress[1, 0] = 5.0
    return (
        f"<calculation>{f'<scstep><energy>{energies}</energy></scstep>' * electronic_steps}"
        f"<structure>{_crystal(structure)}</structure>"
        f'<varray name="forces">{_vectors(forces)}</varray><varray name="stress">{_vectors(stress)}</varray>'
        f"<energy>{energies}</energy>"
        f'<eigenvalues><array><set><set comment="spin 1"><set comment="kpoint 1"><r>1.0 1.0</r><r>{1.0 + gap} 0.0</r>'
        "</set></set></set></array></eigenvalues></calculation>"
    )
