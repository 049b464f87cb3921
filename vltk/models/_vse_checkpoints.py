"""VSE-infinity's weights from anywhere: the authors' files, vltk's, a BERT, a detector; and back to the authors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vltk.errors import DataError, UsageError
from vltk.models._dual_checkpoints import (
    IMAGE,
    TEXT,
    DualCheckpoint,
    DualFile,
    check_sizes,
    own_checkpoint,
    own_config,
    plain_options,
    read_dual_file,
    write_own,
    write_published,
)
from vltk.models._grids import BLOCKS, Trunk
from vltk.models._text_encoders import BERTText
from vltk.models._vse import VSE, VSEConfig

HEAD_SIZE = 64
"""Dimensions of an attention head in BERT."""
# Never run, or the same tensors once more under other names.
_IGNORED = re.compile(r"img_enc\.(image_encoder\.)?mlp\.bns\.1\.|img_enc\.backbone\.resnet\.|.*\.position_ids$")
_SHOWN = 5


def read_vse(path: Path, *, heads: int | None = None) -> DualCheckpoint[VSE]:
    """Read a VSE-infinity; nothing in the file is executed.

    Args:
        path: the authors' .pth, one of vltk's files, or a run's folder.
        heads: of BERT's attention, where they are not one for every 64 dimensions.

    Raises:
        DataError: not there, damaged, another model, or keys that do not fit, which are named.
    """
    file = read_dual_file(path)
    if file.own is not None:
        return own_checkpoint(file, _own_config(file).build())
    official = {name: tensor for name, tensor in file.weights.items() if not _IGNORED.match(name)}
    model = infer_config(official, file, heads=heads).build()
    model.load_published(official, where=str(file.path))
    return DualCheckpoint(model=model.eval(), file=file, layout="published", options=file.options)


def _own_config(file: DualFile) -> VSEConfig:
    config = own_config(file, "vse", VSEConfig)
    folder = config.backbone_folder
    return replace(config, backbone_folder=None if folder is None else Path(folder))


def infer_config(official: Mapping[str, Tensor], file: DualFile, *, heads: int | None = None) -> VSEConfig:
    """Return the size that published weights tell.

    Args:
        official: weights under published names.
        file: where they come from, for its options.
        heads: of BERT's attention, where they are not one for every 64 dimensions.

    Raises:
        DataError: neither regions nor grids, neither a BERT nor a GRU, or shapes that contradict each other.
    """
    image: dict[str, Any]
    _refuse_plain(official, file)
    if IMAGE + "fc.weight" in official:
        image = {"image": "region", "region_dim": official[IMAGE + "fc.weight"].shape[1]}
        hidden, pool = len(official[IMAGE + "fc.weight"]), IMAGE
    elif IMAGE + "image_encoder.fc.weight" in official:
        image = {"image": "grid", **_network(official, file)}
        hidden, pool = len(official[IMAGE + "image_encoder.fc.weight"]), IMAGE + "image_encoder."
    else:
        problem = f"is no VSE-infinity of regions or grids (it holds {', '.join(list(official)[:3])}, ...)"
        raise DataError(problem, where=file.path, remedy="use another file")
    text = _text_sizes(official, file, heads)
    normalise = not file.options.get("no_imgnorm", False)
    poolings: dict[str, Any] = {"image_pooling": _pooling(official, pool), "text_pooling": _pooling(official, TEXT)}
    return VSEConfig(hidden=hidden, normalise=normalise, **image, **text, **poolings)


def _refuse_plain(official: Mapping[str, Tensor], file: DualFile) -> None:
    """Refuse VSE++ as its own authors saved it; that of VSE-infinity's tables is their model with other pooling."""
    mapped, read = IMAGE + "fc.weight" in official, TEXT + "rnn.weight_hh_l0" in official
    richer = any(name.startswith(IMAGE + "mlp.") for name in official) or TEXT + "rnn.weight_hh_l0_reverse" in official
    if mapped and read and not richer:
        problem = "is a VSE++ or a VSRN, which read texts in one direction and regions without a perceptron"
        raise DataError(problem, where=file.path, remedy="use vltk convert vsrn, which takes both")


def _pooling(official: Mapping[str, Tensor], side: str) -> str:
    return "gpo" if f"{side}gpool.linear.weight" in official else "average"


def _text_sizes(official: Mapping[str, Tensor], file: DualFile, heads: int | None) -> dict[str, Any]:
    if TEXT + "embed.weight" in official:
        vocabulary, word_dim = official[TEXT + "embed.weight"].shape
        layers = sum(bool(re.fullmatch(rf"{TEXT}rnn\.weight_ih_l\d+", name)) for name in official)
        return {"text": "bigru", "vocabulary": vocabulary, "word_dim": word_dim, "gru_layers": layers}
    start = TEXT + "bert.embeddings."
    if start + "word_embeddings.weight" not in official:
        raise DataError("holds neither a BERT nor a GRU for texts", where=file.path, remedy="use another file")
    vocabulary, size = official[start + "word_embeddings.weight"].shape
    numbers = {int(found[1]) for name in official if (found := re.match(r".*bert\.encoder\.layer\.(\d+)\.", name))}
    if heads is None and size % HEAD_SIZE:
        problem = f"a BERT of size {size} does not tell the number of its attention heads"
        raise DataError(problem, where=file.path, remedy="give --heads")
    first = official.get(TEXT + "bert.encoder.layer.0.intermediate.dense.weight")
    return {
        "text": "bert",
        "vocabulary": vocabulary,
        "bert_hidden": size,
        "layers": len(numbers),
        "heads": heads or size // HEAD_SIZE,
        "intermediate": 0 if first is None else len(first),
        "positions": len(official[start + "position_embeddings.weight"]),
    }


def _network(official: Mapping[str, Tensor], file: DualFile) -> dict[str, Any]:
    blocks = {int(found[1]) for name in official if (found := re.match(rf"{IMAGE}backbone\.base\.6\.(\d+)\.", name))}
    depth = {stages[2]: depth for depth, stages in BLOCKS.items()}.get(len(blocks))
    if depth is None:
        problem = f"a network whose third stage has {len(blocks)} blocks"
        raise DataError(problem, where=file.path, remedy="use one of 50, 101 or 152 layers")
    source = str(file.options.get("backbone_source", "detector"))
    grouped = official[IMAGE + "backbone.base.4.0.conv2.weight"]
    if grouped.shape[0] != grouped.shape[1]:
        return {"backbone": "resnext", "backbone_depth": depth}
    return {"backbone": "imagenet" if source.startswith("imagenet") else "detector", "backbone_depth": depth}


def describe(model: VSE, *, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a file of vltk says of a model."""
    return {"model": "vse", "config": asdict(model.config), "options": dict(options or {})}


def save_vse(found: DualCheckpoint[VSE], path: Path) -> str:
    """Write one of vltk's files (.safetensors) or the authors' layout (.pth, .tar); return its layout.

    Raises:
        VltkError: it cannot be written; nothing is left behind.
        UsageError: the authors' layout for a model of videos, which they never published.
    """
    model = found.model
    if path.suffix == ".safetensors":
        write_own(path, model.state_dict(), describe(model, options=plain_options(found.options)))
        return "vltk"
    if model.config.image == "frame":
        problem = "is a model of videos, for which the authors published no layout"
        raise UsageError(problem, where=found.file.path, remedy="write a .safetensors")
    official = model.published_state()
    if model.config.image == "region":
        official |= _unused_norm(model.config.hidden)
    # The authors train a GRU on regions without DataParallel, everything else with it.
    prefixed = not (model.config.image == "region" and model.config.text == "bigru")
    write_published(
        path,
        official,
        options=found.options or published_options(model.config),
        prefixed=prefixed,
        epoch=found.file.epoch or 0,
        best=found.file.best or 0.0,
    )
    return "published"


def _unused_norm(hidden: int) -> dict[str, Tensor]:
    """Return the norm that the authors' perceptron has behind its last layer and never runs."""
    start = IMAGE + "mlp.bns.1."
    ones, zeros = torch.ones(hidden), torch.zeros(hidden)
    values = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones}
    return {start + name: value.clone() for name, value in values.items()} | {
        start + "num_batches_tracked": torch.tensor(0)
    }


def published_options(config: VSEConfig) -> dict[str, Any]:
    """Return the options that the authors' evaluation reads of a checkpoint."""
    return {
        "embed_size": config.hidden,
        "img_dim": config.region_dim if config.image == "region" else 2048,
        "word_dim": config.word_dim,
        "num_layers": config.gru_layers,
        "precomp_enc_type": "basic" if config.image == "region" else "backbone",
        "backbone_source": {"imagenet": "imagenet", "resnext": "wsl"}.get(config.backbone, "detector"),
        "no_imgnorm": not config.normalise,
        "no_txtnorm": not config.normalise,
        "bi_gru": config.text == "bigru",
        "margin": 0.2,
    }


def start_from(config: VSEConfig, path: Path) -> tuple[VSE, list[str]]:
    """Build a model that begins with the weights of a VSE-infinity, of a BERT, or of a network for grids.

    A VSE-infinity brings all its sizes, a BERT its own; what the weights lack is fresh.

    Args:
        config: what is wanted; its vocabulary and feature size are those of the stores.
        path: a checkpoint as for :func:`read_vse`; a folder of a BERT with its ``config.json``; or bottom-up
            attention's network as the authors published it (``original_updown_backbone.pth``).

    Returns:
        The model, and what stayed fresh, for people.

    Raises:
        DataError: of another vocabulary or feature size, or nothing that the model could begin with.
        UsageError: a BERT for a model with a GRU, or a network for a model of regions.
    """
    if path.is_dir() and (path / "config.json").is_file():
        return _from_bert(config, path)
    parts = None if path.suffix == ".safetensors" or path.is_dir() else _network_file(path)
    if parts is not None:
        return _from_network(config.build(), parts, path)
    found = read_vse(path)
    theirs = found.model.config
    names = ("vocabulary", "region_dim") if theirs.image != "grid" else ("vocabulary",)
    sizes = {name: getattr(config, name) for name in names}
    check_sizes({name: getattr(theirs, name) for name in names}, sizes, where=found.file.path)
    return found.model.train(), []


def _from_bert(config: VSEConfig, folder: Path) -> tuple[VSE, list[str]]:
    from transformers import BertModel

    if config.text != "bert":
        raise UsageError("is a BERT, and the model reads texts with a GRU", where=folder, remedy="use --text bert")
    try:
        bert: Any = BertModel.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"holds no BERT ({reason})", where=folder, remedy="name a folder of transformers") from error
    size = bert.config
    if size.vocab_size != config.vocabulary:
        problem = f"has a vocabulary of {size.vocab_size}, the examples one of {config.vocabulary}"
        raise DataError(problem, where=folder, remedy="prepare the examples with its vocab.txt")
    model = replace(
        config,
        bert_hidden=size.hidden_size,
        layers=size.num_hidden_layers,
        heads=size.num_attention_heads,
        intermediate=size.intermediate_size,
        positions=size.max_position_embeddings,
    ).build()
    if not isinstance(model.text, BERTText):
        raise TypeError(type(model.text).__name__)
    model.text.bert.load_state_dict(bert.state_dict())
    return model, ["all but BERT freshly initialised"]


def _network_file(path: Path) -> dict[str, Mapping[str, Tensor]] | None:
    """Return the two parts of the authors' file of bottom-up attention's network; None for another file."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # not such a file; the reader of checkpoints says what is wrong with it
        return None
    return dict(found) if isinstance(found, Mapping) and found.keys() == {"base", "top"} else None


def _from_network(model: VSE, parts: Mapping[str, Mapping[str, Tensor]], path: Path) -> tuple[VSE, list[str]]:
    trunk = model.trunk
    if not isinstance(trunk, Trunk):
        raise UsageError("is a network for grids, and the model has none", where=path, remedy="use --image grid")
    official = {
        f"{IMAGE}backbone.{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()
    }
    ours = {name: model.published_keys(name)[0] for name in model.state_dict() if name.startswith("image.trunk.")}
    missing = [key for key in ours.values() if key not in official and not key.endswith("num_batches_tracked")]
    if missing:
        raise DataError(f"lacks {', '.join(missing[:_SHOWN])}", where=path, remedy="use a network of this depth")
    state = model.state_dict()
    model.load_state_dict(state | {name: official.get(key, state[name]) for name, key in ours.items()})
    return model, ["all but the network of the grid freshly initialised"]
