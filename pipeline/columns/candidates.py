"""Columns of the candidates: small integers and words, no coordinates yet."""

from __future__ import annotations

from pipeline.columns.column import Column

CANDIDATES: tuple[Column, ...] = (
    Column("candidate_id", "string", "", "candidates", "the same crystal has the same id in every campaign"),
    Column("formula_pretty", "string", "", "candidates", "reduced formula"),
    Column("chemsys", "string", "", "candidates", "elements in alphabetical order, joined by '-'"),
    Column("nsites", "int64", "", "candidates", "atoms in the primitive cell"),
    Column("prototype_id", "string", "", "candidates", "the crystal that was substituted"),
    Column(
        "prototype_source",
        "string",
        "",
        "candidates",
        "where that crystal is from: material id, AFLOW label or file name",
    ),
    Column("prototype_formula", "string", "", "candidates", "reduced formula of that crystal"),
    Column("spacegroup_number", "int64", "", "candidates", "space group of the prototype, before relaxation"),
    Column("ions", "string", "", "candidates", "ion on each symmetry-distinct orbit of the prototype, in its order"),
    Column(
        "is_parent", "bool", "", "candidates", "a crystal of the prototype, or of one with the same sites: a control"
    ),
    Column(
        "substitution",
        "string",
        "",
        "candidates",
        "element or orbit: how the ions were assigned; none for a user's own",
    ),
    Column(
        "mobile_ion_fraction", "float64", "", "candidates", "mobile ions / atoms, all mobile ions together", (0.0, 1.0)
    ),
    Column(
        "radius_mismatch",
        "float64",
        "",
        "candidates",
        "largest |ln(r_new / r_old)| of Shannon radii over the orbits",
        (0.0, 3.0),
    ),
    Column(
        "substitution_probability", "float64", "", "candidates", "Hautier's probability of the substitution", (0.0, 1.0)
    ),
)
