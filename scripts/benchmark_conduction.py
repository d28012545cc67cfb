"""Compare bond-valence energies and barriers with bvlain, in one run: agreement, time, invariance.

``agreement``: real crystals of the Materials Project, the peer with all neighbours, on the peer's own grid; where the
two differ, a plain NumPy sum over images and a flood with bisection decide. ``timing``: LiFePO4 with 28 and 112
atoms. ``cost``: CPU seconds against grid points. ``invariance``: the barriers when the cell is turned, permuted,
doubled, moved, or the grid is refined.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure
from scipy.special import erfc

from kernels.bond_valence import COULOMB_CONSTANT
from kernels.percolation import percolation, percolation_thresholds
from pipeline.conduction_paths import IonLandscape
from pipeline.oxidation_states import charged_species
from pipeline.reference.bond_valence import Ion, MissingBondValenceParameterError, morse_pair, screening_parameters
from pipeline.reference.labelled_crystals import read_structures
from pipeline.saddles import refined_thresholds
from pipeline.site_energies import SCREENING_FACTOR, FrameworkIon, framework_ions, grid_shape, landscape

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecated SciPy names and escapes
    from bvlain import Lain

OLIVINE = "mp-19017"
INVARIANCE = (OLIVINE, "mp-2530", "mp-27920")
"""LiFePO4, Li2Te and Li8CoO6."""
CUTOFF = 10.0
CAP = 10.0
DEFAULT_NEIGHBOURS = 100
"""That bvlain keeps unless told otherwise."""
SIZES = (12, 28, 60)
"""Upper bounds of three classes of size, atoms; each gives a third of the structures."""


class FullPeer(Lain):  # type: ignore[misc]
    """The peer, told whether it kept all neighbours that it found."""

    complete = False

    def _neighbors(self, **arguments: Any) -> Any:
        found = super()._neighbors(**arguments)
        self.complete = bool(np.isinf(found[1][:, -1]).all())
        return found


def peer_energies(structure: Structure, element: str, spacing: float, k: int) -> tuple[FullPeer, np.ndarray]:
    """The peer and its energies, without the far faces, which repeat the near ones."""
    peer = FullPeer(verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # divisions by zero
        peer.read_structure(structure, oxi_check=False)
        peer.bvse_distribution(
            mobile_ion=f"{element}1+", r_cut=CUTOFF, resolution=spacing, k=k, use_softbv_covalent_radii=True
        )
    return peer, peer.data[:-1, :-1, :-1]


def neighbours_needed(structure: Structure, framework: list[FrameworkIon]) -> int:
    """More than any point has: the mean number within the cutoff and a margin, checked by FullPeer."""
    return int(1.15 * len(framework) / structure.volume * 4.0 / 3.0 * math.pi * CUTOFF**3) + 20


def naive_energies(structure: Structure, framework: list[FrameworkIon], ion: Ion, fractions: np.ndarray) -> np.ndarray:
    """Energies at some points by the textbook formulas, over all images in a block that holds the cutoff sphere."""
    lattice = structure.lattice.matrix
    far = np.ceil(CUTOFF * np.linalg.norm(np.linalg.inv(lattice), axis=0)).astype(int) + 1
    images = np.array(np.meshgrid(*[np.arange(-n, n + 1) for n in far], indexing="ij")).reshape(3, -1).T
    own = screening_parameters(ion)
    energies = np.zeros(len(fractions))
    for site in framework:
        vectors = (np.array(site.frac_coords) % 1.0 + images)[None] - fractions[:, None]
        r = np.maximum(np.linalg.norm(vectors @ lattice, axis=2), 1e-3)
        if site.ion.charge * ion.charge < 0:
            pair = morse_pair(ion, site.ion)
            terms = 0.5 * pair.d0 * ((np.exp(pair.alpha * (pair.r_min - r)) - 1.0) ** 2 - 1.0)
        else:
            other = screening_parameters(site.ion)
            n12 = math.sqrt(own.principal_quantum_number * other.principal_quantum_number)
            length = SCREENING_FACTOR * (own.covalent_radius + other.covalent_radius)
            terms = COULOMB_CONSTANT * ion.charge * site.ion.charge / n12 / r * erfc(r / length)
        energies += site.occupancy * np.where(r < CUTOFF, terms, 0.0).sum(axis=1)
    return energies


def flood_dimensions(allowed: np.ndarray) -> int:
    """Largest rank of the winding vectors of a connected region, by a breadth-first walk in unwrapped indices."""
    shape = np.array(allowed.shape)
    steps = [np.array(s) - 1 for s in np.ndindex(3, 3, 3) if s != (1, 1, 1)]
    cell_of: dict[tuple[int, ...], np.ndarray] = {}
    best = 0
    for start in np.argwhere(allowed):
        if tuple(start) in cell_of:
            continue
        cell_of[tuple(start)] = np.zeros(3, int)
        queue, windings = [start], [np.zeros(3, int)]
        while queue:
            here = queue.pop()
            for step in steps:
                there = here + step
                home = there % shape
                if not allowed[tuple(home)]:
                    continue
                cell = cell_of[tuple(here)] + there // shape
                known = cell_of.get(tuple(home))
                if known is None:
                    cell_of[tuple(home)] = cell
                    queue.append(home)
                elif (known != cell).any():
                    windings.append(cell - known)
        best = max(best, int(np.linalg.matrix_rank(np.unique(windings, axis=0))))
    return best


def flood_barriers(energies: np.ndarray) -> tuple[float, ...]:
    """Barriers by bisection of the flood, to 5 meV."""
    above = energies - energies.min()
    barriers = []
    for dimension in (1, 2, 3):
        low, high = 0.0, CAP
        if flood_dimensions(above <= CAP) < dimension:
            barriers.append(math.inf)
            continue
        while high - low > 0.005:
            middle = (low + high) / 2.0
            low, high = (low, middle) if flood_dimensions(above <= middle) >= dimension else (middle, high)
        barriers.append(high)
    return tuple(barriers)


def charged_crystals(options: argparse.Namespace) -> Iterator[tuple[str, Structure, Ion]]:
    """LiFePO4, then crystals in a seeded order: new framework elements, lithium and sodium in turn, three sizes."""
    import pandas as pd

    path = Path(options.data) / "data" / "materials_project" / "structures_observed.parquet"
    rows = pd.read_parquet(path, columns=["material_id", "species", "n_sites"]).query("n_sites <= @SIZES[-1]")
    elements = rows["species"].map(lambda species: frozenset(str(s) for s in species))
    rows = rows[elements.map(lambda e: ("Li" in e) != ("Na" in e))].sort_values("material_id")
    order = rows["material_id"].sample(frac=1.0, random_state=options.seed)
    taken: set[frozenset[str]] = set()
    room = Counter({(size, ion): -(-options.structures // 6) for size in SIZES for ion in ("Li", "Na")})
    refused: Counter[str] = Counter()
    given = 0
    by_id = dict(read_structures([path], [OLIVINE, *order[: 20 * options.structures]]))
    for material_id in [OLIVINE, *order[: 20 * options.structures]]:
        structure = by_id[material_id]
        symbol = "Li" if "Li" in structure.symbol_set else "Na"
        place = (next(size for size in SIZES if len(structure) <= size), symbol)
        kinds = frozenset(structure.symbol_set) - {symbol}
        if kinds in taken or not room[place]:
            continue
        try:
            charged = charged_species(structure)
            states = [site[0][1] for site in charged]
            if any(q != round(q) for q in states):
                raise ValueError("fractional oxidation state, unknown to the peer")
            structure.add_oxidation_state_by_site(states)
            ion = Ion(symbol, 1)
            landscape(structure.lattice.matrix, framework_ions(structure, charged, {symbol}), ion, (1, 1, 1))
        except (ValueError, MissingBondValenceParameterError) as error:
            refused[type(error).__name__] += 1
            continue
        taken.add(kinds)
        room[place] -= 1
        given += 1
        yield material_id, structure, ion
        if given == options.structures:
            break
    print(f"passed over, by reason: {dict(refused)}")


def compare_with_peer(options: argparse.Namespace) -> int:
    print(f"\nAgreement, spacing {options.spacing} Å, cutoff {CUTOFF} Å. k: neighbours the peer may keep; full: it had")
    print("fewer. dE: largest difference where below 5 eV, meV; snap: change by using symmetry, meV.")
    print(f"{'material':>11} {'formula':>18} {'atoms':>5} {'grid':>9} {'k':>4} full {'dE':>8} {'snap':>8} ", end="")
    print(f"{'barriers 1D 2D 3D, eV':>23} {'peer':>23} {'judged by brute force':>22}")
    bad = 0
    for material_id, structure, ion in charged_crystals(options):
        framework = framework_ions(structure, charged_species(structure), {ion.element})
        k = neighbours_needed(structure, framework)
        peer, theirs = peer_energies(structure, ion.element, options.spacing, k)
        barriers = peer.percolation_barriers(encut=CAP)
        their_barriers = tuple(barriers[f"E_{d}D"] for d in (1, 2, 3))
        lattice, shape = structure.lattice.matrix, theirs.shape
        ours = landscape(lattice, framework, ion, shape, threads=2, use_symmetry=False)
        snapped = landscape(lattice, framework, ion, shape, threads=2)
        low = np.minimum(ours, theirs) < 5.0
        difference = np.abs(ours - theirs)[low].max()
        our_barriers = tuple(percolation_thresholds(snapped, cap=CAP))
        verdict = judge(structure, framework, ion, ours, theirs, our_barriers, their_barriers)
        bad += verdict == "ours is wrong" or not peer.complete
        print(
            f"{material_id:>11} {structure.composition.reduced_formula:>18} {len(structure):>5} "
            f"{'x'.join(map(str, shape)):>9} {k:>4} {'yes' if peer.complete else 'NO':>4} {1e3 * difference:>8.1e} "
            f"{1e3 * np.abs(ours - snapped)[ours < 5.0].max():>8.1e} {_three(our_barriers):>23} "
            f"{_three(their_barriers):>23} {verdict:>22}",
            flush=True,
        )
    print(f"structures where ours is wrong: {bad}")
    return bad


def judge(
    structure: Structure,
    framework: list[FrameworkIon],
    ion: Ion,
    ours: np.ndarray,
    theirs: np.ndarray,
    our_barriers: tuple[float, ...],
    their_barriers: tuple[float, ...],
) -> str:
    """Who is right where energies differ by more than 1 meV or barriers by more than 20 meV."""
    apart = np.argwhere((np.abs(ours - theirs) > 1e-3) & (np.minimum(ours, theirs) < 5.0))[:50]
    if len(apart):
        exact = naive_energies(structure, framework, ion, apart / np.array(ours.shape))
        wrong = np.abs(ours[tuple(apart.T)] - exact).max() > 1e-3
        return "ours is wrong" if wrong else "peer's energies wrong"
    if not np.allclose(our_barriers, their_barriers, rtol=0.0, atol=0.02):
        wrong = not np.allclose(our_barriers, flood_barriers(ours), rtol=0.0, atol=0.006)
        return "ours is wrong" if wrong else "peer's barriers wrong"
    return "agree"


def _three(barriers: tuple[float, ...]) -> str:
    return " ".join(f"{e:7.3f}" for e in barriers)


def olivine(options: argparse.Namespace) -> Structure:
    path = Path(options.data) / "data" / "materials_project" / "structures_observed.parquet"
    ((_, structure),) = read_structures([path], [OLIVINE])
    structure.add_oxidation_state_by_element({"Li": 1, "Fe": 2, "P": 5, "O": -2})
    return structure


def _timed(structure: Structure, shape: tuple[int, int, int], threads: int, use_symmetry: bool) -> float:
    framework = framework_ions(structure, charged_species(structure), {"Li"})
    started = time.perf_counter()
    landscape(structure.lattice.matrix, framework, Ion("Li", 1), shape, threads=threads, use_symmetry=use_symmetry)
    return time.perf_counter() - started


def compare_times(options: argparse.Namespace) -> None:
    small = olivine(options)
    large = small.copy()
    large.make_supercell([2, 2, 1])
    started = time.perf_counter()
    _timed(small, (4, 4, 4), 2, True)
    print(
        f"\nTiming, LiFePO4. Compiling, or reading compiled kernels from disk: {time.perf_counter() - started:.2f} s,"
    )
    print("not counted below. Seconds; ours: 2 threads with symmetry, 2 threads without, 1 thread without.")
    print(
        f"{'atoms':>5} {'spacing':>7} {'points':>9} {'ours':>8} {'no sym':>8} {'1 thread':>8} {'peer':>8} {'ratio':>7}",
        end="",
    )
    print(f" {'us a point: ours':>17} {'no sym':>7} {'peer':>7}")
    for structure in (small, large):
        framework = framework_ions(structure, charged_species(structure), {"Li"})
        k = neighbours_needed(structure, framework)
        for spacing in (0.4, 0.3, 0.2, 0.1):
            shape = tuple(int(length // spacing) - 1 for length in structure.lattice.abc)
            points = math.prod(shape)
            # The peer holds about 14 arrays of points x k numbers; where all neighbours don't fit it keeps its default.
            fits = 14 * 8 * points * k / 2**30 < options.memory
            started = time.perf_counter()
            peer, energies = peer_energies(structure, "Li", spacing, k if fits else DEFAULT_NEIGHBOURS)
            shown = time.perf_counter() - started
            assert peer.complete == fits
            assert energies.shape == shape
            del peer, energies
            ours = min(_timed(structure, shape, 2, True) for _ in range(3))
            plain, single = _timed(structure, shape, 2, False), _timed(structure, shape, 1, False)
            print(
                f"{len(structure):>5} {spacing:>7} {points:>9} {ours:>8.3f} {plain:>8.3f} {single:>8.3f} "
                f"{shown:>7.1f}{' ' if fits else '*'} {shown / ours:>7.0f} {1e6 * ours / points:>17.2f} "
                f"{1e6 * plain / points:>7.2f} {1e6 * shown / points:>7.1f}",
                flush=True,
            )
    print(f"* the peer with its default of {DEFAULT_NEIGHBOURS} neighbours, not all {k}: memory allows no more")


def show_cost(options: argparse.Namespace) -> None:
    structure = olivine(options)
    _timed(structure, (4, 4, 4), 2, True)
    print("\nCost, LiFePO4 with 28 atoms, 2 threads: CPU seconds (what other work on the machine doesn't change).")
    print(f"{'spacing':>7} {'points':>9} {'symmetry':>9} {'us a point':>10} {'no sym':>9} {'us a point':>10}")
    for spacing in (0.4, 0.3, 0.2, 0.15, 0.1, 0.08):
        shape = grid_shape(structure, spacing, {"Li"})
        points = math.prod(shape)
        seconds = []
        for use_symmetry in (True, False):
            started = time.process_time()
            _timed(structure, shape, 2, use_symmetry)
            seconds.append(time.process_time() - started)
        shown = " ".join(f"{t:>9.3f} {1e6 * t / points:>10.2f}" for t in seconds)
        print(f"{spacing:>7} {points:>9} {shown}", flush=True)


def barriers_on(structure: Structure, shape: tuple[int, int, int]) -> np.ndarray:
    """Barriers (2, 3): those of the grid, and refined off it."""
    framework = framework_ions(structure, charged_species(structure), {"Li"})
    matrix, ion = structure.lattice.matrix, Ion("Li", 1)
    energies = landscape(matrix, framework, ion, shape, threads=2)
    found = percolation(energies, cap=CAP, connectivity=26)
    refined = refined_thresholds(IonLandscape(ion, 1.0, matrix, framework, energies), found)
    return np.array([found.thresholds, refined])


def turned(structure: Structure, axes: tuple[int, int, int]) -> Structure:
    """The lattice vectors permuted, and the crystal rotated by an odd angle."""
    angle = 0.7
    rotation = np.array([[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    lattice = structure.lattice.matrix[list(axes)] @ rotation
    return Structure(lattice, structure.species, structure.frac_coords[:, list(axes)])


def show_invariance(options: argparse.Namespace) -> None:
    print("\nInvariance. Barriers 1D 2D 3D of the grid and refined off it, eV; largest changes when the cell is")
    print(f"turned and its axes permuted, when it is doubled, and in {options.moves} moves by part of a step, meV.")
    print(
        f"{'':>10} {'spacing':>7} {'grid':>12} {'':>7} {'barriers':>23} {'turned':>7} {'doubled':>7} {'moved 1D':>8} "
        f"{'2D':>7} {'3D':>7}"
    )
    path = Path(options.data) / "data" / "materials_project" / "structures_observed.parquet"
    rng = np.random.default_rng(options.seed)
    for material_id, structure in read_structures([path], INVARIANCE):
        structure.add_oxidation_state_by_site([site[0][1] for site in charged_species(structure)])
        for spacing in (0.4, 0.3, 0.2, 0.15, 0.1):
            shape = grid_shape(structure, spacing, {"Li"})
            base = barriers_on(structure, shape)
            axes = (2, 0, 1)
            permuted = barriers_on(turned(structure, axes), (shape[2], shape[0], shape[1])) - base
            double = structure.copy()
            double.make_supercell([1, 2, 1])
            doubled = barriers_on(double, (shape[0], 2 * shape[1], shape[2])) - base
            moved = []
            for _ in range(options.moves):
                shifted = structure.copy()
                shifted.translate_sites(range(len(shifted)), rng.uniform(0, 1, 3) / np.array(shape))
                moved.append(np.abs(barriers_on(shifted, shape) - base))
            worst = 1e3 * np.max(moved, axis=0)
            for kind, name in enumerate(("grid", "refined")):
                place = f"{material_id:>10} {spacing:>7} {'x'.join(map(str, shape)):>12}" if kind == 0 else " " * 31
                print(
                    f"{place} {name:>7} {_three(tuple(base[kind])):>23} "
                    f"{1e3 * np.abs(permuted[kind]).max():>7.0e} {1e3 * np.abs(doubled[kind]).max():>7.0e} "
                    f"{worst[kind, 0]:>8.1f} {worst[kind, 1]:>7.1f} {worst[kind, 2]:>7.1f}",
                    flush=True,
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["agreement", "timing", "cost", "invariance"])
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument("--spacing", type=float, default=0.4, help="of the agreement, Å")
    parser.add_argument("--moves", type=int, default=5, help="random translations for each spacing")
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that the peer may take")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}")
    bad = compare_with_peer(options) if "agreement" in options.parts else 0
    if "timing" in options.parts:
        compare_times(options)
    if "cost" in options.parts:
        show_cost(options)
    if "invariance" in options.parts:
        show_invariance(options)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
