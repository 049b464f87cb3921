"""Published checkpoints of fine-tuned models start vltk's models whole: encoder, grown tables and head."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small_pairs import TINY_MODEL
from tests.small_tasks import MAKERS, encoder, small_split
from vltk.finetuning import initial_model
from vltk.models.uniter import UNITERConfig

VARIANTS = [
    *((task, {}) for task in sorted(MAKERS)),
    ("nlvr2", {"setting": "triplet"}),
    ("nlvr2", {"setting": "pair"}),
    ("refcoco", {"head_layers": 2}),
]
NAMES = [f"{task} {' '.join(map(str, options.values()))}".strip() for task, options in VARIANTS]


def config_of(task: str, options: dict[str, Any]) -> Any:
    more = {"min_answers": 1} if task in ("vqa", "gqa") else {}
    return importlib.import_module(f"vltk.tasks.{task}").Config(**options, **more)


def save_as_published(built: Any, path: Path) -> Path:
    state = {f"uniter.{name}": tensor for name, tensor in built.module.model.published_state().items()}
    torch.save(state | built.module.head.published_state(), path)
    return path


@pytest.mark.parametrize(("task", "options"), VARIANTS, ids=NAMES)
def test_a_fine_tuned_checkpoint_starts_encoder_and_head(task: str, options: dict[str, Any], tmp_path: Path) -> None:
    split, config = small_split(tmp_path, task), config_of(task, options)
    authors = config.build(encoder(config.model_sizes()), split)
    file = save_as_published(authors, tmp_path / "published.pt")
    architecture = UNITERConfig(heads=TINY_MODEL["heads"], dropout=0.0)
    found = initial_model(architecture, split, init=file, needed=config.model_sizes())
    built = config.build(found.model, split)
    assert built.initialise_head(found.head_weights) == ["head of the checkpoint"]
    batch = built.batch(split, range(len(split))).to("cpu")
    with torch.no_grad():
        expected, given = (one.module.eval().scores(batch) for one in (authors, built))
    torch.testing.assert_close(given, expected)


def test_a_head_of_another_size_stays_fresh_and_says_so(tmp_path: Path) -> None:
    split = small_split(tmp_path, "nlvr2")
    triplet, pair = (config_of("nlvr2", {"setting": setting}) for setting in ("triplet", "pair"))
    file = save_as_published(triplet.build(encoder(triplet.model_sizes()), split), tmp_path / "published.pt")
    found = initial_model(UNITERConfig(heads=TINY_MODEL["heads"]), split, init=file, needed=pair.model_sizes())
    (note,) = pair.build(found.model, split).initialise_head(found.head_weights)
    assert note == "head freshly initialised (nlvr2_output.weight of the checkpoint is [2, 16])"
