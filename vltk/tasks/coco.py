"""Image-text retrieval on COCO."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vltk.tasks import _captions
from vltk.tasks._retrieval import RetrievalConfig
from vltk.tasks._source import read_one
from vltk.types import Example

LAYOUTS = (_captions.KARPATHY_COCO, _captions.COCO)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Captions of COCO; one of two layouts is given. Image ids are file names without .jpg: 000000000139."""

    karpathy: Path | None = None
    """Karpathy's dataset_coco.json; needs --split."""
    coco: Path | None = None
    """COCO's own captions_*.json."""
    split: Literal["train", "val", "test"] | None = None
    """Which split of --karpathy, which needs it; test is the 5K test set of retrieval papers."""
    restval: bool = True
    """Count the restval images of --karpathy as train images (113,287 of them, not 82,783), as all papers here do."""
    tokens: bool = False
    """Take the lower-case tokens of --karpathy without punctuation, not its raw sentences."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each caption."""
        return read_one(self, LAYOUTS)


@dataclass(frozen=True, kw_only=True)
class Config(RetrievalConfig):
    """Image-text retrieval on COCO."""
