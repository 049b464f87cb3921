"""What the relation loss (IAIS) adds to a training step of image-text retrieval with hard negatives.

    python benchmarks/iais_step.py --size tiny
    python benchmarks/iais_step.py --size base --candidates 24 --hard 7 --repetitions 5

A step is what ``vltk finetune`` does with one positive: score the candidates without gradient, learn from the hardest,
backward, update. Alternating in one run, each on the same batch:

* ``plain``: the ranking loss alone;
* ``singular``, ``distributed``: with the relation loss in its published form, as vltk computes it;
* ``loops``: with the relation loss in the way of the published code: probabilities over the whole sequence once for
  each of the four kinds of attention, then a loop over pairs and, in the singular form, over items.

Printed are processor times and the medians of the pairwise ratios to ``plain``. Features, texts and weights are made
up.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor

from vltk.batching import SpecialTokens
from vltk.models.uniter import UNITERConfig
from vltk.objectives.ranking import HARD, RELATION_WEIGHT, Ranking
from vltk.objectives.relations import IAIS
from vltk.optimization import PublishedAdamW
from vltk.types import Batch

SPECIAL = SpecialTokens(start=101, separator=102)
SIZES = {
    "tiny": UNITERConfig(
        vocabulary=500, hidden=128, layers=4, heads=4, intermediate=512, positions=64, region_dim=256, dropout=0.0
    ),
    "base": UNITERConfig(),
}


def draw(size: UNITERConfig, *, half: str, candidates: int, words: int, regions: int, seed: int) -> Batch:
    """One text with many pictures, or one picture with many texts; lengths vary by a half."""
    dice = torch.Generator().manual_seed(seed)
    texts, pictures = (1, candidates) if half == "text" else (candidates, 1)

    def lengths(count: int, most: int) -> Tensor:
        return torch.randint(most // 2, most + 1, (count, 1), generator=dice).clamp(min=4)

    text_lengths, region_counts = lengths(texts, words + 2), lengths(pictures, regions)
    ids = torch.randint(103, size.vocabulary, (texts, int(text_lengths.max())), generator=dice)
    ids[:, 0] = SPECIAL.start
    ids.scatter_(1, text_lengths - 1, SPECIAL.separator)
    most = int(region_counts.max())
    return Batch(
        ids=tuple(map(str, range(candidates))),
        input_ids=ids,
        text_mask=torch.arange(ids.shape[1]) < text_lengths,
        regions=torch.randn(pictures, most, size.region_dim, generator=dice),
        locations=torch.rand(pictures, most, 7, generator=dice),
        region_mask=torch.arange(most) < region_counts,
        targets={RELATION_WEIGHT: torch.tensor(0.5)},
    )


class LoopedIAIS(IAIS):
    """The way of the published code: four times the whole sequence, and loops over pairs and items."""

    def losses(
        self, scores: Tensor, text_mask: Tensor, region_mask: Tensor, *, anchors: tuple[str, ...] | None = None
    ) -> Tensor:
        count, width = text_mask.shape
        empty_text, empty_regions = torch.zeros_like(text_mask), torch.zeros_like(region_mask)
        only_text = torch.cat([text_mask, empty_regions], 1).float()
        only_regions = torch.cat([empty_text, region_mask], 1).float()
        finite = scores.masked_fill(scores == -torch.inf, 0)
        probabilities = {}
        for name, (rows, columns) in {
            "LL": (only_text, only_text),
            "VV": (only_regions, only_regions),
            "LV": (only_text, only_regions),
            "VL": (only_regions, only_text),
        }.items():
            mask = (rows.unsqueeze(2) * columns.unsqueeze(1)).unsqueeze(1)
            probabilities[name] = ((finite + (1 - mask) * -10000.0).softmax(-1) * mask).mean(1)
        total = scores.new_zeros(())
        for row in range(count):
            text, image = text_mask[row].nonzero()[:, 0].tolist(), region_mask[row].nonzero()[:, 0].tolist()
            places = {"L": text, "V": [width + place for place in image]}
            cut = {
                name: found[row][torch.tensor(places[name[0]])][:, torch.tensor(places[name[1]])]
                for name, found in probabilities.items()
            }
            for anchor in self.anchors if anchors is None else anchors:
                other = "V" if anchor == "L" else "L"
                own = cut[anchor + anchor]
                if self.alignment == "singular":
                    index = cut[anchor + other].argmax(-1).tolist()
                    rows_taken = [torch.stack([cut[other + other][i, j] for j in index]) for i in index]
                    mirror = torch.stack(rows_taken).softmax(-1)
                    eps = 0.0
                else:
                    mirror, eps = cut[anchor + other] @ cut[other + anchor], 1e-6
                divergence = torch.nn.functional.kl_div
                total = total + divergence((own + eps).log(), mirror, reduction="batchmean")
                total = total + divergence((mirror + eps).log(), own, reduction="batchmean")
        return total.expand(1) / count


def step(module: Ranking, optimizer: PublishedAdamW, batch: Batch, iais: IAIS | None) -> float:
    """One update; seconds of the processor, which another program on the machine does not change."""
    module.iais = iais
    begin = time.process_time()
    losses = module(HARD, batch, torch.Generator())
    losses.values.sum().backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 2.0)
    optimizer.step()
    optimizer.zero_grad()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--candidates", type=int, default=400, help="pairs that are scored")
    parser.add_argument("--hard", type=int, default=31, help="negatives that are learnt from")
    parser.add_argument("--words", type=int, default=20)
    parser.add_argument("--regions", type=int, default=36)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    size = SIZES[given.size]
    torch.manual_seed(0)
    module = Ranking(size.build(), hard=given.hard, special=SPECIAL).train()
    optimizer = PublishedAdamW(module.parameters(), lr=1e-6)
    print(f"{given.size}: {given.candidates} candidates, {given.hard} hard negatives, {given.threads} threads")
    for alignment in ("singular", "distributed"):
        kinds = {"plain": None, alignment: IAIS(alignment=alignment), "loops": LoopedIAIS(alignment=alignment)}
        for half in ("text", "image"):
            shape = {"candidates": given.candidates, "words": given.words, "regions": given.regions}
            seconds: dict[str, list[float]] = {name: [] for name in kinds}
            for repetition in range(given.repetitions + 1):
                batch = draw(size, half=half, seed=repetition, **shape)
                for name, iais in kinds.items():
                    taken = step(module, optimizer, batch, iais)
                    if repetition:  # the first is for warming up
                        seconds[name].append(taken)
            for name in (alignment, "loops"):
                ratios = [a / b for a, b in zip(seconds[name], seconds["plain"], strict=True)]
                print(
                    f"{alignment:12} {half:5} {name:12} {statistics.median(seconds[name]) * 1e3:8.1f} ms  plain "
                    f"{statistics.median(seconds['plain']) * 1e3:8.1f} ms  ratio {statistics.median(ratios):.3f}"
                )


if __name__ == "__main__":
    main()
