"""The conduction stage against its peer bvlain, and its contract as a stage."""

import math
import warnings
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Species, Structure

from kernels.percolation import percolation_thresholds
from pipeline import schema
from pipeline.crystal import row_from_structure
from pipeline.oxidation_states import (
    InvalidStructureError,
    OxidationStateError,
    balanced_oxidation_states,
    charged_species,
)
from pipeline.reference.bond_valence import Ion, MissingBondValenceParameterError
from pipeline.settings import ConductionSettings
from pipeline.site_energies import InvalidGridError, NoMobileIonError, framework_ions, grid_shape, landscape
from pipeline.stages import conduction
from pipeline.stages.conduction import migration_barriers
from tests.electrolytes import lithium_cobaltate, lithium_iron_phosphate, lithium_sulfide, sodium_chloride

SETTINGS = ConductionSettings(spacing=0.5)
REFS = SimpleNamespace(mobile_ions=("Li", "Na"))


def peer_run(structure, ion, resolution):
    """Energies on the grid and barriers of bvlain, with all neighbours and softBV's own radii."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated SciPy names, divisions by zero
        from bvlain import Lain

        peer = Lain(verbose=False)
        peer.read_structure(structure, oxi_check=False)
        peer.bvse_distribution(mobile_ion=ion, r_cut=10.0, resolution=resolution, k=900, use_softbv_covalent_radii=True)
        barriers = peer.percolation_barriers(encut=10.0)
    # its grid holds the cell's far faces too, which are the near ones again
    return peer.data[:-1, :-1, :-1], tuple(barriers[f"E_{d}D"] for d in (1, 2, 3))


def energies_on(structure, ion, shape):
    charged = charged_species(structure)
    return landscape(structure.lattice.matrix, framework_ions(structure, charged, {ion.element}), ion, shape)


@pytest.mark.parametrize(
    ("make", "ion", "resolution"),
    [
        (lithium_iron_phosphate, Ion("Li", 1), 0.3),
        (lithium_cobaltate, Ion("Li", 1), 0.2),
        (sodium_chloride, Ion("Na", 1), 0.25),
        (lithium_sulfide, Ion("Li", 1), 0.25),
    ],
)
def test_agrees_with_bvlain(make, ion, resolution):
    structure = make()
    expected, barriers = peer_run(structure, f"{ion.element}1+", resolution)
    energies = energies_on(structure, ion, expected.shape)
    low = expected < 5.0
    assert low.sum() > 50
    # same formula, parameters and neighbours: only rounding and the far end of the sums can differ
    np.testing.assert_allclose(energies[low], expected[low], rtol=0, atol=1e-3)
    assert (energies[~low] > 4.999).all()
    # the peer stops its bisection at 10 meV
    np.testing.assert_allclose(percolation_thresholds(energies, cap=10.0), barriers, rtol=0, atol=0.02)


def test_olivine_conducts_along_b_and_layered_oxide_in_its_layers():
    # Nishimura et al., Nature Materials 2008, 7, 707: lithium moves along [010] in LiFePO4
    olivine = migration_barriers(lithium_iron_phosphate(), "Li", 0.25)
    assert olivine.e1d < 0.6
    assert olivine.e2d > 2.0
    layered = migration_barriers(lithium_cobaltate(), "Li", 0.2)
    assert layered.e2d == pytest.approx(layered.e1d, abs=1e-6)  # the same by symmetry
    assert layered.e3d > layered.e2d + 1.0


def test_supercell_permutation_and_given_oxidation_states_leave_barriers_unchanged():
    structure = lithium_cobaltate()
    expected = migration_barriers(structure, spacing=0.3, refine=False)
    doubled = structure.copy()
    doubled.make_supercell([2, 1, 1])
    shape = expected.grid_shape
    barriers = percolation_thresholds(energies_on(doubled, Ion("Li", 1), (2 * shape[0], shape[1], shape[2])), cap=10.0)
    # rounding of sums only
    np.testing.assert_allclose(barriers, (expected.e1d, expected.e2d, expected.e3d), rtol=0, atol=1e-9)
    bare = structure.copy()
    bare.remove_oxidation_states()
    for states in ([s.specie.oxi_state for s in structure], {"Li": 1, "Co": 3, "O": -2}, None):
        assert migration_barriers(bare, spacing=0.3, oxidation_states=states, refine=False) == expected
    # refined, they are the same on a grid that has other points
    refined = [migration_barriers(s, spacing=0.3) for s in (structure, doubled)]
    assert refined[0].grid_shape != refined[1].grid_shape
    assert (refined[0].e1d, refined[0].e2d) == pytest.approx((refined[1].e1d, refined[1].e2d), abs=1e-4)


def test_half_occupied_sites_give_the_mean_landscape():
    shape = (6, 6, 6)
    lattice = Lattice.cubic(5.2)
    species = {"Cl": Species("Cl", -1), "Br": Species("Br", -1)}
    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]]

    def crystal(anion):
        return Structure(lattice, [anion, "Mg2+", "Li+"], coords)

    mixed = energies_on(crystal({species["Cl"]: 0.5, species["Br"]: 0.5}), Ion("Li", 1), shape)
    ends = [energies_on(crystal(species[x]), Ion("Li", 1), shape) for x in ("Cl", "Br")]
    np.testing.assert_allclose(mixed, np.mean(ends, axis=0), rtol=1e-12)  # energies are linear in occupancy


def test_lithium_leaves_a_shared_site_and_its_neighbour_stays():
    shared = {Species("Li", 1): 0.75, Species("Mg", 2): 0.25}
    structure = Structure(Lattice.cubic(5.0), [shared, "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    framework = framework_ions(structure, charged_species(structure), {"Li"})
    assert [(str(f.ion), f.occupancy) for f in framework] == [("Mg2+", 0.25), ("Cl1-", 1.0)]


def test_fractional_oxidation_states_mix_the_integers_beside_them():
    structure = Structure(Lattice.cubic(5.0), ["Li+", Species("Fe", 2.75), "O2-"], np.eye(3) / 2)
    framework = framework_ions(structure, charged_species(structure), {"Li"})
    assert [(str(f.ion), f.occupancy) for f in framework] == [("Fe2+", 0.25), ("Fe3+", 0.75), ("O2-", 1.0)]


def test_all_mobile_ions_leave_the_framework():
    structure = lithium_cobaltate()
    structure[0] = Species("Na", 1)
    assert migration_barriers(structure, "Li", 0.4, mobile_ions=("Na",)) != migration_barriers(structure, "Li", 0.4)
    expected = migration_barriers(lithium_cobaltate(), "Li", 0.4)
    assert migration_barriers(structure, "Li", 0.4, mobile_ions=("Na", "Li")) == expected


def test_charge_balance_picks_the_ionic_assignment():
    assert balanced_oxidation_states(Structure(Lattice.cubic(8), ["Li"] * 3 + ["P"] + ["S"] * 4, np.zeros((8, 3)))) == {
        "Li": 1.0,
        "P": 5.0,
        "S": -2.0,
    }
    disordered = Structure(
        Lattice.cubic(5), [{"Li": 0.5}, {"Li": 0.5, "Mg": 0.25}, "Cl", {"Cl": 0.5}], np.zeros((4, 3))
    )
    assert balanced_oxidation_states(disordered) == {"Li": 1.0, "Mg": 2.0, "Cl": -1.0}


def test_grid_is_commensurate_with_the_framework():
    shape = grid_shape(lithium_cobaltate(), 0.25, {"Li"})
    assert shape[0] == shape[1]
    assert all(n % 3 == 0 for n in shape)  # rhombohedral centring moves by thirds
    assert all(length / n <= 0.25 for length, n in zip(lithium_cobaltate().lattice.abc, shape, strict=True))
    energies = energies_on(lithium_cobaltate(), Ion("Li", 1), shape)
    centring = (2 * shape[0] // 3, shape[1] // 3, shape[2] // 3)
    # pymatgen rounds thirds to eight digits, which the steep repulsion near cobalt magnifies
    np.testing.assert_allclose(np.roll(energies, centring, axis=(0, 1, 2)), energies, rtol=1e-6)


@pytest.mark.parametrize(
    ("structure", "arguments", "error", "message"),
    [
        (sodium_chloride(), {"ion": "Li"}, NoMobileIonError, "holds no Li"),
        (lithium_sulfide(), {"mobile_ions": ("S",)}, NoMobileIonError, "nothing but mobile ions"),
        (
            lithium_sulfide(),
            {"oxidation_states": {"Li": 1}},
            OxidationStateError,
            "no oxidation state given for S",
        ),
        (
            lithium_sulfide(),
            {"oxidation_states": [1, -2]},
            OxidationStateError,
            "2 oxidation states given for 12",
        ),
        (lithium_sulfide(), {"oxidation_states": {"Li": 1, "S": 0}}, OxidationStateError, "neutral atom"),
        (lithium_sulfide(), {"oxidation_states": {"Li": 1, "S": 6}}, OxidationStateError, "no counter-ion"),
        (lithium_sulfide(), {"oxidation_states": {"Li": 0.5, "S": -1}}, OxidationStateError, "one whole"),
        (
            lithium_sulfide(),
            {"oxidation_states": {"Li": 1, "S": -1}},
            MissingBondValenceParameterError,
            "S1-",
        ),
        (lithium_sulfide(), {"spacing": 0.0}, InvalidGridError, "positive length"),
        (lithium_sulfide(), {"spacing": 0.01}, InvalidGridError, "larger spacing"),
        (
            Structure(Lattice.cubic(4), ["Li", "Ca"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
            {},
            OxidationStateError,
            "neutral",
        ),
    ],
)
def test_refusals_say_why(structure, arguments, error, message):
    with pytest.raises(error, match=message):
        migration_barriers(structure, **arguments)


def test_coinciding_atoms_and_two_atom_cells_are_handled():
    twice = sodium_chloride()
    twice.append("Cl-", twice[-1].frac_coords)
    assert math.isfinite(migration_barriers(twice, "Na", 0.5).minimum_site_energy)
    primitive = sodium_chloride().get_primitive_structure()
    assert len(primitive) == 2
    assert migration_barriers(primitive, "Na", 0.2).e3d > 0.0


# --- the stage's contract


@cache
def rows():
    """Five good rows, one with two mobile ions, one without oxidation states."""
    both = lithium_cobaltate()
    both[0] = Species("Na", 1)
    bare = lithium_sulfide()
    bare.remove_oxidation_states()
    return [row_from_structure(s) for s in (lithium_sulfide(), sodium_chloride(), both, bare, lithium_cobaltate())]


def table():
    """The rows with ids and an index that is no range."""
    part = pd.DataFrame(rows(), index=pd.Index([7, 3, 11, 5, 2]))
    part.insert(0, "candidate_id", [f"c{n}" for n in range(len(part))])
    return part


def test_dimensions_and_bottleneck_are_those_of_the_barriers_off_the_grid():
    """The grid cuts equal passes of rock salt's primitive cell unlike, by more than the window; so does a shift."""
    primitive = sodium_chloride().get_primitive_structure()
    moved = primitive.copy()
    moved.translate_sites([0, 1], [0.031, 0.017, 0.043])
    part = pd.DataFrame([row_from_structure(s) for s in (sodium_chloride(), primitive, moved)])
    done = conduction.run(part, SETTINGS.model_copy(update={"spacing": 0.3}), REFS, None)
    assert done["conduction_dimensionality"].tolist() == [3, 3, 3]
    assert done["bottleneck_radius"].to_numpy() == pytest.approx([done["bottleneck_radius"][0]] * 3, abs=1e-3)


def test_stage_adds_its_columns_and_leaves_the_rest(tmp_path):
    part = table()
    before = part.copy(deep=True)
    done = conduction.run(part, SETTINGS, REFS, tmp_path)
    pd.testing.assert_frame_equal(part, before)
    pd.testing.assert_frame_equal(done[part.columns], before)
    assert done["conduction_status"].tolist() == ["ok"] * 5
    assert done["conduction_error"].tolist() == [""] * 5
    assert done["conduction_ion"].tolist()[:2] == ["Li", "Na"]
    barriers = migration_barriers(lithium_sulfide(), "Li", SETTINGS.spacing)
    assert done["migration_barrier_1d"].tolist()[0] == barriers.e1d
    assert done["migration_barrier_3d"].tolist()[0] == barriers.e3d
    assert done["migration_barrier_3d"].tolist()[3] == barriers.e3d
    assert done["conduction_dimensionality"].tolist() == [3, 3, 2, 3, 2]
    assert done["percolating_volume_fraction"].between(0.0, 0.5, inclusive="neither").all()
    assert done["conduction_path"].str.contains("eV").all()
    hops = [sum(int(kind.split()[0]) for kind in text.split("; ")) for text in done["conduction_path"]]
    assert done["conduction_path_points"].map(len).tolist() == [9 * n for n in hops]
    assert done["diffusivity_bond_valence"].isna().all()
    assert list(tmp_path.iterdir()) == []


def test_the_ion_with_the_lowest_barrier_is_reported(tmp_path):
    done = conduction.run(table(), SETTINGS, REFS, tmp_path)
    both = lithium_cobaltate()
    both[0] = Species("Na", 1)
    found = {i: migration_barriers(both, i, SETTINGS.spacing, mobile_ions=REFS.mobile_ions).e3d for i in ("Li", "Na")}
    assert done["conduction_ion"].tolist()[2] == min(found, key=found.get)
    assert done["migration_barrier_3d"].tolist()[2] == min(found.values())


def test_partitions_do_not_matter(tmp_path):
    part = table()
    whole = conduction.run(part, SETTINGS, REFS, tmp_path)
    pieces = pd.concat([conduction.run(part.iloc[a:b], SETTINGS, REFS, tmp_path) for a, b in ((0, 1), (1, 3), (3, 5))])
    pd.testing.assert_frame_equal(pieces, whole)


def test_empty_partition_has_the_same_columns(tmp_path):
    whole = conduction.run(table(), SETTINGS, REFS, tmp_path)
    empty = conduction.run(table().iloc[:0], SETTINGS, REFS, tmp_path)
    assert len(empty) == 0
    added = [c.name for c in schema.columns_of("conduction")]
    assert not set(added) & set(table().columns)
    assert schema.to_arrow(empty, added).schema == schema.to_arrow(whole, added).schema


def test_poisoned_rows_fail_alone_with_a_message(tmp_path):
    good = row_from_structure(lithium_sulfide())
    rows = [
        good,
        row_from_structure(Structure(Lattice.cubic(4.2), ["Mg2+", "O2-"], [[0, 0, 0], [0.5, 0.5, 0.5]])),
        good | {"frac_coords": [math.nan, *good["frac_coords"][1:]]},
        good | {"lattice": None, "stability_status": "failed"},
        good | {"oxidation_states": [1.0, math.nan, *good["oxidation_states"][2:]]},  # guessed instead
        good | {"oxidation_states": [1.0] * len(good["atomic_numbers"])},
    ]
    done = conduction.run(pd.DataFrame(rows), SETTINGS, REFS, tmp_path)
    assert done["conduction_status"].tolist() == ["ok", "failed", "failed", "failed", "ok", "failed"]
    errors = done["conduction_error"].tolist()
    assert errors[1].startswith(f"{NoMobileIonError.__name__}: Mg1 O1 holds none of the mobile ions Li, Na")
    assert errors[2].startswith(f"{InvalidStructureError.__name__}: lattice or coordinates")
    assert "'lattice' is missing" in errors[3]
    assert "no counter-ion" in errors[5]
    failed = done["conduction_status"] == "failed"
    assert done.loc[failed, "migration_barrier_3d"].isna().all()
    assert (done.loc[failed, "conduction_ion"] == "").all()
    assert done["migration_barrier_3d"].iloc[4] == done["migration_barrier_3d"].iloc[0]


def test_no_percolation_below_the_cap_is_infinite_and_not_missing(tmp_path):
    settings = ConductionSettings(spacing=0.5, energy_cap=0.01)
    done = conduction.run(table().iloc[:1], settings, REFS, tmp_path)
    assert done["conduction_status"].tolist() == ["ok"]
    assert done["migration_barrier_3d"].tolist() == [math.inf]
    assert done["conduction_dimensionality"].tolist() == [0]
    assert done["percolating_volume_fraction"].tolist() == [0.0]
    assert done["conduction_path"].tolist() == [""]
    assert done["conduction_path_points"].tolist() == [[]]
    assert done["bottleneck_radius"].isna().all()


def test_hopping_gives_the_same_diffusivity_in_any_partition(tmp_path):
    settings = ConductionSettings(spacing=0.5, hopping=True, jumps=20_000)
    part = table().iloc[:3]
    whole = conduction.run(part, settings, REFS, tmp_path)
    pieces = pd.concat([conduction.run(part.iloc[a:b], settings, REFS, tmp_path) for a, b in ((0, 1), (1, 3))])
    pd.testing.assert_frame_equal(pieces, whole)
    assert (whole["diffusivity_bond_valence"] > 0.0).all()
    # lithium sulfide's barrier is half of rock salt's
    assert whole["diffusivity_bond_valence"].tolist()[0] > 1e3 * whole["diffusivity_bond_valence"].tolist()[1]


def test_settings_of_hopping_and_files_are_in_the_digest_only_where_they_matter():
    plain = ConductionSettings().result_settings()
    assert ConductionSettings(seed=1, write_volumes=True).result_settings() == plain
    assert (
        ConductionSettings(hopping=True, seed=1).result_settings() != ConductionSettings(hopping=True).result_settings()
    )
