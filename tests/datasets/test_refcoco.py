"""RefCOCO as published by ``refer``, as re-encoded by phraseloceval, and with detected boxes."""

from __future__ import annotations

import json
import os
import pickle

import pytest

from vltk.datasets import phraseloceval, refcoco
from vltk.errors import DataError

INSTANCES = {
    "images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "width": 100, "height": 50}],
    "annotations": [
        {"id": 70, "image_id": 9, "category_id": 1, "bbox": [10.5, 20, 30, 15], "area": 1.0, "iscrowd": 0},
        {"id": 71, "image_id": 9, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 1.0, "iscrowd": 0},
    ],
    "categories": [{"id": 1, "name": "person"}],
}


def reference(number=3, *sentence_ids, **changes):
    sentences = [
        {"sent_id": i, "sent": f"the man {i}", "raw": f"The man {i}", "tokens": ["the", "man", str(i)]}
        for i in sentence_ids or (1, 2)
    ]
    return {
        "ref_id": number,
        "ann_id": 70,
        "image_id": 9,
        "category_id": 1,
        "split": "testA",
        "file_name": "COCO_train2014_000000000009_16.jpg",
        "sentences": sentences,
        "sent_ids": list(sentence_ids or (1, 2)),
    } | changes


@pytest.fixture
def release(write, tmp_path):
    def build(*references, protocol=2, instances=INSTANCES):
        path = tmp_path / "refs(unc).p"
        path.write_bytes(pickle.dumps(list(references), protocol=protocol))
        return path, write(instances, "instances.json")

    return build


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_each_sentence_points_to_its_annotated_box(release, protocol):
    first, second = refcoco.read_examples(*release(reference(), protocol=protocol), split="testA")
    assert (first.id, second.id, first.texts) == ("1", "2", ("the man 1",))
    assert first.image_ids == ("COCO_train2014_000000000009",)
    assert (first.target.box, first.target.annotation_id, first.target.ref_id) == ((10.5, 20, 40.5, 35), "70", "3")


def test_python_2_texts_are_read(write, tmp_path):
    # Protocol 0 of Python 2 writes str as S'...'; this is the shape of the published files.
    text = (
        b"(lp0\n(dp1\nS'ref_id'\nI3\nsS'ann_id'\nI70\nsS'split'\nS'val'\n"
        b"sS'sentences'\n(lp2\n(dp3\nS'sent_id'\nI1\nsS'sent'\nS'the man'\nsasa."
    )
    path = tmp_path / "refs(google).p"
    path.write_bytes(text)
    (example,) = refcoco.read_examples(path, write(INSTANCES, "instances.json"), split="val")
    assert example.texts == ("the man",)


def test_references_written_as_json_are_the_same(release, write):
    references, instances = release(reference())
    as_json = write([reference()], "refs.json")
    assert list(refcoco.read_examples(as_json, instances)) == list(refcoco.read_examples(references, instances))


def test_a_split_chooses_and_must_be_there(release):
    files = release(reference(3, 1), reference(4, 2, split="val"))
    assert [e.id for e in refcoco.read_examples(*files, split="val")] == ["2"]
    assert [e.id for e in refcoco.read_examples(*files)] == ["1", "2"]
    message = r"no reference of split 'test'; it has testA \(1 references\), val \(1 references\)"
    with pytest.raises(DataError, match=message):
        list(refcoco.read_examples(*files, split="test"))


def test_the_candidates_of_a_picture_are_its_annotations(release):
    _, instances = release(reference())
    candidates = refcoco.read_annotations(instances)
    assert {key: item.box for key, item in candidates.items()} == {"70": (10.5, 20, 40.5, 35), "71": (0, 0, 5, 5)}


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ([reference(ann_id=72)], r"refs\[0\], ref_id 3: refers to annotation 72, which .*instances.json lacks"),
        ([reference(3, 1), reference(4, 1)], "sentence id 1 occurs twice"),
        ([reference(sentences={"a": 1})], "has an object as 'sentences', expected a list"),
        ([reference(sentences=[{"sent_id": 1}])], r"sentences\[0\]: lacks 'sent'"),
        ([["ref"]], r"refs\[0\]: is a list, expected an object"),
        ([{"ref_id": 3}], "lacks 'split'"),
    ],
)
def test_broken_references_are_one_sentence(release, references, message):
    with pytest.raises(DataError, match=message):
        list(refcoco.read_examples(*release(*references)))


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_reference_file_with_a_payload_runs_nothing(release, tmp_path):
    target = tmp_path / "made"
    files = release(Payload(str(target)))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p"):
        list(refcoco.read_examples(*files))
    assert not target.exists()


def test_missing_files_are_named(release, tmp_path):
    references, instances = release(reference())
    with pytest.raises(DataError, match=r"gone\.p: there is no such file"):
        list(refcoco.read_examples(tmp_path / "gone.p", instances))
    with pytest.raises(DataError, match=r"gone\.json: there is no such file"):
        list(refcoco.read_examples(references, tmp_path / "gone.json"))


# -- phraseloceval ----------------------------------------------------------------------------------------------------


def expression(**changes):
    return {
        "box": [10.5, 20, 30, 15],
        "image": "9",
        "imageName": "COCO_train2014_000000000009.jpg",
        "entity": "70",
        "phraseId": "1",
        "phrase": ["the", "man"],
        "categories": ["person"],
    } | changes


def test_both_layouts_agree_on_text_picture_and_box(release, write):
    (ours,) = phraseloceval.read_expressions(write([expression(phrase=["the", "man", "1"])]))
    (theirs,) = refcoco.read_examples(*release(reference(3, 1)))
    assert (ours.id, ours.image_ids, ours.texts) == (theirs.id, theirs.image_ids, theirs.texts)
    assert (ours.target.box, ours.target.annotation_id) == (theirs.target.box, theirs.target.annotation_id)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([expression(), expression()], "phraseId 1 occurs twice"),
        ([expression(phrase=[""])], "phraseId '1': has an empty phrase"),
        ([expression(box=[1, 2, -3, 4])], "x2 < x1"),
        ([{"box": [1, 2, 3, 4]}], "lacks 'phrase'"),
    ],
)
def test_broken_expression_files_are_one_sentence(write, items, message):
    with pytest.raises(DataError, match=message):
        list(phraseloceval.read_expressions(write(items)))


PUBLISHED = [
    ("refcoco/annotation_test", 8350, 2942, 1167, 3.5285, 26),
    ("refcoco+/annotation_testA", 4458, 1538, 584, 3.3526, 11),
    ("refcoco+/annotation_testB", 3774, 1393, 583, 3.7554, 12),
    ("refcocog/annotation_test", 7707, 4030, 2090, 8.3765, 4),
]


@pytest.mark.parametrize(("name", "sentences", "annotations", "images", "mean", "with_photo"), PUBLISHED)
def test_the_published_expressions(data, name, sentences, annotations, images, mean, with_photo):
    found = list(phraseloceval.read_expressions(data / f"refcoco/phraseloceval/{name}.json"))
    assert len(found) == sentences
    assert len({e.target.annotation_id for e in found}) == annotations
    assert len({e.image_ids for e in found}) == images
    # The published mean counts list items; two items of RefCOCOg hold a space.
    spaces = 2 if name.startswith("refcocog") else 0
    words = sum(len(e.texts[0].split(" ")) for e in found) - spaces
    assert round(words / sentences, 4) == mean
    photographs = {int(path.stem) for path in (data / "coco/train2017").glob("*.jpg")}
    assert sum(int(e.image_ids[0].rpartition("_")[2]) in photographs for e in found) == with_photo


@pytest.mark.parametrize("split", ["A", "B"])
def test_the_published_generated_expressions(data, split):
    path = data / f"refcoco/refer_sample_expressions/sample_expressions_test{split}.json"
    raw = json.loads(path.read_text(encoding="utf-8"))["predictions"]
    assert refcoco.read_expressions(path) == tuple((str(item["ref_id"]), item["sent"]) for item in raw)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_the_published_detections(data):
    found = list(refcoco.read_detections(data / "refcoco/clip_refcoco_dets/testA_refcoco_unc_dets.json"))
    assert len(found) == 50
    assert sum(len(item.boxes) for item in found) == 427
    assert len({item.image_id for item in found}) == 5
    assert sum(max(iou(box, item.gold) for box in item.boxes) > 0.5 for item in found) == 45
    assert sum(iou(item.boxes[0], item.gold) > 0.5 for item in found) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pred_boxes_img_id": ["a_0.jpg", "b_0.jpg"]}, "has boxes of 2 pictures, expected one"),
        ({"pred_boxes_img_id": []}, "has boxes of 0 pictures, expected one"),
        ({"pred_boxes": [[1, 2, 3]]}, r"pred_boxes: has 3 items in '0', expected 4"),
        ({"sent": ""}, "has an empty text"),
    ],
)
def test_broken_detections_are_one_sentence(write, changes, message):
    item = {"sent": "a man", "pred_boxes": [[1, 2, 3, 4]], "pred_boxes_img_id": ["a_0.jpg"], "gt_box": [1, 2, 3, 4]}
    with pytest.raises(DataError, match=message):
        list(refcoco.read_detections(write([item | changes])))
