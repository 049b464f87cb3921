"""The files of a drawn world: read by the published data's readers, laid out as those are, written whole or not."""

from __future__ import annotations

import hashlib
import json
import os
import pickletools
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vltk.datasets import (
    _scene_world,
    coco,
    conllu,
    flickr30k_entities,
    gqa,
    karpathy,
    nlvr2,
    refcoco,
    snli_ve,
    vcr,
    vqa,
)
from vltk.datasets._scene_task_files import QUESTION_TYPES, question_type
from vltk.datasets._scene_tasks import split_of
from vltk.datasets._scene_world import WorldSummary, write_world
from vltk.datasets.scenes import Scene, SceneConfig, draw, judge, scene, understand
from vltk.errors import UsageError, VltkError
from vltk.types import AnswersTarget, BoxTarget, LabelTarget

SEED, IMAGES = 5, 30
SPLITS = {"train": 24, "val": 3, "test": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldSummary:
    return write_world(tmp_path_factory.mktemp("files") / "world", images=IMAGES, seed=SEED)


def picture(image_id: str) -> Scene:
    return scene(SEED, int(image_id.rpartition("_")[2]))


def digest(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def load(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(world: WorldSummary, tmp_path: Path) -> None:
    first = digest(world.path)
    write_world(tmp_path / "again", images=IMAGES, seed=SEED)
    assert digest(tmp_path / "again") == first
    write_world(tmp_path / "other", images=IMAGES, seed=SEED + 1)
    other = digest(tmp_path / "other")
    assert not [name for name in first if name.startswith("images/") and other.get(name) == first[name]]


def test_the_bytes_do_not_hang_on_the_order_of_sets(tmp_path: Path) -> None:
    write_world(tmp_path / "here", images=10, seed=SEED)
    code = "import sys, pathlib; from vltk.datasets.scenes import write_world; "
    code += f"write_world(pathlib.Path(sys.argv[1]), images=10, seed={SEED})"
    for hash_seed in ("1", "2"):
        there = tmp_path / hash_seed
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", code, str(there)], check=True, env=environment)
        assert digest(there) == digest(tmp_path / "here")


def test_the_smallest_worlds_are_written_and_read(tmp_path: Path) -> None:
    for images in (10, 11, 20):
        small = write_world(tmp_path / str(images), images=images, seed=1)
        assert sum(small.images.values()) == images
        examples = list(nlvr2.read_examples(small.path / "nlvr2" / "test1.json"))
        assert Counter(example.target.label for example in examples if isinstance(example.target, LabelTarget)) in (
            {},
            {"True": len(examples) // 2, "False": len(examples) // 2},
        )
        assert bool(examples) == (small.images["test"] > 1)


def test_a_longer_world_holds_the_pictures_of_a_shorter_one(world: WorldSummary, tmp_path: Path) -> None:
    write_world(tmp_path / "short", images=10, seed=SEED)
    short = {name: value for name, value in digest(tmp_path / "short").items() if name.startswith("images/")}
    assert len(short) == 10
    assert short.items() <= digest(world.path).items()


def test_pictures_are_what_the_scenes_draw(world: WorldSummary) -> None:
    assert world.images == SPLITS
    names = sorted(path.stem for path in (world.path / "images").iterdir())
    assert len(names) == IMAGES
    for name in names[::7]:
        drawn = picture(name)
        assert name == f"COCO_{split_of(drawn.index)}_{drawn.index:012d}"
        assert np.array_equal(np.asarray(Image.open(world.path / "images" / f"{name}.png")), draw(drawn))


@pytest.mark.parametrize("split", SPLITS)
def test_coco_files_hold_every_object_and_caption(world: WorldSummary, split: str) -> None:
    root = world.path / "coco" / "annotations"
    instances = list(coco.read_instances(root / f"instances_{split}.json"))
    things = {(i, place): thing for i in range(IMAGES) for place, thing in enumerate(scene(SEED, i).objects)}
    own = {10 * i + place + 1: thing for (i, place), thing in things.items() if split_of(i) == split}
    assert {int(item.id) for item in instances} == own.keys()
    for item in instances:
        thing = own[int(item.id)]
        assert item.category == thing.shape
        assert item.box == pytest.approx(thing.box, abs=0.011)
        assert item.area is not None
        width, height = item.box[2] - item.box[0], item.box[3] - item.box[1]
        assert 0.3 * width * height < item.area <= 1.01 * width * height
    extra = {item["id"]: item["attributes"] for item in load(root / f"instances_{split}.json")["annotations"]}
    assert all(extra[i] == {k: getattr(o, k) for k in ("size", "texture", "colour")} for i, o in own.items())
    captions = list(coco.read_examples(root / f"captions_{split}.json"))
    same = list(karpathy.read_examples(world.path / "dataset_scenes.json", split=split))
    assert [(c.id, c.image_ids, c.texts) for c in captions] == [(c.id, c.image_ids, c.texts) for c in same]
    assert Counter(c.image_ids[0] for c in captions) == {c.image_ids[0]: 5 for c in captions}
    assert len(captions) == 5 * SPLITS[split]


@pytest.mark.parametrize("split", SPLITS)
def test_parses_are_those_of_the_captions(world: WorldSummary, split: str) -> None:
    captions = {c.id: c.texts[0] for c in karpathy.read_examples(world.path / "dataset_scenes.json", split=split)}
    parsed = list(conllu.read_sentences(world.path / "conllu" / f"{split}.conllu"))
    assert {sentence.id: sentence.text for sentence in parsed} == captions
    for sentence in parsed:
        told = understand(sentence.text)
        assert sentence.parse.words == told.words
        assert sentence.parse == told.parse
        assert sentence.tags == told.tags


def test_phrases_of_entities_point_at_the_objects_that_make_the_caption_true(world: WorldSummary) -> None:
    root = world.path / "flickr30k_entities"
    for split, count in SPLITS.items():
        examples = list(flickr30k_entities.read_examples(root, images=root / f"{split}.txt"))
        captions = [c.texts for c in karpathy.read_examples(world.path / "dataset_scenes.json", split=split)]
        assert [example.texts for example in examples] == captions
        assert len(examples) == 5 * count
        for example in examples:
            drawn, told = picture(example.image_ids[0]), understand(example.texts[0])
            spans = {(phrase.start, phrase.end): phrase for phrase in example.phrases}
            chosen = [spans[span] for span in told.spans]
            places = [int(phrase.entity) - 10 * drawn.index - 1 for phrase in chosen]
            for phrase, place in zip(chosen, places, strict=True):
                box, exact = phrase.boxes[0], drawn.objects[place].box
                # Whole pixels that touch the shape; the last one counts, and 1 is taken off all four numbers.
                assert len(phrase.boxes) == 1
                assert all(-1 <= a - b <= 0 for a, b in zip(box, exact, strict=True))
            assert all(t.fits(drawn.objects[place]) for t, place in zip(told.meaning.things, places, strict=True))
            assert all(drawn.relation(name, places[a], places[b]) for name, a, b in told.meaning.relations)
            scenes = [phrase for span, phrase in spans.items() if span not in told.spans]
            assert [(p.kinds, p.boxes) for p in scenes] == [(("scene",), ())] * ("the picture" in example.texts[0])
    annotation = flickr30k_entities.read_annotation(next((root / "Annotations").glob("*.xml")))
    assert annotation.size == (128, 128)
    assert annotation.scenes == annotation.without_box


def test_the_tasks_have_as_many_items_as_the_summary_says(world: WorldSummary) -> None:
    counts = {task.task: task.items for task in world.tasks}
    root = world.path
    names = {"train": ("train", "train", "train"), "val": ("dev", "dev", "val"), "test": ("test1", "test", "test")}
    for split, (nlvr2_name, snli_name, _) in names.items():
        asked = vqa.read_examples(
            root / f"vqa_v2/v2_OpenEnded_mscoco_{split}_questions.json",
            annotations=root / f"vqa_v2/v2_mscoco_{split}_annotations.json",
        )
        assert len(list(asked)) == counts["VQA v2"][split]
        assert (
            len(list(gqa.read_examples(root / f"gqa/{split}_balanced_questions.json")))
            == counts["GQA (balanced)"][split]
        )
        assert len(list(nlvr2.read_examples(root / f"nlvr2/{nlvr2_name}.json"))) == counts["NLVR2"][split]
        assert len(list(snli_ve.read_examples(root / f"snli_ve/snli_ve_{snli_name}.jsonl"))) == counts["SNLI-VE"][split]
        assert len(list(vcr.read_examples(root / f"vcr/{split}.jsonl"))) == counts["VCR Q to A"][split]
        assert counts["Retrieval, text to image"][split] == 5 * SPLITS[split]


def test_every_image_id_of_every_task_is_a_picture(world: WorldSummary) -> None:
    root = world.path
    there = {path.stem for folder in ("images", "nlvr2/images") for path in (root / folder).iterdir()}
    examples = [
        *vqa.read_examples(root / "vqa_v2/v2_OpenEnded_mscoco_val_questions.json"),
        *gqa.read_examples(root / "gqa/val_all_questions.json"),
        *nlvr2.read_examples(root / "nlvr2/dev.json"),
        *snli_ve.read_examples(root / "snli_ve/snli_ve_dev.jsonl"),
        *vcr.read_examples(root / "vcr/val.jsonl"),
        *refcoco.read_examples(root / "refcoco/refcoco+/refs(unc).p", root / "refcoco/refcoco+/instances.json"),
    ]
    assert {image_id for example in examples for image_id in example.image_ids} <= there


def test_references_are_plain_and_their_boxes_those_of_the_scene(world: WorldSummary) -> None:
    for name, file in (("refcoco", "refs(unc).p"), ("refcoco+", "refs(unc).p"), ("refcocog", "refs(umd).p")):
        root = world.path / "refcoco" / name
        operations = {operation.name for operation, _, _ in pickletools.genops((root / file).read_bytes())}
        assert not operations & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ"}
        splits = ("train", "val", "test") if name == "refcocog" else ("train", "val", "testA", "testB")
        total = 0
        for split in splits:
            for example in refcoco.read_examples(root / file, root / "instances.json", split=split):
                assert isinstance(example.target, BoxTarget)
                drawn = picture(example.image_ids[0])
                assert split_of(drawn.index) == split.rstrip("AB")
                place = int(example.target.annotation_id) - 10 * drawn.index - 1
                assert example.target.box == pytest.approx(drawn.objects[place].box, abs=0.011)
                total += 1
        title = name.replace("refcoco", "RefCOCO")
        assert total == sum(next(task for task in world.tasks if task.task == title).items.values())


def test_vcr_references_have_the_boxes_of_their_objects(world: WorldSummary) -> None:
    root = world.path / "vcr"
    phrases = 0
    for example in vcr.read_examples(root / "train.jsonl", pictures=root / "vcr1images"):
        drawn = picture(example.image_ids[0])
        for phrase in example.phrases:
            assert phrase.boxes[0] == pytest.approx(drawn.objects[int(phrase.entity)].box, abs=0.011)
            phrases += 1
    assert phrases


def test_pools_single_their_scenes_out(world: WorldSummary) -> None:
    for pool in world.pools:
        root = world.path / "pools" / pool.name
        captions = list(karpathy.read_examples(root / f"dataset_{pool.name}.json", split="test"))
        assert len(captions) == pool.captions
        assert len(list((root / "images").iterdir())) == pool.scenes
        assert pool.bound == 1
        entities = flickr30k_entities.read_examples(
            root / "flickr30k_entities", images=root / "flickr30k_entities/test.txt"
        )
        assert [example.texts for example in entities] == [caption.texts for caption in captions]
        families = Counter(image["family"] for image in load(root / "pool.json")["images"])
        assert set(families.values()) == ({4} if pool.name == "hard" else {1})


def test_families_are_training_scenes_with_their_edits(tmp_path: Path) -> None:
    write_world(tmp_path / "plain", images=20, seed=SEED)
    write_world(tmp_path / "world", images=20, seed=SEED, families=2)
    root = tmp_path / "world" / "families"
    told = list(karpathy.read_examples(root / "dataset_families.json", split="train"))
    table = {Path(row["filename"]).stem: row for row in load(root / "families.json")}
    assert list(table) == [f"family_{family:07d}_{place}" for family in (0, 1) for place in range(4)]
    assert {example.image_ids[0] for example in told} == set(table)
    assert {path.stem for path in (root / "images").iterdir()} == set(table)
    for example in told:
        row = table[example.image_ids[0]]
        assert row["scene"] % 10 < 8
        if not row["edit"]:
            assert judge(understand(example.texts[0]).meaning, scene(SEED, row["scene"])) is True
    world = {
        example.id for example in karpathy.read_examples(tmp_path / "world" / "dataset_scenes.json", split="train")
    }
    assert not world & {example.id for example in told}
    shutil.rmtree(root)
    assert digest(tmp_path / "world") == digest(tmp_path / "plain")


def test_pool_captions_are_false_of_the_other_scenes_of_the_random_pool(world: WorldSummary) -> None:
    root = world.path / "pools" / "random"
    scenes = {Path(i["filename"]).stem: scene(SEED, i["scene"]) for i in load(root / "pool.json")["images"]}
    for caption in karpathy.read_examples(root / "dataset_random.json", split="test"):
        meaning = understand(caption.texts[0]).meaning
        truths = {name: judge(meaning, drawn) for name, drawn in scenes.items()}
        assert [name for name, truth in truths.items() if truth is not False] == [caption.image_ids[0]]


def keys(record: dict[str, Any]) -> set[str]:
    return set(record)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_records_have_the_fields_of_the_published_ones(world: WorldSummary, data: Path) -> None:
    root = world.path
    for kind in ("instances", "captions"):
        mine, real = (
            load(root / f"coco/annotations/{kind}_val.json"),
            load(data / f"coco/annotations/{kind}_val2017.json"),
        )
        assert keys(mine) == keys(real)
        for part in ("images", "annotations", "licenses", "info"):
            first = [file[part] if part == "info" else file[part][0] for file in (mine, real)]
            assert keys(first[0]) - {"attributes"} == keys(first[1]), part
    for kind, mine_name in (
        ("questions", "v2_OpenEnded_mscoco_val_questions"),
        ("annotations", "v2_mscoco_val_annotations"),
    ):
        mine, real = load(root / f"vqa_v2/{mine_name}.json"), load(data / f"vqa_v2/official_header_sample/{kind}.json")
        assert keys(mine) == keys(real)
        assert keys(mine["info"]) == keys(real["info"])
        assert keys(mine["license"]) == keys(real["license"])
    real = load(data / "vqa_v2/official_header_sample/annotations.json")["annotations"][0]
    mine = load(root / "vqa_v2/v2_mscoco_val_annotations.json")["annotations"][0]
    assert keys(real) <= keys(mine)
    assert keys(real["answers"][0]) == keys(mine["answers"][0])
    mine, real = (
        next(iter(load(path).values())) for path in (root / "gqa/val_all_questions.json", data / "gqa/questions.json")
    )
    assert keys(mine) == keys(real) | {"family", "clue"}
    for part in ("groups", "types", "annotations"):
        assert keys(mine[part]) == keys(real[part])
    assert keys(mine["semantic"][0]) == keys(real["semantic"][0])
    assert keys(lines(root / "nlvr2/dev.json")[0]) == keys(lines(data / "nlvr2/dev.json")[0]) | {"clue"}
    real = lines(data / "snli_ve/sample_pairs.jsonl")[0]
    parses = {name for name in real if name.endswith("_parse")}
    assert keys(lines(root / "snli_ve/snli_ve_dev.jsonl")[0]) == keys(real) - parses | {"family", "clue"}
    derived = load(data / "flickr30k_captions/karpathy_format_derived/dataset_flickr30k.json")
    mine = load(root / "dataset_scenes.json")
    assert keys(mine) == keys(derived)
    assert keys(mine["images"][0]) == keys(derived["images"][0])
    assert keys(mine["images"][0]["sentences"][0]) == keys(derived["images"][0]["sentences"][0]) | {"template"}


def test_question_types_are_the_official_beginnings(world: WorldSummary, data: Path) -> None:
    official = set(vqa.read_question_types(data / "vqa_v2/QuestionTypes/mscoco_question_types.txt"))
    assert set(QUESTION_TYPES) <= official
    root = world.path / "vqa_v2"
    for example in vqa.read_examples(
        root / "v2_OpenEnded_mscoco_train_questions.json", annotations=root / "v2_mscoco_train_annotations.json"
    ):
        assert isinstance(example.target, AnswersTarget)
        words = example.texts[0].lower().rstrip("?").split()
        fitting = [kind for kind in official if words[: len(kind.split())] == kind.split()]
        assert (
            example.target.question_type
            == max(fitting, key=lambda kind: len(kind.split()))
            == question_type(example.texts[0])
        )
        assert example.target.answer_type in ("yes/no", "number", "other")


def test_another_size_has_the_same_scenes_and_annotations_in_its_pixels(world: WorldSummary, tmp_path: Path) -> None:
    large = write_world(tmp_path / "large", images=10, seed=SEED, size=192)
    instances = {i.id: i for i in coco.read_instances(large.path / "coco/annotations/instances_train.json")}
    for item in coco.read_instances(world.path / "coco/annotations/instances_train.json"):
        if item.id in instances:
            assert instances[item.id].box == pytest.approx([1.5 * value for value in item.box], abs=0.03)
    image = next((large.path / "images").iterdir())
    assert Image.open(image).size == (192, 192)
    assert SceneConfig(size=192).size == large.size


def test_progress_is_told_of_every_picture(tmp_path: Path) -> None:
    told: list[int] = []
    write_world(tmp_path / "world", images=10, seed=1, progress=told.append)
    assert sum(told) == 10


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": 9}, "scenes: images: 9 is not a whole number of 10 to 10000000"),
        ({"images": -1}, "scenes: images: -1 is not a whole number"),
        ({"images": True}, "scenes: images: True is not a whole number"),
        ({"images": 10.5}, "scenes: images: 10.5 is not a whole number"),
        ({"seed": -1}, "scenes: seed: -1 is not a whole number of 0"),
        ({"seed": "one"}, "scenes: seed: 'one' is not a whole number"),
        ({"families": -1}, "scenes: families: -1 is not a whole number of 0"),
        ({"size": 7}, "scenes: size: 7 is not a whole number of 32 to 4096"),
    ],
)
def test_numbers_that_no_world_has_are_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        write_world(tmp_path / "world", **{"images": 10, "seed": 1, **options})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"the folder is not empty; name a folder that is empty or absent"):
        write_world(tmp_path, images=10, seed=1)
    with pytest.raises(UsageError, match=r"note\.txt: is a file"):
        write_world(tmp_path / "note.txt", images=10, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    assert write_world(tmp_path / "world", images=10, seed=1).path == tmp_path / "world"
    assert (tmp_path / "world" / "README.md").is_file()


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_scene_world, "write_vcr", full)
    with pytest.raises(VltkError, match=r"world: cannot be written \(No space left on device\); make room"):
        write_world(tmp_path / "world", images=10, seed=1)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_hold_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VltkError, match=r"cannot be written \(.*\); make room, or name another folder"):
        write_world(tmp_path / "file" / "world", images=10, seed=1)
