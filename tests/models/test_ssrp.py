"""SSRP's three variants: what each modality may see, what relations are, and LXMERT's weights in SSRP-Cross."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vltk.errors import DataError, UsageError
from vltk.models._ssrp_layers import DistanceProbe, RelationProjection, average_pieces
from vltk.models.ssrp import SSRP, SSRPConfig, SSRPForPretraining
from vltk.types import Batch

VARIANTS = ("share", "visual", "cross")
TINY: dict[str, Any] = {
    "vocabulary": 40,
    "hidden": 16,
    "heads": 2,
    "intermediate": 24,
    "text_layers": 2,
    "region_layers": 1,
    "joint_layers": 2,
    "positions": 16,
    "region_dim": 6,
    "region_classes": 5,
    "attribute_classes": 4,
    "probe_rank": 8,
    "relation_summary": 12,
    "relation_dim": 10,
    "initial_deviation": 0.3,
}


def pair_batch(*, rows: int = 3, words: int = 7, regions: int = 5, seed: int = 0) -> Batch:
    dice = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([words, *torch.randint(3, words + 1, (rows - 1,), generator=dice).tolist()])
    counts = torch.tensor([regions, *torch.randint(1, regions + 1, (rows - 1,), generator=dice).tolist()])
    text_mask = torch.arange(words) < lengths[:, None]
    region_mask = torch.arange(regions) < counts[:, None]
    ids = torch.randint(5, 40, (rows, words), generator=dice) * text_mask
    ids[:, 0] = 2
    ids[torch.arange(rows), lengths - 1] = 3
    return Batch(
        ids=tuple(map(str, range(rows))),
        input_ids=ids,
        text_mask=text_mask,
        regions=torch.randn(rows, regions, 6, generator=dice) * region_mask[..., None],
        locations=torch.rand(rows, regions, 7, generator=dice) * region_mask[..., None],
        region_mask=region_mask,
    )


def model(variant: Any, **changes: Any) -> SSRP:
    torch.manual_seed(1)
    return SSRPConfig(variant=variant, **(TINY | changes)).build().eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: str) -> None:
    encoder, batch = model(variant), pair_batch()
    whole = encoder(batch)
    for row in range(3):
        words, regions = int(batch.text_mask[row].sum()), int(batch.region_mask[row].sum())
        alone = Batch(
            ids=("x",),
            input_ids=batch.input_ids[row : row + 1, :words],
            text_mask=batch.text_mask[row : row + 1, :words],
            regions=batch.regions[row : row + 1, :regions],
            locations=batch.locations[row : row + 1, :regions],
            region_mask=batch.region_mask[row : row + 1, :regions],
        )
        found = encoder(alone)
        torch.testing.assert_close(found.text[0], whole.text[row, :words])
        torch.testing.assert_close(found.regions[0], whole.regions[row, :regions])
        torch.testing.assert_close(found.pooled[0], whole.pooled[row])
        near, far = encoder.relations(found, alone), encoder.relations(whole, batch)
        torch.testing.assert_close(near.regions[0], far.regions[row, :regions, :regions])
        torch.testing.assert_close(near.text[0], far.text[row, :words, :words])
    assert not whole.text[~batch.text_mask].any()
    assert not whole.regions[~batch.region_mask].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_permuting_regions_permutes_their_states_and_relations(variant: str) -> None:
    encoder, batch = model(variant), pair_batch(rows=1)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = replace(batch, regions=batch.regions[:, order], locations=batch.locations[:, order])
    first, second = encoder(batch), encoder(moved)
    torch.testing.assert_close(second.regions, first.regions[:, order])
    torch.testing.assert_close(second.text, first.text)
    torch.testing.assert_close(second.pooled, first.pooled)
    near, far = encoder.relations(first, batch), encoder.relations(second, moved)
    torch.testing.assert_close(far.regions, near.regions[:, order][:, :, order])


def sees(encoder: SSRP, batch: Batch, part: str) -> tuple[bool, bool]:
    """Say whether text and regions change when the other modality does."""
    other = pair_batch(seed=9)
    if part == "regions":
        changed = replace(batch, regions=other.regions * batch.region_mask[..., None] + 1)
    else:
        changed = replace(batch, input_ids=torch.where(batch.input_ids > 4, 7, batch.input_ids))
    first, second = encoder(batch), encoder(changed)
    differs = [not torch.allclose(a, b) for a, b in ((first.text, second.text), (first.regions, second.regions))]
    return differs[0], differs[1]


@pytest.mark.parametrize(
    ("variant", "picture_changes", "text_changes"),
    [
        ("share", (False, True), (True, False)),
        ("visual", (True, True), (True, False)),
        ("cross", (True, True), (True, True)),
    ],
)
def test_who_looks_at_whom(variant: str, picture_changes: Any, text_changes: Any) -> None:
    encoder, batch = model(variant), pair_batch()
    assert sees(encoder, batch, "regions") == picture_changes
    assert sees(encoder, batch, "text") == text_changes


def without(batch: Batch, part: str) -> Batch:
    if part == "text":
        return replace(batch, input_ids=batch.input_ids[:, :0], text_mask=batch.text_mask[:, :0])
    return replace(
        batch,
        regions=batch.regions[:, :0, :0],
        locations=batch.locations[:, :0],
        region_mask=batch.region_mask[:, :0],
    )


@pytest.mark.parametrize("variant", ["share", "visual"])
def test_a_picture_alone_is_encoded_as_beside_any_text(variant: str) -> None:
    encoder, batch = model(variant), pair_batch()
    alone = encoder(without(batch, "text"))
    torch.testing.assert_close(alone.regions, encoder(batch).regions)
    assert alone.text.shape == (3, 0, 16)
    assert alone.pooled.isfinite().all()
    found = encoder.relations(alone, without(batch, "text"))
    assert found.text.shape == (3, 0, 0)
    torch.testing.assert_close(found.regions, encoder.relations(encoder(batch), batch).regions)
    assert encoder(without(batch, "regions")).text.isfinite().all()


@pytest.mark.parametrize(("part", "missing"), [("text", "words"), ("regions", "regions")])
def test_cross_asks_for_both(part: str, missing: str) -> None:
    with pytest.raises(UsageError, match=f"SSRP-Cross was given no {missing}, .*; use SSRP-Share or SSRP-Visual"):
        model("cross")(without(pair_batch(), part))


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(UsageError, match="3 heads do not divide a hidden size of 16"):
        SSRPConfig(hidden=16, heads=3)


def test_the_published_size_is_that_of_lxmert_with_what_the_probes_add() -> None:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        encoder, found = SSRPConfig().build(), transformers.LxmertModel(transformers.LxmertConfig())
    counted = {name: p.numel() for name, p in encoder.named_parameters()}
    assert sum(count for name, count in counted.items() if "probe" in name) == 2 * 768 * 1024
    expected = sum(p.numel() for name, p in found.named_parameters() if not name.startswith("pooler."))
    assert sum(count for name, count in counted.items() if "probe" not in name) == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_states_of_every_layer_end_in_what_is_returned(variant: str) -> None:
    encoder, batch = model(variant), pair_batch()
    text, regions = encoder.layer_states(batch)
    output = encoder(batch)
    assert (len(text), len(regions)) == (1 + 2 + 2, 1 + 1 + 2)
    torch.testing.assert_close(text[-1] * batch.text_mask[..., None], output.text)
    torch.testing.assert_close(regions[-1] * batch.region_mask[..., None], output.regions)
    torch.testing.assert_close(text[0], encoder.embed_text(batch))
    assert all(not torch.equal(one, other) for states in (text, regions) for one, other in itertools.pairwise(states))


def test_recomputing_activations_changes_no_gradient() -> None:
    batch, gradients = pair_batch(), []
    for recomputed in (False, True):
        encoder = model("cross", dropout=0.0).train()
        encoder.recomputes_activations = recomputed
        encoder(batch).pooled.square().sum().backward()
        gradients.append(encoder.joint_layers[0].text.expand.weight.grad)  # type: ignore[union-attr]
    assert gradients[0] is not None
    torch.testing.assert_close(gradients[1], gradients[0])


# -- relations --------------------------------------------------------------------------------------------------------


def test_a_probe_gives_the_squared_distance_of_the_equation() -> None:
    torch.manual_seed(0)
    probe = DistanceProbe(hidden=6, rank=4)
    states = torch.randn(2, 5, 6)
    found = probe(states)
    for b in range(2):
        for i in range(5):
            for j in range(5):
                difference = probe.map.weight @ (states[b, i] - states[b, j])
                torch.testing.assert_close(found[b, i, j], difference @ difference, rtol=1e-4, atol=1e-5)
    assert not found.diagonal(dim1=1, dim2=2).any()


def test_distances_of_states_far_from_zero_stay_exact() -> None:
    torch.manual_seed(0)
    probe, states = DistanceProbe(hidden=6, rank=4), torch.randn(1, 5, 6)
    torch.testing.assert_close(probe(states + 300), probe(states), rtol=1e-3, atol=1e-3)


def test_pieces_of_a_word_are_averaged_before_the_probe() -> None:
    encoder, batch = model("share"), pair_batch(rows=1)
    words = torch.tensor([[-1, 0, 0, 1, 2, 2, -1]])
    told = replace(batch, targets={"word_of_piece": words})
    output = encoder(told)
    found = encoder.relations(output, told)
    means = [output.text[0, words[0] == word].mean(dim=0) for word in range(3)]
    for i in range(3):
        for j in range(3):
            difference = encoder.text_probe.map.weight @ (means[i] - means[j])
            torch.testing.assert_close(found.text[0, i, j], difference @ difference, rtol=1e-4, atol=1e-4)
    assert found.text_mask.tolist() == [[True, True, True]]


def test_words_without_pieces_do_not_count() -> None:
    states, known = average_pieces(torch.randn(2, 3, 4), torch.tensor([[-1, 2, -1], [-1, -1, -1]]), 4)
    assert known.tolist() == [[False, False, True, False], [False] * 4]
    assert not states[~known].any()


def test_without_words_the_relations_are_those_of_pieces_between_start_and_separator() -> None:
    encoder, batch = model("visual"), pair_batch()
    found = encoder.relations(encoder(batch), batch)
    expected = batch.text_mask & (batch.input_ids != 2) & (batch.input_ids != 3)
    assert torch.equal(found.text_mask, expected)
    assert found.text.shape == (3, 7, 7)


def test_a_projection_takes_any_number_of_items_in_any_order_and_ignores_padding() -> None:
    torch.manual_seed(0)
    projection = RelationProjection(summary=8, size=6)
    distances = DistanceProbe(hidden=4, rank=3)(torch.randn(1, 6, 4))
    mask = torch.ones(1, 6, dtype=torch.bool)
    wide, wide_mask = torch.full((1, 9, 9), 50.0), torch.zeros(1, 9, dtype=torch.bool)
    wide[:, :6, :6], wide_mask[:, :6] = distances, True
    order = torch.randperm(6)
    vector = projection(distances, mask)
    torch.testing.assert_close(projection(wide, wide_mask), vector)
    torch.testing.assert_close(projection(distances[:, order][:, :, order], mask), vector)
    assert not torch.allclose(projection(2 * distances, mask), vector)


def test_frozen_encoding_has_no_gradient_and_no_dropout_and_leaves_the_mode_as_it_was() -> None:
    torch.manual_seed(0)
    whole, batch = SSRPConfig(**TINY | {"dropout": 0.5}).build_for_pretraining().train(), pair_batch()
    first, second = whole.encode_frozen(batch), whole.encode_frozen(batch)
    assert torch.equal(first.text, second.text)
    assert not first.text.requires_grad
    assert whole.encoder.training


# -- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lxmert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    transformers = pytest.importorskip("transformers")
    config = transformers.LxmertConfig(
        vocab_size=40,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=24,
        l_layers=2,
        r_layers=1,
        x_layers=2,
        max_position_embeddings=16,
        visual_feat_dim=6,
        num_object_labels=5,
        num_attr_labels=4,
        initializer_range=0.3,
    )
    torch.manual_seed(3)
    found = transformers.LxmertForPreTraining(config).eval()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("lxmert")
    found.save_pretrained(folder)
    return found, folder


def reference(found: Any, batch: Batch) -> tuple[Tensor, Tensor, Any]:
    given = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.text_mask.float(),
        "visual_feats": batch.regions,
        "visual_pos": batch.locations[..., :4],
        "visual_attention_mask": batch.region_mask.float(),
    }
    with torch.no_grad():
        states, heads = found.lxmert(**given), found(**given)
    return states.language_output, states.vision_output, heads


@pytest.mark.parametrize("layout", ["transformers", "authors"])
def test_an_lxmert_becomes_the_ssrp_cross_with_the_same_states_and_predictions(
    lxmert: tuple[Any, Path], layout: str, tmp_path: Path
) -> None:
    found, path = lxmert
    if layout == "authors":
        state = {f"module.{n.replace('lxmert.', 'bert.', 1)}": t for n, t in found.state_dict().items()}
        path = tmp_path / "model_LXRT.pth"
        torch.save(state, path)
    whole = SSRPConfig(**TINY).build_for_pretraining().eval()
    fresh = whole.start_from(path)
    assert fresh == [
        f"{part} freshly initialised" for part in ("text probe", "region probe", "text projection", "region projection")
    ]
    batch = pair_batch()
    text, regions, heads = reference(found, batch)
    output = whole.encoder(batch)
    torch.testing.assert_close(output.text, text * batch.text_mask[..., None], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.regions, regions * batch.region_mask[..., None], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        whole.matching_logits(output.pooled), heads.cross_relationship_score, rtol=1e-4, atol=1e-5
    )
    kept = batch.text_mask
    torch.testing.assert_close(
        whole.word_logits(output.text[kept]), heads.prediction_logits[kept], rtol=1e-4, atol=1e-4
    )


def test_an_encoder_for_a_task_starts_from_an_lxmert(lxmert: tuple[Any, Path]) -> None:
    encoder, notes = SSRPConfig(**TINY).build_from(lxmert[1])
    batch = pair_batch()
    torch.testing.assert_close(
        encoder.eval()(batch).text, reference(lxmert[0], batch)[0] * batch.text_mask[..., None], rtol=1e-4, atol=1e-5
    )
    assert notes == ["text probe freshly initialised", "region probe freshly initialised"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text_layers": 3}, r"has 2 layers of encoder\.layer, the model 3; give the depth"),
        ({"joint_layers": 1}, r"has 2 layers of encoder\.x_layers, the model 1"),
        ({"variant": "share"}, "is no run of SSRP-Share; an LXMERT can start SSRP-Cross"),
        ({"region_dim": 7}, r"encoder\.region_embedding\.feature\.weight is \[16, 6\] instead of \[16, 7\]"),
    ],
)
def test_an_lxmert_of_another_shape_is_refused(
    lxmert: tuple[Any, Path], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        SSRPConfig(**TINY | changes).build_for_pretraining().start_from(lxmert[1])


def test_classes_of_another_detector_stay_fresh(lxmert: tuple[Any, Path]) -> None:
    fresh = SSRPForPretraining(SSRPConfig(**TINY | {"region_classes": 9})).start_from(lxmert[1])
    assert "region classifier freshly initialised" in fresh
    assert "attribute classifier freshly initialised" not in fresh


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "net.pt")
    with pytest.raises(DataError, match=r"is no SSRP and no LXMERT \(it holds fc\.weight, \.\.\.\)"):
        SSRPConfig(**TINY).build_for_pretraining().start_from(tmp_path / "net.pt")
