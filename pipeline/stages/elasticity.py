"""Stage ``elasticity``: elastic tensor and moduli of the relaxed crystal.

The crystal is relaxed once more, tightly, then strained in all six directions, and each ion is displaced along each
axis: 12 + 6 n cells, which are evaluated for all rows of a part in one batch. The relaxed-ion tensor follows by linear
response (`pipeline.elastic_response`). No symmetry is imposed: a crystal that has some shows it in its tensor.

An unstable crystal is a result: ``elastically_stable`` is false. Where the tensor is not positive definite, Voigt's
averages and the tensor are given; where the ions rest in no minimum there is no tensor. A tensor that is none, because
the surrogate's stress is not linear in so small a strain, is a failure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.elastic_response import ElasticResponse, deformed_cells, elastic_response
from pipeline.elastic_tensor import FloatArray, moduli, voigt, voigt_averages
from pipeline.stages.rows import Failure, attempt, attempt_batch, crystals, with_columns
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from pymatgen.core import Structure

    from pipeline.elasticity_settings import ElasticitySettings
    from pipeline.references import References
    from pipeline.surrogates.potential import Potential
    from pipeline.surrogates.results import Evaluation

NAME = "elasticity"
STAGE_VERSION = 1

ENERGY_TOLERANCE = 1e-6
"""Energy that may be left in a crystal whose forces are small, eV/atom."""


def run(part: pd.DataFrame, settings: ElasticitySettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Add the elastic tensor, its averages (GPa), and whether the crystal is elastically stable.

    Parameters
    ----------
    part
        Rows with crystals; where a row has none, its prototype's is built.
    settings, refs, workspace
        ``refs.potential`` is used; the workspace is not.
    """
    if not len(part):
        return with_columns(part, NAME, [])
    responses = elastic_responses(crystals(part, refs), settings, refs.potential)
    records = [item if isinstance(item, Failure) else _record(item, settings) for item in responses]
    return with_columns(part, NAME, records)


def elastic_responses(
    structures: Sequence[Structure | Failure], settings: ElasticitySettings, potential: Potential
) -> list[ElasticResponse | Failure]:
    """Elastic responses of n crystals in the axes of `in_standard_axes`; failures pass through."""
    relaxed = [
        item if isinstance(item, Failure) else attempt(in_standard_axes, item)
        for item in _relaxed(structures, settings, potential)
    ]
    cells = [
        [] if isinstance(item, Failure) else deformed_cells(item, settings.strain, settings.displacement)
        for item in relaxed
    ]
    evaluations = iter(attempt_batch(potential.evaluate, [cell for own in cells for cell in own]))
    found = [[next(evaluations) for _ in own] for own in cells]
    return [
        item if isinstance(item, Failure) else _response(item.volume, own, settings)
        for item, own in zip(relaxed, found, strict=True)
    ]


def in_standard_axes(structure: Structure) -> Structure:
    """Turn a crystal so that a lies along x and c* along z, as programs place the cell of a CIF.

    A left-handed cell comes out as its mirror image, whose elastic tensor is the same.
    """
    from pymatgen.core import Lattice, Structure

    lattice = Lattice.from_parameters(*structure.lattice.parameters, vesta=True)
    return Structure(lattice, structure.species, structure.frac_coords)


def _relaxed(
    structures: Sequence[Structure | Failure], settings: ElasticitySettings, potential: Potential
) -> list[Structure | Failure]:
    from pipeline.surrogates.relaxation import RelaxationSettings

    how = RelaxationSettings(
        settings.fmax, settings.max_steps, optimizer="quasi-newton", energy_tolerance=ENERGY_TOLERANCE
    )

    def relax(batch: list[Structure]) -> list[Structure | Failure]:
        return [_converged(result, how.fmax) for result in potential.relax(batch, settings=how)]

    results = attempt_batch(relax, structures)
    return list(results)


def _converged(result: Any, fmax: float) -> Structure | Failure:
    if result.error:
        return Failure(str(result.error))
    if not result.converged:
        return Failure(
            f"NotConverged: the largest force is {result.max_force:.2g} eV/Å after {result.n_steps} steps, and fmax "
            f"{fmax:g} eV/Å; raise max_steps or fmax of stage elasticity"
        )
    structure: Structure = result.structure
    return structure


def _response(
    volume: float, found: Sequence[Evaluation | Failure], settings: ElasticitySettings
) -> ElasticResponse | Failure:
    """Response of one crystal; the first cell that failed fails it."""
    evaluations = []
    for i, item in enumerate(found):
        if isinstance(item, Failure) or item.error:
            return Failure(f"{item.error} (in deformed cell {i + 1} of {len(found)})")
        evaluations.append(item)
    forces: FloatArray = np.array([item.forces for item in evaluations])
    stresses: FloatArray = np.array([item.stress for item in evaluations])
    return attempt(elastic_response, forces, stresses, volume, settings.strain, settings.displacement)


def _record(response: ElasticResponse, settings: ElasticitySettings) -> dict[str, Any] | Failure:
    softest = response.lowest_force_constant
    record: dict[str, Any] = {"lowest_force_constant": softest if math.isfinite(softest) else None}
    if response.tensor is None:
        return {**record, "elastically_stable": False}
    if response.tensor.residual > settings.max_residual:
        return Failure(
            f"NotLinear: Hooke's law leaves {response.tensor.residual:.0%} of the response to strains of "
            f"{settings.strain:g} and displacements of {settings.displacement:g} Å over: neighbours cross the "
            "surrogate's cutoff there; try smaller ones in stage elasticity"
        )
    stiffness = response.tensor.stiffness * GPA_PER_EV_PER_ANGSTROM3
    lowest = float(np.linalg.eigvalsh(stiffness)[0])
    bulk, shear = voigt_averages(stiffness)
    record |= {
        "bulk_modulus_voigt": bulk,
        "shear_modulus_voigt": shear,
        "elastically_stable": lowest > 0.0,
        "lowest_stiffness": lowest,
        "elastic_fit_residual": response.tensor.residual,
        "elastic_tensor": _text(stiffness),
    }
    return {**record, **_averages(stiffness)} if lowest > 0.0 else record


def _averages(stiffness: FloatArray) -> dict[str, float]:
    found = moduli(stiffness)
    return {
        "bulk_modulus": found.bulk,
        "shear_modulus": found.shear,
        "bulk_modulus_reuss": found.bulk_reuss,
        "shear_modulus_reuss": found.shear_reuss,
        "youngs_modulus": found.youngs,
        "poisson_ratio": found.poisson_ratio,
        "pugh_ratio": found.bulk / found.shear,
        "elastic_anisotropy": found.anisotropy,
    }


def _text(stiffness: FloatArray) -> str:
    """Upper triangle in Voigt's notation: ``C11 C12 ... C16; C22 ... C26; ...; C66``."""
    return "; ".join(" ".join(f"{value:.2f}" for value in row[i:]) for i, row in enumerate(voigt(stiffness) + 0.0))
