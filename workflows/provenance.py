"""Where a result comes from: versions, hardware, models, digests, citations."""

from __future__ import annotations

import io
import os
import platform
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import BaseModel

from pipeline.config import Campaign, DynamicsStageSettings
from pipeline.surrogates import catalogue
from pipeline.surrogates.declared import DECLARATION
from workflows.files import digest_of, digest_of_file

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.references import References
    from workflows.preflight import Inputs

PACKAGES = (
    "ionsieve",
    "torch",
    "matgl",
    "chgnet",
    "pymatgen",
    "ase",
    "numba",
    "numpy",
    "dask",
    "distributed",
    "moyopy",
)


def worker_facts() -> dict[str, str]:
    """Versions that must agree between the client and every worker."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def arithmetic_facts() -> dict[str, str]:
    """What the last digits of a float32 result hang on here: processor and numerical packages."""
    packages = ("torch", "matgl", "chgnet", "numpy", "numba")
    versions = {name: metadata.version(name) for name in packages}
    return {"machine": platform.machine(), "processor": _processor(), **versions}


@cache
def this_machine() -> str:
    """Digest of `arithmetic_facts`."""
    return digest_of(arithmetic_facts())


def kinds_of_machines(client: Client) -> list[dict[str, str]]:
    """Kinds of machine and versions of packages among the workers: the last digits of a relaxation hang on them."""
    found = client.run(arithmetic_facts, on_error="ignore").values()
    return [dict(kind) for kind in sorted({tuple(sorted(facts.items())) for facts in found})]


def model_names(campaign: Campaign) -> set[str]:
    """Names of all models that a campaign uses."""
    names = {campaign.potential.model, campaign.potential.second_opinion}
    names |= {stage.model for stage in campaign.stages if stage.stage in ("estimate", "band_gap")}
    return {name for name in names if name}


def located_model(name: str) -> dict[str, str | None]:
    """SHA-256 of a model's weights, its energy scheme, convention and licence, and where it was found."""
    found = catalogue.locate(name)
    entry = found.entry
    return {
        "sha256": found.sha256,
        "scheme": entry.scheme if entry else None,
        "convention": entry.convention if entry else None,
        "licence": entry.licence if entry else None,
        "found_in": found.found_in,
    }


def model_digests(names: list[str]) -> dict[str, str]:
    """Digest of each model that this process would load (see `digest_of_model`), or why it would load none."""
    found = {}
    for name in names:
        try:
            found[name] = digest_of_model(catalogue.locate(name))
        except (ValueError, OSError) as error:
            found[name] = str(error)
    return found


def digest_of_model(model: catalogue.LocatedModel) -> str:
    """SHA-256 of the weights; of a model of one's own, of all files that it is read with."""
    beside = files_beside(model)
    return digest_of([model.sha256, *beside]) if beside else model.sha256


def files_beside(model: catalogue.LocatedModel) -> list[str]:
    """What else than its weights a model of one's own is read with: files that the catalogue does not pin."""
    if model.entry is not None and model.entry.name in catalogue.CATALOGUE:
        return []
    folder = model.files["state.pt"].parent
    paths = sorted({*model.files.values(), folder / DECLARATION} - {model.files["state.pt"]})
    return [f"{path.name} {digest_of_file(path)}" for path in paths if path.exists()]


def manifest_of(inputs: Inputs, references: References) -> dict[str, object]:
    """What manifest.json holds, but for the timings."""
    campaign = inputs.campaign
    return {
        "campaign": campaign.name,
        "started": now(),
        "versions": worker_facts(),
        "hardware": {
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_GiB": round(psutil.virtual_memory().total / 2**30, 1),
        },
        "models": {name: located_model(name) for name in sorted(model_names(campaign))},
        "notes": list(inputs.notes),
        "reference": {"source": campaign.reference.source, "digest": inputs.table_digest, **inputs.fetched},
        "library": {
            "source": campaign.candidates.prototypes.source,
            "digest": references.library.digest,
            "counts": dict(references.library.counts),
            **inputs.fetched_structures,
        },
        "citations": _citations(campaign),
    }


def _citations(campaign: Campaign) -> list[str]:
    entries = {name: catalogue.locate(name).entry for name in sorted(model_names(campaign))}
    cited = [f"{name}: {entry.citation}" for name, entry in entries.items() if entry is not None]
    cited.append("Chen, Nguyen, Lee et al., J. Am. Chem. Soc. 2024, 146, 20009 (the funnel)")
    phases_of_mp = campaign.reference.source in ("table", "mp_api")
    if campaign.candidates.prototypes.source in ("materials_project", "mp_api") or phases_of_mp:
        cited.append("Materials Project data: Jain et al., APL Materials 2013, 1, 011002; CC BY 4.0")
    if campaign.candidates.prototypes.source == "aflow" or campaign.reference.source == "prototypes":
        cited.append("AFLOW prototypes: Mehl et al., Comput. Mater. Sci. 2017, 136, S1")
    kinds = {stage.stage for stage in campaign.stages}
    if "conduction" in kinds:
        cited.append("softBV parameters: Chen, Wong and Adams, Acta Cryst. B 2019, 75, 18")
    if "elasticity" in kinds:
        cited.append("relaxed-ion elastic tensors: Wu, Vanderbilt and Hamann, Phys. Rev. B 2005, 72, 035105")
    for stage in campaign.stages:
        if stage.stage == "dynamics":
            cited += _citations_of_dynamics(stage)
    engines = {stage.engine for stage in campaign.stages if stage.stage == "dft"}
    if "gpaw" in engines:
        cited.append("GPAW: Mortensen et al., J. Chem. Phys. 2024, 160, 092503; PBE: Perdew et al., PRL 1996, 77, 3865")
    if "vasp" in engines:
        cited.append("VASP input sets of the Materials Project: Jain et al., Comput. Mater. Sci. 2011, 50, 2295")
    if "espresso" in engines:
        cited.append("Quantum ESPRESSO: Giannozzi et al., J. Phys.: Condens. Matter 2017, 29, 465901")
    if campaign.candidates.substitution != "none":
        cited.append("ionic radii: Shannon, Acta Cryst. A 1976, 32, 751")
        cited.append("substitution probabilities: Hautier et al., Inorg. Chem. 2011, 50, 656")
    if phases_of_mp:
        cited.append("MP2020 corrections: Wang et al., Sci. Rep. 2021, 11, 15496")
    return cited


def _citations_of_dynamics(settings: DynamicsStageSettings) -> list[str]:
    cited = ["Langevin dynamics: Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34"]
    if settings.thermostat == "nose-hoover":
        cited.append("Nosé-Hoover chains: Martyna, Klein and Tuckerman, J. Chem. Phys. 1992, 97, 2635")
    if settings.equilibration == "npt":
        cited.append("stochastic cell rescaling: Bernetti and Bussi, J. Chem. Phys. 2020, 153, 114107")
    return cited


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def campaign_as_yaml(campaign: Campaign) -> str:
    """The resolved campaign, as YAML that `ionsieve run` reads again; gates in the order in which they are asked.

    What is None by default is left out, a None in the place of a default is not: it turns a gate off.
    """
    from ruamel.yaml import YAML

    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False
    dumped = campaign.model_dump(mode="json", exclude_none=True)
    _put_back_nulls(campaign, dumped)
    yaml.dump(dumped, stream)
    return stream.getvalue()


def _put_back_nulls(settings: BaseModel, dumped: dict[str, Any]) -> None:
    """Add to a dump without None those that are not the field's default."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if value is None and field.get_default(call_default_factory=True) is not None:
            dumped[name] = None
        elif isinstance(value, BaseModel) and isinstance(dumped[name], dict):
            _put_back_nulls(value, dumped[name])
        elif isinstance(value, tuple):
            for own, there in zip(value, dumped[name], strict=True):
                if isinstance(own, BaseModel) and isinstance(there, dict):
                    _put_back_nulls(own, there)


def now() -> str:
    """Local time with its offset from UTC, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
