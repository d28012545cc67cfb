"""Columns of the stages that say what an electrolyte does: gap, window, reactions with its neighbours, conduction."""

from __future__ import annotations

from pipeline.columns.column import Column, status_columns

BAND_GAP: tuple[Column, ...] = (
    Column(
        "band_gap",
        "float64",
        "eV",
        "band_gap",
        "ML band gap of the relaxed crystal at the configured fidelity",
        (0.0, 30.0),
    ),
    Column("band_gap_fidelity", "string", "", "band_gap", "PBE, GLLB-SC, HSE or SCAN"),
    *status_columns("band_gap"),
)

WINDOW: tuple[Column, ...] = (
    Column(
        "reduction_limit",
        "float64",
        "V",
        "window",
        "vs the ion's metal, the worst over the mobile ions present; or vs the reference_electrode",
        (-10.0, 20.0),
    ),
    Column(
        "oxidation_limit",
        "float64",
        "V",
        "window",
        "vs the ion's metal, the worst over the mobile ions present; or vs the reference_electrode",
        (-10.0, 20.0),
    ),
    Column("window_ion", "string", "", "window", "ions whose limits were taken for reduction and oxidation"),
    Column("reduction_products", "string", "", "window", "phases that form at the reduction limit"),
    Column("oxidation_products", "string", "", "window", "phases that form at the oxidation limit"),
    Column(
        "voltage_profile",
        "string",
        "",
        "window",
        "ions a formula unit holds, and the voltages at which they change: '6 <0.62 V> 3 <4.26 V> 0' vs each metal",
    ),
    *status_columns("window"),
)

REACTIVITY: tuple[Column, ...] = (
    Column(
        "reaction_energy",
        "float64",
        "eV/atom",
        "reactivity",
        "driving force of the mutual reaction with the worst of the partners; 0: none",
        (-10.0, 0.0),
    ),
    Column("reaction_partner", "string", "", "reactivity", "that partner; empty when none reacts"),
    Column("reaction_share", "float64", "", "reactivity", "atom fraction of the candidate in the reacting mixture"),
    Column("reaction_products", "string", "", "reactivity", "phases that form with that partner, with atom fractions"),
    Column(
        "reaction_partners_as_mixtures",
        "string",
        "",
        "reactivity",
        "partners that are no phases of the reference: they react as the mixture on its hull at their composition",
    ),
    *status_columns("reactivity"),
)

CONDUCTION: tuple[Column, ...] = (
    Column(
        "migration_barrier_1d",
        "float64",
        "eV",
        "conduction",
        "bond-valence percolation barrier in one dimension",
        (0.0, 50.0),
    ),
    Column(
        "migration_barrier_2d",
        "float64",
        "eV",
        "conduction",
        "bond-valence percolation barrier in two dimensions",
        (0.0, 50.0),
    ),
    Column(
        "migration_barrier_3d",
        "float64",
        "eV",
        "conduction",
        "bond-valence percolation barrier in three dimensions; inf: none",
        (0.0, 50.0),
    ),
    Column("conduction_ion", "string", "", "conduction", "mobile ion with the lowest barrier; the columns are for it"),
    Column(
        "conduction_dimensionality",
        "int64",
        "",
        "conduction",
        "dimensions whose barrier is within the window (0.1 eV) of the lowest; 0: it doesn't percolate",
        (0.0, 3.0),
    ),
    Column(
        "percolating_volume_fraction",
        "float64",
        "",
        "conduction",
        "share of the cell in the region that percolates in those dimensions at the grid's barrier",
        (0.0, 1.0),
    ),
    Column(
        "bottleneck_radius",
        "float64",
        "Å",
        "conduction",
        "from the saddle point to the surface of the nearest ion (Shannon radius)",
        (-2.0, 10.0),
    ),
    Column(
        "conduction_path",
        "string",
        "",
        "conduction",
        "hops of that way: how often, barriers from both ends, length ('2 x 0.31/0.12 eV 2.9 Å')",
    ),
    Column(
        "conduction_path_points",
        "list<float64>",
        "",
        "conduction",
        "nine numbers a hop of that way: fractional coordinates of its start, its pass and its end",
    ),
    Column(
        "diffusivity_bond_valence",
        "float64",
        "cm2/s",
        "conduction",
        "of ions hopping over the bond-valence barriers (tracer); NaN: not asked for, no site free, or too few jumps",
        (0.0, 1.0),
    ),
    Column(
        "diffusivity_bond_valence_error",
        "float64",
        "cm2/s",
        "conduction",
        "its standard error from the simulation alone, not from the model's barriers",
    ),
    *status_columns("conduction"),
)
