"""How many more examples a second the masked-word objective learns from than a plain implementation of the paper.

    OMP_NUM_THREADS=1 python benchmarks/mlm_step.py --repeats 5

Forward and backward of a base-size UNITER in fp32, texts of about 14 +- 4 word pieces, 10 to 100 boxes (mean 36). The
plain side takes the examples as they come, embeds each by itself, lays text and regions side by side in a loop, pads
to the longest pair of the batch, and attends with an explicit softmax; the words that are asked for are picked out
before the vocabulary is scored, as published. Both sides see the same examples with the same words hidden, and the
gradients are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vltk.batching import TokenBuckets, collate
from vltk.models._layers import TransformerLayer
from vltk.models.uniter import UNITERConfig, UNITERForPretraining
from vltk.objectives.masked import MLM
from vltk.types import Batch, RegionFeatures

WORDS = (999, 28996)
OBJECTIVE = MLM(mask_id=103, special_ids=(0, 101, 102, 103), vocabulary=WORDS)


def pairs(count: int, width: int) -> list[Batch]:
    """Return single pairs of real lengths, words already hidden."""
    dice = np.random.default_rng(0)
    found = []
    for number in range(count):
        words = int(np.clip(round(dice.normal(14, 4)), 4, 30))
        boxes = int(np.clip(round(10 + dice.exponential(26)), 10, 100))
        corners = dice.random((boxes, 2, 2), np.float32).cumsum(axis=1).reshape(boxes, 4) * 200
        regions = RegionFeatures(
            image_id=str(number), features=dice.random((boxes, width), np.float32), boxes=corners, size=(400, 400)
        )
        text = [101, *dice.integers(*WORDS, words).tolist(), 102]
        found.append(
            OBJECTIVE.corrupt(collate([str(number)], [text], [regions]), torch.Generator().manual_seed(number))
        )
    return found


def joined(examples: Sequence[Batch]) -> Batch:
    """Return one padded batch of single pairs."""

    def pad(name: str) -> Tensor:
        return nn.utils.rnn.pad_sequence([getattr(one, name)[0] for one in examples], batch_first=True)

    labels = [one.targets["words"][0] for one in examples]
    batch = replace(examples[0], ids=tuple(one.ids[0] for one in examples))
    names = ("input_ids", "text_mask", "regions", "locations", "region_mask")
    targets = {"words": nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-1)}
    return replace(batch, **{name: pad(name) for name in names}, targets=targets)


def bucketed(model: UNITERForPretraining, examples: Sequence[Batch], tokens: int) -> Tensor:
    """Train on the examples as vltk does; return the summed loss."""
    lengths = np.array([one.input_ids.shape[1] + one.regions.shape[1] for one in examples])
    total = torch.zeros(())
    for rows in TokenBuckets(max_tokens=tokens, multiple=1).batches(lengths, seed=0):
        losses = OBJECTIVE.forward(model, joined([examples[row] for row in rows])).values.sum()
        losses.backward()
        total += losses.detach()
    return total


def plain(model: UNITERForPretraining, examples: Sequence[Batch], size: int) -> Tensor:
    """Train on the examples in their order, ``size`` at a time; return the summed loss."""
    total = torch.zeros(())
    for start in range(0, len(examples), size):
        losses = plain_losses(model, examples[start : start + size]).sum()
        losses.backward()
        total += losses.detach()
    return total


def plain_losses(model: UNITERForPretraining, examples: Sequence[Batch]) -> Tensor:
    rows = []
    for one in examples:
        rows.append(torch.cat([model.encoder.embed_text(one)[0], model.encoder.embed_regions(one)[0]]))
    longest = max(len(row) for row in rows)
    states = torch.stack([torch.cat([row, row.new_zeros(longest - len(row), row.shape[1])]) for row in rows])
    mask = torch.stack([torch.arange(longest) >= len(row) for row in rows])[:, None, None, :] * -10000.0
    for layer in model.encoder.layers:
        states = plain_layer(layer, states, mask)
    asked, labels = [], []
    for row, one in enumerate(examples):
        for place, label in enumerate(one.targets["words"][0].tolist()):
            if label >= 0:
                asked.append(states[row, place])
                labels.append(label)
    return F.cross_entropy(model.word_logits(torch.stack(asked)), torch.tensor(labels), reduction="none")


def plain_layer(
    layer: TransformerLayer, states: Tensor, mask: Tensor, activation: Callable[[Tensor], Tensor] = F.gelu
) -> Tensor:
    batch, length, hidden = states.shape
    weights, biases = layer.attention.qkv.weight.chunk(3), layer.attention.qkv.bias.chunk(3)
    query, key, value = (
        F.linear(states, weight, bias).view(batch, length, layer.attention.heads, -1).transpose(1, 2)
        for weight, bias in zip(weights, biases, strict=True)
    )
    probabilities = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + mask, dim=-1)
    context = (probabilities @ value).transpose(1, 2).reshape(batch, length, hidden)
    states = layer.attention_norm(states + layer.attention.output(context))
    return layer.output_norm(states + layer.contract(activation(layer.expand(states))))


def timed(model: UNITERForPretraining, run: Callable[[], Tensor]) -> tuple[float, float]:
    model.zero_grad()
    start = time.perf_counter()
    loss = float(run())
    return time.perf_counter() - start, loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=48)
    parser.add_argument("--batch", type=int, default=48, help="examples of a plain batch")
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of a bucketed batch")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    config = UNITERConfig(layers=options.layers, dropout=0.0)
    torch.manual_seed(0)
    model = config.build_for_pretraining().train()
    examples = pairs(options.examples, config.region_dim)
    runs = {
        "vltk": lambda: bucketed(model, examples, options.tokens),
        "plain": lambda: plain(model, examples, options.batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    gradients = {}
    for _ in range(options.repeats):
        for name, run in runs.items():
            took, loss = timed(model, run)
            seconds[name].append(took)
            gradients[name] = model.encoder.layers[0].attention.qkv.weight.grad.clone()
            print(f"{name}: {took:.2f} s, {options.examples / took:.2f} examples a second, loss {loss:.3f}", flush=True)
    apart = (gradients["vltk"] - gradients["plain"]).abs().max() / gradients["plain"].abs().max()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"largest difference of a gradient of the first layer: {float(apart):.1e} of the largest gradient")
    print(f"ratio of medians: {medians['plain'] / medians['vltk']:.2f}")


if __name__ == "__main__":
    main()
