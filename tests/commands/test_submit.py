"""Files for test servers: what is written is what a server takes, and what it would refuse is refused here."""

from __future__ import annotations

import csv
import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small_pairs import write_examples
from tests.small_tasks import MAKERS, small_examples
from vltk.cli import main
from vltk.run_folder.predictions import PREDICTIONS, write_predictions
from vltk.tasks._submission import read_any
from vltk.types import Prediction

SERVED = [task for task in sorted(MAKERS) if task != "snli_ve"]
ANSWERS = {"vqa": "red", "gqa": "blue", "nlvr2": "False", "refcoco": "[1.5, 2, 11.5, 22]", "vcr": "1,2"}


def prepared(task: str, folder: Path, **change: Any) -> tuple[list[str], dict[str, Prediction], list[str]]:
    """Write examples and predictions; return the command line, the predictions and the ids."""
    examples, _ = small_examples(task, images=3, texts=2)
    ids = [str(100 + n) if task in ("vqa", "refcoco") else f"test-{10 - n}" for n in range(len(examples))]
    store = write_examples(folder / "test.lmdb", [replace(e, id=name) for e, name in zip(examples, ids, strict=True)])
    dice = np.random.default_rng(0)
    predictions = {
        name: Prediction(
            id=name, answer=ANSWERS[task], scores=dice.normal(size=20).astype(np.float32) if task == "vcr" else None
        )
        for name in ids
    }
    predictions |= {name: replace(predictions[ids[0]], **values) for name, values in change.items()}
    write_predictions(folder / PREDICTIONS, predictions.values(), {})
    line = ["submit", str(folder / PREDICTIONS), "--task", task, "--examples", str(store), "--out", str(folder / "out")]
    return line, predictions, ids


@pytest.mark.parametrize("task", SERVED)
def test_a_file_comes_back_and_can_be_checked_again(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, predictions, ids = prepared(task, tmp_path)
    assert main([*line, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["predictions"], told["written"]) == (len(ids), True)
    written = Path(told["file"])
    assert written.parent == tmp_path / "out"
    assert written.stat().st_size == told["bytes"]
    submission = importlib.import_module(f"vltk.tasks.{task}").SUBMISSION
    back = read_any(written, submission)
    assert back.keys() == predictions.keys()
    for name, one in predictions.items():
        if task == "vcr":
            probabilities = np.exp(one.scores.reshape(5, 4))
            wanted = probabilities / probabilities.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(np.exp(back[name].scores).reshape(5, 4), wanted, atol=1e-6)
            answer = int(one.scores[:4].argmax())
            assert back[name].answer == f"{answer},{int(one.scores.reshape(5, 4)[1 + answer].argmax())}"
        elif task == "refcoco":
            assert json.loads(back[name].answer) == json.loads(one.answer)
        else:
            assert back[name].answer == one.answer
    again = [line[0], str(written), *line[2:-1], str(tmp_path / f"again{written.suffix}")]
    assert main(again) == 0
    if task != "vcr":  # probabilities are rounded once more
        assert (tmp_path / f"again{written.suffix}").read_text() == written.read_text()


def test_vqa_is_a_list_with_whole_numbers(tmp_path: Path) -> None:
    line, _, ids = prepared("vqa", tmp_path)
    assert main([*line, "--method", "mine"]) == 0
    path = tmp_path / "out" / "vqa_OpenEnded_mscoco_test_mine_results.json"
    assert json.loads(path.read_text()) == [{"question_id": int(name), "answer": "red"} for name in ids]


def test_gqa_nlvr2_and_refcoco_as_published(tmp_path: Path) -> None:
    for task in ("gqa", "nlvr2", "refcoco"):
        (tmp_path / task).mkdir()
    line, _, ids = prepared("gqa", tmp_path / "gqa")
    assert main([*line[:-1], str(tmp_path / "g.json")]) == 0
    assert json.loads((tmp_path / "g.json").read_text())[0] == {"questionId": ids[0], "prediction": "blue"}
    line, _, ids = prepared("nlvr2", tmp_path / "nlvr2")
    assert main([*line[:-1], str(tmp_path / "n.csv")]) == 0
    assert (tmp_path / "n.csv").read_text() == "".join(f"{name},False\n" for name in ids)
    line, _, ids = prepared("refcoco", tmp_path / "refcoco")
    assert main([*line[:-1], str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())[0] == {"sent_id": ids[0], "pred_box": [1.5, 2, 10.0, 20]}


def test_vcr_has_twenty_probabilities_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    line, _, ids = prepared("vcr", tmp_path)
    assert main([*line[:-1], str(tmp_path / "v.csv")]) == 0
    with (tmp_path / "v.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["annot_id"] for row in rows] == sorted(ids, key=lambda name: int(name.split("-")[1]))
    groups = ["answer", *(f"rationale_conditioned_on_a{n}" for n in range(4))]
    assert list(rows[0]) == ["annot_id", *(f"{group}_{n}" for group in groups for n in range(4))]
    for group in groups:
        assert sum(float(rows[0][f"{group}_{n}"]) for n in range(4)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "change", "more", "code", "sentence"),
    [
        ("vqa", {"900": {"id": "900"}}, [], 3, "1 predictions have no example (900)"),
        (
            "vqa",
            {"101": {"id": "101", "answer": "x"}},
            ["--answers"],
            3,
            "101: has the answer 'x', which is none of the 2",
        ),
        ("vqa", {}, ["--server-split", "test2015"], 3, "has 6 examples, test2015 has 447,793; prepare the whole split"),
        ("vqa", {}, ["--server-split", "test2016"], 2, "there is no split 'test2016'; did you mean test2015?"),
        ("vqa", {}, ["--out", "x.csv"], 2, "x.csv does not end in .json; the server takes .json files"),
        ("nlvr2", {"test-9": {"id": "test-9", "answer": "yes"}}, [], 3, "has the answer 'yes', expected True or False"),
        ("refcoco", {"101": {"id": "101", "answer": "[5, 5, 5, 9]"}}, [], 3, "has the empty box [5, 5, 5, 9]"),
        ("refcoco", {"101": {"id": "101", "answer": "here"}}, [], 3, "expected a box"),
        (
            "vcr",
            {"test-9": {"id": "test-9", "scores": np.zeros(8, np.float32)}},
            [],
            3,
            "has 8 scores, the server wants 20",
        ),
    ],
)
def test_what_a_server_would_refuse(
    task: str,
    change: dict[str, Any],
    more: list[str],
    code: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line, _, _ = prepared(task, tmp_path, **change)
    if more == ["--answers"]:
        (tmp_path / "label2ans.json").write_text('["red", "blue"]')
        more = ["--answers", str(tmp_path / "label2ans.json")]
    assert main([*line, *more]) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_prediction_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, predictions, ids = prepared("gqa", tmp_path)
    write_predictions(tmp_path / PREDICTIONS, [predictions[name] for name in ids[1:]], {})
    assert main(line) == 3
    assert f"1 of 6 examples have no prediction ({ids[0]})" in capsys.readouterr().err


def test_an_id_that_is_no_number_for_vqa(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples, _ = small_examples("vqa", images=2, texts=1)
    store = write_examples(tmp_path / "test.lmdb", examples)
    write_predictions(tmp_path / PREDICTIONS, [Prediction(id=one.id, answer="red") for one in examples], {})
    assert main(["submit", str(tmp_path), "--task", "vqa", "--examples", str(store), "--out", str(tmp_path / "o")]) == 3
    assert "has the id 'train-0#0', the server wants a whole number" in capsys.readouterr().err


def test_a_dry_run_writes_nothing_and_an_old_file_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, _, _ = prepared("gqa", tmp_path)
    assert main([*line, "--dry-run"]) == 0
    assert not (tmp_path / "out").exists()
    assert main(line) == 0
    assert main(line) == 3
    assert "exists already" in capsys.readouterr().err
    assert main([*line, "--overwrite"]) == 0


def test_a_task_without_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, _, _ = prepared("gqa", tmp_path)
    assert main([*line, "--task", "snli_ve"]) == 2
    assert "snli_ve has no test server; tasks with one: gqa, nlvr2, refcoco, vcr, vqa" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "name", "content", "sentence"),
    [
        ("vqa", "a.json", '{"a": 1}', "expected a list"),
        ("vqa", "a.json", '[{"question_id": 1}]', "lacks 'answer'"),
        ("vqa", "a.json", '[{"question_id": 1, "answer": 3}]', "has a number as 'answer', expected a text"),
        (
            "vqa",
            "a.json",
            '[{"question_id": 1, "answer": "x"}, {"question_id": 1, "answer": "y"}]',
            "the id 1 occurs twice",
        ),
        ("vqa", "a.json", "[]", "holds no prediction"),
        (
            "nlvr2",
            "a.csv",
            "dev-1-0-0,True\ndev-1-0-1",
            "line 2: is 'dev-1-0-1', expected an identifier and True or False",
        ),
        ("nlvr2", "a.csv", "dev-1-0-0,maybe", "expected an identifier and True or False"),
        ("vcr", "a.csv", "annot_id,answer_0\n", "begins with 'annot_id,answer_0', expected"),
        ("refcoco", "a.json", '[{"sent_id": 1, "pred_box": [1, 2, 3]}]', "has 3 items in 'pred_box', expected 4"),
    ],
)
def test_files_that_are_no_predictions(
    task: str, name: str, content: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, _, _ = prepared(task, tmp_path)
    (tmp_path / name).write_text(content)
    assert main([line[0], str(tmp_path / name), *line[2:]]) == 3
    assert sentence in capsys.readouterr().err


def test_rows_of_vcr_that_are_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, _, _ = prepared("vcr", tmp_path)
    assert main([*line[:-1], str(tmp_path / "v.csv")]) == 0
    whole = (tmp_path / "v.csv").read_text()
    for damaged in (whole.replace("0.", "x.", 1), whole.rpartition(",")[0], whole.replace("0.", "nan0.", 1)):
        (tmp_path / "v.csv").write_text(damaged)
        assert main([line[0], str(tmp_path / "v.csv"), *line[2:]]) == 3
        assert "expected an id and 20 numbers" in capsys.readouterr().err
