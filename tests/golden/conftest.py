"""Turn golden sets into parametrised cases, with the checks and the pending list that belong to them."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SHARED
from tests.golden.case import Case, find_sets, read_set

HERE = Path(__file__).parent
CARRIED = HERE / "data"


def golden_cases(config: pytest.Config) -> list[Case]:
    """Every case of ``--golden DIR``, or of ../shared/golden and the selection that the repository carries."""
    chosen: Path | None = config.getoption("--golden")
    if chosen is not None and not list(find_sets(chosen)):
        raise pytest.UsageError(f"--golden {chosen}: no index.json there nor in a folder in it")
    folders = [chosen] if chosen is not None else [SHARED / "golden", CARRIED]
    return [case for folder in folders for path in find_sets(folder) for case in read_set(path)]


def load_checks() -> dict[str, Callable[[Case], None]]:
    """Collect pattern -> check from every ``checks_*.py`` beside this file."""
    checks: dict[str, Callable[[Case], None]] = {}
    for path in sorted(HERE.glob("checks_*.py")):
        found = importlib.import_module(f"tests.golden.{path.stem}").CHECKS
        twice = checks.keys() & found.keys()
        if twice:
            raise pytest.UsageError(f"{path.name}: patterns {sorted(twice)} have a check in another module already")
        checks |= found
    return checks


def load_pending() -> dict[str, str]:
    """Read pattern -> topic of the cases that a later issue brings."""
    lines = (HERE / "pending.txt").read_text("utf-8").splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    return {row[0]: row[1] for row in rows}


def matching(patterns: dict[str, object], case: Case) -> list[str]:
    """Return the patterns that the case's key fits."""
    return [pattern for pattern in patterns if fnmatch.fnmatchcase(case.key, pattern)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = golden_cases(metafunc.config)
        names = [f"{case.key}{'-carried' if CARRIED in case.folder.parents else ''}" for case in cases]
        metafunc.parametrize("case", cases, ids=names)
