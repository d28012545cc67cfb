"""Relaxations that are given up: the rule, the engine that follows it, the stage, the settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.config import ConfigError, load_campaign
from pipeline.energetics import formation_energy_per_atom, spare_correction
from pipeline.reference import descent_bounds
from pipeline.reference.descent_bounds import DescentBound, descent_bound
from pipeline.settings import StabilitySettings
from pipeline.stages import stability
from pipeline.surrogates import potential
from pipeline.surrogates.batch import batch_from_structures
from pipeline.surrogates.descent import DescentPoint, DescentRecorder
from pipeline.surrogates.giving_up import GivingUp
from pipeline.surrogates.relaxation import BatchedRelaxation, RelaxationSettings
from tests.campaigns import CONFIG
from tests.morse import morse_potential
from tests.test_stage_stability import EffectiveMedium, Result, crystal, reference, row
from tests.test_surrogate_relaxation import _crystals
from workflows.preflight import find_inputs

BOUND = DescentBound(0.01, 1.5, 2, MappingProxyType({}))
ELEMENTS = {"Li": -1.9, "Na": -1.3, "S": -4.1, "O": -4.9, "P": -5.4, "Ti": -7.9}


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let any model be known to fall no further than BOUND."""
    monkeypatch.setattr(potential, "descent_bound", lambda name, sha256, optimizer: BOUND)
    return


def point(index: list[int], energies: list[float]) -> DescentPoint:
    return DescentPoint(np.array(index), np.full(len(index), 2), np.array(energies))


def verdicts(ceiling: float, energies: list[float]) -> list[bool]:
    """What the rule says of a crystal of two atoms after each evaluation."""
    rule = GivingUp(np.array([ceiling]), BOUND)
    return [bool(rule.hopeless(point([0], [energy]))[0]) for energy in energies]


def test_a_crystal_may_fall_without_bound_before_it_was_evaluated_more_often_than_the_window() -> None:
    assert verdicts(-10.0, [50.0, 50.0, 50.0]) == [False, False, True]


def test_bound_is_floor_and_a_multiple_of_the_recent_drop() -> None:
    # 0.1 eV lower than two evaluations before: 0.05 eV/atom, and 2 (0.01 + 1.5 * 0.05) = 0.17 eV may still be lost.
    assert verdicts(-10.0, [-9.72, -9.75, -9.82])[-1] is True
    assert verdicts(-10.0, [-9.74, -9.75, -9.84])[-1] is False
    # What was lost before the window counts no more.
    assert verdicts(-10.0, [9.9, -9.9, -9.9, -9.9]) == [False, False, False, True]


def test_an_overshoot_says_nothing_new() -> None:
    assert verdicts(-10.0, [-9.985, -9.985, -8.0]) == [False, False, False]
    assert verdicts(-10.0, [-9.97, -8.0, -8.0]) == [False, False, True]


def test_no_ceiling_no_giving_up() -> None:
    assert verdicts(np.inf, [100.0] * 4) == [False] * 4


def test_rule_equals_a_plain_loop_and_crystals_are_judged_apart() -> None:
    rng = np.random.default_rng(3)
    counts = np.array([1, 3, 5, 2])
    bound = DescentBound(0.02, 0.7, 4, MappingProxyType({}))
    rule = GivingUp(-counts.astype(float), bound)
    seen: list[list[float]] = [[] for _ in counts]
    both = {True: 0, False: 0}
    for step in range(60):
        index = rng.permutation(len(counts))[: rng.integers(1, 5)]
        energies = counts[index] * (-0.9 + 2.0 * 0.8**step * rng.random(len(index)))
        found = rule.hopeless(DescentPoint(index, counts[index], energies))
        for i, energy, hopeless in zip(index, energies, found, strict=True):
            seen[i].append(float(energy))
            expected = False
            if len(seen[i]) > 4:
                drop = (min(seen[i][:-4]) - min(seen[i])) / counts[i]
                expected = min(seen[i]) - counts[i] * (0.02 + 0.7 * drop) > -counts[i]
            assert hopeless == expected
            both[expected] += 1
    assert min(both.values()) > 10


def test_those_that_are_not_given_up_end_as_without_ceilings(bounded: None) -> None:
    structures = _crystals()
    plain = morse_potential().relax(structures, rattle=0.02, optimizer="quasi-newton")
    ceilings = [r.energy + (0.001 if k % 2 else -0.5) for k, r in enumerate(plain)]
    model = morse_potential()
    ladder = model.relax(structures, rattle=0.02, ceilings=ceilings, optimizer="quasi-newton")
    assert model.evaluator.evaluations < sum(r.n_steps + 1 for r in plain)
    for k, (before, after) in enumerate(zip(plain, ladder, strict=True)):
        if k % 2:
            assert after.converged
            assert not after.given_up
            assert after.n_steps == before.n_steps
            assert after.energy == pytest.approx(before.energy, abs=1e-9)
        else:
            assert after.given_up
            assert not after.converged
            assert after.error is None
            assert after.n_steps < before.n_steps
            assert after.energy > ceilings[k]
            # Energy, structure and force are those of the place where it was left.
            (there,) = model.evaluate([after.structure])
            assert after.energy == pytest.approx(there.energy, abs=1e-9)


def test_giving_up_depends_on_no_companion(bounded: None) -> None:
    structures = _crystals()
    ceilings = [r.energy - 0.5 for r in morse_potential().relax(structures)]
    together = morse_potential().relax(structures, ceilings=ceilings)
    for structure, ceiling, there in zip(structures, ceilings, together, strict=True):
        (alone,) = morse_potential().relax([structure], ceilings=[ceiling])
        assert (alone.n_steps, alone.given_up) == (there.n_steps, there.given_up)


def test_a_converged_crystal_is_not_given_up(bounded: None) -> None:
    (relaxed,) = morse_potential().relax(_crystals()[:1], fmax=0.01, optimizer="quasi-newton")
    ceilings = [relaxed.energy - 5.0]
    (again,) = morse_potential().relax([relaxed.structure], fmax=0.02, ceilings=ceilings, optimizer="quasi-newton")
    assert again.converged
    assert not again.given_up


def test_failures_are_not_shown_to_the_watch(bounded: None) -> None:
    overlapping = Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0]])
    unknown = Structure(Lattice.cubic(5.0), ["Xe"], [[0, 0, 0]])
    (good,) = morse_potential().relax(_crystals()[:1], optimizer="quasi-newton")
    results = morse_potential().relax(
        [unknown, overlapping, _crystals()[0]], ceilings=[0.0, 0.0, good.energy + 0.001], optimizer="quasi-newton"
    )
    assert [r.error is None for r in results] == [False, False, True]
    assert not any(r.given_up for r in results)
    assert results[2].n_steps == good.n_steps


def test_recorder_sees_every_evaluation_and_disturbs_nothing() -> None:
    model = morse_potential()
    recorder = DescentRecorder()
    crystals = _crystals()
    results = BatchedRelaxation(model.evaluator, RelaxationSettings()).run(batch_from_structures(crystals), recorder)
    seen = np.concatenate([p.index for p in recorder.points])
    assert np.bincount(seen).tolist() == [r.n_steps + 1 for r in results]
    assert [r.n_steps for r in results] == [r.n_steps for r in morse_potential().relax(crystals)]
    last = {int(i): energy for p in recorder.points for i, energy in zip(p.index, p.energies, strict=True)}
    for i, result in enumerate(results):
        assert last[i] == pytest.approx(result.energy)


def test_ceilings_need_a_measured_model_and_their_number() -> None:
    with pytest.raises(ValueError, match=r"'Morse' .* was never measured; measured are .*fit_descent_bound"):
        morse_potential().relax(_crystals(), ceilings=[0.0] * 5)
    with pytest.raises(ValueError, match="2 ceilings for 5 structures"):
        morse_potential().relax(_crystals(), ceilings=[0.0] * 2)


def test_fitted_bound_is_found_by_the_weights_and_the_optimiser() -> None:
    for fitted in descent_bounds._read().values():
        bound = descent_bound("any name", fitted["sha256"], fitted["optimizer"])
        assert bound.floor > 0.0
        assert bound.factor > 0.0
        assert bound.window >= 1
        # More lost lately, more to lose; never less than the floor.
        remaining = bound.remaining(np.array([0.0, 1e-3, np.inf]))
        assert remaining[0] == bound.floor
        assert (np.diff(remaining) > 0.0).all()
        with pytest.raises(ValueError, match="optimizer 'fire' may still fall was never measured"):
            descent_bound("any name", fitted["sha256"], "fire")


class Watched(EffectiveMedium):
    """EMT that keeps the ceilings it was given, and gives up what starts above."""

    def relax(self, structures: list[Structure], *arguments: Any, **options: Any) -> list[Result]:
        self.ceilings = options["ceilings"]
        results = super().relax(structures, *arguments, **options)
        if self.ceilings is None:
            return results
        started = [self._run(s, 0.05, 0, False) for s in structures]
        return [
            replace(start, converged=False, given_up=True) if start.energy > ceiling else end
            for start, end, ceiling in zip(started, results, self.ceilings, strict=True)
        ]


def _part() -> pd.DataFrame:
    return pd.DataFrame(
        [row(crystal(["Au", "Cu", "Cu", "Cu"], 3.75)), row(crystal(["Pd", "Cu", "Cu", "Cu"], 4.6))], index=[4, 2]
    )


def _settings(above: float | None) -> StabilitySettings:
    gates = {"energy_above_hull": {"below": 0.05}}
    return StabilitySettings.model_validate({"rattle": 0.0, "fmax": 0.01, "gates": gates, "give_up_above": above})


def test_a_row_that_was_given_up_says_so_and_does_not_pass(tmp_path: Path) -> None:
    refs = SimpleNamespace(potential=Watched(), second_potential=None, phases=reference())
    settings = _settings(0.08)
    result = stability.run(_part(), settings, refs, tmp_path)
    assert result["stability_status"].tolist() == ["ok", "ok"]
    assert result["relaxation_given_up"].tolist() == [False, True]
    assert result["relaxation_converged"].tolist() == [True, False]
    assert settings.gates["energy_above_hull"].passes(result["energy_above_hull"]).tolist() == [True, False]
    # At its ceiling a crystal is 0.08 eV/atom above the hull.
    for i, ceiling in enumerate(refs.potential.ceilings):
        found = result.iloc[i]
        height = found["energy_above_hull"] - 0.08
        assert found["energy_per_atom"] - ceiling / 4 == pytest.approx(height, abs=1e-9)
    off = stability.run(_part(), _settings(None), refs, tmp_path)
    assert refs.potential.ceilings is None
    assert off["relaxation_given_up"].tolist() == [False, False]
    pd.testing.assert_series_equal(off.iloc[0], result.iloc[0])


def test_second_opinion_is_asked_of_those_below_the_bound_only(tmp_path: Path) -> None:
    class Counting(EffectiveMedium):
        def evaluate(self, structures: list[Structure]) -> list[Result]:
            self.asked = len(structures)
            return super().evaluate(structures)

    second = Counting(shift=0.03)
    refs = SimpleNamespace(potential=Watched(), second_potential=second, phases=reference())
    on = stability.run(_part(), _settings(0.08), refs, tmp_path)
    assert second.asked == 1
    assert on["energy_disagreement"].tolist() == [pytest.approx(0.03), pytest.approx(np.nan, nan_ok=True)]
    stability.run(_part(), _settings(None), refs, tmp_path)
    assert second.asked == 2


def test_a_crystal_without_reference_energy_fails_before_it_is_relaxed(tmp_path: Path) -> None:
    refs = SimpleNamespace(potential=Watched(), second_potential=None, phases=reference())
    part = pd.concat([_part(), pd.DataFrame([row(crystal(["Ag", "Cu", "Cu", "Cu"], 3.8))])])
    result = stability.run(part, _settings(0.08), refs, tmp_path)
    assert result["stability_status"].tolist() == ["ok", "ok", "failed"]
    assert "Ag" in result["stability_error"].iloc[2]
    assert len(refs.potential.ceilings) == 2


def _rocksalt(a: float, *species: str) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), list(species), [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_ceiling_leaves_room_for_a_peroxide_that_becomes_an_oxide() -> None:
    """MP2020: -0.687 eV an oxygen of an oxide, -0.465 of a peroxide, -0.161 of a superoxide, -0.503 a sulfur."""
    model = SimpleNamespace(name="raw", scheme="mp_raw")
    oxide = _rocksalt(4.6, "Li", "O")
    assert spare_correction(oxide, model) == pytest.approx(0.0, abs=1e-9)
    dumbbell = Structure(
        Lattice.cubic(4.5), ["Li", "Li", "O", "O"], [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0], [1 / 3, 0, 0]]
    )
    assert spare_correction(dumbbell, model) == pytest.approx(2 * (0.687 - 0.465), abs=1e-3)
    # Sulfur close to oxygen is a sulfate's unless it moves away; with a charge of +6 it stays.
    close = Structure(
        Lattice.cubic(5.0), ["Li", "Li", "S", "O"], [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0], [0.3, 0, 0]]
    )
    assert spare_correction(close, model) == pytest.approx(0.503, abs=1e-3)
    close.add_oxidation_state_by_site([-2, -2, 6, -2])
    assert spare_correction(close, model) == pytest.approx(0.0, abs=1e-9)
    assert spare_correction(dumbbell, SimpleNamespace(name="corrected", scheme="mp2020")) == 0.0


def test_no_arrangement_of_the_same_atoms_gets_more_than_the_spare_correction() -> None:
    model = SimpleNamespace(name="raw", scheme="mp_raw")
    rng = np.random.default_rng(1)
    starts = [
        Structure(Lattice.cubic(3.6 + 2 * rng.random()), ["Li", "Ti", "S", "O", "O"], rng.random((5, 3)))
        for _ in range(40)
    ]
    at_zero = [formation_energy_per_atom(s, 0.0, model, elemental_references=ELEMENTS) for s in starts]
    lowest = [e - spare_correction(s, model) / 5 for s, e in zip(starts, at_zero, strict=True)]
    assert max(at_zero) > min(at_zero) + 0.05  # the corrections do differ
    assert max(lowest) <= min(at_zero) + 1e-9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"give_up_above": 0.04, "gates": {"energy_above_hull": {"below": 0.05}}}, "write 0.05 or more"),
        ({"give_up_above": 0.04}, "no gate energy_above_hull has an upper bound"),
        ({"give_up_above": 0.04, "gates": {"energy_above_hull": {"above": 0.01}}}, "add the gate {below: 0.04}"),
        ({"give_up_above": -0.1, "gates": {"energy_above_hull": {"below": 0.05}}}, "greater than or equal to 0"),
    ],
)
def test_settings_that_would_lose_rows_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StabilitySettings.model_validate(settings)


def test_equal_to_the_gate_is_allowed() -> None:
    assert _settings(0.05).give_up_above == 0.05


def test_a_model_that_was_never_measured_is_refused_before_work(tmp_path: Path) -> None:
    (tmp_path / "crystals").mkdir()
    _rocksalt(5.1, "Li", "Cl").to(str(tmp_path / "crystals" / "LiCl.cif"))
    text = CONFIG.format(chunk_size=4, gate=0.05, workers=1, allowed=0.0)
    text = text.replace("    max_steps: 60\n", "    max_steps: 60\n    give_up_above: 0.05\n")
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "phases.csv").write_text("formula,formation_energy_per_atom\nLiCl,-2.1\n", encoding="utf-8")
    energies = "element,energy_per_atom\nLi,-1.9\nNa,-1.3\nMg,-1.6\nCl,-1.8\n"
    (tmp_path / "elements.csv").write_text(energies, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"stages.0.give_up_above: .*'CHGNet' .* was never measured"):
        find_inputs(load_campaign(tmp_path / "c.yaml"), tmp_path / "c.yaml")
