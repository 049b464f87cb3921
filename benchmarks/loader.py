"""How many examples a second one loading process turns from LMDB records into collated batches.

    OMP_NUM_THREADS=1 python benchmarks/loader.py --images 2000

Writes a store of fp16 features of 2,048 numbers (10 to 100 boxes, mean 36) and five captions of about 14 +- 4 word
pieces a picture, then runs the plan of a pre-training run through the trainer's own loader and counts what arrives.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from vltk.batching import TokenBuckets
from vltk.mixture import Mixture, PairSource, Share
from vltk.stores.examples import ExampleMetadata, ExampleStore, TokenizerDescription
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.trainer import _Loads
from vltk.types import Example, RegionFeatures, Tokens

SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
TOKENIZER = TokenizerDescription(name="bert-base-cased", vocab_size=28996, vocab_sha256="0" * 64, special_ids=SPECIAL)


def write_stores(folder: Path, images: int, *, classes: int) -> tuple[Path, Path]:
    """Write a feature store and an example store of real sizes."""
    dice = np.random.default_rng(0)
    features, examples = folder / "features.lmdb", folder / "examples.lmdb"
    with (
        FeatureStore.create(features, FeatureMetadata(detector="random")) as pictures,
        ExampleStore.create(examples, ExampleMetadata(task="captions", tokenizer=TOKENIZER)) as texts,
    ):
        for number in range(images):
            boxes = int(np.clip(round(10 + dice.exponential(26)), 10, 100))
            corners = dice.random((boxes, 2, 2), np.float32).cumsum(axis=1).reshape(boxes, 4) * 200
            vectors = dice.random((boxes, 2048), np.float32).astype(np.float16)
            probs = np.full((boxes, classes), 1 / classes, np.float16) if classes else None
            image = f"{number:012d}"
            pictures.put(
                RegionFeatures(image_id=image, features=vectors, boxes=corners, size=(400, 400), class_probs=probs)
            )
            for caption in range(5):
                ids = tuple(dice.integers(999, 28996, int(np.clip(round(dice.normal(14, 4)), 4, 30))).tolist())
                tokens = Tokens(ids=ids, words=tuple(range(len(ids))))
                text = " ".join(map(str, ids))
                texts.put(Example(id=f"{image}#{caption}", image_ids=(image,), texts=(text,), tokens=(tokens,)))
    return examples, features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=0, help="store class distributions of this size as well")
    parser.add_argument("--batch-tokens", type=int, default=10240)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--objective", default="mlm")
    parser.add_argument("--batches", type=int, default=30, help="of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        examples, features = write_stores(Path(folder), options.images, classes=options.classes)
        source = PairSource("random", ExampleStore.open(examples), FeatureStore.open(features))
        share = Share(source=0, objective=options.objective, weight=1)
        buckets = TokenBuckets(max_tokens=options.batch_tokens)
        mixture = Mixture([source], [share], buckets=buckets, micro_batches=1, seed=0)
        works = (work for step in mixture.steps() for work in step)
        loader = iter(DataLoader(_Loads(mixture), batch_size=None, sampler=works, num_workers=options.num_workers))
        for _ in islice(loader, 5):  # the process starts, checksums are verified at the first read of a record
            pass
        rates = []
        for repeat in range(options.repeats + 1):
            start, seen = time.perf_counter(), 0
            for _, batch in islice(loader, options.batches):
                seen += len(batch.ids)
            rates.append(seen / (time.perf_counter() - start))
            print(f"{'warming' if repeat == 0 else repeat}: {rates[-1]:.0f} examples a second", flush=True)
        print(f"median: {statistics.median(rates[1:]):.0f} examples a second, {options.num_workers} processes")


if __name__ == "__main__":
    main()
