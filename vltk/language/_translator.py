"""What translates a list of sentences: text to pieces, length-bucketed batches, search, pieces to text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from vltk.errors import UsageError
from vltk.language._search import SEARCH, Decoder, Hypothesis, Search, search
from vltk.language._sentences import named
from vltk.language._subwords import BytePairs, Dictionary, Moses, without_joints
from vltk.language._transformer import EOS, PAD, UNK, DecoderState, TranslationTransformer, padded
from vltk.types import Progress


@dataclass(frozen=True, kw_only=True)
class Bucketing:
    """How sentences are put together, which bounds memory.

    Attributes:
        tokens: source pieces of a batch, padding included; a longer sentence goes alone.
        sentences: sentences of a batch.
        longest: sentences of more pieces are not translated at all.
    """

    tokens: int = 4096
    sentences: int = 64
    longest: int = 400

    def __post_init__(self) -> None:
        if min(self.tokens, self.sentences, self.longest) < 1:
            raise UsageError(f"got {self}", where="batches", remedy="each number is at least 1")

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yield the rows of each batch, the shortest sentences first; those that are too long are in none.

        Example:
            >>> list(Bucketing(tokens=6, longest=5).batches([3, 2, 9, 2, 5]))
            [[1, 3], [0], [4]]
        """
        batch: list[int] = []
        for row in sorted((row for row, n in enumerate(lengths) if n <= self.longest), key=lengths.__getitem__):
            if batch and (len(batch) == self.sentences or (len(batch) + 1) * lengths[row] > self.tokens):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch


BUCKETING = Bucketing()


class Translator(Protocol):
    """Anything that translates sentences from one language into another.

    Attributes:
        source: language of what it takes.
        target: language of what it gives.
        description: which weights, for the record of a store.
    """

    source: str
    target: str
    description: dict[str, Any]

    def translate(
        self,
        texts: Sequence[str],
        *,
        ids: Sequence[str] = (),
        settings: Search = SEARCH,
        bucketing: Bucketing = BUCKETING,
        progress: Progress | None = None,
    ) -> list[list[Hypothesis]]:
        """Return for each text its ``n_best`` translations, best first, none where it is too long.

        Args:
            texts: sentences.
            ids: their names, which decide what sampling draws; by default their numbers.
            settings: how to search.
            bucketing: how batches are made.
            progress: called with the number of sentences just done.

        Raises:
            DataError: a sentence without words.
        """
        ...


class Coding(Protocol):
    """Text to piece ids and back."""

    def encode(self, text: str) -> Sequence[int]:
        """Return the ids of a text's pieces, with their end."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the running text of ids."""
        ...


class SearchTranslator:
    """A translator whose model says what comes next and whose search is ours.

    Args:
        source: language of what it takes.
        target: language of what it gives.
        coding: its pieces.
        decoder: its model.
        description: which weights.
    """

    def __init__(
        self, source: str, target: str, *, coding: Coding, decoder: Decoder, description: dict[str, Any]
    ) -> None:
        self.source, self.target, self.description = source, target, description
        self.coding, self.decoder = coding, decoder

    def translate(
        self,
        texts: Sequence[str],
        *,
        ids: Sequence[str] = (),
        settings: Search = SEARCH,
        bucketing: Bucketing = BUCKETING,
        progress: Progress | None = None,
    ) -> list[list[Hypothesis]]:
        """Translate, see :class:`Translator`."""
        names = named(texts, ids)
        sources = [self.coding.encode(text) for text in texts]
        longest = min(bucketing.longest, self.decoder.positions)
        found: list[list[Hypothesis]] = [[] for _ in texts]
        for rows in replace(bucketing, longest=longest).batches([len(row) for row in sources]):
            batch = search(self.decoder, [sources[row] for row in rows], [names[row] for row in rows], settings)
            for row, hypotheses in zip(rows, batch, strict=True):
                kept = hypotheses[: settings.n_best]
                found[row] = [replace(one, text=self.coding.decode(one.tokens)) for one in kept]
            if progress is not None:
                progress(len(rows))
        return found


class MosesBytePairs:
    """The pieces of a published WMT'19 model.

    Args:
        source: Moses' rules of the source language.
        target: those of the target language.
        pairs: the merges of both.
        source_dictionary: ids of the source pieces.
        target_dictionary: ids of the target pieces.
    """

    def __init__(
        self,
        *,
        source: Moses,
        target: Moses,
        pairs: BytePairs,
        source_dictionary: Dictionary,
        target_dictionary: Dictionary,
    ) -> None:
        self._source, self._target, self._pairs = source, target, pairs
        self.source_dictionary, self.target_dictionary = source_dictionary, target_dictionary

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text's pieces, with their end."""
        return self.source_dictionary.encode(self._pairs.apply(self._source.split(text)))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the running text of target ids."""
        return self._target.join(without_joints(self.target_dictionary.decode(ids)))


class _States:
    def __init__(self, states: Sequence[DecoderState]) -> None:
        self.states = states

    def reorder(self, rows: Tensor) -> None:
        for state in self.states:
            state.reorder(rows)

    def keep(self, sentences: Tensor) -> None:
        for state in self.states:
            state.keep(sentences)


class Ensemble:
    """Several Transformers as one: the mean of their probabilities, as fairseq takes it.

    Args:
        models: at least one, all with the same target pieces.
        device: where they compute.
    """

    first = end = EOS
    unknown = UNK
    forbidden: tuple[int, ...] = (PAD,)
    forced: tuple[int, ...] = ()

    def __init__(self, models: Sequence[TranslationTransformer], device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.models = [model.to(self.device) for model in models]
        self.positions = min(model.config.positions for model in models)

    def start(self, sources: Sequence[Sequence[int]]) -> _States:
        """Encode sentences with each model."""
        return _States([model.start(sources) for model in self.models])

    def step(self, state: _States, tokens: Tensor) -> Tensor:
        """Return [S, W, C] log-probabilities of the next piece."""
        each = [model.step(own, tokens) for model, own in zip(self.models, state.states, strict=True)]
        return self._mean(each)

    def score(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the log-probability of each piece of given translations (forced decoding).

        Args:
            sources: piece ids with their end.
            targets: piece ids with their end.
        """
        with torch.inference_mode():
            scores = self._mean([model(sources, targets) for model in self.models])
            tokens, _ = padded(targets, self.device)
            rows = scores.gather(2, tokens[:, :, None])[:, :, 0].tolist()
        return [row[: len(target)] for row, target in zip(rows, targets, strict=True)]

    def _mean(self, each: list[Tensor]) -> Tensor:
        if len(each) == 1:
            return each[0]
        shift: Tensor = torch.tensor(float(len(each)), device=self.device).log()
        return torch.stack(each).logsumexp(0) - shift
