"""Embed 1,000 pictures and 5,000 captions with VSE-infinity: vltk against the published procedure.

    python benchmarks/embedding.py --images 1000 --repetitions 3 --captions flickr30k_test_data.json

The published evaluation goes through the 5,000 captions in batches of 128 in their order, encodes the picture of each
caption beside it, so every picture five times, pools with the published GPO module, computes the loss of each batch,
and keeps float64 copies. vltk reads stores, embeds every picture and every caption once, those of similar length
together, and pools with sorting networks and kept coefficients. Both have the same weights (regions 36 x 2048, a
bidirectional GRU over words or BERT, joint space 1024) and come to the same embeddings (checked).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from gpo import PublishedPooling

from vltk.evaluator.dual import embeddings
from vltk.evaluator.execution import Execution
from vltk.evaluator.sides import Sides
from vltk.language.word_vocabulary import words_of
from vltk.models.vse import VSE, VSEConfig
from vltk.stores.examples import ExampleMetadata, ExampleStore, TokenizerDescription
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.tasks._task import Split
from vltk.tasks.flickr30k import Config
from vltk.types import Example, RegionFeatures, Tokens

REGIONS, WIDTH, WORDS, BATCH = 36, 2048, 8481, 128
SPECIAL = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "[MASK]": WORDS - 1}


def drawn_captions(count: int) -> list[tuple[int, ...]]:
    """Draw captions of real lengths (Flickr30k's have 12.3 words in the mean), words by Zipf's law."""
    dice = np.random.default_rng(1)
    lengths = np.clip(dice.gamma(5.0, 2.5, 5 * count), 4, 60).astype(int)
    return [tuple((4 + (dice.zipf(1.2, length) - 1) % (WORDS - 5)).tolist()) for length in lengths]


def real_captions(path: Path, count: int) -> list[tuple[int, ...]]:
    """Read {file name: [captions]}; the pictures are drawn all the same."""
    lists = [captions[:5] for captions in json.loads(path.read_text("utf-8")).values()][:count]
    if len(lists) < count:
        raise SystemExit(f"{path} has {len(lists)} pictures; use --images {len(lists)}")
    known: dict[str, int] = {}
    words = [words_of(caption) for captions in lists for caption in captions]
    return [tuple(4 + known.setdefault(word, len(known)) for word in caption) for caption in words]


def write(folder: Path, count: int, captions: Path | None) -> Split:
    """Write drawn pictures and their captions into stores."""
    dice = np.random.default_rng(0)
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (REGIONS, 1))
    with FeatureStore.create(folder / "features", FeatureMetadata(detector="drawn")) as writer:
        for number in range(count):
            features = dice.standard_exponential((REGIONS, WIDTH), np.float32) * (
                dice.random((REGIONS, WIDTH), np.float32) < 0.5
            )
            writer.put(
                RegionFeatures(image_id=str(number), features=features.astype(np.float16), boxes=boxes, size=(10, 10))
            )
    texts = drawn_captions(count) if captions is None else real_captions(captions, count)
    tokenizer = TokenizerDescription(name="words", vocab_size=WORDS, vocab_sha256="0", special_ids=SPECIAL)
    with ExampleStore.create(folder / "examples", ExampleMetadata(task="flickr30k", tokenizer=tokenizer)) as writer:
        for number, ids in enumerate(texts):
            tokens = Tokens(ids=ids, words=tuple(range(len(ids))))
            text = "x " * len(ids)
            writer.put(Example(id=str(number), image_ids=(str(number // 5),), texts=(text,), tokens=(tokens,)))
    examples = ExampleStore.open(folder / "examples")
    return Split(name="test", examples=examples, features=FeatureStore.open(folder / "features"))


class Published:
    """The authors' evaluation (lib/evaluation.py, encode_data), with the weights of a model of vltk's."""

    def __init__(self, model: VSE, split: Split) -> None:
        self.model = model
        self.poolings = [self.pooling(side.pooling) for side in (model.image, model.text)]
        # The authors' loader holds all features in memory as one float32 array, and ids are made from words again.
        self.features = np.stack([split.features.get(str(i)).features for i in range(len(split) // 5)]).astype("f4")
        self.captions = [[1, *split.examples.get(str(i)).tokens[0].ids, 2] for i in range(len(split))]

    @staticmethod
    def pooling(ours: nn.Module) -> PublishedPooling:
        made = PublishedPooling(32).eval()
        made.load_state_dict(ours.coefficients.state_dict())
        return made

    @torch.no_grad()
    def run(self) -> tuple[np.ndarray, np.ndarray]:
        count = len(self.captions)
        images = captions = np.zeros((0, 0))
        for start in range(0, count, BATCH):
            numbers = list(range(start, min(start + BATCH, count)))
            if self.model.config.text == "bigru":  # packing of the time asks for falling lengths
                numbers.sort(key=lambda number: len(self.captions[number]), reverse=True)
            image, text = self.batch(numbers)
            if not images.size:
                images, captions = np.zeros((count, image.shape[1])), np.zeros((count, text.shape[1]))
            images[numbers], captions[numbers] = image.numpy(), text.numpy()
            scores = image @ text.t()
            (0.2 + scores - scores.diagonal().view(-1, 1)).clamp(min=0).max(1)[0].sum()
            (0.2 + scores - scores.diagonal().view(1, -1)).clamp(min=0).max(0)[0].sum()
        return images[::5], captions

    def batch(self, numbers: list[int]) -> tuple[Tensor, Tensor]:
        regions = torch.stack([torch.Tensor(self.features[number // 5]) for number in numbers])
        lengths = torch.Tensor([len(self.captions[number]) for number in numbers])
        ids = torch.zeros(len(numbers), int(lengths.max()), dtype=torch.long)
        for row, number in enumerate(numbers):
            ids[row, : len(self.captions[number])] = torch.tensor(self.captions[number])
        image = self.poolings[0](self.model.image.projection(regions), torch.full((len(numbers),), float(REGIONS)))
        return unit(image), unit(self.poolings[1](self.words(ids, lengths), lengths))

    def words(self, ids: Tensor, lengths: Tensor) -> Tensor:
        text = self.model.text
        if self.model.config.text == "bert":
            return text.project(text.bert(ids, attention_mask=(ids != 0).float()).last_hidden_state)
        packed = nn.utils.rnn.pack_padded_sequence(text.word(ids), lengths, batch_first=True)
        states = nn.utils.rnn.pad_packed_sequence(text.gru(packed)[0], batch_first=True)[0]
        half = states.shape[2] // 2
        return (states[:, :, :half] + states[:, :, half:]) / 2


def unit(states: Tensor) -> Tensor:
    return states / (states.pow(2).sum(dim=-1, keepdim=True).sqrt() + 1e-8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--text", choices=["bigru", "bert"], default="bigru")
    parser.add_argument("--captions", type=Path, help="JSON file {file name: [captions]}; drawn where left out")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = VSEConfig(text=arguments.text, vocabulary=WORDS).build().eval()
    with tempfile.TemporaryDirectory() as folder:
        split = write(Path(folder), arguments.images, arguments.captions)
        published = Published(model, split)
        task = Config().build(model, split)
        pairs = []
        for _ in range(arguments.repetitions):
            start = time.perf_counter()
            expected = published.run()
            middle = time.perf_counter()
            sides = Sides(
                task=task,
                split=split,
                text_ids=[str(number) for number in range(5 * arguments.images)],
                image_ids=[str(number) for number in range(arguments.images)],
            )
            found = [embeddings(sides, side, execution=Execution()) for side in ("images", "texts")]
            pairs.append((middle - start, time.perf_counter() - middle))
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    before, after = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(first / second for first, second in pairs)
    print(
        f"{arguments.images} pictures and {5 * arguments.images} captions, {arguments.text}, "
        f"{torch.get_num_threads()} threads: published {before:.1f} s, vltk {after:.1f} s, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
