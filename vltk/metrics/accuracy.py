"""The official accuracies of the classification tasks: VQA, GQA, NLVR2, SNLI-VE, VCR."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.metrics.answer_cleaning import clean_answer, clean_blanks

# An answer that three others gave is wholly right (VQA; Antol et al., 2015).
_FULL = 3


def vqa_scores(predicted: Sequence[str], answers: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return [N] the official VQA accuracy of each question.

    It is the mean of min(1, agreeing / 3) over the ten ways to leave one person out. Answers are cleaned, both sides,
    only where the people gave more than one answer: where all ten agree, "Yes" is not "yes".

    Args:
        predicted: N answers.
        answers: for each question what people answered, as typed.

    Raises:
        DataError: another number of answers than of questions, or a question without people's answers.

    Example:
        >>> vqa_scores(["Two", "yes"], [["2"] * 3 + ["3"] * 7, ["Yes"] * 10]).tolist()
        [0.9, 0.0]
    """
    if len(predicted) != len(answers):
        problem = f"{len(predicted)} answers for {len(answers)} questions"
        raise DataError(problem, remedy="give one answer to every question")
    scores = [_vqa_score(one, people) for one, people in zip(predicted, answers, strict=True)]
    return np.array(scores, np.float64)


def _vqa_score(predicted: str, people: Sequence[str]) -> float:
    if not people:
        raise DataError("a question has no people's answers", remedy="leave it out, or annotate it")
    given, own = [clean_blanks(answer) for answer in people], clean_blanks(predicted)
    if len(set(given)) > 1:
        given, own = [clean_answer(answer) for answer in given], clean_answer(own)
    agreeing, others = given.count(own), len(given)
    # One of those who agree is left out as often as they are many.
    without_one = agreeing * min(1.0, (agreeing - 1) / _FULL) if agreeing else 0.0
    return (without_one + (others - agreeing) * min(1.0, agreeing / _FULL)) / others


def means_by(kinds: Sequence[Hashable], values: NDArray[np.floating]) -> dict[Any, tuple[float, int]]:
    """Return mean and number of the values of each kind, in the order of first sight.

    Example:
        >>> means_by(["other", "yes/no", "other"], np.array([1.0, 1.0, 0.5]))
        {'other': (0.75, 2), 'yes/no': (1.0, 1)}
    """
    rows: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row, kind in enumerate(kinds):
        rows[kind].append(row)
    return {kind: (float(np.mean(values[places])), len(places)) for kind, places in rows.items()}


def soft_scores(logits: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return [N] the soft target of the answer with the highest logit: UNITER's accuracy of VQA and SNLI-VE.

    Args:
        logits: [N, C].
        targets: [N, C].

    Example:
        >>> soft_scores(np.array([[0.1, 2.0], [5.0, 1.0]]), np.array([[1.0, 0.3], [0.9, 0.0]])).tolist()
        [0.3, 0.9]
    """
    best = logits.argmax(axis=1)
    scores: NDArray[np.floating] = np.take_along_axis(targets, best[:, None], axis=1)[:, 0]
    return scores


def group_hits(groups: Sequence[str], hits: Sequence[bool] | NDArray[np.bool_]) -> dict[str, bool]:
    """Return for each group whether all of its items are right (NLVR2: a sentence over all of its picture pairs).

    Example:
        >>> group_hits(["dev-1-0", "dev-1-0", "dev-2-0"], [True, False, True])
        {'dev-1-0': False, 'dev-2-0': True}
    """
    right: dict[str, bool] = {}
    for group, hit in zip(groups, hits, strict=True):
        right[group] = right.get(group, True) and bool(hit)
    return right


CHOICES = 4
"""Answers of a question of VCR, and rationales of an answer."""


def vcr_hits(
    scores: NDArray[np.floating], answers: NDArray[np.integer], rationales: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether each answer (Q to A) and each rationale of the right answer (QA to R) is right.

    Q to AR counts where both are.

    Args:
        scores: [N, 8] of the four answers, then of the four rationales of the right answer; or [N, 20] of the four
            answers, then of four rationales for each of them.
        answers: [N] index of the right answer.
        rationales: [N] index of the right rationale.

    Raises:
        DataError: another number of columns, or a score that is not finite.

    Example:
        >>> answer, rationale = vcr_hits(np.eye(8)[:1] + np.eye(8)[6], np.array([0]), np.array([1]))
        >>> answer.tolist(), rationale.tolist()
        ([True], [False])
    """
    if scores.ndim != 2 or scores.shape[1] not in (2 * CHOICES, CHOICES * (CHOICES + 1)):
        problem = f"has the shape {scores.shape}, expected [N, {2 * CHOICES}] or [N, {CHOICES * (CHOICES + 1)}]"
        raise DataError(problem, where="scores of VCR", remedy="score four answers, then four rationales of each")
    if not np.isfinite(scores).all():
        raise DataError("holds a score that is not finite", where="scores of VCR", remedy="predict again")
    blocks = scores.reshape(len(scores), -1, CHOICES)
    block = 1 + (answers if blocks.shape[1] > 2 else np.zeros_like(answers))
    chosen = blocks[np.arange(len(scores)), block].argmax(axis=1)
    return blocks[:, 0].argmax(axis=1) == answers, chosen == rationales


# -- GQA ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GQAQuestion:
    """What GQA's figures need to know of a question.

    Attributes:
        answer: the right one.
        balanced: whether it is part of the balanced set, which all figures are counted on.
        structural: structural type; "query" questions are open, all others binary.
        group: name of its global answer group, None where it has none.
        entailed: ids of the questions that its answer entails.
        detailed: detailed type, which tells questions after a common attribute.
    """

    answer: str
    balanced: bool = True
    structural: str = ""
    group: str | None = None
    entailed: tuple[str, ...] = ()
    detailed: str = ""


@dataclass(frozen=True, kw_only=True)
class GQAChoices:
    """The answers that a question allows at all, and those that its world makes plausible (``*_choices.json``)."""

    valid: frozenset[str]
    plausible: frozenset[str]


_COMMON = frozenset(("color", "material", "shape"))


def gqa_figures(
    questions: Mapping[str, GQAQuestion],
    predicted: Mapping[str, str],
    *,
    choices: Mapping[str, GQAChoices] | None = None,
) -> dict[str, tuple[float, int]]:
    """Return GQA's official figures as (value, number of questions): percent, but ``distribution`` (less is better).

    ``accuracy``, ``binary`` and ``open`` are shares of right answers to balanced questions. ``consistency`` is the
    share of right answers to what a rightly answered question entails; it needs answers to those questions as well and
    is left out where one is missing. ``validity`` and ``plausibility`` need the choices. ``distribution`` is the
    chi-square distance of the given answers from the right ones in each answer group.

    Args:
        questions: by id; those that are entailed among them, balanced or not.
        predicted: answers by question id.
        choices: by question id, of the official file.

    Raises:
        DataError: a balanced question has no answer, there is none, or one has no choices.
    """
    balanced = {name: question for name, question in questions.items() if question.balanced}
    if not balanced:
        raise DataError("no question is balanced", where="GQA", remedy="give the balanced questions")
    missing = next((name for name in balanced if name not in predicted), None)
    if missing is not None:
        raise DataError(f"question {missing} has no answer", where="GQA", remedy="answer every balanced question")
    right = {name: predicted[name] == question.answer for name, question in balanced.items()}
    kinds = {"binary": [], "open": []}  # type: dict[str, list[bool]]
    for name, question in balanced.items():
        kinds["open" if question.structural == "query" else "binary"].append(right[name])
    shares: dict[str, list[float]] = {"accuracy": [float(hit) for hit in right.values()]}
    shares |= {kind: [float(hit) for hit in hits] for kind, hits in kinds.items() if hits}
    consistent = _consistencies(balanced, questions, predicted, right)
    shares |= {"consistency": consistent} if consistent else {}
    if choices is not None:
        shares |= _choice_shares(balanced, predicted, choices)
    figures = {name: (100 * float(np.mean(values)), len(values)) for name, values in shares.items()}
    distance, count = _distribution(balanced, predicted)
    return figures | ({"distribution": (distance, count)} if count else {})


def _consistencies(
    balanced: Mapping[str, GQAQuestion],
    questions: Mapping[str, GQAQuestion],
    predicted: Mapping[str, str],
    right: Mapping[str, bool],
) -> list[float] | None:
    """Return for each rightly answered question the share of right answers to what it entails; None if some lack."""
    shares = []
    for name, question in balanced.items():
        others = [other for other in question.entailed if other != name]
        if not right[name] or not others:
            continue
        if any(other not in questions or other not in predicted for other in others):
            return None
        shares.append(float(np.mean([predicted[other] == questions[other].answer for other in others])))
    return shares


def _choice_shares(
    balanced: Mapping[str, GQAQuestion], predicted: Mapping[str, str], choices: Mapping[str, GQAChoices]
) -> dict[str, list[float]]:
    missing = next((name for name in balanced if name not in choices), None)
    if missing is not None:
        raise DataError(f"question {missing} has no choices", where="GQA", remedy="give the choices of this split")
    valid, plausible = [], []
    for name, question in balanced.items():
        common = "Common" in question.detailed
        valid.append(float(predicted[name] in (_COMMON if common else choices[name].valid)))
        plausible.append(float(predicted[name] in (_COMMON if common else choices[name].plausible)))
    return {"validity": valid, "plausibility": plausible}


def _distribution(balanced: Mapping[str, GQAQuestion], predicted: Mapping[str, str]) -> tuple[float, int]:
    """Return the mean chi-square distance of the answer groups, weighted by their size, over 100."""
    gold: defaultdict[str, Counter[str]] = defaultdict(Counter)
    given: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, question in balanced.items():
        if question.group is not None:
            gold[question.group][question.answer] += 1
            given[question.group][predicted[name]] += 1
    total = sum(counts.total() for counts in gold.values())
    distance = sum(
        counts.total() * sum((given[group][answer] - count) ** 2 / count for answer, count in counts.items())
        for group, counts in gold.items()
    )
    return (distance / total / 100 if total else 0.0), total
