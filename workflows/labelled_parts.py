"""Parts of a generation of labels: computed by some processes, each written once and whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.atomic_files import write_atomically
from pipeline.config import ClusterSettings
from pipeline.distillation.labelling import LabelledPart, label_crystals
from pipeline.distillation.settings import DistillationSettings
from workflows.admission import Requirements
from workflows.cluster import connect
from workflows.gpu_workers import GPU
from workflows.provenance import model_digests, worker_facts
from workflows.shared_scheduler import alone_on_scheduler
from workflows.worker import ReferencesPlugin

if TYPE_CHECKING:
    from pipeline.surrogates import Potential

_METADATA_KEY = b"ionsieve_part"
_SAID_EVERY = 0.1


def label_parts(
    crystals: pd.DataFrame,
    settings: DistillationSettings,
    cluster: ClusterSettings,
    home: Path,
    digest: str,
    say: Callable[[str], None],
) -> list[int]:
    """Label the parts that the folder lacks; numbers of all parts.

    Parameters
    ----------
    crystals
        Everything that is drawn; a part is ``settings.part_size`` rows of it.
    settings
        Of the distillation.
    cluster
        Whose workers do it, unless ``settings.workers`` says how many are started here.
    home
        Folder of the parts.
    digest
        Of the generation: a part of another one is replaced.
    say
        Takes a line for the user.
    """
    size = settings.part_size
    works = {k: crystals.iloc[first : first + size] for k, first in enumerate(range(0, len(crystals), size))}
    missing = [k for k in works if not _sound(home, k, digest)]
    if not missing:
        return list(works)
    say(f"labelling {len(crystals):,} crystals with {settings.teacher}: {len(missing)} of {len(works)} parts")
    said = 0
    results = _computed({k: works[k].reset_index(drop=True) for k in missing}, settings, cluster, home, say)
    for n, (k, part) in enumerate(results, start=1):
        write_part(home, k, digest, part)
        if n == len(missing) or n >= said + _SAID_EVERY * len(missing):
            said = n
            say(f"labelled {n} of {len(missing)} parts")
    return list(works)


def _computed(
    works: dict[int, pd.DataFrame],
    settings: DistillationSettings,
    cluster: ClusterSettings,
    home: Path,
    say: Callable[[str], None],
) -> Iterator[tuple[int, LabelledPart]]:
    """Each part as it is done, here or by Dask workers."""
    if settings.workers == 1:
        yield from ((k, _label(part, settings)) for k, part in works.items())
        return
    from distributed import as_completed

    if settings.workers is not None:
        cluster = ClusterSettings(workers=settings.workers, threads_per_worker=cluster.threads_per_worker)
    # Labels of CPUs and of GPUs differ in their last digits, and only some of the workers may have a GPU.
    resources = {GPU: 1.0} if cluster.gpu is not None and settings.device != "cpu" else None
    with (
        connect(cluster, name="ionsieve-labels", run_folder=home, say=say) as client,
        alone_on_scheduler(client, cluster.kind, say),
    ):
        if cluster.kind != "local":
            client.register_plugin(_plugin(settings, cluster, home))
        numbers = {
            client.submit(_label, part, settings, pure=False, resources=resources): k for k, part in works.items()
        }
        done = as_completed(numbers)
        while numbers:
            future = next(done)
            yield numbers.pop(future), future.result()


def _plugin(settings: DistillationSettings, cluster: ClusterSettings, home: Path) -> ReferencesPlugin:
    """What makes a cluster's workers fit for labels: own GPU, end with the job, the client's versions and teacher."""
    requirements = Requirements(
        worker_facts(),
        model_digests([settings.teacher]),
        home,
        cuda=settings.device == "cuda",
        gpu_workers=cluster.gpu is not None,
    )
    return ReferencesPlugin(None, cluster.threads_per_worker, requirements)


def _label(part: pd.DataFrame, settings: DistillationSettings) -> LabelledPart:
    return label_crystals(part, settings, _potential(settings))


@lru_cache(maxsize=1)
def _potential(settings: DistillationSettings) -> Potential:
    """The teacher, loaded once a process."""
    from pipeline.surrogates import load_potential

    return load_potential(settings.teacher, settings.device, convention=settings.convention, scheme=settings.scheme)


def path_of(home: Path, number: int) -> Path:
    """Where a part lies."""
    return home / f"part-{number:05d}.parquet"


def write_part(home: Path, number: int, digest: str, part: LabelledPart) -> None:
    """Write a part at once, with the frames that it left out and the digest of its generation."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stamp = json.dumps({"digest": digest, "rows": len(part.rows), "left_out": part.left_out}).encode()
    table = pa.Table.from_pandas(part.rows, preserve_index=False).replace_schema_metadata({_METADATA_KEY: stamp})
    write_atomically(
        path_of(home, number),
        lambda stream: pq.write_table(table, stream, compression="zstd", write_page_checksum=True),
    )


def read_part(home: Path, number: int, digest: str) -> LabelledPart:
    """Read a part.

    Raises
    ------
    ValueError
        A file that is damaged, or of another generation.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = path_of(home, number)
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        stamp = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
    if stamp.get("digest") != digest or stamp.get("rows") != table.num_rows:
        raise ValueError(f"{path} is of another generation; run the same command again")
    return LabelledPart(table.replace_schema_metadata(None).to_pandas(), stamp["left_out"])


def _sound(home: Path, number: int, digest: str) -> bool:
    try:
        read_part(home, number, digest)
    except ValueError:
        return False
    return True
