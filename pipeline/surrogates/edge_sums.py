"""Forces and virials on a torch device, from the gradient of an energy by edge vectors.

On a CPU without torch the same is :func:`kernels.edge_forces.edge_forces`.
"""

import torch
from torch import Tensor


def sum_over_edges(
    source: Tensor, destination: Tensor, owners: Tensor, vectors: Tensor, gradient: Tensor, n_crystals: int
) -> tuple[Tensor, Tensor]:
    """Sum an energy's gradient by edge vectors into forces and virials, in float64.

    Parameters
    ----------
    source, destination : (E,) int64
        Atoms of each edge; its vector is r_destination - r_source.
    owners : (N,) int64
        Crystal of each atom.
    vectors, gradient : (E, 3)
        Å and eV/Å.
    n_crystals : int
        B.

    Returns
    -------
    forces : (N, 3) float64
        eV/Å.
    virial : (B, 3, 3) float64
        Gradient by strain, symmetrised, eV.
    """
    pull = gradient.to(torch.float64)
    forces = pull.new_zeros(len(owners), 3)
    forces.index_add_(0, source, pull)
    forces.index_add_(0, destination, -pull)
    virial = pull.new_zeros(n_crystals, 9)
    outer = vectors.to(torch.float64)[:, :, None] * pull[:, None, :]
    virial.index_add_(0, owners.index_select(0, source), outer.view(-1, 9))
    virial = virial.view(-1, 3, 3)
    return forces, 0.5 * (virial + virial.transpose(1, 2))
