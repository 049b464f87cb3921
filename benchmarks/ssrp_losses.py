"""SSRP's stage-2 losses on whole batches against one sentence, and one pair of items, at a time.

Two paths are timed, forward and backward, on one thread: the probe distance loss from hidden states to the loss, and
both contrastive losses from relation matrices to the loss. The loops read the equations directly: for each sentence
map the difference of every two words by B, square, compare with the tree; for each item compare it with every other
one. A second loop over sentences maps the words before it takes differences, which is the same and does
less. All give the same losses, which is checked before anything is timed.

    python benchmarks/ssrp_losses.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from vltk.models._ssrp_layers import DistanceProbe, RelationProjection
from vltk.objectives.contrastive import cross_modality_losses, single_modality_losses
from vltk.objectives.probing import probe_losses

TEMPERATURE = 0.07


def sentences(batch: int, hidden: int, words: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return random states, trees (chains with random branches) and the mask of real words."""
    dice = torch.Generator().manual_seed(0)
    lengths = torch.randint(words[0], words[1] + 1, (batch,), generator=dice)
    size = int(lengths.max())
    mask = torch.arange(size) < lengths[:, None]
    trees = torch.full((batch, size, size), -1, dtype=torch.int16)
    for row, count in enumerate(lengths.tolist()):
        tree = torch.zeros(count, count, dtype=torch.int16)
        for word in range(1, count):
            head = int(torch.randint(max(0, word - 3), word, (), generator=dice))
            tree[word, :word] = tree[:word, word] = tree[head, :word] + 1
        trees[row, :count, :count] = tree
    return torch.randn(batch, size, hidden, generator=dice) * mask[..., None], trees, mask


def probe_whole(probe: DistanceProbe, states: Tensor, trees: Tensor, mask: Tensor) -> Tensor:
    return probe_losses(probe(states), trees, mask).mean()


def equation_loop(probe: DistanceProbe, states: Tensor, trees: Tensor, mask: Tensor) -> Tensor:
    total = states.new_zeros(())
    for words, tree, own in zip(states, trees, mask, strict=True):
        count = int(own.sum())
        differences = words[:count].unsqueeze(1) - words[:count].unsqueeze(0)
        squared = F.linear(differences, probe.map.weight).square().sum(dim=-1)
        total = total + (tree[:count, :count] - squared).abs().mean()
    return total / len(states)


def mapped_loop(probe: DistanceProbe, states: Tensor, trees: Tensor, mask: Tensor) -> Tensor:
    total = states.new_zeros(())
    for words, tree, own in zip(states, trees, mask, strict=True):
        count = int(own.sum())
        mapped = F.linear(words[:count], probe.map.weight)
        squared = (mapped.unsqueeze(1) - mapped.unsqueeze(0)).square().sum(dim=-1)
        total = total + (tree[:count, :count] - squared).abs().mean()
    return total / len(states)


def contrast_whole(project: RelationProjection, matrices: Tensor, mask: Tensor, others: Tensor) -> Tensor:
    vectors = project(matrices, mask)
    single = single_modality_losses(vectors, temperature=TEMPERATURE)
    return (single + cross_modality_losses(vectors, others, temperature=TEMPERATURE)).mean()


def contrast_loop(project: RelationProjection, matrices: Tensor, mask: Tensor, others: Tensor) -> Tensor:
    vectors = [project(one[None], own[None])[0] for one, own in zip(matrices, mask, strict=True)]
    half, total = len(vectors) // 2, matrices.new_zeros(())
    for row, vector in enumerate(vectors):
        partner = (row + half) % len(vectors)
        single = [F.cosine_similarity(vector, other, dim=0) / TEMPERATURE for other in vectors]
        rest = torch.stack([score for place, score in enumerate(single) if place != row])
        total = total + rest.logsumexp(0) - single[partner]
        crossing = [F.cosine_similarity(vector, other, dim=0) / TEMPERATURE for other in others]
        rest = torch.stack([score for place, score in enumerate(crossing) if place != partner])
        total = total + rest.logsumexp(0) - crossing[row]
    return total / len(vectors)


def timed(compute: Callable[[], Tensor]) -> float:
    """Return the seconds of one forward and backward pass."""
    start = time.perf_counter()
    compute().backward()
    return time.perf_counter() - start


def compare(name: str, loop: Callable[[], Tensor], whole: Callable[[], Tensor], repeats: int) -> None:
    """Print the median times of both, measured in turns, and their ratio."""
    torch.testing.assert_close(loop(), whole(), rtol=1e-3, atol=1e-3)
    timed(loop), timed(whole)
    pairs = [(timed(loop), timed(whole)) for _ in range(repeats)]
    slow, fast = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{name}: loop {slow * 1000:.1f} ms, batch {fast * 1000:.1f} ms, ratio {slow / fast:.1f}")


def main() -> None:
    """Measure at the published sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    for hidden, rank in ((768, 1024), (128, 64)):
        states, trees, mask = sentences(arguments.batch, hidden, (6, 20))
        probe = DistanceProbe(hidden=hidden, rank=rank)
        probe.initialise()
        for name, loop in (("each difference mapped", equation_loop), ("words mapped first", mapped_loop)):
            compare(
                f"probe distances, B {arguments.batch}, H {hidden}, rank {rank}, loop with {name}",
                partial(loop, probe, states, trees, mask),
                partial(probe_whole, probe, states, trees, mask),
                arguments.repeats,
            )
    states, _, mask = sentences(arguments.batch, 64, (36, 36))
    matrices = DistanceProbe(hidden=64, rank=64)(states).detach()
    project, others = RelationProjection(summary=64, size=256), torch.randn(arguments.batch, 256)
    compare(
        f"contrastive, {arguments.batch} matrices of 36 x 36",
        lambda: contrast_loop(project, matrices, mask, others),
        lambda: contrast_whole(project, matrices, mask, others),
        max(3, arguments.repeats // 2),
    )


if __name__ == "__main__":
    main()
