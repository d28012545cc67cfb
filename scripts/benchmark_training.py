"""CPU time of a training step: the network as it is trained here, matgl's own forward pass on the same weights, hints.

    python scripts/benchmark_training.py --crystals 64

Crystals are observed ones of the Materials Project (IONSIEVE_DATA); labels do not matter for the time, and are zero.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matgl.utils.training import PotentialLightningModule

from pipeline.surrogates.batch import CrystalBatch
from pipeline.surrogates.entries import MATGL_ELEMENTS
from pipeline.training.fitting_settings import NetworkSettings
from pipeline.training.graphs import CrystalGraphs, loader
from pipeline.training.hints import Hints
from pipeline.training.labelled import LabelledCrystals
from pipeline.training.lightning_module import HintedModule
from pipeline.training.network import ArrangedM3GNet, fresh_network

SOURCE = "data/materials_project/structures_observed.parquet"


def crystals(count: int, most_sites: int, seed: int) -> LabelledCrystals:
    """Observed crystals at random."""
    from pymatgen.core import Element, Lattice

    table = pd.read_parquet(Path(os.environ["IONSIEVE_DATA"]) / SOURCE)
    known = set(MATGL_ELEMENTS)
    table = table[(table.n_sites <= most_sites) & np.array([known.issuperset(s) for s in table.species])]
    rows = table.sample(count, random_state=seed)
    cells = np.array([Lattice.from_parameters(*p).matrix for p in rows.cell_parameters])
    fractional = [np.asarray(f).reshape(-1, 3) for f in rows.frac_coords]
    counts = np.array([len(s) for s in rows.species])
    batch = CrystalBatch(
        np.concatenate([f @ cell for f, cell in zip(fractional, cells, strict=True)]),
        cells,
        np.concatenate([[Element(symbol).Z for symbol in s] for s in rows.species]),
        counts,
    )
    words = ("",) * count
    return LabelledCrystals(
        tuple(rows.material_id), batch, np.zeros(count), np.zeros((int(counts.sum()), 3)), np.zeros((count, 3, 3)),
        words, words, words, "mp_raw",
    )  # fmt: skip


def seconds_per_step(module: Any, loss: Callable[[Any], Any], batches: list[tuple[object, ...]]) -> float:
    """CPU time of forward, backward (with second derivatives where forces are fitted), and the optimiser."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    for warm in (True, False):
        begun = time.process_time()
        for batch in batches[:1] if warm else batches:
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
    return (time.process_time() - begun) / len(batches)


def label_step(model: torch.nn.Module, batches: list[tuple[object, ...]]) -> float:
    """Seconds of a step that fits energies, forces and stresses."""
    module = PotentialLightningModule(model=model, element_refs=np.zeros(len(MATGL_ELEMENTS)), stress_weight=0.1)
    return seconds_per_step(module, lambda batch: module.step(batch)[0]["Total_Loss"], batches)


def hint_step(network: torch.nn.Module, teacher: torch.nn.Module, batches: list[tuple[object, ...]]) -> float:
    """Seconds of a step that fits features of a teacher, whose own forward pass is in it."""
    model = ArrangedM3GNet(network, Hints(teacher))
    module = HintedModule(1, 0.0, model=model, element_refs=np.zeros(len(MATGL_ELEMENTS)), stress_weight=0.1)
    return seconds_per_step(module, lambda batch: module.training_step(batch, 0), batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystals", type=int, default=64)
    parser.add_argument("--most-sites", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    labels = crystals(options.crystals, options.most_sites, 0)
    CrystalGraphs(labels.select(np.arange(1)), MATGL_ELEMENTS, 5.0, with_stress=True)  # compiles
    begun = time.process_time()
    graphs = CrystalGraphs(labels, MATGL_ELEMENTS, 5.0, with_stress=True)
    making = time.process_time() - begun
    batches = list(loader(graphs, options.batch_size))
    edges = sum(batch[0].edge_index.shape[1] for batch in batches) / len(labels)
    print(f"{len(labels)} crystals of {labels.crystals.counts.mean():.1f} atoms and {edges:.0f} bonds on average")
    print(f"graphs: {1e3 * making / len(labels):.2f} ms a crystal, once")
    for name, cutoff in (("with three-body term", 4.0), ("without", None)):
        network, teacher = (fresh_network(NetworkSettings(three_body_cutoff=cutoff), MATGL_ELEMENTS, i) for i in (0, 1))
        ours = label_step(ArrangedM3GNet(network), batches)
        theirs = label_step(network, batches)
        hinted = hint_step(network, teacher, batches)
        count = sum(p.numel() for p in network.parameters())
        print(
            f"{name}, {count} parameters: {ours:.3f} s of CPU a step, matgl's own forward pass {theirs:.3f} s, "
            f"a step that fits hints {hinted:.3f} s"
        )


if __name__ == "__main__":
    main()
