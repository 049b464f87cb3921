"""Captions generated beside matching, as VSRN learns them (section 3.4, equations 9 and 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vltk.types import Batch

PADDING = 0
"""Id of padding in every published vocabulary; the published model learns to say it once behind the end."""


class CaptionTargets(NamedTuple):
    """What is to be said after what.

    Attributes:
        words: [B, T] int64 ids.
        targets: [B, T] int64 ids that come next.
        counts: [B] how many of them count, from the left.
    """

    words: Tensor
    targets: Tensor
    counts: Tensor


def caption_targets(ids: Tensor, mask: Tensor, *, longest: int = 60) -> CaptionTargets:
    """Return the targets of captions, as published.

    A caption that is too long is cut so that its last word is its end. The end is followed by one padding, unless it
    stands at the last place allowed.

    Args:
        ids: [B, T] int64 captions with their frame.
        mask: [B, T] bool, true on words; padding stands at the right end.
        longest: most words of a caption with its frame.

    Example:
        >>> ids = torch.tensor([[1, 7, 8, 2], [1, 9, 2, 0]])
        >>> made = caption_targets(ids, ids != 0)
        >>> made.targets.tolist(), made.counts.tolist()
        ([[7, 8, 2, 0], [9, 2, 0, 0]], [4, 3])
    """
    lengths = mask.long().sum(dim=1)
    kept = lengths.clamp(max=longest)
    labels = F.pad(ids, (0, 1))[:, : int(kept.max()) + 1]
    labels = labels.scatter(1, (kept - 1).unsqueeze(1), ids.gather(1, (lengths - 1).unsqueeze(1)))
    places = torch.arange(labels.shape[1], device=ids.device)
    labels = labels.masked_fill(places >= kept.unsqueeze(1), PADDING)
    counts = kept.clamp(max=longest - 1)
    width = int(counts.max())
    return CaptionTargets(labels[:, :width], labels[:, 1 : width + 1], counts)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The loss of generating a batch's captions from its relation-enhanced regions (equation 9).

    Args:
        longest: most words of a caption with its frame.
    """

    longest: int = 60

    @classmethod
    def of(cls, model: Any) -> Generation | None:
        """Return it for a model that generates captions, None for any other."""
        if getattr(model, "captions", None) is None:
            return None
        return cls(longest=model.config.caption_length)

    def losses(self, model: Any, regions: Tensor, region_mask: Tensor, texts: Batch) -> Tensor:
        """Return [B] losses, the sum of which is the published mean over captions.

        Args:
            model: with ``captions``.
            regions: [B, R, H] relation-enhanced regions.
            region_mask: [B, R] bool, true on regions.
            texts: the whole captions, whatever augmentation has done to those that are matched.
        """
        made = caption_targets(texts.input_ids, texts.text_mask, longest=self.longest)
        found: Tensor = model.captions.losses(regions, region_mask, *made)
        return found / len(found)
