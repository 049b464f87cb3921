"""Files made elsewhere are scored without a model and without a vocabulary, however few questions there are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.small_pairs import write_examples
from tests.small_tasks import small_examples
from vltk.cli import main
from vltk.types import AnswersTarget


def scored(task: str, folder: Path, answer: str, capsys: pytest.CaptureFixture[str], **change: Any) -> tuple[int, Any]:
    """Give one answer to two questions that nine people of ten, or all, answered with "red"."""
    people = ("red",) * 9 + ("crimson",) if task == "vqa" else ("red",)
    made = [
        replace(one, **{"id": str(number), "target": AnswersTarget(answers=people), **change})
        for number, one in enumerate(small_examples(task, images=2, texts=1)[0])
    ]
    store = write_examples(folder / "test.lmdb", made)
    keys = {"vqa": ("question_id", "answer"), "gqa": ("questionId", "prediction")}[task]
    rows = [dict(zip(keys, (int(one.id) if task == "vqa" else one.id, answer), strict=True)) for one in made]
    (folder / "results.json").write_text(json.dumps(rows), "utf-8")
    given = ["--predictions", str(folder / "results.json"), "--examples", str(store), "--out", str(folder / "out")]
    code = main(["eval", "--task", task, *given, "--json", "--quiet"])
    out = capsys.readouterr()
    return code, json.loads(out.out)["metrics"][0]["value"] if code == 0 else out.err


@pytest.mark.parametrize(("answer", "value"), [("red", 1.0), ("Red.", 1.0), ("crimson", 0.3), ("never said", 0.0)])
def test_a_few_questions_of_vqa(answer: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = scored("vqa", tmp_path, answer, capsys)
    assert code == 0
    assert found == pytest.approx(value)


def test_a_few_questions_of_gqa(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scored("gqa", tmp_path, "red", capsys) == (0, 1.0)


def test_a_split_without_answers_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = scored("vqa", tmp_path, "red", capsys, target=None)
    assert code == 3
    assert "has no answers that a vocabulary could be made of; prepare it with its annotations" in error
    assert len(error.strip().splitlines()) == 1
