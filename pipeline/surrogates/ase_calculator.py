"""A potential as an ASE calculator."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

if TYPE_CHECKING:
    from ase import Atoms

    from pipeline.surrogates.potential import Potential


class SurrogateCalculator(Calculator):  # type: ignore[misc]
    """ASE calculator around :class:`pipeline.surrogates.potential.Potential`.

    Energies in eV, forces in eV/Å, stress in eV/Å3 (Voigt, tension positive).
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, potential: "Potential", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.potential = potential

    def calculate(
        self,
        atoms: "Atoms | None" = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate the atoms; raises ``CalculationFailed`` with the model's error."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        from pymatgen.core import Lattice, Structure

        assert self.atoms is not None
        if not np.all(self.atoms.pbc):
            raise CalculationFailed(f"the potential is for crystals: pbc must be True, got {self.atoms.pbc}")
        structure = Structure(
            Lattice(self.atoms.cell.array),
            self.atoms.get_chemical_symbols(),
            self.atoms.get_positions(),
            coords_are_cartesian=True,
        )
        (evaluation,) = self.potential.evaluate([structure])
        if evaluation.error is not None:
            raise CalculationFailed(f"{self.potential.name}: {evaluation.error}")
        self.results = {
            "energy": evaluation.energy,
            "free_energy": evaluation.energy,
            "forces": evaluation.forces,
            "stress": full_3x3_to_voigt_6_stress(evaluation.stress),
        }
