"""Competing phases: reading, hull distance against pymatgen, degenerate cases."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key, reduced_formula
from pipeline.reference.tables import read_elemental_references, read_phase_table

# Both solve the same linear program in double precision; HiGHS' feasibility tolerance is 1e-7.
SAME_ENERGY = 1e-6
ELEMENTS = ("Li", "Y", "S", "Cl", "Br")


def random_reference(seed: int = 3, phases: int = 120) -> PhaseReference:
    rng = np.random.default_rng(seed)
    energies = {}
    for _ in range(phases):
        chosen = rng.choice(ELEMENTS, size=int(rng.integers(2, 5)), replace=False)
        formula = "".join(f"{e}{rng.integers(1, 6)}" for e in chosen)
        energies[composition_key(formula)] = float(rng.normal(-1.0, 0.6))
    return PhaseReference(energies, elements=ELEMENTS)


def random_formulas(seed: int, count: int, elements: tuple[str, ...] = ELEMENTS) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        "".join(
            f"{e}{rng.integers(1, 7)}"
            for e in rng.choice(elements, size=int(rng.integers(2, min(6, len(elements) + 1))), replace=False)
        )
        for _ in range(count)
    ]


def pymatgen_diagram(reference: PhaseReference, elements: list[str]) -> PhaseDiagram:
    system = reference.system(elements)
    return PhaseDiagram(
        [
            PDEntry(Composition(dict(key)), energy * sum(amount for _, amount in key))
            for key, energy in zip(system.keys, system.energies, strict=True)
        ]
    )


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_two_phases_on_a_line_closed_form() -> None:
    reference = PhaseReference({composition_key("LiCl"): -2.0, composition_key("YCl3"): -2.4})
    # Li3YCl6 = 3 LiCl + YCl3: 6 of 10 atoms in LiCl.
    assert reference.hull_energy("Li3YCl6") == pytest.approx(0.6 * -2.0 + 0.4 * -2.4, abs=1e-9)
    assert reference.decomposition("Li3YCl6") == pytest.approx({"LiCl": 0.6, "YCl3": 0.4})
    above = reference.energy_above_hull(["Li3YCl6", "LiCl", "LiCl"], [-2.16, -2.0, -2.25])
    np.testing.assert_allclose(above, [0.0, 0.0, -0.25], atol=1e-9)


def test_hull_distance_equals_pymatgen_on_random_tables() -> None:
    reference = random_reference()
    formulas = random_formulas(5, 60)
    energies = np.random.default_rng(0).normal(-1.0, 0.5, len(formulas))
    ours = reference.energy_above_hull(formulas, energies)
    for formula, energy, above in zip(formulas, energies, ours, strict=True):
        composition = Composition(formula)
        diagram = pymatgen_diagram(reference, [e.symbol for e in composition.elements])
        assert above == pytest.approx(energy - diagram.get_hull_energy_per_atom(composition), abs=SAME_ENERGY)


def test_decomposition_conserves_the_atoms_and_has_the_hull_energy() -> None:
    reference = random_reference()
    for formula in random_formulas(6, 30):
        parts = reference.decomposition(formula)
        whole = Composition(formula).fractional_composition
        mixed = sum((Composition(f).fractional_composition * x for f, x in parts.items()), Composition())
        assert mixed.almost_equals(whole, rtol=1e-6, atol=1e-9)
        energy = sum(x * reference.hull_energy(f) for f, x in parts.items())
        assert energy == pytest.approx(reference.hull_energy(formula), abs=SAME_ENERGY)


def test_candidates_do_not_compete_with_each_other() -> None:
    reference = random_reference()
    alone = reference.energy_above_hull(["Li3YCl6"], [-1.0])[0]
    assert reference.energy_above_hull(["Li3YCl6", "Li3YCl6"], [-1.0, -9.0])[0] == alone


def test_elements_are_zero_by_definition() -> None:
    reference = random_reference()
    np.testing.assert_allclose(reference.energy_above_hull(["Li", "Cl2"], [0.1, 0.0]), [0.1, 0.0], atol=1e-12)
    assert reference.contains("Cl2")
    assert not reference.contains("Na")


def test_unknown_element_is_named() -> None:
    with pytest.raises(ValueError, match="element Xe has no reference energy"):
        random_reference().energy_above_hull(["XeCl2", "LiCl"], [-1.0, -2.0])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="2 formulas"):
        random_reference().energy_above_hull(["LiCl", "YCl3"], [-1.0])


@pytest.mark.parametrize(
    ("formula", "key"),
    [
        ("Li2Cl2", (("Cl", 1), ("Li", 1))),
        ("NaN", (("N", 1), ("Na", 1))),
        ("Ca(OH)2", (("Ca", 1), ("H", 2), ("O", 2))),
        ("Na3(Zr(PO4)2)2Cl", (("Cl", 1), ("Na", 3), ("O", 16), ("P", 4), ("Zr", 2))),
        ("Li0.5Cl0.5", (("Cl", 1), ("Li", 1))),
        ("Cl2", (("Cl", 1),)),
    ],
)
def test_composition_key(formula: str, key: tuple[tuple[str, int], ...]) -> None:
    assert composition_key(formula) == key
    assert composition_key(reduced_formula(key)) == key


@pytest.mark.parametrize("bad", ["", "Xx2O", "li2o", "nan", "Li2O)", "(Li2O", "()2", "Li0"])
def test_no_formula(bad: str) -> None:
    with pytest.raises(ValueError, match=r"formula|element"):
        composition_key(bad)


def test_table_keeps_the_lowest_and_reads_sodium_nitride(tmp_path: Path) -> None:
    text = "formula,formation_energy_per_atom,note\nNaN,-0.1,\nLi3N,-0.40,a\nLi6N2,-0.44,b\nLi3N,-0.30,c\n"
    reference = PhaseReference.from_table(write(tmp_path / "t.csv", text))
    assert len(reference) == 2
    assert reference.contains("NaN")
    assert reference.hull_energy("Li3N") == pytest.approx(-0.44)
    assert reference.scheme == "mp2020"


def test_compressed_table_and_digest(tmp_path: Path) -> None:
    text = "formula,formation_energy_per_atom\nLiCl,-2.0\n"
    plain = PhaseReference.from_table(write(tmp_path / "t.csv", text))
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert PhaseReference.from_table(packed).hull_energy("LiCl") == plain.hull_energy("LiCl")
    other = PhaseReference.from_table(write(tmp_path / "u.csv", text.replace("2.0", "2.1")))
    assert len(plain.digest) == 64
    assert other.digest != plain.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("formula,formation_energy_per_atom\nLiCl,-2.0\nLi2S,minus one\n", r"t\.csv, line 3: .*'minus one'"),
        ("formula,formation_energy_per_atom\nLiCl,nan\n", r"t\.csv, line 2: .*'nan'"),
        ("formula,formation_energy_per_atom\nQq2O,-1.0\n", r"t\.csv, line 2: unknown element 'Qq'"),
        ("formula,formation_energy_per_atom\nLiCl,-2.0\nLi2S\n", r"t\.csv, line 3: 1 values where 2"),
        ("formula,energy\nLiCl,-2.0\n", r"t\.csv: column formation_energy_per_atom is missing"),
        ("formula,formation_energy_per_atom\n", r"t\.csv holds no rows"),
        ("formula,formation_energy_per_atom\nLi,-0.2\n", r"line 2: element Li has formation energy -0.2"),
        ("formula,formation_energy_per_atom,scheme\nLiCl,-2,a\nLiF,-3,b\n", r"mixes energy schemes"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhaseReference.from_table(write(tmp_path / "t.csv", text))


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    text = "formula,formation_energy_per_atom\nQq2O,-1.0\nLiF,-3\nLiCl,much\nLi,-0.2\nNaCl,-2000\n"
    with pytest.raises(ValueError, match=r"line 2: .*Qq.*; line 4: .*'much'; line 5: .*element Li .*; line 6: .*-2000"):
        PhaseReference.from_table(write(tmp_path / "t.csv", text))
    text = "element,energy_per_atom\nQq,-1\nLi,x\nNa,-1\nNa,-1\n"
    with pytest.raises(ValueError, match=r"line 2: 'Qq' is no element; line 3: .*'x'; line 5: element Na occurs twice"):
        read_elemental_references(write(tmp_path / "e.csv", text))


def test_truncated_or_missing_files_are_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"formula,formation_energy_per_atom\n" + b"LiCl,-2.0\n" * 1000)
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.csv\.gz can't be read, or is truncated"):
        PhaseReference.from_table(path)
    with pytest.raises(ValueError, match=r"absent\.csv can't be read"):
        PhaseReference.from_table(tmp_path / "absent.csv")


def test_elemental_references_decide_on_the_elements(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "formula,formation_energy_per_atom\nLiCl,-2.0\nNaCl,-2.1\n")
    elements = write(tmp_path / "e.csv", "element,energy_per_atom\nLi,-1.9\nCl,-1.8\n")
    reference = PhaseReference.from_table(table, elemental_references=elements)
    assert reference.elemental_energies == {"Li": -1.9, "Cl": -1.8}
    with pytest.raises(ValueError, match="element Na has no reference energy"):
        reference.hull_energy("NaCl")
    twice = write(tmp_path / "twice.csv", "element,energy_per_atom\nLi,-1.9\nLi,-1.8\n")
    with pytest.raises(ValueError, match=r"twice\.csv, line 3: element Li occurs twice"):
        PhaseReference.from_table(table, elemental_references=twice)


def test_schemes_are_not_mixed(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "formula,formation_energy_per_atom,scheme\nLiCl,-2.0,self:CHGNet\n")
    assert PhaseReference.from_table(path).scheme == "self:CHGNet"
    with pytest.raises(ValueError, match="declares scheme 'self:CHGNet', but 'mp2020'"):
        PhaseReference.from_table(path, scheme="mp2020")


@pytest.fixture(scope="module")
def materials_project() -> PhaseReference:
    root = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project"
    return PhaseReference.from_table(root / "phases.csv.gz", elemental_references=root / "elemental_references.csv")


@pytest.mark.data
def test_real_table_loads(materials_project: PhaseReference) -> None:
    assert len(materials_project) == 95271
    assert materials_project.contains("NaN3")


@pytest.mark.data
def test_real_hull_distances_equal_pymatgen(materials_project: PhaseReference) -> None:
    elements = ("Li", "Na", "Y", "Zr", "P", "S", "O", "Cl", "Br")
    for formula in random_formulas(8, 150, elements):
        composition = Composition(formula)
        diagram = pymatgen_diagram(materials_project, [e.symbol for e in composition.elements])
        expected = diagram.get_hull_energy_per_atom(composition)
        assert materials_project.hull_energy(formula) == pytest.approx(expected, abs=SAME_ENERGY)


def test_further_phases_compete() -> None:
    table = {composition_key("LiCl"): -2.0}
    reference = PhaseReference(table, elements=("Li", "Cl", "Na"))
    together = reference.with_phases(["NaCl", "Li2NaCl3", "LiCl"], [-2.1, -2.05, -1.0])
    # Li2NaCl3 = 2/3 LiCl + 1/3 NaCl by atoms: the hull there is -2.0333 without it, and itself at -2.05.
    assert together.energy_above_hull(["Li2NaCl3", "LiCl"], [-2.05, -2.0]).tolist() == pytest.approx([0.0, 0.0])
    assert together.energy_above_hull(["Li2NaCl3"], [-2.0])[0] == pytest.approx(0.05)
    assert not reference.contains("NaCl")  # the reference itself is unchanged


def test_degenerate_compositions() -> None:
    reference = PhaseReference(
        {composition_key("LiCl"): -2.0, composition_key("YCl3"): -2.4, composition_key("Li3YCl6"): -2.16},
        elements=("Li", "Y", "Cl"),
    )
    # Li3YCl6 lies on the tie line of the two salts to the last digit; LiCl is a phase itself, twice in one call.
    formulas = ["Li3YCl6", "LiCl", "Li2Cl2", "Li4YCl7", "Li", "Y"]
    above = reference.energy_above_hull(formulas, [-2.16, -2.0, -1.9, -2.0, 0.05, 0.0])
    np.testing.assert_allclose(above, [0.0, 0.0, 0.1, -2.0 - (10 * -2.16 + 2 * -2.0) / 12, 0.05, 0.0], atol=1e-9)
    parts = reference.decomposition("Li3YCl6")
    whole = sum((Composition(f).fractional_composition * x for f, x in parts.items()), Composition())
    assert whole.almost_equals(Composition("Li3YCl6").fractional_composition)
    assert reference.decomposition("Cl2") == {"Cl2": 1.0}


def test_no_candidates() -> None:
    assert random_reference().energy_above_hull([], []).shape == (0,)


def leave_one_out(reference: PhaseReference, formula: str) -> PhaseReference:
    """The chemical system of a phase, without it."""
    system = reference.system(symbol for symbol, _ in composition_key(formula))
    kept = {
        key: energy
        for key, energy in zip(system.keys, system.energies.tolist(), strict=True)
        if len(key) > 1 and key != composition_key(formula)
    }
    return PhaseReference(kept, elements=system.elements)


@pytest.mark.data
def test_leave_one_out_of_stable_phases_equals_pymatgen(materials_project: PhaseReference) -> None:
    """A stable phase lies below the hull of all others, as far as pymatgen says.

    (``get_equilibrium_reaction_energy`` is another number: it leaves out phases that are stable only without it.)
    """
    root = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project"
    energies = read_phase_table(root / "phases.csv.gz").energies
    keys = [key for key in energies if 2 <= len(key) <= 4]
    below = checked = 0
    for i in np.random.default_rng(11).permutation(len(keys)).tolist():
        formula, energy = reduced_formula(keys[i]), energies[keys[i]]
        if energy - materials_project.hull_energy(formula) > 1e-9:
            continue
        others = leave_one_out(materials_project, formula)
        ours = others.energy_above_hull([formula], [energy])[0]
        entry = PDEntry(Composition(formula), energy * Composition(formula).num_atoms)
        diagram = pymatgen_diagram(others, [symbol for symbol, _ in keys[i]])
        theirs = diagram.get_decomp_and_e_above_hull(entry, allow_negative=True)[1]
        assert ours == pytest.approx(theirs, abs=SAME_ENERGY)
        below += ours < 0.0
        checked += 1
        if checked == 40:
            break
    assert below == 40
