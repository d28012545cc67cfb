"""Stage ``elasticity``: elastic tensor and moduli of the relaxed crystal.

The crystal is relaxed once more, tightly, then strained in all six directions, and each ion is displaced along each
axis: 12 + 6 n cells, which are evaluated for all rows of a part in one batch. The relaxed-ion tensor follows by linear
response (`pipeline.elastic_response`). No symmetry is imposed: a crystal that has some shows it in its tensor.

An unstable crystal is a result: ``elastically_stable`` is false. Where the tensor is not positive definite, Voigt's
averages and the tensor are given; where the ions rest in no minimum there is no tensor. A tensor that is none, because
the surrogate's stress is not linear in so small a strain, is a failure. On request imaginary phonons are looked for
(`pipeline.phonons`), in supercells of the same crystal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.elastic_response import ElasticResponse, deformed_cells, elastic_response
from pipeline.elastic_tensor import FloatArray, moduli, voigt, voigt_averages
from pipeline.phonons import displaced_supercells, lowest_frequency
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


IMAGINARY = 0.1
"""What single-precision forces tell from a real frequency, THz."""


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
    relaxed = relaxed_crystals(crystals(part, refs), settings, refs.potential)
    responses = elastic_responses(relaxed, settings, refs.potential)
    records = [item if isinstance(item, Failure) else _record(item, settings) for item in responses]
    if settings.phonons:
        lowest = lowest_frequencies(relaxed, settings, refs.potential)
        records = [_with_phonons(*pair) for pair in zip(records, lowest, strict=True)]
    return with_columns(part, NAME, records)


def relaxed_crystals(
    structures: Sequence[Structure | Failure], settings: ElasticitySettings, potential: Potential
) -> list[Structure | Failure]:
    """Relax n crystals tightly, and turn them with `in_standard_axes`; failures pass through."""
    return [
        item if isinstance(item, Failure) else attempt(in_standard_axes, item)
        for item in _relaxed(structures, settings, potential)
    ]


def elastic_responses(
    relaxed: Sequence[Structure | Failure], settings: ElasticitySettings, potential: Potential
) -> list[ElasticResponse | Failure]:
    """Elastic responses of n relaxed crystals; failures pass through."""
    cells = [
        [] if isinstance(item, Failure) else deformed_cells(item, settings.strain, settings.displacement)
        for item in relaxed
    ]
    found = _evaluations(cells, potential)
    return [
        item if isinstance(item, Failure) else _response(item.volume, own, settings)
        for item, own in zip(relaxed, found, strict=True)
    ]


def lowest_frequencies(
    relaxed: Sequence[Structure | Failure], settings: ElasticitySettings, potential: Potential
) -> list[float | Failure]:
    """Lowest phonon frequencies of n relaxed crystals, THz; failures pass through."""
    displaced = [
        item if isinstance(item, Failure) else attempt(displaced_supercells, item, settings.phonon_supercell)
        for item in relaxed
    ]
    found = _evaluations([() if isinstance(item, Failure) else item.cells for item in displaced], potential)
    return [
        item if isinstance(item, Failure) else own if isinstance(own, Failure) else attempt(lowest_frequency, item, own)
        for item, own in zip(displaced, found, strict=True)
    ]


def _evaluations(cells: Sequence[Sequence[Structure]], potential: Potential) -> list[list[Evaluation] | Failure]:
    """Evaluations of each crystal's cells, all in one batch; the first cell that failed fails its crystal."""
    flat = iter(attempt_batch(potential.evaluate, [cell for own in cells for cell in own]))
    return [_sound([next(flat) for _ in own]) for own in cells]


def _sound(found: Sequence[Evaluation | Failure]) -> list[Evaluation] | Failure:
    evaluations: list[Evaluation] = []
    for i, item in enumerate(found):
        if isinstance(item, Failure) or item.error:
            return Failure(f"{item.error} (in deformed cell {i + 1} of {len(found)})")
        evaluations.append(item)
    return evaluations


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
    volume: float, found: list[Evaluation] | Failure, settings: ElasticitySettings
) -> ElasticResponse | Failure:
    if isinstance(found, Failure):
        return found
    forces: FloatArray = np.array([item.forces for item in found])
    stresses: FloatArray = np.array([item.stress for item in found])
    return attempt(elastic_response, forces, stresses, volume, settings.strain, settings.displacement)


def _with_phonons(record: dict[str, Any] | Failure, lowest: float | Failure) -> dict[str, Any] | Failure:
    if isinstance(record, Failure):
        return record
    if isinstance(lowest, Failure):
        return Failure(f"{lowest.error} (phonons)")
    return {**record, "lowest_phonon_frequency": lowest, "dynamically_stable": not lowest < -IMAGINARY}


def _record(response: ElasticResponse, settings: ElasticitySettings) -> dict[str, Any] | Failure:
    softest = response.lowest_force_constant
    record: dict[str, Any] = {"lowest_force_constant": softest if math.isfinite(softest) else None}
    if response.tensor is None:
        return {**record, "elastically_stable": False}
    if response.tensor.residual > settings.max_residual:
        return Failure(
            f"NotLinear: Hooke's law leaves {response.tensor.residual:.0%} of the response to strains of "
            f"{settings.strain:g} and displacements of {settings.displacement:g} Å over: the surrogate is not smooth "
            "there (neighbours cross its cutoff, for example); other strain and displacement of stage elasticity may do"
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
