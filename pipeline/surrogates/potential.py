"""A potential as the stages use it: evaluate, relax, lend to ASE. The same for every model."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.reference.descent_bounds import descent_bound
from pipeline.surrogates.batch import (
    MAX_EDGES,
    BatchEvaluator,
    CrystalBatch,
    batch_from_structures,
    estimated_edges,
    rejection,
)
from pipeline.surrogates.batch_budget import BatchBudget
from pipeline.surrogates.descent import DescentWatch
from pipeline.surrogates.entries import EnergyScheme
from pipeline.surrogates.giving_up import GivingUp
from pipeline.surrogates.guarded_evaluation import GuardedEvaluator
from pipeline.surrogates.relaxation import BatchedRelaxation, OptimizerName, RelaxationSettings, RelaxedCrystal
from pipeline.surrogates.results import Evaluation, Relaxation

if TYPE_CHECKING:
    from pymatgen.core import Structure


class Potential:
    """A machine-learned interatomic potential.

    Attributes
    ----------
    name : str
        Name in the catalogue, or of the model's folder.
    sha256 : str
        Digest of its weights.
    scheme : str or None
        Energy scheme (see :class:`pipeline.surrogates.entries.CatalogueEntry`); None if not declared.
    elements : tuple of str
        Symbols it knows.
    device : str
        Where it runs.
    guarded : GuardedEvaluator
        The model as it is called: what fails fails alone, and batches follow the memory there is.
    """

    def __init__(
        self,
        name: str,
        sha256: str,
        scheme: EnergyScheme | None,
        evaluator: BatchEvaluator,
        device: str,
        *,
        max_edges: int = MAX_EDGES,
        budget: BatchBudget | None = None,
    ) -> None:
        self.name = name
        self.sha256 = sha256
        self.scheme = scheme
        self.elements = evaluator.elements
        self.device = device
        self.evaluator = evaluator
        self.guarded = GuardedEvaluator(evaluator, max_edges, budget)

    def __repr__(self) -> str:
        return f"Potential({self.name!r}, scheme={self.scheme!r}, device={self.device!r})"

    def evaluate(self, structures: Sequence["Structure"]) -> list[Evaluation]:
        """Energies, forces and stresses.

        Parameters
        ----------
        structures : sequence of Structure
            Ordered periodic structures.

        Returns
        -------
        list of Evaluation
            One a structure, in the order given; one that fails has an ``error`` and NaN.
        """
        errors = [self._rejection(s) for s in structures]
        results = [_failed_evaluation(len(s), error) for s, error in zip(structures, errors, strict=True)]
        good = [i for i, error in enumerate(errors) if error is None]
        running = np.cumsum(self._costs([structures[i] for i in good]))
        first = 0
        while first < len(good):
            # Asked anew each time: the budget follows memory.
            room = self.guarded.edges_per_batch + (running[first - 1] if first else 0.0)
            last = max(int(np.searchsorted(running, room, side="right")), first + 1)
            chosen, first = good[first:last], last
            for i, evaluation in zip(chosen, self._evaluate_group([structures[i] for i in chosen]), strict=True):
                results[i] = evaluation
        return results

    def _rejection(self, structure: "Structure") -> str | None:
        return rejection(structure, self.elements, self.guarded.cutoff, self.guarded.max_edges)

    def _costs(self, structures: Sequence["Structure"]) -> np.ndarray:
        counts = np.array([len(s) for s in structures], np.int64)
        volumes = np.array([s.volume for s in structures], np.float64)
        return estimated_edges(counts, volumes, self.evaluator.cutoff)

    def _evaluate_group(self, structures: Sequence["Structure"]) -> list[Evaluation]:
        batch = batch_from_structures(structures)
        result = self.guarded.evaluate_batch(batch)
        evaluations = []
        for b, first in enumerate(batch.offsets):
            count = int(batch.counts[b])
            forces = result.forces[first : first + count]
            error = result.errors[b]
            if error is None and not (
                np.isfinite(result.energies[b]) and np.isfinite(forces).all() and np.isfinite(result.stresses[b]).all()
            ):
                distance, i, j = result.closest[b]
                error = (
                    f"NonFiniteResult: energy, forces or stress are not finite (atoms {int(i)} and {int(j)} "
                    f"are {distance:.3g} Å apart)"
                )
            if error is None:
                evaluations.append(Evaluation(float(result.energies[b]), forces.copy(), result.stresses[b].copy()))
            else:
                evaluations.append(_failed_evaluation(count, error))
        return evaluations

    def relax(
        self,
        structures: Sequence["Structure"],
        fmax: float = 0.05,
        max_steps: int = 500,
        *,
        relax_cell: bool = True,
        optimizer: OptimizerName = "fire-quasi-newton",
        rattle: float = 0.0,
        seed: int = 0,
        keys: Sequence[str] | None = None,
        settings: RelaxationSettings | None = None,
        ceilings: Sequence[float] | None = None,
    ) -> list[Relaxation]:
        """Relax structures, many at once.

        Parameters
        ----------
        structures : sequence of Structure
            Ordered periodic structures.
        fmax : float
            Largest force allowed at convergence, eV/Å, atoms and cell (as ASE's FrechetCellFilter counts it).
        max_steps : int
            Bound on steps.
        relax_cell : bool
            Whether the cell moves.
        optimizer : str
            ``fire-quasi-newton`` ends where ASE's FIRE does, or lower; ``quasi-newton`` is nearly three times faster,
            but may end in another minimum; ``fire`` is ASE's. See docs/performance.md.
        rattle : float
            Standard deviation of a Gaussian displacement of every coordinate before the start, Å.
        seed : int
            Seed of the rattle.
        keys : sequence of str, optional
            One a structure; the rattle depends on (seed, key), not on the order. Default: a digest of the structure.
        settings : RelaxationSettings, optional
            All settings at once; then ``fmax``, ``max_steps``, ``relax_cell`` and ``optimizer`` are not looked at.
        ceilings : sequence of float, optional
            One a structure: total energy (eV) that it must come under; one that can't is given up (see
            :mod:`pipeline.surrogates.giving_up`).

        Returns
        -------
        list of Relaxation
            One a structure, in the order given; a structure that fails does so alone, with its ``error``.

        Raises
        ------
        ValueError
            A setting out of its bounds, another number of keys or ceilings than structures, or ceilings for a model
            and an optimiser whose descents were never measured.
        """
        if settings is None:
            settings = RelaxationSettings(fmax, max_steps, relax_cell, optimizer)
        if not rattle >= 0.0:
            raise ValueError(f"rattle must be a displacement in Å, zero or more, got {rattle}")
        if keys is not None and len(keys) != len(structures):
            raise ValueError(f"{len(keys)} keys for {len(structures)} structures")
        if ceilings is not None and len(ceilings) != len(structures):
            raise ValueError(f"{len(ceilings)} ceilings for {len(structures)} structures")
        errors = [self._rejection(s) for s in structures]
        good = [i for i, error in enumerate(errors) if error is None]
        watch = None if ceilings is None else self._giving_up([ceilings[i] for i in good], settings.optimizer)
        relaxed: dict[int, RelaxedCrystal] = {}
        if good:
            batch = batch_from_structures([structures[i] for i in good])
            if rattle > 0.0:
                chosen = [keys[i] if keys is not None else structure_key(structures[i]) for i in good]
                rattle_batch(batch, rattle, seed, chosen)
            relaxed = dict(zip(good, BatchedRelaxation(self.guarded, settings).run(batch, watch), strict=True))
        return [_relaxation(structure, relaxed.get(i), errors[i]) for i, structure in enumerate(structures)]

    def _giving_up(self, ceilings: Sequence[float], optimizer: str) -> DescentWatch:
        return GivingUp(np.array(ceilings, np.float64), descent_bound(self.name, self.sha256, optimizer))

    def as_ase_calculator(self, **kwargs: Any) -> Any:
        """The same model, message-passing convention included, as an ASE calculator."""
        from pipeline.surrogates.ase_calculator import SurrogateCalculator

        return SurrogateCalculator(self, **kwargs)


def _failed_evaluation(count: int, error: str | None) -> Evaluation:
    return Evaluation(float("nan"), np.full((count, 3), np.nan), np.full((3, 3), np.nan), error)


def structure_key(structure: "Structure") -> str:
    """Digest of lattice, species and coordinates (to 1e-8), the same on every machine."""
    digest = hashlib.sha256()
    # -0.0 and 0.0 are one number of different bytes
    digest.update((np.round(np.asarray(structure.lattice.matrix), 8) + 0.0).tobytes())
    digest.update(np.array([site.specie.Z for site in structure], np.int64).tobytes())
    digest.update((np.round(np.asarray(structure.frac_coords), 8) + 0.0).tobytes())
    return digest.hexdigest()


def rattle_batch(batch: CrystalBatch, width: float, seed: int, keys: Sequence[str]) -> None:
    """Displace all atoms by Gaussian noise, in place, crystal by crystal from (seed, key)."""
    for first, count, key in zip(batch.offsets, batch.counts, keys, strict=True):
        words = np.frombuffer(hashlib.sha256(key.encode()).digest(), np.uint32)
        generator = np.random.default_rng([seed, *words.tolist()])
        batch.positions[first : first + count] += generator.normal(0.0, width, (int(count), 3))


def _relaxation(structure: "Structure", crystal: RelaxedCrystal | None, error: str | None) -> Relaxation:
    from pymatgen.core import Lattice, Structure

    if crystal is None:
        nan = float("nan")
        return Relaxation(structure, nan, False, 0, error, nan, nan, nan)
    final = structure
    volume_change = float("nan")
    if np.isfinite(crystal.positions).all() and np.isfinite(crystal.cell).all():
        final = Structure(
            Lattice(crystal.cell),
            structure.species,
            crystal.positions,
            coords_are_cartesian=True,
            site_properties=structure.site_properties,
            labels=structure.labels,
        )
        volume_change = float(final.volume / structure.volume - 1.0)
    return Relaxation(
        structure=final,
        energy=crystal.energy,
        converged=crystal.converged,
        n_steps=crystal.n_steps,
        error=crystal.error,
        energy_initial=crystal.energy_initial,
        max_force=crystal.max_force,
        volume_change=volume_change,
        given_up=crystal.given_up,
    )
