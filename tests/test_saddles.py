"""Minimum and saddle points off the grid: independent of spacing and origin, and exact where symmetry tells them."""

import math

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from kernels import bond_valence
from kernels.percolation import percolation
from kernels.site_graph import site_graph
from pipeline import saddles
from pipeline.conduction_paths import CONNECTIVITY, PERSISTENCE, ion_landscape
from pipeline.hopping import hopping_diffusivity
from pipeline.saddles import refined_graph, refined_percolation
from pipeline.settings import ConductionSettings
from pipeline.site_energies import energies_at
from pipeline.stages.conduction import migration_barriers
from tests.electrolytes import lithium_sulfide, sodium_chloride

# Newton steps end at 1e-4 Å, where curvatures of 100 eV/Å2 leave 1e-6 eV.
SAME_BARRIER = 1e-4


def monoclinic() -> Structure:
    """An invented layered chloride in a skewed cell."""
    return Structure(
        Lattice.from_parameters(6.4, 5.9, 6.6, 90, 109, 90),
        ["Li+", "Li+", "Li+", "Y3+", "Cl-", "Cl-", "Cl-", "Cl-", "Cl-", "Cl-"],
        [
            [0.5, 0.17, 0.0],
            [0.5, 0.83, 0.5],
            [0.0, 0.5, 0.0],
            [0.0, 0.0, 0.0],
            [0.26, 0.16, 0.77],
            [0.24, 0.82, 0.24],
            [0.76, 0.84, 0.23],
            [0.74, 0.18, 0.76],
            [0.28, 0.5, 0.77],
            [0.72, 0.5, 0.23],
        ],
    )


def test_energies_at_points_are_those_of_the_grid() -> None:
    where = ion_landscape(monoclinic(), "Li", 0.7)
    shape = np.array(where.energies.shape)
    chosen = np.array([[0, 0, 0], [3, 2, 5], [1, 7, 2]]) % shape
    found = energies_at(chosen / shape, where.lattice, where.framework, where.ion)
    # the grid's pair energies are tabulated, to 1e-11 each
    np.testing.assert_allclose(found, where.energies[tuple(chosen.T)], rtol=1e-9, atol=1e-8)


def test_compiled_equals_interpreted() -> None:
    rng = np.random.default_rng(0)
    lattice = np.array([[4.0, 0.2, 0.0], [0.5, 3.6, 0.1], [0.0, -0.4, 4.2]])
    cutoff = 4.5
    reach = cutoff * np.linalg.norm(np.linalg.inv(lattice), axis=0)
    pairs = np.array([[0.9, 2.0, 1.6, 0.0, 1.0], [0.0, 0.0, 0.0, 12.0, 1.7]])
    arguments = (rng.random((3, 3)), lattice, rng.random((2, 3)), np.array([1.0, 0.5]), pairs, reach, cutoff)
    kernel = bond_valence.site_energies_at
    np.testing.assert_allclose(kernel(*arguments), kernel.py_func(*arguments), rtol=1e-12)


@pytest.mark.parametrize("make", [lithium_sulfide, monoclinic])
def test_barriers_depend_neither_on_spacing_nor_on_the_origin(make) -> None:  # type: ignore[no-untyped-def]
    structure = make()
    exact = migration_barriers(structure, "Li", 0.15)
    moved = structure.copy()
    moved.translate_sites(list(range(len(moved))), [0.013, 0.021, 0.008])
    for other in (migration_barriers(structure, "Li", 0.25), migration_barriers(moved, "Li", 0.25)):
        np.testing.assert_allclose(
            [other.e1d, other.e2d, other.e3d], [exact.e1d, exact.e2d, exact.e3d], atol=SAME_BARRIER
        )
    coarse = migration_barriers(structure, "Li", 0.25, refine=False)
    assert abs(coarse.e3d - exact.e3d) > 10 * SAME_BARRIER  # the grid alone does depend on them


def test_a_finer_grid_converges_to_the_refined_barrier() -> None:
    structure = lithium_sulfide()
    exact = migration_barriers(structure, "Li", 0.2).e3d
    errors = [abs(migration_barriers(structure, "Li", s, refine=False).e3d - exact) for s in (0.4, 0.2, 0.1)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_what_cannot_be_refined_keeps_the_grids_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saddles, "MOST_STEPS", 0)
    where = ion_landscape(lithium_sulfide(), "Li", 0.4)
    found = percolation(where.energies, cap=10.0, connectivity=CONNECTIVITY)
    kept = refined_percolation(where, found)
    np.testing.assert_allclose(kept.thresholds, found.thresholds)
    assert all(
        where.energies[tuple(one)] == pytest.approx(where.energies[tuple(other)])
        for one, other in zip(kept.saddles, found.saddles, strict=True)
    )


def layered_sodium_bromide() -> Structure:
    """As a relaxation left it: no symmetry, and passes of nearly one height."""
    sites = {
        "Br": [
            (0.25061, 0.75082, 0.05934), (0.75024, 0.75034, 0.43972), (0.75065, 0.25022, 0.93977),
            (0.25058, 0.25068, 0.55932), (0.25338, 0.74978, 0.82911), (0.75311, 0.75112, 0.66996),
            (0.74796, 0.25116, 0.16999), (0.24812, 0.24980, 0.32915),
        ],
        "Na": [
            (0.75363, 0.74968, 0.82999), (0.25349, 0.75111, 0.66919), (0.24784, 0.25113, 0.16913),
            (0.74827, 0.24973, 0.32996), (0.74958, 0.75077, 0.05988), (0.24947, 0.75015, 0.43922),
            (0.25172, 0.25023, 0.93922), (0.75163, 0.25073, 0.55987),
        ],
    }  # fmt: skip
    lattice = Lattice.from_parameters(5.94105, 4.39382, 18.06999, 90.0517, 90.0126, 89.9966)
    return Structure(lattice, ["Br-"] * 8 + ["Na+"] * 8, sites["Br"] + sites["Na"])


def test_the_pass_that_decides_off_the_grid_may_be_another_one() -> None:
    """Refined alone, the pass that decides on the grid gives 0.78 or 0.73 eV by the origin."""
    barriers = []
    for shift in ((0.0, 0.0, 0.0), (0.1, 0.05, 0.15), (0.03, 0.2, 0.07)):
        moved = layered_sodium_bromide()
        moved.translate_sites(range(len(moved)), np.array(shift) / moved.lattice.abc)
        found = migration_barriers(moved, "Na", 0.25)
        barriers.append((found.e1d, found.e2d, found.e3d))
    fine = migration_barriers(layered_sodium_bromide(), "Na", 0.06, refine=False)
    np.testing.assert_allclose(barriers, [barriers[0]] * 3, atol=0.002)
    np.testing.assert_allclose(barriers[0], (fine.e1d, fine.e2d, fine.e3d), atol=0.02)


def test_hops_are_as_high_and_as_frequent_in_any_cell() -> None:
    """All ways between neighbouring sites of rock salt are one and the same; the primitive grid cuts them unlike."""
    settings = ConductionSettings(hopping=True, jumps=300_000, temperature=600.0)
    found = []
    for structure in (sodium_chloride(), sodium_chloride().get_primitive_structure()):
        where = ion_landscape(structure, "Na", settings.spacing)
        thresholds = percolation(where.energies, connectivity=CONNECTIVITY)
        level, barrier = thresholds.thresholds.e3d, refined_percolation(where, thresholds).thresholds.e3d
        graph = site_graph(where.energies, level + 0.05, PERSISTENCE, CONNECTIVITY)
        refined = refined_graph(where, graph)
        heights = refined.edge_energies - refined.site_energies.min()
        ways = heights[np.abs(heights - barrier) < 0.01]
        assert len(ways) > 0
        np.testing.assert_allclose(ways, barrier, atol=SAME_BARRIER)
        assert np.all(refined.edge_energies >= refined.site_energies[refined.edge_sites].max(axis=1))
        found.append((barrier, *hopping_diffusivity(where, level, settings, barrier)))
    (cubic, one, its_error), (primitive, other, error) = found
    assert cubic == pytest.approx(primitive, abs=SAME_BARRIER)
    # vectors between sites are the grid's, right to a spacing of a few Å
    assert one == pytest.approx(other, abs=3 * math.hypot(its_error, error) + 0.1 * one)
