"""Numba's code uses 512-bit vectors where they cost no clock rate, and a user's own setting stands."""

import numba
import pytest

from kernels import _jit


@pytest.mark.parametrize(
    ("features", "own", "expected"),
    [
        ("+avx512f,+avx512fp16", None, "+avx512f,+avx512fp16,-prefer-256-bit"),
        ("+avx512f,-avx512fp16", None, None),
        ("+avx2", None, None),
        ("+avx512fp16", "+avx2", "+avx2"),
    ],
)
def test_full_vectors_are_asked_for_on_processors_that_have_them(monkeypatch, features, own, expected):
    monkeypatch.setattr(numba.config, "CPU_FEATURES", own)
    monkeypatch.setattr(_jit, "get_host_cpu_features", lambda: features)

    _jit.use_full_vectors()

    assert expected == numba.config.CPU_FEATURES
