"""Which word pieces and regions belong to one object."""

from __future__ import annotations

import numpy as np

from vltk.isd.objects import annotated, objects_of
from vltk.types import Example, Phrase, RegionFeatures, Tokens

BOXES = np.array([[0, 0, 10, 10], [5, 5, 20, 20], [0, 0, 10, 10], [30, 30, 40, 40]], np.float32)


def picture(names: tuple[str, ...] | None = ("1", "2", "3", "1"), boxes: np.ndarray | None = BOXES) -> RegionFeatures:
    return RegionFeatures(
        image_id="p",
        features=np.arange(8, dtype=np.float32).reshape(4, 2),
        boxes=boxes,
        size=(50, 50),
        region_ids=names,
    )


def caption(*phrases: Phrase) -> Example:
    text = "a big dog on the mat sees it"
    # "big" has two word pieces, "on" three.
    words = (0, 1, 1, 2, 3, 3, 3, 4, 5, 6, 7)
    tokens = Tokens(ids=tuple(range(5, 16)), words=words)
    return Example(id="p#0", image_ids=("p",), texts=(text, text), tokens=(tokens, tokens), phrases=phrases)


def phrase(start: int, end: int, entity: str, *, text: int = 0, boxes: tuple = ()) -> Phrase:
    return Phrase(text=text, start=start, end=end, entity=entity, boxes=boxes)


def test_a_phrase_has_all_pieces_of_its_words_and_a_chain_all_its_boxes() -> None:
    found = objects_of(caption(phrase(0, 3, "1"), phrase(4, 6, "2")), annotated(picture()))
    assert found.entities == ("1", "2")
    assert found.words == ((0, 1, 2, 3), (7, 8))
    assert found.regions == ((0, 2), (1,))


def test_a_box_of_two_chains_is_one_region_of_both() -> None:
    regions = annotated(picture())
    assert len(regions.picture) == 3
    np.testing.assert_array_equal(regions.picture.features, [[0, 1], [2, 3], [6, 7]])
    found = objects_of(caption(phrase(0, 3, "1"), phrase(4, 6, "3")), regions)
    assert found.regions == ((0, 2), (0,))


def test_a_repeated_chain_is_merged_or_taken_by_its_first_phrase() -> None:
    told = caption(phrase(7, 8, "1"), phrase(0, 3, "1"), phrase(4, 6, "2"))
    assert objects_of(told, annotated(picture())).words == ((0, 1, 2, 3, 10), (7, 8))
    assert objects_of(told, annotated(picture()), chains="first").words == ((0, 1, 2, 3), (7, 8))


def test_chains_without_a_region_are_named_and_left_out() -> None:
    found = objects_of(caption(phrase(0, 3, "1"), phrase(4, 6, "9"), phrase(7, 8, "8")), annotated(picture()))
    assert (found.entities, found.unseen) == (("1",), ("9", "8"))


def test_phrases_of_another_text_do_not_count() -> None:
    assert len(objects_of(caption(phrase(0, 3, "1", text=1)), annotated(picture()))) == 0


def test_boxes_find_regions_where_names_do_not() -> None:
    told = caption(
        phrase(0, 3, "dog", boxes=((0, 0, 10, 11),)), phrase(4, 6, "mat", boxes=((30, 30, 40, 40), (9, 9, 9, 9)))
    )
    for names in (None, ("0", "1", "2", "3")):
        found = objects_of(told, annotated(picture(names)))
        assert found.regions == ((0,), (2,))
    assert len(objects_of(told, annotated(picture(None, None)))) == 0


def test_a_word_that_has_no_piece_makes_no_object() -> None:
    told = caption(phrase(0, 3, "1"), phrase(4, 6, "2"))
    bare = Example(
        id="p#0",
        image_ids=("p",),
        texts=told.texts[:1],
        tokens=(Tokens(ids=(5, 6), words=(4, 5)),),
        phrases=told.phrases,
    )
    assert objects_of(bare, annotated(picture())).entities == ("2",)
