"""VSE-infinity: what must not change an embedding, what can be trained, and its parts against transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertModel, ResNetConfig, ResNetModel

from vltk.errors import DataError, UsageError
from vltk.models._dual import run_packed
from vltk.models._grids import HubTrunk, ResidualTrunk, kept_grids
from vltk.models._image_encoders import GridEncoder, GridHead
from vltk.models._pooling import build_pooling
from vltk.models.vse import VSE, VSEConfig
from vltk.types import Batch

BIGRU = VSEConfig(text="bigru", hidden=8, region_dim=6, vocabulary=30, word_dim=5)
BERT = VSEConfig(hidden=8, region_dim=6, vocabulary=30, bert_hidden=8, heads=2, layers=1, intermediate=12, positions=20)


def batch(*, count: int = 4, extra: int = 0, seed: int = 0, pixels: bool = False) -> Batch:
    dice = torch.Generator().manual_seed(seed)
    region_lengths, text_lengths = torch.tensor([5, 1, 3, 4])[:count], torch.tensor([3, 6, 4, 2])[:count]
    regions = torch.rand(4, 5, 6, generator=dice)[:count]
    ids = torch.randint(4, 30, (4, 6), generator=dice)[:count]
    region_mask = torch.arange(5 + extra) < region_lengths.unsqueeze(1)
    text_mask = torch.arange(6 + extra) < text_lengths.unsqueeze(1)
    wide = torch.nn.functional.pad
    return Batch(
        ids=tuple(map(str, range(count))),
        input_ids=wide(ids, (0, extra)).masked_fill(~text_mask, 0),
        text_mask=text_mask,
        regions=wide(regions, (0, 0, 0, extra)).masked_fill(~region_mask.unsqueeze(-1), 0),
        locations=torch.zeros(count, 5 + extra, 7),
        region_mask=region_mask,
        images=torch.rand(count, 3, 64, 64, generator=dice) if pixels else None,
    )


def build(config: VSEConfig) -> VSE:
    torch.manual_seed(7)
    return config.build().eval()


def small_grid() -> VSE:
    model = build(replace(BIGRU, image="region"))
    trunk = ResidualTrunk(blocks=(1, 1, 1, 1), width=2, stem_channels=4, out_channels=8)
    model.image = GridEncoder(trunk, GridHead(trunk.channels, 8, build_pooling("gpo", hidden=8)))
    return model.eval()


@pytest.mark.parametrize("config", [BIGRU, BERT], ids=["bigru", "bert"])
def test_padding_and_neighbours_change_no_embedding(config: VSEConfig) -> None:
    model, narrow, wide = build(config), batch(), batch(extra=3)
    with torch.no_grad():
        for embed in (model.embed_images, model.embed_texts):
            together = embed(narrow)
            torch.testing.assert_close(embed(wide), together, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(together.norm(dim=1), torch.ones(4), rtol=0, atol=1e-5)
            torch.testing.assert_close(embed(batch(count=1)), together[:1], rtol=1e-4, atol=1e-5)


def test_the_order_of_regions_does_not_matter_and_that_of_words_does() -> None:
    model, one = build(BIGRU), batch()
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    moved = replace(one, regions=one.regions[:, order], region_mask=one.region_mask[:, order])
    with torch.no_grad():
        torch.testing.assert_close(model.embed_images(moved), model.embed_images(one), rtol=1e-4, atol=1e-5)
        swapped = replace(one, input_ids=one.input_ids[:, [1, 0, 2, 3, 4, 5]])
        assert not torch.allclose(model.embed_texts(swapped), model.embed_texts(one), atol=1e-3)


def test_states_that_texts_share_are_those_of_the_gru() -> None:
    model = build(BIGRU)
    ids = torch.tensor([[4, 5, 6, 7, 0], [4, 5, 6, 0, 0], [4, 5, 6, 7, 8], [9, 5, 6, 7, 8], [4, 0, 0, 0, 0]])
    one = replace(batch(), input_ids=ids, text_mask=ids != 0)
    every, _ = run_packed(model.text.gru, model.text.word(ids), ids != 0)
    expected = (every[..., :8] + every[..., 8:]) / 2
    with torch.no_grad():
        torch.testing.assert_close(model.text.states(one), expected, rtol=1e-5, atol=1e-6)
        alone = replace(one, input_ids=ids[4:, :1], text_mask=ids[4:, :1] != 0)
        torch.testing.assert_close(model.text.states(alone), expected[4:, :1], rtol=1e-5, atol=1e-6)


def test_the_text_side_is_the_bert_of_transformers() -> None:
    model, one = build(BERT), batch()
    reference = BertModel(model.text.bert.config).eval()
    reference.load_state_dict(model.text.bert.state_dict())
    with torch.no_grad():
        expected = reference(one.input_ids, attention_mask=one.text_mask.long()).last_hidden_state
        torch.testing.assert_close(model.text.states(one)[one.text_mask], expected[one.text_mask])


def as_transformers(trunk: ResidualTrunk, reference: ResNetModel) -> None:
    """Give the network of transformers the weights of ours."""
    names = {
        "stem.": "embedder.embedder.",
        **{f"res{number + 2}.": f"encoder.stages.{number}.layers." for number in range(4)},
    }
    state: dict[str, Any] = {}
    for name, tensor in trunk.state_dict().items():
        start = next(start for start in names if name.startswith(start))
        rest = name.removeprefix(start)
        if start == "stem.":
            rest = rest.replace("norm.", "normalization.") if "norm." in rest else f"convolution.{rest}"
        else:
            block, part, rest = rest.split(".", 2)
            rest = rest.replace("norm.", "normalization.") if "norm." in rest else f"convolution.{rest}"
            place = "shortcut" if part == "shortcut" else f"layer.{int(part[-1]) - 1}"
            rest = f"{block}.{place}.{rest}"
        state[names[start] + rest] = tensor
    reference.load_state_dict(state)


def test_the_grid_is_that_of_transformers_resnet(tmp_path: Path) -> None:
    torch.manual_seed(3)
    trunk = ResidualTrunk(blocks=(1, 2, 1, 1), width=4, stem_channels=8, out_channels=16, caffe=False)
    sizes = {"embedding_size": 8, "hidden_sizes": [16, 32, 64, 128], "depths": [1, 2, 1, 1]}
    reference = ResNetModel(ResNetConfig(layer_type="bottleneck", **sizes)).eval()
    as_transformers(trunk, reference)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = reference(pixels).last_hidden_state
        torch.testing.assert_close(trunk(pixels), expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)
        reference.save_pretrained(tmp_path)
        loaded = HubTrunk.load(tmp_path)
        torch.testing.assert_close(loaded(pixels), trunk(pixels), rtol=1e-4, atol=1e-4)
    loaded.train_stages(3)
    free = [all(p.requires_grad for p in stage) for stage in loaded.stages()]
    assert free == [False, False, False, False, True]


def test_a_folder_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="holds no network of pictures"):
        HubTrunk.load(tmp_path)


def test_training_moves_scale_and_shift_of_norms_and_never_their_statistics() -> None:
    model, one = small_grid().train(), batch(pixels=True)
    before = {name: tensor.clone() for name, tensor in model.image.trunk.state_dict().items()}
    model.embed_images(one).square().sum().backward()
    model.embed_images(one)[:, 0].sum().backward()
    after = model.image.trunk.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert bool(model.image.trunk.stem.norm.weight.grad.abs().sum() > 0)
    assert model.training


def test_a_generator_drops_grids_and_none_of_them_in_evaluation() -> None:
    model, one = small_grid(), batch(pixels=True)
    with torch.no_grad():
        whole = model.embed_images(one)
        assert torch.equal(model.embed_images(one), whole)
        first = model.embed_images(one, torch.Generator().manual_seed(11))
        assert torch.equal(first, model.embed_images(one, torch.Generator().manual_seed(11)))


def test_a_picture_never_loses_all_grids() -> None:
    keep = kept_grids(torch.full((3, 4), 0.001), torch.tensor([0.9, 0.1, 0.9]))
    assert keep.any(dim=1).all()
    assert keep[1].all()


def test_a_model_of_grids_asks_for_pixels() -> None:
    with pytest.raises(DataError, match="no pixels for a model of grids"):
        small_grid().embed_images(batch())


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"heads": 5}, "5 heads do not divide"),
        ({"text": "bigru", "text_pooling": "first"}, "one word in one direction"),
        ({"backbone": "folder"}, "with --backbone folder"),
    ],
)
def test_impossible_sizes_are_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        VSEConfig(**values)


def test_regions_and_grids_can_be_one_set() -> None:
    config = replace(BIGRU, image="region+grid", backbone_depth=50)
    model, one = build(config), batch(count=2, pixels=True)
    with torch.no_grad():
        both = model.embed_images(one)
        other = model.embed_images(replace(one, images=one.images.flip(0)))
    assert both.shape == (2, 8)
    assert not torch.allclose(both, other, atol=1e-4)
    assert {key for name in model.state_dict() for key in model.published_keys(name)}, "every weight has a name"


def test_bert_learns_at_a_tenth_of_the_rate() -> None:
    groups = build(BERT).parameter_groups(weight_decay=0.5)
    assert [group["multiplier"] for group in groups] == [1.0, 0.1, 1.0]
    assert {group["weight_decay"] for group in groups} == {0.5}
    assert sum(len(group["params"]) for group in groups) == len(list(build(BERT).parameters()))
