"""Competing phases of the self-consistent reference."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure

from pipeline.candidate_settings import PrototypeSettings
from pipeline.config import ReferenceSettings
from pipeline.crystal import structure_from_row
from pipeline.reference.competing import COLUMNS, MOST_POLYMORPHS, atomic_volume, competing_phases
from pipeline.reference.prototypes import build_library

ELEMENTS = ("Li", "Na", "Y", "Sc", "In", "Mg", "Cl", "Br")


@pytest.fixture(scope="module")
def phases():
    return competing_phases(ELEMENTS, ReferenceSettings(source="prototypes", max_elements=2))


def test_number_and_columns(phases):
    assert 150 <= len(phases) <= 400
    assert tuple(phases.columns) == COLUMNS
    assert phases.candidate_id.is_unique
    assert phases.nsites.max() <= 16


def test_every_element_and_every_salt_is_there(phases):
    systems = set(phases.chemsys)
    assert set(ELEMENTS) <= systems
    assert {"Cl-Li", "Cl-Na", "Cl-Y", "Br-Mg", "Br-In"} <= systems
    assert "Li-Na" not in systems


def test_rows_are_crystals(phases):
    for row in phases.to_dict("records"):
        structure = structure_from_row(row)
        assert len(structure) == row["nsites"]
        assert structure.chemical_system == row["chemsys"]
        assert 4.0 < structure.volume / len(structure) < 120.0
        assert structure.composition.remove_charges().reduced_formula == row["formula_pretty"]


def test_rocksalt_starts_near_its_measured_size(phases):
    # NaCl: a = 5.640 Å (Wyckoff, Crystal Structures, 1963), 22.4 Å3 an atom
    volumes = [
        abs(np.linalg.det(np.reshape(v, (3, 3)))) / n
        for v, n in phases[phases.formula_pretty == "NaCl"][["lattice", "nsites"]].itertuples(index=False)
    ]
    assert min(abs(v / 22.4 - 1) for v in volumes) < 0.05


def test_elements_start_at_the_volume_of_the_pure_substance(phases):
    # lithium: 13.02 cm3/mol
    assert atomic_volume("Li") == pytest.approx(21.62, abs=0.01)
    lithium = phases[phases.formula_pretty == "Li"].iloc[0]
    assert abs(np.linalg.det(np.reshape(lithium.lattice, (3, 3)))) / lithium.nsites == pytest.approx(21.62, abs=0.01)


def test_only_elements():
    phases = competing_phases(("Li", "Cl"), ReferenceSettings(source="prototypes", max_elements=1))
    assert set(phases.chemsys) == {"Li", "Cl"}


def test_every_oxidation_state_competes():
    # candidates get Ti4+ and In3+ by default; TiF3 and InCl are stable phases all the same
    settings = ReferenceSettings(source="prototypes", max_elements=2)
    assert {"TiF4", "TiF3"} <= set(competing_phases(("Ti", "F"), settings).formula_pretty)
    assert {"InCl", "InCl3"} <= set(competing_phases(("In", "Cl"), settings).formula_pretty)
    assert "YCl2" not in set(competing_phases(("Y", "Cl"), settings).formula_pretty)
    assert "YCl2" in set(competing_phases(("Y", "Cl"), settings, charges={"Y": (2,)}).formula_pretty)


@pytest.fixture(scope="module")
def library():
    """A campaign's prototypes: ternary crystals of AFLOW, which a reference of binaries lacks."""
    return build_library(PrototypeSettings(source="aflow", max_sites=10, min_elements=3, max_elements=3))


def own(**changes):
    return ReferenceSettings(**{"source": "prototypes", "prototypes": "campaign", "max_sites": 10, **changes})


def test_compounds_of_an_ion_without_a_radius_compete(tmp_path):
    """H+ has none; in its own place it changes none."""
    # Mair, Acta Cryst. A 1978, 34, 542
    hydroxide = Structure.from_spacegroup(
        "P4/nmm", Lattice.tetragonal(3.549, 4.334), ["Li", "O", "H"], [[0, 0, 0], [0, 0.5, 0.1951], [0, 0.5, 0.4076]]
    )
    hydroxide.to(filename=str(tmp_path / "LiOH.cif"))
    library = build_library(PrototypeSettings(source="folder", path=str(tmp_path)), tmp_path)
    rows = competing_phases(("Li", "O", "H"), own(), charges={"H": (1,)}, library=library)
    (known,) = rows[rows["prototype_id"].isin([p.prototype_id for p in library])].to_dict("records")
    assert structure_from_row(known).composition.remove_charges().reduced_formula == "LiHO"


TITANATE = ("Ca", "Ti", "O")


def test_the_campaigns_prototypes_are_substituted_too(library):
    alone = competing_phases(TITANATE, own(prototypes="aflow"), library=library)
    with_own = competing_phases(TITANATE, own(), library=library)
    # every crystal of AFLOW once, also those of the library, which are the same crystals
    assert with_own["candidate_id"].is_unique
    assert with_own["candidate_id"].head(len(alone)).tolist() == alone["candidate_id"].tolist()


def test_own_crystals_are_small_and_few_of_a_composition(library):
    # crystals of a campaign that are not AFLOW's: the same cells, under other names
    renamed = replace(
        library, prototypes=tuple(replace(p, prototype_id=f"own{i:03d}") for i, p in enumerate(library.prototypes))
    )
    rows = competing_phases(TITANATE, own(), library=renamed)
    added = rows[rows["prototype_id"].str.startswith("own")]
    assert {"CaTiO3"} <= set(added["formula_pretty"])
    assert added["formula_pretty"].value_counts().max() <= MOST_POLYMORPHS
    for row in added.to_dict("records"):
        assert structure_from_row(row).composition.remove_charges().reduced_formula == row["formula_pretty"]
    smaller = competing_phases(TITANATE, own(max_sites=5), library=renamed)
    assert smaller["nsites"].max() == 5
    binaries = competing_phases(TITANATE, own(max_elements=2), library=renamed)
    assert not binaries["prototype_id"].str.startswith("own").any()


def test_a_known_crystal_competes_before_others_of_its_composition(library):
    parent = next(p for p in library if any(m.formula == "CaTiO3" for m in p.members))
    other = {"Ca": "Sr", "Ti": "Zr", "O": "O"}
    foreign = tuple(replace(m, class_elements=tuple(other[e] for e in m.class_elements)) for m in parent.members[:1])
    copies = [
        replace(parent, prototype_id=f"copy{i}", frame=f"frame{i}", spacegroup_number=195 + i, members=foreign)
        for i in range(MOST_POLYMORPHS)
    ]
    known = replace(parent, prototype_id="known")
    for order in ([*copies, known], [known, *copies]):
        rows = competing_phases(TITANATE, own(), library=replace(library, prototypes=tuple(order)))
        taken = set(rows["prototype_id"]) & {"known", "copy0", "copy1"}
        assert "known" in taken
        assert len(taken) == MOST_POLYMORPHS


def test_what_the_campaign_excludes_competes(library):
    # a campaign's least share of mobile ions is no reason for a phase to be unstable, and none is mobile here
    renamed = replace(library, prototypes=tuple(replace(p, prototype_id=f"own-{p.prototype_id}") for p in library))
    rows = competing_phases(("Sr", "Zr", "O"), own(), library=renamed)
    assert "SrZrO3" in set(rows.loc[rows["prototype_id"].str.startswith("own"), "formula_pretty"])


def test_a_missing_library_is_said():
    with pytest.raises(ValueError, match="no prototype library was given"):
        competing_phases(TITANATE, own())


def test_only_a_relaxed_reference_substitutes_prototypes():
    with pytest.raises(ValidationError, match="substitutes no prototypes"):
        ReferenceSettings(source="mp_api", prototypes="campaign")
