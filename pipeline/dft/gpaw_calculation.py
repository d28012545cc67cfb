"""The process that GPAW runs in: ``python -m pipeline.dft.gpaw_calculation FOLDER``.

Reads ``calculation.json`` there, and leaves ``result.json`` or, with the reason, ``failure.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.io.ase import AseAtomsAdaptor

from pipeline.atomic_files import write_json
from pipeline.dft.calculation import FAILURE, Calculation, DftResult, bare_crystal, load_calculation
from pipeline.dft.gpaw_engine import gpaw_version
from pipeline.dft.moments import initial_moments
from pipeline.dft.process import end_with_parent

LOG = "gpaw.txt"


class MissingSetupError(Exception):
    """GPAW has no PAW dataset for an element."""


class OtherVersionError(Exception):
    """The calculation was written for another GPAW, or other PAW datasets, than there are here."""


class NotConvergedError(Exception):
    """A relaxation used up its steps."""


def compute(calculation: Calculation, folder: Path) -> DftResult:
    """Energy, gap, forces and stress of a crystal with GPAW, after the relaxation that is asked for.

    Plane waves, PBE, PAW datasets of `gpaw-data`; Fermi-Dirac occupations, the energy extrapolated to zero width. A
    relaxed cell is computed anew at its end, with plane waves and k-points that belong to it.

    Raises
    ------
    MissingSetupError
        For an element without PAW dataset.
    NotConvergedError
        When a relaxation has not come below ``fmax`` in ``max_steps``.
    gpaw.KohnShamConvergenceError
        When the self-consistency cycle has not converged.
    """
    settings = calculation.settings
    _check_setups(sorted({site.specie.symbol for site in calculation.structure}))
    atoms = AseAtomsAdaptor.get_atoms(calculation.structure, msonable=False)
    atoms.set_initial_magnetic_moments(initial_moments(calculation.structure))
    atoms.calc = _calculator(atoms, settings["gpaw"], folder / LOG)
    steps = 0
    if settings["relax"] != "none":
        steps = _relax(atoms, settings, folder)
    if settings["relax"] == "cell":
        atoms.calc = _calculator(atoms, settings["gpaw"], folder / f"final_{LOG}")
    energy = float(atoms.get_potential_energy())
    return DftResult(
        structure=bare_crystal(AseAtomsAdaptor.get_structure(atoms)),
        energy=energy,
        band_gap=_band_gap(atoms.calc),
        forces=np.asarray(atoms.get_forces()),
        stress=np.asarray(atoms.get_stress()),
        steps=steps,
        code=calculation.code,
        functional="PBE",
    )


def _check_version(calculation: Calculation) -> None:
    """Refuse to file a result under a version that did not compute it."""
    if calculation.code != (here := gpaw_version()):
        raise OtherVersionError(
            f"the calculation is for {calculation.code}, here is {here}; install the same, or write it anew here"
        )


def _check_setups(symbols: list[str]) -> None:
    from gpaw.setup_data import SetupData

    missing = []
    for symbol in symbols:
        try:
            SetupData(symbol, "PBE")
        except FileNotFoundError:
            missing.append(symbol)
    if missing:
        raise MissingSetupError(
            f"GPAW finds no PBE dataset of {', '.join(missing)}; install gpaw-data, or exclude these elements"
        )


def _calculator(atoms: Any, settings: Mapping[str, Any], log: Path) -> Any:
    from ase.calculators.calculator import kptdensity2monkhorstpack
    from gpaw import GPAW, PW

    grid = kptdensity2monkhorstpack(atoms, settings["kpoint_density"], even=False)
    return GPAW(
        mode=PW(settings["cutoff"], dedecut="estimate"),
        xc="PBE",
        kpts={"size": tuple(int(n) for n in grid), "gamma": True},
        occupations={"name": "fermi-dirac", "width": settings["smearing"]},
        convergence={"energy": settings["energy_convergence"]},
        maxiter=settings["max_iterations"],
        txt=str(log),
    )


def _relax(atoms: Any, settings: Mapping[str, Any], folder: Path) -> int:
    """Move atoms, and the cell where asked, until forces (and the cell's, eV/Å) are below fmax; number of steps."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    moved = FrechetCellFilter(atoms) if settings["relax"] == "cell" else atoms
    optimizer = BFGS(moved, logfile=str(folder / "relaxation.txt"))
    if not optimizer.run(fmax=settings["fmax"], steps=settings["max_steps"]):
        left = float(np.linalg.norm(moved.get_forces(), axis=1).max())
        raise NotConvergedError(
            f"forces are {left:.3f} eV/Å after {settings['max_steps']} steps, dft.fmax is {settings['fmax']:g}; raise "
            "dft.max_steps"
        )
    return int(optimizer.nsteps)


def _band_gap(calculator: Any) -> float:
    from ase.dft.bandgap import bandgap

    gap, _, _ = bandgap(calculator, output=None)
    return max(0.0, float(gap))


def main(folder: Path) -> int:
    """Compute what the folder asks for; exit status 0 with a result, 1 with a failure that is written down."""
    end_with_parent()
    try:
        calculation, _ = load_calculation(folder)
        _check_version(calculation)
        compute(calculation, folder).save(folder, calculation)
    except Exception as error:  # the parent process makes it the row's failure
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        write_json(folder / FAILURE, {"error": text})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
