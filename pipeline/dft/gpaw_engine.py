"""GPAW, run here: one process a calculation; a finished one is used again."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.dft.calculation import Calculation, DftResult, Pending, load_result
from pipeline.dft.process import own_failure, run_calculation
from pipeline.stages.rows import Failure

COMMAND = (sys.executable, "-m", "pipeline.dft.gpaw_calculation")


def gpaw_version() -> str:
    """Versions of GPAW and its PAW datasets, such as ``GPAW 25.7.0 (setups 1.2.1)``.

    Raises
    ------
    ValueError
        When GPAW isn't installed.
    """
    try:
        return f"GPAW {metadata.version('gpaw')} (setups {metadata.version('gpaw-data')})"
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            f"package {error.name} isn't installed; install GPAW with its datasets (pip install 'ionsieve[dft]', after "
            "libxc and a BLAS), or write engine 'vasp' or 'espresso'"
        ) from None


def compute_with_gpaw(
    calculation: Calculation, folder: Path, time_limit: float, about: dict[str, Any]
) -> DftResult | Failure:
    """Result of a calculation: the one that lies in the folder already, else GPAW's.

    Parameters
    ----------
    calculation, folder
        What is asked, and where it is done; the folder is made.
    time_limit
        Seconds.
    about
        Written beside the calculation: candidate or phase.
    """
    finished = load_result(folder, calculation)
    if finished is not None:
        return finished
    calculation.save(folder, **about)
    return run_calculation(COMMAND, folder, calculation, time_limit)


def wait_for_gpaw(calculation: Calculation, folder: Path, about: dict[str, Any]) -> DftResult | Failure | Pending:
    """Leave a calculation that the user starts; arguments as above."""
    finished = load_result(folder, calculation)
    if finished is not None:
        return finished
    calculation.save(folder, **about)
    return read_gpaw(calculation, folder)


def read_gpaw(calculation: Calculation, folder: Path) -> DftResult | Failure | Pending:
    """What GPAW's process left in a calculation's folder."""
    found = load_result(folder, calculation) or own_failure(folder)
    return found or Pending(f"no result.json in {folder}; run: python -m pipeline.dft.gpaw_calculation {folder}")
