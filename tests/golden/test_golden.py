"""vltk gives the numbers of the authors' code: every golden case has a check, or an issue that will bring it."""

from __future__ import annotations

import pytest

from tests.conftest import SHARED
from tests.golden.case import Case, read_set
from tests.golden.conftest import CARRIED, golden_cases, load_checks, load_pending, matching

CHECKS = load_checks()
PENDING = load_pending()


def test_golden(case: Case) -> None:
    found = matching(dict(CHECKS), case)
    waiting = matching(dict(PENDING), case)
    if not found and waiting:
        pytest.skip(f"pending: {PENDING[waiting[0]]}")
    if len(found) != 1:
        pytest.fail(f"{case.key} has {len(found)} checks {found}; every case needs exactly one")
    CHECKS[found[0]](case)


def test_pending_names_only_cases_that_exist_and_have_no_check(shared: object, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--golden") is not None:
        pytest.skip("the pending list speaks of the sets in ../shared/golden, not of --golden DIR")
    cases = golden_cases(request.config)
    idle = [pattern for pattern in PENDING if not any(matching({pattern: ""}, case) for case in cases)]
    done = [case.key for case in cases if matching(dict(PENDING), case) and matching(dict(CHECKS), case)]
    assert (idle, done) == ([], []), "pending.txt must shrink as checks arrive"


def test_every_check_meets_a_case(shared: object, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--golden") is not None:
        pytest.skip("--golden DIR may hold a part of the sets only")
    cases = golden_cases(request.config)
    assert [pattern for pattern in CHECKS if not any(matching({pattern: None}, case) for case in cases)] == []


def test_the_reference_sets_are_at_hand(shared: object) -> None:
    assert {case.set for path in (SHARED / "golden").iterdir() if path.is_dir() for case in read_set(path)} == {
        "uniter",
        "vse",
        "detector",
        "fairseq",
        "stanza",
    }


def test_the_carried_selection_stays_small() -> None:
    files = [path for path in CARRIED.rglob("*") if path.is_file()]
    assert files, "a plain clone checks parity too"
    assert sum(path.stat().st_size for path in files) <= 4 * 2**20
