"""The part ``agreement`` of ``benchmark_conduction.py``: energies and barriers of real crystals beside the peer's."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from conduction_brute_force import flood_barriers, naive_energies
from conduction_peer import CUTOFF, neighbours_needed, peer_energies
from pymatgen.core import Structure

from kernels.percolation import percolation_thresholds
from pipeline.oxidation_states import charged_species
from pipeline.reference.bond_valence import Ion, MissingBondValenceParameterError
from pipeline.reference.labelled_crystals import read_structures
from pipeline.site_energies import FrameworkIon, framework_ions, landscape

OLIVINE = "mp-19017"
"""LiFePO4."""
CAP = 10.0
"""eV, above which a barrier counts as infinite."""
SIZES = (12, 28, 60)
"""Upper bounds of three classes of size, atoms; each gives a third of the structures."""


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
    """Print a line for each crystal; how many of ours are wrong."""
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
            f"{1e3 * np.abs(ours - snapped)[ours < 5.0].max():>8.1e} {barriers_text(our_barriers):>23} "
            f"{barriers_text(their_barriers):>23} {verdict:>22}",
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
        exact = naive_energies(structure, framework, ion, apart / np.array(ours.shape), CUTOFF)
        wrong = np.abs(ours[tuple(apart.T)] - exact).max() > 1e-3
        return "ours is wrong" if wrong else "peer's energies wrong"
    if not np.allclose(our_barriers, their_barriers, rtol=0.0, atol=0.02):
        wrong = not np.allclose(our_barriers, flood_barriers(ours, CAP), rtol=0.0, atol=0.006)
        return "ours is wrong" if wrong else "peer's barriers wrong"
    return "agree"


def barriers_text(barriers: tuple[float, ...]) -> str:
    """Three barriers, eV, in a column of the tables."""
    return " ".join(f"{e:7.3f}" for e in barriers)
