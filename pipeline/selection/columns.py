"""Columns of selection.csv: what a candidate is, what speaks for labelling it, and where that comes from."""

from __future__ import annotations

from pipeline import schema
from pipeline.columns.column import Column

_STAGE = "selection"

SELECTION_COLUMNS: tuple[Column, ...] = (
    Column("order", "int64", "", _STAGE, "1 was chosen first"),
    *map(schema.column, ("candidate_id", "formula_pretty", "prototype_id", "prototype_source", "nsites")),
    Column("selection_score", "float64", "", _STAGE, "novelty times the weighted mean of the others, 0 to 1"),
    Column("disagreement", "float64", "", _STAGE, "energy_disagreement over the campaign's bound, at most 1"),
    Column("novelty", "float64", "", _STAGE, "distance of its newest environment to known and chosen ones, 0 to 1"),
    Column("closeness", "float64", "", _STAGE, "1 at a gate, 0.32 one uncertainty from it"),
    Column("newest_element", "string", "", _STAGE, "element of the atom in the middle of its newest environment"),
    Column("gate_distance", "float64", "", _STAGE, "to the nearest gate, in uncertainties (68 %) of its quantity"),
    Column("nearest_gate", "string", "", _STAGE, "that gate; empty when no gated quantity has an uncertainty"),
    *map(
        schema.column,
        (
            "energy_disagreement",
            "energy_above_hull",
            "energy_above_hull_error",
            "energy_per_atom",
            "suspect",
            "suspect_reason",
            "surrogate",
            "surrogate_sha256",
        ),
    ),
    Column("why", "string", "", _STAGE, "the reasons in words"),
    Column("campaign", "string", "", _STAGE, "name of the campaign"),
    Column("config_digest", "string", "", _STAGE, "SHA-256 of the run's config.yaml"),
)
"""In order; those that a run has no value of are empty."""
