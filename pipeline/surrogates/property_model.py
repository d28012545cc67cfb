"""Models that give one number a structure: MEGNet and M3GNet formation energies, MEGNet band gaps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.neighbors import neighbor_list
from pipeline.surrogates.batch import batch_from_structures, estimated_edges, fill_by_edges, rejection
from pipeline.surrogates.entries import EnergyScheme
from pipeline.surrogates.loading import BadCheckpointError, LoadedModel
from pipeline.surrogates.m3gnet import embedding_rows
from pipeline.surrogates.m3gnet_network import M3GNetNetwork, close_first

if TYPE_CHECKING:
    from pymatgen.core import Structure

FIDELITIES: tuple[str, ...] = ("PBE", "GLLB-SC", "HSE", "SCAN")
_EDGES_PER_BATCH = 20_000


class PropertyModel:
    """A one-number model.

    Attributes
    ----------
    name, sha256, scheme, elements
        As for :class:`pipeline.surrogates.potential.Potential`.
    n_states : int
        Number of state labels (fidelities); 0 if the model has none.
    cutoff : float
        Å.
    """

    def __init__(
        self, name: str, sha256: str, scheme: EnergyScheme | None, model: LoadedModel, device: torch.device
    ) -> None:
        if model.element_energies is not None:
            raise BadCheckpointError(f"model {name!r} is a potential; load it with load_potential")
        self.name = name
        self.sha256 = sha256
        self.scheme = scheme
        self.elements = model.elements
        self.device = device
        self._mean, self._scale = model.mean, model.scale
        self._types = embedding_rows(model.elements)
        self._network: Any = model.network.to(device)
        self.cutoff = float(self._network.cutoff)
        self._three_body: M3GNetNetwork | None = None
        if type(self._network).__name__ == "M3GNet":
            self._three_body = M3GNetNetwork(self._network, model.convention, model.three_body).to(device)
            self._three_body.prepare()
            self.n_states = 0
        else:
            self.n_states = int(self._network.embedding.ntypes_state or 0)

    def __repr__(self) -> str:
        return f"PropertyModel({self.name!r}, scheme={self.scheme!r}, n_states={self.n_states})"

    def predict(self, structures: Sequence["Structure"], state: int | str | None = None) -> NDArray[np.float64]:
        """Predicted values; NaN for a structure that cannot be predicted (see :meth:`predict_with_errors`)."""
        return self.predict_with_errors(structures, state)[0]

    def predict_with_errors(
        self, structures: Sequence["Structure"], state: int | str | None = None
    ) -> tuple[NDArray[np.float64], list[str | None]]:
        """Predicted values and, for each structure, why there is none.

        Parameters
        ----------
        structures : sequence of Structure
            Ordered periodic structures.
        state : int or str, optional
            Fidelity of a multi-fidelity band gap model: 0 PBE, 1 GLLB-SC, 2 HSE, 3 SCAN, or the name.

        Returns
        -------
        values : (n,) float64
            eV/atom (formation energies) or eV (gaps).
        errors : list of str or None
            ``"<type>: <message>"`` where the value is NaN.

        Raises
        ------
        ValueError
            A state for a model without, none for one that needs it, or an unknown one.
        """
        label = self._state_label(state)
        errors = [rejection(s, self.elements, self.cutoff) for s in structures]
        values = np.full(len(structures), np.nan)
        good = [i for i, error in enumerate(errors) if error is None]
        counts = np.array([len(structures[i]) for i in good], np.int64)
        volumes = np.array([structures[i].volume for i in good], np.float64)
        costs = [float(c) for c in estimated_edges(counts, volumes, self.cutoff)]
        for group in fill_by_edges(costs, _EDGES_PER_BATCH):
            chosen = [good[k] for k in group]
            predicted, isolated = self._predict_group([structures[i] for i in chosen], label)
            for i, value, lonely in zip(chosen, predicted, isolated, strict=True):
                if lonely:
                    errors[i] = f"NoNeighbours: no two atoms within {self.cutoff} Å"
                elif not np.isfinite(value):
                    errors[i] = "NonFiniteResult: the model's value is not finite"
                else:
                    values[i] = value
        return values, errors

    def _state_label(self, state: int | str | None) -> int | None:
        if self.n_states == 0:
            if state is not None:
                raise ValueError(f"model {self.name!r} has no states, got state {state!r}; leave it out")
            return None
        known = {name: k for k, name in enumerate(FIDELITIES[: self.n_states])}
        label = known.get(state) if isinstance(state, str) else state
        if label is None or isinstance(label, bool) or not 0 <= label < self.n_states:
            raise ValueError(
                f"model {self.name!r} needs a state: one of {', '.join(known)} or 0 to {self.n_states - 1}, "
                f"got {state!r}"
            )
        return int(label)

    def _predict_group(
        self, structures: Sequence["Structure"], label: int | None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        batch = batch_from_structures(structures)
        source, destination, vectors, _, edges, _ = neighbor_list(
            batch.positions, batch.cells, batch.counts, self.cutoff
        )
        types = torch.from_numpy(self._types[batch.numbers]).to(self.device)
        owners = torch.from_numpy(batch.owners).to(self.device)
        src, dst, vec = (torch.from_numpy(a).to(self.device) for a in (source, destination, vectors))
        n = len(structures)
        with torch.no_grad():
            if self._three_body is not None:
                order, n_close = close_first(vec, self._three_body.threebody_cutoff)
                src, dst, vec = (a.index_select(0, order) for a in (src, dst, vec))
                nodes, _ = self._three_body.node_features(types, src, dst, vec.to(torch.float32), n_close)
                output = self._network.final_layer(self._network.readout(nodes, owners))
            else:
                output = self._megnet(types, src, dst, vec.to(torch.float32), owners, n, label)
        values = output.reshape(n).to(torch.float64).cpu().numpy() * self._scale + self._mean
        return values, edges == 0

    def _megnet(
        self, types: Tensor, src: Tensor, dst: Tensor, vectors: Tensor, owners: Tensor, n: int, label: int | None
    ) -> Tensor:
        """MEGNet (matgl's) on a batch. Edge vectors are handed over as positions of zero plus an image shift."""
        from torch_geometric.data import Data

        graph = Data(
            node_type=types,
            pos=torch.zeros(len(types), 3, device=self.device),
            edge_index=torch.stack([src, dst]),
            pbc_offshift=vectors,
            batch=owners,
        )
        graph.num_graphs = n
        if label is None:
            # Trained with two global features that are zero for crystals.
            width = self._network.state_encoder.layers[0].in_features
            state = torch.zeros(n, width, device=self.device)
        else:
            state = torch.full((n,), label, dtype=torch.long, device=self.device)
        output: Tensor = self._network(graph, state_attr=state)
        return output
