"""vltk compare: evaluations and predictions side by side, as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small_pairs import write_examples
from tests.small_tasks import small_examples
from vltk.cli import main
from vltk.run_folder.comparison import MCNEMAR, PERMUTATION, SEEDS
from vltk.run_folder.outcomes import OUTCOMES, Outcomes, Series, write_outcomes
from vltk.run_folder.predictions import write_predictions
from vltk.types import AnswersTarget, Prediction


def evaluation(folder: Path, name: str, seed: int) -> str:
    dice = np.random.default_rng(seed)
    captions, images = tuple(f"caption {n}" for n in range(90)), tuple(f"image {n}" for n in range(30))
    series = {
        "i2t": Series(kind="rank", ids=images, values=dice.geometric(0.4, 30).astype(float)),
        "t2i": Series(
            kind="rank",
            ids=captions,
            values=dice.geometric(0.4, 90).astype(float),
            clusters=tuple(images[n // 3] for n in range(90)),
        ),
    }
    (folder / name).mkdir()
    outcomes = Outcomes(task="flickr30k", split="abc", protocol={"ties": "against"}, series=series)
    write_outcomes(folder / name / OUTCOMES, outcomes)
    return str(folder / name)


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_table_for_people_and_json_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a1, a2, b1, b2 = (evaluation(tmp_path, name, seed) for seed, name in enumerate(("a1", "a2", "b1", "b2")))
    assert main(["compare", a1, str(tmp_path / "b1" / "results.json")]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("p_holm", "rsum", "i2t_r10", MCNEMAR, PERMUTATION))
    assert main(["compare", a1, a2, "vs", b1, b2, "--json"]) == 0
    found = told(capsys)
    assert (found["first"], found["second"]) == ([a1, a2], [b1, b2])
    assert {row["test"] for row in found["differences"]} == {SEEDS}
    assert found["protocol"] == {"ties": "against"}


def test_seeds_of_one_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [evaluation(tmp_path, f"run{seed}", seed) for seed in range(3)]
    assert main(["compare", "--seeds", *runs, "--json"]) == 0
    rows = {row["metric"]: row for row in told(capsys)["metrics"]}
    assert len(rows) == 7
    low, high = rows["t2i_r1"]["interval_95"]
    assert low < rows["t2i_r1"]["mean"] < high
    assert rows["t2i_r1"]["runs"] == 3


def test_predictions_of_two_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples, _ = small_examples("gqa", images=20, texts=1)
    right = [replace(one, target=AnswersTarget(answers=("red",))) for one in examples]
    store = write_examples(tmp_path / "val.lmdb", right)
    write_predictions(tmp_path / "ours.jsonl", [Prediction(id=one.id, answer="red") for one in right], {})
    theirs = [{"questionId": one.id, "prediction": "red" if n < 12 else "blue"} for n, one in enumerate(right)]
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    files = [str(tmp_path / "theirs.json"), str(tmp_path / "ours.jsonl")]
    assert main(["compare", *files, "--task", "gqa", "--examples", str(store), "--json"]) == 0
    found = told(capsys)
    (row,) = found["differences"]
    assert (row["first"], row["second"], row["test"]) == (pytest.approx(0.6), 1.0, MCNEMAR)
    assert row["p"] == pytest.approx(2 / 2**8)
    assert found["task"] == "gqa"
    assert main(["compare", *files, "--task", "gqa"]) == 2
    assert "--examples: is missing" in capsys.readouterr().err
    assert main(["compare", *files, "--examples", str(store)]) == 2
    assert "name their --task" in capsys.readouterr().err
    assert main(["compare", *files, "--task", "flickr30k", "--examples", str(store)]) in (2, 3)
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("words", [["x"], ["x", "y", "z"], ["x", "vs"], ["vs", "x"], ["x", "vs", "y", "vs", "z"]])
def test_two_sides_are_needed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *words]) == 2
    assert "give two evaluations, or runs of one system, vs, runs of the other" in capsys.readouterr().err


def test_an_evaluation_without_outcomes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = evaluation(tmp_path, "a", 0)
    (tmp_path / "b").mkdir()
    assert main(["compare", a, str(tmp_path / "b")]) == 3
    assert "there is no such file; give the results.json" in capsys.readouterr().err
