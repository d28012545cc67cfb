"""Quantum ESPRESSO: input of pw.x by ASE, and its output read back and compared with what was asked.

PBE comes from the user's pseudopotentials; whatever else they hold is refused when the output is read. Energies are the
free energies at cold smearing (Marzari et al., Phys. Rev. Lett. 1999, 82, 3296), which differ from those at zero width
in third order of the width only.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic_files import write_text as write
from pipeline.dft.calculation import Calculation, DftResult, Pending, bare_crystal, load_calculation, load_result
from pipeline.dft.moments import initial_moments
from pipeline.dft.same_crystal import difference
from pipeline.stages.rows import Failure

INPUT, OUTPUT = "pw.in", "pw.out"
STARTING_MAGNETIZATION = 0.5
"""Of atoms that start with a moment: share of their valence electrons that is polarised."""

_CALCULATION = {"none": "scf", "positions": "relax", "cell": "vc-relax"}
_ENDS = {
    "none": (),
    "positions": ("bfgs converged in",),
    "cell": ("bfgs converged in", "Final scf calculation at the relaxed structure"),
}
"""What pw.x prints when a relaxation came to its end."""
_EV_PER_ANGSTROM = 27.211386245988 / 2 / 0.529177210903
"""One Ry/bohr."""
_CHECKSUM = r"PseudoPot\. #\s*\d+ for\s+([A-Za-z]+)\d*\s+read from file:\s*\S+\s+MD5 check sum:\s*(\w+)"
_PBE = ("PBE", "SLA PW PBX PBC", "SLA  PW   PBX  PBC")


def compute_with_espresso(
    calculation: Calculation, folder: Path, pseudo_dir: str, about: dict[str, Any]
) -> DftResult | Failure | Pending:
    """Read the result where pw.x has finished; else leave the input, and say that it waits.

    Parameters
    ----------
    calculation, folder
        What is asked, and where input and output lie; the folder is made.
    pseudo_dir
        Folder of the pseudopotentials where pw.x runs.
    about
        Written beside the calculation: candidate or phase.

    Raises
    ------
    ValueError
        When an element has no pseudopotential in the settings.
    """
    finished = load_result(folder, calculation)
    if finished is not None:
        return finished
    try:
        written = load_calculation(folder)[1].get("digest")
    except (OSError, ValueError):
        written = None
    if written != calculation.digest:
        write_input(calculation, folder, pseudo_dir, about)
    return read_output(calculation, folder)


def write_input(calculation: Calculation, folder: Path, pseudo_dir: str, about: dict[str, Any]) -> None:
    """Write ``pw.in``, then ``calculation.json`` with the k-point grid that it asks for; raises as above."""
    from ase.calculators.calculator import kptdensity2monkhorstpack
    from ase.io.espresso import write_espresso_in
    from pymatgen.io.ase import AseAtomsAdaptor

    settings = calculation.settings["espresso"]
    symbols = sorted({site.specie.symbol for site in calculation.structure})
    missing = [symbol for symbol in symbols if symbol not in settings["pseudopotentials"]]
    if missing:
        raise ValueError(f"no pseudopotential of {', '.join(missing)}; add it to dft.espresso.pseudopotentials")
    atoms = AseAtomsAdaptor.get_atoms(calculation.structure, msonable=False)
    moments = [STARTING_MAGNETIZATION if moment else 0.0 for moment in initial_moments(calculation.structure)]
    atoms.set_initial_magnetic_moments(moments)
    grid = [int(n) for n in kptdensity2monkhorstpack(atoms, settings["kpoint_density"], even=False)]
    stream = io.StringIO()
    write_espresso_in(
        stream,
        atoms,
        input_data=_namelists(calculation.settings, pseudo_dir),
        pseudopotentials={symbol: settings["pseudopotentials"][symbol] for symbol in symbols},
        kpts=tuple(grid),
        crystal_coordinates=True,
    )
    write(folder / INPUT, stream.getvalue())
    calculation.save(folder, **about, asked={"kpoints": grid})


def _namelists(settings: Any, pseudo_dir: str) -> dict[str, dict[str, Any]]:
    own = settings["espresso"]
    control = {
        "calculation": _CALCULATION[settings["relax"]],
        "prefix": "pw",
        "outdir": "./out",
        "pseudo_dir": pseudo_dir,
        "tprnfor": True,
        "tstress": True,
        "verbosity": "high",
    }
    if settings["relax"] != "none":
        control |= {"forc_conv_thr": settings["fmax"] / _EV_PER_ANGSTROM, "nstep": settings["max_steps"]}
    system = {
        "ecutwfc": own["cutoff"],
        "ecutrho": own["density_cutoff"],
        "occupations": "smearing",
        "smearing": "cold",
        "degauss": own["smearing"],
    }
    return {
        "control": control,
        "system": system,
        "electrons": {"conv_thr": own["energy_convergence"], "electron_maxstep": 200},
    }


def read_output(calculation: Calculation, folder: Path) -> DftResult | Failure | Pending:
    """Result of pw.x in a folder whose input `write_input` wrote; it is kept as ``result.json``.

    Returns
    -------
    DftResult, Failure or Pending
        ``MismatchError`` names every cutoff, smearing, functional, pseudopotential, k-point grid, kind of relaxation
        and coordinate that is not as asked; ``NotConvergedError`` says in which cycle.
    """
    path = folder / OUTPUT
    if not path.exists():
        return Pending(f"no {OUTPUT} in {folder}; run there: pw.x -in {INPUT} > {OUTPUT}")
    text = path.read_text(encoding="utf-8", errors="replace")
    if "convergence NOT achieved" in text:
        return Failure(f"NotConvergedError: the electronic cycle in {path} ended at its last step")
    if "bfgs failed after" in text:  # followed by JOB DONE
        return Failure(f"NotConvergedError: BFGS gave up before the forces in {path} were small enough")
    if "The maximum number of steps has been reached" in text:
        return Failure(f"NotConvergedError: the ionic cycle in {path} ended at its last step")
    if "JOB DONE" not in text:
        return Pending(f"{path} has no JOB DONE; pw.x is at work there, or it died")
    frames = _frames(text)
    if not frames or not {"energy", "forces"} <= set(frames[-1].calc.results):
        return Failure(f"NotConvergedError: {path} ends without energy and forces; pw.x was stopped (max_seconds?)")
    wrong = [
        *difference(calculation.structure, _structure(frames[0])),
        *_task(_CALCULATION[calculation.settings["relax"]], text),
        *_settings(calculation, text),
        *grid_difference(load_calculation(folder)[1]["asked"]["kpoints"], frames[0].cell, text),
    ]
    if wrong:
        return Failure(f"MismatchError: {path} is of another calculation: {'; '.join(wrong)}")
    lacking = [words for words in _ENDS[calculation.settings["relax"]] if words not in text]
    if lacking:  # it says JOB DONE also when it was stopped in the middle
        return Failure(f"NotConvergedError: {path} has no {lacking[0]!r}; pw.x was stopped (max_seconds?)")
    result = _result(calculation, frames, text)
    result.save(folder, calculation)
    return result


def _frames(text: str) -> list[Any]:
    from ase.io.espresso import read_espresso_out

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ASE warns of sections that it passes over
        # A relaxation of positions prints its last crystal once more, without results: that one is left out.
        return list(read_espresso_out(io.StringIO(text), index=slice(None)))


def _structure(atoms: Any) -> Any:
    from pymatgen.io.ase import AseAtomsAdaptor

    return bare_crystal(AseAtomsAdaptor.get_structure(atoms))


def _task(asked: str, text: str) -> list[str]:
    """Tell scf, relax and vc-relax apart by what only they print."""
    found = "scf"
    if "BFGS Geometry Optimization" in text:
        found = "vc-relax" if "CELL_PARAMETERS" in text else "relax"
    return [] if found == asked else [f"the calculation is {found}, {asked} was asked"]


def _settings(calculation: Calculation, text: str) -> list[str]:
    own = calculation.settings["espresso"]
    wrong = []
    for name, pattern, asked in (
        ("ecutwfc", r"kinetic-energy cutoff\s*=\s*([\d.]+)", own["cutoff"]),
        ("ecutrho", r"charge density cutoff\s*=\s*([\d.]+)", own["density_cutoff"]),
        ("degauss", r"smearing, width \(Ry\)\s*=\s*([\d.]+)", own["smearing"]),
    ):
        found = re.search(pattern, text)
        if found is None or not math.isclose(float(found[1]), asked, abs_tol=1e-4):
            wrong.append(f"{name} is {found[1] if found else 'not printed'}, {asked:g} Ry was asked")
    threshold = re.search(r"convergence threshold\s*=\s*([\d.ED+-]+)", text)
    if threshold is None or float(threshold[1].replace("D", "E")) > own["energy_convergence"] * 1.1:
        wrong.append(f"conv_thr is {threshold[1] if threshold else 'not printed'}, {own['energy_convergence']:g} asked")
    if "Marzari-Vanderbilt smearing" not in text:
        wrong.append("the smearing is not cold")
    functional = re.search(r"Exchange-correlation\s*=\s*([A-Za-z0-9+ -]+?)\s*(?:\(|\n)", text)
    if functional is None or " ".join(functional[1].split()) not in _PBE:
        wrong.append(f"the functional is {functional[1] if functional else 'not printed'}, PBE was asked")
    polarised = "Starting magnetic structure" in text
    if polarised != any(initial_moments(calculation.structure)):
        wrong.append(f"the calculation is {'' if polarised else 'not '}spin-polarised, the other was asked")
    if "Simplified LDA+U" in text or "LDA+U calculation" in text or "DFT+U calculation" in text:
        wrong.append("the calculation is DFT+U, none was asked")
    if "Dispersion" in text:
        wrong.append("energies have a dispersion correction, none was asked")
    wrong += _charge(calculation, text)
    files = re.findall(r"PseudoPot\. #\s*\d+ for\s+([A-Za-z]+)\d*\s+read from file:\s*(\S+)", text)
    for symbol in sorted({site.specie.symbol for site in calculation.structure}):
        used = {Path(name).name for element, name in files if element == symbol}
        if used != {own["pseudopotentials"][symbol]}:
            named = ", ".join(sorted(used)) or "not printed"
            wrong.append(f"the pseudopotential of {symbol} is {named}, {own['pseudopotentials'][symbol]} was asked")
    return wrong


def _charge(calculation: Calculation, text: str) -> list[str]:
    """Compare the electrons with those of neutral atoms."""
    table = re.search(r"atomic species +valence.*\n((?: +[A-Z][a-z]?\d* +[\d.]+ .*\n)+)", text)
    found = re.search(r"number of electrons\s*=\s*([\d.]+)", text)
    if table is None or found is None:
        return ["no number of electrons is printed"]
    valences = {
        name: float(valence) for name, valence in re.findall(r"^ +([A-Z][a-z]?)\d* +([\d.]+) ", table[1], re.MULTILINE)
    }
    neutral = sum(valences.get(site.specie.symbol, math.nan) for site in calculation.structure)
    is_neutral = math.isclose(float(found[1]), neutral, abs_tol=0.011)
    return [] if is_neutral else [f"the cell has {found[1]} electrons, {neutral:g} make it neutral"]


def grid_difference(asked: list[int], cell: Any, text: str) -> list[str]:
    """Compare the printed k-points (2π/alat, Cartesian) with the Γ-centred grid: all on it, and Γ weighs one of them.

    Printed is one point of each star, all of which may lie in a plane that tells nothing of the third axis.
    """
    alat = re.search(r"lattice parameter \(alat\)\s*=\s*([\d.]+)", text)
    block = re.search(r"cart\. coord\. in units 2pi/alat\n((?:\s+k\(.*\n)+)", text)
    if alat is None or block is None:
        return ["no k-points are printed"]
    points = re.findall(r"k\(\s*\d+\) = \(\s*(-?[\d.]+)\s*(-?[\d.]+)\s*(-?[\d.]+)\), wk =\s*([\d.]+)", block[1])
    edge = float(alat[1]) * 0.529177210903
    numbers = np.array(points, dtype=float).reshape(-1, 4)
    steps = numbers[:, :3] @ (np.asarray(cell) / edge).T * np.array(asked)
    weights = numbers[:, 3]
    on_grid = len(numbers) > 0 and np.abs(steps - np.round(steps)).max() <= 1e-2
    centre = np.abs(numbers[:, :3]).max(axis=1, initial=0.0) < 1e-6
    as_many = math.isclose(weights[centre].sum() * math.prod(asked), weights.sum(), rel_tol=1e-2)
    if on_grid and as_many:
        return []
    return [f"the k-points are not the grid {'x'.join(map(str, asked))} on Γ that was asked"]


def _result(calculation: Calculation, frames: list[Any], text: str) -> DftResult:
    from ase.dft.bandgap import bandgap

    last = frames[-1]
    version = re.search(r"Program PWSCF v\.?\s*(\S+)", text)
    gap = bandgap(last.calc, output=None)[0] if last.calc.kpts else math.nan
    stress = last.calc.results.get("stress")
    return DftResult(
        structure=_structure(last),
        energy=float(last.get_potential_energy()),
        band_gap=max(0.0, float(gap)),
        forces=np.asarray(last.get_forces(), dtype=float),
        stress=np.full(6, np.nan) if stress is None else np.asarray(stress, dtype=float),
        steps=0 if calculation.settings["relax"] == "none" else len(frames),
        code=f"Quantum ESPRESSO {version[1] if version else 'of unknown version'}",
        functional="PBE",
        pseudopotentials=dict(re.findall(_CHECKSUM, text)),
    )
