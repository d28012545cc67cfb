"""Electrochemical window: closed forms, pymatgen's element profile as the peer, published windows."""

import os
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key

# Two solvers on one linear problem, both in double precision: far below the millivolt that matters.
SAME_VOLTAGE = 1e-3
Profile = tuple[float, float, set[str], set[str]]


def reference_of(**energies: float) -> PhaseReference:
    return PhaseReference({composition_key(f): e for f, e in energies.items()})


def test_binary_salt_closed_form() -> None:
    # LiCl -> Li + Cl: V = -2 E_f (two atoms a formula unit), and nothing happens against lithium metal.
    window = reference_of(LiCl=-2.1).electrochemical_window("LiCl", "Li", -2.1)
    assert window.reduction_limit == 0.0
    assert window.oxidation_limit == pytest.approx(4.2, abs=1e-9)
    assert window.reduction_products == {}
    assert window.oxidation_products == pytest.approx({"Cl2": 1.0})


@pytest.mark.parametrize(("ion", "salt", "z"), [("Mg", "MgCl2", 2), ("Al", "AlCl3", 3), ("Na", "NaCl", 1)])
def test_charge_of_the_ion(ion: str, salt: str, z: int) -> None:
    # E_f per formula unit = -z e V for M -> M(z+) + z e.
    atoms = z + 1
    window = reference_of(**{salt: -1.5}).electrochemical_window(salt, ion)
    assert window.oxidation_limit == pytest.approx(1.5 * atoms / z, abs=1e-9)


def test_ternary_reduction_closed_form() -> None:
    # YCl3 + 3 Li -> Y + 3 LiCl: V = -(3 * 2 E(LiCl) - 4 E(YCl3)) / 3, seen by Li3YCl6 as 3 LiCl + YCl3.
    reference = reference_of(LiCl=-2.1, YCl3=-2.5)
    window = reference.electrochemical_window("Li3YCl6")
    assert window.reduction_limit == pytest.approx((3 * 2 * 2.1 - 4 * 2.5) / 3, abs=1e-9)
    assert window.oxidation_limit == pytest.approx(4.2, abs=1e-9)
    assert set(window.reduction_products) == {"LiCl", "Y"}
    assert set(window.oxidation_products) == {"YCl3", "Cl2"}
    assert sum(window.reduction_products.values()) == pytest.approx(1.0)


def test_metastable_candidate_takes_the_limits_of_its_assemblage() -> None:
    reference = reference_of(LiCl=-2.1, YCl3=-2.5)
    hull = reference.hull_energy("Li3YCl6")
    assert reference.electrochemical_window("Li3YCl6", "Li", hull + 0.05) == reference.electrochemical_window("Li3YCl6")


def test_candidate_below_the_hull_has_a_wider_window() -> None:
    reference = reference_of(LiCl=-2.1, YCl3=-2.5)
    without = reference.electrochemical_window("Li3YCl6")
    stable = reference.electrochemical_window("Li3YCl6", "Li", reference.hull_energy("Li3YCl6") - 0.05)
    # Li3YCl6 + 3 Li -> Y + 6 LiCl gets 0.05 eV/atom * 10 atoms / 3 Li dearer.
    assert stable.reduction_limit == pytest.approx(without.reduction_limit - 0.5 / 3, abs=1e-9)
    assert stable.oxidation_limit > without.oxidation_limit


def test_composition_without_the_ion_has_no_oxidation_limit() -> None:
    window = reference_of(LiCl=-2.1, YCl3=-2.5).electrochemical_window("YCl3", "Li")
    assert window.reduction_limit == pytest.approx((3 * 2 * 2.1 - 4 * 2.5) / 3, abs=1e-9)
    assert np.isnan(window.oxidation_limit)
    assert window.oxidation_products == {}


def test_unknown_ion_and_energy_are_refused() -> None:
    reference = reference_of(LiCl=-2.1)
    with pytest.raises(ValueError, match="no charge is known for mobile ion 'Cl'"):
        reference.electrochemical_window("LiCl", "Cl")
    with pytest.raises(ValueError, match="must be a finite number"):
        reference.electrochemical_window("LiCl", "Li", float("nan"))


def element_profile(reference: PhaseReference, formula: str, ion: str, energy: float | None) -> Profile:
    """Limits and products read from pymatgen's element profile, in V and formulas."""
    composition = Composition(formula)
    system = reference.system([e.symbol for e in composition.elements] + [ion])
    entries = [
        PDEntry(Composition(dict(key)), e * sum(n for _, n in key))
        for key, e in zip(system.keys, system.energies, strict=True)
    ]
    if energy is not None and energy < reference.hull_energy(formula):
        entries.append(PDEntry(composition, energy * composition.num_atoms))
    profile = PhaseDiagram(entries).get_element_profile(Element(ion), composition)
    uptake = [row["evolution"] for row in profile]
    at = next(i for i, amount in enumerate(uptake) if amount < 1e-4)
    below = next(i for i, amount in enumerate(uptake) if amount < -1e-4)

    def products(i: int) -> set[str]:
        return {e.composition.reduced_formula for e in profile[i]["entries"]} - {ion}

    reduction = products(at - 1) if at > 0 else set()
    return -profile[at]["chempot"], -profile[below]["chempot"], reduction, products(below)


def assert_same_window(reference: PhaseReference, formula: str, ion: str, energy: float | None) -> None:
    window = reference.electrochemical_window(formula, ion, energy)
    reduction, oxidation, reduced, oxidised = element_profile(reference, formula, ion, energy)
    assert window.reduction_limit == pytest.approx(reduction, abs=SAME_VOLTAGE), formula
    assert window.oxidation_limit == pytest.approx(oxidation, abs=SAME_VOLTAGE), formula
    if window.reduction_limit > 0.0:
        assert set(window.reduction_products) == reduced, formula
    assert set(window.oxidation_products) == oxidised, formula


@pytest.mark.parametrize("seed", range(8))
def test_window_equals_pymatgen_on_random_tables(seed: int) -> None:
    rng = np.random.default_rng(seed)
    others = ("Y", "S", "Cl")
    phases = {}
    for _ in range(25):
        chosen = rng.choice(("Li", *others), size=int(rng.integers(2, 5)), replace=False)
        phases[composition_key("".join(f"{e}{rng.integers(1, 5)}" for e in chosen))] = float(rng.normal(-1.0, 0.5))
    reference = PhaseReference(phases, elements=("Li", *others))
    for formula in ("LiYCl4", "Li3YCl6", "Li2S3Cl", "Li5Y2S3Cl4"):
        hull = reference.hull_energy(formula)
        for energy in (None, hull + 0.1, hull - 0.1):
            assert_same_window(reference, formula, "Li", energy)


@pytest.fixture(scope="module")
def materials_project() -> PhaseReference:
    root = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project"
    return PhaseReference.from_table(root / "phases.csv.gz", elemental_references=root / "elemental_references.csv")


# Published windows rest on the Materials Project of their year (legacy corrections; no MP2020 anion terms, fewer
# polysulfides and subhalides), ours on the MP2020 table. The anion corrections alone move a limit by up to 0.1 V.
PUBLISHED = [
    # Zhu, He and Mo, ACS Appl. Mater. Interfaces 2015, 7, 23685.
    ("Li2S", 0.0, 2.01, 0.15),
    ("Li3PS4", 1.71, 2.31, 0.10),
    ("Li6PS5Cl", 1.71, 2.01, 0.15),
    ("LiF", 0.0, 6.36, 0.10),
    ("LiCl", 0.0, 4.21, 0.10),
    # Wang, Bai, Nolan et al., Angew. Chem. Int. Ed. 2019, 58, 8039.
    ("Li3YCl6", 0.62, 4.21, 0.10),
]


@pytest.mark.data
@pytest.mark.parametrize(("formula", "reduction", "oxidation", "tolerance"), PUBLISHED)
def test_published_windows(
    materials_project: PhaseReference, formula: str, reduction: float, oxidation: float, tolerance: float
) -> None:
    window = materials_project.electrochemical_window(formula)
    assert window.reduction_limit == pytest.approx(reduction, abs=tolerance)
    assert window.oxidation_limit == pytest.approx(oxidation, abs=tolerance)


@pytest.mark.data
@pytest.mark.parametrize(
    ("formula", "ion"),
    [
        ("Li3YCl6", "Li"),
        ("Li6PS5Cl", "Li"),
        ("Li10GeP2S12", "Li"),
        ("Li3PO4", "Li"),
        ("Na3PS4", "Na"),
        ("Na2LiYCl6", "Na"),
        ("Na2LiYCl6", "Li"),
        ("Li3InCl6", "Li"),
        ("LiZr2P3O12", "Li"),
    ],
)
def test_real_windows_equal_pymatgen(materials_project: PhaseReference, formula: str, ion: str) -> None:
    hull = materials_project.hull_energy(formula)
    for energy in (None, hull - 0.02):
        assert_same_window(materials_project, formula, ion, energy)
