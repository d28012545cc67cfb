"""Memory of a worker for ``benchmark_relaxation.py``: what is resident, its peak, and what malloc has handed out."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from relaxation_peer import our_potential


def peak_memory() -> int:
    """Bytes of resident memory at their highest since the last :func:`forget_peak`."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Start the highest resident memory anew (Linux, proc(5): clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    path = Path("/proc/self/status")
    if not path.exists():
        raise OSError(f"{path} is missing: memory is measured on Linux only")
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


class _MallocCounts(ctypes.Structure):
    """glibc's struct mallinfo2 (mallinfo(3), since 2.33)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def allocated_memory() -> float:
    """Bytes that malloc has handed out and not got back; NaN where it does not say.

    Workers keep freed memory, in which a leak of hundreds of MiB can hide from the resident size.
    """
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return float("nan")
    mallinfo.restype = _MallocCounts
    counts = mallinfo()
    return float(counts.uordblks + counts.hblkhd)


def soak(model: str, rows: pd.DataFrame, settings: Any, chunk: int, device: str = "cpu") -> list[dict[str, float]]:
    """Relax rows in a stage's chunks; after each tenth: memory (GiB; allocated: MiB), failures, seconds."""
    from pipeline.stages.relaxing import relax_crystals
    from pipeline.stages.rows import Failure, attempt, checked_structure

    potential = our_potential(model, device)
    tenths: list[dict[str, float]] = []
    for part in np.array_split(np.arange(len(rows)), 10):
        forget_peak()
        started, failed, evaluated = time.perf_counter(), 0, potential.evaluator.crystals
        for first in range(0, len(part), chunk):
            records = rows.iloc[part[first : first + chunk]].to_dict("records")
            starts = [attempt(checked_structure, record) for record in records]
            relaxed = relax_crystals(starts, [r["candidate_id"] for r in records], settings, potential)
            failed += sum(isinstance(r, Failure) for r in relaxed)
        gc.collect()
        tenths.append(
            {
                "candidates": len(part),
                "resident": _status("VmRSS") / 2**30,
                "highest": peak_memory() / 2**30,
                "allocated": allocated_memory() / 2**20,
                "failed": failed,
                "evaluations": potential.evaluator.crystals - evaluated,
                "seconds": time.perf_counter() - started,
            }
        )
        print(f"{len(tenths)} of 10 parts: {tenths[-1]['highest']:.3f} GiB", file=sys.stderr, flush=True)
    return tenths
