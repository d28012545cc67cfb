"""The house plan holds: imports go one way, modules are short, the packages are ours, generated files are fresh."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.config import load_campaign
from pipeline.training.settings import load_training

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "kernels": {"kernels"},
    "pipeline": {"kernels", "pipeline"},
    "workflows": {"kernels", "pipeline", "workflows"},
    "scripts": {"kernels", "pipeline", "workflows", "scripts"},
}
HOUSE = set(ALLOWED)
KERNELS_MAY_USE = {"numpy", "numba", "kernels"}
LONGEST_MODULE = 300
"""Lines."""


def imported_roots(path: Path) -> set[str]:
    roots = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            roots.add((node.module or "").partition(".")[0])
    return roots


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        outside = (imported_roots(path) & HOUSE) - ALLOWED[package]
        assert not outside, f"{path.relative_to(ROOT)} imports {outside}"


def test_kernels_know_numpy_and_numba_only() -> None:
    for path in (ROOT / "kernels").rglob("*.py"):
        foreign = imported_roots(path) - KERNELS_MAY_USE - set(sys.stdlib_module_names)
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_pipeline_knows_no_dask() -> None:
    for path in (ROOT / "pipeline").rglob("*.py"):
        assert not imported_roots(path) & {"dask", "distributed"}, path


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_modules_are_short(package: str) -> None:
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in (ROOT / package).rglob("*.py")}
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > LONGEST_MODULE}
    assert not long, f"move what belongs together into a module of its own: {long} lines"


@pytest.mark.parametrize("package", ["kernels", "pipeline", "workflows"])
def test_packages_resolve_to_this_repository(package: str) -> None:
    module = importlib.import_module(package)
    assert Path(module.__file__ or "").resolve() == ROOT / package / "__init__.py"


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    files = [p for package in ("kernels", "pipeline", "workflows") for p in (ROOT / package).rglob("*") if p.is_file()]
    folders = {p.parent.relative_to(ROOT).parts for p in files if "__pycache__" not in p.parts}
    found = {".".join(parts) for parts in folders if all(part.isidentifier() for part in parts)}
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_config_loads(path: Path) -> None:
    if path.name.startswith("train_"):
        data = load_training(path).data
        assert data.files or data.train
    else:
        assert load_campaign(path).stages


def test_template_of_init_loads() -> None:
    assert load_campaign(ROOT / "workflows" / "template.yaml").name == "my_campaign"


def test_generated_files_are_fresh() -> None:
    check = [sys.executable, "scripts/generate_schema.py", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make schema`; {done.stdout}"


def test_reading_a_config_imports_no_torch() -> None:
    code = (
        "import sys, pipeline.config, workflows.cli, workflows.views, pipeline.surrogates, pipeline.training.reading;"
        "print(sorted({'torch', 'matgl', 'chgnet', 'distributed', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_campaign_speaks_of_stages_that_are_yet_to_come() -> None:
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        assert not re.search(r"not built yet|do(es)? not exist yet", path.read_text(encoding="utf-8")), path.name
