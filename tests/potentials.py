"""Every potential of the catalogue on every device, as parameters of a test, and crystals to try them on."""

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from pipeline.surrogates import CATALOGUE, Potential, load_potential


def _marks(name, device):
    marks = [] if name == "CHGNet" else [pytest.mark.data]
    return [*marks, pytest.mark.gpu] if device == "cuda" else marks


# CHGNet's weights come with its package; the others need IONSIEVE_DATA.
POTENTIALS_ON_DEVICES = [
    pytest.param((name, device), marks=_marks(name, device), id=f"{name}-{device}")
    for device in ("cpu", "cuda")
    for name, entry in CATALOGUE.items()
    if entry.kind == "potential"
]


def load(name: str, device: str, **settings: int) -> Potential:
    """The potential; a test for CUDA is skipped where there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return load_potential(name, device, **settings)


def rock_salt(metal: str = "Na", halogen: str = "Cl", a: float = 5.69, seed: int | None = None) -> Structure:
    """Primitive cell of two atoms; with a seed, cell and atoms are distorted."""
    matrix = np.array([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    sites = np.array([[0.0] * 3, [0.5] * 3])
    if seed is not None:
        rng = np.random.default_rng(seed)
        matrix = matrix @ (np.eye(3) + rng.normal(0.0, 0.02, (3, 3)))
        sites = sites + rng.normal(0.0, 0.01, (2, 3))
    return Structure(Lattice(matrix), [metal, halogen], sites)


# Rock salts that every model knows, and their lattice constants (Materials Project, PBE, rounded), Å.
SALTS = [("Li", "F", 4.1), ("Li", "Cl", 5.15), ("Na", "Cl", 5.69), ("Na", "Br", 6.02), ("K", "Cl", 6.38)]


def compact(crystal: Structure) -> Structure:
    """The crystal near the density of the Morse solid of ``tests.morse``, which a few dozen steps then relax."""
    return crystal.copy().scale_lattice(16.0 * len(crystal))


def salts(n: int) -> list[Structure]:
    """Distorted rock salts, all different; every sixth is a cell of eight atoms."""
    found = []
    for k in range(n):
        metal, halogen, a = SALTS[k % len(SALTS)]
        crystal = rock_salt(metal, halogen, a, seed=k)
        found.append(crystal * (2, 2, 1) if k % 6 == 5 else crystal)
    return found
