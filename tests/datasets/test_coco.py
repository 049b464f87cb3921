from __future__ import annotations

from collections import Counter

import pytest

from vltk.datasets import coco
from vltk.errors import DataError

IMAGE = {"id": 9, "file_name": "COCO_val2014_000000000009.jpg", "width": 100, "height": 50}
CATEGORIES = [{"id": 3, "name": "car", "supercategory": "vehicle"}]


def captions(*annotations, images=(IMAGE,)):
    return {"images": list(images), "annotations": list(annotations)}


def instance(number=1, **changes):
    return {
        "id": number,
        "image_id": 9,
        "category_id": 3,
        "bbox": [10, 20, 30, 15],
        "iscrowd": 0,
        "area": 5.5,
    } | changes


def instances(*annotations, categories=CATEGORIES):
    return {"images": [IMAGE], "annotations": list(annotations), "categories": categories}


def test_captions_take_their_images_file_stem_and_their_own_id(write):
    file = write(captions({"id": 4, "image_id": 9, "caption": " A car. \n"}))
    (example,) = coco.read_examples(file)
    assert (example.id, example.image_ids, example.texts) == ("4", ("COCO_val2014_000000000009",), ("A car.",))


def test_instances_have_corners_categories_and_crowds(write):
    crowd = instance(2, iscrowd=1, segmentation={"counts": [1, 2], "size": [50, 100]}, bbox=[0, 0, 100.4, 50])
    first, second = coco.read_instances(write(instances(instance(), crowd)))
    assert (first.box, first.category, first.crowd, first.area) == ((10, 20, 40, 35), "car", False, 5.5)
    assert (second.box, second.crowd, second.image_id) == ((0, 0, 100, 50), True, "COCO_val2014_000000000009")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (captions({"id": 4, "image_id": 8, "caption": "A"}), "id 4: belongs to image 8, which the file does not list"),
        (captions({"id": 4, "image_id": 9}), "lacks 'caption'"),
        (captions({"id": 4, "image_id": 9, "caption": "A"}, images=(IMAGE, IMAGE)), "image id 9 occurs twice"),
        (captions(*[{"id": 4, "image_id": 9, "caption": "A"}] * 2), "annotation id 4 occurs twice"),
        (captions({"id": 4, "image_id": 9, "caption": "b'A'"}), "id 4, caption: has a text that looks like b'A'"),
        (captions(images=({**IMAGE, "height": 0},)), "has the size 100 x 0"),
        ({"images": {"9": IMAGE}, "annotations": []}, "has an object as 'images', expected a list"),
        ({"annotations": []}, "lacks 'images'"),
        (instances(instance()), r"holds instances, not captions; give the captions_\*"),
    ],
)
def test_broken_caption_files_are_one_sentence(write, content, message):
    with pytest.raises(DataError, match=message):
        list(coco.read_examples(write(content)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (instances(instance(category_id=4)), "id 1: has category 4, which the file does not list"),
        (instances(instance(bbox=[10, 20, 95, 15])), r"outside the picture of 100 x 50; check whether it is written"),
        (instances(instance(bbox=[10, 20, -3, 15])), "x2 < x1"),
        (instances(instance(bbox=[10, 20, 3])), "has 3 items in 'bbox', expected 4"),
        (instances(instance(area="big")), "has 'big' as 'area', expected a number"),
        (instances(instance(), instance()), "annotation id 1 occurs twice"),
        (instances(categories=CATEGORIES * 2), "category id 3 occurs twice"),
    ],
)
def test_broken_instance_files_are_one_sentence(write, content, message):
    with pytest.raises(DataError, match=message):
        list(coco.read_instances(write(content)))


def test_caption_results_are_one_caption_an_image(write):
    assert coco.read_caption_results(write([{"image_id": 1, "caption": ""}])) == {1: ""}
    with pytest.raises(DataError, match="image id 1 occurs twice"):
        coco.read_caption_results(write([{"image_id": 1, "caption": "a"}] * 2))


PUBLISHED = {
    "val": (40, 200, 10.44, 294, 1, 59, {"person": 68, "bottle": 16, "book": 15, "donut": 14, "cake": 11}),
    "train": (21, 105, 10.1048, 199, 2, 49, {"person": 42, "book": 24, "chair": 10, "bowl": 9, "donut": 9}),
}


@pytest.mark.parametrize("split", PUBLISHED)
def test_the_published_captions_and_instances(data, split):
    images, count, mean, objects, crowds, categories, top = PUBLISHED[split]
    folder = data / "coco/annotations"
    found = list(coco.read_examples(folder / f"captions_{split}2017.json"))
    assert (len({e.image_ids for e in found}), len(found)) == (images, count)
    assert round(sum(len(e.texts[0].split()) for e in found) / len(found), 4) == mean
    annotated = list(coco.read_instances(folder / f"instances_{split}2017.json"))
    assert (len(annotated), sum(item.crowd for item in annotated)) == (objects, crowds)
    by_category = Counter(item.category for item in annotated)
    assert len(by_category) == categories
    assert [count for _, count in by_category.most_common(5)] == list(top.values())
    assert {name: by_category[name] for name in top} == top
    # No image is without instances, and every photograph is there under its image id.
    assert {item.image_id for item in annotated} == {e.image_ids[0] for e in found}
    assert {e.image_ids[0] for e in found} <= {path.stem for path in (data / f"coco/{split}2017").glob("*.jpg")}


def test_the_published_photographs(data):
    photographs = [path for split in PUBLISHED for path in (data / f"coco/{split}2017").glob("*.jpg")]
    assert (len(photographs), sum(path.stat().st_size for path in photographs)) == (71, 11362943)


def test_keypoint_files_hold_instances_too(data):
    people = list(coco.read_instances(data / "coco/annotations/person_keypoints_val2017.json"))
    assert {item.category for item in people} == {"person"}
    assert len(people) == 68


def test_the_published_five_thousand(data):
    found = list(coco.read_examples(data / "coco/annotations_5k/captions_val2017.json"))
    per_image = Counter(e.image_ids for e in found)
    assert (len(per_image), len(found)) == (4003, 20027)
    assert Counter(per_image.values()) == {5: 3992, 6: 10, 7: 1}
    assert round(sum(len(e.texts[0].split()) for e in found) / len(found), 4) == 10.4555


def test_the_published_caption_results(data):
    results = coco.read_caption_results(data / "coco/results/captions_val2014_fakecap_results.json")
    images = coco.read_images(data / "coco/annotations_5k/captions_val2017.json")
    assert len(results) == 105
    assert results.keys() <= images.keys()
