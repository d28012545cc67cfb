"""From the rows of a file to :class:`LabelledCrystals`: everything that can be wrong with labels, found at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.neighbors import neighbor_list
from pipeline.surrogates.batch import FloatArray, IntArray, batch_from_rows
from pipeline.training.findings import Findings
from pipeline.training.groups import formula_group, protostructure_group
from pipeline.training.labelled import LabelledCrystals
from pipeline.training.settings import DataSettings

if TYPE_CHECKING:
    import pandas as pd

_SAME_ENERGY = 1e-4
_LARGEST_ATOMIC_NUMBER = 118

Row = dict[str, Any]


def checked_labels(
    frame: pd.DataFrame, file: str, settings: DataSettings, findings: Findings
) -> LabelledCrystals | None:
    """Labels of one file; what is wrong goes to ``findings``. None when no row is sound.

    Parameters
    ----------
    frame
        Columns of :data:`pipeline.training.labelled.LABEL_COLUMNS`, stresses in GPa.
    file
        Named in every problem, with the row (counted from 1).
    settings
        Bounds, scheme and grouping.
    findings
        Receives the problems.
    """
    rows: list[Row] = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    if not rows:
        findings.add("empty", file, None, "holds no crystal")
        return None
    with_stress = "stress" in frame
    _check_columns(frame, file, settings, findings)
    sound: list[int] = []
    for n, row in enumerate(rows, start=1):
        trouble = _row_trouble(row, with_stress, settings.largest_energy)
        if trouble is None:
            sound.append(n - 1)
        else:
            findings.add(trouble[0], file, n, trouble[1])
    if not sound:
        return None
    labels = _arrays([rows[i] for i in sound], sound, file, settings, with_stress)
    _check_physics(labels, np.array(sound) + 1, file, settings, findings)
    return labels


def _check_columns(frame: pd.DataFrame, file: str, settings: DataSettings, findings: Findings) -> None:
    """Scheme, groups and names of all rows."""
    if "label_scheme" in frame:
        schemes = {str(s) for s in frame["label_scheme"].dropna().unique()}
        if len(schemes) > 1:
            findings.add(
                "scheme", file, None, f"labels of several schemes: {', '.join(sorted(schemes))}; write one a file"
            )
        elif schemes and schemes != {settings.label_scheme}:
            findings.add(
                "scheme",
                file,
                None,
                f"label_scheme is {schemes.pop()!r}, but the training says {settings.label_scheme!r} of this file; "
                "energies of different schemes are never mixed",
            )
    if settings.group_by == "group":
        if "group" not in frame:
            findings.add(
                "group",
                file,
                None,
                "has no column group (the prototype); add it, or write data.group_by: protostructure or formula",
            )
        else:
            for n in np.flatnonzero(frame["group"].isna()):
                findings.add("group", file, int(n) + 1, "group is missing")
    if "structure_id" in frame:
        for n in np.flatnonzero(frame["structure_id"].duplicated() & frame["structure_id"].notna()):
            findings.add("id", file, int(n) + 1, f"structure_id {frame['structure_id'].iloc[n]!r} occurs twice")


def _row_trouble(row: Row, with_stress: bool, largest_energy: float) -> tuple[str, str] | None:
    """Kind and message of what keeps a row from being put into arrays; None if nothing does."""
    more = ("forces", "stress") if with_stress else ("forces",)
    return crystal_trouble(row, more) or _energy_trouble(row, len(row["atomic_numbers"]), largest_energy)


def crystal_trouble(row: Row, more: tuple[str, ...] = ()) -> tuple[str, str] | None:
    """Kind and message of what is wrong with a row's crystal, and with ``forces`` and ``stress`` where named."""
    names = ("lattice", "atomic_numbers", "frac_coords", *more)
    missing = [name for name in names if row.get(name) is None or np.ndim(row[name]) == 0]
    if missing:
        return "missing", f"{', '.join(missing)} missing"
    n = len(row["atomic_numbers"])
    sizes = {"lattice": 9, "atomic_numbers": n, "frac_coords": 3 * n, "forces": 3 * n, "stress": 9}
    wrong = [
        f"{name} has {len(row[name])} numbers instead of {sizes[name]}"
        for name in names
        if len(row[name]) != sizes[name]
    ]
    if wrong or n == 0:
        return "shape", "; ".join(wrong) or "has no atoms"
    nans = [name for name in names if not np.isfinite(np.asarray(row[name], float)).all()]
    if nans:
        return "NaN", f"{', '.join(nans)} not finite"
    numbers = np.asarray(row["atomic_numbers"])
    if numbers.min() < 1 or numbers.max() > _LARGEST_ATOMIC_NUMBER:
        return (
            "element",
            f"atomic numbers lie from 1 to {_LARGEST_ATOMIC_NUMBER}, got {numbers.min()} to {numbers.max()}",
        )
    volume = abs(float(np.linalg.det(np.asarray(row["lattice"], float).reshape(3, 3))))
    if volume < 0.1 * n:
        return "cell", f"{n} atoms in a cell of {volume:.3g} Å3"
    return None


def _energy_trouble(row: Row, n: int, largest: float) -> tuple[str, str] | None:
    total, per_atom = row.get("energy"), row.get("energy_per_atom")
    given = [float(e) for e in (total, None if per_atom is None else n * float(per_atom)) if e is not None]
    given = [e for e in given if not np.isnan(e)]
    if not given or not np.isfinite(given).all():
        return "energy missing", "energy missing or not finite"
    if max(given) - min(given) > _SAME_ENERGY * n:
        return "energy twice", f"energy is {total:g} eV, but energy_per_atom times {n} atoms {given[1]:g} eV"
    if abs(given[0]) > largest * n:
        return "energy", (
            f"{given[0] / n:.6g} eV/atom is no pseudopotential energy (at most data.largest_energy = {largest:g}); "
            "is it in another unit, or an all-electron total?"
        )
    return None


def _arrays(
    rows: list[Row], indices: list[int], file: str, settings: DataSettings, with_stress: bool
) -> LabelledCrystals:
    crystals = batch_from_rows(rows)
    energies = [
        row["energy_per_atom"] * n if row.get("energy") is None or np.isnan(row["energy"]) else row["energy"]
        for row, n in zip(rows, crystals.counts, strict=True)
    ]
    grouped: dict[str, Callable[[Row], str]] = {
        "group": lambda row: str(row.get("group")),
        "protostructure": protostructure_group,
        "formula": formula_group,
    }
    stem = file.rpartition("/")[2]
    return LabelledCrystals(
        ids=tuple(_word(row, "structure_id", f"{stem}-{i + 1}") for row, i in zip(rows, indices, strict=True)),
        crystals=crystals,
        energies=np.array(energies, np.float64),
        forces=np.concatenate([np.asarray(row["forces"], np.float64).reshape(-1, 3) for row in rows]),
        stresses=np.array([row["stress"] for row in rows], np.float64).reshape(-1, 3, 3) if with_stress else None,
        groups=tuple(map(grouped[settings.group_by], rows)),
        sources=tuple(_word(row, "source", "unknown") for row in rows),
        places=tuple(f"{file}:row {i + 1}" for i in indices),
        scheme=settings.label_scheme,
    )


def _word(row: Row, name: str, default: str) -> str:
    value = row.get(name)
    return default if value is None or value != value or value == "" else str(value)


def _check_physics(
    labels: LabelledCrystals, rows: IntArray, file: str, settings: DataSettings, findings: Findings
) -> None:
    """Forces, stresses and distances within the bounds; ``rows`` (B,) counted from 1."""
    batch, offsets = labels.crystals, labels.crystals.offsets
    norms = np.linalg.norm(labels.forces, axis=1)
    _above(
        np.maximum.reduceat(norms, offsets), settings.largest_force, "forces", rows, file, findings,
        "a force of {:.4g} eV/Å, more than data.largest_force = {:g}; is it in another unit?",
    )  # fmt: skip
    sums = np.linalg.norm(np.add.reduceat(labels.forces, offsets), axis=1) / batch.counts
    _above(
        sums, settings.largest_force_sum, "force sum", rows, file, findings,
        "forces sum up to {:.3g} eV/Å for each atom, more than data.largest_force_sum = {:g}: part of them is missing, "
        "or an external force acts",
    )  # fmt: skip
    if labels.stresses is not None:
        _above(
            np.abs(labels.stresses).max(axis=(1, 2)), settings.largest_stress, "stress", rows, file, findings,
            "a stress of {:.4g} GPa, more than data.largest_stress = {:g}; is it in kbar (10 to a GPa)?",
        )  # fmt: skip
        skew = np.abs(labels.stresses - labels.stresses.transpose(0, 2, 1)).max(axis=(1, 2))
        _above(skew, 1e-2, "skew", rows, file, findings, "the stress is not symmetric, by {:.3g} GPa (at most {:g})")
    closest = neighbor_list(batch.positions, batch.cells, batch.counts, settings.shortest_distance)[5]
    for b in np.flatnonzero(np.isfinite(closest[:, 0])):
        distance, i, j = closest[b]
        findings.add(
            "overlap",
            file,
            int(rows[b]),
            f"atoms {int(i)} and {int(j)} are {distance:.3g} Å apart, less than data.shortest_distance = "
            f"{settings.shortest_distance:g}",
        )


def _above(
    values: FloatArray, bound: float, kind: str, rows: IntArray, file: str, findings: Findings, message: str
) -> None:
    for b in np.flatnonzero(values > bound):
        findings.add(kind, file, int(rows[b]), message.format(values[b], bound))
