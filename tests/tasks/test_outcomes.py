"""What every example counts adds up to the figures, and changes its split hash with the right answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_tasks import MAKERS, small_examples, small_task, split_of
from vltk.run_folder.comparison import compare
from vltk.run_folder.outcomes import OUTCOMES, read_outcomes, write_outcomes
from vltk.tasks._outcomes import prediction_outcomes
from vltk.types import AnswersTarget, LabelTarget, Prediction


@pytest.fixture(params=sorted(MAKERS))
def measured(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    torch.manual_seed(0)
    examples, pictures = small_examples(request.param)
    split = split_of(tmp_path, examples, pictures)
    task = small_task(request.param, split)
    task.module.eval()
    with torch.no_grad():
        found = task.predict(task.batch(split, range(len(split))))
    return request.param, task, split, {one.id: one for one in found}


def test_means_are_the_figures(measured: Any, tmp_path: Path) -> None:
    name, task, split, predictions = measured
    outcomes = prediction_outcomes(task, split, predictions, protocol={"boxes": "given"})
    figures = {one.metric: one.value for one in task.measure(split, predictions)}
    assert (outcomes.task, outcomes.protocol, task.primary in outcomes.series) == (name, {"boxes": "given"}, True)
    for metric, series in outcomes.series.items():
        assert series.values.mean() == pytest.approx(figures[metric])
        assert (series.ids, len(series.clusters)) == (split.ids, len(split))
    write_outcomes(tmp_path / OUTCOMES, outcomes)
    rows = compare([outcomes], [read_outcomes(tmp_path / OUTCOMES)])
    assert {row.difference for row in rows} == {0}


def test_other_right_answers_are_another_split(tmp_path: Path) -> None:
    examples, pictures = small_examples("gqa")
    first = split_of(tmp_path, examples, pictures)
    changed = replace(examples[0], target=AnswersTarget(answers=("green",)))
    second = split_of(tmp_path, [changed, *examples[1:]], pictures, "second")
    predictions = {one.id: Prediction(id=one.id, answer="red") for one in examples}
    task = small_task("gqa", first)
    hashes = {prediction_outcomes(task, split, predictions).split for split in (first, second)}
    assert len(hashes) == 2


def test_statements_of_one_set_of_pictures_belong_together(tmp_path: Path) -> None:
    examples, pictures = small_examples("nlvr2", images=4, texts=1)
    names = ["dev-1-0-0", "dev-1-1-0", "dev-1-0-1", "dev-2-0-0"]
    parts = [name.split("-") for name in names]
    told = [
        replace(one, id=name, group=f"{part[0]}-{part[1]}-{part[3]}", target=LabelTarget(label="True"))
        for one, name, part in zip(examples, names, parts, strict=True)
    ]
    split = split_of(tmp_path, told, pictures)
    predictions = {name: Prediction(id=name, answer="True") for name in names}
    series = prediction_outcomes(small_task("nlvr2", split), split, predictions).series["accuracy"]
    assert series.clusters == ("dev-1", "dev-1", "dev-1", "dev-2")


def test_an_interval_knows_that_questions_of_one_picture_depend_on_each_other(tmp_path: Path) -> None:
    examples, pictures = small_examples("gqa", images=10, texts=12)
    told = [replace(one, target=AnswersTarget(answers=("red",), question_type="query")) for one in examples]
    split = split_of(tmp_path, told, pictures)
    right = {one.id for one in told if int(one.image_ids[0].split("-")[1]) < 5}
    predictions = {one.id: Prediction(id=one.id, answer="red" if one.id in right else "blue") for one in told}
    figures = {one.metric: one for one in small_task("gqa", split).measure(split, predictions)}
    low, high = figures["accuracy"].interval_95
    assert figures["accuracy"].value == 0.5
    assert high - low > 0.5, "ten pictures are not 120 questions"
    assert figures["accuracy of query"].interval_95 == figures["accuracy"].interval_95
