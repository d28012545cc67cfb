"""Settings of what is enumerated: prototypes, ions, the way of substitution, and the cheap gates."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.settings import Settings, check_elements

SMALLEST_RADIUS, LARGEST_RADIUS = 0.05, 4.0
"""Å, of an ion that a campaign gives; the table's radii reach from 0.01 (B3+, threefold) to 2.72 (Ge4-)."""


class PrototypeSettings(Settings):
    """Which crystals are substituted."""

    source: Literal["materials_project", "mp_api", "aflow", "folder"] = Field(
        description="materials_project: structures_observed.parquet; mp_api: the observed structures, fetched from the "
        "Materials Project with your key (MP_API_KEY), once, then cached; aflow: pymatgen's AFLOW prototypes; folder: "
        "your own CIF, POSCAR or extxyz files"
    )
    path: str | None = Field(
        None,
        description="materials_project, folder: Parquet file or folder; relative paths are looked up beside the "
        "config, then in $IONSIEVE_DATA",
    )
    max_sites: int = Field(50, ge=1, le=500, description="largest primitive cell, atoms")
    min_elements: int = Field(
        2, ge=1, le=8, description="fewest elements of a prototype; crystals of your own are taken as they are"
    )
    max_elements: int = Field(
        5, ge=1, le=8, description="most elements of a prototype; crystals of your own are taken as they are"
    )
    anions: tuple[str, ...] = Field((), description="keep prototypes whose anions are all among these; empty: any")
    on_broken_file: Literal["stop", "skip"] = Field(
        "stop", description="what to do with an unreadable file of a folder"
    )

    @field_validator("anions")
    @classmethod
    def _elements(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_elements(value)
        return value

    @model_validator(mode="after")
    def _path_given(self) -> Self:
        if self.source == "folder" and self.path is None:
            raise ValueError("source 'folder' needs 'path', the folder of your CIF, POSCAR or extxyz files")
        if self.source == "mp_api" and self.path is not None:
            raise ValueError("source 'mp_api' has its own file; leave out 'path', or write source: materials_project")
        if self.source == "aflow" and self.path is not None:
            raise ValueError("source 'aflow' comes with pymatgen; leave out 'path', or write another source")
        if self.min_elements > self.max_elements:
            raise ValueError(f"min_elements {self.min_elements} is above max_elements {self.max_elements}")
        return self


class CandidateGates(Settings):
    """Cheap gates, applied while enumerating; rejected candidates are counted by reason, not stored."""

    mobile_ion_fraction: float | None = Field(
        0.10,
        ge=0.0,
        le=1.0,
        description="least share of mobile ions among the atoms, all mobile ions together",
    )
    radius_mismatch: float | None = Field(
        None, gt=0.0, le=3.0, description="largest |ln(r_new/r_old)| of Shannon radii on any orbit"
    )
    electronegativity_order: bool = Field(True, description="every cation less electronegative than every anion")
    substitution_probability: float | None = Field(
        None, ge=0.0, le=1.0, description="least Hautier substitution probability (pymatgen's lambda table)"
    )
    require_mobile_ion: bool = Field(True, description="at least one mobile ion must be present")
    require_one_of: tuple[tuple[str, ...], ...] = Field(
        (), description="sets of elements, e.g. [[F, Cl, Br, I]]: of each, a candidate holds at least one"
    )
    not_together: tuple[tuple[str, ...], ...] = Field(
        (), description="sets of elements, e.g. [[Li, Na]]: no candidate holds all of one"
    )
    keep_parents: bool = Field(
        True, description="candidates that are the prototype itself go through the funnel, as controls"
    )

    @field_validator("require_one_of", "not_together")
    @classmethod
    def _element_sets(cls, value: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        for group in value:
            if not group:
                raise ValueError("a set of elements is empty; name elements, or leave the set out")
            check_elements(group)
        return value


class CandidateSettings(Settings):
    """What is enumerated: prototypes, ions, the way of substitution, and the cheap gates."""

    prototypes: PrototypeSettings
    elements: tuple[str, ...] = Field((), description="elements that may be placed; needed unless substitution is none")
    oxidation_states: Literal["common", "tabulated"] = Field(
        "common",
        description="common: an element's common ions; tabulated: every ion of the table of ions that has a radius "
        "(what the ICSD holds, rare states such as Ti2+ included)",
    )
    charges: dict[str, tuple[int, ...]] = Field(
        default_factory=dict,
        description="oxidation states of an element, overriding the table, e.g. {Fe: [2, 3]}",
    )
    radii: dict[str, float] = Field(
        default_factory=dict,
        description="your own radii of ions for the gate radius_mismatch, Å, overriding Shannon's, e.g. {Li+: 0.76}",
    )
    exclude_elements: tuple[str, ...] = Field((), description="elements left out")
    exclude_classes: tuple[Literal["radioactive", "toxic", "rare"], ...] = Field((), description="classes left out")
    substitution: Literal["isovalent", "charge_neutral", "none"] = Field(
        "isovalent",
        description="isovalent: same charge on each site; charge_neutral: any ions in a neutral cell; "
        "none: every crystal of the source as it is",
    )
    by: Literal["element", "orbit"] = Field(
        "element", description="one ion per element, or per symmetry-distinct orbit"
    )
    max_species_per_element: int = Field(
        2, ge=1, le=4, description="distinct ions that replace one element (by: orbit)"
    )
    max_mixed_orbits: int = Field(6, ge=1, le=28, description="beyond this many orbits an element is substituted whole")
    max_elements: int = Field(5, ge=1, le=10, description="most elements in a substituted candidate")
    gates: CandidateGates = CandidateGates()
    chunk_size: int = Field(100_000, ge=1, le=10_000_000, description="raw assignments a work unit covers, about")

    @field_validator("elements", "exclude_elements")
    @classmethod
    def _elements(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_elements(value)
        return value

    @field_validator("charges")
    @classmethod
    def _charges(cls, value: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        check_elements(tuple(value))
        for symbol, states in value.items():
            if not states or 0 in states or any(abs(q) > 8 for q in states):
                raise ValueError(f"charges of {symbol} must be non-zero integers from -8 to 8, got {list(states)}")
        return value

    @field_validator("radii")
    @classmethod
    def _radii(cls, value: dict[str, float]) -> dict[str, float]:
        from pipeline.reference.ions import ion_label, parse_ion

        for label, radius in value.items():
            plain = ion_label(*parse_ion(label))
            if plain != label:
                raise ValueError(f"write {plain}, not {label}")
            if not SMALLEST_RADIUS <= radius <= LARGEST_RADIUS:
                raise ValueError(
                    f"the radius of {label} must lie from {SMALLEST_RADIUS:g} to {LARGEST_RADIUS:g} Å, got {radius:g}"
                )
        return value

    @property
    def own_crystals(self) -> bool:
        """Whether the user's crystals are screened as they are: all kept, none a prototype of others."""
        return self.prototypes.source == "folder" and self.substitution == "none"

    @model_validator(mode="after")
    def _elements_given(self) -> Self:
        if self.substitution != "none" and not self.elements:
            raise ValueError("'elements' is empty; list the elements that may be placed, or use substitution: none")
        asked = [
            name for name in ("radius_mismatch", "substitution_probability") if getattr(self.gates, name) is not None
        ]
        if self.substitution == "none" and asked:
            raise ValueError(
                f"with substitution: none nothing is substituted; leave out gates.{' and gates.'.join(asked)}"
            )
        return self

    @property
    def allowed_elements(self) -> tuple[str, ...]:
        """Elements after exclusion by name (classes are resolved by pipeline.reference.ions)."""
        if not self.exclude_elements:
            return self.elements
        return tuple(e for e in self.elements if e not in self.exclude_elements)
