"""Graphs, gradients of the loss and the order of an epoch, against matgl's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from pipeline.problems import ConfigError
from pipeline.training.fitting import order_of
from pipeline.training.fitting_settings import NetworkSettings
from pipeline.training.graphs import CrystalGraphs, EpochOrder, loader
from pipeline.training.network import ArrangedM3GNet, fresh_network
from pipeline.training.reading import read_training_data
from tests.labels import write_alloys
from tests.trainings import SIZES
from tests.trainings import alloy_training as settings


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    return write_alloys(tmp_path_factory.mktemp("labels") / "alloys.parquet", 40)


def test_graphs_are_those_of_matgl(labels):
    from matgl.ext.pymatgen import Structure2Graph

    data = read_training_data(settings(labels.parent, labels).data)
    graphs = CrystalGraphs(data.splits.train, data.elements, 4.5, True)
    converter = Structure2Graph(data.elements, 4.5)
    for b in range(len(graphs)):
        graph, lattice, _, targets = graphs[b]
        part = data.splits.train.crystals.part(b, b + 1)
        structure = Structure(part.cells[0], part.numbers, part.positions, coords_are_cartesian=True)
        theirs, their_lattice, _ = converter.get_graph(structure)

        def bonds(g):
            return sorted(map(tuple, torch.cat([g.edge_index.T, g.pbc_offset.long()], dim=1).tolist()))

        assert bonds(graph) == bonds(theirs)
        assert torch.equal(graph.node_type, theirs.node_type)
        torch.testing.assert_close(graph.frac_coords, theirs.frac_coords, atol=1e-6, rtol=0.0)
        torch.testing.assert_close(lattice, their_lattice[0])
        torch.testing.assert_close(
            targets["stresses"], torch.tensor(data.splits.train.stresses[b], dtype=torch.float32)
        )


def test_gradients_of_the_loss_are_those_of_matgl(labels):
    """Second derivatives through our arrangement, against matgl's own forward pass with its list of triplets."""
    from matgl.apps.pes import Potential

    data = read_training_data(settings(labels.parent, labels).data)
    graphs = CrystalGraphs(data.splits.train, data.elements, 4.5, True)
    graph, lattices, *_, forces, stresses = next(iter(loader(graphs, 4)))
    network = fresh_network(NetworkSettings(**SIZES), data.elements, 0).double()
    for block in network.three_body_interactions:
        block.update_network_bond.layers[0].weight.data *= 300.0  # large enough to be seen
    gradients = []
    for model in (ArrangedM3GNet(network), network):
        network.zero_grad()
        energies, f, s, _ = Potential(model).double()(graph, lattices)
        loss = energies.sum() + ((f - forces) ** 2).sum() + 0.01 * ((s - stresses) ** 2).sum()
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})
    for name, ours in gradients[0].items():
        torch.testing.assert_close(ours, gradients[1][name], rtol=1e-6, atol=1e-8, msg=name)


def test_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    order = EpochOrder(50, 1)
    first = list(order)
    assert sorted(first) == list(range(50))
    order.set_epoch(1)
    assert list(order) != first
    order.set_epoch(0)
    assert list(order) == first != list(EpochOrder(50, 2))


def test_last_epochs_are_as_long_and_hold_the_near_crystals_about_equally_often():
    near = np.array([3, 5, 8, 13, 21, 34])
    order = EpochOrder(50, 1, near, is_near=lambda epoch: epoch >= 2)
    order.set_epoch(1)
    assert list(order) == list(_at(EpochOrder(50, 1), 1))
    order.set_epoch(2)
    places, times = np.unique(list(order), return_counts=True)
    assert places.tolist() == near.tolist()
    assert times.sum() == len(order) == 50
    assert set(times) == {8, 9}
    assert list(order) == list(order) != list(_at(EpochOrder(50, 1, near), 3))


def _at(order: EpochOrder, epoch: int) -> EpochOrder:
    order.set_epoch(epoch)
    return order


def test_crystals_of_small_forces_are_near(labels):
    whole = settings(labels.parent, labels)
    data = read_training_data(whole.data)
    graphs = CrystalGraphs(data.splits.train, data.elements, 4.5, True)
    squares = [float((targets["forces"] ** 2).mean()) for *_, targets in (graphs[k] for k in range(len(graphs)))]
    np.testing.assert_allclose(graphs.rms_forces, np.sqrt(squares), rtol=1e-5)
    bound = float(np.median(graphs.rms_forces))
    chosen = whole.fitting.model_copy(update={"near_epochs": 1, "near_force": bound, "max_epochs": 3})
    order = order_of(graphs, chosen)
    assert graphs.rms_forces[order.near].max() <= bound
    assert len(order.near) == (graphs.rms_forces <= bound).sum()
    assert [order.is_near(epoch) for epoch in range(3)] == [False, False, True]
    assert order_of(graphs, chosen.model_copy(update={"near_epochs": 0})).near is None
    with pytest.raises(
        ConfigError, match=r"near_force: is 1e-09 eV/Å, but no crystal to be trained on has less than .*; write more"
    ):
        order_of(graphs, chosen.model_copy(update={"near_force": 1e-9}))
