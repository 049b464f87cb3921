"""Vocabularies of whole words: the authors' files, their splitting of captions, and what is refused."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from vltk.cli import main
from vltk.errors import DataError
from vltk.language.word_vocabulary import (
    SPECIAL_WORDS,
    WordVocabulary,
    build_word_vocabulary,
    read_word_vocabulary,
    words_of,
    write_word_vocabulary,
)
from vltk.stores.examples import ExampleStore

WORDS = [*SPECIAL_WORDS, "a", "dog", "runs", ".", "'s"]


# What nltk 3.9's NLTKWordTokenizer gives for the lower-cased sentence.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two dogs play.", "two dogs play ."),
        ("A man's hat isn't red, it's blue!", "a man 's hat is n't red , it 's blue !"),
        ('A sign says "stop" (in English).', "a sign says `` stop '' ( in english ) ."),
        ("The time is 10:30, and costs $5,000.", "the time is 10:30 , and costs $ 5,000 ."),
        ("dogs' toys; cats & birds...", "dogs ' toys ; cats & birds ..."),
        ("He cannot see -- it is T.V.", "he can not see -- it is t.v ."),
        ("by machine ..", "by machine .."),
    ],
)
def test_captions_are_split_like_nltk_splits_them(text: str, expected: str) -> None:
    assert words_of(text) == expected.split()


def test_every_sentence_of_a_caption_ends() -> None:
    assert words_of("A dog runs. It is red.") == ["a", "dog", "runs", ".", "it", "is", "red", "."]
    assert words_of("St. Patrick's day on T.V. today.") == ["st.", "patrick", "'s", "day", "on", "t.v.", "today", "."]


def vocabulary_object(words: list[str]) -> tuple[Any, types.ModuleType]:
    """Return the ``vocab.Vocabulary`` that VSE++ pickles."""
    module = types.ModuleType("vocab")
    kind = type("Vocabulary", (), {"__module__": "vocab"})
    module.Vocabulary = kind
    made = kind()
    made.word2idx = {word: number for number, word in enumerate(words)}
    made.idx2word = dict(enumerate(words))
    made.idx = len(words)
    return made, module


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickled_vocabularies_are_read_and_nothing_of_them_runs(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, module = vocabulary_object(WORDS)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "vocab", module)
        (tmp_path / "vocab.pkl").write_bytes(pickle.dumps(made, protocol))
    found = read_word_vocabulary(tmp_path / "vocab.pkl")
    assert found.vocabulary == (*WORDS, "<mask>")
    assert "vocab" not in sys.modules


def test_json_out_and_in_again(tmp_path: Path) -> None:
    ours = WordVocabulary(WORDS, name="x")
    write_word_vocabulary(tmp_path / "v.json", ours)
    written = json.loads((tmp_path / "v.json").read_text())
    assert (written["idx"], written["idx2word"]["5"]) == (len(WORDS), "dog")
    again = read_word_vocabulary(tmp_path / "v.json")
    assert again.vocabulary == ours.vocabulary
    assert again.description().vocab_sha256 == ours.description().vocab_sha256


def test_words_know_their_place_and_the_unknown_is_one() -> None:
    tokens = WordVocabulary(WORDS).tokens("A dog's  cat runs.")
    assert tokens.ids == (4, 5, 8, 3, 6, 7)
    assert tokens.words == (0, 1, 1, 2, 3, 3)


def test_a_vocabulary_of_ones_own() -> None:
    assert build_word_vocabulary(["a dog", "the dog", "a cat"], least=2) == (*SPECIAL_WORDS, "a", "dog")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[1]", "no word2idx"),
        ('{"word2idx": {"a": "x"}}', "no word2idx"),
        ('{"word2idx": {"<pad>": 0, "<start>": 2}}', "numbers its words with gaps"),
        ('{"word2idx": {"a": 0, "b": 1}}', "begins with a, b, not with <pad>"),
        ("{", "is not JSON"),
    ],
)
def test_other_files_are_refused(content: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(DataError, match=problem):
        read_word_vocabulary(tmp_path / "v.json")


def test_a_word_twice_is_refused() -> None:
    with pytest.raises(DataError, match="holds 'dog' 2 times"):
        WordVocabulary([*WORDS, "dog"])


def test_prepare_takes_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_word_vocabulary(tmp_path / "v.json", WordVocabulary(WORDS))
    (tmp_path / "captions.json").write_text(json.dumps({"1.jpg": ["A dog runs."]}))
    arguments = ["--caption-lists", str(tmp_path / "captions.json"), "--tokenizer", str(tmp_path / "v.json")]
    assert main(["prepare", "--task", "flickr30k", *arguments, "--out", str(tmp_path / "e.lmdb"), "--json"]) == 0
    capsys.readouterr()
    store = ExampleStore.open(tmp_path / "e.lmdb")
    assert store.metadata.tokenizer.special_ids == {
        "[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "[MASK]": 9, "<mask>": 9}  # fmt: skip
    assert next(iter(store)).tokens[0].ids == (4, 5, 6, 7)
