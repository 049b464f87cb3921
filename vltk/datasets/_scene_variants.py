"""Scenes one edit apart: another attribute of an object, or two objects in each other's place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vltk.datasets._scene_model import ATTRIBUTES, Dice, Scene, SceneObject
from vltk.datasets._scene_sampling import resized


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A scene that differs from another in exactly one edit.

    Attributes:
        scene: the edited scene; its background and the tints of its objects stay as they were.
        edit: "colour", "texture", "shape" or "size" of one object, or "places" of two.
        objects: the object or the two objects that were edited.
    """

    scene: Scene
    edit: str
    objects: tuple[int, ...]


def variants(base: Scene, focus: int, dice: Dice) -> Iterator[Variant]:
    """Yield every scene that differs from a scene in one attribute of an object, or in its place and another's.

    Edits that would make objects collide, or touch where they did not, are left out.
    """
    chosen = base.objects[focus]
    for name, values in ATTRIBUTES.items():
        for value in values:
            if value != chosen.attribute(name):
                edited = resized(chosen, value, base.size, dice) if name == "size" else chosen.but(name, value)
                if (made := _edited(base, {focus: edited})) is not None:
                    yield Variant(scene=made, edit=name, objects=(focus,))
    for index, other in enumerate(base.objects):
        alike = all(chosen.attribute(name) == other.attribute(name) for name in ATTRIBUTES)
        if index != focus and not alike:
            places = {
                focus: replace(chosen, x=other.x, y=other.y),
                index: replace(other, x=chosen.x, y=chosen.y),
            }
            if (made := _edited(base, places)) is not None:
                yield Variant(scene=made, edit="places", objects=(focus, index))


def edits_of_one(base: Scene, dice: Dice) -> list[Variant]:
    """Return two attribute edits and one exchange of places of one object, or fewer where it allows no more."""
    for focus in dice.shuffled(range(len(base.objects))):
        made = dice.shuffled(list(variants(base, focus, dice)))
        places = [variant for variant in made if variant.edit == "places"]
        kinds = dice.shuffled(sorted({variant.edit for variant in made} - {"places"}))
        if places and len(kinds) > 1:
            chosen = [next(variant for variant in made if variant.edit == kind) for kind in kinds[:2]]
            return [*chosen, places[0]]
    return []


def _edited(base: Scene, changes: dict[int, SceneObject]) -> Scene | None:
    """Return the scene with objects exchanged, or None where they leave the picture or collide."""
    made = replace(base, objects=tuple(changes.get(i, o) for i, o in enumerate(base.objects)))
    unit = base.size / 128
    if any(min(o.box) < unit or max(o.box) > base.size - unit for o in changes.values()):
        return None
    for index in changes:
        for other in range(len(made.objects)):
            if other != index and not _apart(made, index, other, 3.5 * unit):
                return None
    return made


def _apart(drawn: Scene, first: int, second: int, gap: float) -> bool:
    a, b = drawn.objects[first].box, drawn.objects[second].box
    if a[0] >= b[2] + gap or b[0] >= a[2] + gap or a[1] >= b[3] + gap or b[1] >= a[3] + gap:
        return True
    # A container is drawn before what it holds.
    inner, outer = max(first, second), min(first, second)
    return bool(
        drawn.relation("on", first, second)
        or drawn.relation("on", second, first)
        or drawn.relation("inside", inner, outer)
    )
