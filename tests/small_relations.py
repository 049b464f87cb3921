"""Stores of a few captions with annotated objects, and small models, for tests of relation consistency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.small_pairs import TOKENIZER, VOCABULARY, WIDTH, write_examples, write_features
from vltk.models._checkpoints import about_weights
from vltk.models.uniter import UNITERConfig
from vltk.run_folder import METRICS, write_checkpoint
from vltk.stores.examples import TokenizerDescription
from vltk.types import Example, Phrase, RegionFeatures, Tokens

SIZE = UNITERConfig(
    vocabulary=VOCABULARY, hidden=16, layers=3, heads=2, intermediate=24, positions=32, region_dim=WIDTH
)


def annotated_picture(name: str, dice: np.random.Generator, chains: int) -> RegionFeatures:
    """One box a chain, and a second one for chain 0."""
    names = (*map(str, range(chains)), "0")
    corners = np.sort(dice.uniform(0, 100, (len(names), 2, 2)), axis=1).reshape(-1, 4).astype(np.float32)
    features = dice.normal(size=(len(names), WIDTH)).astype(np.float16)
    return RegionFeatures(image_id=name, features=features, boxes=corners, size=(100, 100), region_ids=names)


def annotated_caption(name: str, image: str, dice: np.random.Generator, chains: int) -> Example:
    """Two words a phrase, a word between phrases, and for every third caption its first chain twice."""
    told = [str(chain) for chain in dice.permutation(chains)[: int(dice.integers(2, chains + 1))]]
    told += told[:1] if int(name.rpartition("#")[2]) % 3 == 0 else []
    words, phrases = [], []
    for chain in told:
        phrases.append(Phrase(text=0, start=len(words), end=len(words) + 2, entity=chain, kinds=("other",)))
        words += [f"w{number}" for number in dice.integers(5, VOCABULARY, 3)]
    pieces = [(int(word[1:]), place) for place, word in enumerate(words) for _ in range(1 + place % 2)]
    tokens = Tokens(ids=tuple(piece for piece, _ in pieces), words=tuple(place for _, place in pieces))
    return Example(id=name, image_ids=(image,), texts=(" ".join(words),), tokens=(tokens,), phrases=tuple(phrases))


def write_annotated(
    folder: Path, *, images: int = 6, captions: int = 3, first: str = "p", tokenizer: TokenizerDescription = TOKENIZER
) -> tuple[Path, Path]:
    """Write ``examples.lmdb`` and ``features.lmdb`` of pictures p0, p1, ...; return both."""
    dice = np.random.default_rng(11)
    names = {f"{first}{number}": int(dice.integers(2, 5)) for number in range(images)}
    told = [
        annotated_caption(f"{name}#{k}", name, dice, chains) for name, chains in names.items() for k in range(captions)
    ]
    pictures = [annotated_picture(name, dice, chains) for name, chains in names.items()]
    return (
        write_examples(folder / "examples.lmdb", told, tokenizer),
        write_features(folder / "features.lmdb", pictures),
    )


def write_model(
    path: Path, *, seed: int = 0, step: int = 0, broken: bool = False, about: dict[str, Any] | None = None
) -> Path:
    """Write a checkpoint of a small UNITER whose attention is far from even."""
    torch.manual_seed(seed)
    model = SIZE.build_for_pretraining()
    weights = {name: tensor * 4 for name, tensor in model.state_dict().items()}
    if broken:
        weights["encoder.layers.1.attention.qkv.bias"] = weights["encoder.layers.1.attention.qkv.bias"] * torch.nan
    write_checkpoint(path, weights, {"step": step}, about=about_weights(SIZE) | {"step": step} | (about or {}))
    return path


def write_run(path: Path, steps: tuple[int, ...] = (0, 10, 20, 30)) -> Path:
    """Write a run with a kept checkpoint and a validation at each step."""
    for step in steps:
        write_model(path / f"step-{step}", seed=step, step=step)
    lines = [f'{{"step": {step}, "validation rsum": {100 + step}, "validation r1": 0.5}}' for step in steps]
    (path / METRICS).write_text("\n".join([*lines, '{"step": 30, "valid'][: len(lines) + 1]))
    return path
