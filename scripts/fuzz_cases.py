"""One fuzzed case: files in a folder, read as `ionsieve validate` reads them, and what came of it."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, load_campaign
from pipeline.stages.candidates import count, enumerate_table, plan_units, with_structures
from scripts import fuzz_crystals, fuzz_tables
from scripts.fuzz_mutations import alias_bomb, changed_text, changed_tree, damaged_bytes, deep_nesting
from scripts.fuzz_sandbox import SPECIAL, Hang, Watch, limited_time, put, without_rights
from workflows.library import prototype_library
from workflows.preflight import OBSERVED, find_inputs

Files = dict[str, bytes | str]
"""Bytes of each file of a case, or what lies in its place (fuzz_sandbox.SPECIAL)."""

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
LONGEST_MESSAGE = 2000
"""Characters of one problem that a person still reads."""

_BASE = """\
name: fuzz
mobile_ions: [Li, Na]
candidates:
  prototypes: {{source: {source}, path: {path}, min_elements: 1, max_sites: 60, on_broken_file: {broken}}}
  elements: [Li, Na, Mg, Al, Cl, F]
  substitution: {substitution}
potential: {{model: CHGNet}}
reference: {{source: table, path: {phases}, elemental_references: {elements}}}
stages:
  - stage: stability
  - stage: window
  - stage: conduction
  - stage: practicality
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``accepted``, ``refused``, or what must not happen, and the text that tells more."""

    kind: str
    seconds: float
    text: str

    @property
    def failed(self) -> bool:
        """Whether this must not happen."""
        return self.kind not in ("accepted", "refused")


@cache
def _configs() -> tuple[tuple[str, dict[str, Any]], ...]:
    """Text and tree of each campaign in configs/; trainings lie there too."""
    from ruamel.yaml import YAML

    texts = [path.read_text(encoding="utf-8") for path in sorted(CONFIGS.glob("*.yaml"))]
    parsed = ((text, YAML(typ="safe", pure=True).load(text)) for text in texts)
    return tuple((text, tree) for text, tree in parsed if "candidates" in tree)


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(repr(value), repr(value))
    return json.dumps(value, ensure_ascii=False)


def _written(tree: dict[Any, Any]) -> str:
    """YAML of nested settings, each key of the first level, and each item of a list there, on a line of its own."""
    lines = []
    for key, value in tree.items():
        inner = [f"\n- {_flow(item)}" for item in value] if isinstance(value, list) and value else [f" {_flow(value)}"]
        lines.append(f"{_flow(key)}:{''.join(inner)}\n")
    return "".join(lines)


def _config_case(rng: random.Random) -> Files:
    text, tree = rng.choice(_configs())
    way = rng.random()
    if way < 0.03:
        return {"fuzz.yaml": rng.choice(SPECIAL)}
    if way < 0.50:
        for _ in range(rng.randint(1, 4)):
            tree = changed_tree(tree, rng)
        text = _written(tree)
    elif way < 0.80:
        for _ in range(rng.randint(1, 3)):
            text = changed_text(text, rng)
    elif way < 0.92:
        return {"fuzz.yaml": damaged_bytes(text.encode(), rng)}
    else:
        bomb = rng.choice((alias_bomb, deep_nesting))(rng)
        where = rng.random()
        text = bomb + text if where < 0.5 else text + "\n" + bomb
        if where > 0.7:
            fillers = ("x" * 3_000_000, "[" + "a, " * 300_000 + "a]", "'" + "y " * 500_000 + "'")
            text += f"filler: {rng.choice(fillers)}\n"
    return {"fuzz.yaml": text.encode("utf-8", "surrogatepass")}


def _structure_case(rng: random.Random) -> Files:
    name, content = fuzz_crystals.mutated_crystal(rng)
    files: Files = {f"crystals/{name}": content}
    if rng.random() < 0.3:
        sound, raw = rng.choice(fuzz_crystals.seed_files())
        files[f"crystals/sound_{sound}"] = raw
    config = _BASE.format(
        source="folder",
        path="crystals",
        broken=rng.choice(("stop", "skip")),
        substitution=rng.choice(("none", "isovalent", "charge_neutral")),
        phases="tables/phases.csv",
        elements="tables/elements.csv",
    )
    return {**files, "fuzz.yaml": config.encode()}


def _table_case(rng: random.Random) -> Files:
    which = rng.choice(("phases", "phases", "elements", "prototypes", "observed"))
    phases: bytes | str = fuzz_tables.PHASES.encode()
    elements: bytes | str = fuzz_tables.elements_csv()
    crystals: bytes | str = fuzz_tables.parquet(fuzz_tables.ROWS)
    observed: bytes | str = crystals
    if which == "phases":
        phases = fuzz_tables.mutated_csv(phases, rng)
    elif which == "elements":
        elements = fuzz_tables.mutated_csv(elements, rng)
    elif which == "prototypes":
        crystals = fuzz_tables.mutated_parquet(rng)
    else:
        observed = fuzz_tables.mutated_parquet(rng)
    config = _BASE.format(
        source="materials_project",
        path="crystals.parquet",
        broken="stop",
        substitution=rng.choice(("none", "isovalent")),
        phases="phases.csv.gz" if rng.random() < 0.5 else "phases.csv",
        elements="elements.csv",
    )
    name = "phases.csv.gz" if "phases.csv.gz" in config else "phases.csv"
    return {
        "fuzz.yaml": config.encode(),
        name: phases,
        "elements.csv": elements,
        "crystals.parquet": crystals,
        OBSERVED: observed,
    }


KINDS: dict[str, Callable[[random.Random], Files]] = {
    "configs": _config_case,
    "structures": _structure_case,
    "tables": _table_case,
}


def files_of_case(kind: str, seed: int, index: int) -> Files:
    """The files of a case, the same on every machine for the same seed and index."""
    return KINDS[kind](random.Random(f"{kind} {seed} {index}"))


def write_data(folder: Path, models: Path | None) -> None:
    """Lay out the small data folder that configs name their tables in."""
    put(folder / "tables" / "phases.csv", fuzz_tables.PHASES.encode())
    put(folder / "tables" / "elements.csv", fuzz_tables.elements_csv())
    energies = dict.fromkeys(_elements_of_configs(), -1.0)
    put(folder / "data/materials_project/phases.csv.gz", fuzz_tables.PHASES.encode())
    put(folder / "data/materials_project/elemental_references.csv", fuzz_tables.elements_csv(energies))
    put(folder / OBSERVED, fuzz_tables.parquet(fuzz_tables.ROWS))
    if models is not None:
        (folder / "models").symlink_to(models)


def _elements_of_configs() -> list[str]:
    found = {e for _, tree in _configs() for e in tree["candidates"]["elements"]}
    return sorted(found | {"Co", "P", "K", "Ca"})


def read_case(kind: str, folder: Path, files: Files, environ: Mapping[str, str], watch: Watch) -> Outcome:
    """Write a case's files into a folder and read them; never raises."""
    for name, content in files.items():
        put(folder / name, content)
    if (folder / OBSERVED).exists() or (folder / OBSERVED).is_symlink():
        environ = {**environ, "IONSIEVE_DATA": str(folder)}
    started = time.process_time()
    watch.seen.clear()
    watch.active = True
    try:
        with limited_time(), without_rights("unreadable" in files.values()):
            _read(kind, folder / "fuzz.yaml", environ)
        outcome, text = "accepted", ""
    except ConfigError as error:
        text = str(error)
        wrong = [trouble for problem in error.problems if (trouble := unclear(problem.place, problem.message))]
        outcome, text = ("unclear", f"{wrong[0]}: {text}") if wrong else ("refused", text)
    except Hang:
        outcome, text = "hang", ""
    except BaseException as error:  # a Rust panic is no Exception; whatever reaches the user as a traceback counts
        if isinstance(error, KeyboardInterrupt):
            raise
        outcome, text = "traceback", _last_call(error)
    finally:
        watch.active = False
    if watch.seen:
        outcome, text = "escaped", "; ".join(watch.seen[:5])
    return Outcome(outcome, time.process_time() - started, text)


def _read(kind: str, config: Path, environ: Mapping[str, str]) -> None:
    inputs = find_inputs(load_campaign(config), config, environ)
    if kind == "configs":  # the libraries of real campaigns take minutes to build
        return
    _, library = prototype_library(inputs, None, lambda _: None)
    settings = inputs.campaign.candidates
    count(settings, library)
    for unit in plan_units(settings, library):
        table, _ = enumerate_table(unit, settings, library, inputs.campaign.mobile_ions)
        if table.num_rows:
            with_structures(table.slice(0, 50).to_pandas(), library)


def _last_call(error: BaseException) -> str:
    """Kind, text and the last places of a traceback, ours before the libraries'."""
    import traceback

    calls = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(c.filename).parent.name}/{Path(c.filename).name}:{c.lineno}" for c in calls]
    return f"{type(error).__name__}: {str(error)[:300]} [{' < '.join(reversed(places[-8:]))}]"


def unclear(place: str, message: str) -> str:
    """What makes a problem's words unfit for a person; empty when they are clear."""
    if not place.strip() or len(message.strip()) < 8:
        return "no place or no text"
    if len(place) + len(message) > LONGEST_MESSAGE:
        return f"{len(place) + len(message)} characters"
    if found := re.search(r"Traceback|<[\w.]+ object at 0x|File \"[^\"]+\", line", message):
        return f"the words {found[0]!r}"
    return ""


def environment(home: Path) -> dict[str, str]:
    """Variables of a case: the small data folder, a cache of its own, no key of the Materials Project."""
    kept = {k: v for k, v in os.environ.items() if k not in ("MP_API_KEY", "PMG_MAPI_KEY")}
    return {**kept, "IONSIEVE_DATA": str(home / "data_root"), "IONSIEVE_CACHE": str(home / "cache"), "HOME": str(home)}
