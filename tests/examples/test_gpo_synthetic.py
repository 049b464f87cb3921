"""The example of Table 6: its patterns, its errors, its pages; and, slowly, that GPO learns within 500 steps."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "gpo_synthetic"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("gpo_synthetic", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpo_synthetic"] = module
    spec.loader.exec_module(module)
    return module


def test_patterns_are_what_their_names_say(example: Any) -> None:
    sizes = torch.tensor([4, 12])
    expected = {
        "A": [[0.25] * 4, [1 / 12] * 12],
        "M-1": [[1.0, 0, 0, 0], [1.0] + [0.0] * 11],
        "M-10": [[0.25] * 4, [0.1] * 10 + [0.0] * 2],
        "T-50%": [[0.5, 0.5, 0, 0], [1 / 6] * 6 + [0.0] * 6],
        "L": [[0.4, 0.3, 0.2, 0.1], [(12 - k) / 78 for k in range(12)]],
    }
    assert expected.keys() == example.PATTERNS.keys()
    for name, rows in expected.items():
        found = example.PATTERNS[name](sizes, 12)
        for row, size, values in zip(rows, sizes.tolist(), found, strict=True):
            assert values[:size].tolist() == pytest.approx(row)
            assert not values[size:].any()


def test_a_fresh_interpolation_is_the_mean_and_has_no_error(example: Any) -> None:
    coefficients, _ = example.train("Index + Interp.", "A", steps=1, seed=0, batch=2, size=2)
    assert example.error(coefficients, "A", example.SMALLER) < 1e-3
    assert example.error(coefficients, "M-1", example.SMALLER) > 0.2


def test_the_table_stands_beside_the_papers(example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, plot = tmp_path / "table.md", tmp_path / "plot.svg"
    given = ["--design", "Cos/Sin + MLP", "--pattern", "M-10", "--steps", "2"]
    example.main([*given, "--out", str(table), "--plot", str(plot)])
    assert "| Cos/Sin + MLP | M-10 | " in table.read_text()
    assert "| .047 |" in table.read_text()
    assert plot.read_text().startswith("<svg")
    assert "Cos/Sin + MLP  " in capsys.readouterr().out


def test_cells_that_are_kept_are_not_trained_again(example: Any, tmp_path: Path, monkeypatch: Any) -> None:
    given = ["--design", "Index + Interp.", "--pattern", "L", "--steps", "2", "--keep", str(tmp_path / "cells.json")]
    first = example.main(given)
    monkeypatch.setattr(example, "train", None)
    assert example.main(given) == first
    with pytest.raises(TypeError, match="not callable"):
        example.main([*given, "--seed", "1"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "most"), [("A", 0.005), ("M-1", 0.003), ("M-10", 0.02), ("T-50%", 0.015), ("L", 0.006)]
)
def test_the_published_design_learns_every_pattern_within_500_steps(example: Any, pattern: str, most: float) -> None:
    errors, _ = example.measure("Cos/Sin + BiGRU", pattern, steps=500, seed=0)
    assert errors.seen < most
