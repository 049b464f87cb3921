"""From examples to padded batches: which items go together, and how they are laid side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vltk.errors import DataError
from vltk.types import Batch, RegionFeatures


@dataclass(frozen=True, kw_only=True)
class TokenBuckets:
    """Batches of similar length under a budget of padded tokens (UNITER's published data loading).

    Items are shuffled, cut into buckets, sorted by length inside each, and filled greedily; the batches are then
    shuffled. The result is a pure function of the lengths and the seed.

    Args:
        max_tokens: longest item times number of items of a batch stays within this.
        bucket_size: items that are sorted together.
        multiple: batches grow by this many items.
        official: keep the published rule, whose running maximum is never reset inside a bucket, so that every
            batch of a bucket is as small as its longest item demands (39 % of the budget on real lengths).
        drop_last: drop the unfinished batch of every bucket, as the published training does.

    Example:
        >>> batches = TokenBuckets(max_tokens=12, multiple=1).batches(np.array([3, 3, 3, 3, 6, 6]), seed=0)
        >>> sorted(sorted(batch.tolist()) for batch in batches)
        [[0, 1, 2, 3], [4, 5]]
    """

    max_tokens: int
    bucket_size: int = 8192
    multiple: int = 8
    official: bool = False
    drop_last: bool = False

    @classmethod
    def filled_as(cls, batching: str, *, max_tokens: int) -> TokenBuckets:
        """Return those of a training run: "full", or "official", as the published sampler fills and drops them."""
        official = batching == "official"
        return cls(max_tokens=max_tokens, official=official, drop_last=official)

    def batches(self, lengths: NDArray[Any], *, seed: int) -> list[NDArray[np.int32]]:
        """Return the batches of one pass as indices into [N] ``lengths``.

        Raises:
            DataError: an item that is longer than the budget allows for ``multiple`` of its kind.
        """
        dice = np.random.default_rng(seed)
        filled = self.filled(dice.permutation(len(lengths)).astype(np.int32), lengths)
        return [filled[place] for place in dice.permutation(len(filled))]

    def filled(self, order: NDArray[np.int32], lengths: NDArray[Any]) -> list[NDArray[np.int32]]:
        """Return the batches of items that come in a given order, not yet shuffled."""
        starts = range(0, len(order), self.bucket_size)
        return [batch for start in starts for batch in self._fill(order[start : start + self.bucket_size], lengths)]

    def _fill(self, bucket: NDArray[np.int32], lengths: NDArray[Any]) -> list[NDArray[np.int32]]:
        bucket = bucket[np.argsort(-lengths[bucket], kind="stable")]
        batches: list[NDArray[np.int32]] = []
        start = 0
        while start < len(bucket):
            # Items fall in length, so the first of a batch is its longest; the published maximum is the bucket's.
            item = int(bucket[0 if self.official else start])
            longest = max(1, int(lengths[item]))
            size = self.max_tokens // (longest * self.multiple) * self.multiple
            if not size:
                problem = f"item {item} of {longest} tokens, {self.multiple} of which exceed {self.max_tokens}"
                raise DataError(problem, where="--batch-tokens", remedy="allow more tokens or cut the texts")
            batches.append(bucket[start : start + size])
            start += size
        return batches[:-1] if self.drop_last else batches


NO_TOKEN = -1
"""Where a text has no start or separator."""


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The ids that frame a text (BERT: [CLS] text [SEP], padding 0); -1 where a vocabulary frames nothing (HGR)."""

    start: int
    separator: int
    padding: int = 0

    @classmethod
    def of(cls, special_ids: Mapping[str, int]) -> SpecialTokens:
        """Return the frame that a tokenizer's special ids name."""
        start, separator = (special_ids.get(name, NO_TOKEN) for name in ("[CLS]", "[SEP]"))
        return cls(start=start, separator=separator, padding=special_ids.get("[PAD]", 0))

    def frame(self, *parts: Sequence[int]) -> list[int]:
        """Return start, then each part followed by a separator.

        Example:
            >>> SpecialTokens(start=101, separator=102).frame([7, 8], [9])
            [101, 7, 8, 102, 9, 102]
            >>> SpecialTokens.of({"[PAD]": 1}).frame([7, 8])
            [7, 8]
        """
        framed = [self.start, *(token for part in parts for token in (*part, self.separator))]
        return [token for token in framed if token != NO_TOKEN]


def collate(
    ids: Sequence[str],
    texts: Sequence[Sequence[int]],
    regions: Sequence[RegionFeatures],
    *,
    padding: int = 0,
    types: Sequence[Sequence[int]] | None = None,
    half: bool = False,
) -> Batch:
    """Pad texts and regions to the longest of each and lay them side by side.

    Args:
        ids: B names.
        texts: B framed texts.
        regions: B pictures.
        padding: id that fills short texts.
        types: the segment of each word piece, None where all stand in segment 0.
        half: keep features that are stored as fp16 in that type, half the bytes to move to the device, where
            :meth:`~vltk.types.Batch.to` makes them fp32.

    Raises:
        DataError: the three differ in number, or two pictures in feature size.
    """
    if not len(ids) == len(texts) == len(regions):
        raise DataError(f"{len(ids)} ids, {len(texts)} texts, {len(regions)} pictures", remedy="give one each")
    words, pictures = collate_texts(ids, texts, padding=padding, types=types), collate_regions(ids, regions, half=half)
    return beside(words, pictures)


def collate_texts(
    ids: Sequence[str],
    texts: Sequence[Sequence[int]],
    *,
    padding: int = 0,
    types: Sequence[Sequence[int]] | None = None,
) -> Batch:
    """Pad texts alone; the batch has no regions. The arguments are those of :func:`collate`."""
    input_ids, text_mask = _pad([torch.tensor(text, dtype=torch.long) for text in texts], padding)
    rows = None if types is None else _pad([torch.tensor(row, dtype=torch.long) for row in types], 0)[0]
    return Batch(
        ids=tuple(ids),
        input_ids=input_ids,
        text_mask=text_mask,
        regions=torch.zeros(len(texts), 0, 0),
        locations=torch.zeros(len(texts), 0, 7),
        region_mask=torch.zeros(len(texts), 0, dtype=torch.bool),
        text_types=rows,
    )


def collate_regions(
    ids: Sequence[str], regions: Sequence[RegionFeatures], *, half: bool = False, located: bool = True
) -> Batch:
    """Pad regions alone; the batch has no texts.

    Args:
        ids: as for :func:`collate`.
        regions: as there.
        half: as there.
        located: the model asks where regions are. Without, locations are zeros, and pictures need no boxes (SCAN).

    Raises:
        DataError: two pictures differ in feature size, or one has no boxes where they are asked for.
    """
    sizes = {len(picture.features.T): picture.image_id for picture in regions}
    if len(sizes) > 1:
        problem = " and ".join(f"{size} (image {image})" for size, image in sorted(sizes.items()))
        raise DataError(f"features of different sizes in one batch: {problem}", remedy="use stores of one detector")
    features, region_mask = _stack([picture.features for picture in regions], half=half)
    if located:
        locations, _ = _stack([picture.location() for picture in regions])
    else:
        locations = torch.zeros(*region_mask.shape, 7)
    return Batch(
        ids=tuple(ids),
        input_ids=torch.zeros(len(regions), 0, dtype=torch.long),
        text_mask=torch.zeros(len(regions), 0, dtype=torch.bool),
        regions=features,
        locations=locations,
        region_mask=region_mask,
    )


def beside(texts: Batch, pictures: Batch) -> Batch:
    """Return the regions of one batch beside the texts of another; one of them may have a single row for all."""
    sides = {name: getattr(pictures, name) for name in ("regions", "locations", "region_mask", "region_types")}
    return replace(texts, **sides)


def _stack(rows: Sequence[NDArray[Any]], *, half: bool = False) -> tuple[Tensor, Tensor]:
    """Copy [R, D] arrays of a store into one [B, R, D] tensor of fp32, or fp16 where all are; also return its mask."""
    lengths = torch.tensor([len(row) for row in rows])
    kept = torch.float16 if half and all(row.dtype == np.float16 for row in rows) else torch.float32
    stacked = torch.empty(len(rows), int(lengths.max()), rows[0].shape[1], dtype=kept)
    for place, row in zip(stacked.numpy(), rows, strict=True):
        place[: len(row)] = row
        place[len(row) :] = 0
    return stacked, torch.arange(stacked.shape[1]) < lengths.unsqueeze(1)


def _pad(rows: Sequence[Tensor], value: int) -> tuple[Tensor, Tensor]:
    """Stack rows of different length; also return the [B, N] mask of what is real."""
    stacked = pad_sequence(list(rows), batch_first=True, padding_value=value)
    lengths = torch.tensor([len(row) for row in rows])
    return stacked, torch.arange(stacked.shape[1]) < lengths.unsqueeze(1)
