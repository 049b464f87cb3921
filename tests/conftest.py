"""What every test may ask for: the shared reference material, and the slow tests' switch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread a process, here and in every process that a test starts: pytest's own workers share the cores, and the last
# bit of a sum depends on how many threads made it. Before anything imports torch, which reads it once.
os.environ["OMP_NUM_THREADS"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")
    parser.addoption(
        "--golden", type=Path, default=None, help="folder with golden sets (an index.json, or folders of it)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def module_weights() -> None:
    """Random weights that a whole module shares are the same whichever tests the worker ran before."""
    _seed()


@pytest.fixture(autouse=True)
def weights(module_weights: None) -> None:
    """Random weights of a test are the same whichever tests the worker ran before."""
    _seed()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared beside the checkout; a user's clone has none, CI always does."""
    if not SHARED.is_dir():
        reason = f"the reference material is not at {SHARED.name}/ beside the checkout"
        if os.environ.get("CI"):
            pytest.fail(f"CI is set, but {reason}")
        pytest.skip(reason)
    return SHARED
