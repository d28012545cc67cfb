"""Draw the report: templates, scripts and data put into one HTML file that loads nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline import schema
from pipeline.atomic_files import write_text
from pipeline.config import ConfigError, Problem
from workflows.caveats import NOT_CHECKED
from workflows.report import figures, overview, table
from workflows.report.candidate_sections import SECTIONS, Section, chosen_positions, looks, section_of
from workflows.report.elements import element_counts
from workflows.report.phase_diagrams import chemical_systems, system_figure
from workflows.report.run_data import RunData, read_run
from workflows.report.stage_rows import candidates_of, rows_of_stages
from workflows.report.structures import paths_of, structure_block
from workflows.report.wording import shown, subscripted, title_of
from workflows.stable_phases import systems_kept

_STATIC = Path(__file__).parent / "static"
_LIBRARIES = ("plotly-cartesian-4.1.1", "3Dmol-2.5.5")
_OWN_SCRIPTS = ("figures.js", "table.js", "structures.js")
_PLAIN_FORMULA = re.compile(r"[A-Za-z0-9().]+")


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run folder.

    Raises
    ------
    ConfigError
        When the folder holds no finished ranking, a file of it is damaged, or it can't be written; with the remedy.
    """
    path = folder / "report.html"
    text = report_page(read_run(folder))
    try:
        write_text(path, text)
    except OSError as error:
        remedy = f"can't be written ({error.strerror}); make the run folder writable, or copy it to another place"
        raise ConfigError([Problem(str(path), remedy)]) from None
    return path


def report_page(run: RunData) -> str:
    """The page of a run as HTML."""
    candidates = candidates_of(run)
    stages = rows_of_stages(run, candidates)
    anchors = {i: f"candidate-{run.ranked.text.at[i, 'rank']}" for i in chosen_positions(run)}
    kept = set(systems_kept(run.ranked.text["chemsys"], run.ranked.flags("shortlisted")))
    names = [name for i in anchors if (name := run.ranked.text.at[i, "chemsys"]) in kept]
    systems = chemical_systems(run.stable_phases, run.ranked.text, names)
    sections = [section_of(run, position, anchor, systems) for position, anchor in anchors.items()]
    misses = overview.misses_of_gates(stages)
    histogram = overview.hull_histogram(stages)
    elements = element_counts(
        candidates["chemsys"], run.ranked.text["chemsys"] if len(run.ranked) else candidates["chemsys"][:0]
    )
    drawn = _campaign_figures(run, histogram, elements, len(candidates), anchors)
    scripts = _scripts()
    return (
        _environment()
        .get_template("report.html")
        .render(
            run=run,
            counts=overview.count_of(run),
            emptied=overview.emptied_by(run, misses),
            misses=misses,
            histogram=histogram,
            elements=elements,
            sections=sections,
            anchors=anchors,
            eligible=int((run.ranked.kinds != "other").sum()),
            summaries=table.summaries(run.ranked, run.campaign) if len(run.ranked) > table.TABLE_ROWS else [],
            compared=overview.best_controls_and_new(run.ranked),
            suspects=run.ranked.text[run.ranked.kinds == "suspect"],
            agreement=overview.agreement_with_dft(run.ranked),
            failures_by_kind=overview.failures_by_kind(run.failures),
            shown=table.shown_columns(run.ranked, run.campaign),
            described=[schema.column(name) for name in run.ranked.text.columns],
            config=(run.folder / "config.yaml").read_text(encoding="utf-8"),
            limits={
                "table": table.TABLE_ROWS,
                "sections": SECTIONS,
                "rows": overview.SHOWN_ROWS,
                "bars": figures.ERROR_BARS,
            },
            figure_names=list(drawn),
            table_block=table.table_block(
                run.ranked, run.campaign, anchors, {"is_known": run.reach.unlisted, "in_database": NOT_CHECKED}
            ),
            figure_block={
                "template": figures.template(),
                "figures": {**drawn, **{name: f for s in sections for name, f in s.figures.items()}},
                "bases": {name: system_figure(system) for name, system in systems.items()},
                "looks": looks(run.campaign),
            },
            structure_block=_structures(run, sections),
            style=Markup((_STATIC / "report.css").read_text(encoding="utf-8")),
            scripts=scripts,
            policy=_policy(scripts),
            licences={name: (_STATIC / f"{name}.LICENSE.txt").read_text(encoding="utf-8") for name in _LIBRARIES},
        )
    )


def _structures(run: RunData, sections: list[Section]) -> dict[str, dict[str, Any]]:
    drawn = [section for section in sections if section.cif]
    paths = paths_of(run, [section.row["candidate_id"] for section in drawn])
    return {
        s.anchor: structure_block(s.cif, run.campaign.mobile_ions, paths.get(s.row["candidate_id"], [])) for s in drawn
    }


def _campaign_figures(
    run: RunData, histogram: overview.Histogram | None, elements: Any, candidates: int, anchors: dict[int, str]
) -> dict[str, dict[str, Any]]:
    ranked, campaign = run.ranked, run.campaign
    drawn: dict[str, dict[str, Any] | None] = {"funnel": figures.funnel_figure(run.steps)}
    drawn["hull"] = figures.hull_figure(histogram) if histogram else None
    if len(ranked):
        drawn["uncertainty"] = figures.uncertainty_figure(ranked, campaign)
        drawn["disagreement"] = figures.disagreement_figure(ranked)
        for x, y in figures.pareto_pairs(ranked, campaign):
            drawn[f"pareto-{x}-{y}"] = figures.pareto_figure(ranked, campaign, x, y, anchors)
    drawn["elements-before"] = figures.periodic_table_figure(elements.before, candidates)
    if len(ranked):
        drawn["elements-after"] = figures.periodic_table_figure(elements.after, len(ranked))
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("workflows.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"formula": formula, "title": title_of, "cell": _cell}
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "ensure_ascii": False}
    return environment


def formula(text: str) -> Markup:
    """A formula with its numbers as subscripts; a text that is no formula is shown as it stands."""
    if not _PLAIN_FORMULA.fullmatch(text):
        return escape(text)
    return Markup(subscripted(text))


def _cell(row: dict[str, str], name: str) -> Markup:
    """A table cell: shown rounded, with the text of the CSV beside it."""
    value = str(row.get(name, ""))
    declared = schema.column(name)
    kind = "number" if declared.dtype in ("float64", "int64") else "text"
    text = formula(value) if name == "formula_pretty" else shown(value, declared.dtype)
    return Markup('<td class="{}" data-column="{}" data-value="{}">{}</td>').format(kind, name, value, text)


def _scripts() -> list[Markup]:
    """Every script of the page: plotly, the structure viewer, and our own."""
    names = [*(f"{library}.min.js" for library in _LIBRARIES), *_OWN_SCRIPTS]
    texts = [(_STATIC / name).read_text(encoding="utf-8") for name in names]
    return [Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--")) for text in texts]


def _policy(scripts: list[Markup]) -> str:
    """A content security policy: only these scripts run, and nothing is fetched."""
    digests = (base64.b64encode(hashlib.sha256(f"\n{text}\n".encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
