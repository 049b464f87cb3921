"""HGR's words: split on whitespace, cut after thirty, without a frame."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from vltk.batching import SpecialTokens
from vltk.errors import DataError
from vltk.language.preparation import load_text_tokenizer
from vltk.language.unframed_vocabulary import UnframedVocabulary, read_unframed_vocabulary
from vltk.mixture import special_tokens

IDS = {"<BOS>": 0, "<EOS>": 1, "<UNK>": 2, "a": 3, "dog": 4, "runs": 5}


def test_words_are_taken_as_they_stand_and_cut_after_thirty() -> None:
    vocabulary = UnframedVocabulary(IDS)
    assert vocabulary.tokens("a Dog runs.").ids == (3, 2, 2)
    assert vocabulary.tokens("a dog " * 20).ids == (3, 4) * 15


def test_a_file_of_plain_ids_is_told_from_other_vocabularies(tmp_path: Path) -> None:
    path = tmp_path / "word2int.json"
    path.write_text(json.dumps(IDS))
    found = load_text_tokenizer(str(path))
    assert isinstance(found, UnframedVocabulary)
    assert found.description().special_ids == {"[PAD]": 1, "[UNK]": 2}
    assert (len(found), found.description().vocab_size) == (6, 6)
    path.write_text(json.dumps({"word2idx": IDS}))
    assert read_unframed_vocabulary(path) is None
    path.write_text("{")
    assert read_unframed_vocabulary(path) is None


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [({"a": 0, "b": 2, "c": 3, "d": 4}, "numbers its words with gaps"), ({"a": 0, "b": 1}, "holds 2 words")],
)
def test_ids_that_are_no_vocabulary(ids: dict[str, int], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        UnframedVocabulary(ids)


def test_only_models_that_embed_texts_alone_may_read_them() -> None:
    told = UnframedVocabulary(IDS).description()
    store = SimpleNamespace(metadata=SimpleNamespace(tokenizer=told), path="train.lmdb")
    assert special_tokens(store, bare=True) == SpecialTokens(start=-1, separator=-1, padding=1)
    with pytest.raises(DataError, match=r"train\.lmdb: names no \[CLS\] and \[SEP\]"):
        special_tokens(store)
