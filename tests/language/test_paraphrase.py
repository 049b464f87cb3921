"""Back-translation: chains of translators, and what counts as a paraphrase."""

from __future__ import annotations

import pytest

from vltk.errors import UsageError
from vltk.language.paraphrase import Filter, Paraphraser
from vltk.language.translation import find_weights, languages_of, read_weights_options


def test_a_chain_goes_back_to_its_first_language():
    assert languages_of("en-de-en") == languages_of("en-de")
    assert languages_of("en-de-fr") == [("en", "de"), ("de", "fr"), ("fr", "en")]
    with pytest.raises(UsageError, match=r"--pivot: got 'en', expected languages such as en-de or en-de-fr"):
        languages_of("en")


def test_a_missing_direction_is_named():
    weights = read_weights_options(["facebook/wmt19-en-de", "en-ru=mine"])
    sentence = (
        "--pivot: en-de needs weights for de-en, and there are some for en-de, en-ru; add --translator de-en=FOLDER"
    )
    with pytest.raises(UsageError, match=sentence):
        find_weights(["en-de"], weights)


def test_weights_are_found_by_the_names_of_their_folders(tmp_path):
    for name in ("wmt19.en-de.joined-dict.ensemble", "opus-mt-de-en", "notes"):
        (tmp_path / name).mkdir()
    found = read_weights_options([str(tmp_path)])
    assert found == {
        ("de", "en"): str(tmp_path / "opus-mt-de-en"),
        ("en", "de"): str(tmp_path / "wmt19.en-de.joined-dict.ensemble"),
    }
    assert read_weights_options(["eng_Latn-deu_Latn=nllb"]) == {("eng_Latn", "deu_Latn"): "nllb"}
    with pytest.raises(UsageError, match=r"both .* and .* translate en-de"):
        read_weights_options([str(tmp_path), "en-de=other"])
    with pytest.raises(UsageError, match="notes tells no direction; write it as en-de=FOLDER"):
        read_weights_options([str(tmp_path / "notes")])


class Parrot:
    """A translator that adds a word, or says what it is told to."""

    def __init__(self, answers=None):
        self.answers, self.seen, self.description = answers or {}, [], {}

    def translate(self, texts, *, ids=(), settings=None, bucketing=None, progress=None):
        from vltk.language._search import Hypothesis

        self.seen += ids
        made = [self.answers.get(text, [f"{text} again"]) for text in texts]
        return [[Hypothesis(tokens=(2,), score=0.0, token_scores=(0.0,), text=one) for one in row] for row in made]


def test_paraphrases_are_those_that_differ_and_are_not_too_long():
    back = Parrot({"a b c again": ["A, b c!", "c b a", "b c a"], "x y again": ["x " * 9], "long again": []})
    translators = {("en", "de"): Parrot(), ("de", "en"): back}
    maker = Paraphraser(["en-de"], translators, per_pivot=2)
    assert maker.paraphrase(["a b c", "x y", "long"], ["1", "2", "3"]) == [("c b a", "b c a"), (), ()]
    assert maker.tally.left_out == {"identical": 1, "length": 1, "repeated": 0}
    assert (maker.tally.sentences, maker.tally.paraphrases, maker.tally.without, maker.tally.too_long) == (3, 2, 2, 1)
    assert back.seen == ["en-de/1/1", "en-de/1/2", "en-de/1/3"]


def test_what_two_pivots_both_say_is_kept_once():
    pairs = {("en", "de"): Parrot(), ("en", "ru"): Parrot()}
    backs = {(pivot, "en"): Parrot({"a b again": ["B a."]}) for pivot in ("de", "ru")}
    maker = Paraphraser(["en-de", "en-ru"], pairs | backs)
    assert maker.paraphrase(["a b"], ["1"]) == [("B a.",)]
    assert maker.tally.left_out["repeated"] == 1
    both = Paraphraser(["en-de", "en-ru"], pairs | backs, allowed=Filter(repeated=True))
    assert both.paraphrase(["a b"], ["1"]) == [("B a.", "B a.")]


def test_a_chain_without_translator_is_refused():
    with pytest.raises(UsageError, match="en-de needs a translator for de-en"):
        Paraphraser(["en-de"], {("en", "de"): Parrot()})
    with pytest.raises(UsageError, match=r"got length ratios 2\.0 to 1\.0"):
        Filter(shortest=2.0, longest=1.0)
