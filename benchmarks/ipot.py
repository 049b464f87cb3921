"""How much faster transport plans come than by the published loop over full padded tensors.

    OMP_NUM_THREADS=1 python benchmarks/ipot.py --repeats 15

64 pairs of up to 30 word pieces and 60 regions (text about 14 +- 4, mean 36 boxes before the cut), 50 iterations. It
then shows how near the plan's cost comes to the exact optimum (POT's ``ot.emd``) as the iterations grow.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import ot
import torch
from torch import Tensor

from vltk.objectives.matching import cosine_cost, ipot

TEXT, REGIONS = 30, 60


def problem(pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return [B, T, R] costs of random states and the two masks; one pair fills each side."""
    dice = torch.Generator().manual_seed(0)
    texts = (14 + 4 * torch.randn(pairs, generator=dice)).round().clamp(4, TEXT).long()
    regions = torch.empty(pairs).exponential_(1 / 26, generator=dice).add(10).clamp(10, REGIONS).long()
    texts[0], regions[0] = TEXT, REGIONS
    states = [torch.randn(pairs, length, 64, generator=dice) for length in (TEXT, REGIONS)]
    return cosine_cost(*states), torch.arange(TEXT) < texts[:, None], torch.arange(REGIONS) < regions[:, None]


def plain(cost: Tensor, text_mask: Tensor, region_mask: Tensor, *, beta: float = 0.5, iterations: int = 50) -> Tensor:
    """Algorithm 1 of UNITER's supplement as it stands there: every step makes Q and T whole, padding included."""
    outside = (~text_mask.unsqueeze(2) | ~region_mask.unsqueeze(1)).transpose(1, 2)
    kernel = torch.exp(-cost.transpose(1, 2) / beta).masked_fill(outside, 0)
    text_count, region_count = text_mask.sum(1).view(-1, 1, 1), region_mask.sum(1).view(-1, 1, 1)
    text_padding, region_padding = (~text_mask).unsqueeze(1) * 1e4, (~region_mask).unsqueeze(1) * 1e4
    sigma = (text_mask / text_mask.sum(1, keepdim=True)).unsqueeze(2)
    plan = torch.ones(kernel.shape).masked_fill(outside, 0)  # row by row in memory, as published
    for _ in range(iterations):
        product = kernel * plan
        delta = 1 / (region_count * (product @ sigma).transpose(1, 2) + region_padding)
        sigma = (1 / (text_count * (delta @ product) + text_padding)).transpose(1, 2)
        plan = delta.transpose(1, 2) * product * sigma.transpose(1, 2)
    return plan.masked_fill(outside, 0).transpose(1, 2)


def excess(cost: Tensor, iterations: int) -> float:
    """Return by how much the plans' mean cost exceeds the exact optimum, as a share of it."""
    whole = [torch.ones(cost.shape[0], side, dtype=torch.bool) for side in cost.shape[1:]]
    found = (cost * ipot(cost, *whole, iterations=iterations)).sum(dim=(1, 2))
    exact = [float(ot.emd2([], [], matrix)) for matrix in cost.double().numpy()]
    return float(found.double().mean()) / (sum(exact) / len(exact)) - 1


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    inputs = problem(options.pairs)
    apart = float((ipot(*inputs) - plain(*inputs)).abs().max())
    ours, theirs = [], []
    for _ in range(options.repeats):
        ours.append(timed(lambda: ipot(*inputs)))
        theirs.append(timed(lambda: plain(*inputs)))
    fast, slow = statistics.median(ours), statistics.median(theirs)
    print(f"{options.pairs} pairs: {1e3 * fast:.2f} ms, plain {1e3 * slow:.2f} ms, ratio {slow / fast:.2f}")
    print(f"largest difference of a plan's entry: {apart:.1e}")
    dice = torch.Generator().manual_seed(1)
    random = torch.rand(20, 14, 36, generator=dice)
    states = cosine_cost(torch.randn(20, 14, 64, generator=dice), torch.randn(20, 36, 64, generator=dice))
    print("iterations   above the exact cost, 20 problems of 14 x 36: uniform costs, cosine costs of random states")
    for iterations in (10, 25, 50, 100, 200, 400, 800, 1600):
        print(f"{iterations:10d}   {excess(random, iterations):8.2%} {excess(states, iterations):8.2%}")


if __name__ == "__main__":
    main()
