"""Translation models of random weights, in fairseq's directory layout and in that of transformers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vltk.language._transformer import TransformerConfig, TranslationTransformer

TEXTS = [
    "the man runs .",
    "a big red dog is in the park .",
    "ball",
    "a woman rides a horse on the beach .",
    "the dog .",
]
"""Sentences of those words, of different lengths."""

WORDS = [
    "a",
    "the",
    "man",
    "woman",
    "dog",
    "horse",
    "is",
    "runs",
    "rides",
    "plays",
    "red",
    "blue",
    "big",
    "small",
    "on",
    "in",
    "park",
    "beach",
    ".",
    "ball",
]

# What fairseq wants to find in a checkpoint of 2019 beside settings and weights.
HISTORY = {
    "optimizer_history": [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}],
    "extra_state": {"train_iterator": {"epoch": 1}},
    "last_optimizer_state": None,
}


def write_directory(
    folder: Path,
    source: str = "en",
    target: str = "de",
    *,
    words: Sequence[str] = WORDS,
    models: int = 1,
    seed: int = 0,
) -> Path:
    """Write a WMT'19 directory whose model knows whole words and translates them at random."""
    folder.mkdir(parents=True, exist_ok=True)
    for language in (source, target):
        (folder / f"dict.{language}.txt").write_text("".join(f"{word} 1\n" for word in words), encoding="utf-8")
    (folder / "bpecodes").write_text(merges(words), encoding="utf-8")
    for number in range(1, models + 1):
        torch.manual_seed(seed + number)
        model = TranslationTransformer(small_config(len(words) + 4))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        torch.save({"args": arguments(), "model": published(model), **HISTORY}, folder / f"model{number}.pt")
    return folder


def small_config(pieces: int) -> TransformerConfig:
    return TransformerConfig(
        source_vocabulary=pieces,
        target_vocabulary=pieces,
        hidden=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_heads=2,
        decoder_heads=2,
        encoder_intermediate=32,
        decoder_intermediate=32,
        share_embeddings=True,
    )


def arguments(**changes: Any) -> argparse.Namespace:
    values = {
        "arch": "transformer",
        "task": "translation",
        "criterion": "label_smoothed_cross_entropy",
        "encoder_embed_dim": 16,
        "decoder_embed_dim": 16,
        "encoder_ffn_embed_dim": 32,
        "decoder_ffn_embed_dim": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "share_all_embeddings": True,
        "share_decoder_input_output_embed": True,
    }
    return argparse.Namespace(**values | changes)


def published(model: TranslationTransformer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def merges(words: Sequence[str]) -> str:
    """Merges that put every word together, letter by letter."""
    lines = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            lines.append(f"{pieces[0]} {pieces[1]} 1\n")
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    return "".join(lines)
