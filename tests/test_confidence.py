"""Errors of the surrogates by anion class, and the chance of being as stable as the gate asks."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.confidence import stability_gates, stability_probability
from pipeline.gates import Gate
from pipeline.reference.anion_class import ANION_CLASSES, anion_class
from pipeline.reference.student_fit import fit_student
from pipeline.reference.surrogate_errors import ONE_SIGMA, ErrorDistribution, SurrogateErrors, surrogate_errors
from pipeline.settings import StabilitySettings, WindowSettings
from pipeline.surrogates.catalogue import CATALOGUE

GATE = Gate(below=0.05)
M3GNET, CHGNET = (next(reversed(CATALOGUE[n].sha256.values())) for n in ("M3GNet-MP-2021.2.8-PES", "CHGNet"))


def invented() -> SurrogateErrors:
    alone = dict.fromkeys(ANION_CLASSES, ErrorDistribution(bias=0.01, scale=0.03, degrees_of_freedom=3.0))
    beside = dict.fromkeys(ANION_CLASSES, ErrorDistribution(bias=0.005, scale=0.02, degrees_of_freedom=5.0))
    return SurrogateErrors("invented", "a" * 64, "b" * 64, 0.5, alone, beside)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("Li3YCl6", "Cl"),
        ("LiF", "F"),
        ("Li3PO4", "O"),
        ("LiClO4", "O"),
        ("KBrO3", "O"),
        ("Na2SO4", "O"),
        ("LiPF6", "F"),
        ("Li3PS4", "S"),
        ("Li10GeP2S12", "S"),
        ("NH4Cl", "Cl"),
        ("LiOH", "O"),
        ("LiBH4", "H"),
        ("Li3N", "N"),
        ("NaN", "N"),
        ("LaOCl", "mixed anion"),
        ("Li3OCl", "mixed anion"),
        ("Li6PS5Cl", "mixed anion"),
        ("Na2S2Se", "mixed anion"),
        ("Li3YBr3Cl3", "mixed halide"),
        ("NaLiBrCl", "mixed halide"),
        ("KICl4", "Cl"),
        ("NaCd2", "no anion"),
        ("O2", "no anion"),
    ],
)
def test_anion_class(formula: str, expected: str) -> None:
    assert anion_class(formula) == expected
    assert expected in ANION_CLASSES


def test_chance_is_students_distribution() -> None:
    error = ErrorDistribution(bias=0.01, scale=0.03, degrees_of_freedom=3.0)
    assert error.half_width == pytest.approx(stats.t.interval(ONE_SIGMA, 3.0, scale=0.03)[1])
    for energy in (-0.1, 0.0, 0.06, 0.2):
        expected = stats.t.cdf(0.05, 3.0, loc=energy - 0.01, scale=0.03)
        assert error.chance_below(0.05, energy) == pytest.approx(expected, rel=1e-12)


def test_many_degrees_of_freedom_are_the_normal_distribution() -> None:
    error = ErrorDistribution(bias=0.01, scale=0.03, degrees_of_freedom=1e7)
    assert error.half_width == pytest.approx(0.03, rel=1e-6)
    assert error.chance_below(0.05, 0.03) == pytest.approx(stats.norm.cdf(1.0), rel=1e-6)


def test_disagreement_adds_in_quadrature_for_the_fitted_pair_only() -> None:
    errors = invented()
    assert errors.of("LiCl", 0.08, "b" * 64) == ErrorDistribution(0.005, pytest.approx(np.hypot(0.02, 0.04)), 5.0)
    assert errors.of("LiCl", 0.0, "b" * 64).scale == pytest.approx(0.02)
    for alone in (errors.of("LiCl", 0.08, "c" * 64), errors.of("LiCl", float("nan"), "b" * 64)):
        assert alone == errors.of("LiCl") == ErrorDistribution(0.01, 0.03, 3.0)


def table(**columns: object) -> pd.DataFrame:
    row = {"formula_pretty": "Li3YCl6", "surrogate_sha256": M3GNET, "energy_disagreement": np.nan}
    return pd.DataFrame({**row, "energy_above_hull_error": 0.03, "energy_above_hull": [0.0], **columns})


def fitted() -> ErrorDistribution:
    errors = surrogate_errors(M3GNET)
    assert errors is not None
    return errors.of("Li3YCl6")


def test_at_the_gate_the_chance_is_one_half_and_it_falls_with_the_energy() -> None:
    at_gate, width = 0.05 + fitted().bias, fitted().half_width
    energies = [at_gate - 1.0, at_gate - width, at_gate, at_gate + width, at_gate + 1.0]
    chance = stability_probability(table(energy_above_hull=energies), [GATE])
    assert chance[2] == pytest.approx(0.5)
    assert np.all(np.diff(chance) < 0.0)
    assert chance[1] - chance[3] == pytest.approx(ONE_SIGMA, abs=1e-9)
    assert chance[0] > 0.99
    assert chance[4] < 0.01


def test_a_tighter_gate_and_more_disagreement_lower_the_chance() -> None:
    tight, loose = (stability_probability(table(), [Gate(below=b)])[0] for b in (0.03, 0.05))
    assert tight < loose
    agreeing, disagreeing = (stability_probability(table(energy_disagreement=d), [GATE], CHGNET)[0] for d in (0.0, 0.1))
    assert disagreeing < agreeing
    assert stability_probability(table(energy_disagreement=0.1), [GATE], "0" * 64)[0] == loose
    assert stability_probability(table(), [Gate(below=0.05), Gate(at_most=0.03)])[0] == tight
    between = stability_probability(table(), [Gate(below=0.05, above=0.03)])[0]
    assert between == pytest.approx(loose - tight)


def test_unknown_stays_unknown() -> None:
    assert np.isnan(stability_probability(table(), [])).all()
    for columns in (
        {"energy_above_hull": [np.nan]},
        {"energy_above_hull_error": np.nan},
        {"surrogate_sha256": "0" * 64},
        {"surrogate_sha256": None, "energy_above_hull_error": np.nan},
    ):
        assert np.isnan(stability_probability(table(**columns), [GATE])).all()
    assert len(stability_probability(table().iloc[:0], [GATE])) == 0


def test_rows_do_not_depend_on_each_other() -> None:
    mixed = table(
        formula_pretty=["Li3YCl6", "Li3PS4", "Li3PO4", "LiCl", "LiF"],
        surrogate_sha256=[M3GNET, CHGNET, M3GNET, "0" * 64, CHGNET],
        energy_above_hull=[0.01, 0.02, np.nan, 0.0, 0.07],
    )
    whole = stability_probability(mixed, [GATE])
    pieces = [stability_probability(mixed.iloc[i : i + 1], [GATE])[0] for i in range(len(mixed))]
    np.testing.assert_array_equal(whole, pieces)
    assert np.isfinite(whole).tolist() == [True, True, False, False, True]


def test_gates_are_found_at_any_stage() -> None:
    stages = [
        StabilitySettings(gates={"energy_above_hull": GATE}),
        WindowSettings(gates={"oxidation_limit": Gate(above=3.0)}),
    ]
    assert stability_gates(stages) == [GATE]
    assert stability_gates(stages[1:]) == []


def test_every_class_of_the_measured_surrogates_has_errors() -> None:
    for sha256, other in ((M3GNET, CHGNET), (CHGNET, M3GNET)):
        errors = surrogate_errors(sha256)
        assert errors is not None
        assert set(errors.alone) == set(errors.beside) == set(ANION_CLASSES)
        assert errors.second_sha256 == other
        for kind in ANION_CLASSES:
            agreed = errors.of_class(kind, 0.0, other).half_width
            assert 0.0 < agreed < errors.of_class(kind).half_width < errors.of_class(kind, 0.2, other).half_width
    assert surrogate_errors("0" * 64) is None


def test_fit_finds_what_was_put_in() -> None:
    """3,000 errors of three groups; tolerances are about four standard errors of the estimates."""
    rng = np.random.default_rng(3)
    index = rng.integers(0, 3, 3000)
    disagreements = np.abs(rng.normal(0.0, 0.04, 3000))
    spread = np.hypot(np.array([0.01, 0.02, 0.04])[index], 0.7 * disagreements)
    errors = np.array([0.0, 0.01, -0.02])[index] + spread * rng.standard_t(4.0, 3000)
    fitted = fit_student(errors, np.array(["a", "b", "c"])[index], disagreements)
    assert list(fitted.centres.values()) == pytest.approx([0.0, 0.01, -0.02], abs=0.006)
    assert list(fitted.scales.values()) == pytest.approx([0.01, 0.02, 0.04], rel=0.2)
    assert fitted.factor == pytest.approx(0.7, rel=0.15)
    assert fitted.degrees_of_freedom == pytest.approx(4.0, rel=0.3)
    likelihood = stats.t.logpdf(
        errors,
        fitted.degrees_of_freedom,
        np.array(list(fitted.centres.values()))[index],
        np.hypot(np.array(list(fitted.scales.values()))[index], (fitted.factor or 0.0) * disagreements),
    )
    assert fitted.negative_log_likelihood == pytest.approx(-likelihood.sum(), rel=1e-9)


def test_fit_without_disagreement_is_scipys() -> None:
    errors = stats.t.rvs(3.0, loc=0.01, scale=0.02, size=2000, random_state=5)
    fitted = fit_student(errors, np.array(["a"] * 2000))
    free, centre, scale = stats.t.fit(errors)
    # scipy stops its simplex at 1e-4 of the parameters.
    assert fitted.degrees_of_freedom == pytest.approx(free, rel=0.01)
    assert fitted.centres["a"] == pytest.approx(centre, abs=1e-4)
    assert fitted.scales["a"] == pytest.approx(scale, rel=0.01)
    assert fitted.factor is None


@pytest.mark.data
def test_unseen_crystals_err_as_the_file_says() -> None:
    """Crystals that M3GNet never saw, drawn anew (some were in the fit).

    68 % of errors should lie within the half width: of 100, four binomial standard deviations are 19 %. The median of
    the standardised errors has a standard error of about 0.1 half widths.
    """
    from pipeline.reference.labelled_crystals import read_labels, read_structures
    from pipeline.surrogates import load_potential
    from scripts.measure_surrogate_errors import LAST_OF_MPF_2021_2_8, formation_energies

    root = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project"
    labels = read_labels(root / "phases.csv.gz")
    later = sorted(m for m in labels if int(m.rpartition("-")[2]) > LAST_OF_MPF_2021_2_8)
    wanted = np.random.default_rng(77).permutation(later)[:1800].tolist()
    kinds = {"F", "O", "Cl", "S", "Se", "N"}
    crystals = [
        (m, s)
        for m, s in read_structures([root / "structures_theoretical_1.parquet"], wanted)
        if len(s) <= 20 and anion_class(s.composition.reduced_formula) in kinds
    ][:150]
    errors = surrogate_errors(M3GNET)
    assert errors is not None
    energies = formation_energies(load_potential("M3GNet-MP-2021.2.8-PES"), [s for _, s in crystals])
    standardised = []
    for (material, structure), energy in zip(crystals, energies, strict=True):
        expected = errors.of(structure.composition.reduced_formula)
        standardised.append((energy - labels[material] - expected.bias) / expected.half_width)
    assert len(standardised) >= 70
    assert np.mean(np.abs(standardised) < 1.0) == pytest.approx(ONE_SIGMA, abs=0.19)
    assert np.median(standardised) == pytest.approx(0.0, abs=0.4)
