from __future__ import annotations

import hashlib
import json
import pickle
import string

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from vltk.datasets import conceptual_captions, karpathy
from vltk.errors import DataError, OfflineError, UsageError
from vltk.language.tokenization import (
    SPECIAL_TOKENS,
    Tokenizer,
    build_vocabulary,
    load_tokenizer,
    write_vocabulary,
)
from vltk.types import Example

PIECES = (*SPECIAL_TOKENS, "a", "dog", "##s", "run", "##ning", ".", "[", "]", "mask", ",")
CASED = (*SPECIAL_TOKENS, "a", "A", "dog", "Dog", "##s")


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    write_vocabulary(path, PIECES)
    return path


@pytest.fixture(scope="module")
def bert(shared):
    return load_tokenizer(shared / "data/bert_vocab/vocab.txt")


def test_each_word_is_tokenised_by_itself_and_pieces_know_their_word():
    tokenizer = Tokenizer(PIECES)
    tokens = tokenizer.tokens(" A dogs\trunning, .\n")
    assert tokenizer.pieces(tokens.ids) == ["a", "dog", "##s", "run", "##ning", ",", "."]
    assert tokens.words == (0, 1, 1, 2, 2, 2, 3)


def test_a_text_that_spells_a_special_token_does_not_become_one():
    tokenizer = Tokenizer(PIECES)
    assert tokenizer.pieces(tokenizer.tokens("[MASK] dog").ids) == ["[", "mask", "]", "dog"]


def test_words_without_pieces_and_unknown_words():
    tokenizer = Tokenizer(PIECES)
    tokens = tokenizer.tokens("a \u200b cat")
    assert (tokenizer.pieces(tokens.ids), tokens.words) == (["a", "[UNK]"], (0, 2))
    assert tokenizer.tokens("").ids == ()


def test_an_example_gets_the_pieces_of_each_of_its_texts():
    tokenizer = Tokenizer(PIECES)
    example = Example(id="1", image_ids=("7",), texts=("a dog", "dogs"))
    assert tokenizer.tokenised(example).tokens == (tokenizer.tokens("a dog"), tokenizer.tokens("dogs"))


def test_casing_comes_from_the_vocabulary_unless_stated():
    assert Tokenizer(PIECES).lower_case is True
    cased = Tokenizer(CASED)
    assert cased.lower_case is False
    assert cased.pieces(cased.tokens("A Dogs a").ids) == ["A", "Dog", "##s", "a"]
    lowered = Tokenizer(CASED, lower_case=True)
    assert lowered.pieces(lowered.tokens("A Dogs a").ids) == ["a", "dog", "##s", "a"]
    with pytest.raises(UsageError, match="knows no capital letter, so texts have to be lower-cased"):
        Tokenizer(PIECES, lower_case=False)


def test_a_tokenizer_survives_pickling():
    tokenizer = Tokenizer(PIECES)
    assert pickle.loads(pickle.dumps(tokenizer)).tokens("dogs running .") == tokenizer.tokens("dogs running .")


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (SPECIAL_TOKENS, "makes a tokenizer of 5 pieces, 0 of them words; give the vocab.txt of a BERT model"),
        (PIECES[1:], r"has 14 pieces but no \[PAD\]"),
        (("a", "dog"), r"has 2 pieces but no \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
        ((*PIECES, "dog"), "holds 'dog' 2 times"),
    ],
)
def test_a_vocabulary_that_cannot_be_right_is_refused(pieces, message):
    with pytest.raises(DataError, match=message):
        Tokenizer(pieces)


def test_a_backend_that_lost_its_vocabulary_is_noticed(monkeypatch):
    # What transformers 5 does with the keyword of version 4: five special tokens, every word [UNK].
    monkeypatch.setattr("vltk.language.tokenization._backend", lambda ids, lower_case: BertTokenizer(vocab_file="x"))
    with pytest.raises(DataError, match="makes a tokenizer of 5 pieces"):
        Tokenizer(PIECES)


def test_a_backend_with_other_ids_is_noticed(monkeypatch):
    def shifted(ids, lower_case):
        return BertTokenizer(vocab={piece: (number + 1) % len(ids) for piece, number in ids.items()})

    monkeypatch.setattr("vltk.language.tokenization._backend", shifted)
    with pytest.raises(DataError, match="tokenises its own piece 'a' as"):
        Tokenizer(PIECES)


# -- the published vocabulary -----------------------------------------------------------------------------------------


def test_the_published_ids(shared, bert):
    expected = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, "the": 1996}
    assert {piece: bert.ids[piece] for piece in expected} == expected
    assert bert.tokens("the").ids == (1996,)
    assert (len(bert), bert.lower_case) == (30522, True)
    path = shared / "data/bert_vocab/vocab.txt"
    assert path.stat().st_size == 231508
    published = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == published
    description = bert.description()
    assert (description.name, description.vocab_size, description.vocab_sha256) == ("vocab.txt", 30522, published)
    assert description.special_ids == {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}


def test_real_captions_against_transformers_word_by_word(shared, bert):
    """The oracle is the reference tokenizer called as UNITER's preparation calls it: one word at a time."""
    oracle = BertTokenizer(vocab=str(shared / "data/bert_vocab/vocab.txt"))
    karpathys = shared / "data/flickr30k_captions/karpathy_test/flickr30k_test_data.json"
    rows = shared / "data/conceptual_captions/Validation_GCC-1.1.0-Validation.tsv"
    texts = [e.texts[0] for e in karpathy.read_caption_lists(karpathys)][::4]
    texts += [e.texts[0] for e in conceptual_captions.read_examples(rows)][::4]
    for text in texts:
        ids, words = [], []
        for number, word in enumerate(text.split()):
            pieces = oracle.convert_tokens_to_ids(oracle.tokenize(word))
            ids += pieces
            words += [number] * len(pieces)
        tokens = bert.tokens(text)
        assert (list(tokens.ids), list(tokens.words)) == (ids, words)


@given(st.text(alphabet=string.ascii_letters + string.digits + " .,'-\u00e9\u4e2d\u0301\t", max_size=40))
def test_word_by_word_gives_the_pieces_of_the_whole_text(bert, text):
    whole = bert._backend(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert list(bert.tokens(text).ids) == whole


# -- where a vocabulary comes from ------------------------------------------------------------------------------------


def test_a_file_a_folder_and_a_saved_tokenizer_are_the_same(tmp_path, vocabulary):
    from_file = load_tokenizer(vocabulary)
    folder = load_tokenizer(tmp_path)
    BertTokenizer(vocab=str(vocabulary)).save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved/vocab.txt").exists()
    saved = load_tokenizer(tmp_path / "saved")
    assert from_file.vocabulary == folder.vocabulary == saved.vocabulary == PIECES
    assert (from_file.name, folder.name, saved.name) == ("vocab.txt", tmp_path.name, "saved")


def test_a_folders_settings_decide_on_casing(tmp_path):
    write_vocabulary(tmp_path / "vocab.txt", CASED)
    assert load_tokenizer(tmp_path).lower_case is False
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")
    assert load_tokenizer(tmp_path).lower_case is True
    assert load_tokenizer(tmp_path, lower_case=False).lower_case is False


def test_a_saved_tokenizers_normalizer_decides_on_casing(tmp_path):
    write_vocabulary(tmp_path / "vocab.txt", CASED)
    BertTokenizer(vocab=str(tmp_path / "vocab.txt"), do_lower_case=True).save_pretrained(tmp_path / "saved")
    (tmp_path / "saved/tokenizer_config.json").unlink()
    assert load_tokenizer(tmp_path / "saved").lower_case is True


def test_windows_line_ends_and_odd_characters_are_read(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join([*PIECES, "\u2028", "\x85"]).encode() + b"\r\n")
    assert load_tokenizer(path).vocabulary == (*PIECES, "\u2028", "\x85")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "[PAD]\n\n[UNK]\n", "line 2: is empty; a vocabulary has one piece a line"),
        ("vocab.txt", '{"a": 1}', "is JSON, not one piece a line"),
        ("vocab.txt", b"\xff\xfe", "is not UTF-8 text"),
        ("vocab.txt", "", "line 1: is empty"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": 0}}}', "holds no WordPiece vocabulary"),
        ("tokenizer.json", '{"model": {"vocab": ["a"]}}', "holds no WordPiece vocabulary"),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0, "b": 2}}}', "numbers its pieces with gaps"),
        ("tokenizer.json", "[]", "is not a JSON object"),
        ("tokenizer.json", "{", "is not JSON"),
        ("config.json", "{}", "holds neither vocab.txt nor tokenizer.json"),
    ],
)
def test_a_broken_model_folder_is_one_sentence(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("source", ["gone/vocab.txt", "./gone", "a/b/c", "vocab.txt", "/gone"])
def test_a_path_that_is_not_there_is_no_hub_id(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"there is no such file or folder; give a vocab\.txt, a model folder or a hub id"
    ):
        load_tokenizer(source)


# -- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache in a folder, and downloads that are only recorded."""
    asked = []

    def download(model, name, cache_dir=None):
        asked.append(name)
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    def cache(model, files):
        folder = tmp_path / f"models--{model.replace('/', '--')}"
        for name, content in files.items():
            path = folder / "snapshots/abc" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text("abc")
        return tmp_path

    cache.asked = asked
    return cache


def test_a_cached_model_needs_no_network(hub):
    settings = json.dumps({"do_lower_case": True})
    files = {"vocab.txt": "".join(f"{piece}\n" for piece in CASED), "tokenizer_config.json": settings}
    tokenizer = load_tokenizer("some/bert", cache_dir=hub("some/bert", files))
    assert (tokenizer.vocabulary, tokenizer.lower_case, tokenizer.name) == (CASED, True, "some/bert")
    assert hub.asked == []


def test_a_cached_model_without_vocabulary_file_is_read_from_its_saved_tokenizer(hub, tmp_path, vocabulary):
    BertTokenizer(vocab=str(vocabulary)).save_pretrained(tmp_path / "saved")
    files = {"tokenizer.json": (tmp_path / "saved/tokenizer.json").read_text(encoding="utf-8")}
    assert load_tokenizer("bert", cache_dir=hub("bert", files), offline=True).vocabulary == PIECES


def test_offline_without_the_model_is_exit_4_and_asks_nobody(hub, tmp_path):
    with pytest.raises(
        OfflineError, match=r"'some/bert' is not on this machine .*; download it once while online"
    ) as caught:
        load_tokenizer("some/bert", cache_dir=tmp_path, offline=True)
    assert caught.value.exit_code == 4
    assert hub.asked == []


def test_an_unreachable_hub_is_exit_4(hub, tmp_path):
    with pytest.raises(OfflineError, match="'some/bert' is not on this machine and the hub cannot be reached"):
        load_tokenizer("some/bert", cache_dir=tmp_path)
    assert hub.asked == ["vocab.txt"]


def test_a_model_that_the_hub_refuses_is_exit_4(monkeypatch, tmp_path):
    def refuse(model, name, cache_dir=None):
        raise OSError("401 Client Error.\nmore")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(OfflineError, match=r"'some/bert' cannot be downloaded \(401 Client Error\.\)"):
        load_tokenizer("some/bert", cache_dir=tmp_path)


# -- a vocabulary of one's own ----------------------------------------------------------------------------------------


def test_a_built_vocabulary_spells_every_word_of_its_characters():
    tokenizer = Tokenizer(build_vocabulary(["A red star .", "a blue star"]))
    assert "[UNK]" not in tokenizer.pieces(tokenizer.tokens("Bastard. bare rebate").ids)
    assert tokenizer.pieces(tokenizer.tokens("A red star .").ids) == ["a", "red", "star", "."]
    assert tokenizer.pieces(tokenizer.tokens("bedstars").ids) == ["b", "##e", "##d", "##s", "##t", "##a", "##r", "##s"]


def test_a_built_vocabulary_is_ordered_by_frequency_and_cut_from_the_rare_end():
    texts = ["ab ab ab ba ba aa"]
    assert build_vocabulary(texts)[5:] == ("a", "b", "##a", "##b", "ab", "ba", "aa")
    assert build_vocabulary(texts, min_count=2)[9:] == ("ab", "ba")
    assert build_vocabulary(texts, size=10)[9:] == ("ab",)
    with pytest.raises(UsageError, match="a vocabulary of 8 has no room for 2 characters; allow at least 9"):
        build_vocabulary(texts, size=8)
    with pytest.raises(UsageError, match="the texts hold no word"):
        build_vocabulary([" "])


def test_a_built_vocabulary_keeps_case_when_asked():
    assert "Star" in build_vocabulary(["A Star"], lower_case=False)
    assert "Star" not in build_vocabulary(["A Star"])


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_texts_are_known_to_the_vocabulary_built_from_them(texts):
    text = " ".join(["a word", *texts])
    tokenizer = Tokenizer(build_vocabulary([text]))
    assert tokenizer.special_ids["[UNK]"] not in tokenizer.tokens(text).ids
