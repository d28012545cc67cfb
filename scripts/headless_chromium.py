"""Chromium without a screen, driven through selenium (extra ``browser``)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class NoBrowserError(RuntimeError):
    """There is no Chromium, no chromedriver, or no selenium."""


@contextmanager
def headless_chromium() -> Iterator[Any]:
    """Yield a selenium session that draws WebGL in software and keeps the console's messages.

    Raises
    ------
    NoBrowserError
        When something is missing, with what to install.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        raise NoBrowserError("headless Chromium is missing: install Debian's packages chromium and chromium-driver")
    try:
        from selenium import webdriver
    except ImportError:
        raise NoBrowserError("selenium is missing: pip install -e '.[browser]'") from None
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    # Software WebGL, since a machine may have no display; root has no sandbox.
    for argument in ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        session.set_script_timeout(60)
        yield session
    finally:
        session.quit()


def set_screen(session: Any, width: int, height: int) -> None:
    """Give the page a screen of so many pixels; narrow ones are a phone's."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    session.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def wait_until(session: Any, script: str, seconds: float = 60.0) -> None:
    """Wait until a script returns something true."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(session, seconds).until(lambda s: s.execute_script(script))
