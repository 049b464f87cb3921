"""The attention that an SSRP is shown to pay is the one that it pays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.test_ssrp import VARIANTS, model, pair_batch
from vltk.errors import UsageError
from vltk.models._ssrp_attention import SSRPWithScores
from vltk.models._ssrp_layers import CrossAttention

# Blocks of words (L) and regions (V) that each kind of layer has: row looks at column.
JOINT = {"share": {"LL", "VV"}, "visual": {"LL", "VV", "LV"}, "cross": {"LL", "VV", "LV", "VL"}}


def blocks(scores: torch.Tensor, words: int) -> set[str]:
    place = {"L": slice(0, words), "V": slice(words, None)}
    return {a + b for a in "LV" for b in "LV" if bool(scores[:, :, place[a], place[b]].isfinite().any())}


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_layer_shows_what_its_words_and_regions_may_see(variant: str) -> None:
    seen, batch = SSRPWithScores(model(variant)), pair_batch()
    found = seen(batch, attention_scores=range(len(seen.layers))).attention_scores
    told = {name: blocks(found[place], batch.input_ids.shape[1]) for place, name in enumerate(seen.layer_names)}
    assert told == {
        "text layer 0": {"LL"}, "text layer 1": {"LL"}, "region layer 0": {"VV"},
        "joint layer 0": JOINT[variant], "joint layer 1": JOINT[variant],
    }  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_give_what_the_layer_made_of_them(variant: str) -> None:
    """The context that every attention module returns, from the scores and its values by hand."""
    seen, batch = SSRPWithScores(model(variant)), pair_batch()
    calls: list[tuple[Any, Any, Any]] = []
    modules = {id(module): module for layer in seen.layers for module, _ in layer.values()}
    handles = [
        module.register_forward_hook(lambda module, given, result: calls.append((module, given, result)))
        for module in modules.values()
    ]
    found = seen(batch, attention_scores=range(len(seen.layers))).attention_scores
    for handle in handles:
        handle.remove()
    words = batch.input_ids.shape[1]
    place = {"L": slice(0, words), "V": slice(words, None)}
    for number, layer in enumerate(seen.layers):
        for name, (module, call) in layer.items():
            _, given, result = [one for one in calls if one[0] is module][call]
            values = given[1] if isinstance(module, CrossAttention) else given[0]
            size = values.shape[-1]
            value = values @ module.qkv.weight[2 * size :].T + module.qkv.bias[2 * size :]
            value = value.unflatten(-1, (module.heads, -1)).transpose(1, 2)
            context = found[number][:, :, place[name[0]], place[name[1]]].softmax(dim=-1) @ value
            wanted = result if torch.is_tensor(result) else result[0]
            torch.testing.assert_close(module.output(context.transpose(1, 2).flatten(2)), wanted, rtol=1e-4, atol=1e-5)
    assert len(calls) == sum(map(len, seen.layers))


@torch.no_grad()
def test_padding_is_not_looked_at_and_the_states_are_those_of_the_model() -> None:
    encoder, batch = model("cross"), pair_batch()
    output = SSRPWithScores(encoder)(batch, attention_scores=[-1])
    columns = torch.cat([batch.text_mask, batch.region_mask], dim=1)
    scores = output.attention_scores[4]
    assert not scores.transpose(2, 3)[~columns[:, None].expand(-1, 2, -1)].isfinite().any()
    plain = encoder(batch)
    torch.testing.assert_close(output.text, plain.text)
    torch.testing.assert_close(output.regions, plain.regions)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="layer 5 of 5"):
        SSRPWithScores(model("cross"))(pair_batch(), attention_scores=[5])
