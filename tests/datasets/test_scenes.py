"""Scenes: a pure function of seed and index, exact boxes, relations that people agree on, even statistics."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections import Counter
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from vltk.datasets.scenes import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    CONTAINERS,
    CONVERSES,
    RELATIONS,
    SHAPES,
    Dice,
    Scene,
    SceneConfig,
    SceneObject,
    mask,
    scene,
    stream,
)
from vltk.errors import UsageError


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene(11, index) for index in range(400)]


def at(x: float, y: float, *, shape: str = "circle", radius: float = 10.0, rotation: float = 0.0) -> SceneObject:
    return SceneObject(
        shape=shape, colour="red", texture="solid", size="small", x=x, y=y, radius=radius, rotation=rotation
    )


def two(first: SceneObject, second: SceneObject) -> Scene:
    return Scene(seed=0, index=0, size=128, background="light", objects=(first, second))


def extent(coverage: Any) -> tuple[int, int, int, int]:
    """The first and one past the last pixel that is touched, on each axis."""
    rows, columns = np.nonzero(coverage)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_a_scene_is_the_same_in_every_order_and_step(scenes: list[Scene]) -> None:
    assert [scene(11, index) for index in reversed(range(400))][::-1] == scenes
    assert list(itertools.islice(stream(11), 400)) == scenes
    odd, even = (list(itertools.islice(stream(11, start=start, step=2), 200)) for start in (1, 0))
    assert [drawn for pair in zip(even, odd, strict=True) for drawn in pair] == scenes


def test_a_scene_is_the_same_in_another_process(scenes: list[Scene]) -> None:
    code = "from vltk.datasets.scenes import scene\nprint([repr(scene(11, i)) for i in range(30)])"
    for hash_seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
        )
        assert told.stdout.strip() == str([repr(drawn) for drawn in scenes[:30]])


def test_another_seed_or_index_is_another_scene(scenes: list[Scene]) -> None:
    objects = [drawn.objects for drawn in scenes] + [scene(12, index).objects for index in range(400)]
    assert len(set(objects)) == 800


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [8.0, 22.0])
def test_boxes_are_the_extent_of_what_is_drawn(shape: str, radius: float) -> None:
    dice = Dice("boxes", shape, radius)
    for _ in range(40):
        alone = at(
            dice.between(35, 93), dice.between(35, 93), shape=shape, radius=radius, rotation=dice.between(-0.2, 0.2)
        )
        assert np.abs(np.subtract(extent(mask(alone, 128)), alone.box)).max() <= 1.0
        # The same again eight times larger: a box is exact to an eighth of a pixel.
        large = replace(alone, x=alone.x * 8, y=alone.y * 8, radius=alone.radius * 8)
        assert np.abs(np.subtract(extent(mask(large, 1024)), np.multiply(alone.box, 8))).max() <= 1.0


def test_boxes_lie_in_the_picture_and_objects_keep_apart(scenes: list[Scene]) -> None:
    for drawn in scenes:
        assert 2 <= len(drawn.objects) <= 6
        assert all(min(o.box) >= 0 and max(o.box) <= 128 for o in drawn.objects)
        for a, b in itertools.combinations(range(len(drawn.objects)), 2):
            one, other = drawn.objects[a].box, drawn.objects[b].box
            apart = max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3])
            linked = any(drawn.relation(name, *pair) for name in ("on", "inside") for pair in ((a, b), (b, a)))
            assert linked or apart >= 4


def test_a_larger_picture_shows_the_same_scene(scenes: list[Scene]) -> None:
    for index, drawn in enumerate(scenes[:100]):
        large = scene(11, index, SceneConfig(size=256))
        assert large == drawn.scaled(256)
        assert large.related == drawn.related
        for o, p in zip(drawn.objects, large.objects, strict=True):
            assert np.allclose(np.multiply(o.box, 2), p.box)


def test_relations_agree_with_their_converses_and_never_hold_both_ways(scenes: list[Scene]) -> None:
    seen: Counter[tuple[str, bool | None]] = Counter()
    for drawn in scenes[:150]:
        for name in RELATIONS:
            for a, b in itertools.permutations(range(len(drawn.objects)), 2):
                verdict = drawn.relation(name, a, b)
                seen[name, verdict] += 1
                assert ((a, b) in drawn.related[name]) == (verdict is True)
                assert not (verdict and drawn.relation(name, b, a) is not False)
                if name in CONVERSES:
                    assert verdict == drawn.relation(CONVERSES[name], b, a)
            assert all(drawn.relation(name, a, a) is False for a in range(len(drawn.objects)))
    assert all(seen[name, True] > 20 and seen[name, False] > 20 for name in RELATIONS)


def test_a_mirrored_scene_exchanges_left_and_right_only(scenes: list[Scene]) -> None:
    sides = {"left of": "right of", "right of": "left of"}
    for drawn in scenes[:100]:
        # The shapes are symmetric, so a mirror turns the rotation only.
        mirrored = replace(drawn, objects=tuple(replace(o, x=128 - o.x, rotation=-o.rotation) for o in drawn.objects))
        for name in RELATIONS:
            assert set(mirrored.related[name]) == set(drawn.related[sides.get(name, name)])


def test_left_of_needs_each_centre_clear_of_the_other() -> None:
    large, small = at(60, 64, radius=22), at(90, 20, radius=8)
    assert two(small, large).relation("right of", 0, 1) is True
    assert two(small.moved(-7, 0), large).relation("right of", 0, 1) is None
    assert two(small.moved(-29, 0), large).relation("right of", 0, 1) is False
    assert two(small.moved(-29, 0), large).relation("left of", 0, 1) is False


def test_bigger_needs_a_clear_difference() -> None:
    verdicts = [two(at(30, 30, radius=radius), at(90, 90)).relation("bigger than", 0, 1) for radius in (10, 11.5, 13)]
    assert verdicts == [False, None, True]


def test_every_large_object_is_bigger_than_every_small_one(scenes: list[Scene]) -> None:
    for drawn in scenes:
        for a, b in itertools.permutations(range(len(drawn.objects)), 2):
            if (drawn.objects[a].size, drawn.objects[b].size) == ("large", "small"):
                assert drawn.relation("bigger than", a, b) is True


def drop(upper: SceneObject, lower: SceneObject) -> float:
    """How far one mask can fall before it meets the other: the smallest gap of all pixel columns."""
    scale, side = 8, 1024
    over, under = (
        mask(replace(o, x=o.x * scale, y=o.y * scale, radius=o.radius * scale), side) >= 128 for o in (upper, lower)
    )
    shared = over.any(axis=0) & under.any(axis=0)
    bottom = side - np.argmax(over[::-1], axis=0)
    return float((np.argmax(under, axis=0) - bottom)[shared].min()) / scale if shared.any() else math.inf


def test_on_is_touching_from_above(scenes: list[Scene]) -> None:
    checked = 0
    for drawn in scenes:
        for a, b in drawn.related["on"]:
            upper, lower = drawn.objects[a], drawn.objects[b]
            assert abs(drop(upper, lower)) < 1.28 + 0.3
            assert lower.box[0] < upper.centre[0] < lower.box[2]
            assert drawn.relation("above", a, b) is not False
            assert upper.colour != lower.colour
            checked += 1
    assert checked > 100


def test_on_is_denied_once_there_is_a_gap() -> None:
    dice = Dice("gaps")
    for _ in range(30):
        lower = at(64, 90, shape=dice.pick(SHAPES), radius=18)
        upper = at(64 + dice.between(-5, 5), 40, shape=dice.pick(SHAPES), radius=9)
        touching = upper.moved(0, drop(upper, lower))
        assert two(touching, lower).relation("on", 0, 1) is True
        assert two(touching.moved(0, -4), lower).relation("on", 0, 1) is False
        assert two(touching.moved(0, -2.2), lower).relation("on", 0, 1) is None
        assert two(touching, lower).relation("on", 1, 0) is False
        assert two(touching.moved(60, 0), lower).relation("on", 0, 1) is False


def test_inside_is_covered_by_a_solid_convex_shape(scenes: list[Scene]) -> None:
    checked = 0
    for drawn in scenes:
        for a, b in drawn.related["inside"]:
            inner, outer = drawn.objects[a], drawn.objects[b]
            assert (mask(outer, 128)[mask(inner, 128) > 0] == 255).all()
            assert outer.shape in CONTAINERS
            assert (outer.texture, outer.size, inner.size) == ("solid", "large", "small")
            assert outer.colour != inner.colour
            assert a > b, "a container is drawn before what it holds"
            checked += 1
    assert checked > 80


def test_a_ring_holds_nothing_for_certain() -> None:
    assert two(at(64, 64, radius=5), at(64, 64, shape="ring", radius=22)).relation("inside", 0, 1) is None
    assert two(at(64, 64, radius=5), at(64, 64, shape="square", radius=22)).relation("inside", 0, 1) is True
    assert two(at(78.5, 64, radius=5), at(64, 64, shape="square", radius=22)).relation("inside", 0, 1) is None
    assert two(at(84, 64, radius=5), at(64, 64, shape="square", radius=22)).relation("inside", 0, 1) is False


def test_values_are_even() -> None:
    many = [scene(5, index) for index in range(2500)]
    objects = [o for drawn in many for o in drawn.objects]

    def even(found: Counter[Any], values: Any) -> bool:
        share, total = 1 / len(values), sum(found.values())
        spread = math.sqrt(total * share * (1 - share))
        return set(found) == set(values) and all(abs(found[v] - total * share) < 4.5 * spread for v in values)

    assert even(Counter(o.shape for o in objects), SHAPES)
    assert even(Counter(o.colour for o in objects), COLOURS)
    assert even(Counter(drawn.background for drawn in many), BACKGROUNDS)
    assert even(Counter(len(drawn.objects) for drawn in many), range(2, 7))
    # Containers are solid and crowded scenes have fewer large objects: near a half is all that is promised.
    for name in ("texture", "size"):
        assert all(0.4 < sum(o.attribute(name) == v for o in objects) / len(objects) < 0.6 for v in ATTRIBUTES[name])
    shares = {name: sum(bool(drawn.related[name]) for drawn in many) / len(many) for name in RELATIONS}
    assert all(share > 0.75 for name, share in shares.items() if name not in ("on", "inside"))
    assert shares["on"] > 0.35
    assert shares["inside"] > 0.25


def test_the_configuration_rules_the_scenes() -> None:
    fixed = [scene(1, i, SceneConfig(min_objects=3, max_objects=3, inside=0, on=0)) for i in range(50)]
    assert all(len(drawn.objects) == 3 for drawn in fixed)
    assert not any(drawn.related["on"] or drawn.related["inside"] for drawn in fixed)
    crowded = [scene(1, i, SceneConfig(min_objects=6, inside=1, on=1)) for i in range(50)]
    assert all(len(drawn.objects) == 6 and drawn.related["on"] for drawn in crowded)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"size": 8}, r"^scenes: size: 8 is not a whole number of 32 to 4096$"),
        ({"size": 128.0}, r"^scenes: size: 128\.0 is not a whole number of 32 to 4096$"),
        ({"min_objects": 0}, r"^scenes: min_objects: 0 is not a whole number of 1 to 6$"),
        ({"min_objects": True}, r"^scenes: min_objects: True is not a whole number of 1 to 6$"),
        ({"max_objects": 7}, r"^scenes: max_objects: 7 is not a whole number of 2 to 6$"),
        ({"min_objects": 5, "max_objects": 4}, r"^scenes: max_objects: 4 is not a whole number of 5 to 6$"),
        ({"inside": 1.5}, r"^scenes: inside: 1\.5 is not a probability of 0 to 1$"),
        ({"on": math.nan}, r"^scenes: on: nan is not a probability of 0 to 1$"),
        ({"on": "often"}, r"^scenes: on: 'often' is not a probability of 0 to 1$"),
    ],
)
def test_hostile_configurations_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        SceneConfig(**values)


def test_an_unknown_relation_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^scenes: no relation 'left'; did you mean left of\?$"):
        scene(1, 0).relation("left", 0, 1)


def test_a_scene_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError, match="cannot assign"):
        scene(1, 0).objects[0].colour = "red"  # type: ignore[misc]
