"""``vltk augment`` from an example store to another, as a user calls it."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.language.small_translation import WORDS, write_directory
from vltk.cli import main
from vltk.language.augmentation import Augmentation
from vltk.language.tokenization import SPECIAL_TOKENS, load_tokenizer, write_vocabulary
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.types import Example

CAPTIONS = {
    "1.jpg": ["The man runs .", "A dog plays in the park ."],
    "2.jpg": ["A big red ball ."],
    "3.jpg": ["A man ."],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "captions.json").write_text(json.dumps(CAPTIONS))
    words = [*SPECIAL_TOKENS, *WORDS, "##s", "##unk", "<", ">", "unk", *"abcdefghijklmnopqrstuvwxyz"]
    write_vocabulary(tmp_path / "vocab.txt", dict.fromkeys(words))
    flags = ("--caption-lists", tmp_path / "captions.json", "--tokenizer", tmp_path / "vocab.txt")
    assert main(["prepare", "--task", "captions", "--quiet", *map(str, flags), "--out", str(tmp_path / "in.lmdb")]) == 0
    for source, target, seed in (("en", "de", 0), ("de", "en", 5)):
        write_directory(tmp_path / f"wmt/{source}-{target}", source, target, seed=seed)
    return tmp_path


def tree(number, text, *, heads=None):
    words = text.split()
    rows = [
        f"{n}\t{word}\t_\tNOUN\t_\t_\t{1 if n > 1 else 0}\t{'dep' if n > 1 else 'root'}\t_\t_"
        for n, word in enumerate(words, 1)
    ]
    if heads:
        rows = [row.split("\t") for row in rows]
        rows = ["\t".join([*row[:6], str(head), *row[7:]]) for row, head in zip(rows, heads, strict=True)]
    return "\n".join([f"# sent_id = {number}", f"# text = {text}", *rows, "", ""])


@pytest.fixture
def trees(folder):
    texts = [text for own in CAPTIONS.values() for text in own]
    (folder / "trees.conllu").write_text("".join(tree(n, text) for n, text in enumerate(texts)))
    return folder / "trees.conllu"


def augment(folder, *flags, out="out.lmdb"):
    named = ("--examples", folder / "in.lmdb", "--out", folder / out, "--tokenizer", folder / "vocab.txt")
    return main(["augment", *map(str, named), *map(str, flags)])


PIVOT = ("--pivot", "en-de", "--shortest", 0, "--longest", 500)


def test_texts_get_paraphrases_with_pieces(folder, capsys):
    assert augment(folder, *PIVOT, "--translator", folder / "wmt", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    before, after = ExampleStore.open(folder / "in.lmdb"), ExampleStore.open(folder / "out.lmdb")
    assert after.ids() == before.ids()
    tokenizer = load_tokenizer(folder / "vocab.txt")
    for old, new in zip(before, after, strict=True):
        assert (new.texts, new.tokens, new.image_ids) == (old.texts, old.tokens, old.image_ids)
        assert new.paraphrase_tokens == tuple(tuple(tokenizer.tokens(text) for text in own) for own in new.paraphrases)
    assert summary["paraphrases"] == sum(len(own) for new in after for own in new.paraphrases) > 0
    assert summary["changed"] == sum(map(bool, (new.paraphrases[0] for new in after))) / 4
    assert 0 <= summary["bleu_4"] < 1
    assert (summary["examples"], summary["made"], summary["texts"], summary["parsed"]) == (4, 4, 4, 0)
    made = after.metadata.extra["augmentations"]
    assert [one["from"] for one in made] == [before.content_hash]
    assert made[0]["paraphrases"]["pivots"] == ["en-de"]
    assert set(made[0]["paraphrases"]["weights"]) == {"en-de", "de-en"}


def test_trees_of_files_are_found_and_know_the_word_of_each_piece(folder, trees):
    assert augment(folder, "--conllu", trees, "--quiet") == 0
    for example in ExampleStore.open(folder / "out.lmdb"):
        (parse,), (tokens,) = example.parses, example.tokens
        assert parse.words == tuple(example.texts[0].split())
        assert parse.pieces == tokens.words
        assert example.paraphrases == ()


def test_stanza_parses_texts_and_the_paraphrases_that_a_store_has(folder, shared, capsys):
    assert augment(folder, *PIVOT, "--translator", folder / "wmt", "--quiet", out="first.lmdb") == 0
    flags = ("--examples", folder / "first.lmdb", "--parser", shared / "golden/stanza_tiny", "--json")
    assert augment(folder, *flags) == 0
    summary = json.loads(capsys.readouterr().out)
    first, second = (ExampleStore.open(folder / name) for name in ("first.lmdb", "out.lmdb"))
    for old, new in zip(first, second, strict=True):
        assert new.paraphrases == old.paraphrases
        assert [len(own) for own in new.paraphrase_parses] == [len(own) for own in new.paraphrases]
        for own, cut in zip(new.paraphrase_parses, new.paraphrase_tokens, strict=True):
            assert [len(parse.pieces) for parse in own] == [len(tokens.ids) for tokens in cut]
    assert summary["parsed"] == 4 + sum(len(own) for new in second for own in new.paraphrases)
    assert [sorted(one) for one in second.metadata.extra["augmentations"]] == [
        ["from", "limit", "paraphrases"],
        ["from", "limit", "parses"],
    ]


def test_sampled_paraphrases_do_not_depend_on_how_the_work_is_divided(folder):
    flags = (*PIVOT, "--translator", folder / "wmt", "--sampling", "--candidates", 2, "--per-pivot", 2, "--quiet")
    assert augment(folder, *flags) == 0
    assert augment(folder, *flags, "--chunk-size", 1, "--batch-sentences", 1, out="small.lmdb") == 0
    whole, small = (ExampleStore.open(folder / name) for name in ("out.lmdb", "small.lmdb"))
    assert list(whole) == list(small)
    assert augment(folder, *flags, "--seed", 1, out="other.lmdb") == 0
    assert list(ExampleStore.open(folder / "other.lmdb")) != list(whole)


def test_the_same_command_resumes_where_it_was_killed(folder, trees, monkeypatch, capsys):
    flags = ("--conllu", trees, "--chunk-size", 1)
    whole, calls = Augmentation.augmented, []

    def dies_at_the_third(self, examples):
        calls.append([example.id for example in examples])
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, examples)

    monkeypatch.setattr(Augmentation, "augmented", dies_at_the_third)
    assert augment(folder, *flags) == 75
    assert "stopped with 3 of 4 examples done; the same command goes on from there" in capsys.readouterr().err
    assert augment(folder, *flags) == 0
    assert calls == [["1#0"], ["1#1"], ["2#0"], ["3#0"]]
    assert augment(folder, *flags, out="straight.lmdb") == 0
    resumed, straight = (ExampleStore.open(folder / name) for name in ("out.lmdb", "straight.lmdb"))
    assert resumed.content_hash == straight.content_hash
    assert augment(folder, *flags, "--resume", "never") == 2
    assert augment(folder, *flags, "--limit", 2) == 3
    assert "was begun with other settings" in capsys.readouterr().err


def test_a_dry_run_shows_the_plan_and_writes_nothing(folder, capsys):
    assert augment(folder, *PIVOT, "--translator", folder / "wmt", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["examples"], plan["done already"], plan["directions"]) == (4, 0, ["de-en", "en-de"])
    assert plan["seconds an example"] > 0
    assert not (folder / "out.lmdb").exists()


def fails(folder, capsys, *flags):
    code = augment(folder, *flags)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("vltk: error: ")
    return code, error.removeprefix("vltk: error: ")


def test_a_missing_direction_is_one_sentence(folder, capsys):
    code, error = fails(folder, capsys, "--pivot", "en-ru", "--translator", folder / "wmt")
    assert code == 2
    assert error == (
        "--pivot: en-ru needs weights for en-ru, and there are some for de-en, en-de; add --translator en-ru=FOLDER"
    )


def test_a_dictionary_of_another_model_is_one_sentence(folder, capsys):
    with (folder / "wmt/de-en/dict.de.txt").open("a") as stream:
        stream.write("zebra 1\n")
    code, error = fails(folder, capsys, "--pivot", "en-de", "--translator", folder / "wmt")
    assert (code, "model1.pt: has 24 source pieces, its dictionary 25" in error) == (3, True)


def test_a_text_without_words_is_one_sentence(folder, trees, capsys):
    with ExampleStore.create(folder / "blank.lmdb", ExampleMetadata()) as writer:
        writer.put(Example(id="9#0", image_ids=("9",), texts=(" ",)))
    flags = ("--examples", folder / "blank.lmdb")
    for more in (("--conllu", trees), ("--pivot", "en-de", "--translator", folder / "wmt")):
        code, error = fails(folder, capsys, *flags, *more)
        assert (code, error) == (3, "sentence 9#0: has no words; leave it out, or write its text")


@pytest.mark.parametrize(
    ("heads", "sentence"),
    [
        ([0, 3, 2, 1], "has a cycle through word 2"),
        ([0, 0, 1, 1], r"has 2 roots (words [1, 2])"),
    ],
)
def test_what_is_no_tree_is_one_sentence(folder, trees, capsys, heads, sentence):
    trees.write_text(tree(0, "The man runs .", heads=heads))
    code, error = fails(folder, capsys, "--conllu", trees)
    assert (code, sentence in error, "trees.conllu, line 3" in error) == (3, True, True)


def test_a_text_without_tree_is_one_sentence(folder, trees, capsys):
    trees.write_text(tree("1#0", "The man runs .") + tree("1#1", "Another text"))
    code, error = fails(folder, capsys, "--conllu", trees)
    assert (code, error) == (
        3,
        "sentence 1#1: has the text 'A dog plays in the park .', its tree is of 'Another text'; "
        "parse the texts of this store",
    )
    trees.write_text(tree("1#0", "The man runs ."))
    code, error = fails(folder, capsys, "--conllu", trees, "--overwrite")
    assert (code, "sentence 1#1: has no tree: 'A dog plays in the park .'" in error) == (3, True)


def test_a_parser_of_another_language_is_one_sentence(folder, shared, capsys):
    code, error = fails(folder, capsys, "--parser", shared / "golden/stanza_tiny", "--language", "de")
    assert (code, "holds parser models of en, asked for is 'de'" in error) == (3, True)


def test_another_vocabulary_than_that_of_the_store_is_refused(folder, trees, capsys):
    write_vocabulary(folder / "other.txt", [*SPECIAL_TOKENS, "a", "dog"])
    code, error = fails(folder, capsys, "--conllu", trees, "--tokenizer", folder / "other.txt")
    assert (code, "its word pieces are those of 'vocab.txt', not of 'other.txt'" in error) == (3, True)
    named = ("--examples", folder / "in.lmdb", "--out", folder / "out.lmdb", "--conllu", trees)
    assert main(["augment", *map(str, named)]) == 2
    assert "name the vocabulary with --tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "nothing to do; give --pivot, --parser, --conllu or --grammar"),
        (("--parser", "x", "--conllu", "y"), "give one of them; leave one out"),
        (("--conllu", "y", "--resume", "must"), "nothing was begun there; leave out --resume must"),
        (("--pivot", "en-de", "--precision", "bf16"), "--precision: got bf16, texts are translated and parsed in fp32"),
        (("--pivot", "en"), "got 'en', expected languages such as en-de"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, capsys, flags, sentence):
    code, error = fails(folder, capsys, *flags)
    assert (code, sentence in error) == (2, True)


def test_the_store_that_is_read_is_not_written(folder, capsys):
    named = ("--examples", folder / "in.lmdb", "--out", folder / "in.lmdb", "--pivot", "en-de")
    assert main(["augment", *map(str, named)]) == 2
    assert "is the store that is read; write another one" in capsys.readouterr().err
