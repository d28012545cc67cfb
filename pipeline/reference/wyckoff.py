"""Data of pymatgen's prototypes package, read as files: to import it costs seconds, as it parses AFLOW's references."""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = "pymatgen.analysis.prototypes"


def wyckoff_permutations(number: int) -> tuple[dict[int, str], ...]:
    """Renamings of Wyckoff letters that a space group's normaliser allows, as tables for ``str.translate``.

    Data of Goodall et al. (Sci. Adv. 2022, 8, eabn4117), the identity among them.
    """
    return _all_permutations()[number]


@cache
def _all_permutations() -> dict[int, tuple[dict[int, str], ...]]:
    return {
        int(number): tuple({int(letter): other for letter, other in table.items()} for table in tables)
        for number, tables in pymatgen_data("wyckoff-position-relabelings.json.gz").items()
    }


def pymatgen_data(name: str) -> Any:
    """Content of a compressed JSON file of the package, without importing it.

    Raises
    ------
    ModuleNotFoundError
        When pymatgen has no such package.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{PACKAGE} is not installed; install the version of pymatgen in constraints.txt")
    return json.loads(gzip.decompress((Path(spec.submodule_search_locations[0]) / name).read_bytes()))
