"""The drawn world: small pictures of shapes, with everything about them known exactly.

A scene is a pure function of a seed and an index, so a world needs no files: ``scene(seed, index)``
gives any scene, ``stream(seed)`` all of them, ``draw`` its picture, ``captions`` sentences that are
true of it. ``is_true`` and ``scenes_true_of`` check any sentence of the grammar against scenes;
``random_pool``, ``hard_pool`` and ``minimal_pairs`` make tests whose bounds are known; ``write_world``
writes a world in the published file formats.

Example:
    >>> world = [scene(7, index) for index in range(100)]
    >>> told = captions(world[0], 1)[0]
    >>> 0 in scenes_true_of(told.meaning, world), draw(world[0]).shape
    (True, (128, 128, 3))
"""

from __future__ import annotations

from vltk.datasets._scene_augmentation import GrammarParaphraser, GrammarParser
from vltk.datasets._scene_drawing import PALETTE, contact_sheet, draw, mask
from vltk.datasets._scene_geometry import SHAPES
from vltk.datasets._scene_grammar import (
    HELD_OUT_TEMPLATES,
    TEMPLATES,
    Sentence,
    Template,
    express,
    templates_for,
    understand,
    vocabulary,
)
from vltk.datasets._scene_language import (
    MENTION,
    Caption,
    MaskedWord,
    caption,
    captions,
    edits,
    foil,
    masked_word,
    paraphrases,
)
from vltk.datasets._scene_meaning import (
    Meaning,
    Thing,
    consistent_tuples,
    is_false,
    is_true,
    judge,
    scenes_not_false_of,
    scenes_true_of,
)
from vltk.datasets._scene_model import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    CONTAINERS,
    CONVERSES,
    RELATIONS,
    SIZES,
    TEXTURES,
    Dice,
    Scene,
    SceneConfig,
    SceneObject,
    judge_relation,
)
from vltk.datasets._scene_pools import (
    FAMILY,
    CaptionSearch,
    Family,
    MinimalPair,
    Pool,
    families,
    hard_pool,
    minimal_pairs,
    random_pool,
    unique_captions,
)
from vltk.datasets._scene_sampling import scene, stream
from vltk.datasets._scene_variants import Variant, variants
from vltk.datasets._scene_world import PoolSummary, WorldSummary, write_world

__all__ = [
    "ATTRIBUTES",
    "BACKGROUNDS",
    "COLOURS",
    "CONTAINERS",
    "CONVERSES",
    "FAMILY",
    "HELD_OUT_TEMPLATES",
    "MENTION",
    "PALETTE",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "TEMPLATES",
    "TEXTURES",
    "Caption",
    "CaptionSearch",
    "Dice",
    "Family",
    "GrammarParaphraser",
    "GrammarParser",
    "MaskedWord",
    "Meaning",
    "MinimalPair",
    "Pool",
    "PoolSummary",
    "Scene",
    "SceneConfig",
    "SceneObject",
    "Sentence",
    "Template",
    "Thing",
    "Variant",
    "WorldSummary",
    "caption",
    "captions",
    "consistent_tuples",
    "contact_sheet",
    "draw",
    "edits",
    "express",
    "families",
    "foil",
    "hard_pool",
    "is_false",
    "is_true",
    "judge",
    "judge_relation",
    "mask",
    "masked_word",
    "minimal_pairs",
    "paraphrases",
    "random_pool",
    "scene",
    "scenes_not_false_of",
    "scenes_true_of",
    "stream",
    "templates_for",
    "understand",
    "unique_captions",
    "variants",
    "vocabulary",
    "write_world",
]
