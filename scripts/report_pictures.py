"""Take the README's pictures of a run's report.

    make quickstart .venv/.browser
    .venv/bin/ionsieve report runs/quickstart
    .venv/bin/python -m scripts.report_pictures runs/quickstart/report.html docs/images

The first is the head of the page; the others are the section of the first shortlisted candidate that is no suspect, has
three elements and a path for its ion, on a wide screen with 2 x 2 x 2 cells and on a phone. ``--candidate`` names
another one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.headless_chromium import headless_chromium, set_screen, wait_until

WIDE, PHONE = (1280, 1500), (390, 1500)
SETTLE_SECONDS = 3.0
"""For figures to be drawn at their last size."""


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--candidate", help="candidate_id of the section to show")
    options = parser.parse_args()
    chosen = options.candidate or shown_candidate(options.report.parent)
    options.folder.mkdir(parents=True, exist_ok=True)
    with headless_chromium() as session:
        opened(session, options.report, WIDE)
        take(session, options.folder / "report-overview.png")
        for name, size, cells in (("candidate", WIDE, True), ("phone", PHONE, False)):
            opened(session, options.report, size)
            show_candidate(session, chosen, repeated=cells)
            take(session, options.folder / f"report-{name}.png")


def shown_candidate(run: Path) -> str:
    """A shortlisted candidate whose section has every figure.

    Raises
    ------
    ValueError
        When there is none.
    """
    table = pd.read_csv(run / "shortlist.csv")
    ternary = table["chemsys"].str.count("-") == 2
    found = table.loc[ternary & ~table["suspect"] & table["migration_barrier_3d"].notna(), "candidate_id"]
    if found.empty:
        raise ValueError(f"{run / 'shortlist.csv'} has no ternary with a migration barrier; name a --candidate")
    return str(found.iloc[0])


def opened(session: Any, report: Path, size: tuple[int, int]) -> None:
    """Open the page and wait for its figures."""
    set_screen(session, *size)
    session.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    session.get(report.resolve().as_uri())
    wait_until(session, "return document.querySelectorAll('#figure-hull .main-svg').length > 0")


def show_candidate(session: Any, candidate: str, *, repeated: bool) -> None:
    """Open a candidate's section, scroll to it, and repeat its cell if asked."""
    section = f'document.querySelector("details.candidate[data-candidate={candidate!r}]")'
    session.execute_script(f"{section}.open = true")
    wait_until(session, f"return {section}.querySelector('canvas') && {section}.querySelector('.main-svg')")
    if repeated:
        session.execute_script(f"{section}.querySelector('input[type=checkbox]').click()")
    session.execute_script(f"{section}.scrollIntoView(); window.scrollBy(0, -60)")


def take(session: Any, path: Path) -> None:
    """Take what the screen shows."""
    time.sleep(SETTLE_SECONDS)
    if not session.save_screenshot(str(path)):
        raise OSError(f"{path} can't be written")
    print(path)


if __name__ == "__main__":
    main()
