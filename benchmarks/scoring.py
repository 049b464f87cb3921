"""How many more pairs a second vltk scores than the published evaluation of image-text retrieval, and re-ranking.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py --part base
    OMP_NUM_THREADS=1 python benchmarks/scoring.py --part tiny
    OMP_NUM_THREADS=1 python benchmarks/scoring.py --part world [--weights runs/tiny]

``base``: a base-size UNITER in fp32, 10 pictures with 11 to 88 boxes (the deciles of 10 plus an exponential of mean
26, mean 35) against 40 texts of 14 +- 4 word pieces. ``tiny``: a UNITER of uniter-tiny's size, 100 pictures with 10 to
100 boxes (the same distribution) against 500 texts. ``world``: the same size on 100 pictures of the drawn world, which
have about as many boxes each, against their 500 captions, then re-ranking of 5 % of the pairs that a linear dual
encoder proposes (ridge regression from bags of words to the mean region on other pictures, fitted here).

The published procedure takes one text after the other, reads the features of every picture again, embeds text and
pictures again, pads to the longest pair of the batch (up to 400 pictures, sorted by number of boxes), and attends with
an explicit softmax in all positions of every layer. It runs on a part of the texts, before and after vltk, which scores
everything. Times are CPU seconds of this process, so that other work on the machine counts less. Scores are compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlm_step import plain_layer
from torch import Tensor

from vltk.batching import collate
from vltk.evaluator import Execution, Sides, score_matrix
from vltk.finetuning import open_zero_shot
from vltk.metrics.retrieval import evaluate_retrieval
from vltk.models.uniter import UNITERConfig
from vltk.rerank import merged_scores, propose, recall_ceiling
from vltk.stores.examples import ExampleMetadata, ExampleStore, TokenizerDescription
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.tasks._task import Split
from vltk.tasks.flickr30k import Config
from vltk.types import Example, RegionFeatures, Tokens

TINY = {"hidden": 128, "layers": 4, "heads": 4, "intermediate": 512, "positions": 64}
MINI_BATCH = 400


def real_lengths(folder: Path, images: int, texts: int) -> Split:
    """Write made-up pairs with the lengths of real ones."""
    dice = np.random.default_rng(0)
    special = {"[PAD]": 0, "[CLS]": 101, "[SEP]": 102}
    tokenizer = TokenizerDescription(name="made up", vocab_size=28996, vocab_sha256="0" * 64, special_ids=special)
    with FeatureStore.create(folder / "f.lmdb", FeatureMetadata(detector="made up")) as writer:
        for number in range(images):
            share = (number + 0.5) / images
            boxes = int(np.clip(round(10 - 26 * np.log(1 - share)), 10, 100))
            corners = np.sort(dice.uniform(0, 400, (boxes, 2, 2)).astype(np.float32), axis=1).reshape(boxes, 4)
            features = dice.random((boxes, 2048), np.float32).astype(np.float16)
            writer.put(RegionFeatures(image_id=str(number), features=features, boxes=corners, size=(400, 400)))
    with ExampleStore.create(folder / "e.lmdb", ExampleMetadata(task="flickr30k", tokenizer=tokenizer)) as examples:
        for number in range(texts):
            words = int(np.clip(round(dice.normal(14, 4)), 4, 30))
            ids = tuple(dice.integers(999, 28996, words).tolist())
            tokens = Tokens(ids=ids, words=tuple(range(words)))
            image = str(number * images // texts)
            examples.put(Example(id=f"{number}", image_ids=(image,), texts=("w " * words,), tokens=(tokens,)))
    return Split(
        name="pairs", examples=ExampleStore.open(folder / "e.lmdb"), features=FeatureStore.open(folder / "f.lmdb")
    )


def drawn_world(folder: Path, images: int) -> Split:
    """Draw a world and describe its pictures with the detector that comes with vltk."""
    world, vltk = folder / "world", [sys.executable, "-m", "vltk"]
    count = images * 5 // 4 + 10
    subprocess.run([*vltk, "scenes", "--out", world, "--images", str(count), "--seed", "7", "-q"], check=True)
    detect = ["--images", world / "images", "--detector", "demo", "--out", folder / "f.lmdb", "-q"]
    subprocess.run([*vltk, "extract-features", *detect], check=True)
    files = ["--karpathy", world / "dataset_scenes.json", "--split", "train", "--tokenizer", world / "vocab.txt"]
    subprocess.run([*vltk, "prepare", "--task", "captions", *files, "--out", folder / "e.lmdb", "-q"], check=True)
    return Split(
        name="world", examples=ExampleStore.open(folder / "e.lmdb"), features=FeatureStore.open(folder / "f.lmdb")
    )


def sides_of(split: Split, task: Any, images: int, texts: int, *, last: bool = False) -> Sides:
    """Return the first or the last pictures of a split with the same number of captions each."""
    owners = {name: split.examples.get(name).image_ids[0] for name in split.ids}
    pictures = list(dict.fromkeys(owners.values()))
    pictures = pictures[-images:] if last else pictures[:images]
    each = texts // images
    told = {picture: [name for name, owner in owners.items() if owner == picture][:each] for picture in pictures}
    return Sides(task=task, split=split, text_ids=[one for own in told.values() for one in own], image_ids=pictures)


def published(sides: Sides, rows: Sequence[int]) -> np.ndarray:
    """Score some texts against all pictures as the published evaluation does."""
    scorer, split = sides.task.scorer, sides.split
    counts = np.array([split.features.region_count(image) for image in sides.image_ids])
    order = np.argsort(-counts, kind="stable")
    scores = np.zeros((len(rows), len(counts)), np.float32)
    for place, row in enumerate(rows):
        for start in range(0, len(order), MINI_BATCH):
            columns = order[start : start + MINI_BATCH]
            text = sides.texts([row])
            pictures = [split.features.get(sides.image_ids[column]) for column in columns]
            pieces = text.input_ids[0].tolist()
            batch = collate([str(column) for column in columns], [pieces] * len(columns), pictures)
            states = torch.cat([scorer.embed_text(batch), scorer.embed_regions(batch)], dim=1)
            padding = ~torch.cat([batch.text_mask, batch.region_mask], dim=1)[:, None, None, :] * -10000.0
            for layer in scorer.model.layers:
                states = plain_layer(layer, states, padding)
            pooled: Tensor = torch.tanh(scorer.model.pooler(states[:, 0]))
            scores[place, columns] = scorer.match_scores(pooled).numpy()
    return scores


def cpu_seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def ours(sides: Sides, wanted: np.ndarray | None = None) -> np.ndarray:
    scores = np.full((len(sides.text_ids), len(sides.image_ids)), np.nan, np.float32)
    fresh = Sides(task=sides.task, split=sides.split, text_ids=sides.text_ids, image_ids=sides.image_ids)
    score_matrix(fresh, scores, execution=Execution(), wanted=wanted)
    return scores


def compare(sides: Sides, sample: int) -> tuple[float, np.ndarray]:
    """Print the ratio of pairs a second; return the seconds of vltk and its scores."""
    texts, images = len(sides.text_ids), len(sides.image_ids)
    chosen = np.random.default_rng(1).permutation(texts)
    halves = chosen[:sample], chosen[sample : 2 * sample]
    sides.task.module.eval()
    with torch.inference_mode():
        before, first = cpu_seconds(lambda: published(sides, halves[0].tolist()))
        took, scores = cpu_seconds(lambda: ours(sides))
        after, second = cpu_seconds(lambda: published(sides, halves[1].tolist()))
    there = np.concatenate([first, second])
    apart = np.abs(there - scores[np.concatenate(halves)]).max()
    rates = [sample * images / seconds for seconds in (before, after)]
    mean = 2 * sample * images / (before + after)
    print(f"published: {mean:,.1f} pairs a second ({rates[0]:,.1f} before, {rates[1]:,.1f} after, {sample} texts each)")
    print(f"vltk:      {texts * images / took:,.1f} pairs a second, all {texts} x {images} in {took:.1f} s")
    print(
        f"ratio {texts * images / took / mean:.2f}; scores differ by {apart:.1e}, their deviation is {scores.std():.2g}"
    )
    return took, scores


def linear_proposer(split: Split, sides: Sides, *, ridge: float = 10.0) -> np.ndarray:
    """Score pairs by ridge regression from bags of words to the mean region, fitted on other pictures."""
    size = split.examples.metadata.tokenizer.vocab_size  # type: ignore[union-attr]

    def words(name: str) -> np.ndarray:
        return np.bincount(split.examples.get(name).tokens[0].ids, minlength=size).astype(np.float64)

    def picture(name: str) -> np.ndarray:
        found = split.features.get(name)
        return np.concatenate([found.features.astype(np.float64).mean(0), found.features.astype(np.float64).max(0)])

    held_out = set(sides.image_ids)
    learnt = [(name, split.examples.get(name).image_ids[0]) for name in split.ids]
    learnt = [(name, image) for name, image in learnt if image not in held_out]
    pictures = {image: picture(image) for image in {image for _, image in learnt} | held_out}
    told = np.stack([words(name) for name, _ in learnt])
    seen = np.stack([pictures[image] for _, image in learnt])
    centre, spread = seen.mean(0), seen.std(0) + 1e-6
    weights = np.linalg.solve(told.T @ told + ridge * np.eye(size), told.T @ ((seen - centre) / spread))
    texts = np.stack([words(name) for name in sides.text_ids]) @ weights
    images = (np.stack([pictures[image] for image in sides.image_ids]) - centre) / spread
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    scores: np.ndarray = texts @ images.T
    return scores


def rerank(split: Split, sides: Sides, took: float, full: np.ndarray, share: float) -> None:
    """Re-rank so many candidates of each text and picture that a share of all pairs is scored."""
    seconds, first = cpu_seconds(lambda: linear_proposer(split, sides))
    columns = np.array([sides.image_ids.index(split.examples.get(name).image_ids[0]) for name in sides.text_ids])
    candidates = max(k for k in range(1, len(sides.image_ids)) if propose(first, candidates=k).mean() <= share)
    wanted = propose(first, candidates=candidates)
    with torch.inference_mode():
        again, second = cpu_seconds(lambda: ours(sides, wanted))
    ids = {"image_ids": sides.image_ids, "caption_ids": sides.text_ids}
    figures = {
        name: evaluate_retrieval(matrix.T, columns, **ids).figures
        for name, matrix in (("proposer", first), ("full", full), ("re-ranked", merged_scores(first, second)))
    }
    ceiling = recall_ceiling(wanted, columns)
    print(
        f"re-ranking {wanted.sum():,} of {wanted.size:,} pairs ({100 * wanted.mean():.1f} %, {candidates} candidates)"
    )
    print(f"  {again:.2f} s, {took / again:.1f} times the full scoring; fitting the proposer took {seconds:.1f} s")
    print(f"  recall ceiling: t2i {100 * ceiling['t2i']:.1f}, i2t {100 * ceiling['i2t']:.1f}")
    for way in ("t2i_r1", "i2t_r1"):
        values = ", ".join(f"{name} {found[way]:.1f}" for name, found in figures.items())
        print(f"  {way}: {values}; loss {figures['full'][way] - figures['re-ranked'][way]:+.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("base", "tiny", "world"), default="tiny")
    parser.add_argument("--weights", type=Path, help="a pre-trained run of uniter-tiny; random ones without")
    parser.add_argument("--layers", type=int, default=12, help="of the base-size model")
    parser.add_argument("--pictures", type=int, default=400, help="of the world that is drawn")
    parser.add_argument("--share", type=float, default=0.05, help="of the pairs that are re-ranked")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        if options.part == "base":
            split = real_lengths(Path(name), 10, 40)
            model = UNITERConfig(layers=options.layers, dropout=0.0).build()
            compare(sides_of(split, Config().build(model, split), 10, 40), 3)
            return
        if options.part == "tiny":
            split = real_lengths(Path(name), 100, 500)
            compare(sides_of(split, Config().build(UNITERConfig(dropout=0.0, **TINY).build(), split), 100, 500), 4)
            return
        split = drawn_world(Path(name), options.pictures)
        width = split.features.get(split.features.ids()[0]).features.shape[1]
        size = UNITERConfig(vocabulary=191, region_dim=width, dropout=0.0, **TINY)
        task: Any = Config().build(size.build(), split)
        if options.weights is not None:
            task = open_zero_shot(options.weights, split, task="flickr30k", options=Config()).task
        sides = sides_of(split, task, 100, 500, last=True)
        took, full = compare(sides, 30)
        rerank(split, sides, took, full, options.share)


if __name__ == "__main__":
    main()
