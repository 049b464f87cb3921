"""Weights of an SSRP from its runs, and of an SSRP-Cross from an LXMERT of the same depth.

An LXMERT (Tan and Bansal, 2019) has the encoder of SSRP-Cross and the heads of its first stage. Both layouts are read:
that of transformers and that of the authors' files, which differ in prefixes only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from vltk.config import from_dict
from vltk.errors import DataError, VltkError
from vltk.models._checkpoints import read_tensors, weights_file
from vltk.models._published import JOINED, modern_name
from vltk.models._ssrp import SSRP, SSRPConfig, SSRPForPretraining
from vltk.run_folder import read_about

MODEL = "ssrp"
"""How checkpoints call this model, the name of its file in ``models/``."""

_FREE = {"dropout", "initial_deviation"}
"""Fields of the configuration in which a model may differ from the checkpoint that it starts from."""

_PREFIX = re.compile(r"^(?:module\.)?(?:(?:lxmert|bert)\.)?")
_LAYER = (
    (r"attention\.qkv\.(\w+)", rf"{{attention}}.self.{JOINED}.\1"),
    (r"attention\.output\.(\w+)", r"{attention}.output.dense.\1"),
    (r"attention_norm\.(\w+)", r"{attention}.output.LayerNorm.\1"),
    (r"expand\.(\w+)", r"{inner}.dense.\1"),
    (r"contract\.(\w+)", r"{outer}.dense.\1"),
    (r"output_norm\.(\w+)", r"{outer}.LayerNorm.\1"),
)


def _layer(ours: str, theirs: str, **names: str) -> list[tuple[str, str]]:
    """Return the layout of one Transformer layer; numbers of layers are the first group of ``ours``."""
    found = []
    for pattern, template in _LAYER:
        for name, said in names.items():
            template = template.replace(f"{{{name}}}", said)
        found.append((ours + pattern, theirs + template.replace(r"\1", r"\2")))
    return found


_SELF = {"attention": "attention", "inner": "intermediate", "outer": "output"}
_TEXT = {"attention": "lang_self_att", "inner": "lang_inter", "outer": "lang_output"}
_REGIONS = {"attention": "visn_self_att", "inner": "visn_inter", "outer": "visn_output"}
LAYOUT: tuple[tuple[str, str], ...] = (
    (r"encoder\.text_embedding\.(word|position)\.weight", r"embeddings.\1_embeddings.weight"),
    (r"encoder\.text_embedding\.segment\.weight", r"embeddings.token_type_embeddings.weight"),
    (r"encoder\.text_embedding\.norm\.(\w+)", r"embeddings.LayerNorm.\1"),
    (r"encoder\.region_embedding\.feature\.(\w+)", r"encoder.visn_fc.visn_fc.\1"),
    (r"encoder\.region_embedding\.feature_norm\.(\w+)", r"encoder.visn_fc.visn_layer_norm.\1"),
    (r"encoder\.region_embedding\.box\.(\w+)", r"encoder.visn_fc.box_fc.\1"),
    (r"encoder\.region_embedding\.box_norm\.(\w+)", r"encoder.visn_fc.box_layer_norm.\1"),
    *_layer(r"encoder\.text_layers\.(\d+)\.", r"encoder.layer.\1.", **_SELF),
    *_layer(r"encoder\.region_layers\.(\d+)\.", r"encoder.r_layers.\1.", **_SELF),
    *_layer(r"encoder\.joint_layers\.(\d+)\.text\.", r"encoder.x_layers.\1.", **_TEXT),
    *_layer(r"encoder\.joint_layers\.(\d+)\.regions\.", r"encoder.x_layers.\1.", **_REGIONS),
    (r"encoder\.joint_layers\.(\d+)\.cross\.qkv\.(\w+)", rf"encoder.x_layers.\1.visual_attention.att.{JOINED}.\2"),
    (r"encoder\.joint_layers\.(\d+)\.cross\.output\.(\w+)", r"encoder.x_layers.\1.visual_attention.output.dense.\2"),
    (r"encoder\.joint_layers\.(\d+)\.cross_norm\.(\w+)", r"encoder.x_layers.\1.visual_attention.output.LayerNorm.\2"),
)
HEADS: tuple[tuple[str, str], ...] = (
    (r"word_transform\.0\.(\w+)", r"cls.predictions.transform.dense.\1"),
    (r"word_transform\.2\.(\w+)", r"cls.predictions.transform.LayerNorm.\1"),
    (r"word_bias", r"cls.predictions.bias"),
    (r"region_transform\.0\.(\w+)", r"obj_predict_head.transform.dense.\1"),
    (r"region_transform\.2\.(\w+)", r"obj_predict_head.transform.LayerNorm.\1"),
    (r"region_classifier\.(\w+)", r"obj_predict_head.decoder_dict.obj.\1"),
    (r"attribute_classifier\.(\w+)", r"obj_predict_head.decoder_dict.attr.\1"),
    (r"feature_regressor\.(\w+)", r"obj_predict_head.decoder_dict.feat.\1"),
    (r"matching_transform\.(\w+)", r"pooler.dense.\1"),
    (r"matching\.(\w+)", r"cls.seq_relationship.\1"),
)
"""Heads that an LXMERT may have or lack; what has another shape (classes of another detector) stays fresh."""


def lxmert_names(key: str) -> list[str]:
    """Return what an LXMERT calls one of our weights, three names for a joint projection; none where it has no such.

    Example:
        >>> lxmert_names("encoder.joint_layers.3.text.attention.qkv.bias")[0]
        'encoder.x_layers.3.lang_self_att.self.query.bias'
        >>> lxmert_names("encoder.text_probe.map.weight")
        []
    """
    for pattern, template in (*LAYOUT, *HEADS):
        if found := re.fullmatch(pattern, key):
            parts = ("query", "key", "value") if JOINED in template else ("",)
            return [found.expand(template.replace(JOINED, part)) for part in parts]
    return []


def start_from(model: SSRPForPretraining, path: Path) -> list[str]:
    """Start a model from a checkpoint; see :meth:`SSRPForPretraining.start_from`."""
    file = weights_file(path)
    state = read_tensors(file)
    if (own := _own(state)) is not None:
        _check_size(model.encoder.config, _size_of(file), file)
        return _load(model, own, file)
    if model.encoder.config.variant != "cross":
        problem = f"is no run of SSRP-{model.encoder.config.variant.title()}"
        raise DataError(problem, where=file, remedy="an LXMERT can start SSRP-Cross; the others start from their runs")
    return _load(model, _from_lxmert(model, state, file), file)


def encoder_from(config: SSRPConfig, path: Path) -> tuple[SSRP, list[str]]:
    """Make an encoder with the weights of a checkpoint; see :meth:`SSRPConfig.build_from`."""
    file = weights_file(path)
    if _own(read_tensors(file)) is not None:
        kept = {name: getattr(config, name) for name in _FREE}
        size = _size_of(file)
        if (size.vocabulary, size.region_dim) != (config.vocabulary, config.region_dim):
            problem = f"knows {size.vocabulary} word pieces and features of size {size.region_dim}"
            wanted = f"the stores have {config.vocabulary} and {config.region_dim}"
            raise DataError(f"{problem}, {wanted}", where=file, remedy="use stores made as those that it learnt from")
        config = replace(size, **kept)
    model = SSRPForPretraining(config)
    fresh = start_from(model, path)
    return model.encoder, [note for note in fresh if "probe" in note]


def _own(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the weights of a run under the names of :class:`SSRPForPretraining`, None where it is no run."""
    bare = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
    if "encoder.text_embedding.word.weight" in bare:
        return bare
    if "text_embedding.word.weight" in bare:  # fine-tuned: the encoder alone, beside the task's head
        return {f"encoder.{name}": tensor for name, tensor in bare.items()}
    return None


def _size_of(file: Path) -> SSRPConfig:
    about = read_about(file) if file.suffix == ".safetensors" else {}
    if about.get("model") != MODEL:
        problem = f"is a run of {about.get('model', 'an unknown model')}"
        raise DataError(problem, where=file, remedy="start from a run of SSRP, or from an LXMERT")
    try:
        size: SSRPConfig = from_dict(SSRPConfig, about["config"])
    except (VltkError, KeyError, TypeError) as error:
        raise DataError(f"was written by another version ({error})", where=file, remedy="train it again") from error
    return size


def _check_size(here: SSRPConfig, there: SSRPConfig, file: Path) -> None:
    ours, theirs = asdict(here), asdict(there)
    differing = [name for name in ours if name not in _FREE and ours[name] != theirs[name]]
    if differing:
        wrong = ", ".join(f"{name} {theirs[name]} instead of {ours[name]}" for name in differing)
        remedy = "use the model options of the checkpoint"
        raise DataError(f"is of another kind or size: {wrong}", where=file, remedy=remedy)


def _from_lxmert(model: SSRPForPretraining, state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    official = {modern_name(_PREFIX.sub("", name)): tensor for name, tensor in state.items()}
    if "encoder.x_layers.0.visual_attention.att.query.weight" not in official:
        shown = ", ".join(list(official)[:3]) or "nothing"
        raise DataError(f"is no SSRP and no LXMERT (it holds {shown}, ...)", where=file, remedy="use another file")
    _check_depth(model.encoder.config, official, file)
    found = {}
    for key in model.state_dict():
        names = lxmert_names(key)
        if names and all(name in official for name in names):
            found[key] = torch.cat([official[name] for name in names]) if len(names) > 1 else official[names[0]]
    return found


def _check_depth(config: SSRPConfig, official: Mapping[str, Tensor], file: Path) -> None:
    wanted = {"layer": config.text_layers, "r_layers": config.region_layers, "x_layers": config.joint_layers}
    for name, count in wanted.items():
        numbers = {int(m[1]) for key in official if (m := re.match(rf"encoder\.{name}\.(\d+)\.", key))}
        if numbers != set(range(count)):
            problem = f"has {len(numbers)} layers of encoder.{name}, the model {count}"
            raise DataError(problem, where=file, remedy="give the depth of the checkpoint (LXMERT: 9, 5, 5)")


def _load(model: SSRPForPretraining, weights: Mapping[str, Tensor], file: Path) -> list[str]:
    """Load what fits; what an encoder lacks is an error, heads and probes may stay fresh."""
    state, fresh = model.state_dict(), dict[str, None]()
    for key, own in state.items():
        given = weights.get(key)
        needed = bool(lxmert_names(key)) and key.startswith("encoder.")
        if given is not None and given.shape == own.shape:
            state[key] = given
        elif needed:
            problem = "is missing" if given is None else f"is {list(given.shape)} instead of {list(own.shape)}"
            raise DataError(f"{key} {problem}", where=file, remedy="use a whole checkpoint of the same size")
        else:
            fresh[key.removeprefix("encoder.").split(".")[0]] = None
    model.load_state_dict(state)
    return [f"{name.replace('_', ' ')} freshly initialised" for name in fresh]
