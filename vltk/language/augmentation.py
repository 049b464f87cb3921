"""An example store with paraphrases and dependency trees, out of one without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vltk.errors import StoppedEarlyError
from vltk.language.paraphrase import SaysOtherwise
from vltk.language.parsing import Parser, with_pieces
from vltk.language.tokenization import Tokenizer
from vltk.metrics.captioning import bleu, plain_words
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.types import Example, Parse, Progress, Tokens

SAMPLE = 16
COMPARED = 10_000
Sentence = tuple[str, str]
"""Id and text."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to examples.

    Attributes:
        paraphraser: makes paraphrases; without it those that are there stay.
        parser: finds the tree of every text and paraphrase; without it trees of texts that are there stay.
        tokenizer: cuts paraphrases into pieces and tells the word of each piece; None where the examples have no
            pieces.
    """

    paraphraser: SaysOtherwise | None = None
    parser: Parser | None = None
    tokenizer: Tokenizer | None = None

    def augmented(self, examples: Sequence[Example]) -> list[Example]:
        """Return examples with their paraphrases and trees.

        Raises:
            DataError: a text without words, or one that has no tree; with the id of its example.
        """
        done = self._paraphrased(examples) if self.paraphraser is not None else list(examples)
        if self.tokenizer is not None:
            done = [self._tokenised(example, self.tokenizer) for example in done]
        return self._parsed(done, self.parser) if self.parser is not None else done

    def _paraphrased(self, examples: Sequence[Example]) -> list[Example]:
        sentences = [sentence for example in examples for sentence in named_texts(example)]
        paraphraser = self.paraphraser
        if paraphraser is None:
            return list(examples)
        made = iter(paraphraser.paraphrase([text for _, text in sentences], [name for name, _ in sentences]))
        return [
            replace(
                example,
                paraphrases=tuple(next(made) for _ in example.texts),
                paraphrase_tokens=(),
                paraphrase_parses=(),
            )
            for example in examples
        ]

    def _tokenised(self, example: Example, tokenizer: Tokenizer) -> Example:
        pieces = tuple(tuple(tokenizer.tokens(text) for text in own) for own in example.paraphrases)
        return replace(example, paraphrase_tokens=pieces)

    def _parsed(self, examples: Sequence[Example], parser: Parser) -> list[Example]:
        texts = [sentence for example in examples for sentence in named_texts(example)]
        others = [sentence for example in examples for sentence in named_paraphrases(example)]
        sentences = texts + others
        trees = parser.parse([text for _, text in sentences], ids=[name for name, _ in sentences])
        of_texts, of_paraphrases = iter(trees[: len(texts)]), iter(trees[len(texts) :])
        return [self._with_trees(example, of_texts, of_paraphrases) for example in examples]

    def _with_trees(self, example: Example, of_texts: Iterator[Parse], of_paraphrases: Iterator[Parse]) -> Example:
        texts = zip(example.texts, example.tokens or [None] * len(example.texts), strict=True)
        parses = tuple(self._aligned(next(of_texts), text, tokens) for text, tokens in texts)
        pieces = example.paraphrase_tokens or [[None] * len(own) for own in example.paraphrases]
        others = tuple(
            tuple(self._aligned(next(of_paraphrases), text, tokens) for text, tokens in zip(own, cut, strict=True))
            for own, cut in zip(example.paraphrases, pieces, strict=True)
        )
        return replace(example, parses=parses, paraphrase_parses=others)

    def _aligned(self, parse: Parse, text: str, tokens: Tokens | None) -> Parse:
        if tokens is None or self.tokenizer is None:
            return parse
        return with_pieces(parse, text, tokens, self.tokenizer)


def named_texts(example: Example) -> list[Sentence]:
    """Return (id, text) of each text; an example of one text gives it its own id.

    Example:
        >>> named_texts(Example(id="7", image_ids=("1",), texts=("A dog.", "A cat.")))
        [('7/0', 'A dog.'), ('7/1', 'A cat.')]
    """
    if len(example.texts) == 1:
        return [(example.id, example.texts[0])]
    return [(f"{example.id}/{number}", text) for number, text in enumerate(example.texts)]


def named_paraphrases(example: Example) -> list[Sentence]:
    """Return (id, text) of each paraphrase: the id of its text, and its number."""
    names = [name for name, _ in named_texts(example)]
    return [
        (f"{name}/paraphrase-{number}", text)
        for name, own in zip(names, example.paraphrases, strict=False)
        for number, text in enumerate(own)
    ]


@dataclass(frozen=True, kw_only=True)
class Augmented:
    """What :func:`augment_examples` wrote.

    Attributes:
        examples: how many the store holds.
        made: how many of them this call made.
        texts: how many texts they have.
        paraphrases: how many paraphrases their texts have.
        parsed: texts and paraphrases with a tree.
        words: words of these trees.
        changed: share of texts that have a paraphrase in other words, None without paraphrases.
        bleu_4: BLEU-4 of the paraphrases against their texts, of the first 10,000 texts; lower says more changed.
    """

    examples: int
    made: int
    texts: int
    paraphrases: int
    parsed: int
    words: int
    changed: float | None = None
    bleu_4: float | None = None


def augment_examples(
    store: ExampleStore,
    out: Path,
    metadata: ExampleMetadata,
    augmentation: Augmentation,
    *,
    chunk_size: int = 256,
    limit: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Augmented:
    """Write the augmented examples of a store into another one, in their order; the same call again resumes.

    Args:
        store: the examples.
        out: folder of the store to write.
        metadata: what the new store says about itself; work that was begun with another one is refused.
        augmentation: what is done to each example.
        chunk_size: examples that are worked on together and committed together; a crash loses no more.
        limit: only the first N examples.
        overwrite: begin anew where a store stands.
        progress: called with the number of examples just done.
        stop: asked between chunks; when it says so, what is done is kept.

    Raises:
        StoppedEarlyError: ``stop`` said so; the same call resumes.
        DataError: other settings than the store was begun with, or an example that cannot be augmented.
    """
    made = 0
    total = len(store) if limit is None else min(limit, len(store))
    with ExampleStore.create(out, metadata, overwrite=overwrite) as writer:
        for chunk in _chunks(store, total, chunk_size):
            todo = [example for example in chunk if example.id not in writer]
            for example in augmentation.augmented(todo) if todo else ():
                writer.put(example)
            if todo:
                writer.commit()
                made += len(todo)
            if progress is not None:
                progress(len(chunk))
            if stop() and len(writer) < total:
                problem = f"stopped with {len(writer)} of {total} examples done"
                raise StoppedEarlyError(problem, where=out, remedy="the same command goes on from there")
    return _summed(ExampleStore.open(out), made)


def _chunks(store: ExampleStore, total: int, size: int) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    for number, example in enumerate(store):
        if number == total:
            break
        chunk.append(example)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _summed(store: ExampleStore, made: int) -> Augmented:
    texts = paraphrases = parsed = words = changed = 0
    pairs: list[tuple[str, str]] = []
    for example in store:
        trees = [*example.parses, *(tree for own in example.paraphrase_parses for tree in own)]
        texts += len(example.texts)
        paraphrases += sum(map(len, example.paraphrases))
        parsed += sum(bool(tree.words) for tree in trees)
        words += sum(len(tree.words) for tree in trees)
        for text, own in zip(example.texts, example.paraphrases, strict=False):
            said = plain_words(text)
            others = [plain_words(other) for other in own]
            changed += any(other != said for other in others)
            if texts <= COMPARED:
                pairs += [(other, said) for other in others]
    bleu_4 = bleu([other for other, _ in pairs], [[said] for _, said in pairs])[0][3] if pairs else None
    return Augmented(
        examples=len(store),
        made=made,
        texts=texts,
        paraphrases=paraphrases,
        parsed=parsed,
        words=words,
        changed=changed / texts if paraphrases else None,
        bleu_4=None if bleu_4 is None else float(bleu_4),
    )


def seconds_each(store: ExampleStore, augmentation: Augmentation, *, sample: int = SAMPLE) -> float:
    """Return how long one example takes, by a few from everywhere in the store; nothing is written."""
    ids = store.ids()
    chosen = (
        [store.get(ids[number * len(ids) // sample]) for number in range(sample)] if len(ids) > sample else [*store]
    )
    start = time.perf_counter()
    augmentation.augmented(chosen)
    return (time.perf_counter() - start) / max(1, len(chosen))
