"""What must hold between the parts of a campaign: the order of stages, ions and elements, what the ranking uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline import schema
from pipeline.settings import STAGES

if TYPE_CHECKING:
    from pipeline.config import Campaign


class InconsistentError(ValueError):
    """Settings that do not fit together; ``problems`` holds each with its remedy."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def inconsistencies(campaign: Campaign) -> list[str]:
    """Everything that does not fit together, each with its remedy."""
    return [
        *_step_problems(campaign),
        *_ion_problems(campaign),
        *_choice_problems(campaign),
        *_ranking_problems(campaign),
        *_cluster_problems(campaign),
    ]


# Names that a step can't have: they stand for other things in a run folder.
_RESERVED = ("candidates", "competing_phases", "reference", "ranking")


def _step_problems(campaign: Campaign) -> Iterator[str]:
    steps = [s.step for s in campaign.stages]
    kinds = [s.stage for s in campaign.stages]
    for name in sorted({s for s in steps if steps.count(s) > 1}):
        yield f"steps must have different names; give the second {name!r} its own 'name'"
    for stage in campaign.stages:
        if stage.name is not None and stage.name != stage.stage and stage.name in (*_RESERVED, *STAGES):
            yield f"a {stage.stage} step can't be named {stage.name!r}: that name stands for something else"
    for kind in ("window", "reactivity"):
        if kind in kinds and "stability" not in kinds[: kinds.index(kind)]:
            yield f"stage {kind} needs formation energies; put stability before it"
    if "dft" in kinds and "stability" not in kinds[: kinds.index("dft")]:
        yield "stage dft computes relaxed crystals; put stability before it"
    if kinds.count("dft") > 1:
        yield "stage dft may occur once"
    if "dynamics" in kinds and "stability" not in kinds[: kinds.index("dynamics")]:
        yield "stage dynamics moves relaxed crystals; put stability before it"
    if kinds.count("dynamics") > 1:
        yield "stage dynamics may occur once; give it all temperatures"
    if campaign.reference.source == "prototypes" and campaign.reference.max_elements < 2:
        yield "reference.max_elements 1 leaves no compound to compete with candidates; write 2 or 3"
    if campaign.reference.source == "prototypes" and "stability" not in kinds:
        yield "reference source 'prototypes' relaxes as stability does; add that stage"
    for name in campaign.plan.passing:
        if name not in steps:
            yield f"plan.passing names {name!r}; the steps are {', '.join(steps)}"
    if kinds.count("stability") > 1:
        yield "stage stability may occur once"


def _ion_problems(campaign: Campaign) -> Iterator[str]:
    from pipeline.reference.window import ION_CHARGES

    chosen = campaign.candidates
    absent = [e for e in campaign.mobile_ions if chosen.elements and e not in chosen.allowed_elements]
    if absent:
        yield f"mobile ion {', '.join(absent)} is not among the candidates' elements; add it there"
    if campaign.reference.source != "table" and not chosen.elements:
        source = campaign.reference.source
        yield f"reference source {source!r} needs candidates.elements: the elements of its competing phases"
    if campaign.reference.source == "prototypes" and chosen.elements:
        outside = sorted(campaign.reference_elements - {*chosen.allowed_elements, *absent})
        if outside:
            yield (
                f"{', '.join(outside)} (of an electrode or partner) is not among the candidates' elements, whose "
                "phases are all that reference source 'prototypes' knows; add it there, or use source 'table'"
            )
    for stage in campaign.stages:
        if stage.stage == "dft" and stage.engine == "espresso":
            given = stage.espresso.pseudopotentials
            if lacking := [e for e in chosen.allowed_elements if e not in given]:
                yield f"dft.espresso.pseudopotentials has none of {', '.join(lacking)}; add their UPF files"
        if stage.stage == "reactivity":
            for column in stage.gates:
                partner = column.removeprefix("reaction_energy_")
                if partner != column and partner not in stage.partners:
                    yield f"gate {stage.step}.{column}: {partner} is no partner of this stage"
        if stage.stage != "window":
            continue
        metals = stage.metals(campaign.mobile_ions)
        unknown = [e for e in metals if e not in ION_CHARGES]
        if unknown:
            yield f"stage window knows the charges of {', '.join(ION_CHARGES)}, not of {', '.join(unknown)}"
        for column in stage.gates:
            ion = column.removeprefix("reduction_limit_").removeprefix("oxidation_limit_")
            if ion != column and ion not in metals:
                yield f"gate {stage.step}.{column}: the step measures against {', '.join(metals)}, not {ion}"


def _choice_problems(campaign: Campaign) -> Iterator[str]:
    terms = [term.column for term in campaign.ranking.score]
    made = {*terms, *(name.rpartition("_")[0] for name in terms)}  # oxidation_limit_Li comes with oxidation_limit
    known: set[str] = set()
    for stage in campaign.stages:
        if stage.best is not None and not known & made:
            yield (
                f"stage {stage.step} takes the best {stage.best}, but no stage before it makes a column of "
                f"ranking.score ({', '.join(terms)}); move it behind one that does"
            )
        known |= {column.name for column in schema.columns_of(stage.stage)}


def _cluster_problems(campaign: Campaign) -> Iterator[str]:
    has_gpus = campaign.cluster.kind == "cuda" or campaign.cluster.gpu is not None
    if has_gpus and campaign.device == "cpu":
        yield "cluster asks for GPUs, but device is cpu; write device: cuda, or leave them out"


def _ranking_problems(campaign: Campaign) -> Iterator[str]:
    kinds = [s.stage for s in campaign.stages]
    produced = {c.name for kind in ("candidates", *kinds) for c in schema.columns_of(kind)}
    metals = {m for s in campaign.stages if s.stage == "window" for m in s.metals(campaign.mobile_ions)}
    produced |= {f"{limit}_limit_{metal}" for limit in ("reduction", "oxidation") for metal in metals}
    produced |= {f"reaction_energy_{p}" for s in campaign.stages if s.stage == "reactivity" for p in s.partners}
    columns = [*(d.column for d in campaign.ranking.score), *(o.column for o in campaign.ranking.pareto)]
    for wanted in dict.fromkeys(columns):
        stage = schema.column(wanted).stage
        if stage == "ranking":
            yield f"ranking uses {wanted!r}, which the ranking itself makes"
        elif wanted not in produced:
            yield (
                f"ranking uses {wanted!r}, which stage {stage!r} makes for this campaign's ions; list that stage, or "
                "set ranking.score and ranking.pareto"
            )
