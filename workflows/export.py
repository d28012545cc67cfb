"""Ranked crystals for other programs, with their numbers and where they come from: extended XYZ and OPTIMADE."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import schema
from pipeline.atomic_files import write_text
from pipeline.config import ConfigError, Problem
from pipeline.crystal import STRUCTURE_COLUMNS, has_structure, structure_from_row
from workflows.caveats import read_reach
from workflows.files import digest_of_file, read_json
from workflows.step_results import read_step
from workflows.views import read_ranked, read_steps

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

PREFIX = "_ionsieve_"
API_VERSION = "1.2.0"
_OPTIMADE_TYPES = {"string": "string", "bool": "boolean", "int64": "integer", "float64": "float"}
_WHERE_FROM = ("campaign", "finished", "versions", "reference", "library", "notes", "citations")


@dataclass(frozen=True)
class Crystal:
    """One ranked candidate: its relaxed structure, and its values in the ranked table (missing ones left out)."""

    candidate_id: str
    structure: Structure
    values: dict[str, Any]


@dataclass(frozen=True)
class Exported:
    """What is written: crystals in the order of rank, ids of those without a structure, and the provenance."""

    crystals: list[Crystal]
    without_structure: list[str]
    provenance: dict[str, Any]

    @cached_property
    def columns(self) -> list[schema.Column]:
        """Columns that any crystal has a value of."""
        return [schema.column(name) for name in dict.fromkeys(n for c in self.crystals for n in c.values)]


def read_crystals(folder: Path, top: int | None = None) -> Exported:
    """Read the shortlist of a run, or its first ``top`` ranked candidates.

    Raises
    ------
    ConfigError
        When the run has no ranked table, or none of the candidates chosen has a relaxed crystal.
    """
    ranked = read_ranked(folder)
    chosen = ranked[ranked["shortlisted"]] if top is None else ranked.head(top)
    relaxed = _relaxed(folder, list(chosen["candidate_id"]))
    crystals, without = [], []
    for row in chosen.to_dict("records"):
        candidate = str(row["candidate_id"])
        if candidate not in relaxed:
            without.append(candidate)
            continue
        structure = structure_from_row(relaxed[candidate]).remove_oxidation_states()
        values = {str(k): _plain(str(k), v) for k, v in row.items() if v is not None and v == v and v != ""}
        crystals.append(Crystal(candidate, structure, values))
    if not any(step["stage"] == "stability" for step in read_steps(folder)):
        text = "this run relaxed nothing (no stage stability): there is no relaxed crystal to export"
        raise ConfigError([Problem(str(folder), text)])
    if not crystals:
        what = "the shortlist" if top is None else f"the first {top} ranked candidates"
        text = f"{what} of this run holds no crystal to export; --top N exports ranked ones beside the shortlist"
        raise ConfigError([Problem(str(folder), text)])
    return Exported(crystals, without, {**provenance(folder), "caveats": read_reach(folder).caveats(chosen)})


def _relaxed(folder: Path, ids: list[str]) -> dict[str, dict[Any, Any]]:
    """Relaxed crystals at full precision; the CIFs carry eight digits."""
    step = next((step for step in read_steps(folder) if step["stage"] == "stability"), None)
    if step is None or not ids:
        return {}
    rows = read_step(folder, step, ["candidate_id", *STRUCTURE_COLUMNS], only=ids).to_dict("records")
    return {str(row["candidate_id"]): row for row in rows if has_structure(row)}


def _plain(name: str, value: Any) -> Any:
    kinds: dict[str, Callable[[Any], Any]] = {"int64": int, "float64": float, "bool": _flag, "string": str}
    return kinds[schema.column(name).dtype](value)


def _flag(value: Any) -> bool:
    return str(value) == "True"


def provenance(folder: Path) -> dict[str, Any]:
    """Where a run's numbers come from: campaign and its digest, models with hash and licence, versions, citations."""
    from pipeline.surrogates import known_entries

    manifest, known = read_json(folder / "manifest.json"), known_entries()
    models = {
        name: {
            **{fact: value for fact, value in facts.items() if fact != "found_in"},  # a path says nothing elsewhere
            "licence": facts.get("licence") or (known[name].licence if name in known else "unknown"),
        }
        for name, facts in manifest.get("models", {}).items()
    }
    citations = manifest.get("citations", [])
    return {
        **{name: manifest[name] for name in _WHERE_FROM if name in manifest},
        "config_digest": digest_of_file(folder / "config.yaml"),
        "models": models,
        "data_licences": [cited for cited in citations if "CC BY" in cited],
        "exported_with": f"ionsieve {metadata.version('ionsieve')}",
    }


def write_extxyz(found: Exported, path: Path) -> None:
    """Write extended XYZ: a frame for each crystal, its values as ``info``; `ase.io.read(path, ":")` reads it.

    ``info`` holds each column of the ranked table under its own name, ``units`` (by column), and ``provenance``. Where
    the surrogate's energy is known it is the frame's energy too (eV, total, in the surrogate's own scheme).
    """
    units = {column.name: column.unit for column in found.columns if column.unit}
    _write(path, extxyz_text(found.crystals, units, found.provenance))


def extxyz_text(crystals: Sequence[Crystal], units: dict[str, str], where_from: dict[str, Any]) -> str:
    """Extended XYZ of crystals with their values, the values' units by column, and the provenance of all."""
    from ase.io import write

    buffer = io.StringIO()
    write(buffer, [_atoms(crystal, units, where_from) for crystal in crystals], format="extxyz")
    return buffer.getvalue()


def _atoms(crystal: Crystal, units: dict[str, str], where_from: dict[str, Any]) -> Atoms:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    structure = crystal.structure
    numbers = [site.specie.Z for site in structure]
    atoms = Atoms(numbers=numbers, scaled_positions=structure.frac_coords, cell=structure.lattice.matrix, pbc=True)
    own = {name: unit for name, unit in units.items() if name in crystal.values}
    atoms.info = {**{k: _as_read(v) for k, v in crystal.values.items()}, "units": own, "provenance": where_from}
    if "energy_per_atom" in crystal.values:
        atoms.calc = SinglePointCalculator(atoms, energy=len(atoms) * crystal.values["energy_per_atom"])
    return atoms


def _as_read(value: Any) -> Any:
    """A value so that ASE reads it back as it is.

    Text loses its line ends, since a frame's values are one line of the file. What ASE would take for a number or a
    truth value (sodium nitride's formula is NaN) goes in its form for JSON.
    """
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

    if not isinstance(value, str):
        return value
    line = " ".join(value.splitlines())
    if line.startswith("_JSON"):
        return f"_JSON {json.dumps(line)}"
    read = key_val_str_to_dict(key_val_dict_to_str({"value": line}))["value"]
    return line if isinstance(read, str) else f"_JSON {json.dumps(line)}"


def write_optimade(found: Exported, path: Path) -> None:
    """Write OPTIMADE JSON lines: a header with the provenance, the properties' definitions, a structure a line.

    Columns of the ranked table are the properties ``_ionsieve_<column>``, in lower case as OPTIMADE asks. Sources:
    OPTIMADE API specification 1.2 (Evans et al., Digital Discovery 2024, 3, 1509).
    """
    names = {column.name: _property_name(column.name) for column in found.columns}
    lines = [_header(found), _definitions(found)]
    lines += [_entry(crystal, names, found.provenance) for crystal in found.crystals]
    _write(path, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines))


def _header(found: Exported) -> dict[str, Any]:
    meta = {
        "api_version": API_VERSION,
        "implementation": {"name": "ionsieve", "version": metadata.version("ionsieve")},
        f"{PREFIX}provenance": found.provenance,
    }
    return {"x-optimade": {"meta": meta}}


def _definitions(found: Exported) -> dict[str, Any]:
    properties = {}
    for column in found.columns:
        unit = {"unit": column.unit} if column.unit else {}
        kind = _OPTIMADE_TYPES[column.dtype]
        described = {"title": column.name, "description": column.meaning, "type": kind, "sortable": False}
        properties[_property_name(column.name)] = {**described, **unit}
    return {
        "type": "info",
        "id": "structures",
        "description": "Relaxed crystals of a screening campaign, with what its stages computed.",
        "formats": ["json"],
        "output_fields_by_format": {"json": list(properties)},
        "properties": properties,
    }


def _property_name(column: str) -> str:
    return PREFIX + column.lower()


def _entry(crystal: Crystal, names: dict[str, str], where_from: dict[str, Any]) -> dict[str, Any]:
    from pymatgen.io.optimade import OptimadeStructureAdapter

    attributes: dict[str, Any] = OptimadeStructureAdapter.get_optimade_structure(crystal.structure)["attributes"]
    attributes["species"] = sorted(attributes["species"], key=lambda species: species["name"])
    attributes["last_modified"] = _in_utc(where_from.get("finished"))
    # JSON has no infinity, which is the barrier of an ion that does not get through: the property is left out
    finite = {k: v for k, v in crystal.values.items() if not (isinstance(v, float) and not math.isfinite(v))}
    attributes |= {names[name]: value for name, value in finite.items()}
    return {"type": "structures", "id": crystal.candidate_id, "attributes": attributes}


def _in_utc(time: str | None) -> str | None:
    """A time of the manifest as RFC 3339 in UTC."""
    if not time:
        return None
    parsed = datetime.strptime(time, "%Y-%m-%dT%H:%M:%S%z").astimezone(UTC)
    return parsed.strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError([Problem(str(path), f"can't be written: {error.strerror}")]) from None
