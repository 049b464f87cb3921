"""BLEU, ROUGE-L and CIDEr-D of captions as the COCO caption programs count them.

Texts are taken as they are, in words between blanks; :func:`plain_words` is what the reference figures were made with
where the Java tokenizer of the programs is not at hand. A figure says which words it was made of.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError

NGRAMS = 4
# What keeps the published BLEU of single captions from being 0.
_TINY, _SMALL = 1e-15, 1e-9
_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0

Ngrams = Counter[tuple[str, ...]]


def plain_words(text: str) -> str:
    """Return a text in lower case with everything but letters a to z and digits as blanks.

    Example:
        >>> plain_words("A man's hat, red.")
        'a man s hat red'
    """
    return " ".join(re.sub(r"[^a-z0-9 ]", " ", text.lower()).split())


def bleu(
    candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return BLEU-1 to BLEU-4 of all captions together [4], and of each one alone [4, N] (Papineni et al., 2002).

    The length that a caption is held against is that of the reference closest to it, the shorter of two.

    Args:
        candidates: N captions.
        references: for each of them what people wrote.

    Raises:
        DataError: counts that differ, or a caption without references.

    Example:
        >>> together, each = bleu(["a red cat sits"], [["a red cat sits"]])
        >>> together.round(6).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    _check(candidates, references)
    right, guessed = np.zeros((NGRAMS, len(candidates))), np.zeros((NGRAMS, len(candidates)))
    lengths, wanted = np.zeros(len(candidates)), np.zeros(len(candidates))
    for column, (candidate, people) in enumerate(zip(candidates, references, strict=True)):
        size = len(candidate.split())
        most: Ngrams = Counter()
        for text in people:
            most |= _ngrams(text)
        for ngram, count in _ngrams(candidate).items():
            right[len(ngram) - 1, column] += min(count, most[ngram])
        guessed[:, column] = [max(0, size - n) for n in range(NGRAMS)]
        lengths[column] = size
        wanted[column] = min((abs(len(text.split()) - size), len(text.split())) for text in people)[1]
    together = _bleu(right.sum(axis=1, keepdims=True), guessed.sum(axis=1, keepdims=True), lengths.sum(), wanted.sum())
    return together[:, 0], _bleu(right, guessed, lengths, wanted)


def _bleu(
    right: NDArray[np.float64], guessed: NDArray[np.float64], length: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    precision = np.cumprod((right + _TINY) / (guessed + _SMALL), axis=0)
    scores: NDArray[np.float64] = precision ** (1 / np.arange(1, NGRAMS + 1)[:, None])
    ratio = (length + _TINY) / (wanted + _SMALL)
    return scores * np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return [N] ROUGE-L of each caption: best precision and best recall over its references (Lin, 2004; beta 1.2).

    Args:
        candidates: N captions.
        references: for each of them what people wrote.

    Raises:
        DataError: counts that differ, or a caption without references.
    """
    _check(candidates, references)
    return np.array([_rouge(one, people) for one, people in zip(candidates, references, strict=True)], np.float64)


def _rouge(candidate: str, references: Sequence[str]) -> float:
    words = candidate.split(" ")  # the programs count an empty caption as one empty word
    shared = [(_common(words, text.split(" ")), len(text.split(" "))) for text in references]
    precision = max(common / len(words) for common, _ in shared)
    recall = max(common / length for common, length in shared)
    if not precision or not recall:
        return 0.0
    return (1 + _ROUGE_BETA**2) * precision * recall / (recall + _ROUGE_BETA**2 * precision)


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    best = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for place, other in enumerate(second, 1):
            above = best[place]
            best[place] = diagonal + 1 if word == other else max(above, best[place - 1])
            diagonal = above
    return best[-1]


@dataclass(frozen=True, eq=False)
class DocumentFrequency:
    """In the captions of how many images each n-gram occurs.

    Attributes:
        images: n-gram -> number of images.
        log_count: logarithm of the number of images.
    """

    images: Ngrams
    log_count: float

    @classmethod
    def of(cls, references: Iterable[Sequence[str]]) -> DocumentFrequency:
        """Count the captions of each image.

        Raises:
            DataError: there is no image.
        """
        images: Ngrams = Counter()
        count = 0
        for people in references:
            images.update({ngram for text in people for ngram in _ngrams(text)})
            count += 1
        if not count:
            raise DataError("no image to count n-grams of", where="CIDEr-D", remedy="give references")
        return cls(images, math.log(count))

    def weigh(self, ngrams: Ngrams) -> tuple[list[dict[tuple[str, ...], float]], list[float], int]:
        """Return the tf-idf weights of each order, their norms, and the length (in bigrams, as published)."""
        weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(NGRAMS)]
        for ngram, count in ngrams.items():
            rare = self.log_count - math.log(max(1.0, self.images.get(ngram, 0)))
            weights[len(ngram) - 1][ngram] = count * rare
        norms = [math.sqrt(sum(weight**2 for weight in order.values())) for order in weights]
        return weights, norms, sum(count for ngram, count in ngrams.items() if len(ngram) == 2)


def cider_d(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, frequency: DocumentFrequency | None = None
) -> NDArray[np.float64]:
    """Return [N] CIDEr-D of each caption (Vedantam et al., 2015); their mean is the figure of papers, also as "CIDEr".

    Args:
        candidates: N captions.
        references: for each of them what people wrote.
        frequency: counted elsewhere, such as on the training set; without it, of these references (of one image alone
            every score is then 0).

    Raises:
        DataError: counts that differ, or a caption without references.
    """
    _check(candidates, references)
    frequency = frequency or DocumentFrequency.of(references)
    scores = []
    for candidate, people in zip(candidates, references, strict=True):
        own = frequency.weigh(_ngrams(candidate))
        others = [frequency.weigh(_ngrams(text)) for text in people]
        scores.append(10 * float(np.mean([_similarity(own, other) for other in others])))
    return np.array(scores, np.float64)


Weighed = tuple[list[dict[tuple[str, ...], float]], list[float], int]


def _similarity(own: Weighed, other: Weighed) -> float:
    """Return the mean over the orders of the clipped cosine, with the penalty on the difference of lengths."""
    penalty = math.exp(-((own[2] - other[2]) ** 2) / (2 * _CIDER_SIGMA**2))
    total = 0.0
    for order in range(NGRAMS):
        theirs, norm = other[0][order], own[1][order] * other[1][order]
        shared = sum(
            min(weight, theirs.get(ngram, 0.0)) * theirs.get(ngram, 0.0) for ngram, weight in own[0][order].items()
        )
        total += shared / norm if norm else shared
    return penalty * total / NGRAMS


def _ngrams(text: str) -> Ngrams:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, NGRAMS + 1) for i in range(len(words) - n + 1))


def _check(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(candidates) != len(references) or not candidates:
        problem = f"{len(candidates)} captions for the references of {len(references)} images"
        raise DataError(problem, remedy="give one caption an image")
    alone = next((row for row, people in enumerate(references) if not people), None)
    if alone is not None:
        raise DataError(f"caption {alone} (from 0) has no references", remedy="leave its image out")
