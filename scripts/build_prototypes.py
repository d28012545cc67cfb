"""Build a prototype library and write it, with a list of every crystal that is left out and why.

    python scripts/build_prototypes.py library.parquet --source materials_project --max-elements 4
    python scripts/build_prototypes.py library.parquet --source folder --path my_cifs --on-broken-file skip

Writes the library (Parquet; version, counts and digest in its metadata) and, beside it, `library.left_out.csv` with the
columns source_id, formula, reason, detail. For `ambiguous_oxidation_states` the detail holds the competing solutions,
each with its bond-valence deviation in valence units. Campaigns build their library by themselves; this is for looking
at one.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from pipeline.candidate_settings import PrototypeSettings
from pipeline.reference.fetched_phases import MaterialsProjectError
from pipeline.reference.prototypes import PrototypeError, build_library
from pipeline.references import resolve_path
from workflows.library import left_out_beside
from workflows.phase_cache import materials_project_structures
from workflows.preflight import OBSERVED

SOURCES = get_args(PrototypeSettings.model_fields["source"].annotation)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("output", type=Path, help="Parquet file to write")
    made.add_argument("--source", choices=SOURCES, default="materials_project")
    made.add_argument("--path", help=f"Parquet file or folder; default for materials_project: {OBSERVED}")
    made.add_argument("--max-sites", type=int, default=50, help="largest primitive cell, atoms")
    made.add_argument("--min-elements", type=int, default=2)
    made.add_argument("--max-elements", type=int, default=5)
    made.add_argument("--anions", default="", help="keep prototypes whose anions are all among these, such as F,Cl")
    made.add_argument("--on-broken-file", choices=("stop", "skip"), default="stop")
    return made


def source_path(settings: PrototypeSettings, environ: dict[str, str]) -> Path | None:
    """File or folder that the crystals are read from; fetched first for ``mp_api``."""
    if settings.source == "mp_api":
        return materials_project_structures(settings, environ, print).structures
    wanted = settings.path or (OBSERVED if settings.source == "materials_project" else None)
    if wanted is None:
        return None
    found = resolve_path(wanted, Path.cwd(), environ)
    if found is None:
        data = environ.get("IONSIEVE_DATA", "not set")
        raise PrototypeError(f"{wanted} is neither here nor in $IONSIEVE_DATA ({data})")
    return found


def build(arguments: argparse.Namespace, environ: dict[str, str]) -> None:
    settings = PrototypeSettings(
        source=arguments.source,
        path=arguments.path,
        max_sites=arguments.max_sites,
        min_elements=arguments.min_elements,
        max_elements=arguments.max_elements,
        anions=tuple(a for a in arguments.anions.split(",") if a),
        on_broken_file=arguments.on_broken_file,
    )
    path = source_path(settings, environ)
    started = time.perf_counter()
    library = build_library(settings, path, keep_all=False)
    seconds = time.perf_counter() - started
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    library.save(arguments.output)
    listed = left_out_beside(arguments.output)
    library.save_left_out(listed)
    print(f"{sum(library.counts.values()):,} crystals from {path or settings.source}")
    for reason, number in sorted(library.counts.items(), key=lambda item: -item[1]):
        print(f"{number:9,}  {reason}")
    print(f"digest {library.digest}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{seconds:.0f} s, at most {memory:.2f} GiB of memory")
    print(f"wrote {arguments.output} and {listed}")


def main(argv: list[str] | None = None) -> int:
    try:
        build(parser().parse_args(argv), dict(os.environ))
    except (PrototypeError, MaterialsProjectError, ValidationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
