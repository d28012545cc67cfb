"""A small training on the alloys of tests.labels."""

from pathlib import Path

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
