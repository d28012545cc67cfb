"""Tell superionic conductors from an insulator by molecular dynamics, beside published numbers.

Crystals come from the Materials Project's structures in ``$IONSIEVE_DATA``; each is relaxed, equilibrated and run at
every temperature. For each the table gives the tracer diffusivity with its 95 % interval (or the bound that three hops
make where none was seen), and where two temperatures or more have hops the activation energy and the conductivity at
300 K, beside measured and first-principles ones. Frames and checkpoints are kept under ``--work``: a killed run goes on
when it is called again, and so does one with a longer ``--picoseconds``.

Exit code 1 when, at the highest temperature, the diffusivity of any conductor is less than 100 times the insulator's
(its upper bound, where it has one), or a framework melts there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.diffusion.series import TemperatureSeries, temperature_series
from pipeline.diffusion.settings import DynamicsStageSettings
from pipeline.diffusion.simulation import mobile_cell, run_cells
from pipeline.diffusion.summary import summarise_arrhenius, summarise_trajectory
from pipeline.stages.rows import Failure
from pipeline.surrogates import load_potential

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from pipeline.surrogates import Potential

LEAST_RATIO = 100.0


@dataclass(frozen=True)
class Known:
    """A crystal, whether it conducts, and what is published of it."""

    material_id: str
    name: str
    conducts: bool
    published: str


KNOWN = (
    Known(
        "mp-1147619",
        "Li3YBr6",
        True,
        "measured 1.7 mS/cm (Asano et al., Adv. Mater. 2018, 30, 1803075); ab initio dynamics 2.2 mS/cm, 0.28 eV (Wang "
        "et al., Angew. Chem. Int. Ed. 2019, 58, 8039)",
    ),
    Known(
        "mp-696128",
        "Li10GeP2S12",
        True,
        "measured 12 mS/cm, 0.25 eV (Kamaya et al., Nat. Mater. 2011, 10, 682); ab initio dynamics 9 mS/cm, 0.21 eV "
        "(Mo, Ong and Ceder, Chem. Mater. 2012, 24, 15)",
    ),
    Known("mp-1138", "LiF", False, "perfect crystal: no vacancies, no conduction but by thermal defects"),
)


def main() -> int:
    """Run or go on, and print."""
    options = _options()
    began = time.perf_counter()
    potential = load_potential(options.model, device=options.device)
    settings = DynamicsStageSettings(
        temperatures=tuple(options.temperatures),
        production_time=options.picoseconds,
        equilibration=options.ensemble,
        equilibration_time=options.equilibration,
    )
    found: dict[str, TemperatureSeries] = {}
    for known in (k for k in KNOWN if k.name in options.crystals):
        started = time.perf_counter()
        chosen = settings if known.conducts else _for_an_insulator(settings, options.insulator_picoseconds)
        series = simulated(known, potential, chosen, Path(options.work))
        if isinstance(series, Failure):
            print(f"{known.name}: {series.error}")
            return 1
        found[known.name] = series
        tell(known, series, time.perf_counter() - started)
    met = compare(found)
    print(f"{time.perf_counter() - began:.0f} s in all, {os.cpu_count()} cores, {options.model}, {options.device}")
    return 0 if met else 1


def _for_an_insulator(settings: DynamicsStageSettings, picoseconds: float) -> DynamicsStageSettings:
    """The highest temperature alone, and longer: without hops the bound falls as one over ions and time."""
    return settings.model_copy(update={"temperatures": settings.temperatures[-1:], "production_time": picoseconds})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder of frames and checkpoints")
    parser.add_argument("--crystals", nargs="+", default=["Li3YBr6", "LiF"], choices=[k.name for k in KNOWN])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[600.0, 800.0, 1000.0], help="K, rising")
    parser.add_argument("--picoseconds", type=float, default=20.0, help="of the production")
    parser.add_argument("--insulator-picoseconds", type=float, default=50.0, help="of the insulator's production")
    parser.add_argument("--equilibration", type=float, default=3.0, help="ps")
    parser.add_argument("--ensemble", choices=["nvt", "npt"], default="nvt", help="of the equilibration")
    parser.add_argument("--model", default="M3GNet-MP-2021.2.8-PES")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    if not os.environ.get("IONSIEVE_DATA"):
        parser.error("set IONSIEVE_DATA: it holds model and structures")
    return options


def simulated(
    known: Known, potential: Potential, settings: DynamicsStageSettings, work: Path
) -> TemperatureSeries | Failure:
    """Relax a crystal and run it at all temperatures; a folder that has it gives its frames."""
    (relaxed,) = potential.relax([crystal(known.material_id)], fmax=0.05, keys=[known.material_id])
    cell = mobile_cell(known.material_id, relaxed.structure, ("Li",), settings)
    (runs,) = run_cells(potential, [cell], settings, work)
    return runs if isinstance(runs, Failure) else temperature_series(cell, runs)


def crystal(material_id: str) -> Structure:
    """A structure of the Materials Project, from the tables in ``$IONSIEVE_DATA``."""
    import pandas as pd
    from pymatgen.core import Lattice, Structure

    folder = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project"
    for path in sorted(folder.glob("structures_*.parquet")):
        rows = pd.read_parquet(path, filters=[("material_id", "==", material_id)])
        if len(rows):
            row = rows.iloc[0]
            coords = np.reshape(row.frac_coords, (-1, 3))
            return Structure(Lattice.from_parameters(*row.cell_parameters), list(row.species), coords)
    raise FileNotFoundError(f"{material_id} is in no structures_*.parquet of {folder}")


def tell(known: Known, series: TemperatureSeries, seconds: float) -> None:
    """All temperatures of a crystal, and what they say of 300 K."""
    cell = series.cell.structure
    print(f"## {known.name} ({known.material_id}), {len(cell)} atoms, {seconds:.0f} s\n")
    for run in series.runs:
        dynamics = run.dynamics
        print(summarise_trajectory(run.analysis))
        print(
            f"mean temperature {dynamics.temperature:.0f} ± {dynamics.temperature_error:.0f} K, drift of the conserved "
            f"energy {dynamics.energy_drift:+.4f} meV/atom/ps, volume {run.volume_change:+.1%} of the relaxed one\n"
        )
    if series.arrhenius is not None:
        print(summarise_arrhenius(series.arrhenius, series.cell.charges, cell.volume))
    print("\n".join(f"caution: {note}" for note in series.notes))
    print(f"published: {known.published}\n", flush=True)


def compare(found: dict[str, TemperatureSeries]) -> bool:
    """Print the diffusivities at the highest temperature side by side; whether each conductor's is large enough."""
    tracers = {name: series.runs[-1].analysis.tracer for name, series in found.items()}
    insulators = [k.name for k in KNOWN if not k.conducts and k.name in found]
    conductors = [k.name for k in KNOWN if k.conducts and k.name in found]
    if not insulators or not conductors:
        print("nothing to compare: name a conductor and an insulator")
        return True
    met = all(series.runs[-1].analysis.framework.verdict != "diffusing" for series in found.values())
    print("| conductor | insulator | T, K | D, cm2/s | insulator's D, cm2/s | ratio | at least, by the interval |")
    print("|---|---|---|---|---|---|---|")
    for insulator in insulators:
        still = tracers[insulator]
        for conductor in conductors:
            d = tracers[conductor]
            ratio = d.value / still.value
            met = met and not d.is_upper_bound and ratio >= LEAST_RATIO
            print(
                f"| {conductor} | {insulator} | {found[conductor].runs[-1].analysis.temperature:g} "
                f"| {d.value:.1e} ({d.interval[0]:.1e} to {d.interval[1]:.1e}) "
                f"| {'<' if still.is_upper_bound else ''}{still.value:.1e} "
                f"| {'>' if still.is_upper_bound else ''}{ratio:.0f} | {d.interval[0] / still.interval[1]:.0f} |"
            )
    print(f"\nratios of {LEAST_RATIO:g} or more, and no framework molten: {'yes' if met else 'NO'}")
    return met


if __name__ == "__main__":
    sys.exit(main())
