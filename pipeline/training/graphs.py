"""Graphs of labelled crystals, made once by our neighbour list, as matgl's collation and potential take them.

matgl's own data set asks pymatgen for the neighbours of one crystal after the other and writes pickles; its batches
are what is kept here: ``torch_geometric`` graphs with fractional coordinates and images, and labels in eV, eV/Å, GPa.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from kernels.neighbors import neighbor_list
from pipeline.surrogates.batch import IntArray
from pipeline.surrogates.m3gnet import embedding_rows
from pipeline.training.labelled import LabelledCrystals

# Crystals whose neighbours are looked for together: bounds the memory of the search.
_CHUNK = 512


class CrystalGraphs(Dataset):  # type: ignore[type-arg]
    """Graphs with labels: items as ``matgl.graph.data.collate_fn_pes`` takes them.

    Parameters
    ----------
    labels : LabelledCrystals
        B crystals of known elements.
    elements : tuple of str
        In the order of the network's embedding.
    cutoff : float
        Å.
    with_stress : bool
        Whether stresses are among the labels.
    """

    def __init__(self, labels: LabelledCrystals, elements: tuple[str, ...], cutoff: float, with_stress: bool) -> None:
        self._items: list[tuple[Any, ...]] = []
        rows = embedding_rows(elements)
        for first in range(0, len(labels), _CHUNK):
            chosen = labels.select(np.arange(first, min(first + _CHUNK, len(labels))))
            self._items += _graphs(chosen, rows, cutoff, with_stress)
        self.counts = labels.crystals.counts
        self.rms_forces = labels.rms_forces

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self._items[index]


def _graphs(labels: LabelledCrystals, rows: np.ndarray, cutoff: float, with_stress: bool) -> list[tuple[Any, ...]]:
    from torch_geometric.data import Data

    batch = labels.crystals
    source, destination, _, images, edges, _ = neighbor_list(batch.positions, batch.cells, batch.counts, cutoff)
    ends = np.cumsum(edges)
    items = []
    for b, (atom, count) in enumerate(zip(batch.offsets, batch.counts, strict=True)):
        mine = slice(ends[b] - edges[b], ends[b])
        positions = batch.positions[atom : atom + count]
        graph = Data(
            num_nodes=int(count), edge_index=torch.from_numpy(np.stack([source[mine], destination[mine]]) - atom)
        )
        graph.pbc_offset = torch.from_numpy(images[mine].astype(np.float32))
        graph.node_type = torch.from_numpy(rows[batch.numbers[atom : atom + count]])
        graph.frac_coords = _tensor(positions @ np.linalg.inv(batch.cells[b]))
        targets = {"energies": float(labels.energies[b]), "forces": _tensor(labels.forces[atom : atom + count])}
        if with_stress:
            assert labels.stresses is not None  # read_training_data and the settings see to it
            targets["stresses"] = _tensor(labels.stresses[b])
        items.append((graph, _tensor(batch.cells[b]), torch.zeros(2), targets))
    return items


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


class EpochOrder(Sampler[int]):
    """Order of the crystals in an epoch, from seed and epoch alone: a resumed training sees what it would have seen.

    Parameters
    ----------
    count : int
        Crystals, all of which are in each epoch.
    seed : int
        Of the order.
    near : (n,) int64, optional
        Places of the crystals that some epochs hold alone: each of these epochs is as long, so that some, or all, come
        more than once.
    is_near : callable, optional
        Whether an epoch, counted from 0, is such a one.
    """

    def __init__(
        self, count: int, seed: int, near: IntArray | None = None, is_near: Callable[[int], bool] = lambda epoch: True
    ) -> None:
        self.count, self.seed, self.epoch = count, seed, 0
        self.near, self.is_near = near, is_near

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        if self.near is None or not self.is_near(self.epoch):
            return iter(generator.permutation(self.count).tolist())
        rounds = [generator.permutation(self.near) for _ in range(-(-self.count // len(self.near)))]
        return iter(np.concatenate(rounds)[: self.count].tolist())


def loader(graphs: CrystalGraphs, batch_size: int, order: EpochOrder | None = None) -> DataLoader[Any]:
    """Batches of graphs; shuffled anew in each epoch where an order is given."""
    from functools import partial

    from matgl.graph.data import collate_fn_pes

    with_stress = "stresses" in graphs[0][-1]
    return DataLoader(
        graphs, batch_size, sampler=order, collate_fn=partial(collate_fn_pes, include_stress=with_stress), num_workers=0
    )
