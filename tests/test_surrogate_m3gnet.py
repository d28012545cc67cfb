"""Our arrangement of M3GNet and the loader, against matgl's own forward pass on random weights."""

import json
import warnings

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from pipeline.surrogates import load_potential, load_property_model, locate
from pipeline.surrogates.loading import BadCheckpointError, load_matgl, numbers_in_text

ELEMENTS = ["Li", "Na", "O", "Cl"]
ARGUMENTS = {
    "element_types": ELEMENTS,
    "max_n": 3,
    "max_l": 3,
    "nblocks": 2,
    "is_intensive": False,
    "readout_type": "weighted_atom",
    "cutoff": 5.0,
    "threebody_cutoff": 4.0,
    "units": 16,
    "dim_node_embedding": 8,
    "dim_edge_embedding": 12,
    "use_smooth": False,
}


def _network(**changes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matgl.models import M3GNet

        torch.manual_seed(0)
        network = M3GNet(**{**ARGUMENTS, **changes})
    # Three-body weights large enough to be seen.
    for block in network.three_body_interactions:
        block.update_network_bond.layers[0].weight.data *= 3000.0
    return network


def _checkpoint(folder, network, **changes):
    """What matgl writes, without its pickled model.pt."""
    folder.mkdir()
    state = {f"model.{key}": value for key, value in network.state_dict().items()}
    state["data_mean"], state["data_std"] = torch.tensor(0.0), torch.tensor(2.0)
    state["element_refs.property_offset"] = torch.tensor([-1.0, -2.0, -3.0, -4.0], dtype=torch.float64)
    torch.save(state, folder / "state.pt")
    description = {
        "@class": "Potential",
        "kwargs": {
            "model": {"@class": "M3GNet", "init_args": {**ARGUMENTS, **changes}},
            "data_mean": "tensor(0.)",
            "data_std": "tensor(2.0, device='cuda:0')",
            "element_refs": "tensor([-1., -2.,\n -3.0, -4.])",
        },
    }
    (folder / "model.json").write_text(json.dumps(description))
    return folder


def _crystals():
    rng = np.random.default_rng(3)
    return [
        Structure(
            Lattice(np.eye(3) * size + rng.normal(0.0, 0.2, (3, 3))),
            rng.choice(ELEMENTS, n),
            rng.uniform(0.0, 1.0, (n, 3)),
        )
        for size, n in [(4.0, 2), (5.0, 3), (4.5, 1), (6.0, 5)]
    ]


def _matgl_energy(network, structure):
    """matgl's own graph, three-body indices and forward pass, in float64."""
    from matgl.ext.pymatgen import Structure2Graph

    graph, _, _ = Structure2Graph(tuple(ELEMENTS), 5.0).get_graph(structure)
    lattice = torch.tensor(structure.lattice.matrix.copy())
    graph.pos = torch.tensor(structure.cart_coords)
    graph.pbc_offshift = graph.pbc_offset.double() @ lattice
    offsets = torch.tensor([-1.0, -2.0, -3.0, -4.0], dtype=torch.float64)
    with torch.no_grad():
        return float(network(g=graph)) * 2.0 + float(offsets[graph.node_type].sum())


@pytest.mark.parametrize(("convention", "smooth"), [("source", False), ("destination", False), ("destination", True)])
def test_energies_equal_matgl(tmp_path, convention, smooth):
    folder = _checkpoint(tmp_path / "model", _network(use_smooth=smooth), use_smooth=smooth)
    potential = load_potential(folder, convention=convention)
    reference = load_matgl(locate(folder), convention).network.double()
    for structure, ours in zip(_crystals(), potential.evaluate(_crystals()), strict=True):
        # float32 against float64, a few eV an atom.
        assert ours.energy == pytest.approx(_matgl_energy(reference, structure), abs=2e-5 * len(structure))


@pytest.mark.parametrize(("convention", "smooth"), [("source", False), ("destination", False), ("destination", True)])
def test_kernels_equal_autograd(tmp_path, convention, smooth):
    folder = _checkpoint(tmp_path / "model", _network(use_smooth=smooth), use_smooth=smooth)
    potential = load_potential(folder, convention=convention)
    by_kernels = potential.evaluate(_crystals())
    potential.evaluator._on_cpu = None
    for ours, reference in zip(by_kernels, potential.evaluate(_crystals()), strict=True):
        # Both float32, in another order of operations, for forces of up to some eV/Å.
        assert ours.energy == pytest.approx(reference.energy, abs=2e-5)
        np.testing.assert_allclose(ours.forces, reference.forces, rtol=2e-5, atol=2e-4)
        np.testing.assert_allclose(ours.stress, reference.stress, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("three_body", [True, False])
def test_kernels_give_the_same_bits_in_every_batch(tmp_path, three_body):
    potential = load_potential(_checkpoint(tmp_path / "model", _network()), convention="destination")
    if not three_body:
        potential.evaluator.network.threebody_cutoff = 0.0
    crystals = _crystals() + [structure * (2, 1, 1) for structure in _crystals()]
    alone = [potential.evaluate([structure])[0] for structure in crystals]
    rng = np.random.default_rng(0)
    for _ in range(10):
        chosen = rng.permutation(len(crystals))[: rng.integers(2, len(crystals) + 1)]
        for i, result in zip(chosen, potential.evaluate([crystals[i] for i in chosen]), strict=True):
            assert result.energy == alone[i].energy
            np.testing.assert_array_equal(result.forces, alone[i].forces)
            np.testing.assert_array_equal(result.stress, alone[i].stress)


def test_atoms_without_neighbours(tmp_path):
    potential = load_potential(_checkpoint(tmp_path / "model", _network()), convention="destination")
    lonely = Structure(Lattice.cubic(30.0), ["Li", "O"], [[0.0] * 3, [0.5] * 3])
    pair = Structure(Lattice.cubic(30.0), ["Li", "O"], [[0.0] * 3, [0.15, 0.0, 0.0]])  # 4.5 Å: no three-body term
    alone = [e.energy for e in potential.evaluate([lonely])]
    together = potential.evaluate([lonely, pair, *_crystals()])
    assert together[0].energy == pytest.approx(alone[0], abs=1e-5)
    assert not together[0].forces.any()
    assert together[1].forces[0, 0] == pytest.approx(-together[1].forces[1, 0], abs=1e-6)
    potential.evaluator._on_cpu = None
    for ours, reference in zip(together, potential.evaluate([lonely, pair]), strict=False):
        assert ours.energy == pytest.approx(reference.energy, abs=1e-5)
        np.testing.assert_allclose(ours.forces, reference.forces, atol=1e-5)


def test_convention_matters_and_conventions_alternate(tmp_path):
    network = _network()
    folder = _checkpoint(tmp_path / "model", network)
    source = load_potential(folder, convention="source")
    destination = load_potential(folder, convention="destination")
    first = [[e.energy for e in model.evaluate(_crystals())] for model in (source, destination)]
    second = [[e.energy for e in model.evaluate(_crystals())] for model in (source, destination)]
    assert first == second
    assert np.abs(np.subtract(*first)).max() > 1e-3
    # matgl's classes are as they were: a network made now aggregates on the source, matgl 4's convention.
    pristine = _network().double().eval()
    expected = [_matgl_energy(pristine, structure) for structure in _crystals()]
    np.testing.assert_allclose(first[0], expected, atol=1e-4)


def test_three_body_term_is_seen(tmp_path):
    folder = _checkpoint(tmp_path / "model", _network())
    with_term = load_potential(folder, convention="source").evaluate(_crystals())
    silent = _network()
    for block in silent.three_body_interactions:
        block.update_network_bond.layers[0].weight.data.zero_()
    without = load_potential(_checkpoint(tmp_path / "silent", silent), convention="source").evaluate(_crystals())
    assert max(abs(a.energy - b.energy) for a, b in zip(with_term, without, strict=True)) > 2e-3


def test_forces_and_stress_are_the_energy_s_derivatives(tmp_path):
    potential = load_potential(_checkpoint(tmp_path / "model", _network()), convention="destination")
    structure = _crystals()[3]
    (center,) = potential.evaluate([structure])

    def energy(moved):
        return potential.evaluate([moved])[0].energy

    step = 2e-3
    for atom, axis in [(0, 0), (2, 1), (4, 2)]:
        ends = []
        for sign in (1, -1):
            moved = structure.copy()
            shift = np.zeros(3)
            shift[axis] = sign * step
            moved.translate_sites([atom], shift, frac_coords=False)
            ends.append(energy(moved))
        # float32 energies of some eV leave 1e-6 / 4e-3 of noise, and the step an error of its square.
        assert -(ends[0] - ends[1]) / (2 * step) == pytest.approx(center.forces[atom, axis], abs=3e-3)
    for a, b in [(0, 0), (1, 2)]:
        ends = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5 * sign * step
            strain[b, a] += 0.5 * sign * step
            ends.append(
                energy(
                    Structure(structure.lattice.matrix @ (np.eye(3) + strain), structure.species, structure.frac_coords)
                )
            )
        stress = (ends[0] - ends[1]) / (2 * step) / structure.volume
        assert stress == pytest.approx(center.stress[a, b], abs=3e-5)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    folder = _checkpoint(tmp_path / "model", _network())
    state = torch.load(folder / "state.pt", weights_only=True)
    key = "model.graph_layers.0.conv.edge_weight_func.weight"
    torch.save({k: v for k, v in state.items() if k != key}, folder / "state.pt")
    with pytest.raises(BadCheckpointError, match="missing"):
        load_potential(folder, convention="source")
    torch.save({**state, "model.surplus": torch.zeros(1)}, folder / "state.pt")
    with pytest.raises(BadCheckpointError, match="unexpected"):
        load_potential(folder, convention="source")


def test_a_pickled_state_is_not_unpickled(tmp_path):
    folder = _checkpoint(tmp_path / "model", _network())
    torch.save({"model": Structure}, folder / "state.pt")
    with pytest.raises(BadCheckpointError, match="weights_only"):
        load_potential(folder, convention="source")


def test_property_model_with_the_old_set2set_names(tmp_path):
    changes = {"is_intensive": True, "readout_type": "set2set", "threebody_cutoff": 5.0}
    network = _network(**changes)
    folder = tmp_path / "eform"
    folder.mkdir()
    old = {f"model.{k}".replace("readout.lstm.", "readout.set2set.lstm."): v for k, v in network.state_dict().items()}
    torch.save(old, folder / "state.pt")
    text = {
        "@class": "TransformedTargetModel",
        "kwargs": {
            "model": {"@class": "M3GNet", "init_args": {**ARGUMENTS, **changes}},
            "target_transformer": "Normalizer: Mean=-1.5, Std: 2.0",
        },
    }
    (folder / "model.json").write_text(json.dumps(text))
    model = load_property_model(folder, convention="source")
    together = model.predict(_crystals())
    alone = np.concatenate([model.predict([structure]) for structure in _crystals()])
    np.testing.assert_allclose(together, alone, atol=1e-5)  # float32
    network = network.double().eval()
    expected = [_matgl_energy(network, s) - _offsets(s) - 1.5 for s in _crystals()]
    np.testing.assert_allclose(together, expected, atol=1e-4)  # float32 against float64
    with pytest.raises(ValueError, match="has no states"):
        model.predict(_crystals(), state="PBE")
    text["kwargs"]["target_transformer"] = "LogTransformer"
    (folder / "model.json").write_text(json.dumps(text))
    with pytest.raises(BadCheckpointError, match="is not a Normalizer"):
        load_property_model(folder, convention="source")


def _offsets(structure):
    values = dict(zip(ELEMENTS, [-1.0, -2.0, -3.0, -4.0], strict=True))
    return sum(values[site.specie.symbol] for site in structure)


def test_numbers_stored_as_text():
    assert numbers_in_text("tensor([-3.5, 1e-4,\n  2.], device='cuda:0')", "x") == [-3.5, 1e-4, 2.0]
    assert numbers_in_text("tensor(4.58613348, device='cuda:0')", "x") == [4.58613348]
    assert numbers_in_text(1.5, "x") == [1.5]
    assert numbers_in_text("tensor([1., 2.], dtype=torch.float64)", "x") == [1.0, 2.0]
    with pytest.raises(BadCheckpointError, match="here: expected a number"):
        numbers_in_text("many", "here")
