"""UNITER beyond the golden cases: padding, permutation, the published layout, its refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vltk.errors import DataError, UsageError
from vltk.models.uniter import UNITERConfig, UNITERForPretraining
from vltk.types import Batch

TINY = UNITERConfig(
    vocabulary=50, hidden=16, layers=2, heads=2, intermediate=32, positions=12, region_dim=6, region_classes=5
)


def batch(*, text: tuple[int, ...] = (5, 3), regions: tuple[int, ...] = (2, 4), seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    count, length, width = len(text), max(text), max(regions)
    return Batch(
        ids=tuple(map(str, range(count))),
        input_ids=torch.randint(1, 50, (count, length), generator=generator),
        text_mask=torch.arange(length) < torch.tensor(text).unsqueeze(1),
        regions=torch.randn(count, width, 6, generator=generator),
        locations=torch.rand(count, width, 7, generator=generator),
        region_mask=torch.arange(width) < torch.tensor(regions).unsqueeze(1),
    )


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(1)
    return TINY.build().eval()


def test_base_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = UNITERConfig().build_for_pretraining()
    assert sum(parameter.numel() for parameter in model.parameters()) == 112_938_887


def test_padding_changes_nothing(model: torch.nn.Module) -> None:
    whole = batch()
    for row, (length, width) in enumerate(((5, 2), (3, 4))):
        alone = replace(
            whole,
            ids=("0",),
            input_ids=whole.input_ids[row : row + 1, :length],
            text_mask=whole.text_mask[row : row + 1, :length],
            regions=whole.regions[row : row + 1, :width],
            locations=whole.locations[row : row + 1, :width],
            region_mask=whole.region_mask[row : row + 1, :width],
        )
        ours, expected = model(whole, attention_scores=(-1,)), model(alone, attention_scores=(-1,))
        torch.testing.assert_close(ours.text[row, :length], expected.text[0])
        torch.testing.assert_close(ours.regions[row, :width], expected.regions[0])
        torch.testing.assert_close(ours.pooled[row], expected.pooled[0])
        kept = [*range(length), *range(5, 5 + width)]
        scores = ours.attention_scores[1][row][:, kept][:, :, kept]
        torch.testing.assert_close(scores, expected.attention_scores[1][0])


def test_states_and_scores_of_padding_are_neutral(model: torch.nn.Module) -> None:
    output = model(batch(), attention_scores=(0,))
    assert not output.text[1, 3:].any()
    assert not output.regions[0, 2:].any()
    padding = [3, 4]
    assert torch.isneginf(output.attention_scores[0][1][:, :, padding]).all()


def test_permuting_regions_permutes_their_states(model: torch.nn.Module) -> None:
    whole = batch(regions=(4, 4))
    order = torch.tensor([2, 0, 3, 1])
    shuffled = replace(whole, regions=whole.regions[:, order], locations=whole.locations[:, order])
    before, after = model(whole), model(shuffled)
    torch.testing.assert_close(after.regions, before.regions[:, order])
    torch.testing.assert_close(after.text, before.text)


def test_asking_for_scores_changes_no_state(model: torch.nn.Module) -> None:
    plain, asked = model(batch()), model(batch(), attention_scores=(0, -1))
    torch.testing.assert_close(asked.text, plain.text)
    assert sorted(asked.attention_scores) == [0, 1]
    assert plain.attention_scores == {}


@pytest.mark.parametrize("layers", [1, 2])
def test_the_first_state_alone_is_the_same(layers: int) -> None:
    torch.manual_seed(1)
    model, padded = replace(TINY, layers=layers).build().eval(), batch()
    given = (model.embed_text(padded), padded.text_mask, model.embed_regions(padded), padded.region_mask)
    torch.testing.assert_close(model.encode_pooled(*given), model(padded).pooled)


@pytest.mark.parametrize("layer", [0, -1])
@pytest.mark.parametrize("rows", [slice(1), slice(None, None, 2), slice(None)])
def test_scores_of_some_pairs_beside_the_first_state_are_the_same(layer: int, rows: slice) -> None:
    torch.manual_seed(1)
    model, padded = replace(TINY, layers=3).build().eval(), batch()
    given = (model.embed_text(padded), padded.text_mask, model.embed_regions(padded), padded.region_mask)
    pooled, scores = model.encode_pooled_and_scores(*given, layer=layer, rows=rows)
    expected = model(padded, attention_scores=[layer])
    torch.testing.assert_close(pooled, expected.pooled)
    torch.testing.assert_close(scores, expected.attention_scores[layer % 3][rows])


def test_published_layout_round_trips_and_reads_old_names() -> None:
    torch.manual_seed(0)
    model = TINY.build_for_pretraining()
    official = model.published_state()
    assert official["cls.predictions.decoder.weight"] is official["uniter.embeddings.word_embeddings.weight"]
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in official.items()
    }
    again = TINY.build_for_pretraining()
    again.load_published(old, where="old.pt")
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in model.state_dict().items())


def test_official_keys_of_base_are_the_published_230() -> None:
    with torch.device("meta"):
        assert len(UNITERConfig().build_for_pretraining().published_state()) == 230


def test_keys_that_do_not_fit_are_named() -> None:
    model = TINY.build()
    state = model.published_state()
    state["extra.weight"] = state.pop("pooler.dense.bias")
    with pytest.raises(
        DataError, match=r"a\.pt: .*1 missing \(pooler\.dense\.bias\) and 1 left over \(extra\.weight\)"
    ):
        model.load_published(state, where="a.pt")


def test_another_size_is_named_with_both_shapes() -> None:
    small = replace(TINY, types=3).build()
    with pytest.raises(DataError, match=r"token_type_embeddings\.weight \[2, 16\] instead of \[3, 16\]"):
        small.load_published(TINY.build().published_state(), where="a.pt")


def test_a_parameter_without_a_published_name_is_refused() -> None:
    with pytest.raises(DataError, match=r"parameter encoder\.nothing has no published name"):
        UNITERForPretraining.published_keys("encoder.nothing")


@pytest.mark.parametrize("layer", [2, -3])
def test_scores_of_a_layer_that_is_not_there(model: torch.nn.Module, layer: int) -> None:
    with pytest.raises(UsageError, match=f"attention scores of layer {layer} of 2"):
        model(batch(), attention_scores=(layer,))


def test_a_text_longer_than_the_positions_is_refused(model: torch.nn.Module) -> None:
    with pytest.raises(UsageError, match="a text of 13 word pieces, the model has 12 positions"):
        model(batch(text=(13, 3)))


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(UsageError, match="3 heads do not divide a hidden size of 16"):
        replace(TINY, heads=3)


def gradients(config: UNITERConfig, *, recomputed: bool, compiled: bool = False) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = config.build()
    model.recomputes_activations = recomputed
    if compiled:
        for layer in model.layers:
            layer.compile(dynamic=True)
    torch.manual_seed(1)
    model(batch()).pooled.square().sum().backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_computing_activations_again_gives_the_same_gradients_dropout_included() -> None:
    config = replace(TINY, dropout=0.3)
    ours, expected = gradients(config, recomputed=True), gradients(config, recomputed=False)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
    assert any(bool(gradient.any()) for gradient in ours)


@pytest.mark.slow
def test_compiled_layers_give_the_same_gradients() -> None:
    config = replace(TINY, dropout=0.0)
    ours, expected = gradients(config, recomputed=False, compiled=True), gradients(config, recomputed=False)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
