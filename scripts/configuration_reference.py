"""docs/configuration.md: every key of a campaign file, from the models that read it.

`scripts/generate_schema.py` writes the page, and fails with --check when it is stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import schema
from pipeline.config import Campaign, StageSettings

ROOT = Path(__file__).resolve().parent.parent
_SHOWN_BY = ("configs/quickstart.yaml", "configs/halides.yaml", "configs/paper.yaml", "configs/paper_gates.yaml")
_EXAMPLE_LENGTH = 60
_OF_EVERY_STAGE = ("stage", "name", "gates")
_WITHOUT_GATES = ("candidates", "ranking", "gates")
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {} items",
    "minLength": "at least {} characters",
    "pattern": "matches `{}`",
}

# Of keys that none of the campaigns in configs/ sets, and whose default says nothing.
EXAMPLES: dict[str, Any] = {
    "candidates.prototypes.path": "my_crystals",
    "candidates.charges": {"Fe": [2, 3]},
    "candidates.radii": {"Y-": 1.40},
    "candidates.exclude_elements": ["Tl"],
    "candidates.exclude_classes": ["radioactive"],
    "candidates.gates.require_one_of": [["Cl", "Br"]],
    "candidates.gates.not_together": [["S", "O"]],
    "potential.convention": "source",
    "potential.scheme": "mp_raw",
    "potential.fallback": "CHGNet",
    "ranking.score.column": "migration_barrier_3d",
    "ranking.score.best": 0.2,
    "ranking.score.worst": 1.0,
    "ranking.pareto.column": "oxidation_limit",
    "ranking.pareto.goal": "max",
    "cluster.address": "tcp://node1:8786",
    "cluster.workers": 2,
    "cluster.queue": "standard",
    "cluster.account": "mat-1234",
    "cluster.walltime": "12:00:00",
    "cluster.cores": 32,
    "cluster.memory": "96GiB",
    "cluster.processes": 16,
    "cluster.jobs": 8,
    "cluster.directives": ["--constraint=ib"],
    "cluster.resource_spec": "select=1:ncpus=16:mem=48gb",
    "cluster.prologue": ["module load python/3.11"],
    "cluster.python": "/project/venv/bin/python",
    "cluster.interface": "ib0",
    "cluster.scheduler_interface": "eth0",
    "cluster.scheduler_port": 40123,
    "cluster.local_directory": "$TMPDIR",
    "cluster.log_folder": "/scratch/me/logs",
    "cluster.lifetime_margin": 300,
    "cluster.environment": {"NUMBA_CACHE_DIR": "/scratch/me/numba"},
    "cluster.wait": 24.0,
    "cluster.adaptive.maximum": 40,
    "cluster.gpu.queue": "gpu",
    "cluster.gpu.jobs": 2,
    "cluster.gpu.directives": ["--gres=gpu:1"],
    "cluster.gpu.adaptive.maximum": 4,
    "cluster.tls.ca_file": "ca.pem",
    "cluster.tls.cert": "cert.pem",
    "cluster.tls.key": "key.pem",
    "plan.passing": {"stability": 0.1},
    "plan.cluster.workers": 64,
    "plan.cluster.cost_per_worker_hour": 0.05,
    "run.folder": "runs/second_try",
    "stages.window.reference_electrode": "Li",
    "stages.reactivity.partners": ["Li", "LiCoO2"],
    "stages.practicality.known_formulas": ["Li3YCl6"],
    "stages.stability.give_up_above": 0.1,
    "stages.dft.espresso.pseudopotentials": {"Li": "li_pbe_v1.4.uspp.F.UPF"},
    "gates.below": 0.05,
    "gates.at_most": 2.5,
    "gates.above": 3.0,
    "gates.at_least": 0.1,
    "gates.equals": False,
}

Node = dict[str, Any]


def configuration_page() -> str:
    """The whole page, as Markdown."""
    root = Campaign.model_json_schema()
    reference = Reference(root["$defs"], files_in_configs(_SHOWN_BY), EXAMPLES)
    lines = [
        "# Configuration",
        "",
        "Generated from the models in `pipeline/` by `scripts/generate_schema.py`; do not edit.",
        "",
        "A campaign is one YAML file. An unknown key, a value out of its bounds or a wrong unit is an error with line "
        "and key, all at once (`ionsieve validate`). Numbers are in the units named here; `ionsieve schema` prints the "
        "same as JSON schema for editors. Where the default is –, the key is not set; leave it out for that. Examples "
        "are from `configs/` where a campaign there sets the key.",
        "",
        "## The campaign",
        "",
        *reference.table("", root),
    ]
    for name, node in root["properties"].items():
        if name != "stages":
            lines += reference.sections(name, node, 2)
    lines += _stages(reference, root["properties"]["stages"]) + _gates(reference)
    return "\n".join(lines) + "\n"


class Reference:
    """Sections and tables of a JSON schema, with examples out of the files shown, else of our own."""

    def __init__(self, definitions: dict[str, Node], shown: list[Node], own: dict[str, Any]) -> None:
        self._definitions = definitions
        self._shown, self._own = shown, own

    def model_in(self, node: Node) -> Node | None:
        """The model that a key holds, alone or as the items of a list; gates have a section of their own."""
        for part in (node, *node.get("anyOf", ()), node.get("items", {})):
            name = part.get("$ref", "").rpartition("/")[2]
            if name and name != "Gate":
                return self._definitions[name]
        return None

    def definition(self, reference: str) -> Node:
        """A model by its reference."""
        return self._definitions[reference.rpartition("/")[2]]

    def sections(self, place: str, node: Node, level: int) -> Iterator[str]:
        """The section of a key that holds a model, and those below it."""
        model = self.model_in(node)
        if model is None:
            return
        yield from ("", f"{'#' * level} {place}", "", _paragraph(model), "")
        yield from self.table(place, model)
        for name, below in model["properties"].items():
            yield from self.sections(f"{place}.{name}", below, min(level + 1, 4))

    def table(self, place: str, model: Node, leave_out: tuple[str, ...] = ()) -> Iterator[str]:
        """A row for each key of a model."""
        yield "| key | type | default | bounds | meaning | example |"
        yield "|---|---|---|---|---|---|"
        needed = model.get("required", ())
        for name, node in model["properties"].items():
            if name in leave_out:
                continue
            key = f"{place}.{name}" if place else name
            default = "**required**" if name in needed else self._default(node)
            meaning = node.get("description") or _meaning_for_every_stage(key)
            cells = (f"`{name}`", self.type_of(key, node), default, self._bounds(node), meaning)
            yield "| " + " | ".join(_cell(text) for text in (*cells, self.example(key, node))) + " |"

    def _default(self, node: Node) -> str:
        value = node.get("default", {})
        if value is None:
            return "–"
        return "as there" if isinstance(value, dict) and self.model_in(node) is not None else _code(_yaml(value))

    def type_of(self, key: str, node: Node) -> str:
        """A key's type in a user's words, linked where it has a section."""
        if "anyOf" in node:
            return " or ".join(self.type_of(key, part) for part in node["anyOf"] if part.get("type") != "null")
        if "enum" in node or "const" in node:
            return ", ".join(_code(_yaml(value)) for value in node.get("enum", [node.get("const")]))
        if "$ref" in node:
            return "[gate](#gates)" if node["$ref"].endswith("/Gate") else f"[settings](#{anchor(key)})"
        if key == "stages":
            return "list of [stages](#stages)"
        kind = node.get("type", "")
        if kind == "array":
            items = self.type_of(key, node["items"]) if "items" in node else "values"
            return f"list of {items}"
        if kind == "object":
            return f"mapping to {self.type_of(key, node['additionalProperties'])}"
        return {"string": "text", "boolean": "true or false"}.get(kind, kind)

    def _bounds(self, node: Node) -> str:
        parts = [node, *node.get("anyOf", ())]
        found = [text.format(_plain(part[name])) for part in parts for name, text in _BOUNDS.items() if name in part]
        inside = [node[name] for name in ("items", "additionalProperties") if isinstance(node.get(name), dict)]
        return ", ".join(found + [f"each {bounds}" for below in inside if (bounds := self._bounds(below))])

    def example(self, key: str, node: Node) -> str:
        """A value from a file in configs/, else one of ours, else the default where it says something."""
        if self.model_in(node) is not None or key in ("stages", "reference"):
            return ""
        values = [found for file in self._shown for found in _values_at(file, key.split("."))]
        texts = [_yaml(value) for value in (*values, *(self._own[k] for k in (key,) if k in self._own))]
        default = node.get("default")
        if not texts and default not in (None, {}, [], ""):
            texts = [_yaml(default)]
        short = [text for text in texts if len(text) <= _EXAMPLE_LENGTH]
        return (
            _code(f"{key.rpartition('.')[2]}: {(short or [texts[0][:_EXAMPLE_LENGTH] + ' ...'])[0]}") if texts else ""
        )


def _meaning_for_every_stage(key: str) -> str:
    """What a key means that a stage has from all stages, with a default of its own."""
    field = StageSettings.model_fields.get(key.rpartition(".")[2]) if key.startswith("stages.") else None
    return (field.description or "") if field else ""


def _stages(reference: Reference, node: Node) -> list[str]:
    """The steps of the funnel: what all have, then each stage."""
    models = [reference.definition(part["$ref"]) for part in node["items"]["oneOf"]]
    common = {**models[0], "properties": {n: p for n, p in models[0]["properties"].items() if n in _OF_EVERY_STAGE}}
    lines = ["", "## stages", "", "The funnel, in order. Every stage has these keys; the others follow.", ""]
    lines += list(reference.table("stages.*", _any_stage(common)))
    for model in models:
        name = model["properties"]["stage"]["const"]
        place = f"stages.{name}"
        lines += ["", f"### stage: {name}", "", _paragraph(model), ""]
        lines += list(reference.table(place, model, leave_out=_OF_EVERY_STAGE))
        for key, below in model["properties"].items():
            lines += reference.sections(f"{place}.{key}", below, 4)
    return lines


def _any_stage(model: Node) -> Node:
    stage = {"type": "string", "description": "which stage: one of those below"}
    return {"properties": {**model["properties"], "stage": stage}, "required": ["stage"]}


def _gates(reference: Reference) -> list[str]:
    """How a gate is written, and every column that may have one."""
    gate = reference.definition("#/$defs/Gate")
    lines = ["", "## gates", "", _paragraph(gate), "", *reference.table("gates", gate)]
    lines += ["", "| stage | column | unit | a bound may lie in | meaning |", "|---|---|---|---|---|"]
    for column in schema.COLUMNS:
        if column.stage in _WITHOUT_GATES or (column.gate is None and column.dtype != "bool"):
            continue
        span = "true or false" if column.gate is None else f"{column.gate[0]:g} to {column.gate[1]:g}"
        cells = (column.stage, f"`{column.name}`", column.unit, span, column.meaning)
        lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    return lines


def files_in_configs(paths: tuple[str, ...]) -> list[Node]:
    yaml = YAML(typ="safe", pure=True)
    return [yaml.load((ROOT / path).read_text(encoding="utf-8")) for path in paths]


def _values_at(node: Any, path: list[str]) -> list[Any]:
    """What a campaign sets at a place; of a list of stages the one that is named, of other lists every item."""
    if not path:
        return [node]
    if isinstance(node, list):
        named = [item for item in node if isinstance(item, dict) and item.get("stage") == path[0]]
        if named or path[0] == "*":
            return [value for item in named or node for value in _values_at(item, path[1:])]
        return [value for item in node for value in _values_at(item, path)]
    return _values_at(node[path[0]], path[1:]) if isinstance(node, dict) and path[0] in node else []


def _paragraph(model: Node) -> str:
    return " ".join(model.get("description", "").split())


def _yaml(value: Any) -> str:
    """A value as one writes it in YAML, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {_yaml(v)}' for k, v in value.items())}}}"
    return value if isinstance(value, str) and value else _plain(value)


def _plain(value: Any) -> str:
    """A number as short as it can be written; text as it stands."""
    if isinstance(value, str) and value:
        return value
    short = f"{value:g}" if isinstance(value, float) else ""
    return short if short and float(short) == value and "e" in short else json.dumps(value)


def _code(text: str) -> str:
    return f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def anchor(heading: str) -> str:
    """The link target that GitHub makes of a heading."""
    return heading.lower().replace(".", "").replace(":", "").replace(" ", "-")
