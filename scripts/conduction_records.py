"""The records of ``validate_conduction.py``: barriers and other numbers of measured crystals, one JSON line each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import minimum_filter

from kernels.percolation import PercolationThresholds, percolation
from pipeline.conduction_paths import CONNECTIVITY, IonLandscape
from pipeline.oxidation_states import charge_per_atom, charged_species
from pipeline.reference.measured_conductivities import MeasuredConductivity, structure_from_cif
from pipeline.saddles import refined_percolation
from pipeline.site_energies import FrameworkIon, NoMobileIonError, framework_ions, grid_shape, landscape, mobile_ion

ION = "Li"
ENERGY_CAP = 10.0
ACCESSIBLE_ENERGY = 1.0
SITE_RADIUS = 0.9
"""Å. Minima of the landscape nearer than this to a lower one are the same site."""

FloatArray = npt.NDArray[np.float64]


def compute(
    crystals: list[MeasuredConductivity], spacing: float, work: Path, processes: int
) -> dict[str, dict[str, Any]]:
    """One record for each crystal, read from the work folder where it is there."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / f"barriers_{spacing:g}.jsonl"
    done = {record["identifier"]: record for record in read_lines(path)}
    missing = [crystal for crystal in crystals if crystal.identifier not in done]
    with path.open("a", encoding="utf-8") as stream, ProcessPoolExecutor(processes) as pool:
        for record in pool.map(partial(record_of, spacing=spacing), missing):
            done[record["identifier"]] = record
            stream.write(json.dumps(record) + "\n")
            stream.flush()
    return done


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a file, none when it is not there."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def record_of(crystal: MeasuredConductivity, spacing: float) -> dict[str, Any]:
    """Barriers and what else may tell good conductors from bad ones, or the reason of a refusal."""
    start = time.perf_counter()
    try:
        record = describe(crystal.cif, spacing)
    except ValueError as error:
        record = {"error": type(error).__name__, "reason": str(error)}
    return {"identifier": crystal.identifier, **record, "seconds": round(time.perf_counter() - start, 2)}


def describe(cif: str, spacing: float) -> dict[str, Any]:
    """Compute the numbers of one crystal.

    ``e1d``, ``e2d``, ``e3d`` are those of ``migration_barriers``, eV; ``open_e1d`` and so on leave out what shares a
    site with lithium. ``site_energy`` is the mean energy of the refined lithium sites (each at the lowest grid point
    beside it), above the lowest of the grid, eV. Densities are in 1/Å3: ``lithium_density`` as refined,
    ``mobile_density`` counts x (1 - x) for a site that lithium fills to x, ``site_density`` counts the landscape's
    minima below the barrier in three dimensions. ``accessible_fraction`` of the cell is within 1 eV of the lowest.

    Raises
    ------
    ValueError
        When the crystal can't be handled.
    """
    structure = structure_from_cif(cif)
    if ION not in structure.symbol_set:
        raise NoMobileIonError(f"{structure.formula} holds no {ION}")
    charged = charged_species(structure)
    carrier = mobile_ion(charged, ION)
    shape = grid_shape(structure, spacing, {ION})
    framework = framework_ions(structure, charged, {ION})
    occupancies = np.array([sum(x for symbol, _, x in site if symbol == ION) for site in charged])
    lithium = occupancies > 0.0
    weights = occupancies[lithium]

    def barriers_of(ions: list[FrameworkIon]) -> tuple[FloatArray, PercolationThresholds]:
        matrix = structure.lattice.matrix
        energies = landscape(matrix, ions, carrier, shape)
        found = percolation(energies, ENERGY_CAP, CONNECTIVITY)
        where = IonLandscape(carrier, float(weights.sum()), matrix, ions, energies)
        return energies - energies.min(), refined_percolation(where, found).thresholds

    energies, barriers = barriers_of(framework)
    taken = {tuple(place) for place in structure.frac_coords[lithium].tolist()}
    apart = [site for site in framework if site.frac_coords not in taken]
    opened = barriers if len(apart) == len(framework) else barriers_of(apart)[1]
    places = np.round(structure.frac_coords[lithium] * shape).astype(np.int64) % np.array(shape)
    near = minimum_filter(energies, size=3, mode="wrap")[tuple(places.T)]
    width = [2 * round(SITE_RADIUS * n / length) + 1 for n, length in zip(shape, structure.lattice.abc, strict=True)]
    minima = (energies == minimum_filter(energies, size=width, mode="wrap")) & (energies < barriers.e3d)
    return {
        "e1d": barriers.e1d,
        "e2d": barriers.e2d,
        "e3d": barriers.e3d,
        "open_e1d": opened.e1d,
        "open_e2d": opened.e2d,
        "open_e3d": opened.e3d,
        "site_energy": float(np.average(near, weights=weights)),
        "lithium_density": float(weights.sum() / structure.volume),
        "mobile_density": float((weights * (1.0 - weights)).sum() / structure.volume),
        "site_density": float(minima.sum() / structure.volume),
        "accessible_fraction": float(np.mean(energies <= ACCESSIBLE_ENERGY)),
        "imbalance": charge_per_atom(charged),
        "is_ordered": structure.is_ordered,
        "shares_site": len(apart) < len(framework),
    }
