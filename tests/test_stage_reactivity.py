"""Stage reactivity."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pymatgen.analysis.interface_reactions import InterfacialReactivity
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from pipeline import schema
from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key
from pipeline.settings import ReactivitySettings
from pipeline.stages import reactivity

ENERGIES = {"LiCl": -2.1, "NaCl": -2.1, "YCl3": -2.5, "Li2O": -2.0, "Y2O3": -3.9, "YClO": -3.3}
SETTINGS = ReactivitySettings(partners=("Li", "Li2O"))
REFS = SimpleNamespace(phases=PhaseReference({composition_key(f): e for f, e in ENERGIES.items()}))


def part_of(*rows: tuple[str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["formula_pretty", "formation_energy_per_atom"], index=range(7, 7 + len(rows)))


PART = part_of(("YCl3", -2.5), ("LiCl", -2.1), ("Li3YCl6", -2.2))


def test_adds_the_declared_columns_and_keeps_the_rows(tmp_path: Path) -> None:
    result = reactivity.run(PART, SETTINGS, REFS, tmp_path)
    declared = [*(c.name for c in schema.columns_of("reactivity")), "reaction_energy_Li", "reaction_energy_Li2O"]
    assert list(result.columns) == [*PART.columns, *declared]
    assert list(result.index) == list(PART.index)
    schema.to_arrow(result, declared)
    assert result["reactivity_status"].tolist() == ["ok"] * 3
    bracketed = reactivity.run(PART, ReactivitySettings(partners=(" (Li2)O ",)), REFS, tmp_path)
    assert bracketed["reaction_energy_(Li2)O"].tolist() == result["reaction_energy_Li2O"].tolist()


def test_closed_form_and_worst_partner(tmp_path: Path) -> None:
    chloride, salt, _ = reactivity.run(PART, SETTINGS, REFS, tmp_path).to_dict("records")
    # YCl3 + 3 Li -> Y + 3 LiCl: -2.6 eV over 7 atoms.
    assert chloride["reaction_energy_Li"] == pytest.approx(-2.6 / 7)
    # 2 YCl3 + 3 Li2O -> Y2O3 + 6 LiCl: (-19.5 - 25.2) - (-20 - 18) = -6.7 eV over 17 atoms.
    assert chloride["reaction_energy_Li2O"] == pytest.approx(-6.7 / 17)
    assert chloride["reaction_energy"] == chloride["reaction_energy_Li2O"]
    assert chloride["reaction_partner"] == "Li2O"
    assert chloride["reaction_share"] == pytest.approx(8 / 17)
    assert chloride["reaction_products"] == "LiCl 0.71; Y2O3 0.29"
    assert salt["reaction_energy"] == 0.0
    assert salt["reaction_partner"] == ""
    assert np.isnan(salt["reaction_share"])


def test_a_partner_that_is_no_phase_is_told(tmp_path: Path) -> None:
    settings = ReactivitySettings(partners=("Li", "Li2OCl2", "Na3YCl6"))
    result = reactivity.run(PART, settings, REFS, tmp_path)
    assert result["reaction_partners_as_mixtures"].tolist() == ["Li2OCl2; Na3YCl6"] * 3
    assert reactivity.run(PART, SETTINGS, REFS, tmp_path)["reaction_partners_as_mixtures"].tolist() == [""] * 3


def test_partition_invariance_and_empty_partition(tmp_path: Path) -> None:
    whole = reactivity.run(PART, SETTINGS, REFS, tmp_path)
    pieces = [reactivity.run(PART.iloc[i : i + 1], SETTINGS, REFS, tmp_path) for i in range(3)]
    pd.testing.assert_frame_equal(pd.concat(pieces), whole)
    empty = reactivity.run(PART.iloc[:0], SETTINGS, REFS, tmp_path)
    assert len(empty) == 0
    assert list(empty.columns) == list(whole.columns)


def test_poisoned_rows_fail_alone(tmp_path: Path) -> None:
    part = part_of(("YCl3", -2.5), ("LiCl", float("nan")), ("LiXe", -1.0), ("Li(", -1.0))
    result = reactivity.run(part, SETTINGS, REFS, tmp_path)
    assert result["reactivity_status"].tolist() == ["ok", "failed", "failed", "failed"]
    errors = result["reactivity_error"].tolist()
    assert errors[1].startswith("ValueError: LiCl has no formation energy")
    assert "element Xe has no reference energy" in errors[2]
    assert "'Li('" in errors[3]


@pytest.mark.data
def test_real_interfaces_equal_pymatgen(tmp_path: Path) -> None:
    """Against lithium metal and two cathodes, on the real table."""
    root = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project"
    phases = PhaseReference.from_table(root / "phases.csv.gz")
    settings = ReactivitySettings(partners=("Li", "LiCoO2", "NaFePO4"))
    rows = [(f, phases.hull_energy(f)) for f in ("Li6PS5Cl", "Li3YCl6", "Li7La3Zr2O12")]
    result = reactivity.run(part_of(*rows), settings, SimpleNamespace(phases=phases), tmp_path)
    assert result["reactivity_status"].tolist() == ["ok"] * 3
    for row in result.to_dict("records"):
        for partner in settings.partners:
            pair = Composition(row["formula_pretty"]), Composition(partner)
            system = phases.system(e.symbol for e in sum(pair, Composition()))
            diagram = PhaseDiagram(
                [
                    PDEntry(Composition(dict(key)), energy * sum(n for _, n in key))
                    for key, energy in zip(system.keys, system.energies, strict=True)
                ]
            )
            peer = InterfacialReactivity(*pair, diagram, norm=True, use_hull_energy=True)
            # pymatgen places its kinks to 1e-4 in the mixing ratio
            assert row[f"reaction_energy_{partner}"] == pytest.approx(peer.minimum[1], abs=1e-4)
    # Sulfides against an oxide cathode are the worst pairing (Richards et al. 2016, Zhu et al. 2016).
    by_cathode = dict(zip(result["formula_pretty"], result["reaction_energy_LiCoO2"], strict=True))
    assert by_cathode["Li6PS5Cl"] < by_cathode["Li3YCl6"] < -0.0
