"""Predictions over a split: those of single examples, whatever the batches, stopped, shared or read by workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small_pairs import caption, picture, write_examples, write_features
from tests.small_retrieval import split_of, uniter
from vltk.errors import StoppedEarlyError, VltkError
from vltk.evaluator import Execution, predict
from vltk.run_folder.predictions import PredictionLog
from vltk.tasks._task import Split
from vltk.tasks.snli_ve import Config
from vltk.types import LabelTarget, Prediction

LABELS = ("contradiction", "entailment", "neutral")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder, dice = tmp_path_factory.mktemp("entailment"), np.random.default_rng(0)
    pictures = [picture(f"i{number}", dice) for number in range(7)]
    told = [caption(f"e{number}", f"i{number % 7}", dice) for number in range(23)]
    labelled = [replace(one, target=LabelTarget(label=LABELS[number % 3])) for number, one in enumerate(told)]
    return split_of(write_examples(folder / "test.lmdb", labelled), write_features(folder / "f.lmdb", pictures))


@pytest.fixture
def task(split: Split) -> Any:
    made = Config().build(uniter(), split)
    dice = torch.Generator().manual_seed(3)
    for parameter in made.module.head.parameters():  # type: ignore[union-attr]
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, generator=dice)
    return made


def predicted(task: Any, split: Split, path: Path, **settings: Any) -> Mapping[str, Prediction]:
    workers = settings.pop("num_workers", 0)
    log = PredictionLog(path, {})
    predict(task, split, log, execution=Execution(**settings), num_workers=workers)
    return log.predictions()


def same(found: Mapping[str, Prediction], expected: Mapping[str, Prediction], tolerance: float = 0.0) -> None:
    assert found.keys() == expected.keys()
    for key, one in expected.items():
        assert found[key].answer == one.answer
        np.testing.assert_allclose(found[key].scores, one.scores, rtol=tolerance, atol=tolerance)  # type: ignore[arg-type]


@pytest.mark.parametrize("tokens", [1, 30, 4096])
def test_predictions_are_those_of_single_examples(tokens: int, task: Any, split: Split, tmp_path: Path) -> None:
    task.module.eval()
    with torch.no_grad():
        alone = [task.predict(task.batch(split, [row]))[0] for row in range(len(split))]
    found = predicted(task, split, tmp_path / "log", max_tokens=tokens)
    same(found, {one.id: one for one in alone}, 1e-4)
    spread = np.std([one.scores for one in alone], axis=0)
    assert spread.max() > 0.02, "scores so alike would hide a mistake"
    assert {one.metric for one in task.measure(split, found)} >= {"accuracy"}


@pytest.mark.parametrize("tokens", [1, 30])
def test_stopped_and_resumed_equals_undisturbed(tokens: int, task: Any, split: Split, tmp_path: Path) -> None:
    whole, stops = predicted(task, split, tmp_path / "whole", max_tokens=tokens), 0
    while True:
        try:
            found = predicted(task, split, tmp_path / "parts", max_tokens=tokens, stop=lambda: True)
            break
        except StoppedEarlyError:
            stops += 1
            if stops == 2:  # a kill in the middle of a line, and of a batch
                lines = (tmp_path / "parts").read_bytes().splitlines(keepends=True)
                (tmp_path / "parts").write_bytes(b"".join(lines[:-1]) + lines[-1][:-9])
    assert stops > 3
    same(found, whole)


def test_what_is_predicted_is_not_predicted_again(task: Any, split: Split, tmp_path: Path) -> None:
    predicted(task, split, tmp_path / "log")
    told: list[int] = []
    task.module = torch.nn.Identity()
    task.predict = None
    predicted(task, split, tmp_path / "log", progress=told.append)
    assert sum(told) == 23


def test_processes_divide_the_examples(task: Any, split: Split, tmp_path: Path) -> None:
    parts = [predicted(task, split, tmp_path / f"{n}", max_tokens=30, share=(n, 2)) for n in range(2)]
    assert not parts[0].keys() & parts[1].keys()
    same({**parts[0], **parts[1]}, predicted(task, split, tmp_path / "whole", max_tokens=30))


def test_reading_in_processes_changes_nothing(task: Any, split: Split, tmp_path: Path) -> None:
    plain = predicted(task, split, tmp_path / "plain", max_tokens=60)
    same(predicted(task, split, tmp_path / "read", max_tokens=60, num_workers=1), plain)


def test_a_score_that_is_no_number_names_its_example(task: Any, split: Split, tmp_path: Path) -> None:
    with torch.no_grad():
        next(iter(task.module.head.parameters())).fill_(torch.nan)
    with pytest.raises(VltkError, match=r"test: a score of example e\d+ is NaN; use fp32"):
        predicted(task, split, tmp_path / "log")
