"""VSRN's weights from the authors' files and from vltk's, and back to the authors.

VSE++ is a VSRN without reasoning: a linear map of one vector a picture, and the last state of a GRU. Its authors save
it under the same keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vltk.errors import DataError
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
from vltk.models._vsrn import VSRN, VSRNConfig
from vltk.run_folder import TRAINED_ON, WORD_MASK


def read_vsrn(path: Path) -> DualCheckpoint[VSRN]:
    """Read a VSRN or a VSE++ of given features; nothing in the file is executed.

    The authors' vocabularies know no mask, which vltk adds at their end: so does this, with a vector of zeros.

    Args:
        path: the authors' .pth or .tar, one of vltk's files, or a run's folder.

    Raises:
        DataError: not there, damaged, another model, or keys that do not fit, which are named.
    """
    file = read_dual_file(path)
    if file.own is not None:
        return own_checkpoint(file, own_config(file, "vsrn", VSRNConfig).build())
    model = infer_config(file).build()
    words = file.weights[TEXT + "embed.weight"]
    masked = torch.cat([words, torch.zeros_like(words[:1])])
    model.load_published({**file.weights, TEXT + "embed.weight": masked}, where=str(file.path))
    return DualCheckpoint(model=model.eval(), file=file, layout="published", options=file.options)


def infer_config(file: DualFile) -> VSRNConfig:
    """Return the size that published weights and options tell; the authors save no caption branch.

    Raises:
        DataError: neither a VSRN nor a VSE++ of given features.
    """
    official, needed = file.weights, (IMAGE + "fc.weight", TEXT + "embed.weight", TEXT + "rnn.weight_hh_l0")
    absent = [name for name in needed if name not in official]
    if absent:
        problem = f"is no VSRN (it holds {', '.join(list(official)[:3])}, ... and no {absent[0]})"
        raise DataError(problem, where=file.path, remedy="use another file")
    if file.options.get("measure") == "order":
        problem = "scores pairs by the order of their embeddings, no inner product"
        raise DataError(problem, where=file.path, remedy="use one trained with --measure cosine")
    hidden, region_dim = official[IMAGE + "fc.weight"].shape
    vocabulary, word_dim = official[TEXT + "embed.weight"].shape
    layers = {int(found[1]) for name in official if (found := re.match(rf"{IMAGE}Rs_GCN_(\d+)\.", name))}
    flickr, reads = IMAGE + "bn.weight" in official, IMAGE + "img_rnn.weight_ih_l0" in official
    return VSRNConfig(
        hidden=hidden,
        region_dim=region_dim,
        vocabulary=vocabulary + 1,
        word_dim=word_dim,
        relation_layers=len(layers),
        gru_layers=sum(bool(re.fullmatch(rf"{TEXT}rnn\.weight_ih_l\d+", name)) for name in official),
        memory="gru" if reads else "mean",
        batch_norm=flickr,
        norm_before=reads and not flickr,
        norm_after=reads,
        normalise=not file.options.get("no_imgnorm", False),
        absolute=bool(file.options.get("use_abs", False)),
        generation=False,
    )


def describe(model: VSRN, *, options: Mapping[str, Any] | None = None, masked: bool = False) -> dict[str, Any]:
    """Return what a file of vltk says of a model.

    Args:
        model: whose file it is.
        options: of the training that made it.
        masked: whether the last word is the mask that vltk adds to published vocabularies.
    """
    trained_on = {WORD_MASK: model.config.vocabulary - 1} if masked else {}
    about = {"model": "vsrn", "config": asdict(model.config), "options": dict(options or {})}
    return about | {TRAINED_ON: trained_on}


def save_vsrn(found: DualCheckpoint[VSRN], path: Path) -> str:
    """Write one of vltk's files (.safetensors) or the authors' layout (.pth, .tar); return its layout.

    The authors' layout has no place for the caption branch, and none for a mask at the end of the vocabulary.

    Raises:
        VltkError: it cannot be written; nothing is left behind.
        DataError: a model that the authors' code does not know.
    """
    model = found.model
    if path.suffix == ".safetensors":
        about = describe(model, options=plain_options(found.options), masked=_ends_with_mask(found))
        write_own(path, model.state_dict(), about)
        return "vltk"
    _check_publishable(model.config, path)
    official = {name: tensor for name, tensor in model.published_state().items() if name.startswith((IMAGE, TEXT))}
    official[TEXT + "embed.weight"] = _published_words(found)
    options = found.options or published_options(model.config)
    # The authors train on one GPU, without a prefix.
    write_published(
        path,
        official,
        options=options,
        prefixed=False,
        epoch=found.file.epoch or 0,
        best=found.file.best or 0.0,
    )
    return "published"


def _check_publishable(config: VSRNConfig, path: Path) -> None:
    reasons = {"memory": "gru", "norm_after": True, "norm_before": not config.batch_norm, "relation_layers": 4}
    plain = {"memory": "mean", "norm_after": False, "norm_before": False, "relation_layers": 0, "batch_norm": False}
    published = plain if config.memory == "mean" else reasons
    other = [f"{name} {getattr(config, name)}" for name, value in published.items() if getattr(config, name) != value]
    if other:
        problem = f"cannot be told to the authors' code: {', '.join(other)}"
        raise DataError(problem, where=path, remedy="write NAME.safetensors")


def _published_words(found: DualCheckpoint[VSRN]) -> Tensor:
    vectors = found.model.text.word.weight.detach()
    return vectors[:-1] if _ends_with_mask(found) else vectors


def _ends_with_mask(found: DualCheckpoint[VSRN]) -> bool:
    if found.file.own is None:
        return True
    mask = found.file.own.get(TRAINED_ON, {}).get(WORD_MASK)
    return bool(mask == found.model.config.vocabulary - 1)


def published_options(config: VSRNConfig) -> dict[str, Any]:
    """Return the options that the authors' evaluation reads of a checkpoint."""
    return {
        "data_name": "f30k_precomp" if config.batch_norm else "coco_precomp",
        "img_dim": config.region_dim,
        "embed_size": config.hidden,
        "word_dim": config.word_dim,
        "num_layers": config.gru_layers,
        "finetune": False,
        "cnn_type": "vgg19",
        "use_abs": config.absolute,
        "no_imgnorm": not config.normalise,
        "measure": "cosine",
        "margin": 0.2,
        "max_violation": True,
        "grad_clip": 2.0,
        "learning_rate": 2e-4,
        "dim_vid": config.hidden,
        "dim_hidden": config.caption_hidden,
        "dim_word": config.caption_word_dim,
        "max_len": config.caption_length,
        "bidirectional": int(config.caption_bidirectional),
        "input_dropout_p": config.caption_dropout,
        "rnn_type": "gru",
        "rnn_dropout_p": 0.5,
    }


def start_from(config: VSRNConfig, path: Path) -> tuple[VSRN, list[str]]:
    """Build a model that begins with the weights of a VSRN, which bring all its sizes.

    Whether it generates captions, in which order it reads regions, and how it learns stay as wanted.

    Args:
        config: what is wanted; its vocabulary and feature size are those of the stores.
        path: a checkpoint as for :func:`read_vsrn`.

    Returns:
        The model, and what stayed fresh, for people.

    Raises:
        DataError: of another vocabulary or feature size.
    """
    found = read_vsrn(path)
    theirs, notes = found.model.config, []
    wanted = {name: getattr(config, name) for name in ("vocabulary", "region_dim")}
    check_sizes({name: getattr(theirs, name) for name in wanted}, wanted, where=found.file.path)
    kept = ["generation", "region_order", "caption_updates", "caption_dropout"]
    if not theirs.generation:
        kept += ["caption_hidden", "caption_word_dim", "caption_length", "caption_bidirectional"]
    size = replace(theirs, **{name: getattr(config, name) for name in kept})
    model = size.build()
    state, own = found.model.state_dict(), model.state_dict()
    if size.generation and not theirs.generation:
        notes.append("the branch that generates captions freshly initialised")
    model.load_state_dict({name: state.get(name, own[name]) for name in own})
    return model.train(), notes
