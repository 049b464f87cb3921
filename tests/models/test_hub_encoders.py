"""LXMERT and VisualBERT as joint encoders: their scores against the probabilities that transformers returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, LxmertConfig, LxmertModel, VisualBertConfig, VisualBertModel

from vltk.errors import DataError, OfflineError, UsageError
from vltk.models._hub_encoders import HubEncoder, LXMERTEncoder, VisualBERTEncoder, load_hub_encoder
from vltk.types import Batch

SIZES = {"vocab_size": 30, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


def lxmert() -> LXMERTEncoder:
    torch.manual_seed(1)
    layers = {"l_layers": 2, "x_layers": 3, "r_layers": 1, "visual_feat_dim": 5, "num_qa_labels": 3}
    return LXMERTEncoder(LxmertModel(LxmertConfig(**SIZES, **layers)))


def visual_bert(**settings: object) -> VisualBERTEncoder:
    torch.manual_seed(1)
    config = VisualBertConfig(**SIZES, num_hidden_layers=3, visual_embedding_dim=5, **settings)
    return VisualBERTEncoder(VisualBertModel(config))


def batch() -> Batch:
    dice = torch.Generator().manual_seed(7)
    ids = torch.tensor([[2, 7, 8, 3, 0, 0], [2, 9, 10, 11, 12, 3]])
    return Batch(
        ids=("a", "b"),
        input_ids=ids,
        text_mask=ids != 0,
        regions=torch.randn(2, 4, 5, generator=dice),
        locations=torch.rand(2, 4, 7, generator=dice),
        region_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool(),
    )


def probabilities(scores: Tensor) -> Tensor:
    return scores.softmax(dim=-1)


@torch.no_grad()
def test_a_visual_bert_shows_the_scores_of_the_probabilities_that_it_computes() -> None:
    encoder = visual_bert()
    encoder.model.set_attn_implementation("eager")
    given = batch()
    found = encoder(given, attention_scores=range(3))
    told = encoder.model(
        input_ids=given.input_ids,
        attention_mask=given.text_mask.long(),
        visual_embeds=given.regions,
        visual_attention_mask=given.region_mask.long(),
        visual_token_type_ids=torch.ones(2, 4, dtype=torch.long),
        output_attentions=True,
    )
    for layer in range(3):
        torch.testing.assert_close(probabilities(found.attention_scores[layer]), told.attentions[layer])
    mask = given.text_mask.unsqueeze(-1)
    torch.testing.assert_close(found.text, told.last_hidden_state[:, :6] * mask)
    torch.testing.assert_close(found.pooled, told.pooler_output)


@torch.no_grad()
def test_an_lxmert_shows_the_scores_of_its_crossing_layers() -> None:
    """Words to regions stand in what transformers returns; the other three blocks are computed again here."""
    encoder = lxmert()
    given = batch()
    found = encoder(given, attention_scores=[0, 1, 2]).attention_scores
    kept: dict[tuple[int, str], list[Tensor]] = {}
    handles = []
    for place, layer in enumerate(encoder.model.encoder.x_layers):
        for name in ("lang_self_att", "visn_self_att", "visual_attention"):
            handles.append(
                getattr(layer, name).register_forward_hook(
                    lambda module, args, result, key=(place, name): kept.setdefault(key, []).append(args)
                )
            )
    told = encoder.model(
        input_ids=given.input_ids,
        attention_mask=given.text_mask.float(),
        visual_feats=given.regions,
        visual_pos=given.locations[..., :4],
        visual_attention_mask=given.region_mask.float(),
        output_attentions=True,
    )
    for handle in handles:
        handle.remove()
    for place, layer in enumerate(encoder.model.encoder.x_layers):
        blocks = found[place]
        torch.testing.assert_close(probabilities(blocks[:, :, :6, 6:]), told.cross_encoder_attentions[place])
        words, regions = blocks[:, :, :6, :6], blocks[:, :, 6:, 6:]
        for name, block in (("lang_self_att", words), ("visn_self_att", regions)):
            states, mask = kept[place, name][0][:2]
            expected = getattr(layer, name)(states, mask, output_attentions=True)[1]
            torch.testing.assert_close(probabilities(block), expected)
        regions_first = kept[place, "visual_attention"][1]
        expected = layer.visual_attention(*regions_first, _text_mask(given), output_attentions=True)[1]
        torch.testing.assert_close(probabilities(blocks[:, :, 6:, :6]), expected)


def _text_mask(given: Batch) -> Tensor:
    return (1.0 - given.text_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min


@pytest.mark.parametrize("make", [lxmert, visual_bert])
@torch.no_grad()
def test_padding_changes_nothing(make: Callable[[], HubEncoder]) -> None:
    encoder, given = make(), batch()
    longer = replace(
        given,
        input_ids=torch.cat([given.input_ids, torch.full((2, 3), 4)], 1),
        text_mask=torch.cat([given.text_mask, torch.zeros(2, 3).bool()], 1),
    )
    short, long = (encoder(one, attention_scores=[-1]).attention_scores[2] for one in (given, longer))
    kept = [*range(6), *range(9, 13)]
    rows = torch.cat([given.text_mask, given.region_mask], 1)
    assert torch.isneginf(long[..., 6:9]).all()
    cut = long[:, :, kept][..., kept]
    for row in range(2):
        used = rows[row]
        torch.testing.assert_close(cut[row][:, used], short[row][:, used])


@pytest.mark.parametrize("make", [lxmert, visual_bert])
def test_nothing_is_recorded_that_nobody_asks_for(make: Callable[[], HubEncoder]) -> None:
    encoder = make()
    assert encoder(batch()).attention_scores == {}
    encoder(batch(), attention_scores=[-1])
    assert not any(module._forward_hooks for module in encoder.modules())
    with pytest.raises(UsageError, match="attention scores of layer 3 of 3"):
        encoder(batch(), attention_scores=[3])


@pytest.mark.parametrize("make", [lxmert, visual_bert])
def test_a_folder_of_transformers_is_read_back(make: Callable[[], HubEncoder], tmp_path: Path) -> None:
    encoder = make()
    encoder.model.save_pretrained(tmp_path)
    again = load_hub_encoder(str(tmp_path))
    assert type(again) is type(encoder)
    assert (again.vocabulary, again.region_dim, len(again.layers)) == (30, 5, 3)
    with torch.no_grad():
        both = [one(batch(), attention_scores=[1]).attention_scores[1] for one in (encoder, again)]
    assert torch.equal(*both)


def test_other_models_are_refused(tmp_path: Path) -> None:
    BertModel(BertConfig(**SIZES, num_hidden_layers=1)).save_pretrained(tmp_path / "bert")
    with pytest.raises(UsageError, match="is a bert, whose attention between words and regions cannot be read"):
        load_hub_encoder(str(tmp_path / "bert"))
    with pytest.raises(UsageError, match="bypass_transformer"):
        visual_bert(bypass_transformer=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no config\.json"):
        load_hub_encoder(str(tmp_path / "empty"))
    with pytest.raises(OfflineError, match="cannot be had"):
        load_hub_encoder("nobody/nothing", offline=True, cache_dir=tmp_path)


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    lxmert().model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.x_layers.0.lang_self_att.self.key.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"1 missing keys, first encoder\.x_layers\.0\.lang_self_att"):
        load_hub_encoder(str(tmp_path))
