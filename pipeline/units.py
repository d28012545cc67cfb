"""Units at the boundaries. Inside: eV, Å, K, GPa, g/cm3, V, S/cm, fs.

The constants are CODATA values; ``tests/test_energetics.py`` checks them against ``scipy.constants``.
"""

from __future__ import annotations

from typing import Final

ELEMENTARY_CHARGE: Final = 1.602176634e-19
"""Elementary charge in C (exact, SI 2019)."""

AVOGADRO: Final = 6.02214076e23
"""Avogadro constant in 1/mol (exact, SI 2019)."""

BOLTZMANN: Final = 8.617333262e-5
"""Boltzmann constant in eV/K (exact in SI 2019, ten digits)."""

GPA_PER_EV_PER_ANGSTROM3: Final = ELEMENTARY_CHARGE * 1e21
"""Stress: GPa in one eV/Å3."""

G_PER_CM3_PER_DALTON_PER_ANGSTROM3: Final = 1.66053906892
"""Density: g/cm3 in one Da/Å3 (CODATA 2022)."""

EV_FS2_PER_ANGSTROM2_PER_DALTON: Final = G_PER_CM3_PER_DALTON_PER_ANGSTROM3 / ELEMENTARY_CHARGE * 1e-17
"""Mass: eV fs2/Å2 in one Da (103.6), so that forces in eV/Å accelerate in Å/fs2."""

CM2_PER_S_PER_ANGSTROM2_PER_FS: Final = 0.1
"""Diffusivity: cm2/s in one Å2/fs (exact)."""
