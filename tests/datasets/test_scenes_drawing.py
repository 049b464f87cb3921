"""Pictures of scenes: repeatable, anti-aliased, in the colours that the scene states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vltk.datasets.scenes import (
    BACKGROUNDS,
    COLOURS,
    PALETTE,
    SHAPES,
    Scene,
    SceneConfig,
    SceneObject,
    contact_sheet,
    draw,
    mask,
    scene,
)
from vltk.errors import UsageError


def lone(colour: str = "red", *, texture: str = "solid", shape: str = "square", background: str = "light") -> Scene:
    thing = SceneObject(
        shape=shape, colour=colour, texture=texture, size="large", x=64.0, y=64.0, radius=20.0, rotation=0.1
    )
    return Scene(seed=3, index=0, size=128, background=background, objects=(thing,))


def test_a_picture_depends_on_its_scene_alone() -> None:
    forwards = [draw(scene(2, index)) for index in range(20)]
    backwards = [draw(scene(2, index)) for index in reversed(range(20))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert forwards[0].shape == (128, 128, 3)
    assert forwards[0].dtype == np.uint8


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_pictures_of_two_sizes_look_alike(background: str) -> None:
    small = draw(lone(background=background)).astype(float)
    large = draw(lone(background=background), size=256).astype(float).reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - large).mean() < 4


def test_the_size_may_come_from_the_configuration_or_the_call() -> None:
    assert np.array_equal(draw(scene(4, 1, SceneConfig(size=256))), draw(scene(4, 1), size=256))


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_is_the_area_of_the_outline(shape: str) -> None:
    thing = replace(lone(shape=shape).objects[0], radius=21.3, x=60.37, y=61.81)
    corners = np.array(thing.corners)
    following = np.roll(corners, -1, axis=0)
    area = abs((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum()) / 2
    if shape == "ring":
        area *= 1 - 0.52**2
    coverage = mask(thing, 128) / 255
    assert coverage.sum() == pytest.approx(area, rel=0.02)
    assert ((coverage > 0.05) & (coverage < 0.95)).sum() > 20, "the edge is soft"


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_object_is_nearest_to_its_own_colour(colour: str, background: str) -> None:
    for seed in range(5):
        picture = draw(replace(lone(colour, background=background), seed=seed)).astype(float)
        seen = picture[58:70, 58:70].mean(axis=(0, 1))
        nearest = min(PALETTE, key=lambda name: float(np.abs(seen - PALETTE[name]).sum()))
        assert nearest == colour


@pytest.mark.parametrize("colour", COLOURS)
def test_stripes_show_and_are_lighter(colour: str) -> None:
    plain, striped = (
        draw(lone(colour, texture=texture)).astype(float)[54:74, 54:74] for texture in ("solid", "striped")
    )
    assert striped.mean() > plain.mean() + 5
    assert striped.std(axis=(0, 1)).max() > 4 * plain.std(axis=(0, 1)).max()


def test_the_shadow_stays_soft_and_near() -> None:
    drawn = lone()
    empty = draw(replace(drawn, objects=())).astype(int)
    changed = np.abs(draw(drawn).astype(int) - empty).max(axis=2)
    x1, y1, x2, y2 = (round(v) for v in drawn.objects[0].box)
    outside = changed.copy()
    outside[y1 - 1 : y2 + 1, x1 - 1 : x2 + 1] = 0
    assert 0 < outside.max() < 90
    reach = np.argwhere(outside > 0)
    assert reach.min() >= min(x1, y1) - 6
    assert reach.max() <= max(x2, y2) + 8


def test_later_objects_cover_earlier_ones() -> None:
    below = lone("blue").objects[0]
    above = replace(below, colour="yellow", radius=8.0)
    centre = draw(replace(lone(), objects=(below, above)))[64, 64].astype(int)
    assert np.abs(centre - PALETTE["yellow"]).max() < 60


def test_a_contact_sheet_holds_every_picture() -> None:
    scenes = [scene(2, index) for index in range(5)]
    sheet = np.asarray(contact_sheet(scenes, columns=3, size=64, gap=4))
    assert sheet.shape == (2 * 68 + 4, 3 * 68 + 4, 3)
    for index, drawn in enumerate(scenes):
        top, left = 4 + 68 * (index // 3), 4 + 68 * (index % 3)
        assert np.array_equal(sheet[top : top + 64, left : left + 64], draw(drawn, size=64))
    assert (sheet[72:, 140:] == 255).all()


def test_a_tiny_picture_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^scenes: cannot draw a picture of 4 pixels; give a size of at least 16$"):
        draw(scene(1, 0), size=4)
