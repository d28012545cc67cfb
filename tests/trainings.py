"""A small training on the alloys of tests.labels."""

import csv
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure

from pipeline.training.settings import Training

SIZES = {"units": 16, "node_width": 16, "edge_width": 16, "blocks": 2, "cutoff": 4.5, "three_body_cutoff": 3.5}


def alloy_training(folder: Path, labels: Path, **changes) -> Training:
    """Eight epochs of a tiny network, or of one gone on from; `changes` replace whole keys, `fitting` merges."""
    fitting = {"max_epochs": 8, "batch_size": 4, "learning_rate": 0.02, **changes.pop("fitting", {})}
    start = {} if "fine_tune" in changes else {"network": SIZES}
    return Training(
        **{
            "name": "alloys",
            "output": str(folder),
            "data": {
                "files": [str(labels)],
                "label_scheme": "other",
                "shares": {"train": 0.5, "validation": 0.25, "test": 0.25},
                "seed": 0,  # fcc validates, L1_2 tests
                "min_structures_per_element": 2,
            },
            **start,
            "loss": {"stress": 0.02},
            "fitting": fitting,
            "card": {"teacher": "EMT", "data_licence": "LGPL", "data_citation": "ASE's effective medium theory"},
            "device": "cpu",
            "threads": 1,
            **changes,
        }
    )


def curve(folder: Path) -> list[dict[str, float]]:
    """Rows of the learning curve in a folder, without the seconds."""
    with (folder / "learning_curve.csv").open(encoding="utf-8") as stream:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def crystals() -> list[Structure]:
    """Three alloys that were not among the labels."""
    rng = np.random.default_rng(5)
    return [
        Structure(Lattice(np.eye(3) * 4.0 + rng.normal(0.0, 0.1, (3, 3))), species, rng.normal(sites, 0.02))
        for species, sites in [
            (["Cu", "Ag"], [[0.0] * 3, [0.5] * 3]),
            (["Au"], [[0.0] * 3]),
            (["Cu", "Ag", "Au", "Au"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]),
        ]
    ]
