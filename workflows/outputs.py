"""The files that a run leaves: tables, structures, and the sentence that explains the ranking."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from pipeline import ranking as ranking_rules
from pipeline import schema
from pipeline.atomic_files import write_atomically, write_text
from pipeline.config import Campaign, ConductionSettings
from pipeline.crystal import has_structure, structure_from_row
from pipeline.stages.practicality import SYMMETRY_TOLERANCE
from workflows.step_results import read_step
from workflows.steps import Step, funnel_table
from workflows.store import RunFolder

# Leading columns of ranked_candidates.csv; the others follow in the order of pipeline/schema.py.
_FIRST = (
    "rank",
    "candidate_id",
    "formula_pretty",
    "score",
    "pareto_front",
    "shortlisted",
    "is_control",
    "suspect",
    "energy_above_hull",
    "band_gap",
    "reduction_limit",
    "oxidation_limit",
    "migration_barrier_3d",
)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV atomically, numbers to nine significant digits, always with the same bytes for the same table."""
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, float_format="%.9g", lineterminator="\n")
    write_text(path, buffer.getvalue())


def public_columns(table: pd.DataFrame) -> list[str]:
    """Columns of the ranked table, in order: all declared ones that are there, but for structures and paths."""
    rest = [c for c in table.columns if c not in _FIRST and not _is_list(c)]
    return [c for c in _FIRST if c in table.columns] + sorted(rest, key=schema.position)


def _is_list(name: str) -> bool:
    return name in schema.POSITION and schema.column(name).is_list


def write_results(
    folder: RunFolder,
    campaign: Campaign,
    ranking: pd.DataFrame,
    steps: list[Step],
    failures: list[pd.DataFrame],
) -> None:
    """Write the tables, the column descriptions, the explanation of the ranking, and one CIF a ranked row."""
    columns = public_columns(ranking)
    write_csv(ranking[columns], folder.path / "ranked_candidates.csv")
    write_csv(ranking.loc[ranking["shortlisted"], columns], folder.path / "shortlist.csv")
    write_csv(_described(columns), folder.path / "columns.csv")
    write_csv(funnel_table(steps), folder.path / "funnel.csv")
    write_csv(with_sources(pd.concat(failures), folder.path, steps), folder.path / "failures.csv")
    write_text(folder.path / "ranking.txt", ranking_rules.explain(campaign.ranking) + "\n")
    write_structures(ranking, folder.structures)
    write_volumes(ranking, campaign, folder.structures)


def with_sources(failures: pd.DataFrame, folder: Path, steps: list[Step]) -> pd.DataFrame:
    """Failed rows with ``prototype_source``, such as the user's file; competing phases have none of the campaign's."""
    own = (failures["step"] != "competing_phases").to_numpy(dtype=bool)
    listed = next((vars(step) for step in steps if step.step == "candidates"), None)
    source = pd.Series("", index=range(len(failures)), dtype=object)
    if listed is not None and own.any():
        names = ["candidate_id", "prototype_source"]
        rows = read_step(folder, listed, names, failures.loc[own, "candidate_id"]).set_index("candidate_id")
        source[own] = failures.loc[own, "candidate_id"].map(rows["prototype_source"]).fillna("").to_numpy()
    return failures.assign(prototype_source=source.to_numpy())[["candidate_id", "prototype_source", "step", "error"]]


def _described(columns: list[str]) -> pd.DataFrame:
    described = [schema.column(name) for name in columns]
    return pd.DataFrame(
        {
            "column": [c.name for c in described],
            "unit": [c.unit for c in described],
            "dtype": [c.dtype for c in described],
            "stage": [c.stage for c in described],
            "meaning": [c.meaning for c in described],
        }
    )


def write_structures(ranking: pd.DataFrame, folder: Path) -> None:
    """Write ``<candidate_id>.cif`` for each ranked row, and remove those of rows that are ranked no more."""
    from pymatgen.io.cif import CifWriter

    folder.mkdir(exist_ok=True)
    written = set()
    for row in ranking.to_dict("records"):
        if not has_structure(row):
            continue
        path = folder / f"{row['candidate_id']}.cif"
        structure = structure_from_row(row).remove_oxidation_states()
        write_text(path, _cif_header(row) + str(CifWriter(structure, symprec=None)))
        written.add(path.name)
    for stale in folder.glob("*.cif"):
        if stale.name not in written:
            stale.unlink()


def write_volumes(ranking: pd.DataFrame, campaign: Campaign, folder: Path) -> None:
    """Write ``<candidate_id>.cube`` for the shortlist, if the conduction stage asks for it; remove those of others.

    The landscapes are computed again: a table would have to carry millions of numbers a row.
    """
    asked = [s for s in campaign.stages if isinstance(s, ConductionSettings) and s.write_volumes]
    written = set()
    if asked:
        settings = asked[0]
        for row in ranking[ranking["shortlisted"]].to_dict("records"):
            if row.get(f"{settings.stage}_status") != "ok" or not has_structure(row):
                continue
            path = folder / f"{row['candidate_id']}.cube"
            write_atomically(path, partial(_write_volume, row, settings, campaign.mobile_ions))
            written.add(path.name)
    for stale in folder.glob("*.cube"):
        if stale.name not in written:
            stale.unlink()


def _write_volume(
    row: dict[Any, Any], settings: ConductionSettings, mobile_ions: tuple[str, ...], stream: BinaryIO
) -> None:
    from pipeline.conduction_paths import ion_landscape
    from pipeline.stages.conduction import crystal_of
    from pipeline.volumes import write_cube

    structure = crystal_of(row)
    where = ion_landscape(
        structure, row["conduction_ion"], settings.spacing, mobile_ions=mobile_ions, cutoff=settings.cutoff
    )
    text = io.TextIOWrapper(stream, encoding="utf-8")
    write_cube(text, structure, where, settings.energy_cap)
    text.flush()
    text.detach()  # the stream is closed by who opened it


def _cif_header(row: dict[Any, Any]) -> str:
    """Comment lines on where a crystal is from; its sites follow in P1, exactly as they were relaxed."""
    lines = [
        f"{row['candidate_id']}: relaxed with {row.get('surrogate', 'an unknown model')}, written in P1 as it ended",
        f"prototype {row.get('prototype_source', 'unknown')}",
    ]
    number = row.get("spacegroup_relaxed")
    if number is not None and number == number:
        lines.append(f"space group {int(number)} when sites are matched within {SYMMETRY_TOLERANCE} Å")
    return "".join(f"# {line}\n" for line in lines)
