"""The machine-learned models this project knows: what they are, where they come from, how they are recognised."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["potential", "property"]
Convention = Literal["source", "destination"]
ThreeBody = Literal["included", "omitted"]
Architecture = Literal["M3GNet", "MEGNet", "CHGNet"]
EnergyScheme = Literal["mp_raw", "mp2020", "matpes_pbe", "mp_legacy_formation", "band_gap"]

CONVENTIONS: tuple[Convention, ...] = ("source", "destination")
ENERGY_SCHEMES: tuple[EnergyScheme, ...] = (
    "mp_raw",
    "mp2020",
    "matpes_pbe",
    "mp_legacy_formation",
    "band_gap",
)
MODEL_FILES = ("model.json", "state.pt")
# matgl's tag v2.0.4 is the last that carries the checkpoints trained with destination aggregation.
MATGL_PRETRAINED_URL = (
    "https://raw.githubusercontent.com/materialsvirtuallab/matgl/v2.0.4/pretrained_models/{name}/{file}"
)

# The 89 elements of matgl's universal models, in the order of their embedding rows.
MATGL_ELEMENTS: tuple[str, ...] = tuple(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr "  # noqa: SIM905
    "Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W "
    "Re Os Ir Pt Au Hg Tl Pb Bi Ac Th Pa U Np Pu".split()
)
# CHGNet has a row for each of Z = 1..94; MPtrj holds no Po, At, Rn, Fr or Ra, so those rows were never trained.
CHGNET_ELEMENTS = MATGL_ELEMENTS


class ModelNotFoundError(ValueError):
    """No model of this name is where models are looked for."""


class UnknownConventionError(ValueError):
    """A checkpoint's message-passing convention is neither known nor given, or is not a valid word."""


class ChecksumError(ValueError):
    """A model file is not the one that its name stands for."""


@dataclass(frozen=True)
class CatalogueEntry:
    """One known model.

    Attributes
    ----------
    name : str
        Name used in configurations.
    kind : str
        ``potential`` (energy, forces, stress) or ``property`` (one number a structure).
    architecture : str
        Network family.
    convention : str or None
        Atom on which messages are aggregated: ``destination`` for checkpoints made before matgl 3,
        ``source`` for later ones, None where the question does not arise (CHGNet).
    scheme : str or None
        What its energies are (None where a model of one's own doesn't say): ``mp_raw`` raw PBE(+U) totals that
        need MP2020 corrections, ``mp2020`` totals that carry them, ``matpes_pbe`` PBE totals without U,
        ``mp_legacy_formation`` formation energies of the 2018 Materials Project, ``band_gap`` no energy but a gap
        in eV.
    elements : tuple of str
        Elements it was trained on.
    sha256 : dict
        File name to SHA-256.
    url : str or None
        Pattern with ``{name}`` and ``{file}`` for fetching; None if it comes with a Python package.
    licence, citation : str
        Terms and paper.
    three_body : str
        Whether M3GNet's three-body term is evaluated. Before matgl 4.0.4 its bond indices counted the bonds
        within the three-body cutoff but addressed the list of all bonds, so with a three-body cutoff below the
        cutoff the term was added to unrelated bonds, and the potentials were trained that way: they learned to
        give it next to no weight. Evaluated on the right bonds it is an input that they never saw. ``omitted``
        reproduces matgl 1.1.3 on DGL better (30 crystals, MatPES potential: 0.04 instead of 0.29 meV/atom) and
        stays smooth and independent of the order of atoms, which the misplaced term is not.
    """

    name: str
    kind: Kind
    architecture: Architecture
    convention: Convention | None
    scheme: EnergyScheme | None
    elements: tuple[str, ...]
    sha256: Mapping[str, str]
    url: str | None
    licence: str
    citation: str
    three_body: ThreeBody = "included"

    def file_urls(self) -> dict[str, str]:
        """Address of each file, empty for a model that comes with a Python package."""
        if self.url is None:
            return {}
        return {file: self.url.format(name=self.name, file=file) for file in self.sha256}


@dataclass(frozen=True)
class LocatedModel:
    """A model found on disk: its entry (the catalogue's, or what it declares of itself; else None) and its files."""

    name: str
    entry: CatalogueEntry | None
    files: Mapping[str, Path]
    sha256: str
    found_in: str


@dataclass(frozen=True)
class ModelListing:
    """One line of ``ionsieve models``.

    Attributes
    ----------
    name : str
        In the catalogue, or what the model calls itself.
    entry : CatalogueEntry or None
        None for a model of one's own that says nothing of itself, or is damaged.
    path : Path or None
        Folder or file, None where it was not found.
    problem : str or None
        What is missing or wrong.
    """

    name: str
    entry: CatalogueEntry | None
    path: Path | None
    problem: str | None


_M3GNET = "Chen and Ong, Nat. Comput. Sci. 2022, 2, 718"
_MEGNET = "Chen, Ye, Zuo, Zheng and Ong, Chem. Mater. 2019, 31, 3564"


def _matgl_entry(
    name: str,
    architecture: Architecture,
    scheme: EnergyScheme,
    model_json: str,
    state_pt: str,
    citation: str,
) -> CatalogueEntry:
    kind: Kind = "property" if scheme in ("band_gap", "mp_legacy_formation") else "potential"
    # The property models' three-body cutoff equals their cutoff, where the two bond lists coincide.
    three_body: ThreeBody = "omitted" if kind == "potential" else "included"
    return CatalogueEntry(
        name=name,
        kind=kind,
        architecture=architecture,
        convention="destination",
        scheme=scheme,
        elements=MATGL_ELEMENTS,
        sha256={"model.json": model_json, "state.pt": state_pt},
        url=MATGL_PRETRAINED_URL,
        licence="BSD-3-Clause",
        citation=citation,
        three_body=three_body,
    )


_ENTRIES = (
    _matgl_entry(
        "M3GNet-MP-2021.2.8-PES",
        "M3GNet",
        "mp_raw",
        "05e7db8676ceb37eb07848aff49c556b188699e1035f3df0cbbf1a2c4959148f",
        "a9aa723705bd1a242ec8749332f137811c4a94e17995a564f8f94a9aca68061b",
        _M3GNET,
    ),
    _matgl_entry(
        "M3GNet-MatPES-PBE-v2025.1-PES",
        "M3GNet",
        "matpes_pbe",
        "6ab754c8593efef1005a37882a27b25417153bfd0b5624d0943901f18116b552",
        "9f710eac88ec2c666c8e488883c59768cf11c116f177e9d82896ae56f3fc338d",
        "Kaplan, Liu, Qi et al., arXiv:2503.04070 (2025)",
    ),
    _matgl_entry(
        "MEGNet-MP-2019.4.1-BandGap-mfi",
        "MEGNet",
        "band_gap",
        "9f8f4b8709e97c6ce25353f6b6c322ce3b5e031c71115cf6b94d5cd794f39bc2",
        "2927ab9646ec3e099a3e42b1358a3c477db7356e2413bfa540fe0106cde628f9",
        "Chen, Zuo, Ye, Li and Ong, Nat. Comput. Sci. 2021, 1, 46",
    ),
    _matgl_entry(
        "MEGNet-MP-2018.6.1-Eform",
        "MEGNet",
        "mp_legacy_formation",
        "d858219134667d55e3c183435475ba248231a67311573373ed7298191f05d0a4",
        "35381368b17a2783f9ee09af5556cf1d84b74bf786b82d3fadd4acb38c51d040",
        _MEGNET,
    ),
    _matgl_entry(
        "M3GNet-MP-2018.6.1-Eform",
        "M3GNet",
        "mp_legacy_formation",
        "a99ca70012706a09434617a793556bbd100423dafaa9f9ebb8708fd20e226575",
        "166d4dba4aadbc5feb27e8aa047145facbcdadb9c5de067768e00515be3b3c1f",
        _M3GNET,
    ),
    CatalogueEntry(
        name="CHGNet",
        kind="potential",
        architecture="CHGNet",
        convention=None,
        scheme="mp2020",
        elements=CHGNET_ELEMENTS,
        sha256={
            "chgnet_0.3.0_e29f68s314m37.pth.tar": ("d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1")
        },
        url=None,
        licence="Modified BSD (chgnet)",
        citation="Deng, Zhong, Jun et al., Nat. Mach. Intell. 2023, 5, 1031",
    ),
)

CATALOGUE: Mapping[str, CatalogueEntry] = {entry.name: entry for entry in _ENTRIES}
