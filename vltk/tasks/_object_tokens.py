"""References to objects as tokens of their own (VCR; UNITER's vocabulary grows by 81 word pieces for it).

One token stands for each name of an object that training knows, and one for all other names: 81 for the 80 classes of
COCO. It takes the place of the word pieces that name the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from vltk.errors import DataError, UsageError
from vltk.tasks._prediction import examples_of, pieces_of
from vltk.tasks._task import Split
from vltk.types import Example, Phrase

_STD = 0.02


class ObjectTokens:
    """The tokens that stand for objects.

    Args:
        names: of objects, in the order of their tokens.
        first: id of the first token, which is the number of word pieces without them.
    """

    def __init__(self, names: tuple[str, ...], first: int) -> None:
        self.names, self.first = names, first
        self._ids = {name: first + place for place, name in enumerate(names)}

    @classmethod
    def learnt(cls, split: Split) -> ObjectTokens:
        """Return tokens for the names that the references of a training split have.

        Raises:
            DataError: there is no reference.
        """
        names = {kind for example in examples_of(split) for phrase in example.phrases for kind in phrase.kinds[:1]}
        if not names:
            remedy = "prepare with --references names, or leave --object-tokens out"
            raise DataError("has no reference to an object", where=split.name, remedy=remedy)
        tokenizer = split.examples.metadata.tokenizer
        return cls(tuple(sorted(names)), 0 if tokenizer is None else tokenizer.vocab_size)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> ObjectTokens:
        """Return the tokens that a trained task kept."""
        return cls(tuple(kept["objects"]), kept["first_object"])

    def describe(self) -> dict[str, Any]:
        """Return what a trained task keeps."""
        return {"objects": list(self.names), "first_object": self.first}

    def __len__(self) -> int:
        return len(self.names) + 1

    def pieces(self, example: Example) -> list[tuple[int, ...]]:
        """Return the word pieces of each text with a token in the place of each reference."""
        references: dict[int, dict[int, Phrase]] = {}
        for phrase in example.phrases:
            for word in range(phrase.start, phrase.end):
                references.setdefault(phrase.text, {})[word] = phrase
        pieces_of(example)  # says so where there are none
        return [self._text(example, number, references.get(number, {})) for number in range(len(example.tokens))]

    def _text(self, example: Example, number: int, references: Mapping[int, Phrase]) -> tuple[int, ...]:
        found: list[int] = []
        before: Phrase | None = None
        tokens = example.tokens[number]
        for piece, word in zip(tokens.ids, tokens.words, strict=True):
            phrase = references.get(word)
            if phrase is None:
                found.append(piece)
            elif phrase is not before:
                found.append(self._ids.get(phrase.kinds[0] if phrase.kinds else "", self.first + len(self.names)))
            before = phrase
        return tuple(found)

    def extend(self, model: nn.Module) -> None:
        """Give an encoder rows for the tokens, as published: N(0, 0.02); one that has them stays as it is.

        Raises:
            UsageError: the encoder has another number of word pieces, or no table of words.
        """
        whole, encoder = self.first + len(self), cast(Any, model)
        embedding = getattr(encoder, "text_embedding", None)
        if embedding is None or embedding.word.num_embeddings not in (self.first, whole):
            problem = f"{type(model).__name__} has no table of {self.first} word pieces to extend"
            raise UsageError(problem, where="--object-tokens", remedy="leave it out, or use a UNITER")
        old = embedding.word
        if old.num_embeddings == whole:
            return
        grown = nn.Embedding(whole, old.embedding_dim)
        with torch.no_grad():
            grown.weight.normal_(std=_STD)
            grown.weight[: self.first] = old.weight
        embedding.word = grown.to(old.weight.device)
        encoder.config = replace(encoder.config, vocabulary=whole)
