from __future__ import annotations

from collections import Counter

import pytest
from PIL import Image

from vltk.datasets import flickr30k_entities, phraseloceval
from vltk.datasets._record import read_image_list
from vltk.datasets.flickr30k_entities import parse_sentence, read_annotation
from vltk.errors import DataError

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>20</ymax></bndbox>"
SIZE = "<size><width>100</width><height>50</height><depth>3</depth></size>"


def annotation(*objects, size=SIZE):
    inside = "".join(f"<object>{item}</object>" for item in objects)
    return f"<annotation><filename>7.jpg</filename>{size}{inside}</annotation>"


def release(write, sentences, xml=None, name="7"):
    path = write("\n".join(sentences) + "\n", f"release/Sentences/{name}.txt")
    if xml is not None:
        write(xml, f"release/Annotations/{name}.xml")
    return path.parent.parent


def test_a_sentence_loses_its_tags_and_keeps_its_phrases():
    line = "[/EN#12/people/other A man] in [/EN#3/clothing a red hat] , [/EN#0/notvisual it] [/EN#4/scene rains ]"
    sentence = parse_sentence(line)
    assert sentence.text == "A man in a red hat , it rains"
    assert [(p.start, p.end, p.entity, p.kinds) for p in sentence.phrases] == [
        (0, 2, "12", ("people", "other")),
        (3, 6, "3", ("clothing",)),
        (7, 8, "0", ("notvisual",)),
        (8, 9, "4", ("scene",)),
    ]


def test_brackets_that_are_no_tags_are_words():
    assert parse_sentence("A sign [ EXIT ] is lit").text == "A sign [ EXIT ] is lit"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[/EN#1/people A man sits", r"x: never closes '\[/EN#1/people'"),
        ("[/EN#1/people A man in [/EN#2/other a hat] ]", r"opens '\[/EN#2/other' inside '\[/EN#1/people'"),
        ("[/EN#1 A man]", r"has a broken tag '\[/EN#1'"),
        ("[/EN#1/people ] sits", r"has no word in '\[/EN#1/people'"),
        ("", "has an empty text"),
    ],
)
def test_a_broken_tag_is_one_sentence(line, message):
    with pytest.raises(DataError, match=message):
        parse_sentence(line, "x")


def test_annotations_link_chains_and_boxes_many_to_many(write):
    xml = annotation(
        "<name>1</name><name>2</name>" + BOX.format(30),
        "<name>1</name>" + BOX.format(40),
        "<name>3</name><scene>1</scene><nobndbox>1</nobndbox>",
        "<name>4</name><scene>0</scene><nobndbox>1</nobndbox>",
    )
    found = read_annotation(write(xml, "7.xml"))
    # 1-based inclusive pixels; the official parser subtracts 1 from all four numbers.
    assert found.boxes == {"1": ((0, 1, 29, 19), (0, 1, 39, 19)), "2": ((0, 1, 29, 19),)}
    assert (found.size, found.scenes, found.without_box) == ((100, 50), {"3"}, {"3", "4"})


def test_annotations_without_size_are_read(write):
    found = read_annotation(write(annotation("<name>1</name>" + BOX.format(900), size=""), "7.xml"))
    assert (found.size, found.boxes) == (None, {"1": ((0, 1, 899, 19),)})


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            annotation("<name>1</name>" + BOX.format(150)),
            r"7.xml, object 0: has box .* outside the picture of 100 x 50",
        ),
        (annotation(BOX.format(30)), "object 0: has no name"),
        (annotation("<name>1</name>" + BOX.format("wide")), "object 0: has <xmax> 'wide', expected a number"),
        (annotation("<name>1</name>" + BOX.format("nan")), "which is not finite"),
        (annotation("<name>1</name>" + BOX.format(0)), "x2 < x1"),
        (annotation("<name>1</name><bndbox><xmin>1</xmin></bndbox>"), "has <ymin> None, expected a number"),
        (annotation(size="<size><width>0</width><height>5</height></size>"), "size: has the size 0 x 5"),
        (annotation(size="<size><width>inf</width><height>5</height></size>"), "size: has the size inf x 5"),
        ("<annotation>", r"is not XML \(no element found"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "declares a document type"),
    ],
)
def test_a_broken_annotation_is_one_sentence(write, xml, message):
    with pytest.raises(DataError, match=message):
        read_annotation(write(xml, "7.xml"))


def test_examples_link_phrases_to_boxes_and_keep_those_without(write):
    sentences = ["[/EN#1/people A man] near [/EN#3/scene a lake]", "It rains ."]
    root = release(write, sentences, annotation("<name>1</name>" + BOX.format(30)))
    first, second = flickr30k_entities.read_examples(root)
    assert (first.id, second.id, first.image_ids) == ("7#0", "7#1", ("7",))
    assert [p.boxes for p in first.phrases] == [((0, 1, 29, 19),), ()]
    assert second.phrases == ()


def test_a_split_list_chooses_and_orders_and_must_be_there(write):
    release(write, ["One ."], name="7")
    root = release(write, ["Two ."], name="8")
    assert [e.id for e in flickr30k_entities.read_examples(root)] == ["7#0", "8#0"]
    assert [e.id for e in flickr30k_entities.read_examples(root, images=write("8\n7\n", "split.txt"))] == ["8#0", "7#0"]
    with pytest.raises(DataError, match=r"Sentences/9\.txt: there is no such file"):
        list(flickr30k_entities.read_examples(root, images=write("9\n", "split.txt")))


def test_missing_parts_of_the_release_are_named(write, tmp_path):
    with pytest.raises(DataError, match="has no folder Sentences; give the folder"):
        list(flickr30k_entities.read_examples(tmp_path))
    root = release(write, ["One ."])
    (root / "Annotations").mkdir()
    with pytest.raises(DataError, match=r"Annotations/7\.xml: there is no such file"):
        list(flickr30k_entities.read_examples(root))


def test_a_broken_sentence_names_file_and_line(write):
    root = release(write, ["One .", "[/EN#1/people Two"])
    with pytest.raises(DataError, match=r"Sentences/7\.txt, line 2: never closes"):
        list(flickr30k_entities.read_examples(root))


def test_unrelated_captions_are_left_out(write):
    root = release(write, ["One .", "Two ."])
    unrelated = write("# format: <imageID> <sentence number>\n7 2\n", "UNRELATED_CAPTIONS")
    assert [e.id for e in flickr30k_entities.read_examples(root, unrelated=unrelated)] == ["7#0"]
    with pytest.raises(DataError, match="line 1: is '7', expected an image id and a sentence number from 1"):
        flickr30k_entities.read_unrelated(write("7\n", "UNRELATED_CAPTIONS"))


# -- phraseloceval ----------------------------------------------------------------------------------------------------


def phrase(**changes):
    item = {"box": [1, 2, 30, 19], "image": "7#0", "entity": "12", "phrase": ["A", "man"], "start": 0, "end": 2}
    return item | {"categories": ["people"], "pos": ["DT", "NN"]} | changes


def located(write, *items, captions=("A man 's hat( red ) .",)):
    return phraseloceval.read_captions(write(list(items)), write({"7.jpg": list(captions)}, "captions.json"))


def test_a_phrase_has_the_box_that_the_release_has(write):
    (example,) = located(write, phrase())
    xml = read_annotation(write(annotation("<name>12</name>" + BOX.format(30)), "7.xml"))
    assert example.phrases[0].boxes == xml.boxes["12"]
    assert (example.id, example.phrases[0].kinds) == ("7#0", ("people",))


def test_a_phrase_is_placed_by_its_characters_where_tokens_differ(write):
    (example,) = located(write, phrase(phrase=["a", "'s", "hat", "("], start=9, end=12) | {"phrase": ["'s", "hat"]})
    assert (example.phrases[0].start, example.phrases[0].end) == (2, 4)


def test_the_nearest_of_several_places_wins(write):
    (example,) = located(write, phrase(phrase=["a", "man"], start=6, end=8), captions=("a man , ( a man )",))
    assert (example.phrases[0].start, example.phrases[0].end) == (4, 6)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (phrase(phrase=["a", "dog"]), r"\[0\]: has phrase 'a dog', which its caption"),
        (phrase(phrase=[]), r"\[0\]: has phrase '', which its caption"),
        (phrase(image="8#0"), "belongs to caption 0 of image 8, which .*captions.json lacks"),
        (phrase(image="7"), "has image '7', expected id#caption"),
        (phrase(box=[1, 2, 0, 5]), "x2 < x1"),
        (phrase(entity=None), "has null as 'entity', expected an id"),
    ],
)
def test_broken_phrase_files_are_one_sentence(write, item, message):
    with pytest.raises(DataError, match=message):
        list(located(write, item))


# -- published facts --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entities(data):
    return data / "flickr30k_entities"


@pytest.fixture(scope="module")
def captions(entities):
    found = phraseloceval.read_captions(
        entities / "phraseloceval/annotation_test.json", entities / "captions/test.json"
    )
    return list(found)


@pytest.fixture(scope="module")
def derived(entities):
    root = entities / "derived_from_phraseloceval"
    return list(flickr30k_entities.read_examples(root, images=entities / "splits/test.txt"))


def test_the_published_test_split(entities, captions):
    assert (len({e.image_ids for e in captions}), len(captions)) == (804, 4020)
    assert round(sum(len(e.texts[0].split()) for e in captions) / len(captions), 4) == 13.3318
    phrases = [(e.image_ids[0], p) for e in captions for p in e.phrases]
    assert len(phrases) == 11646
    assert len({(image, p.entity) for image, p in phrases}) == 4839
    assert {e.image_ids[0] for e in captions} - {image for image, _ in phrases} == {"4797050581"}
    assert Counter(kind for _, p in phrases for kind in p.kinds) == {
        "people": 4544,
        "other": 2682,
        "clothing": 1891,
        "scene": 1312,
        "bodyparts": 427,
        "animals": 414,
        "vehicles": 318,
        "instruments": 119,
    }
    assert sum(len(p.kinds) > 1 for _, p in phrases) == 61
    ids = read_image_list(entities / "splits/test.txt")
    assert set(ids) == {e.image_ids[0] for e in captions}


def test_all_but_four_phrases_stand_where_the_file_says(entities, captions):
    texts = {e.id: e.texts[0].split() for e in captions}
    listed = phraseloceval.read_phrases(entities / "phraseloceval/annotation_test.json")
    right = [tuple(texts[f"{p.image_id}#{p.caption}"][p.start : p.end]) == p.words for p in listed]
    assert (sum(right), len(right)) == (11642, 11646)


def test_every_chain_has_one_box_in_phraseloceval(captions):
    boxes = {}
    for example in captions:
        for phrase in example.phrases:
            assert boxes.setdefault((example.image_ids[0], phrase.entity), phrase.boxes) == phrase.boxes


def test_the_derived_release_files(entities, derived):
    assert len({e.image_ids for e in derived}) == len(
        list((entities / "derived_from_phraseloceval/Sentences").iterdir())
    )
    assert (len(derived), sum(len(e.phrases) for e in derived)) == (4020, 11642)
    assert len({(e.image_ids[0], p.entity) for e in derived for p in e.phrases}) == 4837
    found = [read_annotation(path) for path in (entities / "derived_from_phraseloceval/Annotations").glob("*.xml")]
    # Chains with the same box share one object.
    objects = {(number, box) for number, item in enumerate(found) for boxes in item.boxes.values() for box in boxes}
    assert len(objects) == 4806
    with_size = [item for item in found if item.size]
    assert len(with_size) == 28
    assert sum(len(boxes) for item in with_size for boxes in item.boxes.values()) == 136


def test_both_layouts_give_the_same_examples(captions, derived):
    captions = sorted(captions, key=lambda e: e.id)
    derived = sorted(derived, key=lambda e: e.id)
    different = [a.id for a, b in zip(captions, derived, strict=True) if a != b]
    # The two captions whose four phrases the re-writing could not place.
    assert different == ["1775223211#2", "4759710534#0"]


def test_photographs_with_their_phrases(entities, captions):
    ids = {path.stem for path in (entities / "flickr30k-images").glob("*.jpg")}
    assert len(ids) == 28
    assert sum(len(e.phrases) for e in captions if e.image_ids[0] in ids) == 382
    readme = (entities / "README.md").read_text(encoding="utf-8")
    assert set(readme.partition("photo ids: ")[2].partition(".")[0].split()) <= ids
    for image_id in ids:
        boxes = [b for e in captions if e.image_ids[0] == image_id for p in e.phrases for b in p.boxes]
        with Image.open(entities / f"flickr30k-images/{image_id}.jpg") as photograph:
            width, height = photograph.size
        # In the file's 1-based inclusive pixels: min coordinate 1, x + w - 1 <= W, y + h - 1 <= H.
        assert all(x1 >= 0 and y1 >= 0 and x2 + 1 <= width and y2 + 1 <= height for x1, y1, x2, y2 in boxes)
        annotated = read_annotation(entities / f"derived_from_phraseloceval/Annotations/{image_id}.xml")
        assert annotated.size == (width, height)
    assert len(list((entities / "images_224").glob("*.jpg"))) == 58


def test_the_original_excerpts(entities):
    found = list(flickr30k_entities.read_examples(entities / "original_excerpts"))
    phrases = [(e.image_ids[0], p) for e in found for p in e.phrases]
    assert (len({e.image_ids for e in found}), len(found), len(phrases)) == (10, 50, 171)
    chains = {(image, p.entity) for image, p in phrases}
    notvisual = [image for image, p in phrases if p.entity == "0"]
    assert len(chains) == 82
    assert len(chains) - len(set(notvisual)) + len(notvisual) == 84
    assert Counter(kind for _, p in phrases for kind in p.kinds) == {
        "people": 65,
        "other": 50,
        "notvisual": 7,
        "clothing": 19,
        "bodyparts": 3,
        "scene": 27,
        "vehicles": 1,
    }
    assert Counter(image for image, _ in phrases) == {
        "134206": 15,
        "148284": 18,
        "178045": 19,
        "205842": 23,
        "256063": 15,
        "36979": 15,
        "4945942737": 18,
        "6338542128": 24,
        "65567": 13,
        "81641": 11,
    }


def test_the_published_unrelated_captions(entities):
    found = flickr30k_entities.read_unrelated(entities / "splits/UNRELATED_CAPTIONS")
    lines = (entities / "splits/UNRELATED_CAPTIONS").read_text(encoding="utf-8").splitlines()[1:]
    assert len(found) == len(lines)
    assert found[0] == "129602216#4"
