"""Small annotation files written on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes JSON (an object), JSON lines (``lines=True``) or a text to a new file."""

    def to_file(content: Any, name: str = "annotations.json", *, lines: bool = False) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if lines:
            content = "".join(json.dumps(item) + "\n" for item in content)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return to_file


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    """The folder of real annotations."""
    return shared / "data"
