"""The three codes behind one call: a result, a failure, or work that waits outside."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cache import user_cache
from pipeline.dft.calculation import Calculation, DftResult, Pending, bare_crystal, load_result
from pipeline.dft.espresso import compute_with_espresso, read_output
from pipeline.dft.gpaw_engine import compute_with_gpaw, gpaw_version, read_gpaw, wait_for_gpaw
from pipeline.dft.vasp import compute_with_vasp, read_outputs
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
        Of this calculation alone. A result that the user's cache has of the same crystal and settings is copied there.
    **about
        Written beside it, such as ``candidate_id`` and ``formula``.

    Raises
    ------
    ValueError
        When the engine isn't there or an element lacks its pseudopotential.
    """
    calculation = calculation_of(structure, settings)
    cached = dft_cache() / calculation.digest[:32]
    known = load_result(cached, calculation)
    if known is not None and load_result(folder, calculation) is None:
        calculation.save(folder, **about)
        known.save(folder, calculation)
    outcome = calculate(calculation, settings, folder, **about)
    if known is None and isinstance(outcome, DftResult):
        with suppress(OSError):  # a cache that can't be written: the result lies in the folder
            calculation.save(cached, **about)
            outcome.save(cached, calculation)
    return outcome


def dft_cache() -> Path:
    """The user's finished calculations, of all campaigns."""
    return user_cache() / "dft"


def calculate(
    calculation: Calculation, settings: DftSettings, folder: Path, **about: Any
) -> DftResult | Failure | Pending:
    """What `compute` does for a crystal, for a calculation that is there already: its crystal is taken as it is.

    The symmetrised cell of a symmetrised cell may be another one (origin, order of axes), so a crystal that was
    written down once is never symmetrised again.
    """
    if settings.engine == "gpaw":
        return compute_with_gpaw(calculation, folder, settings.time_limit, about)
    return _prepared(calculation, settings, folder, about)


def prepare(structure: Structure, settings: DftSettings, folder: Path, **about: Any) -> DftResult | Failure | Pending:
    """Leave the inputs of a crystal in a folder of its own, and say what they wait for; what has finished is read.

    Arguments and errors are those of `compute`, which does the same, but runs GPAW at once.
    """
    return _prepared(calculation_of(structure, settings), settings, folder, about)


def _prepared(
    calculation: Calculation, settings: DftSettings, folder: Path, about: dict[str, Any]
) -> DftResult | Failure | Pending:
    if settings.engine == "vasp":
        return compute_with_vasp(calculation, folder, about)
    if settings.engine == "espresso":
        return compute_with_espresso(calculation, folder, settings.espresso.pseudo_dir, about)
    return wait_for_gpaw(calculation, folder, about)


def read_back(calculation: Calculation, folder: Path) -> DftResult | Failure | Pending:
    """What has become of a calculation that `prepare` left in a folder."""
    readers = {"vasp": read_outputs, "espresso": read_output, "gpaw": read_gpaw}
    return load_result(folder, calculation) or readers[calculation.settings["engine"]](calculation, folder)


def calculation_of(structure: Structure, settings: DftSettings) -> Calculation:
    """What `compute` asks of the engine for a crystal."""
    crystal = symmetrised(bare_crystal(structure), settings.symmetry_tolerance)
    return Calculation(crystal, settings.calculation_settings(), code_of(settings))


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
