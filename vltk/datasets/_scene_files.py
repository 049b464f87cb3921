"""Drawn scenes in published file formats: COCO, Karpathy's split, Flickr30k Entities, CoNLL-U and RefCOCO."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vltk.datasets._scene_expressions import Expression
from vltk.datasets._scene_geometry import SHAPES
from vltk.datasets._scene_language import Caption
from vltk.datasets._scene_model import Scene, SceneObject
from vltk.datasets._scene_query import annotation_id

CAPTIONS = 5
Json = dict[str, Any]

INFO: Json = {
    "description": "The drawn world of vltk",
    "url": "",
    "version": "1.0",
    "year": 2026,
    "contributor": "vltk",
    "date_created": "2026-01-01 00:00:00",
}
LICENSE: Json = {"url": "https://www.apache.org/licenses/LICENSE-2.0", "id": 1, "name": "Apache-2.0"}

_LEMMAS = {"is": "be", "are": "be", "has": "have", "shows": "show", "bigger": "big", "smaller": "small", "an": "a"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A scene with its place in the world's files.

    Attributes:
        number: the picture's number in files that count.
        image_id: the picture's file name without suffix.
        split: "train", "val" or "test".
        scene: what it shows.
        captions: at most five.
    """

    number: int
    image_id: str
    split: str
    scene: Scene
    captions: tuple[Caption, ...]

    @property
    def file_name(self) -> str:
        """The picture's file name."""
        return f"{self.image_id}.png"

    def caption_id(self, place: int) -> int:
        """Return the id of a caption in every file, Karpathy's ``sentid``."""
        return CAPTIONS * self.number + place


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, in a folder that is made if need be."""
    write_text(path, json.dumps(content) + "\n")


def write_json_lines(path: Path, records: Iterable[object]) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file with the same line ends on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def write_instances(path: Path, pictures: Sequence[Picture]) -> None:
    """Write COCO instances; colour, texture and size of each object are in the extra field ``attributes``."""
    write_json(path, instances_of(pictures))


def instances_of(pictures: Sequence[Picture]) -> Json:
    """Return the content of a COCO instances file."""
    return {
        "info": INFO,
        "licenses": [LICENSE],
        "images": [_image(picture) for picture in pictures],
        "annotations": [
            _instance(picture.number, place, thing)
            for picture in pictures
            for place, thing in enumerate(picture.scene.objects)
        ],
        "categories": [
            {"supercategory": "shape", "id": number, "name": shape} for number, shape in enumerate(SHAPES, 1)
        ],
    }


def _image(picture: Picture) -> Json:
    return {
        "license": LICENSE["id"],
        "file_name": picture.file_name,
        "coco_url": "",
        "height": picture.scene.size,
        "width": picture.scene.size,
        "date_captured": INFO["date_created"],
        "flickr_url": "",
        "id": picture.number,
    }


def _instance(number: int, place: int, thing: SceneObject) -> Json:
    x1, y1, x2, y2 = thing.box
    outline = polygon(thing)
    return {
        "segmentation": [[value for point in outline for value in point]],
        "area": round(_area(outline), 2),
        "iscrowd": 0,
        "image_id": number,
        "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
        "category_id": SHAPES.index(thing.shape) + 1,
        "id": annotation_id(number, place),
        "attributes": {"size": thing.size, "texture": thing.texture, "colour": thing.colour},
    }


def polygon(thing: SceneObject) -> list[tuple[float, float]]:
    """Return the outline in pixels; curves as polygons of 32 corners, a ring without its hole."""
    corners = thing.corners
    step = 2 if len(corners) > 32 else 1
    return [(round(x, 2), round(y, 2)) for x, y in corners[::step]]


def _area(corners: Sequence[tuple[float, float]]) -> float:
    ahead = [*corners[1:], corners[0]]
    return abs(math.fsum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(corners, ahead, strict=True))) / 2


def write_captions(path: Path, pictures: Sequence[Picture]) -> None:
    """Write COCO captions."""
    annotations = [
        {"image_id": picture.number, "id": picture.caption_id(place), "caption": told.text}
        for picture in pictures
        for place, told in enumerate(picture.captions)
    ]
    images = [_image(picture) for picture in pictures]
    write_json(path, {"info": INFO, "licenses": [LICENSE], "images": images, "annotations": annotations})


def write_karpathy(path: Path, pictures: Sequence[Picture], *, dataset: str) -> None:
    """Write Karpathy's split file; each sentence names its template in the extra field ``template``."""
    images = [
        {
            "sentids": [picture.caption_id(place) for place in range(len(picture.captions))],
            "imgid": picture.number,
            "sentences": [
                {
                    "tokens": list(told.sentence.words),
                    "raw": told.text,
                    "imgid": picture.number,
                    "sentid": picture.caption_id(place),
                    "template": told.sentence.template,
                }
                for place, told in enumerate(picture.captions)
            ],
            "split": picture.split,
            "filename": picture.file_name,
        }
        for picture in pictures
    ]
    write_json(path, {"images": images, "dataset": dataset})


def write_entities(root: Path, pictures: Sequence[Picture]) -> None:
    """Write ``Sentences/<id>.txt`` and ``Annotations/<id>.xml`` of Flickr30k Entities, and a list of ids a split.

    Chains are objects: all captions of a picture call an object by one chain, the annotation id. "The
    picture" itself is a scene without a box.
    """
    for picture in pictures:
        lines = [_tagged(picture, told) for told in picture.captions]
        write_text(root / "Sentences" / f"{picture.image_id}.txt", "\n".join(lines) + "\n")
        write_text(root / "Annotations" / f"{picture.image_id}.xml", _annotation(picture))
    for split in dict.fromkeys(picture.split for picture in pictures):
        ids = [picture.image_id for picture in pictures if picture.split == split]
        write_text(root / f"{split}.txt", "\n".join(ids) + "\n")


def _scene_chain(picture: Picture) -> int:
    return annotation_id(picture.number, 8)


def _tagged(picture: Picture, told: Caption) -> str:
    words = list(told.sentence.words)
    tags = [
        (start, end, f"[/EN#{annotation_id(picture.number, place)}/other")
        for (start, end), place in zip(told.sentence.spans, told.objects, strict=True)
    ]
    if words[:2] == ["the", "picture"]:
        tags.append((0, 2, f"[/EN#{_scene_chain(picture)}/scene"))
    for start, end, tag in tags:
        words[start] = f"{tag} {words[start]}"
        words[end - 1] += "]"
    return " ".join(words)


def _annotation(picture: Picture) -> str:
    side = picture.scene.size
    head = [f"\t<filename>{picture.file_name}</filename>", "\t<size>"]
    head += [f"\t\t<{name}>{value}</{name}>" for name, value in (("width", side), ("height", side), ("depth", 3))]
    objects = []
    for place, thing in enumerate(picture.scene.objects):
        x1, y1, x2, y2 = thing.box
        # Pixels count from 1, and the last one belongs to the box.
        corners = (math.floor(x1) + 1, math.floor(y1) + 1, math.ceil(x2), math.ceil(y2))
        named = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        objects += ["\t<object>", f"\t\t<name>{annotation_id(picture.number, place)}</name>", "\t\t<bndbox>"]
        objects += [f"\t\t\t<{name}>{value}</{name}>" for name, value in named]
        objects += ["\t\t</bndbox>", "\t</object>"]
    objects += ["\t<object>", f"\t\t<name>{_scene_chain(picture)}</name>"]
    objects += ["\t\t<scene>1</scene>", "\t\t<nobndbox>1</nobndbox>", "\t</object>"]
    return "\n".join(["<annotation>", *head, "\t</size>", *objects, "</annotation>", ""])


def write_conllu(path: Path, pictures: Sequence[Picture]) -> None:
    """Write the captions' dependency trees; ``sent_id`` is the caption id."""
    blocks = [
        _block(picture.caption_id(place), told) for picture in pictures for place, told in enumerate(picture.captions)
    ]
    write_text(path, "".join(blocks))


def _block(caption_id: int, told: Caption) -> str:
    sentence = told.sentence
    rows = [f"# sent_id = {caption_id}", f"# text = {told.text}"]
    for number, word in enumerate(sentence.words, 1):
        head, relation = sentence.parse.heads[number - 1], sentence.parse.relations[number - 1]
        lemma, tag = _LEMMAS.get(word, word), sentence.tags[number - 1]
        rows.append("\t".join((str(number), word, lemma, tag, "_", "_", str(head), relation, "_", "_")))
    return "\n".join(rows) + "\n\n"


REFERENCE_FILES = {"refcoco": "refs(unc).p", "refcoco+": "refs(unc).p", "refcocog": "refs(umd).p"}


def write_references(
    root: Path, collection: str, pictures: Sequence[Picture], drawn: Mapping[int, Sequence[Sequence[Expression]]]
) -> None:
    """Write one of RefCOCO, RefCOCO+ and RefCOCOg: pickled references beside ``instances.json``.

    The references are plain lists, dicts, texts and numbers. RefCOCO and RefCOCO+ have two test
    splits: testA takes every other test picture, testB the rest.

    Args:
        root: the folder of the collection.
        collection: a key of REFERENCE_FILES.
        pictures: all pictures of the world.
        drawn: for each picture's number the expressions of some of its objects.
    """
    references: list[Json] = []
    sentence_id = 0
    for picture in pictures:
        for expressions in drawn[picture.number]:
            sentences = [_sentence(sentence_id + k, told) for k, told in enumerate(expressions)]
            sentence_id += len(sentences)
            references.append(_reference(collection, picture, expressions[0].place, len(references), sentences))
    root.mkdir(parents=True, exist_ok=True)
    # Protocol 2 is that of the published files. Passing through JSON makes equal texts separate objects
    # or one object by a rule, not by chance: a pickle spells shared objects differently.
    plain = json.loads(json.dumps(references))
    (root / REFERENCE_FILES[collection]).write_bytes(pickle.dumps(plain, protocol=2))
    write_json(root / "instances.json", instances_of(pictures))


def _sentence(sentence_id: int, told: Expression) -> Json:
    text = told.text
    return {"tokens": text.split(), "raw": text, "sent_id": sentence_id, "sent": text, "clue": told.clue}


def _reference(collection: str, picture: Picture, place: int, ref_id: int, sentences: list[Json]) -> Json:
    split = picture.split
    if split == "test" and collection != "refcocog":
        split = "testB" if picture.number % 20 > 9 else "testA"
    return {
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "file_name": f"{picture.image_id}_{place}.png",
        "ann_id": annotation_id(picture.number, place),
        "ref_id": ref_id,
        "image_id": picture.number,
        "split": split,
        "sentences": sentences,
        "category_id": SHAPES.index(picture.scene.objects[place].shape) + 1,
    }
