"""Tensor algebra of elasticity: fits, averages and notations against closed forms and pymatgen."""

import numpy as np
import pytest
from pymatgen.core.elasticity import ElasticTensor as PymatgenTensor
from scipy.spatial.transform import Rotation

from pipeline.elastic_tensor import ElasticTensor, fit, moduli, strains, vectors, voigt, voigt_averages

WEIGHTS = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    """Stiffness of a cubic crystal in its axes, Kelvin's notation."""
    stiffness = np.diag([c11 - c12] * 3 + [2.0 * c44] * 3)
    stiffness[:3, :3] += c12
    return stiffness


def triclinic(seed: int) -> np.ndarray:
    """Positive definite stiffness without symmetry."""
    factor = np.random.default_rng(seed).normal(size=(6, 6))
    return 10.0 * (factor @ factor.T) + 20.0 * np.eye(6)


def rotated(stiffness: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """The tensor turned index by index: C'_ijkl = R_ia R_jb R_kc R_ld C_abcd."""
    full = full_tensor(stiffness)
    turned = np.einsum("ia,jb,kc,ld,abcd->ijkl", rotation, rotation, rotation, rotation, full)
    pairs = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    return np.array([[turned[(*p, *q)] for q in pairs] for p in pairs]) * np.outer(WEIGHTS, WEIGHTS)


def full_tensor(stiffness: np.ndarray) -> np.ndarray:
    return np.array(PymatgenTensor.from_voigt(voigt(stiffness)))


def test_isotropic_body() -> None:
    bulk, shear = 37.0, 21.0
    found = moduli(cubic(bulk + 4.0 / 3.0 * shear, bulk - 2.0 / 3.0 * shear, shear))
    assert [found.bulk_voigt, found.bulk_reuss, found.bulk] == pytest.approx([bulk] * 3)
    assert [found.shear_voigt, found.shear_reuss, found.shear] == pytest.approx([shear] * 3)
    assert found.youngs == pytest.approx(2.0 * shear * (1.0 + found.poisson_ratio))
    assert found.poisson_ratio == pytest.approx((3 * bulk - 2 * shear) / (6 * bulk + 2 * shear))
    assert found.anisotropy == pytest.approx(0.0, abs=1e-12)


def test_cubic_copper() -> None:
    """Copper, 168.4, 121.4 and 75.4 GPa (Hirth and Lothe 1982): the closed forms of Voigt and Reuss."""
    c11, c12, c44 = 168.4, 121.4, 75.4
    found = moduli(cubic(c11, c12, c44))
    assert found.bulk_voigt == pytest.approx((c11 + 2 * c12) / 3)
    assert found.bulk_reuss == pytest.approx((c11 + 2 * c12) / 3)
    assert found.shear_voigt == pytest.approx((c11 - c12 + 3 * c44) / 5)
    assert found.shear_reuss == pytest.approx(5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12)))


@pytest.mark.parametrize("seed", range(5))
def test_averages_are_pymatgens(seed: int) -> None:
    stiffness = triclinic(seed)
    found, peer = moduli(stiffness), PymatgenTensor.from_voigt(voigt(stiffness))
    assert found.bulk_voigt == pytest.approx(peer.k_voigt)
    assert found.bulk_reuss == pytest.approx(peer.k_reuss)
    assert found.shear_voigt == pytest.approx(peer.g_voigt)
    assert found.shear_reuss == pytest.approx(peer.g_reuss)
    assert found.bulk == pytest.approx(peer.k_vrh)
    assert found.shear == pytest.approx(peer.g_vrh)
    assert found.poisson_ratio == pytest.approx(peer.homogeneous_poisson)
    assert found.anisotropy == pytest.approx(peer.universal_anisotropy)


@pytest.mark.parametrize("seed", range(5))
def test_a_turned_crystal_has_the_same_moduli(seed: int) -> None:
    stiffness = triclinic(seed)
    turned = rotated(stiffness, Rotation.random(rng=seed).as_matrix())
    assert np.abs(turned - stiffness).max() > 1.0
    assert vars(moduli(turned)) == pytest.approx(vars(moduli(stiffness)))
    assert np.linalg.eigvalsh(turned) == pytest.approx(np.linalg.eigvalsh(stiffness))


def test_bounds_enclose_hill() -> None:
    for seed in range(20):
        found = moduli(triclinic(seed))
        assert found.bulk_reuss <= found.bulk <= found.bulk_voigt
        assert found.shear_reuss <= found.shear <= found.shear_voigt
        assert found.anisotropy >= 0.0


def response(stiffness: np.ndarray, applied: np.ndarray, initial: np.ndarray, third: float) -> np.ndarray:
    """Stresses (m, 3, 3) of a body with an initial stress and a quadratic term, index by index."""
    linear = np.einsum("ijkl,mkl->mij", full_tensor(stiffness), applied)
    return initial + linear + third * applied @ applied


def test_fit_finds_the_tensor_beneath_initial_stress_and_quadratic_terms() -> None:
    stiffness, applied = triclinic(3), strains([0.01, 0.02])
    initial = np.diag([0.3, -0.1, 0.2])
    found = fit(applied, response(stiffness, applied, initial, third=500.0))
    assert found.stiffness == pytest.approx(stiffness)
    assert 0.0 < found.residual < 0.2
    assert fit(applied, response(stiffness, applied, initial, third=0.0)).residual == pytest.approx(0.0, abs=1e-10)


def test_strains_have_the_norms_asked_for() -> None:
    applied = strains([0.01, 0.002])
    assert applied.shape == (24, 3, 3)
    assert np.array_equal(applied, np.swapaxes(applied, 1, 2))
    assert np.linalg.norm(applied, axis=(1, 2)) == pytest.approx([0.01, 0.002, 0.002, 0.01] * 6)
    assert applied.sum(0) == pytest.approx(np.zeros((3, 3)))
    assert np.linalg.norm(vectors(applied), axis=1) == pytest.approx(np.linalg.norm(applied, axis=(1, 2)))


def test_too_few_strains_are_refused() -> None:
    applied = strains([0.01])[:6]
    with pytest.raises(ValueError, match="6 strains leave 3 of 7 directions open"):
        fit(applied, np.zeros((6, 3, 3)))


def test_an_unstable_tensor_has_averages_of_voigt_alone() -> None:
    soft = ElasticTensor(cubic(100.0, 120.0, 30.0), 0.0)
    assert soft.lowest_eigenvalue == pytest.approx(-20.0)
    assert voigt_averages(soft.stiffness) == pytest.approx(((100 + 240) / 3, (100 - 120 + 90) / 5))
    with pytest.raises(ValueError, match="positive definite, its lowest eigenvalue is -20"):
        moduli(soft.stiffness)
