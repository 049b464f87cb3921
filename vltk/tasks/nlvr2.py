"""Natural language for visual reasoning: is a statement about two pictures true?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vltk.datasets import nlvr2
from vltk.types import Example


@dataclass(frozen=True, kw_only=True)
class Source:
    """Statements of NLVR2. Image ids are file names without .png: dev-850-0-img0, dev-850-0-img1."""

    annotations: Path
    """train.json, dev.json, test1.json: one JSON object a line."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each statement and picture pair."""
        return nlvr2.read_examples(self.annotations)
