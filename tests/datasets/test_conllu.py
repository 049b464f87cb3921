from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vltk.datasets import conllu
from vltk.errors import DataError


def row(index, word="w", head="0", relation="root", tag="NOUN"):
    return "\t".join([str(index), word, "_", tag, "_", "_", str(head), relation, "_", "_"])


def sentence(*rows, sent_id="s1"):
    return "\n".join([f"# sent_id = {sent_id}", "# text = It's on", *rows]) + "\n\n"


def test_multiword_tokens_and_empty_nodes_are_passed_over(write):
    text = sentence(
        row("1-2", "It's", "_", "_"),
        row(1, "It", 3, "nsubj", "PRON"),
        row(2, "'s", 3, "cop"),
        row("2.1", "x", "_", "_"),
        row(3, "on"),
    )
    (found,) = conllu.read_sentences(write(text, "a.conllu"))
    assert found.parse.words == ("It", "'s", "on")
    assert found.parse.heads == (3, 3, 0)
    assert found.parse.relations == ("nsubj", "cop", "root")
    assert (found.id, found.text, found.tags) == ("s1", "It's on", ("PRON", "NOUN", "NOUN"))
    assert (found.multiword_tokens, found.empty_nodes) == (1, 1)


def test_a_file_without_comments_and_without_last_blank_line_is_read(write):
    (first, second) = conllu.read_sentences(write(f"{row(1, 'a')}\n\n\n{row(1, 'b')}", "a.conllu"))
    assert (first.id, first.text, second.id, second.text) == ("line-1", "a", "line-4", "b")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1\tw\t_"], r"a\.conllu, line 3: has 3 columns, expected 10 separated by tabs"),
        ([row(2)], "line 3: numbers a word '2', expected 1"),
        ([row(1), row(1)], "line 4: numbers a word '1', expected 2"),
        ([row(1, head="_")], "line 3: has head '_', expected a number; parse the sentence"),
        ([row(1, head=2), row(2, head=1)], r"line 3: parse of 'w w' has 0 roots \(words \[\]\); a tree has one"),
        ([row(1), row(2)], r"line 3: parse of 'w w' has 2 roots \(words \[1, 2\]\)"),
        ([row(1), row(2, head=3), row(3, head=2)], "line 3: parse of 'w w w' has a cycle through word 2"),
        ([row(1), row(2, head=9)], "line 3: parse of 'w w' has head 9 of 2 words"),
    ],
)
def test_broken_trees_name_file_and_line(write, rows, message):
    with pytest.raises(DataError, match=message):
        list(conllu.read_sentences(write(sentence(*rows), "a.conllu")))


def crosses(heads):
    """Projectivity from its definition: between a word and its head stand only descendants of the head."""

    def above(word):
        while word:
            word = heads[word - 1]
            yield word

    return any(
        head not in above(between)
        for word, head in enumerate(heads, 1)
        for between in range(min(word, head) + 1, max(word, head))
    )


@st.composite
def trees(draw):
    order = draw(st.permutations(range(1, draw(st.integers(1, 8)) + 1)))
    heads = [0] * len(order)
    for place, word in itertools.islice(enumerate(order), 1, None):
        heads[word - 1] = order[draw(st.integers(0, place - 1))]
    return heads


@given(trees())
def test_projective_is_what_the_definition_says(heads):
    assert conllu.is_projective(heads) is not crosses(heads)


def test_the_published_treebank(data):
    found = list(conllu.read_sentences(data / "ud_english_ewt/en_ewt-ud-dev.conllu"))
    relations = Counter(relation for item in found for relation in item.parse.relations)
    tags = Counter(tag for item in found for tag in item.tags)
    assert len(found) == len({item.id for item in found}) == 2001
    assert sum(len(item.parse.words) for item in found) == 25147
    assert sum(item.multiword_tokens for item in found) == 359
    assert sum(item.empty_nodes for item in found) == 4
    assert sum(not conllu.is_projective(item.parse.heads) for item in found) == 31
    assert (len(relations), relations["root"], relations["nsubj"]) == (49, 2001, 1958)
    assert len(tags) == 17
    assert tags.most_common(3) == [("NOUN", 4210), ("PUNCT", 3075), ("VERB", 2707)]


def test_a_treebank_finds_trees_by_id_or_by_text(write):
    first = sentence(row(1, "It's"), row(2, "on", 1, "dep"), sent_id="s1")
    second = sentence(row(1, "It's", 2, "dep"), row(2, "on"), sent_id="s2")
    bank = conllu.Treebank(conllu.read_sentences(write(first + second, "a.conllu")), {"kind": "CoNLL-U"})
    one, two, by_text = bank.parse(["It's on", " It's  on", "It's on"], ids=["s1", "s2", "other"])
    assert (one.heads, two.heads, by_text.heads) == ((0, 1), (2, 0), (0, 1))
    assert bank.parse(["It's on"]) == [one]
    with pytest.raises(
        DataError, match=r"sentence s1: has the text 'It is', its tree is of \"It's on\"; parse the texts"
    ):
        bank.parse(["It is"], ids=["s1"])
    with pytest.raises(DataError, match="sentence x: has no tree: 'It is'; add it to --conllu, or give --parser"):
        bank.parse(["It is"], ids=["x"])
    with pytest.raises(DataError, match="sentence x: has no words"):
        bank.parse([" "], ids=["x"])


def test_an_id_that_two_sentences_share_tells_nothing(write):
    texts = [sentence(row(1, "a")).replace("It's on", text) for text in ("a", "b")]
    bank = conllu.Treebank(conllu.read_sentences(write("".join(texts), "a.conllu")), {})
    assert [parse.words for parse in bank.parse(["b", "a"], ids=["s1", "s1"])] == [("a",), ("a",)]
    with pytest.raises(DataError, match="sentence s1: has no tree: 'c'"):
        bank.parse(["c"], ids=["s1"])
