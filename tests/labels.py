"""Labelled crystals for tests: alloys of copper, silver and gold in four prototypes, labelled by ASE's EMT."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from pipeline.problems import ConfigError
from pipeline.training.read_parquet import write_parquet
from pipeline.training.reading import read_training_data
from pipeline.training.settings import DataSettings
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

_CUBIC = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
PROTOTYPES = {
    "fcc": (_CUBIC, "AAAA"),
    "L1_2": (_CUBIC, "ABBB"),
    "L1_0": (_CUBIC, "AABB"),
    "B2": (np.array([[0.0] * 3, [0.5] * 3]), "AB"),
    "bcc": (np.array([[0.0] * 3, [0.5] * 3]), "AA"),
}
PAIRS = [("Cu", "Ag"), ("Ag", "Au"), ("Au", "Cu")]
HALVES = {"train": 0.5, "validation": 0.25, "test": 0.25}
# With this seed the five prototypes reach all three splits.
SEED = 3
SIZES = {"Cu": 3.61, "Ag": 4.09, "Au": 4.08}


def alloys(n: int, seed: int = 0, distortion: float = 1.0) -> list[Atoms]:
    """Distorted (or ideal: 0) alloys with EMT's energy, forces and stress, the prototype in ``info``."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(n):
        name = list(PROTOTYPES)[k % len(PROTOTYPES)]
        sites, pattern = PROTOTYPES[name]
        a, b = PAIRS[(k // len(PROTOTYPES)) % len(PAIRS)]
        symbols = [a if letter == "A" else b for letter in pattern]
        size = np.mean([SIZES[s] for s in symbols]) * (len(sites) / 4.0) ** (1.0 / 3.0)
        cell = size * (np.eye(3) + distortion * rng.normal(0.0, 0.02, (3, 3)))
        places = sites + distortion * rng.normal(0.0, 0.01, sites.shape)
        atoms = Atoms(symbols, scaled_positions=places, cell=cell, pbc=True)
        atoms.info = {"group": name, "structure_id": f"alloy-{k}", "label_scheme": "other", "source": "EMT"}
        atoms.calc = EMT()
        atoms.get_potential_energy()
        atoms.get_stress()
        found.append(atoms)
    return found


def table(crystals: list[Atoms]) -> pd.DataFrame:
    """Their rows in the columns of a file of labels."""
    return pd.DataFrame(
        {
            **atoms.info,
            "lattice": atoms.cell.array.reshape(-1),
            "atomic_numbers": atoms.numbers,
            "frac_coords": atoms.cell.scaled_positions(atoms.positions).reshape(-1),
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces().reshape(-1),
            "stress": atoms.get_stress(voigt=False).reshape(-1) * GPA_PER_EV_PER_ANGSTROM3,
        }
        for atoms in crystals
    )


def write_alloys(path: Path, n: int = 40) -> Path:
    """A Parquet file of labelled alloys."""
    write_parquet(path, table(alloys(n)), {"teacher": "EMT"})
    return path


def label_settings(*files: Path, **changes) -> DataSettings:
    """Settings of files of alloys, whose five prototypes reach all three splits."""
    given = {"label_scheme": "other", "shares": HALVES, "seed": SEED, "min_structures_per_element": 2, **changes}
    return DataSettings(files=[str(f) for f in files], **given)


def label_problems(chosen: DataSettings) -> str:
    """What is wrong with labels that can't be read."""
    with pytest.raises(ConfigError) as caught:
        read_training_data(chosen)
    return str(caught.value)


def parquet(path: Path, frame: pd.DataFrame) -> Path:
    """A Parquet file of labels."""
    write_parquet(path, frame, {})
    return path
