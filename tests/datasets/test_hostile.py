"""Whatever stands in the place of a value: a reader reads it, or says in one sentence what is wrong and where."""

from __future__ import annotations

import copy
import functools
import json

import pytest

from vltk.datasets import coco, gqa, karpathy, nlvr2, phraseloceval, refcoco, snli_ve, vcr, visual_genome, vqa
from vltk.errors import DataError

REPLACEMENTS = (None, [], {}, 7, -1, 1e400, True, "", "x", [None], {"x": 1}, "b'x'", "\ud800")
GONE = object()

COCO_FILE = {
    "images": [{"id": 9, "file_name": "9.jpg", "width": 100, "height": 50}],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0, "area": 2.0, "caption": "A car."}
    ],
    "categories": [{"id": 3, "name": "car"}],
}
VQA_QUESTIONS = {"data_subtype": "val2014", "questions": [{"question_id": 1, "image_id": 4, "question": "What?"}]}
VQA_ANSWERS = {
    "annotations": [{"question_id": 1, "answer_type": "other", "answers": [{"answer": "cat", "answer_id": 1}] * 10}]
}
GQA_FILE = {
    "1": {"question": "What?", "imageId": "n5", "answer": "cat", "isBalanced": True, "types": {"structural": "q"}}
}
KARPATHY_FILE = {
    "images": [
        {"filename": "1.jpg", "split": "test", "sentences": [{"sentid": 1, "raw": "A man.", "tokens": ["a", "man"]}]}
    ]
}
VCR_RECORD = {
    "annot_id": "val-0",
    "img_fn": "a/b.jpg",
    "objects": ["person"],
    "question": ["Why", [0]],
    "answer_choices": [["a"]] * 4,
    "rationale_choices": [["b"]] * 4,
    "answer_label": 1,
    "rationale_label": 2,
}
NLVR2_RECORD = {"identifier": "dev-1-2-3", "sentence": "Two.", "label": "True", "validation": {"1": "True"}}
SNLI_RECORD = {
    "pairID": "1",
    "Flickr30K_ID": "7",
    "sentence1": "A.",
    "sentence2": "B.",
    "gold_label": "neutral",
    "annotator_labels": ["neutral"],
}
REFERENCES = [
    {
        "ref_id": 3,
        "ann_id": 1,
        "split": "val",
        "sentences": [{"sent_id": 1, "sent": "the car", "tokens": ["the", "car"]}],
    }
]
LOCATED = [
    {
        "box": [1, 2, 3, 4],
        "image": "7#0",
        "imageName": "7.jpg",
        "entity": "12",
        "phraseId": "1",
        "phrase": ["A", "man"],
        "start": 0,
        "end": 2,
        "categories": ["people"],
    }
]
DETECTIONS = [{"sent": "a", "pred_boxes": [[1, 2, 3, 4]], "pred_boxes_img_id": ["a_0.jpg"], "gt_box": [1, 2, 3, 4]}]
METADATA = {"boxes": [[1, 2, 3, 4, 0.5]], "names": ["person"], "width": 10, "height": 10}
GENOME = [{"id": 4, "qas": [{"qa_id": 5, "image_id": 4, "question": "What?", "answer": "A"}]}]

READERS = {
    "coco captions": (coco.read_examples, COCO_FILE),
    "coco instances": (coco.read_instances, COCO_FILE),
    "coco results": (coco.read_caption_results, [{"image_id": 1, "caption": "a"}]),
    "karpathy": (functools.partial(karpathy.read_examples, split="test"), KARPATHY_FILE),
    "karpathy tokens": (functools.partial(karpathy.read_examples, split="test", tokens=True), KARPATHY_FILE),
    "caption lists": (karpathy.read_caption_lists, {"1.jpg": ["A man."]}),
    "image index": (karpathy.read_image_index, {"0": "1.jpg"}),
    "vqa questions": (vqa.read_examples, VQA_QUESTIONS),
    "vqa results": (vqa.read_results, [{"question_id": 1, "answer": "a"}]),
    "gqa": (gqa.read_examples, GQA_FILE),
    "visual genome": (visual_genome.read_examples, GENOME),
    "vcr metadata": (lambda path: [vcr.read_frame(path)], METADATA),
    "phrases": (phraseloceval.read_phrases, LOCATED),
    "expressions": (phraseloceval.read_expressions, LOCATED),
    "generated expressions": (refcoco.read_expressions, {"predictions": [{"ref_id": 1, "sent": "a"}]}),
    "detections": (refcoco.read_detections, DETECTIONS),
}
LINE_READERS = {
    "nlvr2": (nlvr2.read_examples, NLVR2_RECORD),
    "snli-ve": (snli_ve.read_examples, SNLI_RECORD),
    "vcr": (vcr.read_examples, VCR_RECORD),
}


def places(value, path=()):
    """Yield the path of every value inside a JSON document, its own included."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def replaced(document, path, value):
    """Return a copy with another value at a path, or without it where the value is GONE."""
    if not path:
        return value
    document = copy.deepcopy(document)
    parent = functools.reduce(lambda inner, key: inner[key], path[:-1], document)
    if value is GONE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return document


def variants(document):
    for path in places(document):
        for value in (*REPLACEMENTS, *((GONE,) if path else ())):
            yield replaced(document, path, value)


def refusals(read, document, paths, content=json.dumps):
    """Feed every variant to a reader; return how many it refused, each in one sentence that names the file."""
    sentences = []
    for variant in variants(document):
        paths[0].write_text(content(variant), encoding="utf-8")
        try:
            list(read(*paths))
        except DataError as error:
            sentences.append(str(error))
    assert [text for text in sentences if str(paths[0]) not in text or "\n" in text] == []
    return len(sentences)


@pytest.mark.parametrize("name", READERS)
def test_any_value_in_any_place(tmp_path, name):
    read, document = READERS[name]
    assert refusals(read, document, [tmp_path / "file.json"]) > len(REPLACEMENTS) // 2


@pytest.mark.parametrize("name", LINE_READERS)
def test_any_value_in_any_place_of_a_line(tmp_path, name):
    read, document = LINE_READERS[name]
    assert refusals(read, document, [tmp_path / "file.jsonl"]) > len(REPLACEMENTS) // 2


def test_any_value_in_any_place_of_vqas_annotations(tmp_path):
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps(VQA_QUESTIONS), encoding="utf-8")

    def read(annotations):
        return vqa.read_examples(questions, annotations=annotations)

    assert refusals(read, VQA_ANSWERS, [tmp_path / "annotations.json"]) > 100


def test_any_value_in_any_place_of_references(tmp_path):
    instances = tmp_path / "instances.json"
    instances.write_text(json.dumps(COCO_FILE), encoding="utf-8")

    def read(references):
        return refcoco.read_examples(references, instances)

    # A file that is not JSON is taken for a pickle, and refused as one.
    assert refusals(read, REFERENCES, [tmp_path / "refs.json"]) > 50
