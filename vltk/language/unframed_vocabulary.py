"""The words of video-text retrieval as HGR reads them: ``annotation/RET/word2int.json``, a plain ``{word: id}``.

Captions are split on whitespace as they are, cut after 30 words, and get no start and no end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vltk.errors import DataError
from vltk.stores.examples import TokenizerDescription
from vltk.types import Example, Tokens

END, UNKNOWN = 1, 2
"""Ids, as published: 0 begins a text and 1 ends it in models that write; in retrieval 1 pads."""
MOST_WORDS = 30


class UnframedVocabulary:
    """A tokenizer of whole words without a frame.

    Args:
        ids: by word, without gaps; the first three are special.
        name: what the vocabulary is called, for the record of a store.

    Raises:
        DataError: ids with gaps, or no word.

    Example:
        >>> vocabulary = UnframedVocabulary({"<BOS>": 0, "<EOS>": 1, "<UNK>": 2, "a": 3, "dog": 4})
        >>> vocabulary.tokens("a dog runs")
        Tokens(ids=(3, 4, 2), words=(0, 1, 2))
    """

    lower_case = False

    def __init__(self, ids: Mapping[str, int], *, name: str = "") -> None:
        where = f"vocabulary {name}"
        if sorted(ids.values()) != list(range(len(ids))):
            raise DataError("numbers its words with gaps", where=where, remedy="get an undamaged copy")
        if len(ids) <= UNKNOWN + 1:
            raise DataError(f"holds {len(ids)} words", where=where, remedy="name HGR's word2int.json")
        self.ids, self.name = dict(ids), name
        self.special_ids = {"[PAD]": END, "[UNK]": UNKNOWN}

    def __len__(self) -> int:
        return len(self.ids)

    def tokens(self, text: str) -> Tokens:
        """Return the ids of a text's first words, each with its number."""
        words = text.split()[:MOST_WORDS]
        return Tokens(ids=tuple(self.ids.get(word, UNKNOWN) for word in words), words=tuple(range(len(words))))

    def tokenised(self, example: Example) -> Example:
        """Return the example with the ids of each of its texts."""
        return replace(example, tokens=tuple(self.tokens(text) for text in example.texts))

    def description(self) -> TokenizerDescription:
        """Return what a store records about the vocabulary."""
        content = "".join(f"{word}\n" for word in sorted(self.ids, key=self.ids.__getitem__))
        digest = hashlib.sha256(content.encode()).hexdigest()
        return TokenizerDescription(
            name=self.name, vocab_size=len(self), vocab_sha256=digest, special_ids=dict(self.special_ids)
        )


def read_unframed_vocabulary(path: Path) -> UnframedVocabulary | None:
    """Read a plain ``{word: id}``; None where the file is something else.

    Raises:
        DataError: its ids have gaps.
    """
    if path.suffix != ".json":
        return None
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    plain = isinstance(held, dict) and held and all(type(number) is int for number in held.values())
    return UnframedVocabulary(held, name=path.name) if plain else None
