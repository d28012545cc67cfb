"""Ways through landscapes: dimensions, regions, bottlenecks, diffusivities with closed forms; cube files."""

import math

import numpy as np
import pandas as pd
import pytest
from ase.io.cube import read_cube_data
from pymatgen.core import Lattice, Structure

from kernels.percolation import percolation
from pipeline.conduction_paths import (
    IonLandscape,
    bottleneck_radius,
    conduction_path,
    ion_landscape,
)
from pipeline.config import ConductionSettings
from pipeline.crystal import row_from_structure
from pipeline.hopping import hopping_diffusivity
from pipeline.reference.bond_valence import Ion
from pipeline.site_energies import FrameworkIon
from pipeline.stages.conduction import MigrationBarriers, migration_barriers
from pipeline.units import BOLTZMANN
from pipeline.volumes import write_cube
from tests.electrolytes import lithium_sulfide
from workflows.outputs import write_volumes

CUBE = 4.0


def cosine_landscape(barriers, per_cell=0.5, points=16):
    """One site in a cubic cell of 4 Å, with a barrier along each axis; a carrier a cell or less."""
    waves = [e / 2 * (1 - np.cos(2 * np.pi * np.arange(points) / points)) for e in barriers]
    energies = waves[0][:, None, None] + waves[1][None, :, None] + waves[2][None, None, :]
    framework = [FrameworkIon(Ion("O", -2), (0.5, 0.5, 0.5), 1.0)]
    return IonLandscape(Ion("Li", 1), per_cell, CUBE * np.eye(3), framework, energies)


def path_of(where, window=0.1):
    return conduction_path(where, percolation(where.energies), window)


@pytest.mark.parametrize(
    ("barriers", "dimensionality", "hops"),
    [
        ((0.3, 0.3, 0.3), 3, "3 x 0.30/0.30 eV 4.0 Å"),
        ((0.3, 0.35, 0.8), 2, "1 x 0.35/0.35 eV 4.0 Å; 1 x 0.30/0.30 eV 4.0 Å"),
        ((0.8, 0.3, 0.8), 1, "1 x 0.30/0.30 eV 4.0 Å"),
    ],
)
def test_dimensions_within_the_window_conduct(barriers, dimensionality, hops):
    path = path_of(cosine_landscape(barriers))
    assert path.dimensionality == dimensionality
    assert str(path) == hops
    # each hop leads from the site at the origin over the middle of an edge to the next cell
    steps = [[np.zeros(3), axis / 2, axis] for axis in np.eye(3)]
    conducting = [steps[i] for i in range(3) if barriers[i] <= min(barriers) + 0.1]
    np.testing.assert_allclose(sorted(np.abs(path.way).tolist()), sorted(np.array(conducting).tolist()))
    wide = path_of(cosine_landscape(barriers), window=1.0)
    assert wide.dimensionality == 3


def test_region_is_that_of_the_barrier():
    where = cosine_landscape((5.0, 0.0, 5.0))
    # only the line of lowest energy percolates at once: 16 of 16³ points
    assert path_of(where).volume_fraction == pytest.approx(1 / 256)


def test_nothing_percolates_through_walls():
    where = cosine_landscape((0.3, 0.3, 0.3))
    where.energies[8, :, :] = where.energies[:, 8, :] = where.energies[:, :, 8] = math.inf
    path = path_of(where)
    assert (path.dimensionality, path.volume_fraction, path.hops, str(path)) == (0, 0.0, (), "")
    assert path.way.shape == (0, 3, 3)
    assert math.isnan(path.bottleneck_radius)


def test_bottleneck_is_distance_less_shannon_radius():
    where = cosine_landscape((0.3, 0.8, 0.8))
    # the saddle lies at (1/2, 0, 0), 2√2 Å from oxygen; O2- has 1.40 Å (Shannon 1976, sixfold)
    assert path_of(where).bottleneck_radius == pytest.approx(math.sqrt(8.0) - 1.40)
    # across the cell's boundary the nearest image counts
    shifted = where._replace(framework=[FrameworkIon(Ion("O", -2), (0.9, 0.0, 0.0), 1.0)])
    assert bottleneck_radius(shifted, np.array([0.1, 0.0, 0.0])) == pytest.approx(0.8 - 1.40)
    nameless = where._replace(framework=[*where.framework, FrameworkIon(Ion("Xx", 1), (0.5, 0.0, 0.0), 1.0)])
    assert math.isnan(path_of(nameless).bottleneck_radius)


@pytest.mark.parametrize("temperature", [300.0, 600.0])
def test_independent_carriers_follow_the_barrier(temperature):
    where = cosine_landscape((0.3, 0.3, 0.3))
    settings = ConductionSettings(hopping=True, temperature=temperature, jumps=200_000)
    value, error = hopping_diffusivity(where, 0.3, settings)
    # one site a cell: rate times length squared; ways over an edge of the cell are e^-(0.3 eV/kT) rarer
    expected = 1e13 * math.exp(-0.3 / (BOLTZMANN * temperature)) * CUBE**2 * 1e-16
    rarer = 6.0 * math.exp(-0.3 / (BOLTZMANN * temperature))
    assert value == pytest.approx(expected, abs=3 * error + rarer * expected)
    assert error < 0.1 * value


def test_a_pocket_lower_than_the_ways_holds_its_share_of_the_ions():
    """Ions in it never come out; the others conduct as without it."""
    settings = ConductionSettings(hopping=True, temperature=600.0, jumps=200_000)
    where = cosine_landscape((0.3, 0.3, 0.3))
    alone, _ = hopping_diffusivity(where, 0.3, settings)
    pocket = where._replace(energies=where.energies.copy())
    pocket.energies[6:11, 6:11, 6:11] = math.inf
    pocket.energies[8, 8, 8] = -0.2
    value, error = hopping_diffusivity(pocket, 0.5, settings)
    share = 1.0 / (1.0 + math.exp(0.2 / (BOLTZMANN * 600.0)))
    assert value == pytest.approx(share * alone, abs=3 * error)
    assert 0.0 < error < 0.1 * value


def test_too_few_jumps_give_no_diffusivity():
    where = cosine_landscape((0.3, 0.3, 0.3))
    # a double well at the site: ions jump to and fro over 0.06 eV, 1e4 times for each hop over 0.3 eV
    where.energies[1] += 0.05
    where.energies[2, 0, 0] = 0.0
    level = percolation(where.energies).thresholds.e3d
    few = ConductionSettings(hopping=True, jumps=20_000)
    assert all(math.isnan(x) for x in hopping_diffusivity(where, level, few))


def test_carriers_that_exclude_each_other_slow_down_and_jam():
    settings = ConductionSettings(hopping=True, jumps=100_000, carriers="exclusive")
    alone, _ = hopping_diffusivity(
        cosine_landscape((0.3,) * 3), 0.3, settings.model_copy(update={"carriers": "independent"})
    )
    half, error = hopping_diffusivity(cosine_landscape((0.3,) * 3), 0.3, settings)
    # half of the neighbours are taken, and correlation takes some more
    assert 0.3 * alone < half < 0.5 * alone + 3 * error
    assert all(math.isnan(x) for x in hopping_diffusivity(cosine_landscape((0.3,) * 3, per_cell=1.0), 0.3, settings))


def test_cell_and_supercell_have_the_same_way():
    structure = lithium_sulfide()
    where = ion_landscape(structure, "Li", 0.3)
    path = path_of(where)
    assert path.dimensionality == 3
    # tetrahedral to octahedral site of the antifluorite: a quarter of the cell's diagonal, on the grid
    assert {round(h.length, 1) for h in path.hops} == {2.5}
    found = migration_barriers(structure, "Li", 0.3, refine=False)  # the path is the grid's
    assert isinstance(found, MigrationBarriers)
    assert max(h.barrier for h in path.hops) == pytest.approx(found.e3d, abs=1e-9)
    twice = where._replace(
        lattice=where.lattice * np.array([[2.0], [1.0], [1.0]]),
        framework=[
            f._replace(frac_coords=((f.frac_coords[0] + n) / 2, *f.frac_coords[1:]))
            for f in where.framework
            for n in (0, 1)
        ],
        energies=np.tile(where.energies, (2, 1, 1)),
    )
    doubled = path_of(twice)
    assert doubled.dimensionality == 3
    assert doubled.volume_fraction == pytest.approx(path.volume_fraction)
    assert doubled.bottleneck_radius == pytest.approx(path.bottleneck_radius)
    barriers = [sorted({(round(h.barrier, 6), round(h.length, 6)) for h in p.hops}) for p in (doubled, path)]
    assert barriers[0] == barriers[1]


def test_cube_file_comes_back_as_it_was_written(tmp_path):
    structure = Structure(Lattice.from_parameters(4.1, 4.6, 5.2, 80, 95, 105), ["Li+", "O2-", "Li+"], np.eye(3) / 2)
    where = ion_landscape(structure, "Li", 0.4)
    with (tmp_path / "landscape.cube").open("w", encoding="utf-8") as stream:
        write_cube(stream, structure, where, cap=3.0)
    energies, atoms = read_cube_data(tmp_path / "landscape.cube")
    lowest = where.energies.min()
    # seven digits in the file; six decimals of a Bohr for each step of the grid
    np.testing.assert_allclose(energies, np.minimum(where.energies, lowest + 3.0), rtol=1e-6)
    assert energies.max() == pytest.approx(lowest + 3.0, abs=1e-5)
    np.testing.assert_allclose(atoms.cell[:], structure.lattice.matrix, atol=1e-5)
    np.testing.assert_allclose(atoms.positions, structure.cart_coords, atol=1e-5)
    assert atoms.get_chemical_symbols() == ["Li", "O", "Li"]


def test_forbidden_points_are_written_as_the_cap(tmp_path):
    where = cosine_landscape((0.3, 0.3, 0.3))
    where.energies[1, 2, 3] = math.inf
    structure = Structure(Lattice.cubic(CUBE), ["O2-"], [[0.5, 0.5, 0.5]])
    with (tmp_path / "landscape.cube").open("w", encoding="utf-8") as stream:
        write_cube(stream, structure, where, cap=2.0)
    assert read_cube_data(tmp_path / "landscape.cube")[0][1, 2, 3] == pytest.approx(2.0)


class _Campaign:
    """What writing volumes reads of a campaign."""

    mobile_ions = ("Li", "Na")

    def __init__(self, *stages):
        self.stages = stages


def test_volumes_are_written_for_the_shortlist_where_asked(tmp_path):
    row = row_from_structure(lithium_sulfide()) | {"conduction_ion": "Li", "conduction_status": "ok"}
    ranking = pd.DataFrame(
        [
            row | {"candidate_id": "chosen", "shortlisted": True},
            row | {"candidate_id": "other", "shortlisted": False},
            row | {"candidate_id": "failed", "shortlisted": True, "conduction_status": "failed"},
        ]
    )
    (tmp_path / "stale.cube").write_text("of a run before")
    settings = ConductionSettings(spacing=0.5, write_volumes=True)
    write_volumes(ranking, _Campaign(settings), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["chosen.cube"]
    energies, atoms = read_cube_data(tmp_path / "chosen.cube")
    assert len(atoms) == 12
    lowest = migration_barriers(lithium_sulfide(), "Li", 0.5).minimum_site_energy
    assert energies.min() == pytest.approx(lowest, abs=1e-5)
    before = (tmp_path / "chosen.cube").read_bytes()
    write_volumes(ranking, _Campaign(settings), tmp_path)
    assert (tmp_path / "chosen.cube").read_bytes() == before
    write_volumes(ranking, _Campaign(ConductionSettings()), tmp_path)
    assert list(tmp_path.iterdir()) == []
