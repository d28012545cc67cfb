"""A run folder with drawn numbers in place of computed ones, through the writers of a real run.

For tests and timings of what reads a run folder. Nothing in it is a prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import ranking as ranking_rules
from pipeline import schema
from pipeline.atomic_files import write_json, write_text
from pipeline.config import Campaign, load_campaign
from pipeline.diffusion.series import SeriesPoint
from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key
from pipeline.units import BOLTZMANN
from workflows import outputs
from workflows.files import digest_of
from workflows.gating import possible_reasons, reasons_of
from workflows.provenance import campaign_as_yaml
from workflows.stable_phases import write_stable_phases
from workflows.steps import Step
from workflows.store import RunFolder, StageStore

CAMPAIGN = """\
name: synthetic
description: drawn numbers, no predictions
mobile_ions: [Li, Na]
candidates:
  prototypes: {{source: folder, path: crystals}}
  elements: [Li, Na, Mg, Y, Sc, Cl, Br]
potential: {{model: CHGNet}}
reference: {{source: prototypes}}
stages:
  - stage: stability
    gates: {{energy_above_hull: {{below: {gate}}}}}
  - stage: window
    gates: {{reduction_limit: {{below: 1.0}}, oxidation_limit: {{above: 3.0}}}}
  - stage: conduction
  - stage: practicality
{validation}ranking: {{shortlist_size: {shortlist}, max_per_formula: {per_formula}}}
"""
_VALIDATION = """\
  - stage: elasticity
  - stage: dynamics
    temperatures: [600, 800, 1000]
  - stage: dft
"""
_FORMATION_ENERGIES = {
    "LiCl": -1.97,
    "NaCl": -1.94,
    "MgCl2": -2.00,
    "YCl3": -2.50,
    "ScCl3": -2.30,
    "LiBr": -1.70,
    "NaBr": -1.77,
    "MgBr2": -1.65,
    "YBr3": -2.10,
    "ScBr3": -1.90,
    "Li3YCl6": -2.19,
    "Na3YCl6": -2.19,
    "Li2MgCl4": -1.99,
}
_UNIT = 4096
_CRYSTALS = 3000
_OF_STRUCTURES = ("lattice", "atomic_numbers", "frac_coords", "oxidation_states", "conduction_path_points")
_PATH = [0.0, 0.0, 0.0, 0.25, 0.1, 0.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 0.75, 0.1, 0.0, 1.0, 0.0, 0.0]
_METALS = ("Mg", "Y", "Sc")
_ANIONS = ("Cl", "Br")


def write_run(
    folder: Path,
    rows: int,
    *,
    gate: float = 0.05,
    shortlist: int = 18,
    per_formula: int = 1,
    atoms: int = 10,
    validated: bool = False,
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
) -> Path:
    """Write a run folder and return it.

    Parameters
    ----------
    folder
        Where; made when it is not there.
    rows
        Candidates that passed the cheap gates.
    gate
        Bound on ``energy_above_hull``, eV/atom; the energies are drawn between -0.01 and 0.2.
    shortlist, per_formula, atoms
        Size of the shortlist, how often a formula (there are 54) may stand on it, and atoms of each structure; the
        first 3,000 rows by energy have one.
    validated
        Whether the stages elasticity, dynamics and dft ran too.
    change
        What is done to the drawn table before it is written: a test puts its own values in.
    """
    run = RunFolder(folder)
    run.create()
    validation = _VALIDATION if validated else ""
    text = CAMPAIGN.format(gate=gate, shortlist=shortlist, per_formula=per_formula, validation=validation)
    run.config.write_text(text, encoding="utf-8")
    campaign = load_campaign(run.config)
    write_text(run.config, campaign_as_yaml(campaign))
    table = drawn_rows(rows, atoms)
    table = change(_with_validation(table) if validated else table)
    steps = [_written_candidates(run, table)]
    alive = table
    for settings in campaign.stages:
        own = ["candidate_id", *(c.name for c in schema.columns_of(settings.stage) if c.name in alive)]
        store = run.stage(settings.step, digest_of(settings.step))
        _commit(store, alive[own])
        reasons = reasons_of(settings, alive)
        counts = reasons.value_counts()
        out = {reason: int(counts[reason]) for reason in possible_reasons(settings) if reason in counts}
        texts = ", ".join(bound.text(name, schema.column(name).unit) for name, bound in settings.gates.items())
        passed = int((reasons == "").sum())
        failed = int((alive[f"{settings.stage}_status"] == "failed").sum())
        steps.append(Step(settings.step, settings.stage, texts, len(alive), failed, passed, out, digest=store.digest))
        alive = alive[reasons == ""].assign(**{f"pass_{settings.step}": True}).reset_index(drop=True)
    failed_rows = table[table["stability_status"] == "failed"]
    failures = failed_rows[["candidate_id"]].assign(step="stability", error=failed_rows["stability_error"])
    ranking = ranking_rules.rank(alive, campaign.ranking)
    outputs.write_results(run, campaign, ranking, steps, [failures])
    write_stable_phases(folder, ranking, competing_phases())
    write_json(run.progress, {"updated": 1782907500.0, "steps": [vars(step) for step in steps]})
    write_json(run.manifest, _manifest(campaign))
    return folder


def competing_phases() -> PhaseReference:
    """Salts with formation energies of about the right size, eV/atom."""
    return PhaseReference({composition_key(formula): energy for formula, energy in _FORMATION_ENERGIES.items()})


def drawn_rows(rows: int, atoms: int) -> pd.DataFrame:
    """Rows as the stages would leave them, all columns; numbers from a fixed seed."""
    draw = np.random.default_rng(20260701)
    metal, anion = draw.choice(_METALS, rows), draw.choice(_ANIONS, rows)
    lithium, sodium = draw.integers(1, 4, rows), draw.integers(0, 3, rows)
    formulas = [
        f"{f'Na{n}' if n > 1 else 'Na' * n}{f'Li{m}' if m > 1 else 'Li'}{metal}{x}{m + n + 2}"
        for n, m, metal, x in zip(sodium, lithium, metal, anion, strict=True)
    ]
    systems = [
        "-".join(sorted({"Li", metal, x, *(["Na"] if n else [])}))
        for n, metal, x in zip(sodium, metal, anion, strict=True)
    ]
    barrier = draw.gamma(3.0, 0.15, rows)
    energy = draw.beta(1.5, 4.0, rows) * 0.21 - 0.01
    columns = {
        "candidate_id": [f"{formula}-{i:012x}" for i, formula in enumerate(formulas)],
        "formula_pretty": formulas,
        "chemsys": systems,
        "nsites": np.full(rows, atoms),
        "prototype_source": "aflow-A2BC4D_tI16_121_d_a_i_b",
        "prototype_formula": "FeCu2SnS4",
        "is_parent": draw.random(rows) < 0.02,
        "mobile_ion_fraction": draw.uniform(0.1, 0.6, rows),
        "energy_above_hull": energy,
        "energy_above_hull_error": draw.uniform(0.02, 0.04, rows),
        "stability_probability": draw.random(rows),
        "volume": draw.uniform(150.0, 400.0, rows),
        "volume_change": draw.normal(0.0, 0.1, rows),
        "formation_energy_per_atom": energy - competing_phases().energy_above_hull(formulas, np.zeros(rows)),
        "relaxation_steps": draw.integers(3, 120, rows),
        "relaxation_converged": draw.random(rows) < 0.97,
        "max_force": draw.uniform(0.0, 0.05, rows),
        "surrogate": "CHGNet",
        "suspect": draw.random(rows) < 0.03,
        "reduction_limit": draw.uniform(0.0, 1.2, rows),
        "oxidation_limit": draw.uniform(2.7, 4.5, rows),
        "oxidation_products": "LiCl 0.67; Cl2 0.33",
        "voltage_profile": "Li: 4 <0.86 V> 2 <4.13 V> 0",
        "migration_barrier_1d": 0.8 * barrier,
        "migration_barrier_2d": 0.9 * barrier,
        "migration_barrier_3d": barrier,
        "conduction_ion": "Li",
        "density": draw.uniform(1.5, 4.0, rows),
        "cost_per_kg": np.exp(draw.normal(3.0, 1.0, rows)),
        "is_known": draw.random(rows) < 0.02,
        "in_database": False,
    }
    table = pd.DataFrame(columns)
    table["suspect_reason"] = np.where(table["suspect"], "volume changed by +50%, more than 40%", "")
    failed = draw.random(rows) < 0.01
    table["stability_status"] = np.where(failed, "failed", "ok")
    table["stability_error"] = np.where(failed, "ExplodingVolume: 3.41 times the initial volume after 9 steps", "")
    table.loc[failed, ["energy_above_hull", "energy_above_hull_error"]] = np.nan
    for stage in ("window", "conduction", "practicality"):
        table[f"{stage}_status"], table[f"{stage}_error"] = "ok", ""
    return _with_structures(table, atoms, draw)


def _with_validation(table: pd.DataFrame) -> pd.DataFrame:
    """Add columns of elasticity, dynamics and dft; every fifth row has no hop at the lowest temperature."""
    rows, draw = len(table), np.random.default_rng(20260702)
    energy = draw.uniform(0.2, 0.5, rows)
    conductivity = 1e3 * np.exp(-energy / (BOLTZMANN * 300.0))
    bound = np.arange(rows) % 5 == 0
    stages = ("elasticity", "dynamics", "dft")
    return table.assign(
        bulk_modulus=draw.uniform(15.0, 60.0, rows),
        shear_modulus=draw.uniform(5.0, 30.0, rows),
        elastically_stable=True,
        md_ions="Li",
        md_activation_energy=energy,
        md_activation_energy_low=energy - 0.04,
        md_activation_energy_high=energy + 0.04,
        conductivity_md_300K=conductivity,
        conductivity_md_300K_low=conductivity / 5.0,
        conductivity_md_300K_high=conductivity * 5.0,
        md_series=[_drawn_series(e, b) for e, b in zip(energy, bound, strict=True)],
        md_is_reliable=~bound,
        md_notes=np.where(bound, "600 K: upper bound made of three hops; too few hops at 600 K", ""),
        dft_energy_above_hull=np.maximum(table["energy_above_hull"] + draw.normal(0.0, 0.02, rows), 0.0),
        dft_band_gap=draw.uniform(3.0, 6.0, rows),
        dft_code="none: drawn numbers",
        dft_functional="PBE",
        **{f"{stage}_status": "ok" for stage in stages},
        **{f"{stage}_error": "" for stage in stages},
    )


def _drawn_series(energy: float, bound: bool) -> str:
    """Three temperatures on a line of this activation energy (eV), the lowest as a bound where asked."""
    points = []
    for temperature in (600.0, 800.0, 1000.0):
        d = 1e-3 * float(np.exp(-energy / (BOLTZMANN * temperature)))
        point = SeriesPoint(temperature, d, (0.7 * d, 1.4 * d), False, int(4e6 * d), "solid")
        if bound and temperature == 600.0:
            point = SeriesPoint(temperature, 2.0 * d, (0.0, 2.0 * d), True, 0, "solid")
        points.append(point)
    return "; ".join(map(str, points))


def _with_structures(table: pd.DataFrame, atoms: int, draw: np.random.Generator) -> pd.DataFrame:
    """Give the first rows by energy a crystal: four species on a jittered grid."""
    chosen = set(table["energy_above_hull"].nsmallest(_CRYSTALS).index)
    side = int(np.ceil(atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side) / side] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:atoms]
    lattice = (np.diag([2.7 * side, 2.8 * side, 2.9 * side])).ravel().tolist()
    numbers = [(3, 11, 39, 17)[i % 4] for i in range(atoms)]
    empty: list[object] = [None] * len(table)
    columns = {name: list(empty) for name in _OF_STRUCTURES}
    for i in chosen:
        columns["lattice"][i] = lattice
        columns["atomic_numbers"][i] = numbers
        columns["frac_coords"][i] = (grid + draw.normal(0.0, 0.01, grid.shape)).ravel().tolist()
        columns["oxidation_states"][i] = []
        columns["conduction_path_points"][i] = _PATH
    return table.assign(**{name: pd.Series(values, dtype=object) for name, values in columns.items()})


def _written_candidates(run: RunFolder, table: pd.DataFrame) -> Step:
    own = [c.name for c in schema.columns_of("candidates") if c.name in table]
    store = run.stage("candidates", digest_of("candidates"))
    _commit(store, table[own])
    gates = "mobile_ion_fraction >= 0.1"
    out = {"mobile_ion_fraction": 3 * len(table)}
    return Step("candidates", "candidates", gates, 4 * len(table), 0, len(table), out, digest=store.digest)


def _commit(store: StageStore, table: pd.DataFrame) -> None:
    pieces = [table[i : i + _UNIT] for i in range(0, len(table), _UNIT)]
    units = store.plan([list(piece["candidate_id"]) for piece in pieces])
    for unit, piece in zip(units, pieces, strict=True):
        note = {"seconds": 1.0, "rows": len(piece)}
        store.commit(unit, schema.to_arrow(piece, list(piece.columns)), note)


def _manifest(campaign: Campaign) -> dict[str, object]:
    return {
        "campaign": campaign.name,
        "started": "2026-07-01T12:00:00+0000",
        "finished": "2026-07-01T12:10:00+0000",
        "versions": {"python": "3.11", "ionsieve": "0.1.0"},
        "hardware": {"processor": "none: drawn numbers"},
        "models": {},
        "notes": ["drawn numbers, no predictions"],
        "citations": [
            "Materials Project data: Jain et al., APL Materials 2013, 1, 011002; CC BY 4.0",
            "AFLOW prototypes: Mehl et al., Comput. Mater. Sci. 2017, 136, S1",
        ],
    }
