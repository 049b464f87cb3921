"""What is said after what, and the loss of saying it beside matching."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.models.test_vse import BIGRU, batch
from tests.models.test_vsrn import SMALL, build
from vltk.objectives.generation import Generation, caption_targets
from vltk.objectives.hinge import ALL, HARDEST, DualTraining, hinge_loss
from vltk.objectives.size_augmentation import SizeAugmentation


def plain_targets(ids: list[int], longest: int) -> tuple[list[int], list[int]]:
    """The published rule: labels of one place more than the longest caption, a mask over one padding behind the end."""
    cut = ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]]
    labels = cut + [0] * (longest + 1 - len(cut))
    mask = [1] * (len(cut) + 1) + [0] * (longest - len(cut))
    asked = [place for place in range(longest - 1) if mask[place + 1]]
    return [labels[place] for place in asked], [labels[place + 1] for place in asked]


@pytest.mark.parametrize("longest", [4, 6, 60])
def test_targets_are_the_published_ones(longest: int) -> None:
    rows = [[1, 7, 2], [1, 8, 9, 10, 2], [1, 2], [1, *range(5, 15), 2]]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    made = caption_targets(ids, ids != 0, longest=longest)
    for row, words, targets, count in zip(rows, made.words, made.targets, made.counts, strict=True):
        expected = plain_targets(row, longest)
        assert (words[:count].tolist(), targets[:count].tolist()) == expected


def test_the_loss_of_a_batch_is_matching_and_generation() -> None:
    model, one = build(), batch()
    whole = DualTraining(model).eval()(HARDEST, one, torch.Generator()).mean()
    with torch.no_grad():
        images, regions = model.represent(one)
        matching = hinge_loss(images, model.embed_texts(one)).mean()
        made = caption_targets(one.input_ids, one.text_mask, longest=SMALL.caption_length)
        generation = model.captions.losses(regions, one.region_mask, *made).mean()
    assert float(whole) == pytest.approx(float(matching + generation), rel=1e-5)
    alone = DualTraining(build(replace(SMALL, generation=False))).eval()
    assert float(alone(HARDEST, one, torch.Generator()).mean()) < float(whole)


def test_the_whole_caption_is_said_whatever_augmentation_drops() -> None:
    seen = []

    class Watched(Generation):
        def losses(self, model, regions, region_mask, texts):  # type: ignore[no-untyped-def]
            seen.append(texts)
            return super().losses(model, regions, region_mask, texts)

    augmentation = SizeAugmentation(mask_id=4, vocabulary=30)
    module = DualTraining(build(), augmentation=augmentation).train()
    module.generation = Watched(longest=7)
    one = batch()
    module(ALL, one, torch.Generator().manual_seed(0)).mean().backward()
    assert torch.equal(seen[0].input_ids, one.input_ids)
    assert module.model.captions.out.weight.grad.abs().sum() > 0


def test_collapse_looks_at_matching_alone() -> None:
    model = build()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.startswith("captions"):
                weight.zero_()
    module = DualTraining(model, margin=0.2).train()
    module(HARDEST, batch(), torch.Generator())
    assert module.collapse.stuck == 1


def test_only_a_model_with_the_branch_generates() -> None:
    assert Generation.of(BIGRU.build()) is None
    assert Generation.of(build(replace(SMALL, generation=False))) is None
    assert Generation.of(build()) == Generation(longest=SMALL.caption_length)
