"""Caption scores against the published programs on real captions, and against loops written from the definitions."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.errors import DataError
from vltk.metrics.captioning import DocumentFrequency, bleu, cider_d, plain_words, rouge_l


def test_real_captions_of_coco(shared: Path) -> None:
    folder = shared / "data/coco"
    people: dict[int, list[str]] = defaultdict(list)
    content = json.loads((folder / "annotations_5k/captions_val2017.json").read_text("utf-8"))
    for row in content["annotations"]:
        people[row["image_id"]].append(plain_words(row["caption"]))
    rows = json.loads((folder / "results/captions_val2014_fakecap_results.json").read_text("utf-8"))
    candidates, references = [plain_words(row["caption"]) for row in rows], [people[row["image_id"]] for row in rows]
    assert len(rows) == 105
    assert bleu(candidates, references)[0].round(6).tolist() == [0.584473, 0.396112, 0.27474, 0.19298]
    assert round(float(cider_d(candidates, references).mean()), 6) == 0.616536
    assert round(float(rouge_l(candidates, references).mean()), 6) == 0.406785


TEXT = st.lists(st.sampled_from("abcd"), min_size=1, max_size=6).map(" ".join)
CAPTIONS = st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=3)), min_size=1, max_size=4)


def subsequences(words: list[str]) -> set[tuple[str, ...]]:
    return {part for size in range(len(words) + 1) for part in combinations(words, size)}


@settings(max_examples=60, deadline=None)
@given(CAPTIONS)
def test_rouge_equals_trying_every_subsequence(pairs: list[tuple[str, list[str]]]) -> None:
    found = rouge_l([one for one, _ in pairs], [people for _, people in pairs])
    for score, (candidate, people) in zip(found, pairs, strict=True):
        own = subsequences(candidate.split())
        common = [max(map(len, own & subsequences(text.split()))) for text in people]
        precision = max(common) / len(candidate.split())
        recall = max(c / len(text.split()) for c, text in zip(common, people, strict=True))
        both = precision and recall
        slow = 2.44 * precision * recall / (recall + 1.44 * precision) if both else 0.0
        assert score == pytest.approx(slow)


@settings(max_examples=60, deadline=None)
@given(CAPTIONS)
def test_cider_equals_its_definition(pairs: list[tuple[str, list[str]]]) -> None:
    references = [people for _, people in pairs]

    def grams(text: str, n: int) -> Counter[tuple[str, ...]]:
        words = text.split()
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    def vector(text: str, n: int) -> dict[tuple[str, ...], float]:
        seen = {g: sum(any(g in grams(t, n) for t in people) for people in references) for g in grams(text, n)}
        return {g: c * (math.log(len(pairs)) - math.log(max(1, seen[g]))) for g, c in grams(text, n).items()}

    for score, (candidate, people) in zip(cider_d([c for c, _ in pairs], references), pairs, strict=True):
        total = 0.0
        for text in people:
            gap = len(candidate.split()) - len(text.split())
            if min(len(candidate.split()), len(text.split())) == 0:
                continue
            bigrams = max(0, len(candidate.split()) - 1) - max(0, len(text.split()) - 1)
            assert bigrams == gap
            for n in range(1, 5):
                a, b = vector(candidate, n), vector(text, n)
                norm = math.sqrt(sum(v * v for v in a.values())) * math.sqrt(sum(v * v for v in b.values()))
                shared = sum(min(v, b.get(g, 0)) * b.get(g, 0) for g, v in a.items())
                total += (shared / norm if norm else shared) * math.exp(-(gap**2) / 72) / 4
        assert score == pytest.approx(10 * total / len(people), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(CAPTIONS)
def test_bleu_one_equals_its_definition(pairs: list[tuple[str, list[str]]]) -> None:
    right = size = wanted = 0
    for candidate, people in pairs:
        counts = Counter(candidate.split())
        right += sum(min(c, max(text.split().count(word) for text in people)) for word, c in counts.items())
        size += len(candidate.split())
        wanted += min((len(text.split()) for text in people), key=lambda n: (abs(n - len(candidate.split())), n))
    brevity = math.exp(1 - wanted / size) if size < wanted else 1.0
    together, each = bleu([one for one, _ in pairs], [people for _, people in pairs])
    assert together[0] == pytest.approx(brevity * right / size, abs=1e-6)
    assert each.shape == (4, len(pairs))


def test_one_image_alone_has_no_rare_words() -> None:
    assert cider_d(["a b"], [["a b"]]).tolist() == [0.0]
    elsewhere = DocumentFrequency.of([["c"], ["d"], ["a b c d"]])
    assert cider_d(["a b c d"], [["a b c d"]], frequency=elsewhere)[0] == pytest.approx(10)


def test_what_cannot_be_scored() -> None:
    with pytest.raises(DataError, match="2 captions for the references of 1 images"):
        bleu(["a", "b"], [["a"]])
    with pytest.raises(DataError, match=r"caption 1 \(from 0\) has no references"):
        cider_d(["a", "b"], [["a"], []])
    with pytest.raises(DataError, match="no image to count"):
        DocumentFrequency.of([])
    with pytest.raises(DataError, match="0 captions"):
        rouge_l([], [])
