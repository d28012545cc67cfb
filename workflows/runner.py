"""A run in its folder: plans work, keeps what is done, applies the gates, writes the results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import pandas as pd
from distributed import Client

from pipeline import ranking as ranking_rules
from pipeline import schema
from pipeline.atomic_files import write_json
from pipeline.confidence import stability_gates, stability_probability
from pipeline.config import Campaign, ConfigError, Problem
from pipeline.dft.manifest import MANIFEST, write_manifest
from pipeline.polymorphs import energy_above_hull_with_candidates, polymorph_of
from pipeline.reference.competing import competing_phases
from pipeline.reference.self_consistent import write_self_consistent_reference
from pipeline.references import References
from pipeline.settings import StageSettings
from pipeline.stages import candidates as candidates_source
from pipeline.surrogates import model_digest
from workflows import outputs
from workflows.candidate_counts import none_passes
from workflows.engine import Committed, compute_rows, compute_units
from workflows.failed_rows import lost_elements
from workflows.files import digest_of, digest_of_file
from workflows.gating import cheap_gates_text, gated
from workflows.gpu_workers import resources_of_stage
from workflows.identity import Digests
from workflows.progress import ProgressView
from workflows.provenance import kinds_of_machines
from workflows.relaxed_phases import (
    RelaxedPhases,
    competing_phases_settings,
    cut_by_system,
    first_tries,
    keeping,
    not_in_cache,
)
from workflows.repeats import columns_for_repeats, rows_to_repeat
from workflows.stable_phases import write_stable_phases
from workflows.steps import Step, step_line
from workflows.store import RunFolder, StageStore, Unit, is_plain
from workflows.watchdog import TimeLimit
from workflows.worker import UnitResult, run_candidates_unit


class Run:
    """One campaign in one run folder, on one cluster."""

    def __init__(
        self,
        campaign: Campaign,
        folder: RunFolder,
        client: Client,
        references: References,
        digests: Digests,
        view: ProgressView,
        *,
        retry_failed: bool = False,
        collect: bool = False,
    ) -> None:
        self.campaign = campaign
        self.folder = folder
        self.client = client
        self.references = references
        self.digests = digests
        self.view = view
        self.retry_failed = retry_failed
        self.collect = collect
        self.steps: list[Step] = []
        self.failures: list[pd.DataFrame] = []
        self._competitors: pd.DataFrame | None = None
        self._fresh: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def enumerate_candidates(self) -> pd.DataFrame:
        """Candidates that pass the cheap gates; the others are counted by reason. ConfigError when none passes."""
        step, store = self.list_candidates()
        if not step.passed:
            raise ConfigError([Problem("candidates", none_passes(step.entered, step.rejected_by))])
        return store.results()

    def list_candidates(self) -> tuple[Step, StageStore]:
        """List the candidates into the run folder, one part a unit; none of them is kept in memory."""
        settings = self.campaign.candidates
        store = self.folder.stage("candidates", self.digests.candidates())
        if not store.plan_is_sound():
            store.start_over()  # a part's ranges can't tell which others are missing; listing again is cheap
        if not store.units():
            store.plan(candidates_source.plan_units(settings, self.references.library))
        units = self._sound(store, store.units())
        self._under_way("candidates", store)
        todo = [unit for unit in units if not store.is_done(unit)]
        self.view.start("candidates", len(units), len(units) - len(todo))
        compute_units(
            self.client,
            store,
            todo,
            lambda unit: (run_candidates_unit, (unit.work,)),
            self._committed("candidates", 1),
            TimeLimit(self.campaign.run.unit_timeout, "candidates"),
            say=self.view.say,
        )
        counts: Counter[str] = Counter()
        for note in store.notes():
            counts.update(note["counts"])
        enumerated, passed = counts.pop("enumerated", 0), counts.pop("passed", 0)
        gates = cheap_gates_text(settings.gates.model_dump(exclude_none=True))
        step = Step("candidates", "candidates", gates, enumerated, 0, passed, dict(counts))
        self._record(step, store)
        return step, store

    def relax_competing_phases(self) -> None:
        """Relax elements and salts with the surrogate: the self-consistent reference."""
        chosen, reference = self.campaign.candidates, self.campaign.reference
        settings = competing_phases_settings(self.campaign)
        library = self.references.library if reference.prototypes == "campaign" else None
        rows = competing_phases(chosen.allowed_elements, reference, chosen.charges, library)
        store = self.folder.stage("competing_phases", self.digests.competing_phases())
        machines = kinds_of_machines(self.client)
        shared = RelaxedPhases(self.digests.relaxed_phases(settings), machines, self.view.say)
        table = store.with_lists(self._compute(store, "competing_phases", settings, rows, shared))
        try:
            phases, elements = write_self_consistent_reference(table, self.references.potential)
        except ValueError as error:
            raise ConfigError([Problem("reference", str(error))]) from None
        outputs.write_csv(phases, self.references.phases_path)
        elements_path = self.references.elemental_references_path
        outputs.write_csv(elements, elements_path)
        self.digests.use_phases(digest_of([digest_of_file(p) for p in (self.references.phases_path, elements_path)]))
        failed = self._note_failures("competing_phases", settings, table)
        out = {"failed": failed} if failed else {}
        step = Step("competing_phases", settings.stage, "", len(rows), failed, len(rows) - failed, out)
        step.lost_elements = lost_elements(rows, elements)
        self._record(step, store)

    def take_best(self, settings: StageSettings, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows that a stage takes: all, or the best by what of the ranking is known so far."""
        taken = ranking_rules.take_best(rows, settings.best, self.campaign.ranking)
        self._left_out[settings.step] = len(rows) - len(taken)
        return taken

    def compute(self, settings: StageSettings, rows: pd.DataFrame) -> pd.DataFrame:
        """Give the rows a stage's columns, computing only what is on disk under no part of the same digest.

        Columns of lists, such as crystals, are left on disk: :meth:`gate` reads those of the rows that pass.
        """
        store = self.folder.stage(settings.step, self.digests.stage(settings))
        table = self._compute(store, settings.step, settings, rows)
        self._note_failures(settings.step, settings, table)
        if settings.stage == "dft":
            self._note_pending(table, store)
        if settings.stage == "stability":
            believed = (table["stability_status"] == "ok") & ~table["suspect"].fillna(True).astype(bool)
            self._competitors = table.loc[believed, ["candidate_id", "formula_pretty", "formation_energy_per_atom"]]
        return table

    def _note_pending(self, table: pd.DataFrame, store: StageStore) -> None:
        """Write the list of DFT calculations, and say what waits for the user's program."""
        write_manifest(store.workspace())
        if waiting := int((table["dft_status"] == "pending").sum()):
            self.view.say(
                f"dft: {waiting} rows wait for calculations listed in {store.workspace() / MANIFEST}; run them, then "
                f"`ionsieve dft collect {self.folder.path}`"
            )

    def _note_failures(self, step: str, settings: StageSettings, table: pd.DataFrame) -> int:
        failed = table[table[f"{settings.stage}_status"] == "failed"]
        errors = failed[f"{settings.stage}_error"]
        self.failures.append(pd.DataFrame({"candidate_id": failed["candidate_id"], "step": step, "error": errors}))
        return len(failed)

    def _compute(
        self,
        store: StageStore,
        step: str,
        settings: StageSettings,
        rows: pd.DataFrame,
        shared: RelaxedPhases | None = None,
    ) -> pd.DataFrame:
        rows = rows.sort_values(["nsites", "candidate_id"], ascending=[False, True]).reset_index(drop=True)
        wanted = list(rows["candidate_id"])
        needed = set(wanted)
        if not store.plan_is_sound():
            self.view.say(f"the plan of {step} is damaged; it is rebuilt from the finished units")
            store.recover_plan()
        planned = self._sound(store, store.units())
        looked_at = columns_for_repeats(settings)
        done = store.results(lambda field: field.name in looked_at).reindex(columns=looked_at)
        waiting = {candidate for unit in planned if not store.is_done(unit) for candidate in unit.work}
        known = waiting.union(done["candidate_id"])
        again = rows_to_repeat(settings, done, retry_failed=self.retry_failed, collect=self.collect) - waiting
        del done
        missing = [c for c in wanted if c not in known] + [c for c in wanted if c in again]
        by_id = rows.set_index("candidate_id", drop=False)
        size = settings.chunk_size
        works = [missing[i : i + size] for i in range(0, len(missing), size)]
        new = store.plan(works if shared is None else cut_by_system(by_id.loc[missing].reset_index(drop=True), size))
        units = [unit for unit in (*planned, *new) if not needed.isdisjoint(unit.work)]
        self._under_way(step, store, units)
        todo = [unit for unit in units if not store.is_done(unit)]
        # Rows of a planned unit that a tighter gate has dropped meanwhile are left out, and planned again if needed.
        parts = ((unit, by_id.loc[[c for c in unit.work if c in needed]].reset_index(drop=True)) for unit in todo)
        total = sum(len(unit.work) for unit in units)
        self.view.start(step, total, total - sum(len(unit.work) for unit in todo))
        committed = self._committed(step)
        if shared is not None:
            first = first_tries((*planned, *new))
            parts = list(not_in_cache(store, parts, shared, first, self._found(step)))
            committed = keeping(shared, {unit.number: part for unit, part in parts if unit.number in first}, committed)
        limit = TimeLimit(self.campaign.run.unit_timeout, settings.stage, store.notes())
        resources = resources_of_stage(self.campaign, settings.stage, self.client)
        compute_rows(self.client, store, settings, parts, committed, limit, resources=resources, say=self.view.say)
        results = store.results(is_plain)
        if not len(results):
            return rows.assign(**{c.name: pd.Series(dtype=object) for c in schema.columns_of(settings.stage)})
        results = results[results["candidate_id"].isin(needed)]
        kept = [c for c in rows.columns if c == "candidate_id" or c not in results.columns]
        return rows[kept].merge(results, on="candidate_id", how="left", validate="one_to_one")

    def _under_way(self, step: str, store: StageStore, needed: Sequence[Unit] | None = None) -> None:
        """Say which step is computed, and which of its planned units a gate has not made needless; None: all."""
        about = {"needed": None if needed is None else [unit.number for unit in needed], "updated": time.time()}
        write_json(self.folder.current, {"step": step, "digest": store.digest, **about})

    def gate(self, settings: StageSettings, table: pd.DataFrame) -> pd.DataFrame:
        """Keep the rows that pass the gates of a stage; every other row has one reason, the first that it met."""
        survivors, step = gated(settings, table, self._left_out[settings.step])
        store = self.folder.stage(settings.step, self.digests.stage(settings))
        self._record(step, store)
        return store.with_lists(survivors)

    def rank(self, survivors: pd.DataFrame) -> pd.DataFrame:
        """Rank the survivors (:func:`pipeline.ranking.rank`), with their distance to the hull of this campaign too.

        Every relaxed candidate that is not suspect competes there, also those that a later gate rejected. Added are
        the lowest polymorph of each composition, and the chance of being as stable as the gate asks.
        """
        ranked = ranking_rules.rank(survivors, self.campaign.ranking)
        if self._competitors is not None:
            ranked["energy_above_hull_with_candidates"] = energy_above_hull_with_candidates(
                ranked, self._competitors, self.references.phases
            )
            ranked["polymorph_of"] = polymorph_of(ranked, self._competitors)
            # Gates are in no stage's digest: what depends on them is worked out here.
            second = self.campaign.potential.second_opinion
            ranked["stability_probability"] = stability_probability(
                ranked, stability_gates(self.campaign.stages), model_digest(second) if second else None
            )
        return ranked

    def write_results(self, ranking: pd.DataFrame) -> None:
        """Write funnel.csv, ranked_candidates.csv, shortlist.csv, the other tables, and the CIFs."""
        outputs.write_results(self.folder, self.campaign, ranking, self.steps, self.failures)
        if self._competitors is not None:
            write_stable_phases(self.folder.path, ranking, self.references.phases)

    def _sound(self, store: StageStore, units: list[Unit]) -> list[Unit]:
        for unit in units:
            if store.is_done(unit) and store.discard_damaged(unit):
                self.view.say(f"{store.part_path(unit)} is damaged; it is computed again")
                self.folder.log("damaged part", step=store.step, unit=unit.number)
        return units

    def _committed(self, step: str, rows: int | None = None) -> Committed:
        def committed(unit: Unit, result: UnitResult) -> None:
            self._fresh[step] += result.note["rows"]
            self.view.advance(rows or len(unit.work))
            self.folder.log("unit", step=step, unit=unit.number, **result.note)

        return committed

    def _found(self, step: str) -> Callable[[Unit, int], None]:
        def found(unit: Unit, rows: int) -> None:
            self.view.found(rows)
            self.folder.log("unit from the cache", step=step, unit=unit.number, rows=rows)

        return found

    def _record(self, step: Step, store: StageStore) -> None:
        step.computed_now = self._fresh[step.step]
        notes = list(store.notes())
        step.seconds = round(sum(note.get("seconds", 0.0) for note in notes), 1)
        step.from_cache = sum(note["rows"] for note in notes if note.get("from_cache"))
        step.digest = store.digest
        self.steps.append(step)
        self.folder.log("step", **vars(step))
        write_json(self.folder.progress, {"updated": time.time(), "steps": [vars(s) for s in self.steps]})
        self.view.say(step_line(step))
