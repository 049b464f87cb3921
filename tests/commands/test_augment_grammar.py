"""``vltk augment --grammar``: captions of the drawn world get paraphrases and trees without any model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vltk.cli import main
from vltk.datasets import scenes
from vltk.stores.examples import ExampleStore


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    assert main(["scenes", "--out", str(folder / "world"), "--images", "20", "--seed", "3", "-q"]) == 0
    told = ["--karpathy", str(folder / "world" / "dataset_scenes.json"), "--split", "train"]
    given = ["--tokenizer", str(folder / "world" / "vocab.txt"), "--out", str(folder / "train.lmdb"), "-q"]
    assert main(["prepare", "--task", "captions", *told, *given]) == 0
    return folder


def augment(folder: Path, out: str, *more: str) -> int:
    given = ["--examples", str(folder / "train.lmdb"), "--out", str(folder / out), "--grammar"]
    given += ["--tokenizer", str(folder / "world" / "vocab.txt")]
    return main(["augment", *given, *more, "--json"])


def test_paraphrases_mean_the_same_and_trees_are_those_of_the_grammar(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert augment(world, "two.lmdb", "--per-pivot", "2") == 0
    written = json.loads(capsys.readouterr().out)
    store = ExampleStore.open(world / "two.lmdb")
    assert written["examples"] == len(store) == 5 * 16
    assert written["paraphrases"] == sum(len(own) for one in store for own in one.paraphrases) > 2 * 60
    assert written["parsed"] == written["texts"] + written["paraphrases"]
    for example in store:
        said, (others,) = scenes.understand(example.texts[0]), example.paraphrases
        assert example.parses[0].heads == said.parse.heads
        for text, parse in zip(others, example.paraphrase_parses[0], strict=True):
            other = scenes.understand(text)
            assert other.template not in scenes.HELD_OUT_TEMPLATES
            assert text != example.texts[0]
            assert other.meaning in (said.meaning, said.meaning.converse()) or len(said.meaning.relations) > 1
            assert parse.heads == other.parse.heads
            assert parse.words == tuple(text.split())


def test_other_seeds_say_it_otherwise_and_the_order_does_not_matter() -> None:
    texts, ids = ["a red star is above the ring", "there is a small square"], ["7", "8"]
    one, other = (scenes.GrammarParaphraser(count=1, seed=seed).paraphrase(texts, ids) for seed in (0, 1))
    back = scenes.GrammarParaphraser(count=1, seed=0).paraphrase(texts[::-1], ids[::-1])
    assert back[::-1] == one != other


def test_texts_of_another_world_are_refused_by_name() -> None:
    with pytest.raises(Exception, match="sentence 5: not a sentence of the drawn world: 'a dog runs'"):
        scenes.GrammarParser().parse(["a dog runs"], ids=["5"])


def test_models_beside_the_grammar_are_refused(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert augment(world, "no.lmdb", "--conllu", "trees.conllu") == 2
    assert "--grammar: paraphrases and parses by itself; leave out --pivot, --parser" in capsys.readouterr().err
    assert main(["augment", "--images", "a", "--features", "b", "--grammar", "--out", str(world / "no.lmdb")]) == 2
    assert "goes with --examples" in capsys.readouterr().err
