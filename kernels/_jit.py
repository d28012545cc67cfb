"""The one place where this project decides how its kernels are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core.codegen import get_host_cpu_features

F = TypeVar("F", bound=Callable[..., Any])


def use_full_vectors() -> None:
    """Let LLVM use 512-bit vectors where they cost no clock rate; by itself it prefers 256 bits on every Intel core.

    That is from the generation with half-precision AVX-512 (Sapphire Rapids) on. Loops over elements give the same bits
    with either. A ``NUMBA_CPU_FEATURES`` of the user's is left alone; Numba's cache tells the two codes apart.
    """
    features = get_host_cpu_features()
    if "+avx512fp16" in features.split(",") and numba.config.CPU_FEATURES is None:
        numba.config.CPU_FEATURES = f"{features},-prefer-256-bit"


use_full_vectors()

prange = numba.prange


def jit(function: F) -> F:
    """Compile a serial kernel: cached on disk, releasing the GIL, NumPy's rules for division by zero.

    No ``fastmath``: results must not depend on how a compiler reorders a sum.
    """
    return numba.njit(cache=True, nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return]


def parallel_jit(function: F) -> F:
    """Like :func:`jit`, with ``prange`` loops spread over Numba's threads (one a worker under Dask)."""
    return numba.njit(cache=True, nogil=True, error_model="numpy", parallel=True)(function)  # type: ignore[no-any-return]


def fused_jit(function: F) -> F:
    """Like :func:`jit`, letting a product and a sum become one instruction, which rounds once instead of twice.

    No other liberty is taken: the order of sums stays, NaN and infinity keep their meaning.
    """
    return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})(function)  # type: ignore[no-any-return]
