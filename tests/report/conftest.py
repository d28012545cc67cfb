"""A synthetic run with every stage, and its page."""

import shutil
from pathlib import Path

import pytest

from scripts.synthetic_run import write_run
from tests.report_pages import Page
from workflows.report.page import write_report


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("report") / "run", 120, validated=True)
    write_report(folder)
    return folder


@pytest.fixture(scope="package")
def page(run: Path) -> Page:
    return Page(run / "report.html")


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))
