"""Check hull distances, decompositions, windows and leave-one-out distances against pymatgen on the real table.

1. Random compositions of 2 to 7 elements: energy above hull, and a decomposition that is the same or of equal energy;
   each also with an energy below the hull, whose distance must be as negative.
2. Random compositions with a mobile ion: the window's limits and products against ``get_element_profile``.
3. Leave one out: stable phases against the hull of all others.

Exit code 1 when anything differs by more than the bounds.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

import numpy as np
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key, reduced_formula
from pipeline.reference.phase_system import PhaseSystem
from pipeline.reference.tables import read_phase_table
from pipeline.reference.window import ION_CHARGES

SAME_ENERGY = 1e-6  # eV/atom
SAME_VOLTAGE = 1e-3  # V
# pymatgen's evolution of the element is rounded to this many ions.
SAME_AMOUNT = 1e-4


def main() -> int:
    options = _options()
    root = Path(options.data) / "data" / "materials_project"
    reference = PhaseReference.from_table(
        root / "phases.csv.gz", elemental_references=root / "elemental_references.csv"
    )
    table = read_phase_table(root / "phases.csv.gz").energies
    rng = np.random.default_rng(options.seed)
    chemsys = sorted({tuple(symbol for symbol, _ in key) for key in table})
    checks = (
        check_distances(reference, chemsys, options.compositions, rng),
        check_windows(reference, chemsys, options.windows, rng),
        check_leave_one_out(reference, table, options.phases, rng),
    )
    return int(not all(checks))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--compositions", type=int, default=2000)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--phases", type=int, default=300, help="stable phases left out in turn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def diagram_of(system: PhaseSystem) -> PhaseDiagram:
    """Pymatgen's phase diagram of the same phases."""
    return PhaseDiagram(
        [
            PDEntry(Composition(dict(key)), energy * sum(n for _, n in key))
            for key, energy in zip(system.keys, system.energies.tolist(), strict=True)
        ]
    )


def random_system(chemsys: list[tuple[str, ...]], size: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Elements of one or more chemical systems of the table, so that there are phases in it."""
    elements: set[str] = set()
    while len(elements) != size:
        more = elements | set(chemsys[rng.integers(len(chemsys))])
        elements = more if len(more) <= size else set()
    return tuple(sorted(elements))


def random_formula(elements: tuple[str, ...], rng: np.random.Generator) -> str:
    """A composition of all the elements, of small whole numbers as candidates have."""
    return reduced_formula(composition_key("".join(f"{e}{rng.integers(1, 13)}" for e in elements)))


def check_distances(
    reference: PhaseReference, chemsys: list[tuple[str, ...]], count: int, rng: np.random.Generator
) -> bool:
    """Distances and decompositions; ten compositions share a chemical system, as pymatgen builds it slowly."""
    differences = []
    different = wrong = phases = 0
    sizes = dict.fromkeys(range(2, 8), 0)
    for number in range(count // 10):
        size = 2 + number % 6
        elements = random_system(chemsys, size, rng)
        system = reference.system(elements)
        phases += len(system.keys)
        diagram = diagram_of(system)
        formulas = [random_formula(elements, rng) for _ in range(10)]
        energies = rng.normal(-1.0, 1.0, 10)
        ours = reference.energy_above_hull(formulas, energies)
        for formula, energy, above in zip(formulas, energies, ours, strict=True):
            sizes[size] += 1
            composition = Composition(formula)
            entry = PDEntry(composition, energy * composition.num_atoms)
            parts, theirs = diagram.get_decomp_and_e_above_hull(entry, allow_negative=True)
            differences.append(above - theirs)
            named = {e.composition.reduced_formula: x for e, x in parts.items() if x > 1e-6}
            own = reference.decomposition(formula)
            if named.keys() != own.keys():
                different += 1
                hull = sum(x * reference.hull_energy(f) for f, x in own.items())
                wrong += abs(hull - (energy - theirs)) > SAME_ENERGY
    worst = np.abs(differences).max()
    good = bool(worst <= SAME_ENERGY and not wrong)
    print(
        f"{sum(sizes.values())} compositions of 2 to 7 elements in {count // 10} chemical systems "
        f"({phases} phases): largest difference of the energy above hull {worst:.1e} eV/atom; "
        f"{different} other decompositions, of which {wrong} have another energy"
    )
    return good


def check_windows(
    reference: PhaseReference, chemsys: list[tuple[str, ...]], count: int, rng: np.random.Generator
) -> bool:
    """Limits and products, above the hull and below it in turn."""
    differences = []
    wrong: list[str] = []
    for number in range(count):
        ion = list(ION_CHARGES)[number % len(ION_CHARGES)]
        elements: tuple[str, ...] = ()
        while ion not in elements:
            elements = random_system(chemsys, int(rng.integers(2, 5)), rng)
        formula = random_formula(elements, rng)
        below = bool(number % 2)
        energy = reference.hull_energy(formula) + (-0.05 if below else 0.05)
        window = reference.electrochemical_window(formula, ion, energy)
        system = reference.system(elements)
        diagram = diagram_of(system.with_phase(composition_key(formula), energy) if below else system)
        reduction, oxidation, reduced, oxidised = element_profile(diagram, Composition(formula), ion)
        differences += [window.reduction_limit - reduction, window.oxidation_limit - oxidation]
        same = set(window.oxidation_products) == oxidised and (
            window.reduction_limit == 0.0 or set(window.reduction_products) == reduced
        )
        if not same:
            wrong.append(f"{formula} ({ion}): {window}, pymatgen {reduction:.3f} {oxidation:.3f} {reduced} {oxidised}")
    worst = np.abs(differences).max()
    print(f"{count} windows: largest difference of a limit {worst:.1e} V; {len(wrong)} with other products")
    for line in wrong:
        print("  " + line)
    return bool(worst <= SAME_VOLTAGE and not wrong)


def element_profile(
    diagram: PhaseDiagram, composition: Composition, ion: str
) -> tuple[float, float, set[str], set[str]]:
    """Limits (V) and products by pymatgen's element profile."""
    profile = diagram.get_element_profile(Element(ion), composition)
    uptake = [row["evolution"] for row in profile]
    at = next(i for i, amount in enumerate(uptake) if amount < SAME_AMOUNT)
    below = next(i for i, amount in enumerate(uptake) if amount < -SAME_AMOUNT)
    zero = diagram.el_refs[Element(ion)].energy_per_atom
    charge = ION_CHARGES[ion]

    def products(i: int) -> set[str]:
        return {e.composition.reduced_formula for e in profile[i]["entries"]} - {ion}

    return (
        -(profile[at]["chempot"] - zero) / charge,
        -(profile[below]["chempot"] - zero) / charge,
        products(at - 1) if at else set(),
        products(below),
    )


def check_leave_one_out(
    reference: PhaseReference, table: dict[tuple[tuple[str, int], ...], float], count: int, rng: np.random.Generator
) -> bool:
    """Stable phases against the hull of all others, pymatgen's diagram built without the phase."""
    keys = [key for key in table if 2 <= len(key) <= 5]
    differences = []
    checked = below = 0
    for i in rng.permutation(len(keys)).tolist():
        key, energy = keys[i], table[keys[i]]
        formula = reduced_formula(key)
        if checked == count:
            break
        if energy - reference.hull_energy(formula) > 1e-9:
            continue
        system = reference.system(symbol for symbol, _ in key)
        kept = [(k, e) for k, e in zip(system.keys, system.energies.tolist(), strict=True) if k != key]
        others = PhaseReference({k: e for k, e in kept if len(k) > 1}, elements=system.elements)
        ours = float(others.energy_above_hull([formula], [energy])[0])
        entry = PDEntry(Composition(formula), energy * Composition(formula).num_atoms)
        theirs = diagram_of(others.system(system.elements)).get_decomp_and_e_above_hull(entry, allow_negative=True)[1]
        differences.append(ours - theirs)
        checked += 1
        below += ours < 0.0
    worst = np.abs(differences).max()
    print(
        f"{checked} stable phases left out in turn: {below} lie below the hull of the others; largest difference "
        f"{worst:.1e} eV/atom"
    )
    return bool(worst <= SAME_ENERGY and checked == count)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="pymatgen")
    sys.exit(main())
