"""Visual question answering on GQA."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vltk.datasets import gqa
from vltk.types import Example


@dataclass(frozen=True, kw_only=True)
class Source:
    """Questions of GQA. Image ids are its imageId: n578564, 2331963."""

    questions: Path
    """A question file (val_balanced_questions.json), or a folder of them (train_all_questions/)."""
    balanced: bool = False
    """Keep only the questions that are marked as balanced."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each question."""
        return gqa.read_examples(self.questions, balanced=self.balanced)
