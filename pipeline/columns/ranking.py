"""Columns that order the survivors: what they cost, whether they are known, where they rank."""

from __future__ import annotations

from pipeline.columns.column import Column, status_columns

PRACTICALITY: tuple[Column, ...] = (
    Column("spacegroup_relaxed", "int64", "", "practicality", "space group of the relaxed crystal at 0.1 Å"),
    Column("density", "float64", "g/cm3", "practicality", "mass density of the relaxed crystal", (0.0, 30.0)),
    Column(
        "cost_per_kg",
        "float64",
        "USD/kg",
        "practicality",
        "mass-weighted price of the pure elements, nearly all of 2013 (pymatgen's list): it orders candidates, and is "
        "no price of the compound; NaN when an element has none",
        (0.0, 1e9),
    ),
    Column(
        "is_known",
        "bool",
        "",
        "practicality",
        "the composition is among the experimentally observed ones; empty: not listed, and without a list of observed "
        "compositions not checked",
    ),
    Column(
        "in_database",
        "bool",
        "",
        "practicality",
        "the composition has any computed entry in the reference table; empty: the hull is the campaign's own",
    ),
    *status_columns("practicality"),
)

RANKING: tuple[Column, ...] = (
    Column("rank", "int64", "", "ranking", "1 is best; suspects are ranked after all others"),
    Column(
        "score", "float64", "", "ranking", "weighted mean of the desirabilities, 0 to 1, by the config's fixed bounds"
    ),
    Column(
        "pareto_front",
        "int64",
        "",
        "ranking",
        "1: no other is at least as good in every objective and better in one; 2: none but those of front 1; ...; "
        "suspects come behind all others",
    ),
    Column("duplicate_of", "string", "", "ranking", "candidate that relaxed to the same crystal with a lower energy"),
    Column(
        "energy_above_hull_with_candidates",
        "float64",
        "eV/atom",
        "ranking",
        "above the hull of reference and candidates, each composition through its lowest polymorph",
    ),
    Column(
        "polymorph_of",
        "string",
        "",
        "ranking",
        "lowest candidate of the same composition, suspects excepted; empty for the lowest itself",
    ),
    Column(
        "stability_probability",
        "float64",
        "",
        "ranking",
        "chance that the true energy_above_hull passes its gate; NaN without a gate or when the error is unknown",
    ),
    Column("is_control", "bool", "", "ranking", "known compound or parent: ranked, kept out of the shortlist"),
    Column("shortlisted", "bool", "", "ranking", "on the shortlist"),
)
