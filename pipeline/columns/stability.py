"""Columns of the stages that say whether a crystal forms: a one-shot estimate, then relaxation and the hull."""

from __future__ import annotations

from pipeline.columns.column import Column, status_columns

ESTIMATE: tuple[Column, ...] = (
    Column(
        "formation_energy_estimate",
        "float64",
        "eV/atom",
        "estimate",
        "one-shot model, moved to the MP2020 scheme",
        (-10.0, 10.0),
    ),
    Column(
        "energy_above_hull_estimate",
        "float64",
        "eV/atom",
        "estimate",
        "estimate of energy_above_hull, unrelaxed",
        (0.0, 10.0),
    ),
    *status_columns("estimate"),
)

STABILITY: tuple[Column, ...] = (
    Column("lattice", "list<float64>", "Å", "stability", "nine numbers, row-major lattice vectors, relaxed"),
    Column("atomic_numbers", "list<int64>", "", "stability", "n atomic numbers"),
    Column("frac_coords", "list<float64>", "", "stability", "3n fractional coordinates, relaxed"),
    Column("oxidation_states", "list<float64>", "e", "stability", "n oxidation states, empty when unknown"),
    Column("volume", "float64", "Å3", "stability", "volume of the relaxed cell", (0.0, 1e6)),
    Column("volume_change", "float64", "", "stability", "relaxed / starting volume - 1", (-1.0, 10.0)),
    Column(
        "energy_per_atom",
        "float64",
        "eV/atom",
        "stability",
        "the surrogate's total energy, as it predicts it",
        (-100.0, 100.0),
    ),
    Column(
        "formation_energy_per_atom",
        "float64",
        "eV/atom",
        "stability",
        "from the elements, in the reference's scheme",
        (-10.0, 10.0),
    ),
    Column(
        "energy_above_hull",
        "float64",
        "eV/atom",
        "stability",
        "above the hull of the reference's competing phases",
        (0.0, 10.0),
    ),
    Column(
        "energy_above_hull_error",
        "float64",
        "eV/atom",
        "stability",
        "half of the interval with 68 % of the surrogate's errors on known phases like this; NaN when unknown",
        (0.0, 10.0),
    ),
    Column("decomposition", "string", "", "stability", "competing phases at this composition, with atom fractions"),
    Column(
        "energy_disagreement",
        "float64",
        "eV/atom",
        "stability",
        "|difference| of two surrogates' MP2020 formation energies on the relaxed crystal",
        (0.0, 10.0),
    ),
    Column("relaxation_steps", "int64", "", "stability", "optimiser steps"),
    Column("relaxation_converged", "bool", "", "stability", "forces fell below fmax; if not, an upper bound"),
    Column(
        "relaxation_given_up",
        "bool",
        "",
        "stability",
        "left before its end because the energy could not come below give_up_above",
    ),
    Column("max_force", "float64", "eV/Å", "stability", "largest force at the end", (0.0, 1e3)),
    Column("surrogate", "string", "", "stability", "name of the potential that relaxed this row"),
    Column("surrogate_sha256", "string", "", "stability", "SHA-256 of its weights"),
    Column("suspect", "bool", "", "stability", "too good or too strange to be believed as it stands"),
    Column("suspect_reason", "string", "", "stability", "why, empty when not suspect"),
    *status_columns("stability"),
)
