"""What holds of every task that answers examples: learning, predicting, padding, blindness, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small_tasks import MAKERS, answering_tasks, maker_of, small_examples, small_split, small_task, split_of
from vltk.errors import DataError, UsageError
from vltk.models._heads import Relations
from vltk.stores.absent_features import AbsentFeatures
from vltk.tasks._task import PredictionTask, Split
from vltk.types import AnswersTarget, BoxTarget, ChoiceTarget, LabelTarget, Prediction, ScoredTarget

TASKS = answering_tasks()
VARIANTS = [
    *((task, {}) for task in TASKS),
    ("vqa", {"head": "alignment"}),
    ("nlvr2", {"setting": "triplet"}),
    ("nlvr2", {"setting": "pair"}),
    ("nlvr2", {"setting": "alignment"}),
    ("snli_ve", {"loss": "cross-entropy"}),
    ("snli_ve", {"label_scores": "votes"}),
    ("refcoco", {"loss": "ranking", "head_layers": 2, "reduction": "mean"}),
    ("vcr", {"every_rationale": True}),
]
NAMES = [f"{task} {' '.join(map(str, options.values()))}".strip() for task, options in VARIANTS]


@pytest.fixture
def split(tmp_path: Path, request: pytest.FixtureRequest) -> Split:
    return small_split(tmp_path, request.node.callspec.params["task"])


def predictions(task: Any, split: Split) -> dict[str, Prediction]:
    task.module.eval()
    with torch.no_grad():
        found = task.predict(task.batch(split, range(len(split))))
    return {one.id: one for one in found}


def test_every_task_that_answers_examples_is_tested() -> None:
    assert set(MAKERS) <= set(TASKS)
    assert all(maker_of(task) for task in TASKS)


@pytest.mark.parametrize(("task", "options"), VARIANTS, ids=NAMES)
def test_a_task_learns_its_own_examples_by_heart(task: str, options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    split = small_split(tmp_path, task, images=4, texts=2)
    built = small_task(task, split, **options)
    assert isinstance(built, PredictionTask)
    rows = built.training_rows(split, max_text_length=60)
    assert len(rows) == len(split)
    optimizer = torch.optim.Adam(built.module.parameters(), lr=1e-2)
    before = {one.metric: one.value for one in built.measure(split, predictions(built, split))}
    batch = built.batch(split, rows).to("cpu")
    built.module.train()
    for step in range(80):
        losses = built.module("task", batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    after = {one.metric: one for one in built.measure(split, predictions(built, split))}
    assert after[built.primary].value > max(0.6, before[built.primary])
    assert after[built.primary].n == len(split)


@pytest.mark.parametrize(("task", "options"), VARIANTS, ids=NAMES)
def test_padding_and_neighbours_change_nothing(task: str, options: dict[str, Any], split: Split) -> None:
    built = small_task(task, split, **options)
    together = predictions(built, split)
    with torch.no_grad():
        alone = [built.predict(built.batch(split, [row]))[0] for row in range(len(split))]
    for one in alone:
        np.testing.assert_allclose(one.scores, together[one.id].scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_lengths_are_those_that_the_encoder_meets(task: str, split: Split) -> None:
    built = small_task(task, split)
    lengths = built.lengths(split)
    for row in range(len(split)):
        batch = built.batch(split, [row])
        assert lengths[row] == int(batch.text_mask.sum() + batch.region_mask.sum())


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_is_a_pure_function_and_keeps_the_order(task: str, split: Split) -> None:
    built, again = small_task(task, split), small_task(task, split)
    first, second = built.batch(split, [5, 2, 7]), again.batch(split, [5, 2, 7])
    assert list(dict.fromkeys(first.ids)) == [split.ids[row] for row in (5, 2, 7)]
    assert torch.equal(first.regions, second.regions)
    assert all(torch.equal(value, second.targets[name]) for name, value in first.targets.items())


@pytest.mark.parametrize("task", TASKS)
def test_the_head_is_trained_and_saved_under_its_own_names(task: str, split: Split) -> None:
    built, other = small_task(task, split), small_task(task, split)
    names = dict(built.module.named_parameters())
    heads = [name for name in names if not name.startswith("model.")]
    assert heads
    assert all(name.startswith("head.") for name in heads)
    other.module.load_state_dict(built.module.state_dict())
    for key, one in predictions(built, split).items():
        np.testing.assert_array_equal(one.scores, predictions(other, split)[key].scores)


@pytest.mark.parametrize("task", TASKS)
def test_a_head_begins_from_a_fine_tuned_model_by_either_name(task: str, split: Split) -> None:
    built, other, third = (small_task(task, split) for _ in range(3))
    state = {name: tensor for name, tensor in built.module.state_dict().items() if name.startswith("head.")}
    assert other.initialise_head(state) == ["head of the checkpoint"]
    published = built.module.head.published_state()
    assert third.initialise_head(published) == ["head of the checkpoint"]
    for key, tensor in built.module.head.state_dict().items():
        assert torch.equal(tensor, other.module.head.state_dict()[key])
        assert torch.equal(tensor, third.module.head.state_dict()[key])
    assert built.initialise_head({}) == ["head freshly initialised"]


@pytest.mark.parametrize("task", TASKS)
def test_a_blind_model_sees_another_picture(task: str, split: Split) -> None:
    built = small_task(task, split)
    sighted = built.batch(split, range(len(split)))
    built.blind = True
    blind = built.batch(split, range(len(split)))
    built.blind = False
    assert torch.equal(sighted.input_ids, blind.input_ids)
    assert all(torch.equal(value, blind.targets[name]) for name, value in sighted.targets.items())
    own = [set(map(tuple, s[m].tolist())) for s, m in zip(sighted.regions, sighted.region_mask, strict=True)]
    shown = [set(map(tuple, s[m].tolist())) for s, m in zip(blind.regions, blind.region_mask, strict=True)]
    if task != "nlvr2":  # two statements may share pictures crosswise; their places are checked below
        assert not any(a & b for a, b in zip(own, shown, strict=True))
    if task == "refcoco":  # the same number of candidates, so that the answer stays one of them
        assert torch.equal(sighted.region_mask, blind.region_mask)
    again = built.batch(split, range(len(split)))
    assert torch.equal(again.regions, sighted.regions)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_without_labels_predicts_and_says_that_it_cannot_measure(task: str, tmp_path: Path) -> None:
    examples, pictures = small_examples(task)
    labelled = split_of(tmp_path, examples, pictures)
    built = small_task(task, labelled)
    test = split_of(tmp_path, [replace(one, target=None) for one in examples], pictures, "test")
    found = predictions(built, test)
    assert found.keys() == set(test.ids)
    with pytest.raises(DataError, match=r"test: example train-0#0 has no target to measure against"):
        built.measure(test, found)
    with pytest.raises(DataError, match=r"nothing to learn from: of 24 examples 0 are too long and 24 have no target"):
        built.training_rows(test, max_text_length=60)


@pytest.mark.parametrize("task", TASKS)
def test_predictions_must_be_of_this_very_split(task: str, split: Split) -> None:
    built = small_task(task, split)
    found = predictions(built, split)
    missing = {key: value for key, value in found.items() if key != "train-3#1"}
    with pytest.raises(DataError, match=r"1 of 24 examples have no prediction \(train-3#1\)"):
        built.measure(split, missing)
    more = found | {"another": replace(found["train-0#0"], id="another")}
    with pytest.raises(DataError, match=r"1 predictions have no example \(another\)"):
        built.measure(split, more)


@pytest.mark.parametrize("task", TASKS)
def test_a_question_without_an_image_is_named(task: str, tmp_path: Path) -> None:
    examples, pictures = small_examples(task)
    whole = split_of(tmp_path, examples, pictures)
    built = small_task(task, whole)
    lacking = split_of(tmp_path, examples, pictures[1:], "lacking")
    with pytest.raises(DataError, match=r"lacking: 1 of 8 images have no features \(train-0\)"):
        built.lengths(lacking)


@pytest.mark.parametrize("task", TASKS)
def test_examples_of_another_task_are_refused(task: str, tmp_path: Path) -> None:
    built = small_task(task, small_split(tmp_path, task))
    examples, pictures = small_examples(task)
    other = BoxTarget(box=(0, 0, 1, 1), annotation_id="1") if task != "refcoco" else LabelTarget(label="True")
    wrong = split_of(tmp_path, [replace(one, target=other) for one in examples], pictures, "wrong")
    with pytest.raises(DataError, match=r"wrong: example train-0#0 has a (BoxTarget|LabelTarget), expected"):
        built.lengths(wrong)


@pytest.mark.parametrize("task", TASKS)
def test_examples_without_word_pieces_are_refused(task: str, tmp_path: Path) -> None:
    built = small_task(task, small_split(tmp_path, task))
    examples, pictures = small_examples(task)
    raw = split_of(tmp_path, [replace(one, tokens=()) for one in examples], pictures, "raw")
    with pytest.raises(DataError, match=r"example train-0#0 has no word pieces; prepare with --tokenizer"):
        built.lengths(raw)


def test_only_texts_within_the_limit_are_learnt_from(tmp_path: Path) -> None:
    split = small_split(tmp_path, "vqa")
    built = small_task("vqa", split)
    rows = built.training_rows(split, max_text_length=2)
    texts = [len(split.examples.get(name).tokens[0].ids) for name in split.ids]
    assert rows.tolist() == [row for row, length in enumerate(texts) if length <= 2]


def test_a_label_outside_the_vocabulary_is_named(tmp_path: Path) -> None:
    examples, pictures = small_examples("vqa")
    built = small_task("vqa", split_of(tmp_path, examples, pictures))
    scored = [replace(one, target=ScoredTarget(labels=("7",), scores=(1.0,))) for one in examples]
    wrong = split_of(tmp_path, scored, pictures, "wrong")
    with pytest.raises(DataError, match=r"train-0#0: has the label '7', which is outside the vocabulary of \d answers"):
        built.training_rows(wrong, max_text_length=60)


def test_a_statement_needs_two_pictures(tmp_path: Path) -> None:
    built = small_task("nlvr2", small_split(tmp_path, "nlvr2"))
    examples, pictures = small_examples("nlvr2")
    single = split_of(tmp_path, [replace(one, image_ids=one.image_ids[:1]) for one in examples], pictures, "single")
    with pytest.raises(DataError, match=r"example train-0#0 has 1 picture, a statement is about two"):
        built.lengths(single)


def test_a_statement_is_true_or_false(tmp_path: Path) -> None:
    built = small_task("nlvr2", small_split(tmp_path, "nlvr2"))
    examples, pictures = small_examples("nlvr2")
    vague = [replace(one, target=LabelTarget(label="maybe")) for one in examples]
    with pytest.raises(DataError, match=r"example train-0#0: has the label 'maybe', expected True or False"):
        built.training_rows(split_of(tmp_path, vague, pictures, "vague"), max_text_length=60)


def test_entailment_knows_three_labels(tmp_path: Path) -> None:
    built = small_task("snli_ve", small_split(tmp_path, "snli_ve"))
    examples, pictures = small_examples("snli_ve")
    vague = [replace(one, target=LabelTarget(label="hidden")) for one in examples]
    with pytest.raises(DataError, match=r"has the label 'hidden', which is outside the vocabulary of 3 answers"):
        built.training_rows(split_of(tmp_path, vague, pictures, "vague"), max_text_length=60)


def test_a_box_outside_its_picture_is_named(tmp_path: Path) -> None:
    built = small_task("refcoco", small_split(tmp_path, "refcoco"))
    examples, pictures = small_examples("refcoco")
    far = [replace(one, target=BoxTarget(box=(50, 50, 150, 90), annotation_id="x")) for one in examples]
    with pytest.raises(DataError, match=r"example train-0#0: has box .*150.* outside the picture of 100 x 100"):
        built.training_rows(split_of(tmp_path, far, pictures, "far"), max_text_length=60)


def test_choices_are_four_and_four(tmp_path: Path) -> None:
    built = small_task("vcr", small_split(tmp_path, "vcr"))
    examples, pictures = small_examples("vcr")
    seven = [replace(one, texts=one.texts[:8], tokens=one.tokens[:8]) for one in examples]
    with pytest.raises(DataError, match=r"example train-0#0 has 7 answers and rationales, expected 8"):
        built.lengths(split_of(tmp_path, seven, pictures, "seven"))
    odd = [replace(one, target=ChoiceTarget(answer=4, rationale=0)) for one in examples]
    with pytest.raises(DataError, match=r"example train-0#0: has the right choices 4 and 0, expected 0 to 3"):
        built.lengths(split_of(tmp_path, odd, pictures, "odd"))


@pytest.mark.parametrize(
    ("task", "answer", "problem"),
    [
        ("refcoco", "the left one", r"expected a box \[x1, y1, x2, y2\]"),
        ("vcr", "7", r"expected two numbers of 0 to 3"),
    ],
)
def test_a_prediction_that_says_nothing_is_named(task: str, answer: str, problem: str, tmp_path: Path) -> None:
    split = small_split(tmp_path, task)
    built = small_task(task, split)
    found = {name: Prediction(id=name, answer=answer) for name in split.ids}
    with pytest.raises(DataError, match=rf"prediction train-0#0: has the answer '{answer}', {problem}"):
        built.measure(split, found)


def test_a_blind_look_at_one_picture_is_refused(tmp_path: Path) -> None:
    split = small_split(tmp_path, "vqa", images=1)
    built = small_task("vqa", split)
    built.blind = True
    with pytest.raises(DataError, match="has one picture, no other can be shown"):
        built.batch(split, [0])


# -- relations ------------------------------------------------------------------------------------------------------


def test_an_encoder_without_probes_is_refused(tmp_path: Path) -> None:
    split = small_split(tmp_path, "nlvr2")
    with pytest.raises(UsageError, match="UNITER has no relation probes, which this head reads"):
        small_task("nlvr2", split, setting="relations")


def probed(model: Any) -> Any:
    """Give an encoder a relation probe: squared distances under a fixed projection."""
    probe = torch.randn(model.config.hidden, 4, generator=torch.Generator().manual_seed(0))

    def relations(output: Any, batch: Any) -> Relations:
        text, regions = ((states @ probe) for states in (output.text, output.regions))
        return Relations(
            text=torch.cdist(text, text) ** 2,
            text_mask=batch.text_mask,
            regions=torch.cdist(regions, regions) ** 2,
            region_mask=batch.region_mask,
        )

    model.relations = relations
    return model


@pytest.mark.parametrize(("task", "options"), [("nlvr2", {"setting": "relations"}), ("vqa", {"head": "relations"})])
def test_relations_reach_the_head_whatever_the_padding(task: str, options: dict[str, Any], tmp_path: Path) -> None:
    from importlib import import_module

    from tests.small_tasks import encoder

    split = small_split(tmp_path, task)
    more = {"min_answers": 1} if task == "vqa" else {}
    config = import_module(f"vltk.tasks.{task}").Config(**options, **more)
    model = probed(encoder(config.model_sizes()))
    built = config.build(model, split)
    together = predictions(built, split)
    with torch.no_grad():
        for row in range(len(split)):
            alone = built.predict(built.batch(split, [row]))[0]
            np.testing.assert_allclose(alone.scores, together[alone.id].scores, rtol=1e-4, atol=1e-5)
    plain = model.relations
    model.relations = lambda output, batch: replace(plain(output, batch), regions=plain(output, batch).regions * 9)
    changed = predictions(built, split)
    assert any(not np.allclose(one.scores, together[key].scores) for key, one in changed.items())
    losses = built.module.train()("task", built.batch(split, range(len(split))).to("cpu"), torch.Generator())
    losses.mean().backward()
    assert all(parameter.grad is not None for parameter in built.module.head.parameters())


# -- grounding ------------------------------------------------------------------------------------------------------


def test_given_and_detected_boxes_are_told_apart(tmp_path: Path) -> None:
    examples, pictures = small_examples("refcoco")
    given = small_task("refcoco", split_of(tmp_path, examples, pictures))
    proposals = [replace(one, region_ids=None) for one in pictures]
    detected_split = split_of(tmp_path, examples, proposals, "detected")
    detected = small_task("refcoco", detected_split)
    assert (given.describe(), detected.describe()) == ({"boxes": "given"}, {"boxes": "detected"})
    assert given.protocol(detected_split)["boxes"] == "detected"


def test_boxes_made_elsewhere_are_measured_without_features(tmp_path: Path) -> None:
    split = small_split(tmp_path, "refcoco")
    built = small_task("refcoco", split)
    blank = Split(name="alone", examples=split.examples, features=AbsentFeatures())
    found = {one.id: Prediction(id=one.id, answer=json.dumps(one.target.box)) for one in split.examples}
    assert [one.metric for one in built.measure(blank, found)] == ["accuracy", "accuracy by plain overlap"]
    assert built.measure(blank, found)[1].value == 1
    assert built.protocol(blank)["boxes"] == "unknown"


def test_proposals_that_miss_the_box_are_not_learnt_from_but_counted(tmp_path: Path) -> None:
    examples, pictures = small_examples("refcoco")
    # The first proposal of each picture shrinks to a tenth of its box, which it then misses.
    missing = [np.concatenate([one.boxes[:1, :2], one.boxes[:1, :2] + 1]) for one in pictures]
    others = [
        replace(one, region_ids=None, boxes=np.concatenate([box.reshape(1, 4), one.boxes[1:]]).clip(0, 100))
        for box, one in zip(missing, pictures, strict=True)
    ]
    split = split_of(tmp_path, examples, others)
    built = small_task("refcoco", split)
    rows = built.training_rows(split, max_text_length=60)
    figures = {one.metric: one for one in built.measure(split, predictions(built, split))}
    assert 0 < len(rows) < len(split)
    assert figures["oracle recall"].value == pytest.approx(len(rows) / len(split))
    assert figures["accuracy"].value <= figures["oracle recall"].value


def test_images_that_were_seen_are_left_out_of_a_second_figure(tmp_path: Path) -> None:
    listed = tmp_path / "seen.txt"
    listed.write_text("train-0\ntrain-1\n", "utf-8")
    split = small_split(tmp_path, "refcoco")
    built = small_task("refcoco", split, seen_images=(listed,))
    figures = {one.metric: one for one in built.measure(split, predictions(built, split))}
    assert figures["accuracy on unseen images"].n == 18


def test_boxes_as_fractions_need_the_sizes(tmp_path: Path) -> None:
    examples, pictures = small_examples("refcoco")
    split = split_of(tmp_path, examples, pictures)
    built = small_task("refcoco", split)
    fractions = [replace(one, boxes=one.boxes / 100, size=(1, 1), region_ids=None) for one in pictures]
    shrunk = split_of(
        tmp_path,
        [replace(e, target=BoxTarget(box=(0, 0, 1, 1), annotation_id="x")) for e in examples],
        fractions,
        "fractions",
    )
    with pytest.raises(DataError, match="has boxes as fractions of a picture of unknown size"):
        built.training_rows(shrunk, max_text_length=60)


# -- figures --------------------------------------------------------------------------------------------------------


def test_consistency_asks_for_whole_groups(tmp_path: Path) -> None:
    examples, pictures = small_examples("nlvr2")
    split = split_of(tmp_path, examples, pictures)
    built = small_task("nlvr2", split)
    wrong = examples[0]
    labels = {one.id: one.target.label for one in examples}  # type: ignore[union-attr]
    labels[wrong.id] = "False" if labels[wrong.id] == "True" else "True"
    found = {name: Prediction(id=name, answer=label) for name, label in labels.items()}
    figures = {one.metric: one.value for one in built.measure(split, found)}
    groups = {one.group for one in examples}
    assert figures["accuracy"] == pytest.approx(1 - 1 / len(examples))
    assert figures["consistency"] == pytest.approx(1 - 1 / len(groups))


def test_rationales_are_judged_after_the_right_answer(tmp_path: Path) -> None:
    split = small_split(tmp_path, "vcr", images=1, texts=1)
    built = small_task("vcr", split, every_rationale=True)
    (example,) = split.examples
    answer, rationale = example.target.answer, example.target.rationale
    scores = np.zeros(20, np.float32)
    scores[(answer + 1) % 4] = 1  # a wrong answer
    scores[4 * (1 + answer) + rationale] = 1
    figures = built.measure(split, {example.id: Prediction(id=example.id, answer="0,0", scores=scores)})
    values = {one.metric: one.value for one in figures}
    assert values == {"accuracy of Q to AR": 0, "accuracy of Q to A": 0, "accuracy of QA to R": 1}


def test_the_vocabulary_is_kept_for_evaluation(tmp_path: Path) -> None:
    examples, pictures = small_examples("vqa")
    split = split_of(tmp_path, examples, pictures)
    built = small_task("vqa", split)
    kept = built.describe()
    other = [replace(one, target=AnswersTarget(answers=("green",) * 10)) for one in examples]
    again = split_of(tmp_path, other, pictures, "other")
    from vltk.tasks import vqa

    rebuilt = vqa.Config().build(built.module.model, again, kept=kept)
    assert rebuilt.describe() == kept
    assert "green" not in kept["answers"]
