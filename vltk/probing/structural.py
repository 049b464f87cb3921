"""The structural probe: a linear map under which squared distances of words are their distances in the tree.

Hewitt and Manning, "A Structural Probe for Finding Syntax in Word Representations", NAACL 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vltk.errors import StoppedEarlyError, UsageError
from vltk.models._ssrp_layers import DistanceProbe
from vltk.objectives.probing import probe_losses

_SAMPLE = 128


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How a probe learns.

    Attributes:
        rank: k, dimensions of the space that distances are measured in; at most those of the states.
        epochs: passes over the training sentences.
        learning_rate: of Adam at the beginning; it falls to nothing in a straight line.
        sentences: of a batch.
        seed: of the first weights and of the order of sentences.
    """

    rank: int = 64
    epochs: int = 40
    learning_rate: float = 1e-2
    sentences: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rank, self.epochs, self.sentences) < 1 or not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"got {self}", where="probe", remedy="each number is positive")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeBatch:
    """Sentences side by side.

    Attributes:
        words: [B, N] rows in a table of all words; any row where there is no word.
        gold: [B, N, N] edges between the words.
        mask: [B, N] bool, true on words.
    """

    words: Tensor
    gold: Tensor
    mask: Tensor

    def loss(self, probe: DistanceProbe, table: Tensor) -> Tensor:
        """Return the [B] losses of a probe on the words of a table (section 3.1, the equation of its loss)."""
        device = table.device
        return probe_losses(probe(table[self.words.to(device)]), self.gold.to(device), self.mask.to(device))


@dataclass(frozen=True, kw_only=True, eq=False)
class Trees:
    """The words of sentences in one layer, and how far apart they are in their trees.

    Attributes:
        states: [W, H] of all words.
        starts: [S + 1] where each sentence begins in it.
        gold: for each sentence its [N, N] distances.
    """

    states: NDArray[np.float32]
    starts: NDArray[np.int64]
    gold: Sequence[NDArray[np.int32]]

    def batch(self, rows: Sequence[int]) -> TreeBatch:
        """Lay sentences side by side."""
        counts = [len(self.gold[row]) for row in rows]
        longest = max(counts)
        mask = torch.arange(longest) < torch.tensor(counts).unsqueeze(1)
        places = torch.tensor([int(self.starts[row]) for row in rows]).unsqueeze(1) + torch.arange(longest)
        gold = torch.zeros(len(rows), longest, longest)
        for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
            gold[place, :count, :count] = torch.from_numpy(self.gold[row])
        return TreeBatch(words=places.clamp(max=len(self.states) - 1), gold=gold, mask=mask)

    def by_length(self, rows: Sequence[int], size: int) -> list[list[int]]:
        """Return sentences of similar length together."""
        return [list(part) for part in _parts(sorted(rows, key=lambda row: len(self.gold[row])), size)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A probe that has learnt.

    Attributes:
        probe: the map.
        epochs: passes after which its validation loss was lowest.
        validation: this loss.
    """

    probe: DistanceProbe
    epochs: int
    validation: float


def fit(
    trees: Trees,
    train: Sequence[int],
    validation: Sequence[int],
    how: Fitting,
    *,
    device: torch.device | str = "cpu",
    stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Let a probe learn (section 3.1), and keep it as it was where the validation loss was lowest.

    Args:
        trees: words with distances.
        train: sentences it learns from.
        validation: sentences that say which pass is kept.
        how: the procedure.
        device: where to compute.
        stop: asked after each pass whether to end.

    Raises:
        StoppedEarlyError: it was asked to stop.
    """
    torch.manual_seed(how.seed)
    table = torch.from_numpy(np.ascontiguousarray(trees.states)).to(device)
    probe = new_probe(table.shape[1], how.rank).to(device)
    order = torch.randperm(len(train)).tolist()
    batches = [trees.batch([train[place] for place in part]) for part in _parts(order, how.sentences)]
    tests = [trees.batch(rows) for rows in trees.by_length(validation, _SAMPLE)]
    _rescale(probe, table, batches[:: max(1, len(batches) // 8)])
    optimizer = torch.optim.Adam(probe.parameters(), lr=how.learning_rate)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=how.epochs * len(batches))
    best, kept, best_epoch = _mean_loss(probe, table, tests), probe.map.weight.detach().clone(), 0
    for epoch in range(1, how.epochs + 1):
        for number in torch.randperm(len(batches), generator=torch.Generator().manual_seed(how.seed + epoch)).tolist():
            loss = batches[number].loss(probe, table).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate.step()
        now = _mean_loss(probe, table, tests)
        if now < best:
            best, kept, best_epoch = now, probe.map.weight.detach().clone(), epoch
        if stop():
            raise StoppedEarlyError("stopped while a probe was learning", remedy="the same command goes on")
    with torch.no_grad():
        probe.map.weight.copy_(kept)
    return Fitted(probe=probe.cpu(), epochs=best_epoch, validation=best)


def new_probe(hidden: int, rank: int) -> DistanceProbe:
    """Return a probe of states of a size with random weights."""
    probe = DistanceProbe(hidden=hidden, rank=min(rank, hidden))
    probe.initialise()
    return probe


def _parts(order: Sequence[int], size: int) -> list[Sequence[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


@torch.no_grad()
def _rescale(probe: DistanceProbe, table: Tensor, batches: Sequence[TreeBatch]) -> None:
    """Bring the first distances to the size of those in trees, whatever the scale of the states."""
    wanted = found = 0.0
    for batch in batches:
        pairs = batch.mask.unsqueeze(1) & batch.mask.unsqueeze(2)
        wanted += float((batch.gold * pairs).sum())
        found += float((probe(table[batch.words.to(table.device)]).cpu() * pairs).sum())
    if found > 0:
        probe.map.weight.mul_((wanted / found) ** 0.5)


@torch.no_grad()
def _mean_loss(probe: DistanceProbe, table: Tensor, batches: Sequence[TreeBatch]) -> float:
    return float(torch.cat([batch.loss(probe, table) for batch in batches]).mean())


@torch.no_grad()
def predicted_distances(
    probe: DistanceProbe, trees: Trees, rows: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (sentence, [N, N] squared distances under the probe) of sentences, in any order."""
    for chunk in trees.by_length(rows, _SAMPLE):
        words = trees.batch(chunk).words.numpy()
        found = probe(torch.from_numpy(np.ascontiguousarray(trees.states[words]))).numpy()
        for place, row in enumerate(chunk):
            count = len(trees.gold[row])
            yield row, found[place, :count, :count]
