"""VQA evaluation of a base-size encoder on the drawn world: questions a second, against plain passes over the file.

    OMP_NUM_THREADS=1 python benchmarks/vqa_evaluation.py --images 400 --questions 300 --repeats 2

``vltk`` evaluates questions of similar length together, packs words and regions side by side and computes of the last
layer what is asked for; a picture is read once a batch. The plain passes go through the questions in the order of the
file, 32 at a time, read a picture for each question, pad texts and regions each to one length (the longest of the
batch, or the longest of the split), attend with an explicit softmax in all positions of every layer and compute GELU
step by step, as the published encoder does. "places" are the padded positions that each way computes for a real word
or region: what padding alone costs. The answers are the same.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlm_step import plain_layer
from torch import Tensor
from torch.nn import functional as F

from vltk.batching import collate
from vltk.cli import main as vltk
from vltk.evaluator import Execution
from vltk.evaluator.pairs import batches_by_length
from vltk.evaluator.prediction import predict
from vltk.mixture import special_tokens
from vltk.models.uniter import UNITERConfig
from vltk.run_folder.predictions import PredictionLog
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.tasks import vqa
from vltk.tasks._task import Split
from vltk.types import Batch

BATCH = 32


def make_split(folder: Path, images: int, questions: int) -> Split:
    """Draw a world, describe its pictures and prepare the questions of its training pictures."""
    world, regions, examples = folder / "world", folder / "regions.lmdb", folder / "vqa.lmdb"
    asked = world / "vqa_v2"
    for words in (
        ["scenes", "--out", world, "--images", images],
        ["extract-features", "--images", world / "images", "--out", regions, "--detector", "demo"],
        ["prepare", "--task", "vqa", "--questions", asked / "v2_OpenEnded_mscoco_train_questions.json",
         "--annotations", asked / "v2_mscoco_train_annotations.json", "--tokenizer", world / "vocab.txt",
         "--out", examples],
    ):  # fmt: skip
        with redirect_stdout(StringIO()):
            code = vltk([*map(str, words), "--quiet"])
        if code:
            raise SystemExit(code)
    return Split(
        name="drawn", examples=ExampleStore.open(examples), features=FeatureStore.open(regions), limit=questions
    )


def plain_batch(split: Split, start: int, padded_to: tuple[int, int] | None) -> Batch:
    """Read questions of the file one by one, and pad them to lengths of texts and regions or to their longest."""
    examples = [split.examples.get(name) for name in split.ids[start : start + BATCH]]
    special = special_tokens(split.examples)
    pictures = [split.features.get(example.image_ids[0]) for example in examples]
    texts = [special.frame(example.tokens[0].ids) for example in examples]
    batch = collate([example.id for example in examples], texts, pictures, padding=special.padding)
    if padded_to is None:
        return batch
    text, regions = padded_to[0] - batch.input_ids.shape[1], padded_to[1] - batch.regions.shape[1]
    return Batch(
        ids=batch.ids,
        input_ids=F.pad(batch.input_ids, (0, text)),
        text_mask=F.pad(batch.text_mask, (0, text)),
        regions=F.pad(batch.regions, (0, 0, 0, regions)),
        locations=F.pad(batch.locations, (0, 0, 0, regions)),
        region_mask=F.pad(batch.region_mask, (0, regions)),
    )


def stepwise_gelu(states: Tensor) -> Tensor:
    """Return the GELU of states in the steps of the published encoder, which torch now takes at once."""
    return states * 0.5 * (1.0 + torch.erf(states / math.sqrt(2.0)))


def plain_scores(task: Any, batch: Batch) -> Tensor:
    """Score a batch whose rows are padded texts and, after them, padded regions."""
    model = task.module.model
    states = torch.cat([model.embed_text(batch), model.embed_regions(batch)], dim=1)
    padding = ~torch.cat([batch.text_mask, batch.region_mask], dim=1)[:, None, None, :] * -10000.0
    for layer in model.layers:
        states = plain_layer(layer, states, padding, activation=stepwise_gelu)
    scores: Tensor = task.module.head.mlp(torch.tanh(model.pooler(states[:, 0])))
    return scores


def plain(task: Any, split: Split, padded_to: tuple[int, int] | None) -> dict[str, str]:
    """Answer the questions in the order of the file."""
    task.module.eval()
    answers = {}
    with torch.inference_mode():
        for start in range(0, len(split), BATCH):
            batch = plain_batch(split, start, padded_to)
            found = task.answers(plain_scores(task, batch), batch)
            answers |= {one.id: one.answer for one in found}
    return answers


def ours(task: Any, split: Split, folder: Path) -> dict[str, str]:
    """Answer the questions as ``vltk eval`` does."""
    file = folder / "predictions.jsonl"
    file.unlink(missing_ok=True)
    log = PredictionLog(file, {})
    predict(task, split, log, execution=Execution())
    return {name: one.answer for name, one in log.predictions().items()}


def timed(run: Callable[[], dict[str, str]]) -> tuple[float, dict[str, str]]:
    """Return seconds of the processor and answers; other programs of the machine count less in them."""
    start = time.process_time()
    answers = run()
    return time.process_time() - start, answers


def longest(split: Split) -> tuple[int, int]:
    """Return the words, special ones included, and the regions of the longest question and the fullest picture.

    Of the whole store, whatever part of it is timed: what a pass over all of it would be padded to.
    """
    examples = list(split.examples)
    texts = max(len(example.tokens[0].ids) + 2 for example in examples)
    return texts, max(split.features.region_count(example.image_ids[0]) for example in examples)


def padded_places(split: Split, padded_to: tuple[int, int] | None) -> int:
    """Return how many positions a plain pass computes, padding included."""
    batches = (plain_batch(split, start, padded_to) for start in range(0, len(split), BATCH))
    return sum(batch.text_mask.numel() + batch.region_mask.numel() for batch in batches)


def bucketed_places(lengths: Any) -> int:
    """Return how many positions vltk computes, padding included."""
    batches = batches_by_length(lengths, Execution().tokens)
    return sum(int(lengths[rows].max()) * len(rows) for rows in batches)


def main() -> None:
    """Print the times and ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400, help="pictures of the drawn world")
    parser.add_argument("--questions", type=int, default=1000, help="questions that are answered")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the median counts")
    parser.add_argument("--layers", type=int, default=12, help="layers of the encoder, 768 wide")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split = make_split(folder, options.images, options.questions)
        tokenizer = split.examples.metadata.tokenizer
        width = split.features.get(split.features.ids()[0]).features.shape[1]
        size = UNITERConfig(vocabulary=tokenizer.vocab_size, region_dim=width, layers=options.layers, dropout=0.0)
        task = vqa.Config(min_answers=1).build(size.build(), split)
        lengths = task.lengths(split)
        size_of_split = longest(split)
        ways = {
            "vltk": lambda: ours(task, split, folder),
            "padded to the longest of the batch": lambda: plain(task, split, None),
            "padded to the longest of the split": lambda: plain(task, split, size_of_split),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        plain(task, replace(split, limit=BATCH), None)  # weights and pictures are touched once before the clock starts
        answers: dict[str, dict[str, str]] = {}
        for _ in range(options.repeats):
            for way, run in ways.items():
                seconds, answers[way] = timed(run)
                times[way].append(seconds)
    if not all(answers[way] == answers["vltk"] for way in ways):
        raise SystemExit("the answers differ")
    sizes = {"padded to the longest of the batch": None, "padded to the longest of the split": size_of_split}
    places = {"vltk": bucketed_places(lengths)} | {way: padded_places(split, size) for way, size in sizes.items()}
    median = {way: statistics.median(seconds) for way, seconds in times.items()}
    print(
        json.dumps(
            {
                "questions": len(split),
                "words and regions of a question": round(float(np.mean(lengths)), 1),
                "longest": sum(size_of_split),
                "places": {way: round(count / int(lengths.sum()), 2) for way, count in places.items()},
                "questions a second": {way: round(len(split) / seconds, 1) for way, seconds in median.items()},
                "ratio": {way: round(seconds / median["vltk"], 2) for way, seconds in median.items() if way != "vltk"},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
