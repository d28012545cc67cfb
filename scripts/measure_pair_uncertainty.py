"""Does the disagreement of two potentials tell how wrong the first one is on prototypes that it has not seen?

    python scripts/measure_pair_uncertainty.py FIRST SECOND TRUTH --work FOLDER

FIRST, SECOND and TRUTH are names or folders of potentials, such as models/ionsieve-M3GNet-halides, CHGNet and
M3GNet-MP-2021.2.8-PES. Candidates are those of scripts/measure_distilled.py: of
prototypes in the test split of the labels of FIRST (or of ``--labels``). They are relaxed with FIRST, as stage
stability does, and all three give the formation energy of what comes out. The error is FIRST minus TRUTH, the
disagreement |FIRST - SECOND|. The distribution of pipeline/reference/surrogate_errors.py, Student's with
s^2 = scale^2 + (k d)^2 about a bias by anion class, is fitted to the candidates of all prototypes but a fold's, and
predicts the errors of the fold's: no candidate is predicted by a fit that has seen its prototype. Printed are the
coverage of intervals, predicted against observed error in bins, and how chances to lie under a gate hold; all also
without the disagreement.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from error_calibration import LEVELS, bins, coverage, predictions
from fit_surrogate_errors import GATES, print_bins
from held_out import Distilled, unseen_candidates
from measure_distilled import CAMPAIGN, relaxed_by
from measure_surrogate_errors import formation_energies
from random_candidates import campaign_references
from relaxation_tables import table

from kernels.rank_statistics import spearman
from pipeline.crystal import structure_from_row
from pipeline.reference.anion_class import anion_class
from pipeline.reference.formulas import structure_formula
from pipeline.surrogates import load_potential

BINS = 5


def main() -> int:
    """Draw, relax, evaluate, predict, print."""
    options = _options()
    references = campaign_references(options.config)
    model = Distilled((options.labels or Path(options.first)).resolve())
    rows = unseen_candidates(model, references, options.count, options.seed, options.work)
    found = energies_of_three(rows, options)
    hull = np.array([references.phases.hull_energy(formula) for formula in found["formula"]])
    print(
        f"{len(found)} candidates of {found['prototype'].nunique()} unseen prototypes, relaxed with {options.first}; "
        f"errors against {options.truth}, disagreement with {options.second}"
    )
    print_disagreement(found)
    print_predictions(found, hull, options.seed)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="the potential whose errors are predicted")
    parser.add_argument("second", help="the potential that it disagrees with")
    parser.add_argument("truth", help="the potential that its errors are counted from")
    parser.add_argument("--labels", type=Path, help="folder of a distilled model with labels; default FIRST")
    parser.add_argument("--config", type=Path, default=CAMPAIGN, help="campaign whose candidates are drawn")
    parser.add_argument("--count", type=int, default=400, help="candidates")
    parser.add_argument("--seed", type=int, default=1, help="of the draw and of the folds")
    parser.add_argument("--processes", type=int, default=1, help="that relax")
    parser.add_argument("--work", type=Path, required=True, help="folder for what was relaxed")
    return parser.parse_args()


def energies_of_three(rows: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """Formation energies (eV/atom, MP2020) of the crystals that the first relaxed, by each of the three.

    Columns ``formula``, ``anion_class``, ``prototype``, ``first``, ``second``, ``truth``, ``disagreement``. What one of
    the three can't evaluate is left out.
    """
    first = str(Path(options.first).resolve()) if Path(options.first).is_dir() else options.first
    relaxed = relaxed_by(first, rows, options)
    kept = np.isfinite(relaxed["energy_per_atom"].to_numpy(dtype=float))
    structures = [structure_from_row(row) for row in relaxed[kept].to_dict("records")]
    formulas = [structure_formula(structure) for structure in structures]
    found = pd.DataFrame(
        {
            "formula": formulas,
            "anion_class": [anion_class(formula) for formula in formulas],
            "prototype": rows["prototype"].to_numpy()[kept],
        }
    )
    for column, name in (("first", first), ("second", options.second), ("truth", options.truth)):
        found[column] = formation_energies(load_potential(name), structures)
    found["disagreement"] = (found["first"] - found["second"]).abs()
    return found.dropna().reset_index(drop=True)


def print_disagreement(found: pd.DataFrame) -> None:
    """Print the errors along the disagreement, nothing fitted."""
    errors = (found["first"] - found["truth"]).to_numpy()
    gaps = found["disagreement"].to_numpy()
    print(f"rank correlation of disagreement and absolute error: {spearman(gaps, np.abs(errors)):.3f}\n")
    rows = []
    for chosen in np.array_split(np.argsort(gaps, kind="stable"), BINS):
        sizes, ends = 1000 * np.abs(errors[chosen]), 1000 * gaps[chosen][[0, -1]]
        quantiles = (f"{np.quantile(sizes, q):.1f}" for q in (0.5, 0.9))
        rows.append((f"{ends[0]:.0f} to {ends[1]:.0f}", len(chosen), *quantiles))
    table("disagreement, meV/atom | candidates | absolute error, meV/atom: median | 90 % below", rows)


def print_predictions(found: pd.DataFrame, hull: np.ndarray, seed: int) -> None:
    """Print how well the predicted distributions hold, without and with the disagreement."""
    errors, gaps = (found["first"] - found["truth"]).to_numpy(), found["disagreement"].to_numpy()
    classes, prototypes = found["anion_class"].tolist(), found["prototype"].tolist()
    above, true = (found[name].to_numpy() - hull for name in ("first", "truth"))
    both = {
        "class alone": predictions(errors, classes, prototypes, None, seed),
        "with disagreement": predictions(errors, classes, prototypes, gaps, seed),
    }
    table(
        "prediction | " + " | ".join(f"errors within {level:.0%}" for level in LEVELS),
        [(words, *(f"{share:.1%}" for share in coverage(errors, p).values())) for words, p in both.items()],
    )
    table(
        "prediction | candidates | 68 % half width, meV/atom: predicted | observed | median absolute error",
        [
            (words, b.count, *(f"{1000 * value:.1f}" for value in (b.predicted, b.observed, b.median)))
            for words, p in both.items()
            for b in bins(errors, p, BINS)
        ],
    )
    for words, p in both.items():
        chance = [[e.chance_below(gate, a) for a, e in zip(above, p, strict=True)] for gate in GATES]
        gates = ", ".join(f"{1000 * gate:g}" for gate in GATES)
        held = np.ravel([true < gate for gate in GATES])
        print_bins(f"{words}: under {gates} meV/atom above the hull", np.ravel(chance), held)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(main())
