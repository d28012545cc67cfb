"""What M3GNet sees of a crystal's geometry, and the way back from its gradients to edge vectors."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.spherical_bessel import spherical_bessel_basis

if TYPE_CHECKING:
    from pipeline.surrogates.m3gnet_network import M3GNetNetwork

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class RadialBasis:
    """Radial functions of a network with their derivatives.

    Spherical Bessel functions come from a kernel; whatever else matgl has, from its module, differentiated forwards.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self._bessel = hasattr(function, "roots_slice") and function.max_l == 3
        if self._bessel:
            self._roots = function.roots_slice.detach().to(torch.float64).numpy()
            self._norms = function.inv_norm.detach().to(torch.float64).numpy()
            self._cutoff = float(function.cutoff)

    def __call__(self, distances: FloatArray) -> tuple[Float32Array, Float32Array]:
        """(n, functions) values and derivatives (1/Å) at (n,) distances in Å."""
        if self._bessel:
            shape = (len(distances), self._roots.size)
            values, slopes = np.empty(shape, np.float32), np.empty(shape, np.float32)
            spherical_bessel_basis(distances, self._roots, self._norms, self._cutoff, values, slopes)
            return values, slopes
        argument = torch.from_numpy(distances.astype(np.float32))
        both = torch.func.jvp(self._function, (argument,), (torch.ones_like(argument),))
        computed, derivatives = (tensor.detach().contiguous().numpy() for tensor in both)
        return computed, derivatives


@dataclass
class EdgeGeometry:
    """Radial basis of all edges; unit vectors, basis and envelope of the bonds within the three-body cutoff.

    Attributes
    ----------
    unit_vectors : (E, 3) float64
        Of all edges.
    distances : (E,) float64
        Å.
    radial, radial_slopes : (E, R) float32
        Radial basis of the edges and its derivative, 1/Å.
    close : (C,) int64
        Edges within the three-body cutoff.
    unit : (C, 3) float32
        Their unit vectors.
    envelope, envelope_slopes : (C,) float32
        Polynomial envelope of Gasteiger et al., arXiv:2003.03123, with exponent 3, and its derivative.
    functions, function_slopes : (C, 3 n) float32
        Their three-body radial functions and derivatives.
    unit_gradient, envelope_gradient, basis_gradient, radial_gradient
        Of the energy, summed up on the way back; shapes of their namesakes.
    """

    unit_vectors: FloatArray
    distances: FloatArray
    radial: Float32Array
    radial_slopes: Float32Array
    close: IntArray
    unit: Float32Array
    envelope: Float32Array
    envelope_slopes: Float32Array
    functions: Float32Array
    function_slopes: Float32Array
    basis: Float32Array = field(init=False)
    radial_gradient: Float32Array = field(init=False)
    unit_gradient: Float32Array = field(init=False)
    envelope_gradient: Float32Array = field(init=False)
    basis_gradient: Float32Array = field(init=False)

    def __post_init__(self) -> None:
        self.basis = self.functions * self.envelope[:, None]
        self.radial_gradient = np.zeros_like(self.radial)
        self.unit_gradient = np.zeros_like(self.unit)
        self.envelope_gradient = np.zeros_like(self.envelope)
        self.basis_gradient = np.zeros_like(self.basis)

    def gradient(self) -> FloatArray:
        """(E, 3) gradient by edge vectors, from the gradients that were summed up."""
        stretch = (self.radial_gradient * self.radial_slopes).sum(axis=1).astype(np.float64)
        gradient: FloatArray = stretch[:, None] * self.unit_vectors
        if len(self.close):
            by_envelope = self.envelope_gradient + (self.basis_gradient * self.functions).sum(axis=1)
            by_functions = (self.basis_gradient * self.envelope[:, None] * self.function_slopes).sum(axis=1)
            stretch_close = (by_envelope * self.envelope_slopes + by_functions).astype(np.float64)
            unit, turn = self.unit_vectors[self.close], self.unit_gradient.astype(np.float64)
            along = (turn * unit).sum(axis=1)
            sideways = (turn - along[:, None] * unit) / self.distances[self.close, None]
            gradient[self.close] += stretch_close[:, None] * unit + sideways
        return gradient


def edge_geometry(
    network: "M3GNetNetwork", radial_basis: RadialBasis, bond_basis: RadialBasis, vectors: FloatArray
) -> EdgeGeometry:
    """Geometry of (E, 3) edge vectors in Å; ``bond_basis`` has the three-body functions."""
    distances = np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2 + vectors[:, 2] ** 2)
    cutoff = network.threebody_cutoff
    close = np.flatnonzero(distances <= cutoff)
    radial, radial_slopes = radial_basis(distances)
    if network.shares_radial:
        functions, function_slopes = radial[close], radial_slopes[close]
    else:
        functions, function_slopes = bond_basis(distances[close])
    unit_vectors = vectors / distances[:, None]
    ratio = distances[close] / cutoff if len(close) else np.zeros(0)
    return EdgeGeometry(
        unit_vectors=unit_vectors,
        distances=distances,
        radial=radial,
        radial_slopes=radial_slopes,
        close=close,
        unit=unit_vectors[close].astype(np.float32),
        envelope=(1.0 - ratio * ratio * ratio * (10.0 + ratio * (6.0 * ratio - 15.0))).astype(np.float32),
        envelope_slopes=(-30.0 / max(cutoff, 1e-300) * (ratio * (1.0 - ratio)) ** 2).astype(np.float32),
        functions=functions,
        function_slopes=function_slopes,
    )
