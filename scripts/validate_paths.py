"""Print the ways that the conduction stage finds through four textbook crystals, and what each step and the grid cost.

Rock salt has one pass between neighbouring sites; its cubic and its primitive cell cut that pass unlike.
"""

from __future__ import annotations

import time

from pymatgen.core import Lattice, Structure

from kernels.percolation import percolation
from kernels.site_graph import site_graph
from pipeline.conduction_paths import CONNECTIVITY, PERSISTENCE, conduction_path, ion_landscape
from pipeline.config import ConductionSettings
from pipeline.hopping import hopping_diffusivity
from pipeline.saddles import refined_graph, refined_percolation

SPACING = 0.2  # Å
SAME_PASS = 0.3  # eV over the lowest pass; the next kind of pass in rock salt is far above

# Streltsov et al., Acta Cryst. B 1993, 49, 147; Orman and Wiseman, Acta Cryst. C 1984, 40, 12; Wyckoff 1963 (both).
CRYSTALS = {
    "LiFePO4": (
        "Li",
        Structure.from_spacegroup(
            "Pnma",
            Lattice.orthorhombic(10.332, 6.010, 4.692),
            ["Li+", "Fe2+", "P5+", "O2-", "O2-", "O2-"],
            [
                [0.0, 0.0, 0.0],
                [0.28222, 0.25, 0.97472],
                [0.09486, 0.25, 0.41820],
                [0.09678, 0.25, 0.74279],
                [0.45710, 0.25, 0.20602],
                [0.16558, 0.04646, 0.28478],
            ],
        ),
    ),
    "LiCoO2": (
        "Li",
        Structure.from_spacegroup(
            "R-3m",
            Lattice.hexagonal(2.8161, 14.0536),
            ["Li+", "Co3+", "O2-"],
            [[0.0, 0.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.0, 0.2395]],
        ),
    ),
    "NaCl": (
        "Na",
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64056), ["Na+", "Cl-"], [[0.0] * 3, [0.5, 0.0, 0.0]]),
    ),
    "Li2S": (
        "Li",
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.708), ["Li+", "S2-"], [[0.25] * 3, [0.0] * 3]),
    ),
}


def main() -> None:
    alone = ConductionSettings(hopping=True)
    together = ConductionSettings(hopping=True, carriers="exclusive")
    print(f"spacing {SPACING} Å, {alone.temperature:g} K, {alone.jumps} jumps, {alone.attempt_frequency:g} Hz")
    print("| crystal | e1d, e2d, e3d (eV) | dimensions | region | bottleneck (Å) | hops |")
    print("|---|---|---|---|---|---|")
    diffusivities, times = [], []
    for name, (ion, structure) in CRYSTALS.items():
        where = ion_landscape(structure, ion, SPACING)
        started = time.perf_counter()
        found = percolation(where.energies, cap=alone.energy_cap, connectivity=CONNECTIVITY)
        percolated = time.perf_counter()
        refined = refined_percolation(where, found, alone.cutoff)
        off_the_grid = time.perf_counter()
        path = conduction_path(where, found, alone.dimensionality_window, refined, alone.cutoff)
        followed = time.perf_counter()
        level, barrier = (each.thresholds[path.dimensionality - 1] for each in (found, refined))
        single, crowd = (hopping_diffusivity(where, level, settings, barrier) for settings in (alone, together))
        hopped = time.perf_counter()
        barriers = ", ".join(f"{e:.2f}" for e in refined.thresholds)
        print(
            f"| {name} | {barriers} | {path.dimensionality} | {100 * path.volume_fraction:.1f} % | "
            f"{path.bottleneck_radius:.2f} | {path} |"
        )
        diffusivities.append(f"| {name} | {_pair(single)} | {_pair(crowd)} |")
        seconds = (percolated - started, off_the_grid - percolated, followed - off_the_grid, hopped - followed)
        times.append(f"| {name} | {where.energies.size} | " + " | ".join(f"{s:.2f}" for s in seconds) + " |")
    print("\n| crystal | independent (cm2/s) | exclusive (cm2/s) |\n|---|---|---|")
    print("\n".join(diffusivities))
    print("\n| crystal | grid points | thresholds (s) | off the grid (s) | path (s) | both simulations (s) |")
    print("|---|---|---|---|---|---|")
    print("\n".join(times))
    ion, cubic = CRYSTALS["NaCl"]
    print(f"\nspacing {alone.spacing} Å")
    print("| NaCl, cell | passes on the grid (eV) | off it (eV) | diffusivity on the grid (cm2/s) | off it (cm2/s) |")
    print("|---|---|---|---|---|")
    for cell, structure in (("cubic", cubic), ("primitive", cubic.get_primitive_structure())):
        print(f"| {cell} | {_on_and_off_the_grid(structure, ion, alone)} |")


def _on_and_off_the_grid(structure: Structure, ion: str, settings: ConductionSettings) -> str:
    """Lowest and highest barrier of the passes between sites, and the diffusivity, on and off the grid."""
    where = ion_landscape(structure, ion, settings.spacing)
    found = percolation(where.energies, cap=settings.energy_cap, connectivity=CONNECTIVITY)
    level, barrier = found.thresholds[-1], refined_percolation(where, found).thresholds.e3d
    graph = site_graph(where.energies, settings.energy_cap, PERSISTENCE, CONNECTIVITY)
    passes = []
    for each in (graph, refined_graph(where, graph, settings.cutoff)):
        barriers = each.edge_energies - each.site_energies.min()
        lowest = barriers[barriers < barriers.min() + SAME_PASS]
        passes.append(f"{lowest.min():.3f} to {lowest.max():.3f}")
    diffusivities = [_pair(hopping_diffusivity(where, level, settings, own)) for own in (None, barrier)]
    return " | ".join(passes + diffusivities)


def _pair(value_and_error: tuple[float, float]) -> str:
    value, error = value_and_error
    return "no free site" if value != value else f"{value:.1e} ± {error:.0e}"


if __name__ == "__main__":
    main()
