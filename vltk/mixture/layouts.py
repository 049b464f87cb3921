"""How the texts of an example become one row of word pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vltk.batching import SpecialTokens
from vltk.errors import DataError
from vltk.stores.chained_examples import Examples
from vltk.types import ChoiceTarget, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which texts of an example are read, and in which segments they stand.

    Attributes:
        texts: gives the indices of the texts.
        segments: the segment of each part; the start token stands in the first, each separator in that of its part.
    """

    texts: Callable[[Example], Sequence[int]]
    segments: tuple[int, ...]

    def parts(self, example: Example, where: str) -> list[tuple[int, ...]]:
        """Return the word pieces of the texts that are read.

        Raises:
            DataError: the example has no word pieces, or not the texts that the layout reads.
        """
        if not example.tokens:
            problem = f"example {example.id} has no word pieces"
            raise DataError(problem, where=where, remedy="prepare with --tokenizer")
        return [example.tokens[place].ids for place in self.texts(example)]

    def row(self, parts: Sequence[Sequence[int]], special: SpecialTokens) -> tuple[list[int], list[int]]:
        """Return the framed word pieces and the segment of each."""
        types = [self.segments[0]]
        for segment, part in zip(self.segments, parts, strict=True):
            types += [segment] * (len(part) + 1)
        return special.frame(*parts), types


def _one(example: Example) -> Sequence[int]:
    return (0,)


def _rationalised(example: Example) -> Sequence[int]:
    target = example.target
    if not isinstance(target, ChoiceTarget) or len(example.texts) != 9:
        problem = f"example {example.id} has no right answer and rationale among its {len(example.texts)} texts"
        raise DataError(problem, where="--text-layout vcr", remedy="prepare train.jsonl with --task vcr")
    return (0, 1 + target.answer, 5 + target.rationale)


LAYOUTS: Mapping[str, Layout] = {
    "caption": Layout(texts=_one, segments=(0,)),
    # The published second stage: [CLS] question [SEP] answer [SEP] rationale [SEP], whose separators after question
    # and answer belong to the part before them.
    "vcr": Layout(texts=_rationalised, segments=(0, 2, 3)),
}
"""By name: a caption alone, or VCR's question with its right answer and rationale (second stage of UNITER)."""


def special_tokens(examples: Examples, *, bare: bool = False) -> SpecialTokens:
    """Return the ids that frame the texts of a store.

    Args:
        examples: the store.
        bare: allow a vocabulary that frames nothing, as HGR's words; a joint encoder cannot do without a frame.

    Raises:
        DataError: the store was made without a tokenizer, or with one that frames nothing.
    """
    tokenizer = examples.metadata.tokenizer
    known = set() if tokenizer is None else tokenizer.special_ids.keys() & {"[PAD]", "[CLS]", "[SEP]"}
    if tokenizer is None or not ({"[CLS]", "[SEP]"} <= known or (bare and known == {"[PAD]"})):
        raise DataError("names no [CLS] and [SEP]", where=examples.path, remedy="prepare with --tokenizer")
    return SpecialTokens.of(tokenizer.special_ids)
