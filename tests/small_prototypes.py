"""Small prototypes made by hand, for the enumeration against plain Python."""

from collections.abc import Mapping

from pymatgen.core import Lattice, Structure

from pipeline.reference.ions import ion
from pipeline.reference.protostructure import standardise
from pipeline.reference.prototype_sources import from_structure
from pipeline.reference.prototypes import Prototype, make_prototype


def prototype_of(structure: Structure, charges: Mapping[str, int]) -> Prototype:
    """A prototype with the charges given, by the steps of the library's build."""
    item = from_structure("hand-made", structure.copy().add_oxidation_state_by_element(dict(charges)))
    radii = {e: ion(e, q).radius for e, q in charges.items()}
    crystal = standardise(item.lattice, item.frac_coords, item.elements, dict(charges), radii)
    return make_prototype((item, crystal), [(item, crystal)])


def rock_salt(number: int) -> Structure:
    """LiAlO2 as rock salt with ordered cations: a lattice of layers (166), of pairs (141), or CuAu-like (123)."""
    a = 4.2
    if number == 166:
        cell = Lattice.hexagonal(a / 2**0.5, 2 * 3**0.5 * a)
        return Structure.from_spacegroup("R-3m", cell, ["Li", "Al", "O"], [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.25]])
    if number == 141:
        cell = Lattice.tetragonal(a, 2 * a)
        return Structure.from_spacegroup("I4_1/amd", cell, ["Li", "Al", "O"], [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.25]])
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]]
    return Structure(Lattice.tetragonal(a / 2**0.5, a), ["Li", "Al", "O", "O"], sites)


def perovskite(elements: str) -> Structure:
    """Cubic ABX3 with each site given: ``A B X X X``."""
    sites = [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Structure(Lattice.cubic(4.0), elements.split(), sites)


def spinel(octahedra: str, tetrahedra: str) -> Structure:
    """Primitive cell of a spinel oxide with the four octahedra given; the oxygen parameter is 0.26."""
    whole = Structure.from_spacegroup(
        "Fd-3m", Lattice.cubic(8.2), ["Mg", "Al", "O"], [[0, 0, 0], [0.625] * 3, [0.385] * 3]
    )
    small = whole.get_primitive_structure()
    octahedral = iter(octahedra.split())
    for site in small:
        if site.specie.symbol == "Al":
            site.species = next(octahedral)
        elif site.specie.symbol == "Mg":
            site.species = tetrahedra
    return small


def halves(kind: str) -> Structure:
    """Crystals with sites that an exchange moves onto each other; ``layers`` is a perovskite of Na and La layers."""
    if kind == "elpasolite":
        sites = [[0.25] * 3, [0, 0, 0], [0.5] * 3, [0.25, 0, 0]]
        return Structure.from_spacegroup("Fm-3m", Lattice.cubic(10.5), ["Cs", "K", "Y", "Br"], sites)
    if kind == "chalcopyrite":
        sites = [[0, 0, 0], [0, 0, 0.5], [0.25, 0.25, 0.125]]
        return Structure.from_spacegroup("I-42d", Lattice.tetragonal(5.4, 10.8), ["Cu", "Fe", "S"], sites)
    if kind == "stannite":
        sites = [[0, 0.5, 0.25], [0, 0, 0], [0, 0, 0.5], [0.25, 0.25, 0.125]]
        return Structure.from_spacegroup("I-42m", Lattice.tetragonal(5.4, 10.8), ["Cu", "Mg", "Sn", "S"], sites)
    if kind == "heusler":
        sites = [[0, 0, 0], [0.5] * 3, [0.25] * 3]
        return Structure.from_spacegroup("Fm-3m", Lattice.cubic(6.0), ["Li", "Al", "O"], sites)
    sites = [[0, 0, 0], [0, 0, 0.5], [0.5, 0.5, 0.25], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.25]]
    cell = Lattice.tetragonal(3.9, 7.8)
    return Structure.from_spacegroup("P4/mmm", cell, ["Na", "La", "Ti", "O", "O", "O"], sites)


HAND_MADE = {
    "elpasolite": (lambda: halves("elpasolite"), {"Cs": 1, "K": 1, "Y": 3, "Br": -1}),
    "chalcopyrite": (lambda: halves("chalcopyrite"), {"Cu": 1, "Fe": 3, "S": -2}),
    "stannite": (lambda: halves("stannite"), {"Cu": 1, "Mg": 2, "Sn": 4, "S": -2}),
    "heusler": (lambda: halves("heusler"), {"Li": 1, "Al": 3, "O": -2}),
    "layered perovskite": (lambda: halves("layers"), {"Na": 1, "La": 3, "Ti": 4, "O": -2}),
    "layered rock salt": (lambda: rock_salt(166), {"Li": 1, "Al": 3, "O": -2}),
    "paired rock salt": (lambda: rock_salt(141), {"Li": 1, "Al": 3, "O": -2}),
    "CuAu rock salt": (lambda: rock_salt(123), {"Li": 1, "Al": 3, "O": -2}),
    "oxyfluoride": (lambda: perovskite("K Ti O O F"), {"K": 1, "Ti": 4, "O": -2, "F": -1}),
    "three anions": (lambda: perovskite("K Al O Cl F"), {"K": 1, "Al": 3, "O": -2, "Cl": -1, "F": -1}),
    "inverse spinel": (lambda: spinel("Li Li Mg Mg", "V"), {"V": 5, "Li": 1, "Mg": 2, "O": -2}),
    "ordered spinel": (lambda: spinel("Mg Ti Ti Ti", "Li"), {"Li": 1, "Mg": 2, "Ti": 4, "O": -2}),
}


FAMILIES = {
    "perovskite": (
        lambda a, b, x: perovskite(f"{a} {b} {x} {x} {x}"),
        [("Ca Ti O", (2, 4, -2)), ("Li V O", (1, 5, -2)), ("Fe Al O", (3, 3, -2)), ("Li Mg F", (1, 2, -1))],
    ),
    "spinel": (
        lambda a, b, x: spinel(" ".join([b] * 4), a).replace_species({"O": x}),
        [("Mg Al O", (2, 3, -2)), ("Si Mg O", (4, 2, -2)), ("W Li O", (6, 1, -2)), ("Mg Li F", (2, 1, -1))],
    ),
    # the two cations' sites are equivalent, so that 1+ 2+ and 2+ 1+ are one prototype
    "half Heusler": (
        lambda a, b, x: Structure.from_spacegroup(
            "F-43m", Lattice.cubic(6.0), [a, b, x], [[0.25] * 3, [0.75] * 3, [0, 0, 0]]
        ),
        [("Li Mg N", (1, 2, -3)), ("Cu Li O", (1, 1, -2)), ("Mg Fe C", (2, 2, -4))],
    ),
    "ilmenite": (
        lambda a, b, x: Structure.from_spacegroup(
            "R-3", Lattice.hexagonal(5.1, 14.1), [a, b, x], [[0, 0, 0.35], [0, 0, 0.145], [0.32, 0.02, 0.245]]
        ),
        [("Mg Ti O", (2, 4, -2)), ("Li V O", (1, 5, -2)), ("Al Fe O", (3, 3, -2))],
    ),
}
