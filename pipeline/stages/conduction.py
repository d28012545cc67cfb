"""Migration barriers of the mobile ions from bond-valence site energies (softBV) and exact percolation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kernels.percolation import Percolation, percolation
from pipeline.conduction_paths import (
    CONNECTIVITY,
    IonLandscape,
    conduction_path,
    ion_landscape,
)
from pipeline.crystal import structure_from_row
from pipeline.hopping import hopping_diffusivity
from pipeline.oxidation_states import OxidationStates
from pipeline.reference.bond_valence import Ion
from pipeline.saddles import refined_percolation
from pipeline.site_energies import NoMobileIonError
from pipeline.stages.rows import Failure, rows_with_crystals, with_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from pymatgen.core import Structure

    from pipeline.settings import ConductionSettings

NAME = "conduction"
STAGE_VERSION = 6


class ConductionRefs(Protocol):
    """What this stage reads of the campaign's references."""

    @property
    def mobile_ions(self) -> tuple[str, ...]:
        """Symbols of the mobile elements."""
        ...


@dataclass(frozen=True)
class MigrationBarriers:
    """Percolation thresholds of one mobile ion in a rigid framework.

    Attributes
    ----------
    ion : Ion
        The mobile ion with its charge.
    e1d, e2d, e3d : float
        eV above the lowest site energy at which the ion's region percolates in one, two and three dimensions;
        inf where it doesn't below the cap.
    minimum_site_energy : float
        Lowest site energy on the grid, eV.
    grid_shape : tuple of int
        Points along the three lattice vectors.
    """

    ion: Ion
    e1d: float
    e2d: float
    e3d: float
    minimum_site_energy: float
    grid_shape: tuple[int, int, int]

    @property
    def dimensionality(self) -> int:
        """Dimensions in which the ion percolates below the cap: 0 to 3."""
        return sum(math.isfinite(e) for e in (self.e1d, self.e2d, self.e3d))


def migration_barriers(
    structure: Structure,
    ion: str = "Li",
    spacing: float = 0.2,
    *,
    oxidation_states: OxidationStates | None = None,
    mobile_ions: Sequence[str] = (),
    cutoff: float = 10.0,
    energy_cap: float = 10.0,
    threads: int = 1,
    refine: bool = True,
) -> MigrationBarriers:
    """Bond-valence migration barriers of an ion through the framework of all immobile atoms.

    Site energies are those of softBV (Chen, Wong and Adams, Acta Cryst. B 2019, 75, 18); each species of a
    partially occupied site counts with its occupancy. Which passes decide is exact for the grid, a point of
    which has 26 neighbours. This is an estimate for a rigid framework.

    Parameters
    ----------
    structure
        Ordered or disordered crystal.
    ion
        Symbol of the mobile element.
    spacing
        Largest distance of grid points along the lattice vectors, Å; see :func:`grid_shape`.
    oxidation_states
        One number for each site, or one for each element; taken before those of the species. Without either
        they are guessed. A fractional state is a mixture of the two integers beside it.
    mobile_ions
        Symbols of further mobile elements, which are no part of the framework either.
    cutoff
        Å, interactions counted.
    energy_cap
        eV above the lowest site energy where percolation is given up.
    threads
        Threads for the site energies.
    refine
        Take energies of the minimum and the saddle points off the grid (`pipeline.saddles`); otherwise barriers are
        exact for the grid.

    Raises
    ------
    NoMobileIonError, OxidationStateError, InvalidGridError, MissingBondValenceParameterError
        All are ValueErrors; the message says what is missing.
    """
    where = ion_landscape(
        structure,
        ion,
        spacing,
        oxidation_states=oxidation_states,
        mobile_ions=mobile_ions,
        cutoff=cutoff,
        threads=threads,
    )
    found = percolation(where.energies, cap=energy_cap, connectivity=CONNECTIVITY)
    shape = (where.energies.shape[0], where.energies.shape[1], where.energies.shape[2])
    thresholds = (refined_percolation(where, found, cutoff) if refine else found).thresholds
    return MigrationBarriers(where.ion, *thresholds, float(where.energies.min()), shape)


def run(part: pd.DataFrame, settings: ConductionSettings, refs: ConductionRefs, workspace: Path | None) -> pd.DataFrame:
    """Add the barriers of the best mobile ion of each row (the lowest in 3D, then 2D, then 1D), and its way.

    A barrier is inf where the ion doesn't percolate below ``settings.energy_cap``, NaN in failed rows. A row
    fails when any mobile ion that it holds can't be computed.
    """
    records = [
        row if isinstance(row, Failure) else _record(row, settings, refs.mobile_ions)
        for row in rows_with_crystals(part, refs)
    ]
    return with_columns(part, NAME, records)


def _record(row: Mapping[Any, Any], settings: ConductionSettings, mobile_ions: tuple[str, ...]) -> Any:
    """Columns of one row; what is wrong with a row is data."""
    try:
        structure = crystal_of(row)
        present = [ion for ion in mobile_ions if ion in structure.symbol_set]
        if not present:
            raise NoMobileIonError(f"{structure.formula} holds none of the mobile ions {', '.join(mobile_ions)}")
        found = [_percolation(structure, ion, settings, mobile_ions) for ion in present]
        return _columns(*min(found, key=lambda ion: tuple(reversed(ion[2].thresholds))), settings)
    except ValueError as error:
        return Failure.of(error)


def crystal_of(row: Mapping[Any, Any]) -> Structure:
    """A row's crystal; where any oxidation state is missing all are left out, so that they are guessed."""
    return structure_from_row({**row, "oxidation_states": _known_states(row.get("oxidation_states"))})


def _percolation(
    structure: Structure, ion: str, settings: ConductionSettings, mobile_ions: tuple[str, ...]
) -> tuple[IonLandscape, Percolation, Percolation]:
    where = ion_landscape(structure, ion, settings.spacing, mobile_ions=mobile_ions, cutoff=settings.cutoff)
    found = percolation(where.energies, cap=settings.energy_cap, connectivity=CONNECTIVITY)
    return where, found, refined_percolation(where, found, settings.cutoff)


def _columns(
    where: IonLandscape, found: Percolation, refined: Percolation, settings: ConductionSettings
) -> dict[str, Any]:
    path = conduction_path(where, found, settings.dimensionality_window, refined, settings.cutoff)
    barriers = refined.thresholds
    columns = {
        "migration_barrier_1d": barriers.e1d,
        "migration_barrier_2d": barriers.e2d,
        "migration_barrier_3d": barriers.e3d,
        "conduction_ion": where.ion.element,
        "conduction_dimensionality": path.dimensionality,
        "percolating_volume_fraction": path.volume_fraction,
        "bottleneck_radius": path.bottleneck_radius,
        "conduction_path": str(path),
        "conduction_path_points": path.way.round(5).ravel().tolist(),
    }
    if settings.hopping and path.dimensionality:
        level, barrier = (each[path.dimensionality - 1] for each in (found.thresholds, barriers))
        value, error = hopping_diffusivity(where, level, settings, barrier)
        columns |= {"diffusivity_bond_valence": value, "diffusivity_bond_valence_error": error}
    return columns


def _known_states(states: Any) -> list[float] | None:
    """The row's oxidation states, or None when any is missing, so that they are guessed."""
    if states is None or np.ndim(states) != 1 or len(states) == 0:
        return None
    values = [math.nan if q is None else float(q) for q in states]
    return None if any(math.isnan(q) for q in values) else values
