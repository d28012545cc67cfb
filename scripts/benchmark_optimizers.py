"""Optimisers of a training side by side: errors after as many steps, from the same weights on the same frames.

    python scripts/benchmark_optimizers.py configs/train_halides_surrogate.yaml
        --labels models/ionsieve-M3GNet-halides/labels

Each is given some learning rates for hints and for labels, written ``optimizer:hints:labels``, and trains as ``ionsieve
train`` does, for a few epochs on a part of the labels (which that command has made). Errors are those on the validation
split.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.training.progress import Epoch, Watcher
from pipeline.training.session import train
from pipeline.training.settings import LABELS, Training, load_training
from pipeline.training.splits import SPLITS

ERRORS = ("validation_energy_mae", "validation_force_mae", "validation_stress_mae")


def write_part(labels: Path, folder: Path, frames: int, seed: int) -> None:
    """So many random frames of the training split, a tenth as many of the others."""
    folder.mkdir(parents=True)
    for split in SPLITS:
        table = pq.read_table(labels / f"{split}.parquet")
        frame = table.to_pandas()
        count = min(frames if split == "train" else frames // 10, len(frame))
        rows = frame.sample(count, random_state=seed).index.sort_values()
        pq.write_table(table.take(rows.to_numpy()), folder / f"{split}.parquet")


def shortened(settings: Training, folder: Path, spec: str, epochs: tuple[int, int]) -> Training:
    """The settings with another optimiser, its rates, and fewer epochs of hints and of labels."""
    optimizer, of_hints, of_labels = spec.split(":")
    given = settings.model_dump(mode="json")
    given |= {"output": str(folder), "data": {"label_scheme": settings.data.label_scheme}}
    given["fitting"] |= {"optimizer": optimizer, "learning_rate": float(of_labels)}
    given["fitting"] |= {"max_epochs": sum(epochs), "near_epochs": 0}
    given["hints"] |= {"learning_rate": float(of_hints), "epochs": epochs[0]}
    return Training.model_validate(given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a training with distil and hints")
    parser.add_argument("--labels", type=Path, required=True, help="folder of train, validation and test.parquet")
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--epochs", type=int, nargs=2, default=(1, 1), metavar=("HINTS", "LABELS"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--specs", nargs="+", default=["adamw:0.01:0.002", "soap:0.015:0.002"])
    options = parser.parse_args()
    settings = load_training(options.config)
    print("optimiser:rate of hints:of labels   epoch   meV/atom   meV/Å     GPa   seconds")
    for spec in options.specs:
        with tempfile.TemporaryDirectory() as folder:
            write_part(options.labels, Path(folder) / settings.name / LABELS, options.frames, options.seed)

            def say(row: Epoch, spec: str = spec) -> None:
                energy, force, stress = (row[name] for name in ERRORS)
                print(
                    f"{spec:35s} {row['epoch']:5.0f} {1e3 * energy:10.1f} {1e3 * force:8.1f} {stress:7.3f} "
                    f"{row['seconds']:9.0f}",
                    flush=True,
                )

            train(shortened(settings, Path(folder), spec, tuple(options.epochs)), Watcher(epoch=say), {})


if __name__ == "__main__":
    main()
