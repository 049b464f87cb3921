"""The vocabulary of the drawn world covers all that is said in it, in every task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vltk.datasets import coco, gqa, nlvr2, refcoco, snli_ve, vcr, vqa
from vltk.datasets.scenes import vocabulary, write_world
from vltk.language.tokenization import load_tokenizer
from vltk.types import AnswersTarget, Example


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vocabulary") / "world"
    write_world(out, images=60, seed=11)
    return out


def examples(world: Path) -> Iterator[Example]:
    yield from coco.read_examples(world / "coco" / "annotations" / "captions_train.json")
    asked = world / "vqa_v2" / "v2_OpenEnded_mscoco_val_questions.json"
    yield from vqa.read_examples(asked, annotations=world / "vqa_v2" / "v2_mscoco_val_annotations.json")
    yield from gqa.read_examples(world / "gqa" / "val_balanced_questions.json")
    yield from nlvr2.read_examples(world / "nlvr2" / "dev.json")
    yield from snli_ve.read_examples(world / "snli_ve" / "snli_ve_dev.jsonl")
    yield from vcr.read_examples(world / "vcr" / "val.jsonl")
    refs = world / "refcoco" / "refcoco"
    yield from refcoco.read_examples(next(refs.glob("refs*.p")), refs / "instances.json", split="val")


def test_every_world_carries_it_and_no_word_falls_apart(world: Path) -> None:
    tokenizer = load_tokenizer(str(world / "vocab.txt"))
    texts = []
    for example in examples(world):
        texts += example.texts
        if isinstance(example.target, AnswersTarget):
            texts += example.target.answers
    assert len(texts) > 500
    words = {word for text in texts for word in text.split()}
    split = {word for word in words if len(tokenizer.tokens(word).ids) > 1 + sum(not c.isalnum() for c in word)}
    unknown = {word for word in words if tokenizer.special_ids["[UNK]"] in tokenizer.tokens(word).ids}
    assert (split, unknown) == (set(), set())


def test_words_of_the_grammar_are_one_piece_each(world: Path) -> None:
    pieces = (world / "vocab.txt").read_text().split()
    assert {word for word in vocabulary() if not word.startswith("[")} <= set(pieces)
    assert len(set(pieces)) == len(pieces)
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
