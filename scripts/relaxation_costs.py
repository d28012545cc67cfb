"""What an evaluation costs, for ``benchmark_relaxation.py``: operations counted from the weights, and what is measured.

All of it runs in a worker process of one thread. On a CPU times are of the processor, so that other work on the
machine counts little; it still takes its part of the caches. On CUDA they are on the clock.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from pymatgen.core import Structure
from relaxation_memory import peak_memory
from relaxation_peer import Job, loaded_network, our_potential, relax_ours

LEAST_SECONDS = 0.5
BASIS_OPERATIONS = 4
"""Multiply-adds a basis function and pair: a recurrence, its derivative's share, and the cutoff."""


@dataclass(frozen=True)
class Operations:
    """Multiply-adds of energy, forces and stress, by what they are done for.

    A product of a matrix with its inputs is done once forward, and once more for the gradient with respect to the
    inputs; weights get no gradient. Functions of single numbers are not multiply-adds: ``activations`` a pair counts
    those of the forward pass.
    """

    pair: float
    close_pair: float
    triplet: float
    atom: float
    activations: int

    def of(self, atoms: int, pairs: int, close_pairs: int, triplets: int) -> float:
        """Of a batch."""
        return self.pair * pairs + self.close_pair * close_pairs + self.triplet * triplets + self.atom * atoms


def count_operations(model: str) -> dict[str, Operations]:
    """From the shapes of the weights: as ionsieve arranges the network, and as it was published.

    ionsieve: the first layer of a gated network on (v_i, v_j, e_ij) is done on atoms for v_i and v_j, and three-body
    sums go over moments of each atom's close bonds. Published (Chen and Ong, Nat. Comput. Sci. 2022, 2, 718): the
    whole layer on pairs, and a list of triplets. ionsieve omits the three-body terms of checkpoints that were trained
    with misplaced ones (:class:`pipeline.surrogates.entries.CatalogueEntry`); matgl does not.
    """
    loaded = loaded_network(model)
    network = loaded.network
    width, n = int(network.embedding.dim_node_embedding), int(network.max_n)
    three_body = loaded.three_body == "included"
    pair = published = float(_products(network.embedding.layer_edge_embedding))
    close = triplet = atom = 0.0
    activations = 0
    radial = 0
    for block, three in zip(network.graph_layers, network.three_body_interactions, strict=True):
        conv = block.conv
        for gated in (conv.edge_update_func, conv.node_update_func):
            on_atoms = sum(first.weight[:, : 2 * width].numel() for first in (gated.layers[0], gated.gates[0]))
            atom += on_atoms
            pair += _products(gated) - on_atoms
            published += _products(gated)
            activations += sum(layer.out_features for layer in _linear(gated))
        weights = _products(conv.edge_weight_func) + _products(conv.node_weight_func)
        radial = int(conv.edge_weight_func.in_features)
        pair, published = pair + weights, published + weights
        bond = _products(three.update_network_bond)
        # basis, atom's gate, both cutoffs and the sum
        published, triplet = published + bond, triplet + 12 * n
        if three_body:
            atom += _products(three.update_network_atom)
            # per basis function: sent 3, moments' products 9 and sums 10, contraction 9
            close += bond + 31 * n
    pair, published = pair + BASIS_OPERATIONS * radial, published + BASIS_OPERATIONS * radial
    readout = _products(network.final_layer)
    gates = sum(_products(three.update_network_atom) for three in network.three_body_interactions)
    return {
        "ionsieve": Operations(2 * pair, 2 * close, 0.0, 2 * (atom + readout), activations),
        "published": Operations(2 * published, 0.0, 2 * triplet, 2.0 * (gates + readout), activations),
    }


def _linear(module: Any) -> list[Any]:
    from torch import nn

    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def _products(module: Any) -> int:
    return sum(layer.weight.numel() for layer in _linear(module))


def matrix_rates(device: str = "cpu") -> dict[str, float]:
    """Multiply-adds a second in float32 of one core, or of a CUDA device: large products and the network's shapes."""
    import torch

    rates = {}
    if device != "cpu":
        for rows, inner, columns in ((8192, 8192, 8192), (1_000_000, 64, 128), (1_000_000, 64, 64)):
            a, b = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device)
            seconds = min(_repeated(lambda a=a, b=b: (torch.mm(a, b), torch.cuda.synchronize()), time.perf_counter)[0])
            rates[f"torch.mm {rows}x{inner} {inner}x{columns}"] = rows * inner * columns / seconds
        return rates
    for rows, inner, columns in ((1024, 1024, 1024), (4096, 64, 128), (1024, 64, 128), (4096, 64, 64), (1024, 64, 64)):
        a, b = torch.randn(rows, inner), torch.randn(inner, columns)
        out = torch.empty(rows, columns)
        numpy_a, numpy_b, numpy_out = a.numpy(), b.numpy(), out.numpy()
        products: dict[str, Callable[[], Any]] = {
            "torch.mm": lambda a=a, b=b, out=out: torch.mm(a, b, out=out),
            "np.dot": lambda a=numpy_a, b=numpy_b, out=numpy_out: np.dot(a, b, out=out),
        }
        for name, product in products.items():
            seconds = min(_repeated(product)[0])
            rates[f"{name} {rows}x{inner} {inner}x{columns}"] = rows * inner * columns / seconds
    return rates


def _repeated(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> tuple[list[float], int]:
    """Seconds of each run after the first two, and page faults a run."""
    work(), work()
    seconds: list[float] = []
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    while len(seconds) < 3 or sum(seconds) < LEAST_SECONDS:
        started = clock()
        work()
        seconds.append(clock() - started)
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) // len(seconds)


@dataclass(frozen=True)
class Point:
    """One evaluation of a batch: its size, seconds (fastest, median), page faults, and memory beside what stood before.

    Beside the fastest product only the fastest evaluation tells something: others share the processor.
    """

    crystals: int
    atoms: int
    pairs: int
    close_pairs: int
    triplets: int
    seconds: float
    median: float
    faults: int
    added_memory: int


def evaluation_curve(
    model: str, structures: Sequence[Structure], sizes: Sequence[int], device: str = "cpu"
) -> list[Point]:
    """Time evaluations of batches of growing size, made of the structures in turn."""
    from pipeline.surrogates.batch import batch_from_structures

    evaluator = our_potential(model, device).evaluator
    clock = time.process_time if device == "cpu" else time.perf_counter
    cutoff = float(loaded_network(model).network.threebody_cutoff)
    bonds = [_bonds(structure, cutoff) for structure in structures]
    standing, points = peak_memory(), []
    for size in sizes:
        chosen = [k % len(structures) for k in range(size)]
        batch = batch_from_structures([structures[k] for k in chosen])
        pairs = int(evaluator.evaluate_batch(batch).edges.sum())
        seconds, faults = _repeated(lambda batch=batch: evaluator.evaluate_batch(batch), clock)
        close, triplets = (sum(bonds[k][part] for k in chosen) for part in (0, 1))
        median, added = float(np.median(seconds)), peak_memory() - standing
        points.append(Point(size, len(batch.numbers), pairs, close, triplets, min(seconds), median, faults, added))
    return points


def _bonds(structure: Structure, cutoff: float) -> tuple[int, int]:
    """Bonds within the three-body cutoff, and ordered pairs of two of one atom."""
    own = np.bincount(structure.get_neighbor_list(cutoff)[0], minlength=len(structure))
    return int(own.sum()), int((own * (own - 1)).sum())


# Where time goes


def profile(job: Job, structures: Sequence[Structure], chunk: int) -> tuple[float, Counter[str], Counter[str]]:
    """Seconds of a relaxation, by part, and by function of this project; each sample counts its time since the last."""
    relax_ours(job, structures[:chunk])  # compiled and loaded
    parts: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    started = time.perf_counter()
    with _sampled(parts, functions):
        for first in range(0, len(structures), chunk):
            relax_ours(job, structures[first : first + chunk])
    return time.perf_counter() - started, parts, functions


@contextmanager
def _sampled(parts: Counter[str], functions: Counter[str], interval: float = 0.001) -> Iterator[None]:
    """Look where the calling thread is, every millisecond that it lets others look."""
    watched, done = threading.get_ident(), threading.Event()

    def watch() -> None:
        last = time.perf_counter()
        while not done.wait(interval):
            frame = sys._current_frames().get(watched)
            now = time.perf_counter()
            part, function = _place(frame)
            parts[part] += now - last  # type: ignore[assignment]
            functions[function] += now - last  # type: ignore[assignment]
            last = now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _place(frame: FrameType | None) -> tuple[str, str]:
    """Part of the relaxation, and the innermost function of this project."""
    stack: list[tuple[str, str, str]] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        stack.append((path.parent.name, path.stem, frame.f_code.co_name))
        frame = frame.f_back
    own = next((f"{module}.{name}" for home, module, name in stack if home in ("kernels", "surrogates")), "elsewhere")
    if any(home == "kernels" and module.startswith("neighbor") for home, module, _ in stack):
        return "neighbour lists", own
    if any(name == "evaluate_batch" for *_, name in stack):
        return "network and its derivatives", own
    if any(module in ("quasi_newton", "spring_hessian", "fire", "active") for _, module, _ in stack):
        return "optimiser", own
    return "bookkeeping", own
