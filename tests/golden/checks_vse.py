"""VSE-infinity: pooling, encoders, augmentation, losses, groups and schedules against the authors' code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.golden.case import Case
from tests.golden.checks_uniter import compare, mask_of, tensors, under
from vltk.models._coefficients import RecurrentCoefficients, positional_encoding
from vltk.models._grids import ResidualTrunk
from vltk.models._image_encoders import GridEncoder, GridHead, dropped_grids
from vltk.models._pooling import AveragePooling, GeneralizedPooling, KMaxPooling
from vltk.models.vse import VSE, VSEConfig
from vltk.objectives.hinge import ALL, HARDEST, DualSchedule, DualTraining, hinge_loss
from vltk.objectives.size_augmentation import RATE, augmented_words, kept_regions, take_regions
from vltk.types import Batch

# The authors' region encoder also has a batch norm behind its last layer, which never runs.
UNUSED = "mlp.bns.1."


def batch_of(
    *,
    regions: Tensor | None = None,
    region_lengths: Tensor | None = None,
    ids: Tensor | None = None,
    lengths: Tensor | None = None,
    images: Tensor | None = None,
) -> Batch:
    count = len(next(value for value in (regions, ids, images) if value is not None))
    regions = torch.zeros(count, 0, 10) if regions is None else regions
    ids = torch.zeros(count, 0, dtype=torch.long) if ids is None else ids
    none = torch.zeros(count)
    return Batch(
        ids=tuple(str(number) for number in range(count)),
        input_ids=ids,
        text_mask=mask_of(none if lengths is None else lengths, ids.shape[1]),
        regions=regions,
        locations=torch.zeros(count, regions.shape[1], 7),
        region_mask=mask_of(none if region_lengths is None else region_lengths, regions.shape[1]),
        images=images,
    )


def load_side(model: VSE, side: str, state: dict[str, Tensor], case: Case) -> VSE:
    """Fill the image or the text encoder, whose official keys are complete; the other stays as it is."""
    prefix = {"image": "img_enc.", "text": "txt_enc."}[side]
    official = {prefix + name: tensor for name, tensor in state.items() if UNUSED not in name}
    rest = {name: tensor for name, tensor in model.published_state().items() if not name.startswith(prefix)}
    model.load_published(official | rest, where=case.key)
    return model.eval()


def gradients(model: VSE) -> dict[str, Tensor]:
    named = model.named_parameters()
    return {model.published_keys(name)[0]: p.grad for name, p in named if p.grad is not None}


def compare_gradients(case: Case, model: VSE, prefix: str, values: dict[str, Tensor]) -> None:
    ours, official = gradients(model), under("grad.", values)
    assert official
    for name, expected in official.items():
        compare(case, ours[prefix + name], expected)


def check_positional_encoding(case: Case) -> None:
    values = tensors(case)
    for name in ("pe", "pe_small"):
        compare(case, positional_encoding(*values[f"out.{name}"].shape), values[f"out.{name}"])


def check_gpo(case: Case) -> None:
    values = tensors(case)
    pooling = GeneralizedPooling(
        RecurrentCoefficients(size=case.entry["config"]["d_pe"], hidden=case.entry["config"]["d_hidden"])
    )
    pooling.coefficients.load_state_dict(under("state.", values))
    features = values["in.features"].requires_grad_()
    mask = mask_of(values["in.lengths"], features.shape[1])
    pooled = pooling(features, mask)
    compare(case, pooled, values["out.pooled"])
    loss = (pooled * values["in.cotangent"]).sum()
    compare(case, loss, values["out.loss"])
    loss.backward()
    for name, expected in under("grad.", values).items():
        found = features.grad if name == "features" else pooling.coefficients.get_parameter(name).grad
        compare(case, found, expected)
    width = values["out.pool_weights"].shape[1]
    with torch.no_grad():
        for _ in range(2):  # the second time from what evaluation keeps
            weights = pooling.eval().weights(mask.sum(dim=1), width)
            compare(case, weights.unsqueeze(-1), values["out.pool_weights"])
            compare(case, pooling(features, mask), values["out.pooled"])


def check_simple_pooling(case: Case) -> None:
    values = tensors(case)
    features, mask = values["in.features"], mask_of(values["in.lengths"], values["in.features"].shape[1])
    for k in (1, 2, 4):
        compare(case, KMaxPooling(k)(features, mask), values[f"out.maxk{k}_var"])
    compare(case, AveragePooling()(features, mask), values["out.avg_var"])
    compare(case, KMaxPooling(1)(features, mask), values["out.max_var"])
    full = values["in.full"]
    for k in (1, 3):
        compare(case, KMaxPooling(k)(full, torch.ones(full.shape[:2], dtype=torch.bool)), values[f"out.maxk{k}_full"])
    short = values["in.features_short"], mask_of(values["in.lengths_short"], values["in.features_short"].shape[1])
    compare(case, KMaxPooling(4)(*short), values["out.maxk4_var_short_fixed"])
    compare(case, KMaxPooling(4, official=True)(*short), values["out.maxk4_var_short_official"])


def region_model(case: Case, values: dict[str, Tensor]) -> VSE:
    config = case.entry["config"]
    made = VSEConfig(
        text="bigru",
        vocabulary=5,
        word_dim=3,
        region_dim=config["img_dim"],
        hidden=config["embed_size"],
        normalise=not config.get("no_imgnorm", False),
    ).build()
    return load_side(made, "image", under("state.", values), case)


def check_region_encoder(case: Case) -> None:
    values = tensors(case)
    model = region_model(case, values)
    batch = batch_of(regions=values["in.images"], region_lengths=values["in.lengths"])
    compare(case, model.image.projection(batch.regions), values["out.pre_pool"])
    weights = model.image.pooling.weights(batch.region_mask.sum(dim=1), batch.regions.shape[1])
    compare(case, weights.unsqueeze(-1), values["out.pool_weights"])
    embedded = model.embed_images(batch)
    compare(case, embedded, values["out.features"])
    loss = (embedded * values["in.cotangent"]).sum()
    compare(case, loss, values["out.loss"])
    loss.backward()
    compare_gradients(case, model, "img_enc.", values)
    compare(case, model.train().embed_images(batch), values["out.features_train"])
    compare(case, model.image.projection.norm.running_mean, values["out.running_mean_after_train"])


def check_region_augmentation(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    model = region_model(case, values)
    chosen = [number // config["im_div"] for number in config["dataset_indices"]]
    regions = values["in.images"][chosen]
    whole = batch_of(regions=regions, region_lengths=torch.full((len(regions),), regions.shape[1]))
    assert config["drop_threshold"] == RATE
    for name in ("on", "off"):
        batch = whole
        if name == "on":
            batch = take_regions(whole, kept_regions(values["in.uniform_on"], whole.region_mask))
        compare(case, batch.regions, values[f"out.padded_{name}"])
        compare(case, batch.region_mask.sum(dim=1).float(), values[f"out.lengths_{name}"])
        compare(case, model.embed_images(batch), values[f"out.features_{name}"])


def check_grid_encoder(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    model = VSEConfig(text="bigru", vocabulary=5, word_dim=3, hidden=config["embed_size"]).build()
    width = config["base_width"]
    trunk = ResidualTrunk(
        blocks=tuple(config["layers"]), width=width, stem_channels=width, out_channels=4 * width, caffe=True
    )
    pooling = GeneralizedPooling(RecurrentCoefficients())
    model.image = GridEncoder(trunk, GridHead(config["img_dim"], config["embed_size"], pooling))
    load_side(model, "image", under("state.", values), case)
    batch = batch_of(images=values["in.images"])
    compare(case, trunk(batch.images), values["out.grid"])
    embedded = model.embed_images(batch)
    compare(case, embedded, values["out.features"])
    loss = (embedded * values["in.cotangent"]).sum()
    compare(case, loss, values["out.loss"])
    loss.backward()
    compare_gradients(case, model, "img_enc.", values)


def check_trainable_stages(case: Case) -> None:
    trunk = ResidualTrunk(blocks=(1, 1, 1, 1), width=2, stem_channels=2, out_channels=4)
    stages = {
        "base.0": [trunk.stem.weight],
        "base.1": list(trunk.stem.norm.parameters()),
        **{
            name: list(trunk.get_submodule(f"res{number}").parameters())
            for name, number in (("base.4", 2), ("base.5", 3), ("base.6", 4), ("top", 5))
        },
    }
    for fixed, expected in case.entry["expected"]["requires_grad"].items():
        trunk.train_stages(None if fixed == "frozen" else int(fixed))
        assert {name: all(p.requires_grad for p in held) for name, held in stages.items()} == expected
        assert all(any(p.requires_grad for p in held) == expected[name] for name, held in stages.items())
    norms = [part for part in trunk.train().modules() if isinstance(part, nn.BatchNorm2d)]
    assert trunk.training
    assert any(part.training for part in norms) == case.entry["expected"]["backbone_bn_training"]


def check_grid_augmentation(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    head = GridHead(config["img_dim"], config["embed_size"], GeneralizedPooling(RecurrentCoefficients())).eval()
    state = under("state.", values)
    head.project.load_state_dict(under("fc.", state) or under("image_encoder.fc.", state))
    head.pooling.coefficients.load_state_dict(under("gpool.", state) or under("image_encoder.gpool.", state))
    grid = values["in.grid"]
    compare(case, head(grid, torch.ones(grid.shape[:2], dtype=torch.bool)), values["out.features_eval"])
    compare(
        case,
        head(*dropped_grids(grid, values["in.uniform_grid"], values["in.uniform_sample"])),
        values["out.features_aug"],
    )
    states, mask = dropped_grids(grid, values["in.uniform_grid2"], values["in.uniform_sample2"])
    compare(case, states, values["out.padded2"][:, : states.shape[1]])
    assert torch.equal(mask.sum(dim=1), values["out.lengths2"])
    compare(case, head(states, mask), values["out.features_aug2"])


def picks(words: list[int], draws: list[float], chosen: list[int]) -> Iterator[int]:
    """Lay the replacements that the authors drew one after the other where a replaced piece asks for one."""
    queue = iter(chosen)
    for word in words:
        yield next(queue) if 0.5 <= draws[word] / RATE < 0.6 else 0
    assert next(queue, None) is None


def check_words(case: Case, framed: bool) -> None:
    vocabulary = case.entry["config"]["vocab"]
    unknown = vocabulary["[UNK]" if framed else "<unk>"]
    for example in case.entry["expected"]:
        ids, words, draws, chosen = published_caption(example, vocabulary, unknown, framed=framed)
        batch = batch_of(ids=torch.tensor([ids]), lengths=torch.tensor([len(ids)]))
        if example["train"]:
            spread = torch.ones(1, len(ids), dtype=torch.float64)
            spread[0, : len(draws)] = torch.tensor(draws, dtype=torch.float64)
            batch = augmented_words(
                batch,
                spread,
                torch.tensor([list(picks(words, [*draws, 1.0], chosen))]),
                words=torch.tensor([words]),
                mask_id=vocabulary["[MASK]" if framed else "<mask>"],
                framed=framed,
            )
        assert batch.input_ids[batch.text_mask].tolist() == example["ids"]


def published_caption(
    example: dict[str, Any], vocabulary: dict[str, int], unknown: int, *, framed: bool
) -> tuple[list[int], list[int], list[float], list[int]]:
    """Return ids with their frame, the word of each, a draw for each word, and the replacements."""
    if not framed:
        ids = [1, *(vocabulary.get(token, unknown) for token in example["tokens"]), 2]
        return ids, list(range(len(ids))), example["uniform_draws"], example["random_id_picks"]
    pieces = [[vocabulary["[CLS]"]], *([vocabulary[p] for p in word] for word in example["pieces"])]
    pieces.append([vocabulary["[SEP]"]])
    ids = [piece for word in pieces for piece in word]
    words = [number for number, word in enumerate(pieces) for _ in word]
    draws = [1.0, *example["uniform_draws"], 1.0]
    return ids, words, draws, [vocabulary[token] for token in example["random_token_picks"]]


def bert_config(sizes: dict[str, Any], hidden: int, **others: Any) -> VSEConfig:
    return VSEConfig(
        text="bert",
        hidden=hidden,
        vocabulary=sizes["vocab_size"],
        bert_hidden=sizes["hidden_size"],
        layers=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        intermediate=sizes["intermediate_size"],
        positions=sizes["max_position_embeddings"],
        dropout=0.0,
        **others,
    )


def check_text_encoder(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    if "hidden_size" in config:
        model = bert_config(config, config["embed_size"], region_dim=10).build()
    else:
        model = VSEConfig(
            text="bigru",
            vocabulary=config["vocab"],
            word_dim=config["word_dim"],
            gru_layers=config["num_layers"],
            hidden=config["embed_size"],
            region_dim=10,
        ).build()
    load_side(model, "text", under("state.", values), case)
    batch = batch_of(ids=values["in.ids"], lengths=values["in.lengths"])
    states = model.text.states(batch)
    expected = values["out.bert_hidden" if "hidden_size" in config else "out.words"]
    compare(case, states[batch.text_mask], expected[batch.text_mask])
    embedded = model.embed_texts(batch)
    compare(case, embedded, values["out.features"])
    loss = (embedded * values["in.cotangent"]).sum()
    compare(case, loss, values["out.loss"])
    loss.backward()
    compare_gradients(case, model, "txt_enc.", values)
    if "out.pool_weights" in values:
        weights = model.text.pooling.weights(batch.text_mask.sum(dim=1), batch.text_mask.shape[1])
        compare(case, weights.unsqueeze(-1), values["out.pool_weights"])


def check_loss(case: Case) -> None:
    values = tensors(case)
    for name, hardest in (("off", False), ("on", True)):
        images, captions = (values[f"in.{side}"].clone().requires_grad_() for side in ("images", "captions"))
        loss = hinge_loss(images, captions, margin=case.entry["config"]["margin"], hardest=hardest).mean()
        compare(case, loss, values[f"out.loss_{name}"])
        loss.backward()
        compare(case, images.grad, values[f"grad.{name}.images"])
        compare(case, captions.grad, values[f"grad.{name}.captions"])


def module_of(key: str) -> str:
    """Return the published module that a key belongs to, as the index names them."""
    parts = key.split(".")
    return ".".join(parts[:3] if parts[1] == "backbone" else parts[:2])


def small_model(**others: Any) -> VSE:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = bert_config({"vocab_size": 9, "max_position_embeddings": 9, **sizes}, 8, region_dim=4, **others)
    model = config.build()
    if config.image == "grid":
        trunk = ResidualTrunk(blocks=(1, 1, 1, 1), width=2, stem_channels=2, out_channels=4)
        model.image = GridEncoder(trunk, GridHead(32, 8, GeneralizedPooling(RecurrentCoefficients())))
    return model


def check_groups(case: Case) -> None:
    rate = case.entry["config"]["learning_rate"]
    for name, image in (("basic_adam", "region"), ("backbone_adam", "grid")):
        model = small_model(image=image)
        keys = {id(parameter): model.published_keys(name)[0] for name, parameter in model.named_parameters()}
        expected = case.entry["expected"][name]
        groups = model.parameter_groups(backbone_rate=case.entry["config"]["backbone_lr_factor"])
        assert len(groups) == len(expected)
        for group, official in zip(groups, expected, strict=True):
            modules = sorted({module_of(keys[id(parameter)]) for parameter in group["params"]})
            assert modules == official["modules"]
            np.testing.assert_allclose(rate * group["multiplier"], official["lr"])
            assert group["weight_decay"] == official["weight_decay"]
    # Plain SGD with momentum is an option of the release that none of its commands takes; vltk has none.


def check_groups_bigru(case: Case) -> None:
    model = VSEConfig(text="bigru", vocabulary=5, word_dim=3, hidden=8, region_dim=4).build()
    (group,), (expected,) = model.parameter_groups(), case.entry["expected"]
    assert case.entry["config"]["learning_rate"] * group["multiplier"] == expected["lr"]
    assert group["weight_decay"] == expected["weight_decay"]
    assert len(group["params"]) == expected["tensors"] - 2  # weight and bias of the norm that never runs


def check_train_step(case: Case) -> None:
    values, config = tensors(case), case.entry["config"]
    state = {name: tensor for name, tensor in under("state.", values).items() if UNUSED not in name}
    model = bert_config(config["bert"], 16, region_dim=10).build()
    model.load_published(state, where=case.key)
    before = {name: tensor.clone() for name, tensor in model.published_state().items()}
    # One of four iterations in the epoch behind the warm-up of the embedding: the loss is scaled by a quarter.
    module = DualTraining(model, margin=config["margin"]).train()
    assert DualSchedule().at(1, 1, 3, grid=True).loss_share == config["warmup_alpha"]
    groups = model.parameter_groups()
    for group in groups:
        group["lr"] = config["lr"] * group["multiplier"]
    optimizer = torch.optim.AdamW(groups)
    batch = batch_of(
        regions=values["in.images"],
        region_lengths=values["in.image_lengths"],
        ids=values["in.ids"],
        lengths=values["in.lengths"],
    )
    loss = module(HARDEST if config["max_violation"] else ALL, batch, torch.Generator()).mean()
    (loss * config["warmup_alpha"]).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config["grad_clip"])
    found = gradients(model)
    norm = torch.stack([gradient.square().sum() for gradient in found.values()]).sum().sqrt()
    compare(case, norm, values["out.grad_norm_after_clip"])
    for name, expected in under("out.clipped_grad.", values).items():
        compare(case, found[name], expected)
    optimizer.step()
    after = model.published_state()
    for name, expected in under("out.after.", values).items():
        compare(case, after[name], expected)
    for name, expected in under("out.delta.", values).items():
        compare(case, after[name] - before[name], expected)


def check_schedule(case: Case) -> None:
    settings, iterations = case.entry["config"]["args"], case.entry["config"]["iterations_per_epoch"]
    grid = settings["precomp_enc_type"] == "backbone"
    warmups = {
        "embedding_warmup": int(settings.get("embedding_warmup_epochs", 1)),
        "backbone_warmup": int(settings.get("backbone_warmup_epochs", 0)),
    }
    schedule = DualSchedule(
        mean_warmup=int(settings["vse_mean_warmup_epochs"]), decay_epoch=int(settings["lr_update"]), **warmups
    )
    model = small_model(image="grid" if grid else "region")
    groups = model.parameter_groups(backbone_rate=float(settings.get("backbone_lr_factor", 1)))
    blocks = {"layer4": "res5", "layer3": "res4", "layer2": "res3", "layer1": "res2", "conv1": "stem", "bn1": "stem"}
    for moment in case.entry["expected"]:
        phase = schedule.at(moment["epoch"], moment["iteration"], iterations, grid=grid)
        rates = [float(settings["learning_rate"]) * group["multiplier"] * phase.rate_share for group in groups]
        assert phase.hardest == moment["max_violation"]
        assert phase.loss_share == moment["warmup_alpha"]
        np.testing.assert_allclose(rates, moment["lrs"])
        if grid:
            model.trunk.train_stages(phase.fixed_stages)
            free = [
                name
                for name, ours in blocks.items()
                if all(parameter.requires_grad for parameter in model.trunk.get_submodule(ours).parameters())
            ]
            assert free == moment["trainable_backbone"]


CHECKS: dict[str, Callable[[Case], None]] = {
    "vse/vse_positional_encoding": check_positional_encoding,
    "vse/vse_gpo_*": check_gpo,
    "vse/vse_simple_pooling": check_simple_pooling,
    "vse/vse_region_encoder*": check_region_encoder,
    "vse/vse_size_augmentation_regions": check_region_augmentation,
    "vse/vse_size_augmentation_grid": check_grid_augmentation,
    "vse/vse_grid_encoder": check_grid_encoder,
    "vse/vse_backbone_trainable_table": check_trainable_stages,
    "vse/vse_bert_text_encoder": check_text_encoder,
    "vse/vse_bigru_text_encoder_*": check_text_encoder,
    "vse/vse_caption_augmentation_bert": lambda case: check_words(case, framed=True),
    "vse/vse_caption_augmentation_bigru": lambda case: check_words(case, framed=False),
    "vse/vse_triplet_loss": check_loss,
    "vse/vse_optimizer_groups": check_groups,
    "vse/vse_optimizer_groups_bigru": check_groups_bigru,
    "vse/vse_train_step": check_train_step,
    "vse/vse_schedule_*": check_schedule,
}
