"""Open a run: inputs, prototype library, cluster, manifest; then the funnel."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pandas as pd
from distributed import Client

from pipeline.atomic_files import write_atomically, write_json, write_text
from pipeline.cluster_settings import BATCH_KINDS
from pipeline.config import Campaign, ConfigError, Problem
from pipeline.references import References
from workflows.admission import REFUSED, Requirements, unmet_by_worker
from workflows.cluster import connect, log_folder, settings_beside
from workflows.failed_rows import largest_failed_share
from workflows.files import digest_of
from workflows.finished import FinishedRun, campaign_of_earlier, finished_run
from workflows.funnel import screen
from workflows.identity import Digests
from workflows.in_flight import told_when_lost
from workflows.library import prototype_library
from workflows.lock import RunLock
from workflows.preflight import Inputs, find_inputs
from workflows.progress import ProgressView
from workflows.provenance import campaign_as_yaml, manifest_of, model_digests, model_names, now, worker_facts
from workflows.runner import Run
from workflows.shared_scheduler import alone_on_scheduler
from workflows.steps import Step
from workflows.store import RunFolder
from workflows.worker import ReferencesPlugin

REGISTRATIONS = 3
"""Times that the workers' plugin is registered where a worker ends meanwhile."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    ranking: pd.DataFrame
    steps: list[Step]


def run_campaign(
    campaign: Campaign,
    config_path: Path,
    folder: Path,
    view: ProgressView,
    *,
    retry_failed: bool = False,
    collect: bool = False,
) -> Outcome:
    """Run a campaign to its end, or go on where it was left.

    ``retry_failed`` computes failed rows again; ``collect`` looks again for the outputs of DFT rows that wait for them,
    or whose outputs were refused.

    Raises
    ------
    ConfigError
        Bad configuration or data, all problems at once.
    RunFolderBusyError
        Another run holds the folder.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM; what was committed stays, and the same command goes on from there.
    """
    started = time.monotonic()
    with _opened(campaign, config_path, folder, view, retry_failed=retry_failed, collect=collect) as (
        run,
        manifest,
        _,
    ):
        ranking = screen(run)
    write_json(
        run.folder.manifest,
        {
            **manifest,
            "finished": now(),
            "wall_seconds_of_this_call": round(time.monotonic() - started, 1),
            "core_seconds": {step.step: step.seconds for step in run.steps},
            "digests": {step.step: step.digest for step in run.steps},
        },
    )
    run.folder.log("run finished", survivors=len(ranking), failed_share=largest_failed_share(run.steps))
    return Outcome(ranking, run.steps)


def list_candidates(campaign: Campaign, config_path: Path, folder: Path, view: ProgressView) -> tuple[Step, Path]:
    """List a campaign's candidates into its run folder, from which `ionsieve run` goes on.

    A finished run of the same campaign stays finished.

    Returns
    -------
    step, folder
        What was enumerated and what passed, and where the Parquet parts lie.

    Raises
    ------
    ConfigError, RunFolderBusyError, KeyboardInterrupt
        As :func:`run_campaign`.
    """
    with _opened(campaign, config_path, folder, view) as (run, _, before):
        step, store = run.list_candidates()
        if before is not None:
            before.restore(run.folder, step.digest)
    return step, store.folder


@contextmanager
def _opened(
    campaign: Campaign,
    config_path: Path,
    folder: Path,
    view: ProgressView,
    *,
    retry_failed: bool = False,
    collect: bool = False,
) -> Iterator[tuple[Run, dict[str, object], FinishedRun | None]]:
    """A run on its folder and cluster, both held; its manifest, which says that it is not finished; what was before."""
    inputs = find_inputs(campaign, config_path, say=view.say)
    folder = folder.resolve()  # workers may have another working directory
    run_folder = RunFolder(folder)
    try:
        run_folder.create()
    except (OSError, ValueError) as error:
        text = f"the run folder can't be written ({error}); choose another with --folder"
        raise ConfigError([Problem(str(folder), text)]) from None
    with RunLock(folder), _interruptible():
        run_folder.remove_leftovers()
        view.say(f"{campaign.name}: {campaign.description}" if campaign.description else campaign.name)
        for note in inputs.notes:
            view.say(note)
        references, digests = open_references(inputs, run_folder, view)
        _refuse_another_campaign(run_folder, campaign)
        before = finished_run(run_folder)
        write_text(run_folder.config, campaign_as_yaml(inputs.campaign))
        manifest = {**manifest_of(inputs, references), "config": str(config_path.resolve())}
        cluster = settings_beside(config_path, inputs.campaign.cluster)
        if cluster.kind in BATCH_KINDS:
            manifest["job_logs"] = str(log_folder(cluster, folder))
        write_json(run_folder.manifest, {**manifest, "finished": None})
        run_folder.log("run started", notes=list(inputs.notes))
        name = f"ionsieve-{campaign.name}"
        with connect(cluster, name=name, run_folder=folder, say=view.say) as client, view:
            if client.dashboard_link:
                view.say(f"dashboard: {client.dashboard_link}")
            with told_when_lost(client), alone_on_scheduler(client, cluster.kind, view.say):
                _prepare_workers(client, references, inputs, run_folder.path, view)
                view.workers = len(client.nthreads())
                run = Run(
                    inputs.campaign,
                    run_folder,
                    client,
                    references,
                    digests,
                    view,
                    retry_failed=retry_failed,
                    collect=collect,
                )
                yield run, manifest, before


def _refuse_another_campaign(run_folder: RunFolder, campaign: Campaign) -> None:
    name = campaign_of_earlier(run_folder)
    if name not in (None, campaign.name):
        text = f"holds campaign {name!r}, not {campaign.name!r}; choose another folder with --folder"
        raise ConfigError([Problem(str(run_folder.path), text)])


def open_references(inputs: Inputs, run_folder: RunFolder, view: ProgressView) -> tuple[References, Digests]:
    """Build or reuse the prototype library, and say where the competing phases come from."""
    library_path, library = prototype_library(inputs, run_folder.path, view.say)
    digests = Digests(
        inputs.campaign,
        library=library.digest,
        models=inputs.models,
        table=inputs.table_digest,
        known=digest_of([inputs.known_digest, sorted(library.parent_formulas)]),
        known_crystals=inputs.known_crystals_digest,
    )
    if inputs.table is not None and inputs.elements is not None:
        phases, elements = inputs.table, inputs.elements
        if inputs.fetched:
            # The cache is this user's on this machine; workers see the run folder.
            phases, elements = (_copied(path, run_folder.path / "reference") for path in (phases, elements))
    else:
        home = run_folder.stage("competing_phases", digests.competing_phases()).folder
        phases, elements = home / "phases.csv", home / "elements.csv"
    references = References(
        campaign=inputs.campaign,
        library_path=library_path,
        phases_path=phases,
        elemental_references_path=elements,
        observed_path=inputs.observed,
    )
    return references, digests


def _copied(path: Path, folder: Path) -> Path:
    target = folder / path.name
    content = path.read_bytes()
    if not target.exists() or target.read_bytes() != content:
        write_atomically(target, lambda stream: stream.write(content) and None)
    return target


def _prepare_workers(client: Client, references: References, inputs: Inputs, folder: Path, view: ProgressView) -> None:
    """Register the references, and make sure that every worker runs the same code with the same models."""
    campaign = inputs.campaign
    requirements = Requirements(
        worker_facts(),
        model_digests(sorted(model_names(campaign))),
        references.library_path,
        cuda=campaign.device == "cuda",
        gpu_workers=campaign.cluster.gpu is not None,
    )
    problems = []
    for worker, unmet in client.run(unmet_by_worker, requirements, on_error="return").items():
        if isinstance(unmet, OSError):
            continue  # it ended meanwhile; the plugin asks whoever comes in its place
        if isinstance(unmet, BaseException):
            unmet = [f"can't tell what it has ({type(unmet).__name__}: {unmet}); install ionsieve there"]
        problems += [Problem(str(worker), text) for text in unmet]
    if problems:
        raise ConfigError(problems)

    def refused(event: tuple[float, dict[str, str]]) -> None:
        view.say(f"worker {event[1]['worker']} was refused: {event[1]['unmet']}")

    client.subscribe_topic(REFUSED, refused)
    _register(client, ReferencesPlugin(references, campaign.cluster.threads_per_worker, requirements, folder))


def _register(client: Client, plugin: ReferencesPlugin) -> None:
    """Register a plugin that every worker gets, also where some end meanwhile: the scheduler has it by then."""
    for _ in range(REGISTRATIONS):
        with suppress(OSError):
            client.register_plugin(plugin)
            return


@contextmanager
def _interruptible() -> Iterator[None]:
    """Treat SIGTERM (schedulers send it before they kill) and SIGHUP (the terminal is gone) as Ctrl-C."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        # A call into Dask that is cut short logs an error of its own clean-up, which says nothing to a user.
        logging.getLogger("tornado.application").setLevel(logging.CRITICAL + 1)
        raise KeyboardInterrupt

    caught = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        caught.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
