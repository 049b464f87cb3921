"""A small translation model, once for each file that asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.language.small_translation import write_directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of fairseq's with two models of random weights."""
    return write_directory(tmp_path_factory.mktemp("wmt") / "en-de", models=2)
