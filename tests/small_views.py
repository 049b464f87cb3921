"""Stores of a few random pairs with trees, paraphrases and views, for tests of SSRP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.small_pairs import TOKENIZER, VOCABULARY, picture, write_examples
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.types import Example, Parse, RegionFeatures, Tokens

VIEWS = ("flip", "roi-jitter-1.2")
LABELS, ATTRIBUTES = 5, 3
EXTRA = {"labels": [f"c{n}" for n in range(LABELS)], "attribute_labels": [f"a{n}" for n in range(ATTRIBUTES)]}
Dice = np.random.Generator


def said(count: int, dice: Dice) -> tuple[str, Tokens, Parse]:
    """Return a text of so many words, each of one or two pieces, with a random tree."""
    pieces = dice.integers(1, 3, count)
    ids = tuple(dice.integers(5, VOCABULARY, pieces.sum()).tolist())
    words = tuple(np.repeat(np.arange(count), pieces).tolist())
    heads = (0, *(int(dice.integers(1, word + 1)) for word in range(1, count)))
    parse = Parse(
        words=tuple(f"w{n}" for n in range(count)),
        heads=heads,
        relations=("root", *["dep"] * (count - 1)),
        pieces=words,
    )
    return " ".join(parse.words), Tokens(ids=ids, words=words), parse


def example(name: str, image: str, dice: Dice, *, paraphrases: int = 2) -> Example:
    text, tokens, parse = said(int(dice.integers(2, 6)), dice)
    others = [said(int(dice.integers(2, 6)), dice) for _ in range(paraphrases)]
    return Example(
        id=name,
        image_ids=(image,),
        texts=(text,),
        tokens=(tokens,),
        parses=(parse,),
        paraphrases=(tuple(one[0] for one in others),),
        paraphrase_tokens=(tuple(one[1] for one in others),),
        paraphrase_parses=(tuple(one[2] for one in others),),
    )


def labelled(name: str, dice: Dice) -> RegionFeatures:
    found = picture(name, dice, classes=0)
    count = len(found)
    return replace(
        found,
        class_ids=dice.integers(0, LABELS, count),
        attribute_ids=dice.integers(0, ATTRIBUTES, count),
        attribute_scores=dice.random(count).astype(np.float32),
    )


def write_labelled(path: Path, pictures: list[RegionFeatures]) -> Path:
    with FeatureStore.create(path, FeatureMetadata(detector="random", extra=EXTRA)) as writer:
        for one in pictures:
            writer.put(one)
    return path


def write_augmented(
    folder: Path, name: str = "train", *, images: int = 8, captions: int = 2
) -> tuple[Path, Path, Path]:
    """Write ``NAME.lmdb``, ``NAME-features.lmdb`` and ``NAME-views.lmdb``; return the three."""
    dice = np.random.default_rng([7, *name.encode()])
    names = [f"{name}-{number}" for number in range(images)]
    told = [example(f"{image}#{k}", image, dice) for image in names for k in range(captions)]
    views = [labelled(f"{image}@{view}", dice) for image in names[1:] for view in VIEWS]  # the first one has none
    return (
        write_examples(folder / f"{name}.lmdb", told, TOKENIZER),
        write_labelled(folder / f"{name}-features.lmdb", [labelled(image, dice) for image in names]),
        write_labelled(folder / f"{name}-views.lmdb", views),
    )
