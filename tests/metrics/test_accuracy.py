"""Accuracies equal the official programs' on real result files, and loops written from their rules on made-up ones."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.errors import DataError
from vltk.metrics.accuracy import (
    GQAChoices,
    GQAQuestion,
    gqa_figures,
    group_hits,
    means_by,
    soft_scores,
    vcr_hits,
    vqa_scores,
)
from vltk.metrics.answer_cleaning import CONTRACTIONS, NUMBERS, PUNCTUATION, clean_answer

# The table in the README of the reference material: overall, then other, yes/no, number.
OFFICIAL = {
    "valid_all_yes": (20.79, 1.05, 61.88, 0.2),
    "valid_most_frequent_answer": (96.72, 93.5, 100.0, 96.78),
    "valid_annotator_1": (87.28, 77.44, 97.26, 87.54),
    "valid_surface_variants": (73.12, 81.37, 63.54, 74.14),
    "with_photos_all_yes": (16.0, 0.0, 55.0, 0.0),
    "with_photos_most_frequent_answer": (97.09, 90.77, 100.0, 98.46),
    "with_photos_annotator_1": (90.73, 78.46, 95.0, 94.23),
    "with_photos_surface_variants": (73.45, 75.38, 75.0, 71.54),
}


@pytest.fixture(scope="module")
def annotations(shared: Path) -> dict[str, list[Any]]:
    folder = shared / "data/vqa_v2"
    valid = json.loads(gzip.decompress((folder / "vqa_annotatons_valid.gzip").read_bytes()))
    photos = json.loads((folder / "with_photos/annotations.json").read_text("utf-8"))
    return {"valid": valid["annotations"], "with_photos": photos["annotations"]}


class TestVQA:
    @pytest.mark.parametrize("name", OFFICIAL)
    def test_equals_the_official_program_on_real_results(
        self, name: str, shared: Path, annotations: dict[str, list[Any]]
    ) -> None:
        content = json.loads((shared / f"data/vqa_v2/results/{name}_results.json").read_text("utf-8"))
        given = {row["question_id"]: row["answer"] for row in content}
        asked = annotations[name.split("_")[0].replace("with", "with_photos")]
        people = [[answer["answer"] for answer in one["answers"]] for one in asked]
        scores = vqa_scores([given[one["question_id"]] for one in asked], people)
        by_type = means_by([one["answer_type"] for one in asked], scores)
        figures = [scores.mean(), *(by_type[kind][0] for kind in ("other", "yes/no", "number"))]
        assert tuple(round(100 * figure, 2) for figure in figures) == OFFICIAL[name]

    def test_answers_are_cleaned_only_where_people_disagree(self) -> None:
        agreed, not_quite = ["yes"] * 10, ["yes"] * 9 + ["no"]
        assert vqa_scores(["The Yes."] * 2, [agreed, not_quite]).tolist() == [0.0, 1.0]

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.sampled_from(["red", "blue", "a red", "Red.", "two", "2"]), min_size=1, max_size=12))
    def test_equals_leaving_one_person_out_at_a_time(self, people: list[str]) -> None:
        shown = [clean_answer(one) for one in people] if len(set(people)) > 1 else people
        for predicted in ("red", "2", "The red", "green"):
            own = clean_answer(predicted) if len(set(people)) > 1 else predicted
            slow = np.mean(
                [
                    min(1, sum(other == own for place, other in enumerate(shown) if place != left) / 3)
                    for left in range(len(shown))
                ]
            )
            assert vqa_scores([predicted], [people])[0] == pytest.approx(slow)

    @settings(max_examples=300, deadline=None)
    @given(st.text(alphabet=PUNCTUATION + ".'5ax 1", max_size=14))
    def test_punctuation_as_published(self, answer: str) -> None:
        slow = answer
        in_number = re.search(r"(\d)(\,)(\d)", answer) is not None
        for mark in PUNCTUATION:
            joined = mark + " " in answer or " " + mark in answer or in_number
            slow = slow.replace(mark, "" if joined else " ")
        slow = re.compile(r"(?!<=\d)(\.)(?!\d)").sub("", slow, count=int(re.UNICODE))
        words = [NUMBERS.get(word, word) for word in slow.lower().split()]
        words = [CONTRACTIONS.get(word, word) for word in words if word not in ("a", "an", "the")]
        assert clean_answer(answer) == " ".join(words)

    @pytest.mark.parametrize(
        ("answer", "cleaned"),
        [
            ("Dont know", "don't know"),
            ("couldntve", "couldntve"),
            ("couldn'tve", "couldn't've"),
            ("couldnt've", "couldn't've"),
            ("somebody'd", "somebodyd"),
            ("yall'd've", "y'all'd've"),
            ("ive", "ive"),
            ("let's", "let's"),
            ("twas", "'twas"),
            ("an apple, the Pear", "apple pear"),
            ("ten", "10"),
            ("x-ray", "x ray"),
            ("x -ray", "x ray"),
            ("black-and - white", "blackand white"),
            ("1,000.5 m.", "1000.5 m"),
            ("u.s.", "us"),
            ("." * 40, "." * 8),
            ("what?!", "what"),
        ],
    )
    def test_words_as_published(self, answer: str, cleaned: str) -> None:
        assert clean_answer(answer) == cleaned

    def test_the_table_of_contractions_is_whole(self) -> None:
        assert len(CONTRACTIONS) == 114  # of the published 120: four have capitals and never match, two change nothing
        changed = [
            (bare, word) for bare, word in CONTRACTIONS.items() if bare.replace("'", "") != word.replace("'", "")
        ]
        assert changed == []

    def test_counts_that_do_not_fit(self) -> None:
        with pytest.raises(DataError, match="1 answers for 2 questions"):
            vqa_scores(["a"], [["a"], ["b"]])
        with pytest.raises(DataError, match="has no people's answers"):
            vqa_scores(["a"], [[]])


@pytest.fixture(scope="module")
def statements(shared: Path) -> list[Any]:
    return [json.loads(line) for line in (shared / "data/nlvr2/dev.json").read_text("utf-8").splitlines()]


class TestNLVR2:
    @pytest.mark.parametrize(
        ("rule", "accuracy", "consistency"),
        [("all true", "0.5085935262", "0.0386521308"), ("every fourth set true", "0.8766828989", "0.7616451933")],
    )
    def test_equals_the_official_program(
        self, rule: str, accuracy: str, consistency: str, statements: list[Any]
    ) -> None:
        parts = [one["identifier"].split("-") for one in statements]
        always = [rule == "all true" or int(part[1]) % 4 == 0 for part in parts]
        hits = [sure is False or one["label"] == "True" for sure, one in zip(always, statements, strict=True)]
        groups = group_hits(["-".join((part[0], part[1], part[3])) for part in parts], hits)
        assert (f"{np.mean(hits):.10f}", f"{np.mean(list(groups.values())):.10f}") == (accuracy, consistency)


class TestVCR:
    @pytest.mark.parametrize("columns", [8, 20])
    def test_equals_a_loop(self, columns: int) -> None:
        rng = np.random.default_rng(columns)
        scores, answers, rationales = rng.random((40, columns)), rng.integers(0, 4, 40), rng.integers(0, 4, 40)
        answer_hits, rationale_hits = vcr_hits(scores, answers, rationales)
        for row in range(40):
            start = 4 + (4 * answers[row] if columns == 20 else 0)
            assert answer_hits[row] == (int(np.argmax(scores[row, :4])) == answers[row])
            assert rationale_hits[row] == (int(np.argmax(scores[row, start : start + 4])) == rationales[row])

    def test_hostile_scores(self) -> None:
        with pytest.raises(DataError, match=r"has the shape \(2, 12\), expected \[N, 8\] or \[N, 20\]"):
            vcr_hits(np.zeros((2, 12)), np.zeros(2, int), np.zeros(2, int))
        with pytest.raises(DataError, match="not finite"):
            vcr_hits(np.full((1, 8), np.nan), np.zeros(1, int), np.zeros(1, int))


def test_soft_scores_equal_a_loop() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.random((30, 5)), rng.random((30, 5))
    slow = [row[list(scores).index(max(scores))] for scores, row in zip(logits, targets, strict=True)]
    assert soft_scores(logits, targets).tolist() == slow


QUESTIONS = {
    "1": GQAQuestion(answer="yes", structural="verify", entailed=("1", "2", "4"), group="a"),
    "2": GQAQuestion(answer="red", structural="query", group="b"),
    "3": GQAQuestion(answer="blue", structural="query", group="b", entailed=("2",)),
    "4": GQAQuestion(answer="no", structural="verify", balanced=False),
}
PREDICTED = {"1": "yes", "2": "blue", "3": "green", "4": "no"}


class TestGQA:
    def test_figures_by_hand(self) -> None:
        choices = {
            "1": GQAChoices(valid=frozenset({"yes", "no"}), plausible=frozenset({"yes"})),
            "2": GQAChoices(valid=frozenset({"red", "blue"}), plausible=frozenset({"red"})),
            "3": GQAChoices(valid=frozenset({"red", "blue"}), plausible=frozenset({"red"})),
        }
        figures = gqa_figures(QUESTIONS, PREDICTED, choices=choices)
        assert figures == {
            "accuracy": (pytest.approx(100 / 3), 3),
            "binary": (100.0, 1),
            "open": (0.0, 2),
            "consistency": (50.0, 1),  # of question 1: 2 is wrong, 4 is right
            "validity": (pytest.approx(200 / 3), 3),
            "plausibility": (pytest.approx(100 / 3), 3),
            # a: no distance, weight 1; b: red (0-1)^2/1, blue (1-1)^2/1, weight 2
            "distribution": (pytest.approx(2 * 1 / 3 / 100), 3),
        }

    def test_questions_after_a_common_attribute_ask_for_its_name(self) -> None:
        questions = {"1": GQAQuestion(answer="color", detailed="twoCommon")}
        choices = {"1": GQAChoices(valid=frozenset(), plausible=frozenset())}
        assert gqa_figures(questions, {"1": "shape"}, choices=choices)["validity"] == (100.0, 1)

    def test_consistency_needs_answers_to_what_is_entailed(self) -> None:
        predicted = {name: answer for name, answer in PREDICTED.items() if name != "4"}
        assert "consistency" not in gqa_figures(QUESTIONS, predicted)

    @pytest.mark.parametrize(
        ("questions", "predicted", "choices", "sentence"),
        [
            (QUESTIONS, {"1": "yes", "2": "x"}, None, "question 3 has no answer"),
            ({"4": QUESTIONS["4"]}, {}, None, "no question is balanced"),
            (QUESTIONS, PREDICTED, {}, "question 1 has no choices"),
        ],
    )
    def test_what_is_missing_is_named(self, questions: Any, predicted: Any, choices: Any, sentence: str) -> None:
        with pytest.raises(DataError, match=f"GQA: {sentence}"):
            gqa_figures(questions, predicted, choices=choices)
