"""Videos as pictures whose regions are frames: HGR's encoders with the poolings of VSE-infinity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.test_vse import BIGRU, batch, build
from vltk.errors import UsageError
from vltk.models._dual_checkpoints import write_own
from vltk.models._pooling import AttentionPooling
from vltk.models._vse_checkpoints import describe, read_vse, save_vse
from vltk.models.vse import VSEConfig

VIDEO = replace(BIGRU, image="frame", input_dropout=0.2)


@pytest.mark.parametrize("pooling", ["gpo", "average", "attention"])
def test_padding_changes_no_embedding(pooling: str) -> None:
    model = build(replace(VIDEO, image_pooling=pooling, text_pooling=pooling))
    narrow, wide = batch(), batch(extra=3)
    with torch.no_grad():
        for embed in (model.embed_images, model.embed_texts):
            torch.testing.assert_close(embed(narrow), embed(wide), rtol=1e-5, atol=1e-6)


def test_attention_pools_as_its_equation_says() -> None:
    torch.manual_seed(0)
    pooling, states = AttentionPooling(5), torch.randn(3, 4, 5)
    for row, count in enumerate((4, 1, 3)):
        scores = [pooling.score(state).item() for state in states[row, :count]]
        weights = torch.tensor(scores).exp()
        expected = sum(w * state for w, state in zip(weights / weights.sum(), states[row], strict=False))
        mask = torch.arange(4).expand(3, 4) < torch.tensor([4, 1, 3]).unsqueeze(1)
        torch.testing.assert_close(pooling(states, mask)[row], expected, rtol=1e-5, atol=1e-6)


def test_a_model_of_frames_begins_as_hgr_does() -> None:
    model = build(VIDEO)
    for name, weight in model.text.gru.named_parameters():
        if weight.dim() == 1:
            assert not weight.any(), name
        else:
            product = weight.t() @ weight
            torch.testing.assert_close(product, torch.eye(len(product)), rtol=1e-4, atol=1e-5)
    assert not any((weight == 0).all() for weight in build(BIGRU).text.gru.parameters())


def test_words_and_frames_are_dropped_in_training_alone() -> None:
    model, one = build(replace(VIDEO, input_dropout=0.5)), batch()
    with torch.no_grad():
        for embed in (model.embed_images, model.embed_texts):
            assert torch.equal(embed(one), embed(one))
        model.train()
        for embed in (model.embed_images, model.embed_texts):
            assert not torch.allclose(embed(one), embed(one))


def test_weights_decay_only_where_they_did() -> None:
    assert [group["weight_decay"] for group in build(VIDEO).parameter_groups()] == [0.0]
    assert [group["weight_decay"] for group in build(BIGRU).parameter_groups()] == [1e-2]
    assert [group["weight_decay"] for group in build(VIDEO).parameter_groups(weight_decay=0.1)] == [0.1]


@pytest.mark.parametrize("pooling", ["gpo", "attention"])
def test_every_weight_has_a_published_name(pooling: str) -> None:
    model = build(replace(VIDEO, image_pooling=pooling, text_pooling=pooling))
    other: VSEConfig = model.config
    again = other.build()
    again.load_published(model.published_state(), where="itself")
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_a_model_of_videos_is_written_in_vltks_layout_alone(tmp_path: Path) -> None:
    model = build(VIDEO)
    write_own(tmp_path / "video.safetensors", model.state_dict(), describe(model))
    found = read_vse(tmp_path / "video.safetensors")
    assert found.model.config == VIDEO
    with pytest.raises(UsageError, match="is a model of videos, for which the authors published no layout"):
        save_vse(found, tmp_path / "video.pth")
    assert not (tmp_path / "video.pth").exists()
