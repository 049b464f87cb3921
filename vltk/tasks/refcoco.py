"""Referring expressions on RefCOCO, RefCOCO+ and RefCOCOg: which object does a phrase mean?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vltk.datasets import phraseloceval, refcoco
from vltk.tasks._source import Layout, read_one
from vltk.types import Example

LAYOUTS = (
    Layout(
        file="references",
        needs=("instances",),
        takes=("split",),
        read=lambda source: refcoco.read_examples(source.references, source.instances, split=source.split),
    ),
    Layout(file="phrases", read=lambda source: phraseloceval.read_expressions(source.phrases)),
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Expressions in one of two layouts. Image ids are COCO's file names: COCO_train2014_000000274266."""

    references: Path | None = None
    """refs(unc).p, refs(umd).p or refs(google).p as published by refer (it is read, not run); needs --instances."""
    instances: Path | None = None
    """instances.json beside --references."""
    phrases: Path | None = None
    """phraseloceval's annotation_*.json."""
    split: Literal["train", "val", "test", "testA", "testB"] | None = None
    """Which split of --references: testA and testB (RefCOCO, RefCOCO+) or test (RefCOCOg); all without it."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each sentence."""
        return read_one(self, LAYOUTS)
