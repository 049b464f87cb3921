"""Score 200,000 VQA questions with ten answers each on one core.

    OMP_NUM_THREADS=1 python benchmarks/vqa_metric.py

The made-up answers have upper case, articles, number words, punctuation and contractions, and the people agree on
every second question. The other side is the official procedure, one question after the other, nothing remembered, on
a twentieth of the questions; the scores are the same.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable

import numpy as np

from vltk.metrics.accuracy import means_by, vqa_scores
from vltk.metrics.answer_cleaning import ARTICLES, CONTRACTIONS, NUMBERS, PUNCTUATION

PEOPLE = 10
FORMS = ("{}", "{}", "{}", "the {}", "A {}", "{}.", "{}?", " {} ", "{}-like", "two {}", "{}, red", "dont {}", "{}/x")


def draw(count: int) -> tuple[list[str], list[list[str]], list[str]]:
    generator = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(20_000)] + ["yes", "no", "1", "two", "none"])
    main = words[generator.integers(0, len(words), count)]
    others = words[generator.integers(0, len(words), (count, PEOPLE))]
    agree = generator.random((count, PEOPLE)) < np.where(np.arange(count) % 2, 0.6, 1.0)[:, None]
    forms = generator.integers(0, len(FORMS), (count, PEOPLE + 1)) * (np.arange(count) % 2)[:, None]
    answers = np.where(agree, main[:, None], others)
    people = [
        [FORMS[form].format(one) for form, one in zip(f, row, strict=False)]
        for f, row in zip(forms, answers, strict=True)
    ]
    predicted = [FORMS[f[-1]].format(one) for f, one in zip(forms, main, strict=True)]
    return predicted, people, [("yes/no", "number", "other")[n % 3] for n in range(count)]


def official(predicted: list[str], people: list[list[str]]) -> np.ndarray:
    comma, period = re.compile(r"(\d)(\,)(\d)"), re.compile(r"(?!<=\d)(\.)(?!\d)")

    def clean(answer: str) -> str:
        text = answer
        for mark in PUNCTUATION:
            joined = mark + " " in answer or " " + mark in answer or comma.search(answer) is not None
            text = text.replace(mark, "" if joined else " ")
        words = [NUMBERS.get(word, word) for word in period.sub("", text, count=int(re.UNICODE)).lower().split()]
        return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)

    scores = []
    for own, given in zip(predicted, people, strict=True):
        own, given = own.strip(), [one.strip() for one in given]
        if len(set(given)) > 1:
            own, given = clean(own), [clean(one) for one in given]
        items = list(enumerate(given))
        scores.append(
            sum(min(1, sum(one == own for _, one in [other for other in items if other != item]) / 3) for item in items)
            / len(given)
        )
    return np.array(scores)


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=200_000)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    predicted, people, kinds = draw(options.questions)
    few = options.questions // 20
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(options.repetitions):
        ours.append(seconds_of(lambda: means_by(kinds, vqa_scores(predicted, people))))
        theirs.append(seconds_of(lambda: official(predicted[:few], people[:few])) * options.questions / few)
    np.testing.assert_allclose(vqa_scores(predicted[:few], people[:few]), official(predicted[:few], people[:few]))
    own, other = statistics.median(ours), statistics.median(theirs)
    print(
        f"{options.questions:,} questions with {PEOPLE} answers: {own:.1f} s ({min(ours):.1f} to {max(ours):.1f}), "
        f"{other / own:.1f} x the official procedure ({other:.1f} s, from {few:,} questions), same scores"
    )


if __name__ == "__main__":
    main()
