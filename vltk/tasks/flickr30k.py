"""Image-text retrieval and phrase grounding on Flickr30k."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vltk.tasks import _captions
from vltk.tasks._retrieval import RetrievalConfig
from vltk.tasks._source import read_one
from vltk.types import Example

LAYOUTS = (_captions.KARPATHY, _captions.ENTITIES, _captions.PHRASES, _captions.CAPTION_LISTS)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Captions of Flickr30k; one of four layouts is given. Image ids are file names without .jpg: 1007129816."""

    karpathy: Path | None = None
    """Karpathy's dataset_flickr30k.json; needs --split."""
    entities: Path | None = None
    """Folder of Flickr30k Entities with Sentences/ and Annotations/: captions with phrases and boxes."""
    phrases: Path | None = None
    """phraseloceval's annotation_*.json: phrases with boxes; needs --phrase-captions."""
    caption_lists: Path | None = None
    """A JSON file {file name: [captions]}."""
    split: Literal["train", "val", "test"] | None = None
    """Which split of --karpathy, which needs it; its test split and that of Flickr30k Entities share only 25 images."""
    tokens: bool = False
    """Take the lower-case tokens of --karpathy without punctuation, not its raw sentences."""
    images: Path | None = None
    """List of the images of a split of --entities (its train.txt, val.txt, test.txt), one a line."""
    unrelated: Path | None = None
    """UNRELATED_CAPTIONS of --entities: leave out these captions, which do not describe their image."""
    phrase_captions: Path | None = None
    """JSON file {file name: [captions]} that --phrases was marked in."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each caption."""
        return read_one(self, LAYOUTS)


@dataclass(frozen=True, kw_only=True)
class Config(RetrievalConfig):
    """Image-text retrieval on Flickr30k."""
