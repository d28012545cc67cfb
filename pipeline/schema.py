"""Every column that ionsieve writes, declared once: name, type, unit, producing stage, meaning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column of the tables.

    ``dtype`` is one of string, bool, int64, float64, list<float64>, list<int64>. ``gate`` gives the closed range
    a gate's bound may lie in, in the column's unit; columns without it can't be gated by a number.
    """

    name: str
    dtype: str
    unit: str
    stage: str
    meaning: str
    gate: tuple[float, float] | None = None


def _c(name: str, dtype: str, unit: str, stage: str, meaning: str, gate: tuple[float, float] | None = None) -> Column:
    return Column(name, dtype, unit, stage, meaning, gate)


def _status(stage: str) -> tuple[Column, Column]:
    return (
        _c(f"{stage}_status", "string", "", stage, "ok, failed, pending or skipped"),
        _c(f"{stage}_error", "string", "", stage, "'<type>: <message>' of what went wrong, empty when ok"),
    )


COLUMNS: tuple[Column, ...] = (
    # candidates: small integers and words, no coordinates yet
    _c("candidate_id", "string", "", "candidates", "the same crystal has the same id in every campaign"),
    _c("formula_pretty", "string", "", "candidates", "reduced formula"),
    _c("chemsys", "string", "", "candidates", "elements in alphabetical order, joined by '-'"),
    _c("nsites", "int64", "", "candidates", "atoms in the primitive cell"),
    _c("prototype_id", "string", "", "candidates", "the crystal that was substituted"),
    _c(
        "prototype_source",
        "string",
        "",
        "candidates",
        "where that crystal is from: material id, AFLOW label or file name",
    ),
    _c("prototype_formula", "string", "", "candidates", "reduced formula of that crystal"),
    _c("spacegroup_number", "int64", "", "candidates", "space group of the prototype, before relaxation"),
    _c(
        "ions",
        "string",
        "",
        "candidates",
        "ion on each symmetry-distinct orbit of the prototype, in its order",
    ),
    _c(
        "is_parent",
        "bool",
        "",
        "candidates",
        "a crystal of the prototype, or of one with the same sites: a control",
    ),
    _c(
        "substitution",
        "string",
        "",
        "candidates",
        "element or orbit: how the ions were assigned; none for a user's own",
    ),
    _c(
        "mobile_ion_fraction",
        "float64",
        "",
        "candidates",
        "mobile ions / atoms, all mobile ions together",
        (0.0, 1.0),
    ),
    _c(
        "radius_mismatch",
        "float64",
        "",
        "candidates",
        "largest |ln(r_new / r_old)| of Shannon radii over the orbits",
        (0.0, 3.0),
    ),
    _c(
        "substitution_probability",
        "float64",
        "",
        "candidates",
        "Hautier's probability of the substitution",
        (0.0, 1.0),
    ),
    # estimate: one-shot formation energy before any relaxation
    _c(
        "formation_energy_estimate",
        "float64",
        "eV/atom",
        "estimate",
        "one-shot model, moved to the MP2020 scheme",
        (-10.0, 10.0),
    ),
    _c(
        "energy_above_hull_estimate",
        "float64",
        "eV/atom",
        "estimate",
        "estimate of energy_above_hull, unrelaxed",
        (0.0, 10.0),
    ),
    *_status("estimate"),
    # stability
    _c("lattice", "list<float64>", "Å", "stability", "nine numbers, row-major lattice vectors, relaxed"),
    _c("atomic_numbers", "list<int64>", "", "stability", "n atomic numbers"),
    _c("frac_coords", "list<float64>", "", "stability", "3n fractional coordinates, relaxed"),
    _c("oxidation_states", "list<float64>", "e", "stability", "n oxidation states, empty when unknown"),
    _c("volume", "float64", "Å3", "stability", "volume of the relaxed cell", (0.0, 1e6)),
    _c("volume_change", "float64", "", "stability", "relaxed / starting volume - 1", (-1.0, 10.0)),
    _c(
        "energy_per_atom",
        "float64",
        "eV/atom",
        "stability",
        "the surrogate's total energy, as it predicts it",
        (-100.0, 100.0),
    ),
    _c(
        "formation_energy_per_atom",
        "float64",
        "eV/atom",
        "stability",
        "from the elements, in the reference's scheme",
        (-10.0, 10.0),
    ),
    _c(
        "energy_above_hull",
        "float64",
        "eV/atom",
        "stability",
        "above the hull of the reference's competing phases",
        (0.0, 10.0),
    ),
    _c(
        "energy_above_hull_error",
        "float64",
        "eV/atom",
        "stability",
        "half of the interval with 68 % of the surrogate's errors on known phases like this; NaN when unknown",
        (0.0, 10.0),
    ),
    _c(
        "decomposition",
        "string",
        "",
        "stability",
        "competing phases at this composition, with atom fractions",
    ),
    _c(
        "energy_disagreement",
        "float64",
        "eV/atom",
        "stability",
        "|difference| of two surrogates' MP2020 formation energies on the relaxed crystal",
        (0.0, 10.0),
    ),
    _c("relaxation_steps", "int64", "", "stability", "optimiser steps"),
    _c(
        "relaxation_converged",
        "bool",
        "",
        "stability",
        "forces fell below fmax; if not, an upper bound",
    ),
    _c(
        "relaxation_given_up",
        "bool",
        "",
        "stability",
        "left before its end because the energy could not come below give_up_above",
    ),
    _c("max_force", "float64", "eV/Å", "stability", "largest force at the end", (0.0, 1e3)),
    _c("surrogate", "string", "", "stability", "name of the potential that relaxed this row"),
    _c("surrogate_sha256", "string", "", "stability", "SHA-256 of its weights"),
    _c("suspect", "bool", "", "stability", "too good or too strange to be believed as it stands"),
    _c("suspect_reason", "string", "", "stability", "why, empty when not suspect"),
    *_status("stability"),
    # band gap
    _c(
        "band_gap",
        "float64",
        "eV",
        "band_gap",
        "ML band gap of the relaxed crystal at the configured fidelity",
        (0.0, 30.0),
    ),
    _c("band_gap_fidelity", "string", "", "band_gap", "PBE, GLLB-SC, HSE or SCAN"),
    *_status("band_gap"),
    # window
    _c(
        "reduction_limit",
        "float64",
        "V",
        "window",
        "vs the ion's metal; the worst over the mobile ions present",
        (-10.0, 20.0),
    ),
    _c(
        "oxidation_limit",
        "float64",
        "V",
        "window",
        "vs the ion's metal; the worst over the mobile ions present",
        (-10.0, 20.0),
    ),
    _c("window_ion", "string", "", "window", "ions whose limits were taken for reduction and oxidation"),
    _c("reduction_products", "string", "", "window", "phases that form at the reduction limit"),
    _c("oxidation_products", "string", "", "window", "phases that form at the oxidation limit"),
    _c(
        "voltage_profile",
        "string",
        "",
        "window",
        "ions a formula unit holds, and the voltages at which they change: '6 <0.62 V> 3 <4.26 V> 0' vs each metal",
    ),
    *_status("window"),
    # reactivity
    _c(
        "reaction_energy",
        "float64",
        "eV/atom",
        "reactivity",
        "driving force of the mutual reaction with the worst of the partners; 0: none",
        (-10.0, 0.0),
    ),
    _c("reaction_partner", "string", "", "reactivity", "that partner; empty when none reacts"),
    _c("reaction_share", "float64", "", "reactivity", "atom fraction of the candidate in the reacting mixture"),
    _c("reaction_products", "string", "", "reactivity", "phases that form with that partner, with atom fractions"),
    *_status("reactivity"),
    # conduction
    _c(
        "migration_barrier_1d",
        "float64",
        "eV",
        "conduction",
        "bond-valence percolation barrier in one dimension",
        (0.0, 50.0),
    ),
    _c(
        "migration_barrier_2d",
        "float64",
        "eV",
        "conduction",
        "bond-valence percolation barrier in two dimensions",
        (0.0, 50.0),
    ),
    _c(
        "migration_barrier_3d",
        "float64",
        "eV",
        "conduction",
        "bond-valence percolation barrier in three dimensions; inf: none",
        (0.0, 50.0),
    ),
    _c(
        "conduction_ion",
        "string",
        "",
        "conduction",
        "mobile ion with the lowest barrier; the columns are for it",
    ),
    _c(
        "conduction_dimensionality",
        "int64",
        "",
        "conduction",
        "dimensions whose barrier is within the window (0.1 eV) of the lowest; 0: it doesn't percolate",
        (0.0, 3.0),
    ),
    _c(
        "percolating_volume_fraction",
        "float64",
        "",
        "conduction",
        "share of the cell in the region that percolates in those dimensions at their barrier",
        (0.0, 1.0),
    ),
    _c(
        "bottleneck_radius",
        "float64",
        "Å",
        "conduction",
        "from the saddle point to the surface of the nearest ion (Shannon radius)",
        (-2.0, 10.0),
    ),
    _c(
        "conduction_path",
        "string",
        "",
        "conduction",
        "hops of that way: how often, barriers from both ends, length ('2 x 0.31/0.12 eV 2.9 Å')",
    ),
    _c(
        "diffusivity_bond_valence",
        "float64",
        "cm2/s",
        "conduction",
        "of ions hopping over the bond-valence barriers (tracer); NaN: not asked for, no site free, or too few jumps",
        (0.0, 1.0),
    ),
    _c(
        "diffusivity_bond_valence_error",
        "float64",
        "cm2/s",
        "conduction",
        "its standard error from the simulation alone, not from the barriers",
    ),
    *_status("conduction"),
    # elasticity
    _c("bulk_modulus", "float64", "GPa", "elasticity", "Hill's average; NaN when elastically unstable", (0.0, 2000.0)),
    _c("shear_modulus", "float64", "GPa", "elasticity", "Hill's average; NaN when elastically unstable", (0.0, 2000.0)),
    _c("bulk_modulus_voigt", "float64", "GPa", "elasticity", "Voigt's average, an upper bound", (-2000.0, 2000.0)),
    _c("bulk_modulus_reuss", "float64", "GPa", "elasticity", "Reuss's average, a lower bound", (0.0, 2000.0)),
    _c("shear_modulus_voigt", "float64", "GPa", "elasticity", "Voigt's average, an upper bound", (-2000.0, 2000.0)),
    _c("shear_modulus_reuss", "float64", "GPa", "elasticity", "Reuss's average, a lower bound", (0.0, 2000.0)),
    _c("youngs_modulus", "float64", "GPa", "elasticity", "of a polycrystal, from Hill's averages", (0.0, 2000.0)),
    _c("poisson_ratio", "float64", "", "elasticity", "of a polycrystal, from Hill's averages", (-1.0, 0.5)),
    _c(
        "pugh_ratio",
        "float64",
        "",
        "elasticity",
        "bulk / shear modulus; ductile above 1.75, brittle below (Pugh 1954)",
        (0.0, 1e4),
    ),
    _c("elastic_anisotropy", "float64", "", "elasticity", "universal anisotropy; 0: isotropic", (0.0, 1e6)),
    _c(
        "elastically_stable", "bool", "", "elasticity", "no strain and no shift of ions in the cell gains energy (Born)"
    ),
    _c("lowest_stiffness", "float64", "GPa", "elasticity", "lowest eigenvalue of the stiffness", (-2000.0, 2000.0)),
    _c(
        "lowest_force_constant",
        "float64",
        "eV/Å2",
        "elasticity",
        "of shifts of ions in the cell; below 0.005 the ions rest in no minimum and there is no tensor",
        (-100.0, 100.0),
    ),
    _c(
        "elastic_fit_residual",
        "float64",
        "",
        "elasticity",
        "share of the response that Hooke's law leaves over",
        (0.0, 1.0),
    ),
    _c(
        "elastic_tensor",
        "string",
        "GPa",
        "elasticity",
        "C11 C12 ... C16; C22 ... C26; ...; C66 (Voigt), x along a and z along c* of the CIF's cell",
    ),
    _c(
        "lowest_phonon_frequency",
        "float64",
        "THz",
        "elasticity",
        "over the wave vectors that fit the supercell, translations excepted; negative: imaginary; NaN: not asked for",
        (-100.0, 200.0),
    ),
    _c("dynamically_stable", "bool", "", "elasticity", "no phonon is imaginary by more than 0.1 THz"),
    *_status("elasticity"),
    # dynamics
    _c("md_ions", "string", "", "dynamics", "mobile ions that were followed, all together"),
    _c("md_atoms", "int64", "", "dynamics", "atoms in the supercell"),
    _c(
        "diffusivity_md",
        "float64",
        "cm2/s",
        "dynamics",
        "tracer diffusivity at md_temperature by molecular dynamics; a bound where md_is_upper_bound says so",
        (0.0, 1.0),
    ),
    _c("diffusivity_md_low", "float64", "cm2/s", "dynamics", "lower end of its 95 % interval", (0.0, 1.0)),
    _c("diffusivity_md_high", "float64", "cm2/s", "dynamics", "upper end of its 95 % interval", (0.0, 1.0)),
    _c(
        "md_temperature",
        "float64",
        "K",
        "dynamics",
        "highest of the configured temperatures at which the framework does not diffuse",
        (0.0, 3000.0),
    ),
    _c("md_temperature_mean", "float64", "K", "dynamics", "mean temperature of that run"),
    _c("md_n_hops", "int64", "", "dynamics", "hops between sites seen in that run", (0.0, 1e9)),
    _c(
        "md_is_upper_bound",
        "bool",
        "",
        "dynamics",
        "no hop was seen at md_temperature, or none that led anywhere: the diffusivity is what three would have made",
    ),
    _c(
        "haven_ratio_md",
        "float64",
        "",
        "dynamics",
        "tracer over charge diffusivity at md_temperature; below 1 where ions move together, NaN with a bound",
    ),
    _c("haven_ratio_md_low", "float64", "", "dynamics", "lower end of its 95 % interval"),
    _c("haven_ratio_md_high", "float64", "", "dynamics", "upper end of its 95 % interval"),
    _c("md_volume_change", "float64", "", "dynamics", "volume at md_temperature / the relaxed crystal's - 1"),
    _c(
        "md_activation_energy",
        "float64",
        "eV",
        "dynamics",
        "of the tracer diffusivity, by an Arrhenius fit; NaN with fewer than two measured temperatures",
        (0.0, 10.0),
    ),
    _c("md_activation_energy_low", "float64", "eV", "dynamics", "lower end of its 95 % interval"),
    _c("md_activation_energy_high", "float64", "eV", "dynamics", "upper end of its 95 % interval"),
    _c(
        "conductivity_md_300K",
        "float64",
        "S/cm",
        "dynamics",
        "at 300 K by that fit and the Nernst-Einstein relation, the Haven ratio taken as 1",
        (0.0, 1e3),
    ),
    _c("conductivity_md_300K_low", "float64", "S/cm", "dynamics", "lower end of its 95 % interval", (0.0, 1e3)),
    _c("conductivity_md_300K_high", "float64", "S/cm", "dynamics", "upper end of its 95 % interval", (0.0, 1e3)),
    _c(
        "md_series",
        "string",
        "",
        "dynamics",
        "each temperature with tracer diffusivity in cm2/s, 95 % interval and hops; '<' stands before a bound",
    ),
    _c(
        "md_framework_state",
        "string",
        "",
        "dynamics",
        "the worst at any temperature: solid, displaced (from its places, without diffusing) or diffusing (molten)",
    ),
    _c(
        "md_energy_drift",
        "float64",
        "meV/atom/ps",
        "dynamics",
        "drift of the energy that the thermostat conserves, the largest of all temperatures",
    ),
    _c(
        "md_is_reliable",
        "bool",
        "",
        "dynamics",
        "activation energy and conductivity rest on three temperatures or more, each with ten hops or more",
    ),
    _c("md_notes", "string", "", "dynamics", "what a reader must know: too few hops, bounds, a molten framework"),
    *_status("dynamics"),
    # practicality
    _c("spacegroup_relaxed", "int64", "", "practicality", "space group of the relaxed crystal at 0.1 Å"),
    _c("density", "float64", "g/cm3", "practicality", "mass density of the relaxed crystal", (0.0, 30.0)),
    _c(
        "cost_per_kg",
        "float64",
        "USD/kg",
        "practicality",
        "price of the elements; NaN when one has no price",
        (0.0, 1e9),
    ),
    _c("is_known", "bool", "", "practicality", "the composition is among the experimentally observed ones"),
    _c(
        "in_database",
        "bool",
        "",
        "practicality",
        "the composition has any computed entry in the reference table",
    ),
    *_status("practicality"),
    # DFT
    _c("dft_energy_per_atom", "float64", "eV/atom", "dft", "total energy as the DFT code gives it", (-1e5, 1e5)),
    _c(
        "dft_formation_energy_per_atom",
        "float64",
        "eV/atom",
        "dft",
        "from the elements computed alike; with MP2020 corrections for engine vasp",
        (-10.0, 10.0),
    ),
    _c(
        "dft_energy_above_hull",
        "float64",
        "eV/atom",
        "dft",
        "above the hull of competing phases computed with the same code and settings",
        (0.0, 10.0),
    ),
    _c("dft_decomposition", "string", "", "dft", "phases of that hull at this composition, with atom fractions"),
    _c(
        "dft_missing_phases",
        "string",
        "",
        "dft",
        "stable phases of the reference that DFT could not compute: without them the distance is a lower bound",
    ),
    _c(
        "dft_band_gap",
        "float64",
        "eV",
        "dft",
        "Kohn-Sham gap on the calculation's k-points; PBE's are too small by about a third",
        (0.0, 30.0),
    ),
    _c("dft_max_force", "float64", "eV/Å", "dft", "largest force on an atom at the end", (0.0, 1e3)),
    _c("dft_relaxation_steps", "int64", "", "dft", "ionic steps by DFT; 0 for a single point"),
    _c("dft_volume_change", "float64", "", "dft", "volume after DFT / the surrogate's - 1", (-1.0, 10.0)),
    _c("dft_code", "string", "", "dft", "program and version"),
    _c("dft_functional", "string", "", "dft", "PBE or PBE+U"),
    *_status("dft"),
    # ranking
    _c("rank", "int64", "", "ranking", "1 is best; suspects are ranked after all others"),
    _c(
        "score",
        "float64",
        "",
        "ranking",
        "weighted mean of the desirabilities, 0 to 1, by the config's fixed bounds",
    ),
    _c(
        "pareto_front",
        "int64",
        "",
        "ranking",
        "1: no other candidate is better in every objective; 2: none but front 1; ...",
    ),
    _c(
        "duplicate_of",
        "string",
        "",
        "ranking",
        "candidate that relaxed to the same crystal with a lower energy",
    ),
    _c(
        "energy_above_hull_with_candidates",
        "float64",
        "eV/atom",
        "ranking",
        "above the hull of reference and candidates, each composition through its lowest polymorph",
    ),
    _c(
        "polymorph_of",
        "string",
        "",
        "ranking",
        "lowest candidate of the same composition, suspects excepted; empty for the lowest itself",
    ),
    _c(
        "stability_probability",
        "float64",
        "",
        "ranking",
        "chance that the true energy_above_hull passes its gate; NaN without a gate or when the error is unknown",
    ),
    _c("is_control", "bool", "", "ranking", "known compound or parent: ranked, kept out of the shortlist"),
    _c("shortlisted", "bool", "", "ranking", "on the shortlist"),
)

_BY_NAME = {column.name: column for column in COLUMNS}


def column(name: str) -> Column:
    """Look a column up; KeyError names it when it is not declared."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("competing_phases_"):
        return next(c for c in _status("competing_phases") if c.name == name)
    head, _, tail = name.rpartition("_")
    base = _BY_NAME.get(head)
    if base is not None and head in ("reduction_limit", "oxidation_limit") and tail.isalpha():
        return Column(name, base.dtype, base.unit, base.stage, f"{head} vs {tail} metal", base.gate)
    if base is not None and head == "reaction_energy" and tail[:1].isupper():
        return Column(name, base.dtype, base.unit, base.stage, f"driving force of the reaction with {tail}", base.gate)
    if name.startswith("pass_"):
        return Column(name, "bool", "", "gates", f"passed the gates of {name[5:]}")
    raise KeyError(f"column {name!r} is not declared in pipeline/schema.py")


# Relaxing the competing phases gives the columns of stability that need no hull.
_COMPETING_PHASES = (
    "lattice",
    "atomic_numbers",
    "frac_coords",
    "oxidation_states",
    "energy_per_atom",
    "relaxation_steps",
    "relaxation_converged",
    "max_force",
    "surrogate",
    "surrogate_sha256",
)


def columns_of(stage: str) -> tuple[Column, ...]:
    """Columns that a stage produces, in order."""
    if stage == "competing_phases":
        return (*(_BY_NAME[name] for name in _COMPETING_PHASES), *_status(stage))
    return tuple(c for c in COLUMNS if c.stage == stage)


def arrow_type(dtype: str) -> pa.DataType:
    """Arrow type of a declared dtype."""
    import pyarrow as pa

    plain = {"string": pa.string(), "bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64()}
    if dtype.startswith("list<"):
        return pa.list_(plain[dtype[5:-1]])
    return plain[dtype]


def arrow_fields(names: Iterable[str]) -> list[pa.Field]:
    """Arrow fields of the named columns, each with its unit and meaning."""
    return list(map(_arrow_field, names))


@cache
def _arrow_field(name: str) -> pa.Field:
    import pyarrow as pa

    declared = column(name)
    metadata = {"unit": declared.unit, "meaning": declared.meaning}
    return pa.field(declared.name, arrow_type(declared.dtype), metadata=metadata)


def to_arrow(table: pd.DataFrame, names: Iterable[str]) -> pa.Table:
    """Convert the named columns to Arrow with their declared types.

    Raises
    ------
    ValueError
        When a column is missing, or a value does not fit its declared type; the message names the column.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    arrays, fields = [], arrow_fields(names)
    for name in (f.name for f in fields):
        declared = column(name)
        if name not in table.columns:
            raise ValueError(f"column {name!r} of stage {declared.stage} is missing from the table")
        kind = arrow_type(declared.dtype)
        values = [
            v if isinstance(v, (list, tuple, np.ndarray)) or not pd.isna(v) else None for v in table[name].tolist()
        ]
        if declared.dtype == "float64":
            values = [float("nan") if v is None else float(v) for v in values]
        try:
            arrays.append(pa.array(values, type=kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, TypeError) as error:
            raise ValueError(f"column {name!r} must hold {declared.dtype}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
