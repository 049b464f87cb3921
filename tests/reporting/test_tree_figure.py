"""Drawings of trees: every word, edge and region is there, nothing from outside is believed."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from vltk.errors import DataError
from vltk.reporting.tree_figure import GOLD, PREDICTED, picture_tree, sentence_trees

WORDS = ["the", "small", "ring", "is", "left", "of", "a", "star"]
CHAIN = [(0, 1), (1, 2), (2, 3)]
BOXES = [(0, 0, 10, 10), (5, 5, 40, 30), (20, 0, 40, 10), (0, 20, 10, 30)]


def drawn(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def paths(text: str) -> list[dict[str, str]]:
    return [one.attrib for one in drawn(text).iter("path")]


def heights(text: str, colour: str) -> list[float]:
    """The farthest y of each arc of a colour."""
    arcs = [one["d"] for one in paths(text) if one["stroke"] == colour]
    return [float(arc.partition("L")[2].partition("C")[0].split()[1]) for arc in arcs]


def test_gold_edges_are_black_above_the_words_and_predicted_ones_red_below() -> None:
    figure = sentence_trees(WORDS, [(0, 2), (1, 2)], [(0, 1), (2, 1)])
    line = float(next(one.attrib["y"] for one in drawn(figure).iter("text")))
    assert [one["stroke"] for one in paths(figure)] == [GOLD, GOLD, PREDICTED, PREDICTED]
    assert all(height < line for height in heights(figure, GOLD))
    assert all(height > line for height in heights(figure, PREDICTED))
    assert [one.text for one in drawn(figure).iter("text")] == WORDS


def test_an_edge_that_the_gold_tree_lacks_is_dashed_and_direction_does_not_count() -> None:
    figure = sentence_trees(WORDS, [(0, 2), (1, 2)], [(0, 1), (2, 1)])
    assert ["stroke-dasharray" in one for one in paths(figure)] == [False, False, True, False]
    assert "dasharray" not in sentence_trees(WORDS, [], [(0, 1)])


def test_an_arc_rises_above_those_that_it_spans() -> None:
    wide, narrow, apart = heights(sentence_trees(WORDS, [(0, 4), (1, 2), (5, 6)]), GOLD)
    assert wide < narrow == apart


def test_everything_lies_inside_the_drawing() -> None:
    figure = sentence_trees(WORDS, [(0, place) for place in range(1, 8)], [(place, 7) for place in range(7)])
    height = float(drawn(figure).attrib["height"])
    assert min(heights(figure, GOLD)) > 0
    assert max(heights(figure, PREDICTED)) < height


def test_wide_letters_get_more_room() -> None:
    width = {word: float(drawn(sentence_trees([word], [])).attrib["width"]) for word in ("ab", "图片")}
    assert width["图片"] > width["ab"]


@pytest.mark.parametrize("figure", [
    sentence_trees(["<script>alert(1)</script>", '"&'], [(0, 1)]),
    picture_tree(BOXES[:1], [], size=(40, 30), labels=["<script>alert(1)</script>"], picture='x"><script>y</script>'),
])  # fmt: skip
def test_texts_from_outside_stay_texts(figure: str) -> None:
    assert not [one for one in drawn(figure).iter() if one.tag == "script"]


def test_every_region_has_a_thumbnail_of_its_box_and_the_picture_stands_there_once() -> None:
    figure = picture_tree(BOXES, CHAIN, size=(40, 30), labels=["a", "b", "c", "d"], picture="data:image/jpeg;base64,AA")
    root = drawn(figure)
    assert figure.count("data:image/jpeg") == 1
    views = [one.attrib["viewBox"] for one in root.iter("svg")][1:]
    assert views[0] == "0.0 0.0 40.0 30.0"
    assert sorted(views[1:]) == sorted(
        ["0.0 0.0 10.0 10.0", "5.0 5.0 35.0 25.0", "20.0 0.0 20.0 10.0", "0.0 20.0 10.0 10.0"]
    )
    assert len(list(root.iter("line"))) == 2 * len(CHAIN)
    assert {"".join(one.itertext()) for one in root.iter("text")} == {"a", "b", "c", "d"}


def test_a_long_name_of_a_region_stands_in_two_lines() -> None:
    root = drawn(picture_tree(BOXES[:1], [], size=(40, 30), labels=["small striped pink triangle with a rim"]))
    (name,) = root.iter("text")
    assert [line.text for line in name] == ["small", "striped…"]


def test_two_pictures_in_one_page_do_not_share_a_name() -> None:
    names = {
        next(drawn(picture_tree(BOXES, CHAIN, size=(40, 30), picture=picture)).iter("g")).attrib["id"]
        for picture in ("data:one", "data:two")
    }
    assert len(names) == 2


def test_few_regions_need_no_edge() -> None:
    assert "<line" not in picture_tree(BOXES[:1], [], size=(40, 30))
    assert drawn(picture_tree([], [], size=(40, 30))).tag == "svg"


@pytest.mark.parametrize(("edges", "problem"), [
    ([(0, 1)], "1 edges over 4 regions are no tree"),
    ([(0, 1), (1, 0), (2, 3)], "3 edges over 4 regions are no tree"),
    ([(0, 1), (1, 2), (2, 4)], r"has the edge \(2, 4\) over 4 regions"),
])  # fmt: skip
def test_edges_that_are_no_tree_are_refused(edges: list[tuple[int, int]], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        picture_tree(BOXES, edges, size=(40, 30))


def test_an_edge_to_a_word_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match=r"has the edge \(0, 8\) over 8 words"):
        sentence_trees(WORDS, [(0, 8)])
    with pytest.raises(DataError, match="2 labels for 4 regions"):
        picture_tree(BOXES, CHAIN, size=(40, 30), labels=["a", "b"])
