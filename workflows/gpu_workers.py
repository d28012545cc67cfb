"""Workers with a GPU beside those without: which work goes to them, and which GPU of a job is whose."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

from distributed import Client

from pipeline.config import Campaign
from pipeline.settings import NETWORK_STAGES

GPU = "GPU"
"""Name of the Dask resource that a worker with a GPU has one of."""

GPUS_OF_JOB = "IONSIEVE_GPUS_OF_JOB"
"""Variable of a job with several workers, one for each of so many GPUs."""

OWN_GPU = "IONSIEVE_OWN_GPU"
"""Variable of a worker that has taken its own: a plugin may be registered twice."""


def resources_of_stage(campaign: Campaign, stage: str, client: Client) -> dict[str, float] | None:
    """Dask resources that the tasks of a stage ask for: a GPU where a network runs and the cluster has some.

    A GPU group that is configured counts before its first job has started: its work waits for it.
    """
    if stage not in NETWORK_STAGES or campaign.device == "cpu":
        return None
    if campaign.cluster.gpu is not None or able(client.scheduler_info(n_workers=-1)["workers"], {GPU: 1.0}):
        return {GPU: 1.0}
    return None


def able(workers: dict[str, dict[str, Any]], resources: dict[str, float] | None) -> int:
    """Number of workers, of what a scheduler says of them, that have resources; of all workers where None."""
    needed = (resources or {}).items()
    return sum(all(w["resources"].get(name, 0) >= amount for name, amount in needed) for w in workers.values())


def take_own_gpu(worker: str, environ: MutableMapping[str, str] = os.environ) -> str | None:
    """Show this process only the GPU that is its worker's: the last number of its name counts a job's workers.

    Returns
    -------
    What is wrong, if the job sees fewer GPUs than it has workers.
    """
    number = int(environ.get(GPUS_OF_JOB, "1"))
    if number == 1 or OWN_GPU in environ:
        return None
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(i) for i in range(number)]
    if len(devices) < number:
        return (
            f"its job sees {len(devices)} GPU{'s' if len(devices) != 1 else ''} (CUDA_VISIBLE_DEVICES={visible}) and "
            f"has {number} workers; ask for as many GPUs as cluster.gpu.processes"
        )
    environ[OWN_GPU] = environ["CUDA_VISIBLE_DEVICES"] = devices[int(worker.rpartition("-")[2])]
    return None
