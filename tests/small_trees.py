"""Stores of a few captions with dependency trees, and small encoders, for tests of what probes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.small_pairs import VOCABULARY, WIDTH, picture, write_examples, write_features
from vltk.models._checkpoints import about_weights
from vltk.models._ssrp import SSRPConfig
from vltk.run_folder import write_checkpoint
from vltk.types import Example, Parse, Tokens

RELATIONS = ("det", "amod", "nsubj", "obl", "punct")


def random_heads(count: int, dice: np.random.Generator) -> tuple[int, ...]:
    """A tree over so many words, projective or not."""
    order = dice.permutation(count).tolist()
    heads = [0] * count
    for place in range(1, count):
        heads[order[place]] = order[int(dice.integers(place))] + 1
    return tuple(heads)


def parsed_caption(name: str, image: str, dice: np.random.Generator, *, shape: int) -> Example:
    """A caption whose tree is one of a few; each word has one or two pieces."""
    own = np.random.default_rng([5, shape])
    count = 3 + shape % 5
    heads = random_heads(count, own)
    relations = tuple("root" if not head else RELATIONS[int(own.integers(len(RELATIONS)))] for head in heads)
    words = tuple(f"w{number}" for number in dice.integers(5, VOCABULARY, count))
    pieces = tuple(place for place in range(count) for _ in range(1 + place % 2))
    ids = tuple(dice.integers(5, VOCABULARY, len(pieces)).tolist())
    return Example(
        id=name,
        image_ids=(image,),
        texts=(" ".join(words),),
        tokens=(Tokens(ids=ids, words=pieces),),
        parses=(Parse(words=words, heads=heads, relations=relations, pieces=pieces),),
    )


def write_trees(
    folder: Path, name: str = "trees", *, images: int = 12, captions: int = 3, shapes: int = 20, first: int = 0
) -> tuple[Path, Path]:
    """Write ``NAME.lmdb`` and ``NAME-features.lmdb``; the trees have the shapes first, first + 1, ..."""
    dice = np.random.default_rng([3, *name.encode()])
    names = [f"{name}-{number}" for number in range(images)]
    told = [
        parsed_caption(f"{image}#{k}", image, dice, shape=first + (number * captions + k) % shapes)
        for number, image in enumerate(names)
        for k in range(captions)
    ]
    pictures = [picture(image, dice) for image in names]
    return (
        write_examples(folder / f"{name}.lmdb", told),
        write_features(folder / f"{name}-features.lmdb", pictures),
    )


def small_ssrp(variant: str = "visual") -> SSRPConfig:
    return SSRPConfig(
        variant=variant,  # type: ignore[arg-type]
        vocabulary=VOCABULARY,
        hidden=16,
        text_layers=1,
        region_layers=1,
        joint_layers=1,
        heads=2,
        intermediate=24,
        positions=32,
        region_dim=WIDTH,
        region_classes=4,
        attribute_classes=3,
        probe_rank=8,
        relation_summary=8,
        relation_dim=8,
        dropout=0.0,
        initial_deviation=0.2,
    )


def write_ssrp(path: Path, variant: str = "visual", *, objectives: list[str] | None = None) -> Path:
    """Write a checkpoint of a small SSRP, and what it was trained for."""
    torch.manual_seed(2)
    config = small_ssrp(variant)
    weights = {f"model.{name}": tensor for name, tensor in config.build_for_pretraining().state_dict().items()}
    told = {} if objectives is None else {"objectives": objectives}
    write_checkpoint(path, weights, {"step": 0}, about=about_weights(config, "ssrp") | told | {"step": 0})
    return path
