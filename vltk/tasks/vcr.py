"""Visual commonsense reasoning: answer a question about a film still, and say why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vltk.datasets import vcr
from vltk.types import Example


@dataclass(frozen=True, kw_only=True)
class Source:
    """Questions of VCR. Image ids are the file names of the stills without folder and .jpg."""

    annotations: Path
    """train.jsonl, val.jsonl, test.jsonl."""
    pictures: Path | None = None
    """Folder vcr1images with the metadata files; without it references to objects have no boxes."""
    references: Literal["names", "numbers"] = "names"
    """How a reference to objects is written into a text: "person and car", or "[0,2]"."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each question."""
        return vcr.read_examples(self.annotations, pictures=self.pictures, references=self.references)
