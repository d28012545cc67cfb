"""The three codes behind one call: a result, a failure, or work that waits outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.dft.calculation import Calculation, DftResult, Pending, bare_crystal
from pipeline.dft.espresso import compute_with_espresso
from pipeline.dft.gpaw_engine import compute_with_gpaw, gpaw_version
from pipeline.dft.vasp import compute_with_vasp
from pipeline.stages.rows import Failure

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from pipeline.dft.settings import DftSettings


def code_of(settings: DftSettings) -> str:
    """Version that belongs to a calculation's identity: GPAW's, which runs here; ValueError when it isn't installed."""
    return gpaw_version() if settings.engine == "gpaw" else ""


def compute(structure: Structure, settings: DftSettings, folder: Path, **about: Any) -> DftResult | Failure | Pending:
    """Compute a crystal in a folder of its own; what has finished there under the same digest is used again.

    Parameters
    ----------
    structure
        n atoms; oxidation states are ignored. What is computed is its primitive cell with the symmetry that it has
        within ``settings.symmetry_tolerance``: a surrogate's relaxation from a rattled start leaves atoms hundredths of
        an Å off their sites, and a crystal without symmetry has several times more k-points.
    settings
        Engine, relaxation and precision.
    folder
        Of this calculation alone.
    **about
        Written beside it, such as ``candidate_id`` and ``formula``.

    Raises
    ------
    ValueError
        When the engine isn't there or an element lacks its pseudopotential.
    """
    crystal = symmetrised(bare_crystal(structure), settings.symmetry_tolerance)
    calculation = Calculation(crystal, settings.calculation_settings(), code_of(settings))
    if settings.engine == "gpaw":
        return compute_with_gpaw(calculation, folder, settings.time_limit, about)
    if settings.engine == "vasp":
        return compute_with_vasp(calculation, folder, about)
    return compute_with_espresso(calculation, folder, settings.espresso.pseudo_dir, about)


def symmetrised(structure: Structure, tolerance: float) -> Structure:
    """Primitive cell with the symmetry found within a tolerance (Å); the crystal as it is where moyopy finds none."""
    from moyopy import Cell, MoyoDataset
    from pymatgen.core import Structure

    from pipeline.reference.protostructure import quiet_moyo

    if tolerance == 0.0:
        return structure
    cell = Cell(structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), list(structure.atomic_numbers))
    with quiet_moyo():
        try:
            found = MoyoDataset(cell, symprec=tolerance).prim_std_cell
        except (ValueError, RuntimeError):
            return structure
    return Structure(found.basis, found.numbers, found.positions)
