"""Hints: the features of a student are drawn to those of its teacher, atom by atom and bond by bond.

A label says what the energy of a crystal is, not how to come by it. A teacher's features after each block do
(hint-based training: Romero et al., ICLR 2015; features of atoms and edges of potentials: Ekström Kelvinius et al.,
NeurIPS 2023), and there are some thousand of them for each atom. They cost no derivative by positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.surrogates.m3gnet_network import M3GNetNetwork

# A root has no slope at zero, where a student is that begins as its teacher.
_LEAST = 1e-12


class Edges(NamedTuple):
    """Bonds of a batch, as :meth:`pipeline.surrogates.m3gnet_network.M3GNetNetwork.layers` takes them."""

    source: Tensor
    destination: Tensor
    vectors: Tensor
    n_close: int


class Hints:
    """What a teacher says of a batch's atoms and bonds; it is no part of the module that is trained.

    Parameters
    ----------
    teacher : torch.nn.Module
        matgl's M3GNet of the student's elements, sizes and cutoffs, in matgl 4's convention.
    """

    def __init__(self, teacher: Any) -> None:
        self._teacher = M3GNetNetwork(teacher.requires_grad_(False).eval(), "source")

    def distance(self, types: Tensor, edges: Edges, layers: Sequence[tuple[Tensor, Tensor]], atomic: Tensor) -> Tensor:
        """How far a student's features are from the teacher's: root mean squares as shares of the teacher's own.

        Parameters
        ----------
        types : (N,) int64
            Embedding rows.
        edges : Edges
            E bonds.
        layers : sequence of ((N, atom features), (E, edge features))
            The student's, as embedded and after each block.
        atomic : (N,)
            The student's outputs.

        Returns
        -------
        () float32
            The sum over all layers, atoms' and bonds', and over the outputs.
        """
        with torch.no_grad():
            self._teacher.to(types.device).prepare()
            theirs = list(self._teacher.layers(types, edges.source, edges.destination, edges.vectors, edges.n_close))
            outputs = self._teacher.energies_of(theirs[-1][0])
        apart = [
            _apart(own, hint) for pair in zip(layers, theirs, strict=True) for own, hint in zip(*pair, strict=True)
        ]
        return torch.stack([*apart, _apart(atomic, outputs)]).sum()


def _apart(own: Tensor, hint: Tensor) -> Tensor:
    """Root mean square of the deviation over that of the hint."""
    return torch.sqrt((own - hint).square().mean() / hint.square().mean() + _LEAST)
