"""Time hull distances and windows against pymatgen, on the real table, in one run on one core.

Both sides start from the table in memory and build what they need: ionsieve puts each chemical system together from
its index, pymatgen builds a ``PhaseDiagram`` a chemical system from entries that are ready. The candidates are the
same, and their results are compared. ``--facets`` times the ways to find a hull energy instead: the simplex method
with more or fewer remembered facets, all facets by Qhull beforehand, and HiGHS.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from kernels.hull import lower_hull
from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key, reduced_formula
from pipeline.reference.phase_system import PhaseSystem
from pipeline.reference.tables import read_phase_table

ANIONS = ("O", "S", "Se", "N", "F", "Cl", "Br", "I")
SAME_ENERGY, SAME_VOLTAGE = 1e-6, 1e-6  # eV/atom, V
METALS = ("Li", "Na", "K", "Mg", "Ca", "Zn", "Al", "Y", "Sc", "In", "Zr", "La", "Ga", "Ge", "P", "Si", "Ti", "Fe")


def main() -> int:
    options = _options()
    root = Path(options.data) / "data" / "materials_project"
    started = time.perf_counter()
    reference = PhaseReference.from_table(
        root / "phases.csv.gz", elemental_references=root / "elemental_references.csv"
    )
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, one core")
    print(f"table of {len(reference)} compositions loaded in {time.perf_counter() - started:.2f} s")
    compile_kernels()
    if options.facets:
        return compare_facets(reference, options)
    return compare_with_pymatgen(root, reference, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--systems", type=int, default=500)
    parser.add_argument("--windows", type=int, default=500, help="candidates whose window is timed too")
    parser.add_argument("--facets", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def compile_kernels() -> None:
    """Numba compiles on first use and keeps the result on disk: not what is timed."""
    two = PhaseReference({composition_key("LiCl"): -2.0}, elements=("Li", "Cl"))
    two.energy_above_hull(["LiCl"], [-2.0])
    two.electrochemical_window("LiCl")


def candidates(options: argparse.Namespace) -> list[tuple[str, float]]:
    """Compositions as a campaign's: one or two anions and two to four metals, lithium or sodium among them."""
    rng = np.random.default_rng(options.seed)
    systems: dict[tuple[str, ...], None] = {}
    while len(systems) < options.systems:
        metals = rng.choice(METALS, size=int(rng.integers(2, 5)), replace=False).tolist()
        anions = rng.choice(ANIONS, size=int(rng.integers(1, 3)), replace=False).tolist()
        if set(metals) & {"Li", "Na"} and len(metals) + len(anions) <= 5:
            systems[tuple(sorted([*metals, *anions]))] = None
    chosen = list(systems)
    rows = []
    for i in range(options.candidates):
        elements = chosen[i % len(chosen)]
        formula = "".join(f"{e}{rng.integers(1, 13)}" for e in elements)
        rows.append((reduced_formula(composition_key(formula)), float(rng.normal(-1.5, 0.5))))
    return rows


def compare_with_pymatgen(root: Path, reference: PhaseReference, options: argparse.Namespace) -> int:
    rows = candidates(options)
    formulas, energies = [f for f, _ in rows], [e for _, e in rows]
    started = time.perf_counter()
    ours = reference.energy_above_hull(formulas, energies)
    our_time = time.perf_counter() - started

    entries = {
        key: PDEntry(Composition(dict(key)), energy * sum(n for _, n in key))
        for key, energy in read_phase_table(root / "phases.csv.gz").energies.items()
    }
    by_elements: dict[frozenset[str], list[PDEntry]] = {}
    for key, entry in entries.items():
        by_elements.setdefault(frozenset(symbol for symbol, _ in key), []).append(entry)
    peers = [(frozenset(e.symbol for e in Composition(f).elements), Composition(f)) for f in formulas]
    tested = [PDEntry(c, e * c.num_atoms) for (_, c), e in zip(peers, energies, strict=True)]

    started = time.perf_counter()
    diagrams: dict[frozenset[str], PhaseDiagram] = {}
    theirs = np.empty(len(tested))
    for i, ((elements, _), entry) in enumerate(zip(peers, tested, strict=True)):
        if elements not in diagrams:
            diagrams[elements] = diagram_of(elements, by_elements)
        theirs[i] = diagrams[elements].get_decomp_and_e_above_hull(entry, allow_negative=True)[1]
    their_time = time.perf_counter() - started
    worst = float(np.abs(ours - theirs).max())
    print(
        f"energy above hull, {len(rows)} candidates in {len(diagrams)} chemical systems, building included:\n"
        f"  ionsieve {our_time:8.2f} s ({1e6 * our_time / len(rows):.0f} us a candidate)\n"
        f"  pymatgen {their_time:8.2f} s ({1e6 * their_time / len(rows):.0f} us a candidate)\n"
        f"  ratio    {their_time / our_time:8.0f}; largest difference {worst:.1e} eV/atom"
    )
    volts = compare_windows(reference, rows[: options.windows], diagrams, peers)
    return int(not (worst <= SAME_ENERGY and volts <= SAME_VOLTAGE))


def diagram_of(elements: frozenset[str], by_elements: dict[frozenset[str], list[PDEntry]]) -> PhaseDiagram:
    """Pymatgen's diagram of a chemical system, from entries that are ready."""
    members = [PDEntry(Composition(e), 0.0) for e in sorted(elements)]
    for size in range(2, len(elements) + 1):
        for part in combinations(sorted(elements), size):
            members.extend(by_elements.get(frozenset(part), ()))
    return PhaseDiagram(members)


def compare_windows(
    reference: PhaseReference,
    rows: list[tuple[str, float]],
    diagrams: dict[frozenset[str], PhaseDiagram],
    peers: list[tuple[frozenset[str], Composition]],
) -> float:
    """Windows on the hull; pymatgen's diagrams are built already and not timed. Returns the largest difference, V."""
    ions = ["Li" if "Li" in elements else "Na" for elements, _ in peers[: len(rows)]]
    started = time.perf_counter()
    ours = [reference.electrochemical_window(f, ion) for (f, _), ion in zip(rows, ions, strict=True)]
    our_time = time.perf_counter() - started
    started = time.perf_counter()
    theirs = [
        diagrams[elements].get_element_profile(Element(ion), composition)
        for (elements, composition), ion in zip(peers[: len(rows)], ions, strict=True)
    ]
    their_time = time.perf_counter() - started
    differences = []
    for window, profile in zip(ours, theirs, strict=True):
        below = next(row for row in profile if row["evolution"] < -1e-4)
        differences.append(window.oxidation_limit + below["chempot"])
    worst = float(np.abs(differences).max())
    print(
        f"electrochemical window, {len(rows)} candidates, diagrams built before:\n"
        f"  ionsieve {our_time:8.2f} s ({1e6 * our_time / len(rows):.0f} us a candidate)\n"
        f"  pymatgen {their_time:8.2f} s ({1e6 * their_time / len(rows):.0f} us a candidate)\n"
        f"  ratio    {their_time / our_time:8.0f}; largest difference of the oxidation limit {worst:.1e} V"
    )
    return worst


def compare_facets(reference: PhaseReference, options: argparse.Namespace) -> int:
    """Microseconds a candidate by the number of candidates that share a system."""
    rng = np.random.default_rng(options.seed)
    systems = [
        ("Li", "Y", "Cl"),
        ("Li", "Na", "Y", "Cl"),
        ("Fe", "Li", "O", "P"),
        ("Ge", "Li", "O", "P", "S"),
        ("Al", "Fe", "Li", "O", "P", "Si"),
        ("Al", "Fe", "Li", "Na", "O", "P", "Si"),
    ]
    kept = (0, 64, 256, 1024, 4096)
    print("microseconds a candidate; qhull: all facets beforehand, then barycentric search; highs: one program each")
    print(f"{'system':>22} {'phases':>6} {'candidates':>10} " + " ".join(f"{f'kept {k}':>9}" for k in kept), end="")
    print(f" {'qhull':>9} {'highs':>9}")
    for elements in systems:
        system = reference.system(elements)
        for count in (20, 1000, 20_000):
            amounts = rng.integers(1, 25, size=(count, len(elements))).astype(float)
            targets = amounts / amounts.sum(axis=1, keepdims=True)
            times = [_timed(lower_hull, system.fractions, system.energies, targets, k)[0] for k in kept]
            eager, energies = _timed(by_qhull, system, targets)
            difference = np.abs(energies - system.hull_energies(targets)).max()
            assert difference < 1e-6, difference
            few = targets[: min(count, 50)]
            highs = _timed(by_highs, system, few)[0] * count / len(few)
            print(f"{'-'.join(elements):>22} {len(system.keys):>6} {count:>10} ", end="")
            print(" ".join(f"{1e6 * t / count:>9.1f}" for t in [*times, eager, highs]))
    return 0


def _timed(function, *arguments):  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - started, result


def by_qhull(system: PhaseSystem, targets: np.ndarray) -> np.ndarray:
    """Hull energies from all lower facets, as NumPy barycentric coordinates."""
    points = np.column_stack([system.fractions[:, 1:], system.energies])
    hull = ConvexHull(np.vstack([points, [*points[:, :-1].mean(axis=0), 10.0]]))
    facets = hull.simplices[hull.equations[:, -2] < -1e-12]
    facets = facets[(facets < len(points)).all(axis=1)]
    corners = system.fractions[facets]  # (f, n, n), a row a phase
    sound = np.abs(np.linalg.det(corners)) > 1e-12
    facets, inverses = facets[sound], np.linalg.inv(corners[sound])
    energies = np.empty(len(targets))
    for t, target in enumerate(targets):
        amounts = target @ inverses
        inside = int(np.argmax(amounts.min(axis=1)))
        energies[t] = amounts[inside] @ system.energies[facets[inside]]
    return energies


def by_highs(system: PhaseSystem, targets: np.ndarray) -> np.ndarray:
    """Hull energies by HiGHS, one linear program each."""
    return np.array(
        [
            linprog(system.energies, A_eq=system.fractions.T, b_eq=t, bounds=(0, None), method="highs-ds").fun
            for t in targets
        ]
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="pymatgen")
    sys.exit(main())
