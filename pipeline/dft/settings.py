"""Settings of stage ``dft``: which code, how precise, and which phases compete."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.stage_settings import Settings, StageSettings, check_elements


class GpawSettings(Settings):
    """Plane waves and PAW with GPAW, PBE without U; run by this stage."""

    cutoff: float = Field(500.0, ge=200.0, le=2000.0, description="of the plane waves, eV")
    kpoint_density: float = Field(
        3.0, ge=0.5, le=12.0, description="points per Å^-1 of each reciprocal vector (2π in it), Γ-centred grid"
    )
    smearing: float = Field(0.05, ge=0.0, le=0.5, description="Fermi-Dirac width, eV; energies are those at width 0")
    energy_convergence: float = Field(1e-5, gt=0.0, le=1e-2, description="eV per valence electron")
    max_iterations: int = Field(150, ge=10, le=2000, description="of the self-consistency cycle")


class EspressoSettings(Settings):
    """Inputs of Quantum ESPRESSO's pw.x, with the user's pseudopotentials."""

    pseudopotentials: dict[str, str] = Field(
        default_factory=dict, description="UPF file of each element, e.g. {Li: li_pbe_v1.4.uspp.F.UPF}; PBE ones"
    )
    pseudo_dir: str = Field("./pseudo", description="folder of those files where pw.x runs")
    cutoff: float = Field(60.0, ge=15.0, le=500.0, description="of the wave functions (ecutwfc), Ry")
    density_cutoff: float = Field(480.0, ge=60.0, le=5000.0, description="of the density (ecutrho), Ry")
    kpoint_density: float = Field(
        3.0, ge=0.5, le=12.0, description="points per Å^-1 of each reciprocal vector (2π in it), Γ-centred grid"
    )
    smearing: float = Field(0.01, gt=0.0, le=0.1, description="cold smearing (Marzari-Vanderbilt), Ry")
    energy_convergence: float = Field(1e-7, gt=0.0, le=1e-3, description="conv_thr, Ry for the cell")

    @field_validator("pseudopotentials")
    @classmethod
    def _of_elements(cls, value: dict[str, str]) -> dict[str, str]:
        check_elements(list(value))
        return value


class DftSettings(StageSettings):
    """Energy, band gap and distance to the hull by density functional theory, competing phases included."""

    stage: Literal["dft"] = "dft"
    engine: Literal["gpaw", "vasp", "espresso"] = Field(
        "gpaw", description="gpaw runs here; vasp and espresso get inputs, and `ionsieve dft collect` reads results"
    )
    relax: Literal["none", "positions", "cell"] = Field(
        "none", description="what DFT relaxes: nothing (the surrogate's crystal), atoms, or atoms and cell"
    )
    symmetry_tolerance: float = Field(
        0.05,
        ge=0.0,
        le=0.3,
        description="Å: the crystal is given the symmetry that it has within this, which saves k-points; 0: as it is",
    )
    fmax: float = Field(
        0.03, gt=0.0, le=1.0, description="gpaw, espresso: eV/Å, where a relaxation ends; VASP's ends as in MPRelaxSet"
    )
    max_steps: int = Field(60, ge=1, le=1000, description="gpaw, espresso: steps of a relaxation")
    time_limit: float = Field(7200.0, ge=1.0, le=30 * 86400.0, description="gpaw: seconds a calculation may take")
    competing_phases: Literal["system", "decomposition"] = Field(
        "system",
        description="which phases DFT computes too, beside the elements: those of the whole chemical system near the "
        "reference's hull, or only those that the reference says the candidate decomposes into",
    )
    competing_within: float = Field(
        0.0,
        ge=0.0,
        le=0.2,
        description="eV/atom above the reference's hull, to which phases compete",
    )
    max_competing_sites: int = Field(32, ge=1, le=200, description="atoms a competing phase may have in its cell")
    max_polymorphs: int = Field(
        5, ge=1, le=50, description="crystals of one competing phase among which the surrogate finds the lowest"
    )
    gpaw: GpawSettings = GpawSettings()
    espresso: EspressoSettings = EspressoSettings()
    chunk_size: int = Field(1, ge=1, le=100_000)

    def result_settings(self) -> dict[str, object]:
        """Without the time limit, and without the settings of the other engines."""
        unused = {"time_limit", *({"gpaw", "espresso"} - {self.engine})}
        kept = {key: value for key, value in super().result_settings().items() if key not in unused}
        return {**kept, **self.calculation_settings()}

    def calculation_settings(self) -> dict[str, object]:
        """What the result for a given crystal depends on: engine, relaxation, and the engine's own settings."""
        chosen: dict[str, object] = {"engine": self.engine, "relax": self.relax}
        if self.engine == "gpaw":
            chosen["gpaw"] = self.gpaw.model_dump(mode="json")
        if self.engine == "espresso":
            chosen["espresso"] = self.espresso.model_dump(mode="json", exclude={"pseudo_dir"})
        if self.engine != "vasp" and self.relax != "none":
            chosen |= {"fmax": self.fmax, "max_steps": self.max_steps}
        return chosen

    @model_validator(mode="after")
    def _known_to_the_engine(self) -> Self:
        fields = type(self).model_fields
        given = [name for name in ("fmax", "max_steps") if getattr(self, name) != fields[name].default]
        if self.engine == "vasp" and given:
            raise ValueError(f"{given[0]} is of gpaw and espresso; VASP relaxes as MPRelaxSet says: leave it out")
        return self

    @model_validator(mode="after")
    def _pseudopotentials_given(self) -> Self:
        if self.engine == "espresso" and not self.espresso.pseudopotentials:
            raise ValueError(
                "engine 'espresso' needs espresso.pseudopotentials: a UPF file for each element, such as "
                "{Li: li_pbe_v1.4.uspp.F.UPF, Cl: cl_pbe_v1.4.uspp.F.UPF}"
            )
        if self.espresso.density_cutoff < 4 * self.espresso.cutoff:
            raise ValueError(
                f"espresso.density_cutoff must be at least 4 times cutoff ({4 * self.espresso.cutoff:g} Ry), got "
                f"{self.espresso.density_cutoff:g} Ry"
            )
        return self
