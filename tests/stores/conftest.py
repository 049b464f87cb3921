"""Regions and examples to fill stores with, and processes that die in the middle of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vltk.types import RegionFeatures


def draw_regions(number: int, *, rows: int = 5, width: int = 8, **more: Any) -> RegionFeatures:
    """Return made-up regions that follow from their number alone."""
    generator = np.random.default_rng(number)
    corners = np.sort(generator.uniform(0, 100, (rows, 2, 2)).astype(np.float32), axis=1).reshape(rows, 4)
    values: dict[str, Any] = {
        "image_id": f"image{number:05d}",
        "features": generator.standard_normal((rows, width)).astype(np.float16),
        "boxes": corners,
        "size": (100, 100),
        "scores": -np.sort(-generator.random(rows).astype(np.float32)),
    }
    return RegionFeatures(**{**values, **more})


@pytest.fixture
def regions() -> Callable[..., RegionFeatures]:
    """The function ``draw_regions``."""
    return draw_regions


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run code in a process of its own, with what the code prints."""

    def run(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        import os

        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            check=False,
        )

    return run
