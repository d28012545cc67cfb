"""What a training begins with: fresh weights, a model that is gone on from, or a teacher whose features are hints."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.problems import ConfigError, Problem
from pipeline.surrogates import load_potential, locate
from pipeline.surrogates.batch import FloatArray
from pipeline.surrogates.catalogue import resolve_convention
from pipeline.surrogates.loading import load_matgl
from pipeline.training.baseline import fit_element_energies
from pipeline.training.fitting import Start
from pipeline.training.hints import Hints
from pipeline.training.network import fresh_network, network_of, sizes_of
from pipeline.training.reading import TrainingData
from pipeline.training.settings import Training


def problem_with(key: str, message: str) -> ConfigError:
    """An error of the training file, at a key."""
    return ConfigError([Problem(key, message)])


def start_of(settings: Training, data: TrainingData) -> Start:
    """First weights, the elements' energies, and the scale of the network's outputs."""
    labels = data.splits.train
    counts = labels.composition_counts(data.elements)
    unmoved = np.zeros(len(data.elements))
    if settings.hints is not None:
        assert settings.distil is not None  # the settings see to it
        given = _given("distil.teacher", settings.distil.teacher, settings.distil.convention, data.elements)
        return Start(_like(given.network, settings), given.element_energies, given.scale, unmoved, Hints(given.network))
    if settings.fine_tune is None:
        scale = float(np.sqrt(np.mean(labels.forces**2))) or 1.0
        network = fresh_network(settings.sizes, data.elements, settings.fitting.seed)
        return Start(network, fit_element_energies(counts, labels.energies), scale, unmoved)
    wanted = settings.fine_tune
    given = _given("fine_tune.model", wanted.model, wanted.convention, data.elements)
    # Where the labels are of another scheme than the model, the difference is the elements', as far as it can be.
    potential = load_potential(wanted.model, "cpu", convention=wanted.convention)
    found = potential.evaluate(labels.structures())
    known = np.array([evaluation.error is None for evaluation in found])
    if not np.array_equal((counts[known] > 0).any(axis=0), (counts > 0).any(axis=0)):  # an element's last crystal
        b = int(np.argmin(known))
        raise problem_with("fine_tune.model", f"{labels.places[b]}: {wanted.model} refuses it: {found[b].error}")
    said = np.array([evaluation.energy for evaluation in found])
    shift = fit_element_energies(counts[known], (labels.energies - said)[known])
    return Start(given.network, given.element_energies + shift, given.scale, shift)


class _Given(NamedTuple):
    """A model that is there: a network of the data's elements in matgl 4's convention, their energies, its scale."""

    network: Any
    element_energies: FloatArray
    scale: float


def _given(key: str, name: str, convention: str | None, elements: tuple[str, ...]) -> _Given:
    try:
        found = locate(name)
        resolved = resolve_convention(found, convention)
        if resolved is None:
            raise ValueError(f"{found.name} is no M3GNet; only M3GNet potentials are fine-tuned or give hints")
        model = load_matgl(found, resolved)
        network = network_of(model, elements, found.name)
        if model.element_energies is None:
            raise ValueError(f"{found.name} is no potential: it has no energies of the elements")
        if model.mean:
            said = f"its data_mean is {model.mean:g} eV a crystal, of whatever size; what is trained here has none"
            raise ValueError(f"{found.name} can't be gone on from: {said}; name another model")
    except ValueError as error:
        raise problem_with(key, str(error)) from None
    energies = model.element_energies.numpy()[[model.elements.index(symbol) for symbol in elements]]
    return _Given(network, energies, model.scale)


def _like(teacher: Any, settings: Training) -> Any:
    """A fresh network of the teacher's sizes, which the settings must have, its embedding as widely spread."""
    own, hints = settings.sizes, sizes_of(teacher)
    differing = {key: value for key, value in hints.items() if getattr(own, key) != value}
    if differing:
        said = ", ".join(f"{key}: {json.dumps(value)}" for key, value in differing.items())
        raise problem_with("network", f"features of the teacher are hints only to a network of its sizes; write {said}")
    network = fresh_network(own, teacher.element_types, settings.fitting.seed)
    with torch.no_grad():
        embedding, known = (net.embedding.layer_node_embedding.weight for net in (network, teacher))
        embedding *= known.square().mean().sqrt() / embedding.square().mean().sqrt()
    return network
