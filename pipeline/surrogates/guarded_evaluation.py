"""Evaluation in which a crystal fails alone: failing batches are bisected, those too large for memory are halved."""

from itertools import pairwise

import numpy as np
import torch

from pipeline.broken_device import is_broken_device
from pipeline.surrogates.batch import (
    MAX_EDGES,
    BatchEvaluator,
    BatchResult,
    CrystalBatch,
    FloatArray,
    estimated_edges,
    graph_too_large,
)
from pipeline.surrogates.batch_budget import BatchBudget

# torch's CPU allocator, CUDA's runtime and cuBLAS say it in a RuntimeError.
_MEMORY_MESSAGES = ("can't allocate memory", "DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an exception means that memory did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MEMORY_MESSAGES)


class GuardedEvaluator:
    """A model around which no crystal can take others with it.

    - An exception of the model: the batch is bisected until the guilty crystals stand alone; each has its error, all
      others their results.
    - Out of memory: caches are freed, the batch is halved, and ``edges_per_batch`` lowered for those to come.
    - A crystal of more than ``max_edges`` is not given to the model at all, also when it became so dense on the way.

    Parameters
    ----------
    model : BatchEvaluator
        The model; its ``edges_per_batch`` is raised and lowered here.
    max_edges : int
        Directed neighbour pairs that a single crystal may have, as estimated from its density.
    budget : BatchBudget, optional
        How ``edges_per_batch`` follows memory; by default it is lowered when memory runs out and never raised.

    Raises
    ------
    ValueError
        A limit below one.
    """

    def __init__(self, model: BatchEvaluator, max_edges: int = MAX_EDGES, budget: BatchBudget | None = None) -> None:
        for name, value in (("max_edges", max_edges), ("edges_per_batch", model.edges_per_batch)):
            if value < 1:
                raise ValueError(f"{name} must be a number of neighbour pairs, 1 or more, got {value}")
        self.model = model
        self.max_edges = max_edges
        self.budget = budget if budget is not None else BatchBudget()
        self.cutoff = model.cutoff
        self.elements = model.elements

    @property
    def edges_per_batch(self) -> int:
        """Neighbour pairs that a batch should have at most."""
        return self.model.edges_per_batch

    @edges_per_batch.setter
    def edges_per_batch(self, edges: int) -> None:
        self.model.edges_per_batch = edges

    def evaluate_batch(self, batch: CrystalBatch) -> BatchResult:
        """Energies, forces and stresses; a crystal that fails has its error and NaN.

        KeyboardInterrupt and SystemExit are not caught.
        """
        if not len(batch.counts):
            return BatchResult.failed(batch.counts, "")
        # A cell of zero volume or of NaN is for the model to refuse.
        with np.errstate(divide="ignore", invalid="ignore"):
            edges = estimated_edges(batch.counts, batch.volumes, self.cutoff)
        waiting = self._ranges(edges)[::-1]
        results = []
        while waiting:
            first, last = waiting.pop()
            result = None if self._too_much(edges[first:last]) else self._attempt(batch, edges, first, last)
            if result is None:
                middle = _middle(edges[first:last]) + first
                waiting += [(middle, last), (first, middle)]
            else:
                results.append(result)
        return results[0] if len(results) == 1 else BatchResult.joined(results)

    def _ranges(self, edges: FloatArray) -> list[tuple[int, int]]:
        """Ranges of crystals between those that are too large, and each of these alone."""
        large = np.flatnonzero(edges > self.max_edges)
        return list(pairwise(sorted({0, len(edges), *large.tolist(), *(large + 1).tolist()})))

    def _too_much(self, edges: FloatArray) -> bool:
        """Whether crystals are not even tried together, because as much ran out of memory before."""
        return self.budget.overflowed and len(edges) > 1 and float(edges.sum()) > self.edges_per_batch

    def _attempt(self, batch: CrystalBatch, edges: FloatArray, first: int, last: int) -> BatchResult | None:
        """Evaluate a range of crystals; None if it has to be cut."""
        whole = first == 0 and last == len(batch.counts)
        part = batch if whole else batch.part(first, last)
        expected = float(edges[first:last].sum())
        count, alone = int(part.counts.sum()), last - first == 1
        if alone and expected > self.max_edges:
            error = graph_too_large(count, float(part.volumes[0]), expected, self.cutoff, self.max_edges)
            return BatchResult.failed(part.counts, error)
        self.budget.before()
        try:
            result = self.model.evaluate_batch(part)
        except Exception as error:  # whatever a model raises must not take the other crystals along
            if is_broken_device(error):
                raise
            no_memory = ran_out_of_memory(error)
            message = f"{type(error).__name__}: {error}"
        else:
            self.edges_per_batch = self.budget.after_success(self.edges_per_batch, float(result.edges.sum()))
            return result
        # Only here is the traceback gone, and with it the tensors of the batch that failed.
        if no_memory:
            self.edges_per_batch = self.budget.after_overflow(self.edges_per_batch, expected)
            message = (
                f"OutOfMemory: {count} atoms with about {expected:.3g} neighbour pairs do not fit into memory, even "
                f"alone ({message}); evaluate them on a device, or in a worker, with more memory"
            )
        return BatchResult.failed(part.counts, message) if alone else None


def _middle(edges: FloatArray) -> int:
    """Where to cut a range of two or more crystals so that both parts have about half of the edges."""
    running = np.cumsum(np.nan_to_num(edges, posinf=0.0))
    return int(np.clip(np.searchsorted(running, 0.5 * running[-1]), 1, len(edges) - 1))
