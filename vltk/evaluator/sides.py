"""The two sides of a retrieval split, each read and embedded by number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vltk.tasks._task import RetrievalTask, Split
from vltk.types import Batch

_READ_TOGETHER = 128


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The texts and the pictures of a split that are to be compared.

    Attributes:
        task: reads and compares them.
        split: what they are read from.
        text_ids: C ids of examples.
        image_ids: I ids of pictures.
    """

    task: RetrievalTask
    split: Split
    text_ids: Sequence[str]
    image_ids: Sequence[str]

    def texts(self, rows: Sequence[int] | NDArray[Any]) -> Batch:
        """Read texts by their numbers."""
        return self.task.text_batch(self.split, [self.text_ids[row] for row in rows])

    def images(self, columns: Sequence[int] | NDArray[Any]) -> Batch:
        """Read pictures by their numbers."""
        return self.task.image_batch(self.split, [self.image_ids[column] for column in columns])

    @cached_property
    def text_lengths(self) -> NDArray[np.int32]:
        """[C] word pieces of each text, special ones included; every text is read once."""
        found = [self.texts(rows).text_mask.sum(dim=1).numpy() for rows in _parts(len(self.text_ids))]
        return np.concatenate(found).astype(np.int32)

    @cached_property
    def image_lengths(self) -> NDArray[np.int32]:
        """[I] regions of each picture, as the store counts them."""
        counts = (self.split.features.region_count(image_id) for image_id in self.image_ids)
        return np.fromiter(counts, np.int32, len(self.image_ids))


def _parts(count: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + _READ_TOGETHER, count)) for start in range(0, count, _READ_TOGETHER)]


class Embedded:
    """Embeddings of texts or of pictures of different lengths, one after the other without padding.

    Args:
        hidden: H.
        numbers: what is embedded: increasing numbers of texts or pictures.
        positions: how many positions they have together, about; more are made room for.
        device: where they lie.
    """

    def __init__(self, hidden: int, numbers: NDArray[Any], *, positions: int, device: torch.device) -> None:
        self.states = torch.empty(max(1, positions), hidden, device=device)
        self.lengths = torch.zeros(len(numbers), dtype=torch.long, device=device)
        self.starts = torch.zeros(len(numbers), dtype=torch.long, device=device)
        self._numbers, self._filled, self._end = numbers, 0, 0

    def add(self, embedded: Tensor, mask: Tensor) -> None:
        """Add [B, N, H] embeddings, of which [B, N] ``mask`` is real."""
        kept = embedded[mask].to(self.states.dtype)
        if self._end + len(kept) > len(self.states):
            self.states = torch.cat([self.states[: self._end], kept.new_empty(len(kept), kept.shape[1])])
        self.states[self._end : self._end + len(kept)] = kept
        lengths, rows = mask.sum(dim=1), slice(self._filled, self._filled + len(mask))
        self.lengths[rows] = lengths
        self.starts[rows] = self._end + lengths.cumsum(0) - lengths
        self._filled, self._end = rows.stop, self._end + len(kept)

    def take(self, numbers: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Return [B, N, H] embeddings of the given numbers, and their [B, N] mask; padding holds anything."""
        places = torch.from_numpy(np.searchsorted(self._numbers, numbers)).to(self.states.device)
        lengths = self.lengths[places].unsqueeze(1)
        offsets = torch.arange(int(lengths.max()), device=self.states.device)
        mask = offsets < lengths
        index = self.starts[places].unsqueeze(1) + torch.where(mask, offsets, 0)
        return self.states[index], mask


def embed_positions(
    read: Callable[[NDArray[Any]], Batch],
    embed: Callable[[Batch], Tensor],
    numbers: NDArray[Any],
    *,
    positions: int,
    device: torch.device,
) -> Embedded:
    """Read and embed texts or pictures once.

    Args:
        read: gives some of them by number.
        embed: gives [B, N, H].
        numbers: increasing numbers of what is embedded.
        positions: how many positions they have together, about.
        device: where to compute.
    """
    found: Embedded | None = None
    for start in range(0, len(numbers), _READ_TOGETHER):
        batch = read(numbers[start : start + _READ_TOGETHER]).to(device)
        embedded = embed(batch)
        if found is None:
            found = Embedded(embedded.shape[-1], numbers, positions=positions, device=device)
        found.add(embedded, batch.text_mask if batch.text_mask.shape[1] else batch.region_mask)
    if found is None:
        raise ValueError("nothing to embed")
    return found
