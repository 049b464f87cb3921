"""Stores of a few random pairs, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.running import command_line
from vltk.stores.examples import ExampleMetadata, ExampleStore, TokenizerDescription
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.types import Example, RegionFeatures, Tokens

SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
VOCABULARY, WIDTH, CLASSES = 40, 6, 5
TOKENIZER = TokenizerDescription(name="words", vocab_size=VOCABULARY, vocab_sha256="a" * 64, special_ids=SPECIAL)


def picture(name: str, dice: np.random.Generator, *, width: int = WIDTH, classes: int = CLASSES) -> RegionFeatures:
    count = int(dice.integers(1, 6))
    corners = np.sort(dice.uniform(0, 100, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    probs = dice.random((count, classes)).astype(np.float32)
    return RegionFeatures(
        image_id=name,
        features=dice.normal(size=(count, width)).astype(np.float16),
        boxes=corners,
        size=(100, 100),
        scores=np.sort(dice.random(count).astype(np.float32))[::-1].copy(),
        class_probs=probs / probs.sum(1, keepdims=True) if classes else None,
    )


def caption(name: str, image: str, dice: np.random.Generator, *, longest: int = 8) -> Example:
    ids = tuple(dice.integers(5, VOCABULARY, int(dice.integers(1, longest))).tolist())
    text = " ".join(f"w{number}" for number in ids)
    return Example(id=name, image_ids=(image,), texts=(text,), tokens=(Tokens(ids=ids, words=tuple(range(len(ids)))),))


def write_examples(path: Path, examples: Sequence[Example], tokenizer: TokenizerDescription | None = TOKENIZER) -> Path:
    with ExampleStore.create(path, ExampleMetadata(task="captions", tokenizer=tokenizer)) as writer:
        for example in examples:
            writer.put(example)
    return path


def write_features(path: Path, pictures: Sequence[RegionFeatures]) -> Path:
    with FeatureStore.create(path, FeatureMetadata(detector="random")) as writer:
        for one in pictures:
            writer.put(one)
    return path


def write_pairs(
    folder: Path, name: str = "train", *, images: int = 12, captions: int = 3, seed: int = 0, width: int = WIDTH
) -> tuple[Path, Path]:
    """Write ``NAME.lmdb`` (captions) and ``NAME-features.lmdb``; return both."""
    dice = np.random.default_rng([seed, *name.encode()])
    names = [f"{name}-{number}" for number in range(images)]
    told = [caption(f"{image}#{k}", image, dice) for image in names for k in range(captions)]
    pictures = [picture(image, dice, width=width) for image in names]
    return (
        write_examples(folder / f"{name}.lmdb", told),
        write_features(folder / f"{name}-features.lmdb", pictures),
    )


TINY_MODEL = {"hidden": 16, "layers": 2, "heads": 2, "intermediate": 32, "positions": 16}
"""Sizes of a model that a test can train."""


def arguments(examples: Path, features: Path, out: Path, *more: str, steps: int = 6) -> list[str]:
    """Return the command line of a short run on a CPU; what is given more wins."""
    given = {
        "--examples": examples,
        "--features": features,
        "--out": out,
        **{f"--{name}": size for name, size in TINY_MODEL.items()},
        "--steps": steps,
        "--warmup": 2,
        "--log-every": 1,
        "--batch-tokens": 128,
        "--learning-rate": 1e-3,
        "--device": "cpu",
    }
    return command_line("pretrain", given, *more)
