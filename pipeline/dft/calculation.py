"""A DFT calculation: one crystal, one engine, its settings; and what comes out of it. Both lie as JSON in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from pipeline.atomic_files import write_json
from pipeline.crystal import row_from_structure, structure_from_row

ASKED = "calculation.json"
RESULT = "result.json"
FAILURE = "failure.json"


@dataclass(frozen=True)
class Pending:
    """A calculation that waits for an outside program, and for what."""

    reason: str


@dataclass(frozen=True)
class Calculation:
    """What is asked of a DFT code.

    Attributes
    ----------
    structure
        Ordered crystal without oxidation states.
    settings
        As `DftSettings.calculation_settings` gives them.
    code
        Version of the program and its setups where this process runs it; empty where the user does.
    """

    structure: Structure
    settings: Mapping[str, Any]
    code: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of crystal, settings and code, and of moments that results kept by earlier versions lack."""
        from pipeline.dft.moments import ion_moments

        asked: list[Any] = [_numbers(self.structure), self.settings, self.code]
        if self.settings["engine"] != "vasp" and (moments := ion_moments(self.structure)):
            asked.append(moments)
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def save(self, folder: Path, **more: Any) -> None:
        """Write ``calculation.json``; ``more`` says what else is worth knowing, such as the candidate."""
        write_json(
            folder / ASKED,
            {
                "digest": self.digest,
                **more,
                "settings": dict(self.settings),
                "code": self.code,
                "crystal": _numbers(self.structure),
            },
        )


def load_calculation(folder: Path) -> tuple[Calculation, dict[str, Any]]:
    """Read ``calculation.json``: the calculation, and all that was written there.

    Raises
    ------
    OSError, ValueError
        When the file is missing or damaged.
    """
    written = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    try:
        found = Calculation(structure_from_row(written["crystal"]), written["settings"], written["code"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / ASKED} is damaged ({error}); remove it, and it is written anew") from error
    return found, written


@dataclass(frozen=True)
class DftResult:
    """What a finished calculation says of n atoms.

    Attributes
    ----------
    structure
        The crystal that the energy belongs to: relaxed where that was asked.
    energy
        Total energy of the cell at zero electronic temperature, eV.
    band_gap
        Smallest gap between occupied and empty Kohn-Sham levels on the calculation's k-points, eV; 0 for a metal.
    forces
        eV/Å, shape (n, 3).
    stress
        xx, yy, zz, yz, xz, xy in eV/Å3 (ASE's sign: negative when the cell wants to grow); NaN where not computed.
    steps
        Ionic steps; 0 for a single point.
    code, functional
        Program with version, and what it computed: ``PBE`` or ``PBE+U``.
    pseudopotentials
        What the code printed of each element's: the file's checksum (Quantum ESPRESSO), the POTCAR's title (VASP);
        empty where its version says it (GPAW).
    """

    structure: Structure
    energy: float
    band_gap: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    steps: int
    code: str
    functional: str
    pseudopotentials: Mapping[str, str] = field(default_factory=dict)

    @property
    def energy_per_atom(self) -> float:
        """Total energy, eV/atom."""
        return self.energy / len(self.structure)

    @property
    def max_force(self) -> float:
        """Length of the largest force, eV/Å."""
        return float(np.linalg.norm(self.forces, axis=1).max())

    def save(self, folder: Path, calculation: Calculation) -> None:
        """Write ``result.json`` atomically, stamped with the calculation that it answers."""
        write_json(
            folder / RESULT,
            {
                "digest": calculation.digest,
                "energy": self.energy,
                "band_gap": self.band_gap,
                "forces": np.asarray(self.forces).tolist(),
                "stress": np.asarray(self.stress).tolist(),
                "steps": self.steps,
                "code": self.code,
                "functional": self.functional,
                "pseudopotentials": dict(self.pseudopotentials),
                "crystal": _numbers(self.structure),
            },
        )


def load_result(folder: Path, calculation: Calculation) -> DftResult | None:
    """Result of exactly this calculation; None when there is none, or the file is damaged or answers another one."""
    try:
        written = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        if written["digest"] != calculation.digest:
            return None
        result = DftResult(
            structure_from_row(written["crystal"]),
            float(written["energy"]),
            float(written["band_gap"]),
            np.array(written["forces"], dtype=float),
            np.array(written["stress"], dtype=float),
            int(written["steps"]),
            str(written["code"]),
            str(written["functional"]),
            {str(symbol): str(what) for symbol, what in written.get("pseudopotentials", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    sound = np.isfinite([result.energy, result.band_gap]).all() and result.forces.shape == (len(result.structure), 3)
    return result if sound else None


def bare_crystal(structure: Structure) -> Structure:
    """The crystal without oxidation states: DFT knows none."""
    return Structure(structure.lattice, [site.specie.symbol for site in structure], structure.frac_coords)


def _numbers(structure: Structure) -> dict[str, list[Any]]:
    row = row_from_structure(structure)
    return {name: row[name] for name in ("lattice", "atomic_numbers", "frac_coords")}
