"""Writing a drawn world into a folder: pictures, annotations in the published formats, and what can be reached."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vltk.datasets._scene_bounds import TaskSummary, summarise
from vltk.datasets._scene_drawing import contact_sheet, draw
from vltk.datasets._scene_expressions import COLLECTIONS
from vltk.datasets._scene_files import (
    CAPTIONS,
    Picture,
    write_captions,
    write_conllu,
    write_entities,
    write_instances,
    write_json,
    write_karpathy,
    write_references,
    write_text,
)
from vltk.datasets._scene_geometry import SHAPES
from vltk.datasets._scene_model import COLOURS, SIZES, TEXTURES, Dice, Scene, SceneConfig
from vltk.datasets._scene_pools import FAMILY, Pool, families, hard_pool, random_pool
from vltk.datasets._scene_readme import readme
from vltk.datasets._scene_sampling import scene
from vltk.datasets._scene_task_files import write_gqa, write_nlvr2, write_snli_ve, write_vcr, write_vqa
from vltk.datasets._scene_tasks import SPLITS, SplitTasks, draw_tasks, split_of
from vltk.errors import UsageError, VltkError
from vltk.types import Progress

FEWEST, MOST = 10, 10_000_000
SHEET = 24


VOCABULARY = Path(__file__).with_name("scene_vocabulary.txt")
"""Word pieces of all that is said in any world, one file for all of them, so that a model of one reads another."""


@dataclass(frozen=True, kw_only=True)
class PoolSummary:
    """A retrieval pool: how many scenes and captions, and what can be reached.

    Attributes:
        name: "random" or "hard".
        scenes: how many candidates.
        captions: how many queries.
        chance: R@1 of a random order.
        family_chance: R@1 of a guess inside the right family.
        bound: R@1 of a perfect reader.
    """

    name: str
    scenes: int
    captions: int
    chance: float
    family_chance: float
    bound: float


@dataclass(frozen=True, kw_only=True)
class WorldSummary:
    """What :func:`write_world` wrote.

    Attributes:
        path: the folder.
        seed: the seed of the world.
        size: side of the pictures in pixels.
        images: how many pictures each split has.
        tasks: items, chance, priors and bound of each task.
        pools: the retrieval pools beside the splits.
    """

    path: Path
    seed: int
    size: int
    images: dict[str, int]
    tasks: tuple[TaskSummary, ...]
    pools: tuple[PoolSummary, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        return {**asdict(self), "path": str(self.path)}


def write_world(
    out: Path,
    *,
    images: int,
    seed: int,
    size: int | None = None,
    families: int = 0,
    progress: Progress | None = None,
) -> WorldSummary:
    """Draw a world and write it in the published file formats (DESIGN, section 7).

    The files depend on ``images``, ``seed``, ``size`` and ``families`` alone. They are written beside the folder
    and moved into place at the end, so a world is whole or absent.

    Args:
        out: the folder; absent or empty.
        images: how many scenes; of ten in a row eight train, one validates, one tests.
        seed: the seed of the world, 0 or more.
        size: side of the pictures in pixels, 128 where not given.
        families: how many training scenes come with three edits of one of their objects, in a folder of their own.
        progress: is told of each picture drawn.

    Raises:
        UsageError: the folder is not empty, or a number that no world can have.
        DataError: the training scenes do not allow so many families.
        VltkError: the folder cannot be written.
    """
    config = SceneConfig() if size is None else SceneConfig(size=size)
    _check(out, images, seed, families)
    scenes = [scene(seed, index, config) for index in range(images)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            summary = _write(draft, out, scenes, seed, config, progress)
            if families:
                _write_families(draft / "families", scenes, families, seed)
            _move(draft, out)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise VltkError(problem, where=out, remedy="make room, or name another folder") from error
    return summary


def _check(out: Path, images: int, seed: int, families: int) -> None:
    numbers = (("images", images, FEWEST, MOST), ("seed", seed, 0, 2**63 - 1), ("families", families, 0, MOST))
    for name, value, low, high in numbers:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UsageError(f"{value!r} is not a whole number of {low} to {high}", where=f"scenes: {name}")
    if out.exists() and not out.is_dir():
        raise UsageError("is a file", where=out, remedy="name a folder that is empty or absent")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError("the folder is not empty", where=out, remedy="name a folder that is empty or absent")


def _move(draft: Path, out: Path) -> None:
    # Folders of mkdtemp are closed to others; a world is an ordinary folder.
    umask = os.umask(0)
    os.umask(umask)
    draft.chmod(0o777 & ~umask)
    if out.is_dir():
        out.rmdir()
    draft.rename(out)


def _write(
    root: Path, out: Path, scenes: Sequence[Scene], seed: int, config: SceneConfig, progress: Progress | None
) -> WorldSummary:
    members = {name: [drawn for drawn in scenes if split_of(drawn.index) == name] for name in SPLITS}
    splits = {name: draw_tasks(name, members[name], seed) for name in SPLITS}
    pictures = sorted((p for own in splits.values() for p in own.pictures), key=lambda picture: picture.number)
    _draw(root / "images", pictures, progress)
    _write_captions(root, splits, pictures)
    _write_tasks(root, splits, pictures, seed)
    pools = _write_pools(root / "pools", seed, len(scenes), config)
    write_text(root / "vocab.txt", VOCABULARY.read_text("utf-8"))
    attributes = (*SIZES, *TEXTURES, *COLOURS, *SHAPES)
    write_text(root / "attribute_words.txt", "".join(f"{word}\n" for word in attributes))
    contact_sheet(scenes[:SHEET]).save(root / "contact_sheet.png", compress_level=6)
    summary = WorldSummary(
        path=out,
        seed=seed,
        size=config.size,
        images={name: len(own.pictures) for name, own in splits.items()},
        tasks=tuple(summarise(splits)),
        pools=pools,
    )
    write_json(root / "world.json", {name: value for name, value in summary.as_json().items() if name != "path"})
    write_text(root / "README.md", readme(summary))
    return summary


def _draw(folder: Path, pictures: Sequence[Picture], progress: Progress | None) -> None:
    folder.mkdir(parents=True)
    for picture in pictures:
        Image.fromarray(draw(picture.scene)).save(folder / picture.file_name, compress_level=1)
        if progress is not None:
            progress(1)


def _write_captions(root: Path, splits: dict[str, SplitTasks], pictures: Sequence[Picture]) -> None:
    for name, own in splits.items():
        write_instances(root / "coco" / "annotations" / f"instances_{name}.json", own.pictures)
        write_captions(root / "coco" / "annotations" / f"captions_{name}.json", own.pictures)
        write_conllu(root / "conllu" / f"{name}.conllu", own.pictures)
    write_karpathy(root / "dataset_scenes.json", pictures, dataset="scenes")
    write_entities(root / "flickr30k_entities", pictures)


def _write_tasks(root: Path, splits: dict[str, SplitTasks], pictures: Sequence[Picture], seed: int) -> None:
    for name, own in splits.items():
        write_vqa(root / "vqa_v2", name, own.pictures, own.vqa, Dice("confidence", seed, name))
        write_gqa(root / "gqa", name, own.pictures, own.gqa)
        write_nlvr2(root / "nlvr2", root / "images", name, own.pictures, own.pair_sets, Dice("writers", seed, name))
        write_snli_ve(root / "snli_ve", name, own.pictures, own.hypotheses, Dice("votes", seed, name))
        write_vcr(root / "vcr", name, own.pictures, own.choices)
    for collection in COLLECTIONS:
        drawn = {
            picture.number: expressions
            for own in splits.values()
            for picture, expressions in zip(own.pictures, own.expressions[collection], strict=True)
        }
        write_references(root / "refcoco" / collection, collection, pictures, drawn)


def _write_pools(root: Path, seed: int, images: int, config: SceneConfig) -> tuple[PoolSummary, ...]:
    """Write retrieval pools of scenes that the splits do not have; small worlds get small pools."""
    count = min(100, max(8, images // 10))
    pools = {
        "random": random_pool(count, captions=CAPTIONS, seed=seed, start=images, config=config),
        "hard": hard_pool(count // 4, captions=2, seed=seed, start=images, config=config),
    }
    summaries = []
    for name, pool in pools.items():
        pictures = tuple(
            Picture(number=number, image_id=f"{name}_{number:012d}", split="test", scene=drawn, captions=captions)
            for number, (drawn, captions) in enumerate(zip(pool.scenes, pool.captions, strict=True))
        )
        _draw(root / name / "images", pictures, None)
        write_karpathy(root / name / f"dataset_{name}.json", pictures, dataset=name)
        write_instances(root / name / "instances.json", pictures)
        write_entities(root / name / "flickr30k_entities", pictures)
        summaries.append(_summary(name, pool))
        families = [
            {"filename": picture.file_name, "scene": picture.scene.index, "family": family, "edit": edit}
            for picture, family, edit in zip(pictures, pool.families, pool.edits, strict=True)
        ]
        write_json(root / name / "pool.json", {**asdict(summaries[-1]), "images": families})
    return tuple(summaries)


def _write_families(root: Path, scenes: Sequence[Scene], count: int, seed: int) -> None:
    """Write training scenes beside edits of their own, whose captions tell them apart."""
    training = (drawn for drawn in scenes if split_of(drawn.index) == "train")
    made = families(count, training, seed=seed)
    # Numbers that no scene of a world has, so that these captions can be learnt from beside those of the world.
    pictures = [
        Picture(number=MOST + FAMILY * number + place, image_id=f"family_{number:07d}_{place}", split="train",
                scene=family.scenes[place], captions=family.captions[place])
        for number, family in enumerate(made)
        for place in range(FAMILY)
    ]  # fmt: skip
    _draw(root / "images", pictures, None)
    write_karpathy(root / "dataset_families.json", pictures, dataset="families")
    edits = [edit for family in made for edit in family.edits]
    table = [
        {"filename": picture.file_name, "scene": picture.scene.index, "edit": edit}
        for picture, edit in zip(pictures, edits, strict=True)
    ]
    write_json(root / "families.json", table)


def _summary(name: str, pool: Pool) -> PoolSummary:
    return PoolSummary(
        name=name,
        scenes=len(pool.scenes),
        captions=sum(map(len, pool.captions)),
        chance=pool.chance()["text_to_image"],
        family_chance=pool.family_chance(),
        bound=pool.bound()["text_to_image"],
    )
