"""Write pipeline/reference/volume_radii.csv: ionic radii that give the volumes of observed crystals.

Pairs of observed compounds of one prototype and the same charges: each bond of the parent becomes longer by (sum of the
new radii) - (sum of the old radii), and the mean of new over old lengths, cubed, should be the ratio of the volumes.
Only differences matter. Radii are fitted from Shannon's (sixfold; H+ and H-, which have none, from 0.3 and 1.4 Å) by
reweighted least squares (Cauchy's weights, since one pair in five differs in shape, not in size alone), held near
Shannon's by a weak prior. Compounds of the half that `pipeline.reference.volume_radii.in_fit` holds out are in no pair.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pymatgen.core import Element
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import spsolve

from pipeline.candidate_settings import PrototypeSettings
from pipeline.reference.ions import ion
from pipeline.reference.prototypes import PrototypeLibrary, build_library
from pipeline.reference.volume_pairs import VolumePair, observed_pairs
from pipeline.reference.volume_radii import FILE, in_fit
from pipeline.stages.starting_volume import bonds_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

OUTPUT = Path(__file__).resolve().parent.parent / "pipeline" / "reference" / FILE
PARTNERS = 4  # parents of a target
PRIOR = 0.1  # weight of (radius - Shannon's)^2 against squares of ln(length): a radius met in 40 bonds moves freely
PRIOR_WITHOUT_RADIUS = 0.01
SOFT = 0.02  # ln(length): residuals above it lose weight
LONGEST_STEP = 0.1  # Å an iteration
SMALLEST = 0.05  # Å
ITERATIONS = 40
ORIGIN_OF_HYDROGEN = {1: 0.3, -1: 1.4}  # Å


@dataclass(frozen=True)
class Bonds:
    """Bonds of all pairs: of each the pair, its share, length (Å), and the four ions' indices; ``scale`` by pair."""

    pair: IntArray
    share: FloatArray
    length: FloatArray
    new: IntArray
    old: IntArray
    scale: FloatArray


def main() -> None:
    options = _options()
    source = Path(options.data) / "data" / "materials_project" / "structures_observed.parquet"
    settings = PrototypeSettings(source="materials_project", max_sites=50)
    library = PrototypeLibrary.load(options.library) if options.library else build_library(settings, source)
    pairs = observed_pairs(
        library,
        source,
        most=10**6,
        seed=0,
        wanted=lambda member: in_fit(member.formula),
        parents="wanted",
        partners=PARTNERS,
    )
    ions, bonds = collect(pairs)
    start = np.array([_origin(*i) for i in ions])
    radii = fit(bonds, start, np.array([PRIOR if _has_radius(*i) else PRIOR_WITHOUT_RADIUS for i in ions]))
    met = Counter(np.concatenate([bonds.new.reshape(-1), bonds.old.reshape(-1)]).tolist())
    order = sorted(range(len(ions)), key=lambda k: (Element(ions[k][0]).Z, ions[k][1]))
    with options.output.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["element", "oxidation_state", "radius", "bonds"])
        writer.writerows([*ions[k], f"{radii[k]:.3f}", met[k]] for k in order)
    for name, values in (("Shannon's", start), ("fitted", radii)):
        error = np.abs(np.exp(3.0 * (np.log(np.maximum(scales(values, bonds), 0.1)) - bonds.scale)) - 1.0)
        print(f"{name} radii, {len(pairs)} pairs of the fit: median error of the volume {100 * np.median(error):.2f} %")
    print(f"{options.output.name}: {len(ions)} ions")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("IONSIEVE_DATA"), help="default: $IONSIEVE_DATA")
    parser.add_argument("--library", type=Path, help="a saved library of these crystals; default: build it (a minute)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if not options.data:
        parser.error("set IONSIEVE_DATA or give --data")
    return options


def _has_radius(element: str, charge: int) -> bool:
    return bool(np.isfinite(ion(element, charge).radius))


def _origin(element: str, charge: int) -> float:
    return ion(element, charge).radius if _has_radius(element, charge) else ORIGIN_OF_HYDROGEN[charge]


def collect(pairs: list[VolumePair]) -> tuple[list[tuple[str, int]], Bonds]:
    """Every ion of the pairs, and their bonds as flat arrays."""
    index: dict[tuple[str, int], int] = {}

    def number(element: str, charge: int) -> int:
        return index.setdefault((element, charge), len(index))

    pair, share, length, new, old = [], [], [], [], []
    for k, item in enumerate(pairs):
        ends, counts, lengths = bonds_of(item.parent)
        after = [number(Element.from_Z(z).symbol, q) for z, q in zip(item.numbers, item.charges, strict=True)]
        before = [number(e, q) for e, q in zip(item.parent.orbit_elements, item.charges, strict=True)]
        pair += [k] * len(ends)
        share += (counts / counts.sum()).tolist()
        length += lengths.tolist()
        new += [[after[i], after[j]] for i, j in ends]
        old += [[before[i], before[j]] for i, j in ends]
    volumes = np.array([[p.volume, abs(np.linalg.det(p.parent.lattice))] for p in pairs])
    scale = np.log(volumes[:, 0] / volumes[:, 1]) / 3.0
    return list(index), Bonds(np.array(pair), np.array(share), np.array(length), np.array(new), np.array(old), scale)


def scales(radii: FloatArray, bonds: Bonds) -> FloatArray:
    """(pairs,) factor on lengths that the radii predict."""
    shift = radii[bonds.new].sum(axis=1) - radii[bonds.old].sum(axis=1)
    return np.bincount(bonds.pair, bonds.share * (1.0 + shift / bonds.length), len(bonds.scale))


def _slopes(radii: FloatArray, bonds: Bonds) -> csr_matrix:
    """(pairs, ions) derivative of ln(scale)."""
    each = bonds.share / bonds.length / scales(radii, bonds)[bonds.pair]
    columns = np.concatenate([bonds.new[:, 0], bonds.new[:, 1], bonds.old[:, 0], bonds.old[:, 1]])
    values = np.concatenate([each, each, -each, -each])
    return csr_matrix((values, (np.tile(bonds.pair, 4), columns)), shape=(len(bonds.scale), len(radii)))


def fit(bonds: Bonds, start: FloatArray, prior: FloatArray) -> FloatArray:
    """Radii in Å by reweighted Gauss-Newton steps."""
    radii = start.copy()
    for _ in range(ITERATIONS):
        wrong, slopes = bonds.scale - np.log(scales(radii, bonds)), _slopes(radii, bonds)
        weight = 1.0 / (1.0 + (wrong / SOFT) ** 2)
        matrix = slopes.T @ diags(weight) @ slopes + diags(prior)
        gradient = slopes.T @ (weight * wrong) + prior * (start - radii)
        step = spsolve(matrix.tocsc(), gradient)
        radii = np.maximum(radii + np.clip(step, -LONGEST_STEP, LONGEST_STEP), SMALLEST)
    return radii


if __name__ == "__main__":
    main()
