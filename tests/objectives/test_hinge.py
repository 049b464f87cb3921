"""The hinge loss of dual encoders against a loop, its warm-ups, and collapse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.models.test_vse import BIGRU, batch, small_grid
from vltk.config.dual import DualConfig
from vltk.errors import DataError, UsageError, VltkError
from vltk.objectives.hinge import (
    ALL,
    HARDEST,
    PAIRS,
    CollapseWatch,
    DualSchedule,
    DualTraining,
    build_dual_training,
    hinge_loss,
)
from vltk.objectives.size_augmentation import SizeAugmentation
from vltk.stores.examples import TokenizerDescription
from vltk.types import Batch, Losses

TOKENIZER = TokenizerDescription(name="v", vocab_size=30, vocab_sha256="0", special_ids={"[MASK]": 4})


def embeddings(count: int = 6) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(count, 5, generator=dice) for _ in range(2))
    return images / images.norm(dim=1, keepdim=True), texts / texts.norm(dim=1, keepdim=True)


def plain_loss(images: Tensor, texts: Tensor, margin: float, hardest: bool, same: set[tuple[int, int]]) -> float:
    count, total = len(images), 0.0
    score = [[float(images[i] @ texts[j]) for j in range(count)] for i in range(count)]
    for i in range(count):
        others = [j for j in range(count) if j != i and (i, j) not in same]
        of_texts = [max(0.0, margin + score[i][j] - score[i][i]) for j in others]
        of_images = [max(0.0, margin + score[j][i] - score[i][i]) for j in others if (j, i) not in same]
        total += max(of_texts) + max(of_images) if hardest else sum(of_texts) + sum(of_images)
    return total


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("same", [set(), {(0, 3), (3, 0)}], ids=["", "same"])
def test_the_loss_equals_the_loop(hardest: bool, same: set[tuple[int, int]]) -> None:
    images, texts = embeddings()
    mask = torch.zeros(6, 6, dtype=torch.bool)
    for row, column in same:
        mask[row, column] = True
    found = hinge_loss(images, texts, margin=0.3, hardest=hardest, same=mask if same else None).mean()
    assert float(found) == pytest.approx(plain_loss(images, texts, 0.3, hardest, same), rel=1e-5)


def test_another_text_of_a_picture_is_no_negative_unless_asked() -> None:
    model, one = BIGRU.build().eval(), batch()
    twins = replace(one, targets={"image": torch.tensor([7, 7, 8, 9])})
    # Of all negatives: the hardest one need not be the twin.
    ours = DualTraining(model)(ALL, twins, torch.Generator()).mean()
    official = DualTraining(model, count_same=True)(ALL, twins, torch.Generator()).mean()
    alone = DualTraining(model)(ALL, one, torch.Generator()).mean()
    assert float(official) == float(alone)
    assert float(ours) < float(official)


def moment(one: Batch, epoch: int, iteration: int = 0) -> Batch:
    told = {"epoch": epoch, "iteration": iteration, "iterations": 3}
    return replace(one, targets={name: torch.tensor(value) for name, value in told.items()})


def test_the_first_epoch_counts_all_negatives() -> None:
    module = DualTraining(BIGRU.build().eval(), schedule=DualSchedule(mean_warmup=2))
    one, dice = batch(), torch.Generator()
    for epoch, form in ((0, ALL), (1, ALL), (2, HARDEST)):
        found = module(PAIRS, moment(one, epoch), dice).mean()
        assert float(found) == float(module(form, one, dice).mean())


def test_a_grid_stands_still_then_its_loss_grows() -> None:
    model = small_grid()
    module = DualTraining(model).train()
    one = batch(pixels=True)
    whole = float(module(ALL, moment(one, 5), torch.Generator()).mean())
    assert float(module(ALL, moment(one, 1, 2), torch.Generator()).mean()) == pytest.approx(whole / 2)
    module(ALL, moment(one, 0), torch.Generator()).mean().backward()
    assert all(weight.grad is None for weight in model.trunk.parameters())
    module(ALL, moment(one, 1, 2), torch.Generator()).mean().backward()
    assert all(weight.grad is not None for weight in model.trunk.parameters())


def test_a_schedule_frees_the_network_from_the_top() -> None:
    schedule = DualSchedule(embedding_warmup=1, backbone_warmup=2)
    assert [schedule.at(epoch, 0, 5, grid=True).fixed_stages for epoch in range(8)] == [None, 3, 3, 2, 2, 1, 1, 0]


def test_collapse_is_named_with_its_remedy() -> None:
    watch = CollapseWatch(margin=0.2, patience=3)
    collapsed = hinge_loss(torch.ones(4, 2), torch.ones(4, 2), margin=0.2)
    assert float(collapsed.mean()) == pytest.approx(2 * 4 * 0.2)
    watch.see(collapsed)
    watch.see(collapsed)
    watch.see(Losses(values=torch.full((8,), 0.1), count=1))  # it moved: counting begins anew
    watch.see(collapsed)
    watch.see(collapsed)
    with pytest.raises(VltkError, match=r"2 x batch x margin = 1\.6 for 3 batches.*begin with all negatives"):
        watch.see(collapsed)


def test_what_has_all_but_collapsed_is_told_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    watch = CollapseWatch(margin=0.2, patience=3)
    spread = torch.full((64,), 0.2)
    spread[:4] += torch.tensor([0.02, -0.01, 0.02, 0.01])  # some order is left
    for _ in range(2):
        watch.see(Losses(values=spread, count=1))
    assert not caplog.records
    for _ in range(5):
        watch.see(Losses(values=spread, count=1))
    assert [record.getMessage() for record in caplog.records] == [
        "the hinge loss has stood within 1 % of 2 x batch x margin = 12.8 for 3 batches: the embeddings have all but "
        "become one; begin with all negatives (--mean-warmup 1 or more), or lower --learning-rate"
    ]
    watch.see(Losses(values=spread * 1.02, count=1))
    assert watch.near == 0


def test_training_collapses_by_name() -> None:
    model = BIGRU.build()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    module = DualTraining(model, margin=0.2).train()
    module.collapse.patience = 2
    module(HARDEST, batch(), torch.Generator())
    with pytest.raises(VltkError, match="have become one"):
        module(HARDEST, batch(), torch.Generator())


def test_an_objective_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no objective 'mlm'"):
        DualTraining(BIGRU.build())("mlm", batch(), torch.Generator())


def test_the_settings_make_the_module() -> None:
    model = BIGRU.build()
    made = build_dual_training(model, DualConfig(mean_warmup=3), tokenizer=TOKENIZER, margin=0.4)
    assert (made.margin, made.schedule.mean_warmup, made.augmentation.mask_id) == (0.4, 3, 4)
    bare = build_dual_training(model, DualConfig(drop_regions=False, drop_words=False), tokenizer=None, margin=0.2)
    assert bare.augmentation is None
    with pytest.raises(DataError, match=r"has no \[MASK\]"):
        build_dual_training(model, DualConfig(), tokenizer=None, margin=0.2)


def test_augmentation_is_a_function_of_the_seed_and_off_in_evaluation() -> None:
    torch.manual_seed(0)
    module = DualTraining(BIGRU.build(), augmentation=SizeAugmentation(mask_id=4, vocabulary=30))
    one = batch()
    module.model.image.projection.norm.momentum = 0.0
    losses = [float(module.train()(ALL, one, torch.Generator().manual_seed(seed)).mean()) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    whole = [float(module.eval()(ALL, one, torch.Generator().manual_seed(seed)).mean()) for seed in (1, 2)]
    assert whole[0] == whole[1]
