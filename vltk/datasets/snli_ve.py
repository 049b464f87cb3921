"""SNLI-VE: one JSON object a line, a picture of Flickr30k as premise and a sentence as hypothesis.

The image id is ``Flickr30K_ID`` (``2248275918``, with or without ``.jpg``), the example id ``pairID``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._labels import Labels
from vltk.datasets._record import Record, read_image_list, read_json_lines, unique
from vltk.types import Example, LabelTarget

LABELS = ("contradiction", "entailment", "neutral")
NO_CONSENSUS = "-"


def read_examples(path: Path, *, images: Path | None = None, premise: bool = False) -> Iterator[Example]:
    """Yield one example for each pair, in the order of the file, the votes of its annotators with it.

    Pairs that SNLI's annotators did not agree on (label ``-``) are left out, as everyone does.

    Args:
        path: ``snli_ve_*.jsonl``.
        images: a split list (``flickr30k_test.lst``); pairs of other images are left out.
        premise: take the premise's caption (``sentence1``) as a second text behind the hypothesis.

    Raises:
        DataError: a key is missing or of another type, a pair occurs twice, a label is not one of the three, or
            only some lines have labels.
    """
    labels = Labels("gold_label")
    wanted = None if images is None else set(read_image_list(images))
    kept = (
        record.at("pairID")
        for record in read_json_lines(path)
        if (wanted is None or record.image("Flickr30K_ID") in wanted)
        and record.values.get("gold_label") != NO_CONSENSUS
    )
    examples = (_example(record, labels, premise) for record in kept)
    yield from unique(examples, lambda example: example.id, path, "pairID")


def _example(record: Record, labels: Labels, premise: bool) -> Example:
    keys = ("sentence2", "sentence1") if premise else ("sentence2",)
    return Example(
        id=record.identifier("pairID"),
        image_ids=(record.image("Flickr30K_ID"),),
        texts=tuple(record.clean_text(key) for key in keys),
        target=_target(record) if labels.there(record) else None,
    )


def _target(record: Record) -> LabelTarget:
    label = record.text("gold_label")
    if label not in LABELS:
        raise record.fail(f"has the label {label!r}, expected {', '.join(LABELS)}")
    votes = record.texts("annotator_labels") if record.has("annotator_labels") else ()
    return LabelTarget(label=label, votes=votes)
