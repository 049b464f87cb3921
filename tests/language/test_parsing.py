"""Parsing: batches, sentences in a text, words of pieces, and every way that models can be wrong."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.errors import DataError, UsageError, VltkError
from vltk.language.parsing import Chunking, StanzaParser, joined, with_pieces, word_spans
from vltk.language.tokenization import SPECIAL_TOKENS, Tokenizer, build_vocabulary
from vltk.types import Parse

TEXTS = ["A man is riding a horse.", "Dogs run.", "The woman in the red dress, isn't she big?", "A cat on a sofa."]


@pytest.fixture(scope="module")
def models(shared):
    return shared / "golden/stanza_tiny"


@pytest.fixture(scope="module")
def parser(models):
    return StanzaParser(models)


def test_chunks_and_their_order_change_no_tree(models, parser):
    small = StanzaParser(models, chunking=Chunking(words=7))
    assert small.parse(TEXTS) == parser.parse(TEXTS[::-1])[::-1] == [parser.parse([text])[0] for text in TEXTS]


def test_no_chunk_holds_more_words_than_allowed():
    lengths = [3, 900, 4, 40, 5, 2, 5]
    chunks = list(Chunking(words=9, longest=100).chunks(lengths))
    assert chunks == [[5, 0, 2], [4], [6], [3]]  # 900 is too long, 40 goes alone


def test_a_text_that_is_too_long_gets_an_empty_tree_and_the_rest_is_parsed(parser):
    done = []
    found = parser.parse(["dog " * 20_000, "Dogs run."], progress=done.append)
    assert found[0] == Parse(words=(), heads=(), relations=())
    assert found[1].words == ("Dogs", "run", ".")
    assert done == [1]


def test_two_sentences_become_one_tree(parser):
    (found,) = parser.parse(["Two dogs run. A man is riding a horse."])
    assert found.heads.count(0) == 1
    first, second = parser.parse(["Two dogs run.", "A man is riding a horse."])
    assert found == joined([first, second])
    assert [relation for relation in found.relations if relation == "parataxis"] == ["parataxis"]


def test_given_words_stay_as_they_are(models):
    found = StanzaParser(models, pretokenised=True).parse(["can't stop , really", "a ."])
    assert [one.words for one in found] == [("can't", "stop", ",", "really"), ("a", ".")]


def test_a_sentence_without_words_is_named(parser):
    with pytest.raises(DataError, match=r"^sentence 7#1: has no words; leave it out, or write its text$"):
        parser.parse(["A dog.", "\n"], ids=["7#0", "7#1"])


def test_models_of_another_language_are_refused(models):
    with pytest.raises(DataError, match="stanza_tiny: holds parser models of en, asked for is 'de'; known are en"):
        StanzaParser(models, "de")


def test_a_folder_without_models_says_how_to_get_some(tmp_path):
    with pytest.raises(DataError, match=r"holds no resources\.json; give the folder that stanza\.download"):
        StanzaParser(tmp_path)
    (tmp_path / "resources.json").write_text("{}")
    with pytest.raises(DataError, match="holds parser models of none, asked for is 'en'"):
        StanzaParser(tmp_path)
    (tmp_path / "resources.json").write_text("{")
    with pytest.raises(DataError, match=r"resources\.json: cannot be read"):
        StanzaParser(tmp_path)


def test_missing_and_damaged_models_are_one_sentence(models, tmp_path):
    folder = tmp_path / "stanza"
    shutil.copytree(models, folder, copy_function=shutil.copyfile)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    (folder / "en/depparse/tiny.pt").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"stanza: its models cannot be loaded \("):
        StanzaParser(folder)
    shutil.rmtree(folder / "en/depparse")
    with pytest.raises(DataError, match="en: lacks models for depparse"):
        StanzaParser(folder)


def test_without_stanza_the_install_line_is_given(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "stanza", None)
    sentence = r'^parsing needs Stanza; pip install "vltk-toolkit\[parse\]", or give --conllu files$'
    with pytest.raises(VltkError, match=sentence):
        StanzaParser(models)


def test_chunks_of_nothing_are_refused():
    with pytest.raises(UsageError, match="each number is at least 1"):
        Chunking(words=0)


def test_the_description_tells_the_models(models, parser):
    assert json.loads(json.dumps(parser.description)) == parser.description
    assert parser.description["language"] == "en"
    assert list(parser.description["files"]) == ["en"]


# -- words of pieces ---------------------------------------------------------------------------------------------------


def tokenizer_of(*pieces):
    return Tokenizer([*SPECIAL_TOKENS, *pieces])


def flat(*words):
    """A tree in which every word hangs on the first."""
    return Parse(words=words, heads=(0, *[1] * (len(words) - 1)), relations=("root", *["dep"] * (len(words) - 1)))


def pieces_of(text, parse, tokenizer):
    tokens = tokenizer.tokens(text)
    return list(zip(tokenizer.pieces(tokens.ids), with_pieces(parse, text, tokens, tokenizer).pieces, strict=True))


def test_pieces_find_the_word_that_their_middle_stands_in():
    tokenizer = tokenizer_of("they", "don", "'", "t", "walk", "##ing", ".")
    parse = flat("They", "do", "n't", "walking", ".")
    assert pieces_of("They don't walking.", parse, tokenizer) == [
        ("they", 0),
        ("don", 1),
        ("'", 2),
        ("t", 2),
        ("walk", 3),
        ("##ing", 3),
        (".", 4),
    ]


def test_a_multiword_token_that_is_spelled_otherwise_keeps_the_words_around_it_in_place():
    # French "du" is the words "de" and "le".
    parse = flat("loin", "de", "le", "parc")
    assert word_spans("loin du parc", parse.words) == [(0, 4), (5, 7), (5, 7), (8, 12)]
    tokenizer = tokenizer_of("loin", "du", "parc")
    found = pieces_of("loin du parc", parse, tokenizer)
    assert found == [("loin", 0), ("du", 1), ("parc", 3)]


def test_unknown_pieces_and_accents_keep_their_words():
    tokenizer = tokenizer_of("cafe", "a", ".")
    assert pieces_of("a Café zebra.", flat("a", "Café", "zebra", "."), tokenizer) == [
        ("a", 0),
        ("cafe", 1),
        ("[UNK]", 2),
        (".", 3),
    ]


letters = st.text("abcXY.é'", min_size=1, max_size=6)


LETTERS = Tokenizer(build_vocabulary(["abcxy . é ' word"]))


@given(st.lists(letters, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_where_words_are_those_between_spaces_each_piece_gets_its_own(words):
    tokenizer = LETTERS
    text = " ".join(words)
    found = with_pieces(flat(*words), text, tokenizer.tokens(text), tokenizer)
    assert list(found.pieces) == list(tokenizer.tokens(text).words)


def test_pieces_of_another_text_are_refused():
    tokenizer = tokenizer_of("a", "dog")
    with pytest.raises(DataError, match="text 'a': has a piece of word 1 and 1 words; tokenise it again"):
        with_pieces(flat("a"), "a", tokenizer.tokens("a dog"), tokenizer)
