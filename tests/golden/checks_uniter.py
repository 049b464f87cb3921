"""UNITER's encoder, objectives and transport against the authors' code."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from tests.golden.case import Case
from vltk.batching import SpecialTokens, TokenBuckets
from vltk.mixture import LAYOUTS
from vltk.models.uniter import UNITERConfig, UNITERForPretraining, _Compact
from vltk.objectives.masked import MLM, MRC, MRCKL, MRFR
from vltk.objectives.matching import ITM, cosine_cost, ipot, transport_distance
from vltk.optimization import PublishedAdamW, learning_rate, warmup_linear
from vltk.types import Batch, Losses

MASKING = MLM(mask_id=4, special_ids=(2, 3), vocabulary=(5, 90))


def tensors(case: Case) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in case.tensors().items()}


def tolerance(case: Case) -> dict[str, float]:
    return case.entry.get("tolerance") or case.index["tolerance_default"]["fp32"]


def compare(case: Case, ours: Tensor, official: Tensor) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), official.numpy(), **tolerance(case))


def under(prefix: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in values.items() if name.startswith(prefix)}


def build(case: Case, state: dict[str, Tensor], *, pretraining: bool) -> nn.Module:
    sizes = case.index["config"]
    prefix = "uniter." if pretraining else ""
    config = UNITERConfig(
        vocabulary=len(state[f"{prefix}embeddings.word_embeddings.weight"]),
        hidden=sizes["hidden_size"],
        layers=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        intermediate=sizes["intermediate_size"],
        positions=sizes["max_position_embeddings"],
        types=len(state[f"{prefix}embeddings.token_type_embeddings.weight"]),
        region_dim=sizes["img_dim"],
        region_classes=sizes["img_label_dim"],
    )
    model = config.build_for_pretraining() if pretraining else config.build()
    model.load_published(state, where=case.key)
    return model.eval()


def mask_of(lengths: Tensor, width: int) -> Tensor:
    return torch.arange(width) < lengths.unsqueeze(1)


def batch_of(values: dict[str, Tensor]) -> Batch:
    count = len(next(value for name, value in values.items() if name in ("in.input_ids", "in.img_feat")))
    ids = values.get("in.input_ids", torch.zeros(count, 0, dtype=torch.long))
    regions = values.get("in.img_feat", torch.zeros(count, 0, 24))
    none = torch.zeros(count, dtype=torch.long)
    return Batch(
        ids=tuple(str(i) for i in range(count)),
        input_ids=ids,
        text_mask=mask_of(values.get("in.txt_lens", none), ids.shape[1]),
        regions=regions,
        locations=values.get("in.img_pos_feat", torch.zeros(count, 0, 7)),
        region_mask=mask_of(values.get("in.num_bbs", none), regions.shape[1]),
        text_types=values.get("in.txt_type_ids"),
        masked_regions=values.get("in.img_masks"),
    )


def compare_gradients(case: Case, model: nn.Module, official: dict[str, Tensor]) -> None:
    ours: dict[str, Tensor] = {}
    for key, parameter in model.named_parameters():
        names = model.published_keys(key)
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        ours |= dict(zip(names, gradient.chunk(len(names)), strict=True))
    assert official, "the case brings gradients"
    for name, expected in official.items():
        atol = 1e-5 * float(expected.abs().max())
        np.testing.assert_allclose(ours[name].numpy(), expected.numpy(), rtol=1e-3, atol=atol, err_msg=name)


def check_encoder(case: Case) -> None:
    values = tensors(case)
    model = build(case, under("sd.", values), pretraining=False)
    batch = batch_of(values)
    output = model(batch)
    states = torch.cat([output.text[batch.text_mask], output.regions[batch.region_mask]])
    length = values["out.layer_2"].shape[1]
    total = batch.text_mask.sum(1) + batch.region_mask.sum(1)
    position = torch.arange(length)
    is_text = position < batch.text_mask.sum(1, keepdim=True)
    is_region = ~is_text & (position < total.unsqueeze(1))
    expected = torch.cat([values["out.layer_2"][is_text], values["out.layer_2"][is_region]])
    compare(case, states, expected)
    if "out.pooled" in values:
        compare(case, output.pooled, values["out.pooled"])
    # The joint case states a mean over the real positions; the single-modality cases are plain sums.
    loss = (states * values["in.probe"]).sum() / (len(states) if "in.gather_index" in values else 1)
    compare(case, loss, values["out.loss"])
    loss.backward()
    compare_gradients(case, model, under("grad.", values))


def check_image_embedding(case: Case) -> None:
    values = tensors(case)
    model = build(case, under("sd.", values), pretraining=False)
    compare(case, model.embed_regions(batch_of(values)), values["out.img_emb"])


def check_pretraining(
    case: Case, prepare: Callable[[Batch, dict[str, Tensor]], Batch], forward: Callable[[nn.Module, Batch], Losses]
) -> Losses:
    values = tensors(case)
    model = build(case, under("sd.", values), pretraining=True)
    losses = forward(model, prepare(batch_of(values), values))
    loss = losses.mean()
    compare(case, loss, values["out.loss"])
    raw = next((values[name] for name in ("out.loss_vec", "out.loss_mat", "out.loss_raw") if name in values), None)
    if raw is not None and "out.ot_pos" not in values:
        compare(case, losses.values, raw)
    loss.backward()
    compare_gradients(case, model, under("grad.", values))
    return losses


def with_targets(name: str, tensor: str) -> Callable[[Batch, dict[str, Tensor]], Batch]:
    return lambda batch, values: replace(batch, targets={name: values[tensor]})


def check_second_stage(case: Case) -> None:
    """The text layout of VCR's second stage, then what the authors' model makes of it."""
    values = tensors(case)
    special = SpecialTokens(start=1, separator=2)
    rows = zip(values["in.input_ids"], values["in.txt_type_ids"], values["in.txt_lens"], strict=True)
    for ids, types, length in rows:
        ids, types = ids[: int(length)].tolist(), types[: int(length)].tolist()
        ends = [place for place, piece in enumerate(ids) if piece == special.separator]
        parts = [ids[start + 1 : end] for start, end in zip([0, *ends], ends, strict=False)]
        assert LAYOUTS["vcr"].row(parts, special) == (ids, types)
    check_pretraining(case, with_targets("words", "in.txt_labels"), MASKING.forward)


def wra_alone(model: UNITERForPretraining, batch: Batch) -> Losses:
    output = model.encoder(batch)
    distance = transport_distance(output.text, batch.text_mask, output.regions, batch.region_mask)
    return Losses(values=distance * (batch.targets["match"] * 2 - 1), count=len(distance))


def check_transport(case: Case) -> None:
    values = tensors(case)
    text_mask, region_mask = ~values["in.txt_pad"], ~values["in.img_pad"]
    settings = {"beta": case.entry["params"]["beta"], "iterations": case.entry["params"]["iteration"]}
    text, regions = (values[f"in.{name}_emb"].requires_grad_() for name in ("txt", "img"))
    cost = cosine_cost(text, regions)
    compare(case, cost, values["out.cost"])
    compare(case, ipot(cost, text_mask, region_mask, **settings), values["out.plan_T"].transpose(1, 2))
    distance = transport_distance(text, text_mask, regions, region_mask, **settings)
    compare(case, distance, values["out.dist"])
    distance.sum().backward()
    for name, found in (("txt_emb", text.grad), ("img_emb", regions.grad)):
        compare(case, found, values.get(f"grad.{name}", values.get(f"grad.in.{name}")))


def check_ipot(case: Case) -> None:
    values = tensors(case)
    text_mask, region_mask = ~values["in.txt_pad"], ~values["in.img_pad"]
    plan = ipot(values["in.cost"], text_mask, region_mask)
    compare(case, plan, values["out.plan_T"].transpose(1, 2))
    compare(case, (plan * values["in.cost"]).sum(dim=(1, 2)), values["out.dist"])


def check_layout(case: Case) -> None:
    """The published gather index is the encoder's own order of real positions; unpacking is its inverse."""
    values = tensors(case)
    text_mask = ~values["out.txt_pad"].bool()
    region_mask = ~values["out.img_pad"].bool()
    assert torch.equal(text_mask.sum(1), values["in.txt_lens"])
    assert torch.equal(region_mask.sum(1), values["in.num_bbs"])
    compact = _Compact(text_mask, region_mask)
    assert torch.equal(compact.order[compact.kept], values["out.gather_index"][compact.kept])
    joint = torch.arange(text_mask.shape[1] + region_mask.shape[1], dtype=torch.float32).expand(len(text_mask), -1) + 1
    text, regions = joint.unsqueeze(-1).split([text_mask.shape[1], region_mask.shape[1]], dim=1)
    again = compact.unpack(compact.pack(text, regions))
    scattered = values["out.ot_scatter"]
    for row, kept in enumerate(compact.kept):
        places = scattered[row][kept]
        assert torch.equal(torch.cat(again, dim=1)[row, places, 0], joint[row, places])


def check_schedule(case: Case) -> None:
    values = tensors(case)
    settings = case.entry["params"]
    steps = {"warmup": settings["warmup_steps"], "total": settings["num_train_steps"]}
    share = [warmup_linear(int(step), **steps) for step in values["in.step"]]
    rate = [learning_rate(int(step), peak=settings["learning_rate"], **steps) for step in values["in.step"]]
    np.testing.assert_allclose(share, values["out.warmup_linear"].numpy(), **tolerance(case))
    np.testing.assert_allclose(rate, values["out.get_lr_sched"].numpy(), **tolerance(case))


def check_adamw(case: Case) -> None:
    values = tensors(case)
    decayed, plain = (nn.Parameter(values[f"in.{name}"].clone()) for name in ("p1", "p2"))
    decay = case.entry["params"]["weight_decay"]
    groups = [{"params": [p], "weight_decay": d} for p, d in zip((decayed, plain), decay, strict=True)]
    optimizer = PublishedAdamW(groups, betas=tuple(case.entry["params"]["betas"]), eps=case.entry["params"]["eps"])
    for step in range(len(values["in.grad1"])):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 10)
        decayed.grad, plain.grad = values["in.grad1"][step], values["in.grad2"][step]
        optimizer.step()
        compare(case, decayed, values["out.p1"][step])
        compare(case, plain, values["out.p2"][step])


def check_token_buckets(case: Case) -> None:
    content = json.loads((case.folder / case.entry["file"]).read_text())
    for name, drop_last in (("batches_keep_last", False), ("batches_drop_last", True)):
        rule = TokenBuckets(
            max_tokens=content["max_tokens"],
            bucket_size=content["bucket_size"],
            multiple=content["size_multiple"],
            official=True,
            drop_last=drop_last,
        )
        # The published sampler shuffles with Python's generator; between its two shuffles the rule is all there is.
        generator = random.Random(content["python_random_seed"])
        order = list(range(len(content["lens"])))
        generator.shuffle(order)
        batches = [batch.tolist() for batch in rule.filled(np.array(order, np.int32), np.array(content["lens"]))]
        generator.shuffle(batches)
        assert batches == content[name]


CHECKS: dict[str, Callable[[Case], None]] = {
    "uniter/encoder_*": check_encoder,
    "uniter/image_embedding_small_variance*": check_image_embedding,
    "uniter/pretrain_mlm*": lambda c: check_pretraining(c, with_targets("words", "in.txt_labels"), MASKING.forward),
    "uniter/vcr_pretrain_mlm*": check_second_stage,
    "uniter/pretrain_mrfr*": lambda c: check_pretraining(
        c, with_targets("features", "in.feat_targets"), MRFR().forward
    ),
    "uniter/pretrain_mrc": lambda c: check_pretraining(
        c, with_targets("class_probs", "in.label_targets"), MRC().forward
    ),
    "uniter/pretrain_mrckl*": lambda c: check_pretraining(
        c, with_targets("class_probs", "in.label_targets"), MRCKL().forward
    ),
    "uniter/pretrain_itm": lambda c: check_pretraining(c, with_targets("match", "in.targets"), ITM().forward),
    "uniter/pretrain_itm_ot*": lambda c: check_pretraining(
        c, with_targets("match", "in.targets"), ITM(wra_weight=0.1).forward
    ),
    "uniter/pretrain_ot_only*": lambda c: check_pretraining(c, with_targets("match", "in.targets"), wra_alone),
    "uniter/ot_*": check_transport,
    "uniter/ipot_*": check_ipot,
    "uniter/gather_and_ot_index*": check_layout,
    "uniter/lr_schedules*": check_schedule,
    "uniter/adamw_steps*": check_adamw,
    "uniter/token_bucket_sampler*": check_token_buckets,
}
