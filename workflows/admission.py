"""Who may compute: workers with the client's versions and models that see the run folder, whenever they come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distributed import Worker

from workflows.gpu_workers import GPU
from workflows.provenance import model_digests, worker_facts

REFUSED = "ionsieve-refused"
"""Topic of the scheduler's events that tell of workers which were refused."""


@dataclass(frozen=True)
class Requirements:
    """What a worker must have.

    ``versions`` and ``models`` (`workflows.provenance.digest_of_model`) are those of the client; ``visible`` is a file
    of the run folder. ``cuda`` is asked of all workers, or, where ``gpu_workers``, of those with a GPU resource.
    """

    versions: Mapping[str, str]
    models: Mapping[str, str]
    visible: Path
    cuda: bool = False
    gpu_workers: bool = False

    def unmet(self, resources: Mapping[str, float]) -> list[str]:
        """What this process, whose worker has these Dask resources, lacks; each with its remedy.

        Whatever keeps it from being told (a package that is missing, a mount that is gone) is lacking too.
        """
        try:
            return self._lacking(resources)
        except Exception as error:
            return [f"can't tell what it has ({type(error).__name__}: {error}); see to this node"]

    def _lacking(self, resources: Mapping[str, float]) -> list[str]:
        versions, models = worker_facts(), model_digests(sorted(self.models))
        problems = [
            f"has {name} {versions.get(name)}, the client has {wanted}; install the same versions"
            for name, wanted in self.versions.items()
            if versions.get(name) != wanted
        ]
        problems += [
            f"sees model {name} with SHA-256 {models.get(name)}, the client {wanted}; give it the same IONSIEVE_DATA"
            for name, wanted in self.models.items()
            if models.get(name) != wanted
        ]
        if self.cuda and (GPU in resources or not self.gpu_workers) and not _has_cuda():
            problems.append("device: cuda was asked for, but torch sees none there")
        if not self.visible.exists():
            problems.append(f"does not see {self.visible}; workers need the run folder on a shared file system")
        return problems


def unmet_by_worker(requirements: Requirements, dask_worker: Worker) -> list[str]:
    """What a worker lacks; Dask passes in the worker when a client runs this everywhere."""
    return requirements.unmet(dask_worker.state.total_resources)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
