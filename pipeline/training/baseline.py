"""Energies of the elements, fitted so that what is left to learn is small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.surrogates.batch import FloatArray
from pipeline.training.findings import Findings
from pipeline.training.labelled import LabelledCrystals

# Share of the largest singular value that a ridge adds where elements occur in fixed proportions only.
_RIDGE = 1e-4
_REWEIGHTINGS = 20


def fit_element_energies(counts: FloatArray, energies: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Energy of each element that sums up to the total energies in the least-squares sense.

    Minimises the mean square of (E_b - sum over elements of n_bk e_k) / n_b. Where compositions leave a combination of
    elements undetermined (Na and Cl in NaCl alone) a ridge about the mean energy of an atom decides.

    Parameters
    ----------
    counts : (B, K) float64
        Atoms of each element.
    energies : (B,) float64
        Total energies, eV.
    weights : (B,) float64, optional
        Of each crystal.

    Returns
    -------
    (K,) float64
        eV/atom.
    """
    atoms = counts.sum(axis=1)
    shares, targets = counts / atoms[:, None], energies / atoms
    mean = float(np.average(targets, weights=weights))
    root = np.ones(len(targets)) if weights is None else np.sqrt(weights)
    matrix, rest = shares * root[:, None], (targets - mean) * root
    singular = np.linalg.svd(matrix, compute_uv=False)
    if len(singular) < counts.shape[1] or singular[-1] < _RIDGE * singular[0]:
        ridge = _RIDGE * singular[0] * np.eye(counts.shape[1])
        matrix, rest = np.concatenate([matrix, ridge]), np.concatenate([rest, np.zeros(counts.shape[1])])
    fitted: FloatArray = np.linalg.lstsq(matrix, rest, rcond=None)[0] + mean
    return fitted


def deviations(labels: LabelledCrystals, elements: Sequence[str]) -> FloatArray:
    """(B,) eV/atom by which energies leave the elements' energies, fitted by least absolute deviations.

    Iteratively reweighted, so that a few labels in another unit stand out instead of spoiling the fit.
    """
    counts = labels.composition_counts(elements)
    atoms = labels.crystals.counts
    weights = np.ones(len(labels))
    for _ in range(_REWEIGHTINGS):
        left: FloatArray = (labels.energies - counts @ fit_element_energies(counts, labels.energies, weights)) / atoms
        weights = 1.0 / np.maximum(np.abs(left), 1e-2)
    return left


def check_energies(labels: LabelledCrystals, largest: float, findings: Findings) -> None:
    """Find energies that do not belong to the same unit and scheme as the others."""
    left = deviations(labels, labels.elements)
    for b in np.flatnonzero(np.abs(left) > largest):
        per_atom = labels.energies[b] / labels.crystals.counts[b]
        findings.add(
            "deviation",
            labels.places[b].rpartition(":row")[0],
            labels.places[b],
            f"{per_atom:.4g} eV/atom is {left[b]:+.3g} eV/atom off what the others say of its elements, more than "
            f"data.largest_energy_deviation = {largest:g}; is it in another unit or scheme?",
        )
