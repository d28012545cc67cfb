"""Write the softBV parameter tables in ``pipeline/reference`` from the installed package ``bvlain``.

The values are those of Chen, Wong and Adams (2019), as `bvlain <https://github.com/dembart/BVlain>`_
(MIT licence) ships them. Run this only to change the version of the tables; the package never imports bvlain.
"""

import argparse
import csv
import pickle
from importlib.metadata import files as distribution_files
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from pymatgen.core import Element

from pipeline.reference import bond_valence

PAIR_FIELDS = ("r0", "r_min", "d0", "alpha")

CITATION = """\
softBV parameters: H. Chen, L. L. Wong and S. Adams, Acta Cryst. B 75 (2019) 18-33.
Taken from the Python package bvlain {version} (https://github.com/dembart/BVlain) by
scripts/build_bond_valence_parameters.py. bvlain's MIT licence follows.

{licence}"""


def read_pickle(name: str) -> Any:
    """One of bvlain's own data files; it is an installed, pinned package, so unpickling it is safe."""
    return pickle.loads(files("bvlain").joinpath("data", name).read_bytes())


def read_licence() -> str:
    """Licence text of bvlain, from its distribution."""
    for path in distribution_files("bvlain") or ():
        if path.name.upper().startswith("LICENSE"):
            return path.read_text()
    raise FileNotFoundError("the installed bvlain carries no LICENSE; install bvlain==0.25.1 from PyPI")


def pair_rows() -> list[list[Any]]:
    """Rows of cation, charge, anion, charge and the four numbers, ordered by atomic numbers."""
    return [
        [Element.from_Z(int(z)).symbol, int(q), Element.from_Z(int(za)).symbol, int(qa)]
        + [float(values[field]) for field in PAIR_FIELDS]
        for z, by_charge in sorted(read_pickle("cation.pkl").items())
        for q, by_anion in sorted(by_charge.items())
        for za, by_anion_charge in sorted(by_anion.items())
        for qa, values in sorted(by_anion_charge.items())
    ]


def element_rows() -> list[list[Any]]:
    """Rows of element, principal quantum number, radius as a cation and as an anion (empty when unknown)."""
    radii = read_pickle("covalent_radii_softvb.pkl")
    rows = []
    for z, quantum_number in sorted(read_pickle("quantum_n.pkl").items()):
        signed = {sign: {r for q, r in radii.get(z, {}).items() if q * sign > 0} for sign in (1, -1)}
        for sign, values in signed.items():
            if len(values) > 1:
                raise ValueError(f"Z={z} has several radii {sorted(values)} for charges of sign {sign:+d}")
        if not signed[1] and not signed[-1]:
            continue
        symbol = Element.from_Z(int(z)).symbol
        rows.append([symbol, int(quantum_number), *(next(iter(signed[sign]), "") for sign in (1, -1))])
    return rows


def write_table(path: Path, header: tuple[str, ...], rows: list[list[Any]], note: str) -> None:
    """A CSV whose first lines, starting with '#', carry the note."""
    with path.open("w", newline="") as handle:
        handle.writelines(f"# {line}".rstrip() + "\n" for line in note.splitlines())
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    print(f"{path}: {len(rows)} rows")


def main() -> None:
    """Write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(bond_valence.__file__).parent)
    folder = parser.parse_args().folder
    note = CITATION.format(version=version("bvlain"), licence=read_licence())
    write_table(folder / "bond_valence_pairs.csv", bond_valence.PAIR_COLUMNS, pair_rows(), note)
    write_table(folder / "bond_valence_elements.csv", bond_valence.ELEMENT_COLUMNS, element_rows(), note)


if __name__ == "__main__":
    main()
