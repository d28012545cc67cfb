"""Kernels behind the cheap gates and the formulas, against plain Python and pymatgen."""

import math
import random

import numpy as np
import pytest
from pymatgen.core import Composition, Element

from kernels import assignment_measures
from kernels.assignment_measures import MeasureTables, compositions, measure_assignments
from pipeline.stages.candidate_formulas import formula_columns, formulas, reduced


@pytest.fixture(params=["compiled", "python"], autouse=True)
def both_ways(request, monkeypatch):
    if request.param == "python":
        for name, value in list(vars(assignment_measures).items()):
            if hasattr(value, "py_func"):
                monkeypatch.setattr(assignment_measures, name, value.py_func)


def tables_of(chance, slots, elements):
    mismatch = chance.uniform(0.0, 1.0, (slots, elements, 17))
    mismatch[chance.random(mismatch.shape) < 0.02] = math.nan
    electronegativity = chance.uniform(0.8, 4.0, elements)
    electronegativity[0] = math.nan
    return MeasureTables(
        multiplicity=chance.integers(1, 5, slots),
        old_ion=chance.integers(0, 2, slots),
        mobile=chance.random(elements) < 0.4,
        electronegativity=electronegativity,
        mismatch=mismatch,
        probability=chance.uniform(0.0, 1.0, (slots, elements, 17)),
    )


def test_measures_equal_plain_python():
    chance = np.random.default_rng(3)
    slots, kinds = 4, 6
    tables = tables_of(chance, slots, kinds)
    elements = chance.integers(0, kinds, (200, slots))
    charges = chance.choice([-2, -1, 1, 3], (200, slots))
    found = measure_assignments(elements, charges, tables)
    for row, (xs, qs) in enumerate(zip(elements.tolist(), charges.tolist(), strict=True)):
        places = range(slots)
        atoms = sum(int(tables.multiplicity[s]) for s in places if tables.mobile[xs[s]] and qs[s] >= 0)
        assert found.mobile_atoms[row] == atoms
        cations = [tables.electronegativity[xs[s]] for s in places if qs[s] > 0]
        anions = [tables.electronegativity[xs[s]] for s in places if qs[s] < 0]
        known = not any(math.isnan(x) for x in (*cations, *anions))
        assert found.ordered[row] == (known and max(cations, default=-math.inf) < min(anions, default=math.inf))
        costs = [tables.mismatch[s, xs[s], 8 + qs[s]] for s in places]
        worst = math.nan if any(math.isnan(c) for c in costs) else max(costs)
        assert found.mismatch[row] == pytest.approx(worst, nan_ok=True, abs=0.0)
        pairs = {(int(tables.old_ion[s]), xs[s], qs[s]): s for s in reversed(places)}
        product = math.prod(tables.probability[s, xs[s], 8 + qs[s]] for s in pairs.values())
        # the factors are multiplied in another order
        assert found.probability[row] == pytest.approx(product, rel=1e-12)


def test_an_anion_less_electronegative_than_a_cation_is_out_of_order():
    # closed form: two ions, chi 1.0 and 3.0
    tables = tables_of(np.random.default_rng(0), 2, 3)._replace(electronegativity=np.array([2.0, 1.0, 3.0]))
    charges = np.array([[1, -1], [-1, 1]])
    assert measure_assignments(np.array([[1, 2], [1, 2]]), charges, tables).ordered.tolist() == [True, False]


def test_compositions_are_reduced_and_ordered():
    # elements 2 and 0 on slots of 2, 4 and 6 atoms; rank puts 2 first
    found, amounts = compositions(np.array([[2, 0, 2], [1, 1, 1]]), np.array([2, 4, 6]), np.array([9, 5, 1]))
    assert found.tolist() == [[2, 0], [1, -1]]
    assert amounts.tolist() == [[2, 1], [1, 0]]


def test_formulas_are_pymatgens():
    chance = random.Random(11)
    numbers = [z for z in range(1, 104) if not Element.from_Z(z).is_noble_gas]
    salts = [[3, 8], [11, 8], [1, 8], [17, 17], [3, 15], [12, 7]]
    for slots in (2, 3, 4, 6):
        amounts = [chance.choice([1, 2, 3, 4, 6, 12]) for _ in range(slots)]
        rows = [[chance.choice(numbers) for _ in range(slots)] for _ in range(300)]
        rows += [[*salt, *(chance.choice([8, 9, 17]) for _ in range(slots - 2))] for salt in salts]
        for equal in ([1] * slots, amounts):
            pretty, plain, chemsys = formulas(np.array(rows), np.array(equal))
            for row, one, two, three in zip(rows, pretty, plain, chemsys, strict=True):
                composition = Composition()
                for z, n in zip(row, equal, strict=True):
                    composition += Composition({Element.from_Z(z): n})
                reduced = composition.reduced_composition
                assert one == composition.reduced_formula
                amounts_of = [(e.symbol, int(n)) for e, n in sorted(reduced.items(), key=lambda i: i[0])]
                assert two == "".join(symbol + (str(n) if n > 1 else "") for symbol, n in amounts_of)
                assert three == composition.chemical_system


def test_nothing_gives_nothing():
    assert formulas(np.zeros((0, 2), dtype=np.int64), np.array([1, 1])) == ([], [], [])


def test_formulas_of_several_prototypes_are_those_of_each():
    chance = np.random.default_rng(3)
    jobs = [
        (chance.integers(1, 104, (m, slots)), chance.integers(1, 13, slots)) for m, slots in ((5, 2), (0, 3), (9, 5))
    ]
    each = [formulas(*job) for job in jobs]
    together = formula_columns([reduced(*job) for job in jobs])
    for column, parts in zip(together, zip(*each, strict=True), strict=True):
        assert column.to_pylist() == [text for part in parts for text in part]
