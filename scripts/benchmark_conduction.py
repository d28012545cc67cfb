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
from pathlib import Path

import numpy as np
from conduction_agreement import CAP, OLIVINE, barriers_text, compare_with_peer
from conduction_peer import neighbours_needed, peer_energies
from pymatgen.core import Structure

from kernels.percolation import percolation
from pipeline.conduction_paths import IonLandscape
from pipeline.oxidation_states import charged_species
from pipeline.reference.bond_valence import Ion
from pipeline.reference.labelled_crystals import read_structures
from pipeline.saddles import refined_percolation
from pipeline.site_energies import framework_ions, grid_shape, landscape

INVARIANCE = (OLIVINE, "mp-2530", "mp-27920")
"""LiFePO4, Li2Te and Li8CoO6."""
PARTS = ("agreement", "timing", "cost", "invariance")
DEFAULT_NEIGHBOURS = 100
"""That bvlain keeps unless told otherwise."""
REPEATS = 3
"""The fastest counts, on both sides."""


def olivine(options: argparse.Namespace) -> Structure:
    path = Path(options.data) / "data" / "materials_project" / "structures_observed.parquet"
    ((_, structure),) = read_structures([path], [OLIVINE])
    structure.add_oxidation_state_by_element({"Li": 1, "Fe": 2, "P": 5, "O": -2})
    return structure


def _timed(structure: Structure, shape: tuple[int, int, int], threads: int, use_symmetry: bool) -> float:
    started = time.perf_counter()
    framework = framework_ions(structure, charged_species(structure), {"Li"})
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
    print(f"The fastest of {REPEATS} on both sides; k = {DEFAULT_NEIGHBOURS}: the peer as it is by default.")
    peer_energies(small, "Li", 0.4, DEFAULT_NEIGHBOURS)  # imports and caches of its own
    print(
        f"{'atoms':>5} {'spacing':>7} {'points':>9} {'ours':>8} {'no sym':>8} {'1 thread':>8} {'peer':>8} {'ratio':>7} "
        f"{f'k = {DEFAULT_NEIGHBOURS}':>8} {'ratio':>7}",
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
            few = _peer_seconds(structure, spacing, DEFAULT_NEIGHBOURS, shape, complete=False)
            every = _peer_seconds(structure, spacing, k, shape, complete=True) if fits else math.nan
            ours, plain, single = (
                min(_timed(structure, shape, threads, symmetry) for _ in range(REPEATS))
                for threads, symmetry in ((2, True), (2, False), (1, False))
            )
            print(
                f"{len(structure):>5} {spacing:>7} {points:>9} {ours:>8.3f} {plain:>8.3f} {single:>8.3f} "
                f"{every:>8.1f} {every / ours:>7.0f} {few:>8.1f} {few / ours:>7.0f} {1e6 * ours / points:>17.2f} "
                f"{1e6 * plain / points:>7.2f} {1e6 * every / points:>7.1f}",
                flush=True,
            )
    print(f"nan: all {k} neighbours need more memory than --memory")


def _peer_seconds(
    structure: Structure, spacing: float, k: int, shape: tuple[int, int, int], *, complete: bool
) -> float:
    """The peer's fastest; it must keep all neighbours, or not, and have the same grid."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        peer, energies = peer_energies(structure, "Li", spacing, k)
        seconds.append(time.perf_counter() - started)
        assert peer.complete == complete
        assert energies.shape == shape
        del peer, energies
    return min(seconds)


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
    refined = refined_percolation(IonLandscape(ion, 1.0, matrix, framework, energies), found)
    return np.array([found.thresholds, refined.thresholds])


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
                    f"{place} {name:>7} {barriers_text(tuple(base[kind])):>23} "
                    f"{1e3 * np.abs(permuted[kind]).max():>7.0e} {1e3 * np.abs(doubled[kind]).max():>7.0e} "
                    f"{worst[kind, 0]:>8.1f} {worst[kind, 1]:>7.1f} {worst[kind, 2]:>7.1f}",
                    flush=True,
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument("--spacing", type=float, default=0.4, help="of the agreement, Å")
    parser.add_argument("--moves", type=int, default=5, help="random translations for each spacing")
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that the peer may take")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.parts = options.parts or PARTS
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
