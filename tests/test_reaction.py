"""Mutual reaction energies: a closed form, and pymatgen's InterfacialReactivity as the peer."""

import numpy as np
import pytest
from pymatgen.analysis.interface_reactions import InterfacialReactivity
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key

# Both evaluate the same hull; pymatgen finds the kinks to its own tolerance of 1e-4 in the mixing ratio.
SAME_ENERGY = 1e-5


def reference_of(**energies: float) -> PhaseReference:
    return PhaseReference({composition_key(f): e for f, e in energies.items()})


def test_lithium_reduces_a_chloride_closed_form() -> None:
    # YCl3 + 3 Li -> Y + 3 LiCl: 3 * 2 * (-2.1) - 4 * (-2.5) = -2.6 eV over 7 atoms; 4 of the 7 are YCl3's.
    reaction = reference_of(LiCl=-2.1, YCl3=-2.5).mutual_reaction("YCl3", "Li")
    assert reaction.energy == pytest.approx(-2.6 / 7, abs=1e-9)
    assert reaction.share == pytest.approx(4 / 7, abs=1e-9)
    assert reaction.products == pytest.approx({"LiCl": 6 / 7, "Y": 1 / 7})


def test_stable_partners_do_not_react() -> None:
    reaction = reference_of(LiCl=-2.1, YCl3=-2.5).mutual_reaction("LiCl", "Li")
    assert reaction.energy == 0.0
    assert np.isnan(reaction.share)
    assert reaction.products == {}


def test_what_a_metastable_candidate_would_do_alone_is_left_out() -> None:
    reference = reference_of(LiCl=-2.1, YCl3=-2.5)
    hull = reference.hull_energy("Li3YCl6")
    assert reference.mutual_reaction("Li3YCl6", "Li", hull + 0.1) == reference.mutual_reaction("Li3YCl6", "Li")
    stable = reference.mutual_reaction("Li3YCl6", "Li", hull - 0.1)
    assert stable.energy > reference.mutual_reaction("Li3YCl6", "Li").energy


def test_bad_input_is_refused() -> None:
    reference = reference_of(LiCl=-2.1)
    with pytest.raises(ValueError, match="element Xe has no reference energy"):
        reference.mutual_reaction("LiCl", "XeCl2")
    with pytest.raises(ValueError, match="must be a finite number"):
        reference.mutual_reaction("LiCl", "Li", float("inf"))


@pytest.mark.parametrize("seed", range(6))
def test_equals_pymatgen_on_random_tables(seed: int) -> None:
    rng = np.random.default_rng(seed)
    elements = ("Li", "Y", "S", "Cl", "O")
    phases = {}
    for _ in range(40):
        chosen = rng.choice(elements, size=int(rng.integers(2, 5)), replace=False)
        phases[composition_key("".join(f"{e}{rng.integers(1, 5)}" for e in chosen))] = float(rng.normal(-1.0, 0.5))
    reference = PhaseReference(phases, elements=elements)
    system = reference.system(elements)
    diagram = PhaseDiagram(
        [
            PDEntry(Composition(dict(key)), e * sum(n for _, n in key))
            for key, e in zip(system.keys, system.energies, strict=True)
        ]
    )
    for formula, partner in (("Li3YCl6", "Li"), ("Li2S", "YCl3"), ("Li6YS2Cl", "Y2O3"), ("LiYO2", "S")):
        ours = reference.mutual_reaction(formula, partner)
        peer = InterfacialReactivity(
            Composition(formula), Composition(partner), diagram, norm=True, use_hull_energy=True
        )
        assert ours.energy == pytest.approx(peer.minimum[1], abs=SAME_ENERGY), (formula, partner)
