"""What M3GNet sees of a crystal's geometry, and the way back from its gradients to edge vectors."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from pipeline.surrogates.m3gnet import M3GNetNetwork

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass
class EdgeGeometry:
    """Radial basis of all edges; unit vectors, basis and envelope of the bonds within the three-body cutoff.

    Attributes
    ----------
    vectors : (E, 3) float64
        Å.
    distances : (E,) float64
        Å.
    radial : (E, R) float32
        Radial basis of the edges.
    close : (C,) int64
        Edges within the three-body cutoff.
    unit : (C, 3) float32
        Their unit vectors.
    envelope : (C,) float32
        Polynomial envelope of Gasteiger et al., arXiv:2003.03123, with exponent 3.
    basis : (C, 3 n) float32
        Their three-body radial functions times the envelope.
    unit_gradient, envelope_gradient, basis_gradient, radial_gradient
        Of the energy, summed up on the way back; shapes of their namesakes.
    """

    vectors: FloatArray
    distances: FloatArray
    radial: Float32Array
    close: IntArray
    unit: Float32Array
    envelope: Float32Array
    basis: Float32Array
    _shared: bool
    _cutoff: float
    _functions: Float32Array
    _leaf: Tensor
    _radial_graph: Tensor
    _basis_graph: Tensor | None
    radial_gradient: Float32Array = field(init=False)
    unit_gradient: Float32Array = field(init=False)
    envelope_gradient: Float32Array = field(init=False)
    basis_gradient: Float32Array = field(init=False)

    def __post_init__(self) -> None:
        self.radial_gradient = np.zeros_like(self.radial)
        self.unit_gradient = np.zeros_like(self.unit)
        self.envelope_gradient = np.zeros_like(self.envelope)
        self.basis_gradient = np.zeros_like(self.basis)

    def gradient(self) -> FloatArray:
        """(E, 3) gradient by edge vectors, from the gradients that were summed up."""
        functions_gradient = self.basis_gradient * self.envelope[:, None]
        envelope_gradient = self.envelope_gradient + (self.basis_gradient * self._functions).sum(axis=1)
        graphs, gradients = [self._radial_graph], [self.radial_gradient]
        if self._shared:
            self.radial_gradient[self.close] += functions_gradient
        elif self._basis_graph is not None:
            graphs.append(self._basis_graph)
            gradients.append(functions_gradient)
        (by_distance,) = torch.autograd.grad(graphs, self._leaf, [torch.from_numpy(g) for g in gradients])
        stretch = by_distance.numpy().astype(np.float64)
        close_distances = self.distances[self.close]
        ratio = close_distances / self._cutoff if len(self.close) else close_distances
        slope = -30.0 * (ratio * (1.0 - ratio)) ** 2 / max(self._cutoff, 1e-300)
        stretch[self.close] += envelope_gradient * slope
        unit = self.vectors / self.distances[:, None]
        gradient: FloatArray = stretch[:, None] * unit
        close_unit, turn = unit[self.close], self.unit_gradient.astype(np.float64)
        along = np.einsum("ca,ca->c", turn, close_unit)
        gradient[self.close] += (turn - along[:, None] * close_unit) / close_distances[:, None]
        return gradient


def edge_geometry(network: "M3GNetNetwork", vectors: FloatArray) -> EdgeGeometry:
    """Geometry of (E, 3) edge vectors in Å, distances made in float64."""
    distances = np.sqrt(np.einsum("ea,ea->e", vectors, vectors))
    cutoff = network.threebody_cutoff
    close = np.flatnonzero(distances <= cutoff)
    leaf = torch.from_numpy(distances.astype(np.float32)).requires_grad_(True)
    radial_graph = network.network.bond_expansion(leaf)
    radial = radial_graph.detach().contiguous().numpy()
    basis_graph = None
    if network.shares_radial:
        functions = radial[close]
    else:
        basis_graph = network.network.basis_expansion.sbf(leaf[torch.from_numpy(close)]) if len(close) else None
        functions = (
            np.zeros((0, 3 * network.max_n), np.float32)
            if basis_graph is None
            else basis_graph.detach().contiguous().numpy()
        )
    ratio = distances[close] / max(cutoff, 1e-300)
    envelope = (1.0 - ratio**3 * (10.0 + ratio * (6.0 * ratio - 15.0))).astype(np.float32)
    return EdgeGeometry(
        vectors=vectors,
        distances=distances,
        radial=radial,
        close=close,
        unit=(vectors[close] / distances[close, None]).astype(np.float32),
        envelope=envelope,
        basis=functions * envelope[:, None],
        _shared=network.shares_radial,
        _cutoff=cutoff,
        _functions=functions,
        _leaf=leaf,
        _radial_graph=radial_graph,
        _basis_graph=basis_graph,
    )
