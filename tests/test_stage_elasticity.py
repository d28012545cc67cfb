"""The elasticity stage on a Morse solid, whose answers are known; M3GNet beside published moduli in the data tier."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from pipeline import schema
from pipeline.crystal import row_from_structure
from pipeline.elastic_response import ElasticResponse, deformed_cells, elastic_response, strained
from pipeline.elastic_tensor import fit, strains
from pipeline.settings import ElasticitySettings
from pipeline.stages import elasticity
from pipeline.stages.elasticity import elastic_responses, in_standard_axes, relaxed_crystals
from pipeline.stages.rows import Failure
from pipeline.surrogates.relaxation import RelaxationSettings
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3
from tests.morse import Morse, morse_potential

TIGHT = ElasticitySettings(fmax=1e-5)


def close_packed() -> Structure:
    """Face-centred cubic, one atom; near the minimum of the Morse solid."""
    return Structure(Lattice([[0.0, 1.75, 1.75], [1.75, 0.0, 1.75], [1.75, 1.75, 0.0]]), ["Li"], [[0.0] * 3])


def hexagonal() -> Structure:
    """Hexagonal close-packed: its two atoms shift against each other when it is sheared."""
    sites = [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    return Structure(Lattice.hexagonal(2.47, 4.03), ["Li", "Li"], sites)


def simple_cubic() -> Structure:
    """Held by symmetry alone."""
    return Structure(Lattice.cubic(2.35), ["Li"], [[0.0] * 3])


def stiffness_of(structure: Structure) -> np.ndarray:
    potential = morse_potential()
    (found,) = elastic_responses(relaxed_crystals([structure], TIGHT, potential), TIGHT, potential)
    assert isinstance(found, ElasticResponse)
    assert found.tensor is not None
    return found.tensor.stiffness


def relaxed(structure: Structure, *, cell: bool = True) -> Structure:
    settings = RelaxationSettings(1e-6, 500, cell, "quasi-newton", energy_tolerance=1e-12)
    (found,) = morse_potential().relax([structure], settings=settings)
    assert found.converged
    return found.structure


def born_sum(structure: Structure) -> np.ndarray:
    """C_ijkl of a lattice of pairs without stress: sum of (phi'' - phi' / r) r_i r_j r_k r_l / r^2 / 2 V.

    Born and Huang, Dynamical Theory of Crystal Lattices, 1954, section 11; derivatives by differences of the energy.
    """

    def energy(r: np.ndarray) -> np.ndarray:
        inner = np.exp(2.0 * (2.5 - r))
        return (inner**2 - 2.0 * inner) * (1.0 - r / Morse.cutoff) ** 3

    _, _, images, distances = structure.get_neighbor_list(Morse.cutoff)
    bonds, h = images @ structure.lattice.matrix, 1e-4
    first = (energy(distances + h) - energy(distances - h)) / (2 * h)
    second = (energy(distances + h) - 2 * energy(distances) + energy(distances - h)) / h**2
    weights = (second - first / distances) / distances**2
    return np.einsum("n,ni,nj,nk,nl->ijkl", weights, bonds, bonds, bonds, bonds) / (2.0 * structure.volume)


def test_a_lattice_of_pairs_has_borns_constants() -> None:
    crystal = in_standard_axes(relaxed(close_packed()))
    full, weights = born_sum(crystal), np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    pairs = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    expected = np.array([[full[(*p, *q)] for q in pairs] for p in pairs]) * np.outer(weights, weights)
    # Strains of 0.001 leave terms of fifth order: a few 1e-5 of the constants.
    assert stiffness_of(close_packed()) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_central_forces_obey_cauchy() -> None:
    """C12 = C44 where every atom is a centre of symmetry and no stress is left (Born and Huang 1954, section 11)."""
    axes = Structure(Lattice.cubic(3.5), ["Li"] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    stiffness = stiffness_of(axes)
    assert stiffness[3, 3] / 2.0 == pytest.approx(stiffness[0, 1], rel=1e-3)
    assert stiffness[0, 0] == pytest.approx(stiffness[2, 2], rel=1e-6)


def test_the_setting_of_the_cell_does_not_matter() -> None:
    turned = close_packed()
    turned.make_supercell([[1, 0, 0], [1, 1, 0], [0, 1, 2]])
    assert len(turned) == 2
    eigenvalues = [np.linalg.eigvalsh(stiffness_of(s)) for s in (close_packed(), turned)]
    assert eigenvalues[1] == pytest.approx(eigenvalues[0], rel=1e-4)


def test_axes_are_those_of_a_cif() -> None:
    lattice = Lattice([[1.0, 2.0, 3.0], [4.0, -1.0, 0.5], [0.3, 2.0, -5.0]])
    turned = in_standard_axes(Structure(lattice, ["Li"], [[0.1, 0.2, 0.3]])).lattice
    assert turned.parameters == pytest.approx(lattice.parameters)
    assert turned.matrix[0] == pytest.approx([lattice.a, 0.0, 0.0], abs=1e-12)
    assert turned.reciprocal_lattice.matrix[2][:2] == pytest.approx([0.0, 0.0], abs=1e-12)


def test_ions_relax_as_they_do_in_strained_cells() -> None:
    """Oracle: relax the ions of strained cells, fit Hooke's law to the stresses."""
    potential, crystal = morse_potential(), in_standard_axes(relaxed(hexagonal()))
    applied = strains([0.001])
    cells = [strained(crystal, strain) for strain in applied]
    clamped = fit(applied, np.array([item.stress for item in potential.evaluate(cells)])).stiffness
    yielded = [relaxed(cell, cell=False) for cell in cells]
    expected = fit(applied, np.array([item.stress for item in potential.evaluate(yielded)])).stiffness
    assert np.abs(expected - clamped).max() > 0.02 * np.abs(expected).max()
    assert stiffness_of(hexagonal()) == pytest.approx(expected, rel=1e-3, abs=1e-3 * np.abs(expected).max())


def test_a_step_in_the_stress_shows_in_the_residual() -> None:
    crystal = relaxed(close_packed())
    found = morse_potential().evaluate(deformed_cells(crystal, 0.001, 0.005))
    forces = np.array([item.forces for item in found])
    stresses = np.array([item.stress for item in found])
    smooth = elastic_response(forces, stresses, crystal.volume, 0.001, 0.005)
    size = 0.2 * np.abs(stresses[:12]).max()
    stresses[:12] += size * np.eye(3) * (np.trace(strains([0.001]), axis1=1, axis2=2) > 0.0)[:, None, None]
    stepped = elastic_response(forces, stresses, crystal.volume, 0.001, 0.005)
    assert smooth.tensor is not None
    assert stepped.tensor is not None
    assert smooth.tensor.residual < 0.02
    assert stepped.tensor.residual > 3.0 * smooth.tensor.residual


@pytest.fixture
def part() -> pd.DataFrame:
    rows = [row_from_structure(s) for s in (close_packed(), hexagonal(), simple_cubic())]
    return pd.DataFrame(rows, index=[4, 9, 2])


@pytest.fixture
def refs() -> SimpleNamespace:
    return SimpleNamespace(potential=morse_potential())


def test_columns_and_order(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    done = elasticity.run(part, TIGHT, refs, tmp_path)
    assert done.index.tolist() == [4, 9, 2]
    assert done["elasticity_status"].tolist() == ["ok"] * 3
    assert done["elastically_stable"].tolist() == [True, True, False]
    assert list(done.columns) == [*part.columns, *(c.name for c in schema.columns_of("elasticity"))]
    schema.to_arrow(done, [c.name for c in schema.columns_of("elasticity")])
    bulk = (stiffness_of(close_packed())[:3, :3].sum() / 9.0) * GPA_PER_EV_PER_ANGSTROM3
    assert done["bulk_modulus"].iloc[0] == pytest.approx(bulk)
    lines = done["elastic_tensor"].iloc[1].split("; ")
    assert [len(line.split()) for line in lines] == [6, 5, 4, 3, 2, 1]


def test_an_unstable_lattice_gets_its_tensor_and_no_moduli(
    part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path
) -> None:
    row = elasticity.run(part.iloc[2:], TIGHT, refs, tmp_path).iloc[0]
    assert row["lowest_stiffness"] < 0.0
    assert row["elastic_tensor"]
    assert np.isfinite(row["bulk_modulus_voigt"])
    assert np.isnan([row["bulk_modulus"], row["shear_modulus"], row["youngs_modulus"]]).all()


def test_ions_at_a_saddle_have_no_tensor(refs: SimpleNamespace, tmp_path: Path) -> None:
    saddle = simple_cubic() * (2, 2, 2)
    row = elasticity.run(pd.DataFrame([row_from_structure(saddle)]), TIGHT, refs, tmp_path).iloc[0]
    assert row["elasticity_status"] == "ok"
    assert not row["elastically_stable"]
    assert row["lowest_force_constant"] < 0.0
    assert row["elastic_tensor"] == ""
    assert np.isnan([row["bulk_modulus"], row["bulk_modulus_voigt"], row["lowest_stiffness"]]).all()


def test_partition_invariance(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    whole = elasticity.run(part, TIGHT, refs, tmp_path)
    pieces = [elasticity.run(part.iloc[i : i + 1], TIGHT, refs, tmp_path) for i in range(3)]
    pd.testing.assert_frame_equal(pd.concat(pieces), whole, rtol=1e-6)


def test_empty_partition(part: pd.DataFrame, tmp_path: Path) -> None:
    done = elasticity.run(part.iloc[:0], TIGHT, SimpleNamespace(), tmp_path)
    assert len(done) == 0
    assert {c.name for c in schema.columns_of("elasticity")} <= set(done.columns)


def test_poisoned_rows_fail_alone(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    twice = row_from_structure(hexagonal())
    twice["frac_coords"] = [0.0] * 6
    alien = row_from_structure(Structure(Lattice.cubic(3.0), ["Pu"], [[0.0] * 3]))
    poisoned = pd.concat([part, pd.DataFrame([twice, alien])])
    done = elasticity.run(poisoned, TIGHT, refs, tmp_path)
    assert done["elasticity_status"].tolist() == ["ok", "ok", "ok", "failed", "failed"]
    errors = done["elasticity_error"].tolist()
    assert errors[3] == "ValueError: atoms 0 (Li) and 1 (Li) are 0.000 Å apart"
    assert errors[4].startswith("UnknownElement: the model does not know Pu (in Pu1); it knows ")
    pd.testing.assert_frame_equal(done.iloc[:3], elasticity.run(part, TIGHT, refs, tmp_path), rtol=1e-6)


def test_an_unconverged_crystal_names_the_remedy(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    short = ElasticitySettings(fmax=1e-5, max_steps=1)
    error = elasticity.run(part.iloc[1:2], short, refs, tmp_path)["elasticity_error"].iloc[0]
    assert error.startswith("NotConverged: the largest force is")
    assert error.endswith("after 1 steps, and fmax 1e-05 eV/Å; raise max_steps or fmax of stage elasticity")


def test_a_response_that_is_not_linear_is_a_failure(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    strict = ElasticitySettings(fmax=1e-5, strain=0.02, max_residual=0.01)
    row = elasticity.run(part.iloc[:1], strict, refs, tmp_path).iloc[0]
    assert row["elasticity_status"] == "failed"
    assert row["elasticity_error"].startswith("NotLinear: Hooke's law leaves")
    assert np.isnan(row["bulk_modulus"])


def test_a_cell_that_fails_fails_its_row(part: pd.DataFrame, tmp_path: Path) -> None:
    class Fragile(Morse):
        """Has no answer for cells of two atoms when many are asked for at once."""

        def evaluate_batch(self, batch):
            result = super().evaluate_batch(batch)
            deformed = (batch.counts == 2) & (len(batch.counts) > 5)
            result.energies[deformed] = np.nan
            return result

    refs = SimpleNamespace(potential=morse_potential(Fragile()))
    done = elasticity.run(part, TIGHT, refs, tmp_path)
    assert done["elasticity_status"].tolist() == ["ok", "failed", "ok"]
    assert "NonFiniteResult" in done["elasticity_error"].iloc[1]
    assert done["elasticity_error"].iloc[1].endswith("(in deformed cell 1 of 24)")


def test_failures_pass_through() -> None:
    broken = Failure("ValueError: no crystal")
    potential = morse_potential()
    found = elastic_responses(relaxed_crystals([broken, close_packed()], TIGHT, potential), TIGHT, potential)
    assert found[0] is broken
    assert isinstance(found[1], ElasticResponse)


@pytest.fixture
def validation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "scripts" / "validate_elasticity.py"
    spec = importlib.util.spec_from_file_location("validate_elasticity", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.data
def test_bulk_moduli_are_near_published_ones(validation: ModuleType) -> None:
    """25 %: the surrogate's own error; the sources differ among themselves by up to 3 %."""
    from pipeline.surrogates import load_potential

    published = validation.read_published()
    crystals = validation.read_crystals(Path(os.environ["IONSIEVE_DATA"]), published)
    found = validation.measured(crystals, load_potential("M3GNet-MP-2021.2.8-PES", "cpu"))
    assert {"LiCl", "NaCl", "MgO", "Li2O", "LiF", "Al2O3"} <= set(found)
    for row in published:
        assert found[row.formula].bulk == pytest.approx(row.bulk_modulus, rel=0.25), row
