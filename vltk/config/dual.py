"""What a training run is told of dual encoders (VSE++, VSE-infinity, VSRN)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vltk.config import option
from vltk.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DualConfig:
    """How a dual encoder learns from the pairs of its batch; --task options of joint encoders do not count then."""

    mean_warmup: int = 1
    """Epochs that count all negatives before the hardest ones take over; 0 often ends in collapse."""
    embedding_warmup: int = 1
    """Epochs in which the network of a grid stands still; the loss grows from 0 in the epoch after."""
    backbone_warmup: int = 0
    """Epochs for each of three steps that free that network's stages from the top; 0 frees all at once."""
    drop_regions: bool = True
    """Drop a fifth of the regions, or some grids, of each picture (size augmentation)."""
    drop_words: bool = True
    """Mask, replace or drop a fifth of the words of each text (size augmentation)."""
    word_pieces: Path | None = None
    """The vocab.txt of the examples: pieces of one word then share their fate, as published; else each has its own."""
    pictures: Path | None = option(None, incidental=True)
    """Folder of the pictures, for models of grids; folders below it count, so that one serves all splits."""
    count_same: bool = False
    """Take another caption of the same picture for a negative, as the authors' code does."""
    average_loss: bool = False
    """Average the loss over the batch, as HGR does for videos, instead of adding it up."""
    hardest_count: int = 1
    """So many of the hardest negatives of each picture and text count, by their mean (HGR's hard_topk)."""

    def __post_init__(self) -> None:
        for name in ("mean_warmup", "embedding_warmup", "backbone_warmup"):
            if getattr(self, name) < 0:
                where = f"--{name.replace('_', '-')}"
                raise UsageError(f"{getattr(self, name)} is negative", where=where, remedy="use 0 or more epochs")
        if self.hardest_count < 1:
            raise UsageError(f"{self.hardest_count} is too few", where="--hardest-count", remedy="use 1 or more")
