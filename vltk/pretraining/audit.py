"""Which pictures of evaluation splits are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vltk.mixture import Exclusion, PairSource
from vltk.mixture.exclusion import images_of

_SHOWN = 5


def shared_images(sources: Sequence[PairSource], stores: Sequence[Path]) -> list[dict[str, Any]]:
    """Return one row for each training set and evaluation store that share pictures.

    Pictures are compared by all their names (:func:`~vltk.mixture.image_keys`), because the same picture of COCO is
    called differently in each split.

    Args:
        sources: what is trained on.
        stores: example stores of evaluation splits.

    Returns:
        Rows of set, evaluation, images (how many are shared), of (how many the evaluation has), first (some ids).
    """
    return [row for store in stores for row in _rows(sources, store)]


def _rows(sources: Sequence[PairSource], store: Path) -> Iterator[dict[str, Any]]:
    evaluated = list(images_of([store]))
    for source in sources:
        trained = Exclusion(source.image_ids)
        shared = [image for image in evaluated if image in trained]
        if shared:
            row = {"set": source.name, "evaluation": store.name, "images": len(shared), "of": len(evaluated)}
            yield row | {"first": ", ".join(shared[:_SHOWN])}
