"""Visual question answering on VQA v2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vltk.datasets import visual_genome, vqa
from vltk.errors import UsageError
from vltk.types import Example


@dataclass(frozen=True, kw_only=True)
class Source:
    """Questions of VQA v2 and, to train on more, of Visual Genome. Files may be gzipped."""

    questions: Path | None = None
    """v2_OpenEnded_mscoco_*_questions.json."""
    annotations: Path | None = None
    """v2_mscoco_*_annotations.json with the ten answers; leave it out for test sets."""
    visual_genome: Path | None = None
    """Visual Genome's question_answers.json, added behind the questions; image ids are Visual Genome's numbers."""
    image_id: str | None = None
    """Image id of a question's picture, which the files know by number. By default COCO's file name without .jpg,
    "COCO_{subset}_{image_id:012d}", or "{image_id:012d}" where the file has no header with the subset."""
    ten_answers: bool = True
    """Refuse a question that has not exactly ten answers."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each question."""
        if self.questions is None and self.visual_genome is None:
            raise UsageError("no annotation file is given", remedy="give --questions or --visual-genome")
        if self.questions is None and self.annotations is not None:
            raise UsageError("--annotations is given without --questions", remedy="give --questions as well")
        return self._examples()

    def _examples(self) -> Iterator[Example]:
        if self.questions is not None:
            yield from vqa.read_examples(
                self.questions, annotations=self.annotations, image_id=self.image_id, ten_answers=self.ten_answers
            )
        if self.visual_genome is not None:
            yield from visual_genome.read_examples(self.visual_genome)
