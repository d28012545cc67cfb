"""Landscapes as volumetric files."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from pipeline.conduction_paths import IonLandscape


def write_cube(stream: TextIO, structure: Structure, where: IonLandscape, cap: float) -> None:
    """Write a landscape with its crystal as a Gaussian cube file, which VESTA opens.

    Lengths are in Bohr, as the format has it, energies in eV. Disordered sites appear as their main element.

    Parameters
    ----------
    stream
        A text file on disk, open for writing.
    structure
        The crystal, mobile ions included.
    where
        The ion's site energies in it.
    cap
        eV. Energies above the lowest by more than this are written as that, so that the scale stays readable.
    """
    from ase import Atoms
    from ase.io.cube import write_cube as write

    main = [max(site.species.items(), key=lambda item: item[1])[0] for site in structure]
    atoms = Atoms(
        [species.symbol for species in main], scaled_positions=structure.frac_coords, cell=where.lattice, pbc=True
    )
    lowest = float(where.energies.min())
    energies = np.nan_to_num(np.minimum(where.energies, lowest + cap), nan=lowest + cap)
    comment = f"bond-valence site energy of {where.ion} in {structure.composition.reduced_formula}, eV"
    write(stream, atoms, energies, comment=comment)
