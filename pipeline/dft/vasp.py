"""VASP: inputs as the Materials Project writes them, and its vasprun.xml read back and compared with what was asked.

The inputs are pymatgen's MPStaticSet (``relax: none``) and MPRelaxSet: PBE with the Materials Project's U, cutoff,
k-point densities and choice of POTCARs, so that energies take the MP2020 corrections. POTCARs are the user's, and
never written: ``POTCAR.spec`` lists which are needed, in the order of POSCAR.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.atomic_files import write_text as write
from pipeline.dft.calculation import Calculation, DftResult, Pending, bare_crystal, load_calculation, load_result
from pipeline.dft.same_crystal import difference
from pipeline.stages.rows import Failure

if TYPE_CHECKING:
    from pymatgen.io.vasp import Vasprun
    from pymatgen.io.vasp.sets import VaspInputSet

OUTPUTS = ("vasprun.xml", "vasprun.xml.gz")
KILOBAR = 0.1 / 160.21766208
"""eV/Å3."""

_EQUAL = ("ISPIN", "LDAU", "LDAUU", "LDAUJ", "LDAUL", "LDAUTYPE", "ISIF", "LASPH", "PREC")
_PRECISION_NAMED_BY = 4
"""Letters: VASP prints ``accura`` for ``Accurate``."""
_AT_MOST = ("EDIFF", "SIGMA")
_FEWEST_STEPS = 2
"""NSW of a relaxation: with one step pymatgen takes any ionic cycle for converged."""
_MINIMISERS = (1, 2, 3)
"""IBRION of quasi-Newton, conjugate gradients and damped dynamics."""
_OFF = {"METAGGA": ("--", "NONE", ""), "LHFCALC": (False,), "LUSE_VDW": (False,), "IVDW": (0,), "LSORBIT": (False,)}


def compute_with_vasp(calculation: Calculation, folder: Path, about: dict[str, Any]) -> DftResult | Failure | Pending:
    """Read the result where VASP has finished; else leave the inputs, and say that they wait.

    Parameters
    ----------
    calculation, folder
        What is asked, and where inputs and outputs lie; the folder is made.
    about
        Written beside the calculation: candidate or phase.
    """
    finished = load_result(folder, calculation)
    if finished is not None:
        return finished
    written = _written(folder)
    if written is None or written.get("digest") != calculation.digest:
        write_inputs(calculation, folder, about)
    return read_outputs(calculation, folder)


def _written(folder: Path) -> dict[str, Any] | None:
    try:
        return load_calculation(folder)[1]
    except (OSError, ValueError):
        return None


def input_set(calculation: Calculation) -> VaspInputSet:
    """Pymatgen's input set of a calculation."""
    from pymatgen.io.vasp.sets import MPRelaxSet, MPStaticSet

    relax = calculation.settings["relax"]
    if relax == "none":
        return MPStaticSet(calculation.structure)
    return MPRelaxSet(calculation.structure, user_incar_settings={"ISIF": 3 if relax == "cell" else 2})


def write_inputs(calculation: Calculation, folder: Path, about: dict[str, Any]) -> None:
    """Write INCAR, KPOINTS, POSCAR and POTCAR.spec, then ``calculation.json`` with what they ask for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns that no POTCARs are installed: they are the user's
        chosen = input_set(calculation)
        incar, kpoints, symbols = chosen.incar, chosen.kpoints, list(chosen.potcar_symbols)
        poscar = chosen.poscar
    write(folder / "INCAR", str(incar))
    write(folder / "KPOINTS", str(kpoints))
    write(folder / "POSCAR", str(poscar))
    write(folder / "POTCAR.spec", "\n".join(symbols) + "\n")
    asked = {"incar": dict(incar), "kpoints": [int(n) for n in kpoints.kpts[0]], "potcars": symbols}
    calculation.save(folder, **about, asked=asked)


def read_outputs(calculation: Calculation, folder: Path) -> DftResult | Failure | Pending:
    """Result of VASP in a folder whose inputs `write_inputs` wrote; it is kept as ``result.json``.

    Returns
    -------
    DftResult, Failure or Pending
        ``MismatchError`` names every setting, POTCAR and coordinate that is not as asked: ENCUT, PREC, LASPH, spin,
        U, what relaxes and the functional must be the same, EDIFF and SIGMA no larger, the k-point grid no coarser.
        Free are ISMEAR (the energy is the one at zero width), starting moments, real-space projection, and the force
        at which a relaxation ends. ``NotConvergedError`` says in which cycle.
    """
    path = next((folder / name for name in OUTPUTS if (folder / name).exists()), None)
    if path is None:
        return Pending(f"no {OUTPUTS[0]} in {folder}; run VASP there, with the POTCARs of POTCAR.spec")
    asked = load_calculation(folder)[1]["asked"]
    try:
        run = _vasprun(path)
    except Exception as error:  # a file that breaks off, or none of VASP's: pymatgen raises anything
        return Pending(f"{path} can't be read to its end ({type(error).__name__}); VASP is at work there, or it died")
    wrong = [*_crystal(calculation, run), *_functional(run), *_settings(asked["incar"], run), *_grid(asked, run)]
    if wrong:
        return Failure(f"MismatchError: {path} is of another calculation: {'; '.join(wrong)}")
    if not (run.converged_electronic and run.converged_ionic):
        cycle = "electronic" if not run.converged_electronic else "ionic"
        return Failure(f"NotConvergedError: the {cycle} cycle in {path} ended at its last step")
    result = _result(calculation, run)
    result.save(folder, calculation)
    return result


def _vasprun(path: Path) -> Vasprun:
    from pymatgen.io.vasp import Vasprun

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unconverged runs are refused above, by name
        return Vasprun(str(path), parse_dos=False, parse_potcar_file=False)


def _crystal(calculation: Calculation, run: Vasprun) -> list[str]:
    return difference(calculation.structure, run.initial_structure)


def _functional(run: Vasprun) -> list[str]:
    wrong = [
        f"{name} is {_upper(run.parameters[name])}"
        for name, allowed in _OFF.items()
        if name in run.parameters and _upper(run.parameters[name]) not in allowed
    ]
    gga = str(run.parameters.get("GGA", "--")).upper()
    if gga not in ("PE", "--"):
        wrong.append(f"GGA is {gga}, PE was asked")
    return wrong + [f"POTCAR {t!r} is not of PBE" for t in run.potcar_symbols if not t.startswith("PAW_PBE")]


def _upper(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


def _settings(incar: dict[str, Any], run: Vasprun) -> list[str]:
    found = {**run.parameters, **run.incar}
    cutoff = float(run.parameters.get("ENMAX", found.get("ENCUT", 0.0)))
    wrong = [] if np.isclose(cutoff, incar["ENCUT"]) else [f"ENCUT is {cutoff:g} eV, {incar['ENCUT']:g} was asked"]
    wrong += [
        f"{name} is {found.get(name)}, {incar[name]} was asked"
        for name in _EQUAL
        if name in incar and not _same(incar[name], found.get(name))
    ]
    if "LDAU" not in incar and found.get("LDAU"):
        wrong.append("LDAU is True, no U was asked")
    if float(found.get("NUPDOWN", -1)) not in (-1.0, float(incar.get("NUPDOWN", -1))):
        wrong.append(f"NUPDOWN is {found['NUPDOWN']}, free moments were asked")
    wrong += [
        f"{name} is {found.get(name)}, at most {incar[name]:g} was asked"
        for name in _AT_MOST
        if not float(found.get(name, np.inf)) <= float(incar[name]) * (1 + 1e-6)
    ]
    steps, mover = int(found.get("NSW", 0)), int(found.get("IBRION", -1))
    if incar["NSW"] == 0 and steps > 0:
        wrong.append(f"NSW is {steps}, a single point was asked")
    if incar["NSW"] > 0 and (steps < _FEWEST_STEPS or mover not in _MINIMISERS):
        wrong.append(f"NSW is {steps} with IBRION {mover}, a relaxation was asked")
    return wrong


def _same(asked: Any, found: Any) -> bool:
    if isinstance(asked, list) or isinstance(found, list):
        one, other = np.atleast_1d(asked), np.atleast_1d(found)
        return one.shape == other.shape and bool(np.allclose(one.astype(float), other.astype(float)))
    if isinstance(asked, str):
        short = [str(value).strip().lower()[:_PRECISION_NAMED_BY] for value in (asked, found)]
        return short[0] == short[1]
    return bool(asked == found)


def _grid(asked: dict[str, Any], run: Vasprun) -> list[str]:
    symbols = [title.split()[1] for title in run.potcar_symbols if len(title.split()) > 1]
    wrong = []
    if symbols != asked["potcars"]:
        wrong.append(f"POTCARs are {' '.join(symbols)}, {' '.join(asked['potcars'])} were asked")
    divisions = list(run.kpoints.kpts[0]) if run.kpoints.kpts else []
    if len(divisions) != 3 or any(int(n) < m for n, m in zip(divisions, asked["kpoints"], strict=True)):
        wrong.append(f"k-points are {divisions}, at least {asked['kpoints']} were asked")
    return wrong


def _result(calculation: Calculation, run: Vasprun) -> DftResult:
    last = run.ionic_steps[-1]
    kilobars = np.array(last["stress"], dtype=float) if "stress" in last else np.full((3, 3), np.nan)
    return DftResult(
        structure=bare_crystal(run.final_structure),
        energy=float(run.final_energy),
        band_gap=float(run.eigenvalue_band_properties[0]),
        forces=np.array(last["forces"], dtype=float),
        # VASP prints the pressure's sign
        stress=-KILOBAR * kilobars[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        steps=0 if calculation.settings["relax"] == "none" else len(run.ionic_steps),
        code=f"VASP {str(run.vasp_version).strip()}",
        functional="PBE+U" if run.is_hubbard else "PBE",
        pseudopotentials={title.split()[1].split("_")[0]: title for title in run.potcar_symbols},
    )
