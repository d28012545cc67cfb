"""Columns of the dear stages that validate survivors: elastic response, molecular dynamics, DFT."""

from __future__ import annotations

from pipeline.columns.column import Column, status_columns

ELASTICITY: tuple[Column, ...] = (
    Column(
        "bulk_modulus", "float64", "GPa", "elasticity", "Hill's average; NaN when elastically unstable", (0.0, 2000.0)
    ),
    Column(
        "shear_modulus", "float64", "GPa", "elasticity", "Hill's average; NaN when elastically unstable", (0.0, 2000.0)
    ),
    Column("bulk_modulus_voigt", "float64", "GPa", "elasticity", "Voigt's average, an upper bound", (-2000.0, 2000.0)),
    Column("bulk_modulus_reuss", "float64", "GPa", "elasticity", "Reuss's average, a lower bound", (0.0, 2000.0)),
    Column("shear_modulus_voigt", "float64", "GPa", "elasticity", "Voigt's average, an upper bound", (-2000.0, 2000.0)),
    Column("shear_modulus_reuss", "float64", "GPa", "elasticity", "Reuss's average, a lower bound", (0.0, 2000.0)),
    Column("youngs_modulus", "float64", "GPa", "elasticity", "of a polycrystal, from Hill's averages", (0.0, 2000.0)),
    Column("poisson_ratio", "float64", "", "elasticity", "of a polycrystal, from Hill's averages", (-1.0, 0.5)),
    Column(
        "pugh_ratio",
        "float64",
        "",
        "elasticity",
        "bulk / shear modulus; ductile above 1.75, brittle below (Pugh 1954)",
        (0.0, 1e4),
    ),
    Column("elastic_anisotropy", "float64", "", "elasticity", "universal anisotropy; 0: isotropic", (0.0, 1e6)),
    Column(
        "elastically_stable", "bool", "", "elasticity", "no strain and no shift of ions in the cell gains energy (Born)"
    ),
    Column("lowest_stiffness", "float64", "GPa", "elasticity", "lowest eigenvalue of the stiffness", (-2000.0, 2000.0)),
    Column(
        "lowest_force_constant",
        "float64",
        "eV/Å2",
        "elasticity",
        "of shifts of ions in the cell; below 0.005 the ions rest in no minimum and there is no tensor",
        (-100.0, 100.0),
    ),
    Column(
        "elastic_fit_residual",
        "float64",
        "",
        "elasticity",
        "the larger share: of the stress that Hooke's law leaves over, or by which two softenings by the ions differ",
        (0.0, 1.0),
    ),
    Column(
        "elastic_tensor",
        "string",
        "GPa",
        "elasticity",
        "C11 C12 ... C16; C22 ... C26; ...; C66 (Voigt), x along a and z along c* of the CIF's cell",
    ),
    Column(
        "lowest_phonon_frequency",
        "float64",
        "THz",
        "elasticity",
        "over the wave vectors that fit the supercell, translations excepted; negative: imaginary; NaN: not asked for",
        (-100.0, 200.0),
    ),
    Column("dynamically_stable", "bool", "", "elasticity", "no phonon is imaginary by more than 0.1 THz"),
    *status_columns("elasticity"),
)

DYNAMICS: tuple[Column, ...] = (
    Column("md_ions", "string", "", "dynamics", "mobile ions that were followed, all together"),
    Column("md_atoms", "int64", "", "dynamics", "atoms in the supercell"),
    Column(
        "diffusivity_md",
        "float64",
        "cm2/s",
        "dynamics",
        "tracer diffusivity at md_temperature by molecular dynamics; NaN where md_is_upper_bound says so",
        (0.0, 1.0),
    ),
    Column("diffusivity_md_low", "float64", "cm2/s", "dynamics", "lower end of its 95 % interval", (0.0, 1.0)),
    Column(
        "diffusivity_md_high",
        "float64",
        "cm2/s",
        "dynamics",
        "upper end of that, or the upper bound",
        (0.0, 1.0),
    ),
    Column(
        "md_temperature",
        "float64",
        "K",
        "dynamics",
        "highest of the configured temperatures at which the framework does not diffuse",
        (0.0, 3000.0),
    ),
    Column("md_temperature_mean", "float64", "K", "dynamics", "mean temperature of that run"),
    Column("md_n_hops", "int64", "", "dynamics", "hops between sites seen in that run", (0.0, 1e9)),
    Column(
        "md_is_upper_bound",
        "bool",
        "",
        "dynamics",
        "no hop was seen at md_temperature, or none that led anywhere: the bound is what three would have made",
    ),
    Column(
        "haven_ratio_md",
        "float64",
        "",
        "dynamics",
        "tracer (ions weighted by squared charge) over charge diffusivity; below 1 where ions move together",
    ),
    Column("haven_ratio_md_low", "float64", "", "dynamics", "lower end of its 95 % interval"),
    Column("haven_ratio_md_high", "float64", "", "dynamics", "upper end of its 95 % interval"),
    Column("md_volume_change", "float64", "", "dynamics", "volume at md_temperature / the relaxed crystal's - 1"),
    Column(
        "md_activation_energy",
        "float64",
        "eV",
        "dynamics",
        "of the tracer diffusivity, by an Arrhenius fit; NaN with fewer than two measured temperatures",
        (0.0, 10.0),
    ),
    Column("md_activation_energy_low", "float64", "eV", "dynamics", "lower end of its 95 % interval"),
    Column("md_activation_energy_high", "float64", "eV", "dynamics", "upper end of its 95 % interval"),
    Column(
        "conductivity_md_300K",
        "float64",
        "S/cm",
        "dynamics",
        "at 300 K by Arrhenius and Nernst-Einstein, ions weighted by squared charge, the Haven ratio taken as 1",
        (0.0, 1e3),
    ),
    Column("conductivity_md_300K_low", "float64", "S/cm", "dynamics", "lower end of its 95 % interval", (0.0, 1e3)),
    Column("conductivity_md_300K_high", "float64", "S/cm", "dynamics", "upper end of its 95 % interval", (0.0, 1e3)),
    Column(
        "md_series",
        "string",
        "",
        "dynamics",
        "each temperature with tracer diffusivity in cm2/s, 95 % interval and hops; '<' stands before a bound",
    ),
    Column(
        "md_framework_state",
        "string",
        "",
        "dynamics",
        "the worst at any temperature: solid, displaced (from its places, without diffusing) or diffusing (molten)",
    ),
    Column(
        "md_energy_drift",
        "float64",
        "meV/atom/ps",
        "dynamics",
        "drift of the energy that the thermostat conserves, the largest of all temperatures",
    ),
    Column(
        "md_is_reliable",
        "bool",
        "",
        "dynamics",
        "activation energy and conductivity rest on three temperatures or more, each with a linear regime and ten hops "
        "or more, counted and independent; a displaced framework is told in md_framework_state",
    ),
    Column("md_notes", "string", "", "dynamics", "what a reader must know: too few hops, bounds, a molten framework"),
    *status_columns("dynamics"),
)

DFT: tuple[Column, ...] = (
    Column("dft_energy_per_atom", "float64", "eV/atom", "dft", "total energy as the DFT code gives it", (-1e5, 1e5)),
    Column(
        "dft_formation_energy_per_atom",
        "float64",
        "eV/atom",
        "dft",
        "from the elements computed alike; with MP2020 corrections for engine vasp",
        (-10.0, 10.0),
    ),
    Column(
        "dft_energy_above_hull",
        "float64",
        "eV/atom",
        "dft",
        "above the hull of competing phases computed with the same code and settings",
        (0.0, 10.0),
    ),
    Column("dft_decomposition", "string", "", "dft", "phases of that hull at this composition, with atom fractions"),
    Column(
        "dft_missing_phases",
        "string",
        "",
        "dft",
        "stable phases of the reference that DFT could not compute: without them the distance is a lower bound",
    ),
    Column(
        "dft_band_gap",
        "float64",
        "eV",
        "dft",
        "Kohn-Sham gap on the calculation's k-points; PBE's are too small by about a third",
        (0.0, 30.0),
    ),
    Column("dft_max_force", "float64", "eV/Å", "dft", "largest force on an atom at the end", (0.0, 1e3)),
    Column("dft_relaxation_steps", "int64", "", "dft", "ionic steps by DFT; 0 for a single point"),
    Column("dft_volume_change", "float64", "", "dft", "volume after DFT / the surrogate's - 1", (-1.0, 10.0)),
    Column("dft_code", "string", "", "dft", "program and version"),
    Column("dft_functional", "string", "", "dft", "PBE or PBE+U"),
    *status_columns("dft"),
)
