"""Stage ``elasticity``: elastic tensor and moduli of the relaxed crystal.

The crystal is relaxed once more, tightly, then strained in all six directions; the ions of every strained cell are
relaxed (the tensor is the relaxed-ion one) and Hooke's law is fitted to the stresses. That is 12 cells an amplitude,
and those of all rows of a part are relaxed in one batch: matcalc treats one cell after the other on an ASE calculator,
and serves the tests as the peer. No symmetry is imposed: a crystal that has some shows it in its tensor.

A tensor that is not positive definite is a result: ``elastically_stable`` is false, and only Voigt's averages and the
tensor are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.elastic_tensor import (
    COMPONENTS,
    ElasticTensor,
    FloatArray,
    fit,
    moduli,
    strains,
    voigt,
    voigt_averages,
)
from pipeline.stages.rows import Failure, attempt, attempt_batch, crystals, with_columns
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from pymatgen.core import Structure

    from pipeline.elasticity_settings import ElasticitySettings
    from pipeline.references import References
    from pipeline.surrogates.potential import Potential

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
    tensors = elastic_tensors(crystals(part, refs), settings, refs.potential)
    records = [item if isinstance(item, Failure) else _record(item) for item in tensors]
    return with_columns(part, NAME, records)


def elastic_tensors(
    structures: Sequence[Structure | Failure], settings: ElasticitySettings, potential: Potential
) -> list[ElasticTensor | Failure]:
    """Relaxed-ion elastic tensors of n crystals, GPa, in the axes of `in_standard_axes`; failures pass through."""
    relaxed = _relaxed(structures, settings, potential, relax_cell=True)
    applied = strains(settings.strains)
    cells: list[Structure | Failure] = []
    for item in relaxed:
        start = item if isinstance(item, Failure) else in_standard_axes(item)
        cells += [start if isinstance(start, Failure) else strained(start, strain) for strain in applied]
    stresses = _stresses(_relaxed(cells, settings, potential, relax_cell=False), potential)
    rows = [stresses[i : i + len(applied)] for i in range(0, len(stresses), len(applied))]
    return [
        item if isinstance(item, Failure) else _fitted(applied, row) for item, row in zip(relaxed, rows, strict=True)
    ]


def in_standard_axes(structure: Structure) -> Structure:
    """Turn a crystal so that a lies along x and c* along z, as programs place the cell of a CIF.

    A left-handed cell comes out as its mirror image, whose elastic tensor is the same.
    """
    from pymatgen.core import Lattice, Structure

    lattice = Lattice.from_parameters(*structure.lattice.parameters, vesta=True)
    return Structure(lattice, structure.species, structure.frac_coords)


def strained(structure: Structure, strain: FloatArray) -> Structure:
    """Strain a crystal homogeneously by a symmetric tensor (3, 3)."""
    from pymatgen.core import Lattice, Structure

    lattice = Lattice(structure.lattice.matrix @ (np.eye(3) + strain))
    return Structure(lattice, structure.species, structure.frac_coords)


def _relaxed(
    structures: Sequence[Structure | Failure], settings: ElasticitySettings, potential: Potential, *, relax_cell: bool
) -> list[Structure | Failure]:
    from pipeline.surrogates.relaxation import RelaxationSettings

    how = RelaxationSettings(
        settings.fmax, settings.max_steps, relax_cell, "quasi-newton", energy_tolerance=ENERGY_TOLERANCE
    )

    def relax(batch: list[Structure]) -> list[Structure | Failure]:
        return [_converged(result, how.fmax) for result in potential.relax(batch, settings=how)]

    return list(attempt_batch(relax, structures))


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


def _stresses(structures: Sequence[Structure | Failure], potential: Potential) -> list[FloatArray | Failure]:
    """Stress (3, 3) of each crystal, GPa."""

    def evaluate(batch: list[Structure]) -> list[FloatArray | Failure]:
        return [
            Failure(str(found.error)) if found.error else found.stress * GPA_PER_EV_PER_ANGSTROM3
            for found in potential.evaluate(batch)
        ]

    return attempt_batch(evaluate, structures)


def _fitted(applied: FloatArray, stresses: Sequence[FloatArray | Failure]) -> ElasticTensor | Failure:
    for i, stress in enumerate(stresses):
        if isinstance(stress, Failure):
            component = COMPONENTS[i * len(COMPONENTS) // len(applied)]
            sign = np.sign(applied[i].sum())
            size = sign * np.linalg.norm(applied[i])
            return Failure(f"{stress.error} (in the cell strained by {size:+.3g} along {component})")
    return attempt(fit, applied, np.array(stresses))


def _record(tensor: ElasticTensor) -> dict[str, Any]:
    stable = tensor.lowest_eigenvalue > 0.0
    bulk, shear = voigt_averages(tensor.stiffness)
    record = {
        "bulk_modulus_voigt": bulk,
        "shear_modulus_voigt": shear,
        "elastically_stable": stable,
        "lowest_stiffness": tensor.lowest_eigenvalue,
        "elastic_fit_residual": tensor.residual,
        "elastic_tensor": _text(tensor),
    }
    if not stable:
        return record
    found = moduli(tensor.stiffness)
    return {
        **record,
        "bulk_modulus": found.bulk,
        "shear_modulus": found.shear,
        "bulk_modulus_reuss": found.bulk_reuss,
        "shear_modulus_reuss": found.shear_reuss,
        "youngs_modulus": found.youngs,
        "poisson_ratio": found.poisson_ratio,
        "pugh_ratio": found.bulk / found.shear,
        "elastic_anisotropy": found.anisotropy,
    }


def _text(tensor: ElasticTensor) -> str:
    """Upper triangle in Voigt's notation: ``C11 C12 ... C16; C22 ... C26; ...; C66``."""
    return "; ".join(
        " ".join(f"{value:.2f}" for value in row[i:]) for i, row in enumerate(voigt(tensor.stiffness) + 0.0)
    )
