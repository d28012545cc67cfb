"""The one place where this project decides how its kernels are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

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
