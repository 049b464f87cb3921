"""Pairs of picture and caption from any published caption file, to pre-train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vltk.tasks import _captions
from vltk.tasks._retrieval import RetrievalConfig
from vltk.tasks._source import read_one
from vltk.types import Example

LAYOUTS = (
    _captions.KARPATHY_COCO,
    _captions.COCO,
    _captions.CONCEPTUAL_CAPTIONS,
    _captions.FLICKR8K,
    _captions.MSRVTT,
    _captions.CAPTION_LISTS,
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Captions in one of the published layouts. Image ids are file names without suffix unless said otherwise."""

    karpathy: Path | None = None
    """Karpathy's dataset_*.json (Flickr30k, COCO, Flickr8k); needs --split."""
    coco: Path | None = None
    """COCO's captions_*.json."""
    conceptual: Path | None = None
    """Conceptual Captions' rows of caption and url, tab-separated; --image-id names the pictures."""
    flickr8k: Path | None = None
    """Flickr8k's captions.txt or Flickr8k.token.txt (or Flickr30k's results_20130124.token)."""
    msrvtt: Path | None = None
    """MSR-VTT's table of key, vid_key, video_id, sentence; image ids are its video ids."""
    caption_lists: Path | None = None
    """A JSON file {file name: [captions]}."""
    split: Literal["train", "val", "test"] | None = None
    """Which split of --karpathy, which needs it."""
    restval: bool = True
    """Count COCO's restval images of --karpathy as train images."""
    tokens: bool = False
    """Take the lower-case tokens of --karpathy without punctuation, not its raw sentences."""
    images: Path | None = None
    """List of the images of a split of --flickr8k (Flickr_8k.testImages.txt), one a line."""
    image_id: str = "{row:09d}"
    """Image id of a row of --conceptual, whose pictures have no names; {row} is its 0-based number."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each caption."""
        return read_one(self, LAYOUTS)


@dataclass(frozen=True, kw_only=True)
class Config(RetrievalConfig):
    """Image-text retrieval on any pairs of picture and caption."""
