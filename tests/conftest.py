"""Tests marked `data` run whenever IONSIEVE_DATA is set; without it they are left out, and said to be.

The user's own cache is neither read nor written: all tests share a temporary one.
"""

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="ionsieve-cache-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("IONSIEVE_CACHE", folder)
        yield


def pytest_configure() -> None:
    # A shell ignores it for what it starts in the background, and every program the tests start would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("IONSIEVE_DATA"):
        return
    left_out = [item for item in items if item.get_closest_marker("data")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("data")]
