"""A published WMT'19 directory of fairseq, read without fairseq and without executing any of it.

``model*.pt`` comes in two layouts: with ``args`` (the 2019 archives: fused attention projections, no output
projection) and with ``cfg`` (fairseq 0.12: copies of the encoder's weights for its fast path). Older names are known
from fairseq's own upgrade rules. What a checkpoint pickles beside tensors is an ``argparse.Namespace``, which is
admitted as data.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vltk.errors import DataError, did_you_mean
from vltk.language._subwords import Dictionary
from vltk.language._transformer import TransformerConfig, TranslationTransformer

_MODEL_NAME = re.compile(r"model\d*\.pt")
_DROPPED = re.compile(
    r"(en|de)coder\.(version|embed_positions\.(_float_tensor|weights))"
    r"|encoder\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)"
)
_FUSED = re.compile(r"(.*attn\.)in_proj_(weight|bias)")
_OLD_NORM = re.compile(r"((?:en|de)coder)(\.layers\.\d+\.)layer_norms\.([012])(\..*)")
_NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}
# Switches of fairseq that change what is computed and that no published WMT model turns on.
_UNSUPPORTED = (
    "encoder_learned_pos",
    "decoder_learned_pos",
    "adaptive_softmax_cutoff",
    "adaptive_input",
    "layernorm_embedding",
    "no_token_positional_embeddings",
    "no_cross_attention",
    "cross_self_attention",
    "character_embeddings",
)


def checkpoint_files(folder: Path, names: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """Return the checkpoints of a directory: those named, or every ``model.pt``, ``model1.pt``, ... as one ensemble.

    Raises:
        DataError: there is none.
    """
    present = sorted(path.name for path in folder.glob("*.pt"))
    for name in names:
        if name not in present:
            raise DataError(f"holds no {name}", where=folder, remedy=did_you_mean(name, present))
    chosen = names or tuple(name for name in present if _MODEL_NAME.fullmatch(name))
    if not chosen:
        remedy = "give the unpacked folder of a published WMT'19 model"
        raise DataError(f"holds no model*.pt (but {', '.join(present) or 'nothing'})", where=folder, remedy=remedy)
    return tuple(folder / name for name in chosen)


def load_transformer(path: Path, source: Dictionary, target: Dictionary) -> TranslationTransformer:
    """Return the model of a checkpoint, ready to translate.

    Args:
        path: the checkpoint.
        source: the pieces of the source language, which have to fit its embeddings.
        target: the pieces of the target language.

    Raises:
        DataError: damaged, pickled code, another architecture, or dictionaries of another model.
    """
    content = _read(path)
    settings = _settings(content, path)
    state = upgraded(content["model"])
    _check_dictionaries(state, source, target, path)
    model = TranslationTransformer(_config(settings, state, path))
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    if missing or unexpected:
        problem = f"lacks {missing[:2]} and has {unexpected[:2]} too many"
        raise DataError(problem, where=path, remedy="give a Transformer that fairseq's translation task trained")
    return model.eval()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
        raise DataError(
            f"is no checkpoint that can be read ({reason})", where=path, remedy="download it again"
        ) from None
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        remedy = "give a model*.pt of fairseq"
        raise DataError("holds no 'model' with weights", where=path, remedy=remedy)
    if not all(isinstance(value, Tensor) for value in content["model"].values()):
        raise DataError("has weights that are no tensors", where=path, remedy="download it again")
    return content


def _settings(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found = content.get("args")
    if found is None and isinstance(content.get("cfg"), Mapping):
        found = content["cfg"].get("model")
    settings = vars(found) if isinstance(found, argparse.Namespace) else found
    if not isinstance(settings, Mapping) or "encoder_embed_dim" not in settings:
        remedy = "give a Transformer that fairseq's translation task trained"
        raise DataError("does not say how large its Transformer is", where=path, remedy=remedy)
    for name in _UNSUPPORTED:
        if settings.get(name):
            remedy = "translate with --engine fairseq"
            raise DataError(f"was trained with {name}, which is not supported", where=path, remedy=remedy)
    return dict(settings)


def _config(settings: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> TransformerConfig:
    hidden = settings["encoder_embed_dim"]
    if settings.get("decoder_embed_dim", hidden) != hidden:
        problem = f"has an encoder of size {hidden} and a decoder of size {settings['decoder_embed_dim']}"
        raise DataError(problem, where=path, remedy="translate with --engine fairseq")
    if settings.get("activation_fn", "relu") not in ("relu", "gelu"):
        problem = f"has the activation {settings['activation_fn']!r}, known are relu and gelu"
        raise DataError(problem, where=path, remedy="translate with --engine fairseq")
    return TransformerConfig(
        source_vocabulary=len(state["encoder.embed_tokens.weight"]),
        target_vocabulary=len(state["decoder.embed_tokens.weight"]),
        hidden=hidden,
        encoder_layers=settings["encoder_layers"],
        decoder_layers=settings["decoder_layers"],
        encoder_heads=settings["encoder_attention_heads"],
        decoder_heads=settings["decoder_attention_heads"],
        encoder_intermediate=settings["encoder_ffn_embed_dim"],
        decoder_intermediate=settings["decoder_ffn_embed_dim"],
        activation=settings.get("activation_fn", "relu"),
        scale_embedding=not settings.get("no_scale_embedding", False),
        encoder_norm_first=bool(settings.get("encoder_normalize_before", False)),
        decoder_norm_first=bool(settings.get("decoder_normalize_before", False)),
        share_embeddings=bool(settings.get("share_all_embeddings", False)),
        share_output=bool(settings.get("share_decoder_input_output_embed", False)),
        positions=min(settings.get("max_source_positions") or 1024, settings.get("max_target_positions") or 1024),
    )


def upgraded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of any published layout under the names of fairseq 0.12.

    Args:
        state: the weights as the checkpoint names them.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if _DROPPED.fullmatch(name):
            continue
        if old := _OLD_NORM.fullmatch(name):
            side, layer, number, rest = old.groups()
            name = f"{side}{layer}{_NORMS[side][int(number)]}{rest}"
        if fused := _FUSED.fullmatch(name):
            prefix, kind = fused.groups()
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{prefix}{letter}_proj.{kind}"] = part
        else:
            renamed[name] = value
    if "decoder.embed_out" in renamed:
        renamed["decoder.output_projection.weight"] = renamed.pop("decoder.embed_out")
    if "decoder.embed_tokens.weight" in renamed:
        renamed.setdefault("decoder.output_projection.weight", renamed["decoder.embed_tokens.weight"])
    return renamed


def _check_dictionaries(state: Mapping[str, Tensor], source: Dictionary, target: Dictionary, path: Path) -> None:
    for side, dictionary in (("encoder", source), ("decoder", target)):
        table = state.get(f"{side}.embed_tokens.weight")
        if table is None:
            raise DataError(f"has no embeddings of its {side}", where=path, remedy="give a translation model")
        if len(table) != len(dictionary):
            kind = "source" if side == "encoder" else "target"
            problem = f"has {len(table)} {kind} pieces, its dictionary {len(dictionary)}"
            raise DataError(problem, where=path, remedy="give the dict.xx.txt files that came with the checkpoint")
