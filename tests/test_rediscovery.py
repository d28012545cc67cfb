"""Leave-one-out rediscovery: what counts as removed, as represented and as found."""

import math
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.candidate_settings import CandidateGates, CandidateSettings, PrototypeSettings
from pipeline.reference.observed_compounds import observed_compounds
from pipeline.reference.prototype_sources import SYMBOL
from pipeline.reference.prototypes import build_library
from pipeline.reference.rediscovery import leave_one_out, wilson_interval
from tests.structure_tables import elpasolite, rocksalt, write_table

PROTOTYPES = PrototypeSettings(source="materials_project", max_sites=20, max_elements=4)


def caesium_chloride(cation, anion):
    return Structure(Lattice.cubic(4.1), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def settings_of(elements, **changes):
    return CandidateSettings(prototypes=PROTOTYPES, elements=elements, max_elements=4, **changes)


def outcomes(path, settings, mobile_ions=("Li", "Na")):
    library = build_library(settings.prototypes, path)
    compounds, counts = observed_compounds(path, library, settings.elements, 4, 20)
    found = leave_one_out(compounds, library, pq.read_table(path), settings, mobile_ions)
    return {o.compound.formula: o for o in found}, counts


def test_duplicates_are_removed_too(tmp_path):
    """The only crystal of a prototype is not found again, however often the file lists it."""
    crystals = [rocksalt("Na", "Cl"), rocksalt("Na", "Cl", a=5.7), rocksalt("K", "Br"), caesium_chloride("Cs", "Cl")]
    path = write_table(tmp_path / "s.parquet", [*crystals, crystals[3].copy().scale_lattice(75.0)])
    settings = settings_of(("Na", "K", "Cs", "Cl", "Br"))
    result, _ = outcomes(path, settings)
    assert {f: o.found for f, o in result.items()} == {"NaCl": True, "KBr": True, "CsCl": False}
    assert result["NaCl"].compound.source_ids == ("mp-0", "mp-1")
    assert len(result["CsCl"].compound.source_ids) == 2
    assert result["CsCl"].miss == "the only crystal of its prototype"
    assert result["NaCl"].represented
    assert not result["CsCl"].represented


def test_the_representative_is_another_one(tmp_path):
    """Gates compare with the crystal that is left: NaCl is a substituted RbI, too small for the radius gate."""
    path = write_table(tmp_path / "s.parquet", [rocksalt("Na", "Cl"), rocksalt("Rb", "I", a=7.4)])
    gates = CandidateGates(radius_mismatch=0.2, mobile_ion_fraction=0.1)
    result, _ = outcomes(path, settings_of(("Na", "Rb", "Cl", "I"), gates=gates))
    assert result["NaCl"].found
    assert result["NaCl"].gates == ("radius_mismatch",)
    assert result["RbI"].gates == ("mobile ions", "radius_mismatch")


def test_equivalent_orbits_are_one_crystal(tmp_path):
    """An elpasolite with its two octahedra exchanged is the same crystal: it does not represent itself."""
    path = write_table(tmp_path / "s.parquet", [elpasolite("Cs", "Na", "Y", "Cl"), elpasolite("Cs", "Y", "Na", "Cl")])
    result, _ = outcomes(path, settings_of(("Cs", "Na", "Y", "Cl")))
    (only,) = result.values()
    assert len(only.compound.source_ids) == 2
    assert not only.found


def test_misses(tmp_path):
    crystals = [
        rocksalt("Na", "Cl"),
        rocksalt("Mg", "O", a=4.2),
        rocksalt("Ti", "O", a=4.2),
        rocksalt("Ca", "O", a=4.8),
    ]
    path = write_table(tmp_path / "s.parquet", [*crystals, rocksalt("Fe", "Ni"), rocksalt("Sr", "O", a=5.1)])
    settings = settings_of(("Na", "Cl", "Mg", "Ti", "Fe", "Ni", "Ca", "O"), charges={"Ti": (4,)})
    result, counts = outcomes(path, settings)
    assert result["MgO"].found
    assert result["TiO"].miss == "an ion that the campaign does not place"
    assert result["TiO"].represented
    assert result["NaCl"].miss == "its prototype is left with other charges only"
    assert not result["NaCl"].represented
    assert counts == {"not ionic": 1, "elements outside the set, or their number": 1, "ionic and in the library": 4}


def test_reached_from_other_charges_counts_as_found(tmp_path):
    """Identity is the elements on the orbits: a 1+ 1- compound whose ions also exist as 2+ 2- is found as that."""
    path = write_table(tmp_path / "s.parquet", [rocksalt("Na", "Cl"), rocksalt("Mg", "O", a=4.2)])
    settings = settings_of(("Na", "Mg", "Cl", "O"), charges={"Na": (1, 2), "Cl": (-1, -2)})
    result, _ = outcomes(path, settings)
    assert result["NaCl"].found
    assert not result["NaCl"].represented
    assert not result["MgO"].found


def test_charge_neutral_needs_the_label_only(tmp_path):
    path = write_table(tmp_path / "s.parquet", [rocksalt("Na", "Cl"), rocksalt("Mg", "O", a=4.2)])
    result, _ = outcomes(path, settings_of(("Na", "Mg", "Cl", "O"), substitution="charge_neutral"))
    assert all(o.found and o.represented for o in result.values())


def test_wilson_interval():
    # Newcombe, Stat. Med. 1998, 17, 857, table I: 81 of 263 and 15 of 148
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20)[0] == pytest.approx(0.0, abs=1e-12)
    assert all(math.isnan(x) for x in wilson_interval(0, 0))


@pytest.mark.data
def test_observed_compounds_are_found_again(tmp_path):
    """A hundred observed compounds of eighteen elements: with all tabulated ions each represented one is found."""
    elements = ("Li", "Na", "K", "Mg", "Ca", "Zn", "Al", "Y", "Fe", "Mn", "Ti", "Zr", "Nb", "P", "O", "S", "F", "Cl")
    source = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project" / "structures_observed.parquet"
    rows = pq.read_table(source)
    near = [set(SYMBOL.findall(f)) <= set(elements) for f in rows["formula"].to_pylist()]
    rows = rows.filter(pc.and_(pa.array(near), pc.less_equal(rows["n_sites"], 20)))
    path = tmp_path / "structures.parquet"
    pq.write_table(rows, path)
    settings = settings_of(elements, oxidation_states="tabulated")
    library = build_library(settings.prototypes, path)
    population, _ = observed_compounds(path, library, elements, 4, 20)
    sample = [population[i] for i in np.random.default_rng(0).permutation(len(population))[:100]]
    result = list(leave_one_out(sample, library, rows, settings, ("Li", "Na")))
    assert len(result) == 100
    assert all(o.found for o in result if o.represented)
    assert not any(o.miss == "unexplained" for o in result)
    assert sum(o.found for o in result) >= 50
