"""Visual entailment on SNLI-VE: does a sentence follow from a picture?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vltk.datasets import snli_ve
from vltk.types import Example


@dataclass(frozen=True, kw_only=True)
class Source:
    """Pairs of SNLI-VE. Image ids are those of Flickr30k: 2248275918."""

    annotations: Path
    """snli_ve_train.jsonl, snli_ve_dev.jsonl, snli_ve_test.jsonl."""
    images: Path | None = None
    """List of the images of a split (flickr30k_test.lst), one a line; other pairs are left out."""
    premise: bool = False
    """Add the premise's caption as a second text behind the hypothesis."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each pair."""
        return snli_ve.read_examples(self.annotations, images=self.images, premise=self.premise)
