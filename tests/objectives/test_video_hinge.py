"""HGR's form of the hinge loss: the mean of the worst few negatives, averaged over the batch."""

from __future__ import annotations

import pytest
import torch

from tests.models.test_vse import batch
from tests.objectives.test_hinge import embeddings, plain_loss
from vltk.config.dual import DualConfig
from vltk.errors import UsageError
from vltk.objectives.hinge import ALL, HARDEST, build_dual_training, hinge_loss


def worst_few(margin: float, count: int) -> float:
    images, texts = embeddings()
    scores = images @ texts.t()
    total = 0.0
    for one in (scores, scores.t()):
        for row in range(len(one)):
            losses = [max(0.0, margin + float(one[row, k] - one[row, row])) for k in range(len(one)) if k != row]
            total += sum(sorted([*losses, 0.0])[-count:]) / count
    return total / len(scores)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_mean_of_the_worst_few_equals_the_loop(count: int) -> None:
    found = hinge_loss(*embeddings(), margin=0.9, largest=count, average=True).mean()
    assert float(found) == pytest.approx(worst_few(0.9, count), rel=1e-5)


def test_averages_divide_by_the_batch_or_by_its_negatives() -> None:
    for hardest, count in ((True, 6), (False, 30)):
        found = hinge_loss(*embeddings(), margin=0.3, hardest=hardest, average=True)
        assert found.count == count
        assert float(found.mean()) == pytest.approx(plain_loss(*embeddings(), 0.3, hardest, set()) / count, rel=1e-5)


def test_options_reach_the_loss() -> None:
    from tests.models.test_video import VIDEO, build

    settings = DualConfig(drop_regions=False, drop_words=False, mean_warmup=0, average_loss=True, hardest_count=2)
    model, one = build(VIDEO), batch()
    module = build_dual_training(model, settings, tokenizer=None, margin=0.2).eval()
    images, texts = model.embed_images(one), model.embed_texts(one)
    for objective, hardest in ((HARDEST, True), (ALL, False)):
        expected = hinge_loss(images, texts, hardest=hardest, largest=2, average=True).mean()
        torch.testing.assert_close(module(objective, one, torch.Generator()).mean(), expected)
    with pytest.raises(UsageError, match="--hardest-count: 0 is too few; use 1 or more"):
        DualConfig(hardest_count=0)
