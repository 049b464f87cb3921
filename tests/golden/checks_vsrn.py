"""VSRN: reasoning, memory, texts, losses, the caption branch and the whole joint model against the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.case import Case
from tests.golden.checks_uniter import compare, tensors, under
from tests.golden.checks_vse import batch_of
from vltk.models._caption_branch import CaptionBranch
from vltk.models._reasoning import RelationLayer
from vltk.models.vsrn import VSRN, VSRNConfig
from vltk.objectives.generation import caption_targets
from vltk.objectives.hinge import HARDEST, DualTraining, hinge_loss, hinge_loss_of, order_scores
from vltk.optimization import clip_repeated, optimizer_of, repeated_parameters

PARTS = {"theta": "query", "phi": "key", "g": "value", "W.0": "output", "W.1": "norm"}


def regions_of(count: int, width: int) -> Tensor:
    return torch.ones(count, width, dtype=torch.bool)


def relation_layer(state: dict[str, Tensor]) -> RelationLayer:
    inner, hidden, _ = state["theta.weight"].shape
    layer = RelationLayer(hidden, inner)
    ours = {ours_name(name): tensor.squeeze(-1) if tensor.dim() == 3 else tensor for name, tensor in state.items()}
    layer.load_state_dict(ours)
    return layer.eval()


def ours_name(official: str) -> str:
    part, _, name = official.rpartition(".")
    return f"{PARTS[part]}.{name}"


def compare_layer_gradient(case: Case, layer: RelationLayer, name: str, expected: Tensor) -> None:
    found = layer.get_parameter(ours_name(name)).grad
    compare(case, found.view_as(expected), expected)


def check_relation_layer(case: Case) -> None:
    values = tensors(case)
    for folds in (False, True):
        layer = relation_layer(under("state.", values))
        layer.folds = lambda regions, folds=folds: folds
        states = values["in.v"].transpose(1, 2).clone().requires_grad_()
        mask = regions_of(*states.shape[:2])
        compare(case, layer.affinity(states, mask), values["out.affinity"])
        found = layer(states, mask).transpose(1, 2)
        compare(case, found, values["out.v_star"])
        loss = (found * values["in.cotangent"]).sum()
        compare(case, loss, values["out.loss"])
        loss.backward()
        for name, expected in under("grad.", values).items():
            if name == "v":
                compare(case, states.grad.transpose(1, 2), expected)
            else:
                compare_layer_gradient(case, layer, name, expected)
        compare(case, layer.train()(states, mask).transpose(1, 2), values["out.v_star_train"])


def check_relation_stack(case: Case) -> None:
    values = tensors(case)
    layers = [relation_layer(under(f"state.{number}.", values)) for number in range(4)]
    states = first = values["in.v"].transpose(1, 2).clone().requires_grad_()
    for number, layer in enumerate(layers, 1):
        states = layer(states, regions_of(*states.shape[:2]))
        compare(case, states.transpose(1, 2), values[f"out.layer{number}"])
    loss = (states.transpose(1, 2) * values["in.cotangent"]).sum()
    compare(case, loss, values["out.loss"])
    loss.backward()
    compare(case, first.grad.transpose(1, 2), values["grad.v"])
    for name, expected in under("grad.", values).items():
        if name != "v":
            number, _, rest = name.partition(".")
            compare_layer_gradient(case, layers[int(number)], rest, expected)


def model_of(config: dict[str, Any], **others: Any) -> VSRN:
    flickr = config.get("data_name") == "f30k_precomp"
    return VSRNConfig(
        hidden=config["embed_size"],
        norm_before=not flickr,
        batch_norm=flickr,
        normalise=not config.get("no_imgnorm", False),
        absolute=config.get("use_abs", False),
        **{"vocabulary": 5, "word_dim": 3, "region_dim": 4, "generation": False, **others},
    ).build()


def load_side(model: VSRN, side: str, state: dict[str, Tensor], case: Case) -> VSRN:
    """Fill the image or the text encoder, whose official keys are complete; the other stays as it is."""
    rest = {name: tensor for name, tensor in model.published_state().items() if not name.startswith(side)}
    model.load_published({f"{side}{name}": tensor for name, tensor in state.items()} | rest, where=case.key)
    return model.eval()


def compare_gradients(case: Case, model: VSRN, prefix: str, values: dict[str, Tensor]) -> None:
    ours = model.published({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    official = {name: tensor for name, tensor in under("grad.", values).items() if name not in ("images", "regions")}
    assert official
    for name, expected in official.items():
        compare(case, ours[prefix + name], expected)


def check_image_encoder(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    model = load_side(model_of(config, region_dim=config["img_dim"]), "img_enc.", under("state.", values), case)
    images = values["in.images"].clone().requires_grad_()
    batch = batch_of(regions=images, region_lengths=torch.full((len(images),), images.shape[1]))
    compare(case, model.image.projected(batch), values["out.fc_regions"])
    found, regions = model.represent(batch)
    compare(case, found, values["out.features"])
    compare(case, regions, values["out.gcn_regions"])
    loss = (found * values["in.cotangent_features"]).sum() + 0.1 * (regions * values["in.cotangent_gcn"]).sum()
    compare(case, loss, values["out.loss"])
    loss.backward()
    compare(case, images.grad, values["grad.images"])
    compare_gradients(case, model, "img_enc.", values)


def check_memory(case: Case) -> None:
    values, size = tensors(case), case.entry["config"]["dim"]
    gru = model_of({"embed_size": size}).image.gru
    gru.load_state_dict(under("state.", values))
    regions = values["in.regions"].clone().requires_grad_()
    every, last = gru(regions)
    compare(case, every, values["out.sequence"])
    compare(case, last[-1], values["out.memory"])
    loss = (last[-1] * values["in.cotangent"]).sum()
    compare(case, loss, values["out.loss"])
    loss.backward()
    for name, expected in under("grad.", values).items():
        compare(case, regions.grad if name == "regions" else gru.get_parameter(name).grad, expected)


def check_text_encoder(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    sizes = {"vocabulary": config["vocab"], "word_dim": config["word_dim"], "gru_layers": config["num_layers"]}
    model = load_side(model_of(config, **sizes), "txt_enc.", under("state.", values), case)
    found = model.embed_texts(batch_of(ids=values["in.ids"], lengths=values["in.lengths"]))
    compare(case, found, values["out.features"])
    loss = (found * values["in.cotangent"]).sum()
    compare(case, loss, values["out.loss"])
    loss.backward()
    compare_gradients(case, model, "txt_enc.", values)


def check_loss(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    compare(case, values["in.images"] @ values["in.captions"].t(), values["out.scores"])
    forms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "sum": lambda images, texts: hinge_loss(images, texts, margin=config["margin"], hardest=False).mean(),
        "max": lambda images, texts: hinge_loss(images, texts, margin=config["margin"]).mean(),
        "order_max": lambda images, texts: hinge_loss_of(
            order_scores(images, texts), margin=config["order_margin"]
        ).mean(),
    }
    for name, loss_of in forms.items():
        images, captions = (values[f"in.{side}"].clone().requires_grad_() for side in ("images", "captions"))
        loss = loss_of(images, captions)
        compare(case, loss, values[f"out.loss_{name}"])
        loss.backward()
        compare(case, images.grad, values[f"grad.{name}.images"])
        compare(case, captions.grad, values[f"grad.{name}.captions"])


def official_branch(branch: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name published weights of the caption branch as ours are."""
    names = {VSRN.published_keys(f"captions.{name}")[0]: name for name in branch.state_dict()}
    return {names[f"caption_model.{name}"]: tensor for name, tensor in state.items()}


def check_caption_branch(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    branch = CaptionBranch(
        vocabulary=config["vocab"],
        region_hidden=config["dim_vid"],
        hidden=config["dim_hidden"],
        word_dim=config["dim_word"],
        bidirectional=bool(config["bidirectional"]),
    )
    branch.load_state_dict(official_branch(branch, under("state.", values)))
    branch.eval()
    regions = values["in.regions"].clone().requires_grad_()
    mask = regions_of(*regions.shape[:2])
    states, memory = branch.read(regions, mask)
    compare(case, states, values["out.encoder_outputs"])
    compare(case, memory, torch.cat(tuple(values["out.encoder_hidden"]), dim=-1))
    compare(case, branch.context(branch.keys(states), states, mask, memory), values["out.first_context"])
    labels, masks, longest = values["in.labels"], values["in.masks"], config["max_len"]
    words, targets = labels[:, : longest - 1], labels[:, 1:longest]
    full = torch.full((len(words),), longest - 1)
    memories, rows, places = branch.decode(regions, mask, words, full)
    found = torch.zeros_like(values["out.logprobs"]).index_put((rows, places), branch.out(memories).log_softmax(-1))
    compare(case, found, values["out.logprobs"])
    loss = branch.losses(regions, mask, words, targets, masks[:, 1:longest].sum(dim=1).long()).mean()
    compare(case, loss, values["out.loss"])
    loss.backward()
    for name, expected in under("grad.", values).items():
        ours = {} if name == "regions" else official_branch(branch, {name: expected})
        compare(case, branch.get_parameter(next(iter(ours))).grad if ours else regions.grad, expected)
    ids, scores = branch.greedy(regions, mask, steps=longest - 2, start=config["sos_id"])
    assert torch.equal(ids, values["out.greedy_ids"])
    compare(case, scores, values["out.greedy_logprobs"])


def check_joint_model(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    model = model_of(
        config,
        region_dim=config["img_dim"],
        vocabulary=config["vocab_size"],
        word_dim=config["word_dim"],
        gru_layers=config["num_layers"],
        generation=True,
        caption_hidden=config["dim_hidden"],
        caption_word_dim=config["dim_word"],
        caption_length=config["max_len"],
        caption_bidirectional=config["bidirectional"],
        caption_updates="official",
    )
    model.load_published(under("state.", values), where=case.key)
    images, ids = values["in.images"], values["in.ids"]
    lengths = torch.full((len(images),), images.shape[1])
    batch = batch_of(regions=images, region_lengths=lengths, ids=ids, lengths=values["in.lengths"])
    found, regions = model.eval().represent(batch)
    compare(case, found, values["out.image_emb"])
    compare(case, regions, values["out.gcn_regions"])
    compare(case, model.embed_texts(batch), values["out.text_emb"])
    compare(case, hinge_loss(found, model.embed_texts(batch)).mean(), values["out.retrieval_loss"])
    made = caption_targets(batch.input_ids, batch.text_mask, longest=config["max_len"])
    width = made.targets.shape[1]
    assert torch.equal(made.words, values["in.labels"][:, :width])
    assert torch.equal(made.counts, values["in.masks"][:, 1 : config["max_len"]].sum(dim=1).long())
    compare(case, model.captions.losses(regions, batch.region_mask, *made).mean(), values["out.caption_loss"])
    loss = DualTraining(model, margin=config["margin"]).eval()(HARDEST, batch, torch.Generator()).mean()
    compare(case, loss, values["out.loss"])
    loss.backward()
    compare_gradients(case, model, "", values)
    # The authors' list names the caption branch twice.
    parameters = list(model.parameters())
    compare(case, torch.nn.utils.get_total_norm([p.grad for p in parameters]), values["out.grad_norm_unique"])
    repeated = repeated_parameters(optimizer_of(model.parameter_groups(), form="torch"))
    norm = clip_repeated(parameters, repeated, limit=config["grad_clip"])
    compare(case, norm, values["out.grad_norm_official_duplicated"])


def check_caption_labels(case: Case) -> None:
    longest = case.entry["config"]["max_len"]
    for example in case.entry["expected"]:
        ids = torch.tensor([example["ids"]])
        made = caption_targets(ids, torch.ones_like(ids), longest=longest)
        asked = int(made.counts)
        assert asked == sum(example["mask"][1:longest])
        assert made.words[0, :asked].tolist() == example["labels"][:asked]
        assert made.targets[0, :asked].tolist() == example["labels"][1 : asked + 1]


CHECKS: dict[str, Callable[[Case], None]] = {
    "vse/vsrn_rrr_layer_*": check_relation_layer,
    "vse/vsrn_rrr_stack4": check_relation_stack,
    "vse/vsrn_image_encoder_*": check_image_encoder,
    "vse/vsrn_gsr_gru": check_memory,
    "vse/vsrn_text_encoder_*": check_text_encoder,
    "vse/vsrn_triplet_loss": check_loss,
    "vse/vsrn_caption_branch_*": check_caption_branch,
    "vse/vsrn_joint_model": check_joint_model,
    "vse/vsrn_caption_labels": check_caption_labels,
}
