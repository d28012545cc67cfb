"""The fit of how far relaxations may still fall, the replay of recorded relaxations, and the bound on a share lost."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from pipeline.reference.descent_bounds import DescentBound
from pipeline.surrogates.descent import DescentPoint
from pipeline.surrogates.giving_up import GivingUp


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))


def _descents(number: int, seed: int) -> list[Any]:
    """Exponential descents of various rates; a tenth rests for a while on a saddle."""
    from recorded_descents import Descent

    rng = np.random.default_rng(seed)
    found = []
    for k in range(number):
        steps, atoms = int(rng.integers(20, 90)), int(rng.integers(2, 9))
        end = rng.normal(0.05, 0.1)
        fall = rng.exponential(1.0) * np.exp(-np.arange(steps) * rng.uniform(0.08, 0.3))
        fall[-1] = 0.0
        if rng.random() < 0.1:
            fall[: steps // 2] += 0.05
        energies = atoms * (end + fall + rng.normal(0.0, 1e-3, steps))
        found.append(Descent(str(k), "X", atoms, atoms * 0.05, energies, float(energies[-1] / atoms), ""))
    return found


def test_fit_gives_up_none_of_its_own_that_pass_and_many_of_the_others() -> None:
    from fit_descent_bound import fit
    from recorded_descents import left_after, passes

    descents = _descents(200, 0)
    passing = passes(descents, 0.05)
    assert 50 < passing.sum() < 150
    bound = fit(descents, passing, 0.003, 1.001)
    left = [left_after(d, bound) for d in descents]
    given_up = np.array([t is not None for t in left])
    assert not (given_up & passing).any()
    assert given_up.sum() > 0.3 * (~passing).sum()
    # With more tolerated, the k-th largest scale: k - 1 of them are given up.
    looser = fit(descents, passing, 5.5 / (passing.sum() + 1), 1.001)
    lost = sum(left_after(d, looser) is not None for d, ends in zip(descents, passing, strict=True) if ends)
    assert lost == 4


def test_headroom_gives_up_less() -> None:
    from fit_descent_bound import fit
    from recorded_descents import left_after, passes

    descents = _descents(120, 1)
    passing = passes(descents, 0.05)
    bounds = [fit(descents, passing, 0.003, headroom) for headroom in (1.001, 2.0)]
    given_up = [sum(left_after(d, bound) is not None for d in descents) for bound in bounds]
    assert given_up[0] > given_up[1] > 0


def test_replay_is_what_the_rule_says_during_the_relaxation() -> None:
    from recorded_descents import left_after

    bound = DescentBound(0.02, 1.0, 5, MappingProxyType({}))
    kinds = {"given up": 0, "went on": 0}
    for descent in _descents(80, 2):
        rule = GivingUp(np.array([descent.ceiling]), bound)
        expected = None
        for t, energy in enumerate(descent.energies, 1):
            point = DescentPoint(np.zeros(1, np.int64), np.array([descent.atoms]), np.array([energy]))
            # The last evaluation ends the relaxation.
            if rule.hopeless(point)[0] and t < len(descent.energies):
                expected = t
                break
        assert left_after(descent, bound) == expected
        kinds["went on" if expected is None else "given up"] += 1
    assert min(kinds.values()) > 5


def test_too_few_passing_crystals_are_refused() -> None:
    from fit_descent_bound import fit

    descents = _descents(5, 3)
    with pytest.raises(ValueError, match=r"0 of 5 crystals pass: .* raise --count"):
        fit(descents, np.zeros(5, bool), 0.003, 1.0)


def test_bound_on_a_share_is_clopper_and_pearsons() -> None:
    from measure_ladder import highest_share
    from scipy.stats import binomtest

    # None of n: the share p with (1 - p)^n = 0.05.
    assert highest_share(0, 320, 0.95) == pytest.approx(1.0 - 0.05 ** (1 / 320))
    two_sided = binomtest(3, 400).proportion_ci(0.95, "exact").high
    assert highest_share(3, 400, 0.975) == pytest.approx(two_sided)
    assert highest_share(7, 7, 0.95) == 1.0
