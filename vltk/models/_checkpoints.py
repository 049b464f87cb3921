"""UNITER's weights from anywhere: a run of vltk, a published file, a BERT; and back into the published layout.

What a file holds tells its layout, and the shapes tell the size of the model. Only the number of attention heads
cannot be seen in shapes: vltk's files carry it, a ``config.json`` beside the weights says it, and the published models
have one for every 64 dimensions.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vltk.errors import DataError, VltkError
from vltk.models._published import modern_name
from vltk.run_folder import STATE, WEIGHTS, file_sha256, find_checkpoint, read_about
from vltk.run_folder.checkpoint import write_weights

SHIPPED = Path(__file__).parent
"""Where the weights lie that come with vltk; they are known by their names, e.g. uniter-tiny."""

_FOLDER = (WEIGHTS, "pytorch_model.bin", "model.bin")
_OTHER = "other."  # what our files call weights that pre-training does not know, e.g. a fine-tuned head


class Loadable(Protocol):
    """What a class of models brings so that its checkpoints can be read."""

    tied: ClassVar[Mapping[str, str]]
    parts: ClassVar[Mapping[str, str]]
    """What a checkpoint may lack as a whole: name for people -> regular expression over our keys."""

    @classmethod
    def published_names(cls, layers: int) -> dict[str, list[str]]:
        """Return our keys of a model of so many layers with their published names."""

    @classmethod
    def published(cls, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights under the published names."""

    @classmethod
    def infer_config(cls, weights: Mapping[str, Tensor], *, where: Path, heads: int | None) -> Any:
        """Return the size that the shapes of weights tell."""

    @classmethod
    def shapes(cls, config: Any) -> dict[str, Tensor]:
        """Return the weights of a size without memory behind them."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights under vltk's names.

    Attributes:
        kind: class of the model.
        path: the file.
        layout: vltk, uniter or bert.
        config: the size that the shapes tell.
        weights: of the model, as many as the file holds.
        others: what else it holds, under its own names, e.g. the head of a fine-tuned model.
        missing: parts that it lacks, for people.
    """

    kind: type[Loadable]
    path: Path
    layout: str
    config: Any
    weights: dict[str, Tensor]
    others: dict[str, Tensor]
    missing: tuple[str, ...]


def read_checkpoint(kind: type[Loadable], path: Path, *, heads: int | None = None) -> Checkpoint:
    """Read a run's checkpoint folder, one of vltk's files, a published UNITER or a BERT; nothing in it is executed.

    Args:
        kind: class of the model, e.g. UNITERForPretraining.
        path: a file (.safetensors, .pt, .bin), a folder with one, or the name of weights that come with vltk.
        heads: number of attention heads, where nothing tells it.

    Raises:
        DataError: not there, damaged, no UNITER or BERT, or shapes that contradict each other.
    """
    file = weights_file(path)
    state = read_tensors(file)
    about = read_about(file) if file.suffix == ".safetensors" else {}
    own = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    if "encoder.text_embedding.word.weight" in own:
        others = {name.removeprefix(_OTHER): t for name, t in own.items() if name.startswith(_OTHER)}
        weights = {name: tensor for name, tensor in own.items() if not name.startswith(_OTHER)}
        return _checked(kind, file, "vltk", weights, others, about.get("config", {}), heads)
    if "text_embedding.word.weight" in own:  # a fine-tuned run: the encoder under "model.", and the task's head
        parts = [(name.removeprefix("model."), name.startswith("model."), state[name]) for name in state]
        weights = {f"encoder.{name}": tensor for name, of_encoder, tensor in parts if of_encoder}
        others = {name: tensor for name, of_encoder, tensor in parts if not of_encoder}
        return _checked(kind, file, "vltk", weights, others, about.get("config", {}), heads)
    layout, official = _as_uniter(state, file)
    weights, others = _translated(kind, official, file)
    return _checked(kind, file, layout, weights, others, _neighbour(file), heads)


def weights_file(path: Path) -> Path:
    """Return the file with the weights: of a run, of a folder, or of weights that come with vltk.

    Raises:
        DataError: there is none.
    """
    folder = find_checkpoint(path)
    return _one_file(path) if folder is None else file_in(folder, path)


def file_in(folder: Path, where: Path) -> Path:
    """Return the file with the weights in a folder, or in the better checkpoint of a run.

    Args:
        folder: to look into.
        where: what was asked for, for the error.

    Raises:
        DataError: there is none.
    """
    for inner in (folder, folder / "best", folder / "last"):
        for name in _FOLDER:
            if (inner / name).is_file():
                return inner / name
    raise DataError(f"holds none of {', '.join(_FOLDER)}", where=where, remedy="name the checkpoint file itself")


def _one_file(path: Path) -> Path:
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}
    if str(path) in shipped:
        return shipped[str(path)]
    known = ", ".join(shipped)
    remedy = f"name a checkpoint file, the folder of one, or weights that come with vltk ({known})"
    raise DataError("is not there", where=path, remedy=remedy)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; nothing in it is executed.

    Raises:
        DataError: damaged, or with more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format raises its own classes
        if "argparse.Namespace" in str(error):  # torch says so where it refuses to make one
            remedy = (
                "if it is of VSE++, VSE-infinity or VSRN, turn it into a file of vltk with vltk convert vse or vsrn"
            )
            raise DataError("holds the options of its training beside weights", where=path, remedy=remedy) from error
        reason = " ".join(str(error).split())[:120]
        remedy = "use a whole file of tensors; vltk runs no code of a file"
        raise DataError(f"cannot be read ({type(error).__name__}: {reason})", where=path, remedy=remedy) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        problem = f"holds a {type(found).__name__} with more than tensors"
        raise DataError(problem, where=path, remedy=f"name the weights, not e.g. {STATE}")
    return {str(name): tensor for name, tensor in found.items()}


def _as_uniter(state: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the layout of foreign weights, and the weights under UNITER's published names."""
    named = {modern_name(name.removeprefix("module.")): tensor for name, tensor in state.items()}
    word = "embeddings.word_embeddings.weight"
    if f"uniter.{word}" in named:
        return "uniter", named
    prefix = next((prefix for prefix in ("bert.", "") if prefix + word in named), None)
    if prefix is None:
        shown = ", ".join(list(named)[:3]) or "nothing"
        raise DataError(f"is no UNITER and no BERT (it holds {shown}, ...)", where=path, remedy="use another file")
    encoder = ("embeddings.", "encoder.", "pooler.", "img_embeddings.")
    layout = "uniter" if f"{prefix}img_embeddings.img_linear.weight" in named else "bert"
    renamed = {}
    for name, tensor in named.items():
        bare = name.removeprefix(prefix)
        renamed[f"uniter.{bare}" if bare.startswith(encoder) else name] = tensor
    return layout, renamed


def _translated(
    kind: type[Loadable], official: Mapping[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what has a name of ours, and the rest."""
    left = dict(official)
    layers = {int(found[1]) for name in official if (found := re.match(r"uniter\.encoder\.layer\.(\d+)\.", name))}
    if layers != set(range(len(layers))):
        raise DataError(f"has the layers {sorted(layers)[:20]}", where=path, remedy="layers are numbered from 0")
    weights = {}
    for key, published in kind.published_names(len(layers)).items():
        if all(name in left for name in published):
            weights[key] = _joined([left.pop(name) for name in published], published, path)
    for copy in (*kind.tied, "cls.predictions.decoder.bias", "uniter.embeddings.position_ids"):
        left.pop(copy, None)
    # BERT's next-sentence head has no counterpart; the published initialisation left it out as well.
    return weights, {name: tensor for name, tensor in left.items() if not name.startswith("cls.seq_relationship.")}


def _joined(parts: list[Tensor], names: list[str], path: Path) -> Tensor:
    if len({part.shape[1:] for part in parts}) != 1 or not all(part.dim() for part in parts):
        shapes = ", ".join(str(list(part.shape)) for part in parts)
        raise DataError(f"{names[0]} and its siblings have shapes {shapes}", where=path, remedy="use a whole file")
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _neighbour(path: Path) -> dict[str, Any]:
    """Return what a BERT's config.json beside the weights says of the heads."""
    config = path.with_name("config.json")
    try:
        return {"heads": json.loads(config.read_text("utf-8"))["num_attention_heads"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _checked(
    kind: type[Loadable],
    path: Path,
    layout: str,
    weights: dict[str, Tensor],
    others: dict[str, Tensor],
    told: Mapping[str, Any],
    heads: int | None,
) -> Checkpoint:
    own = told.get("heads")
    config = kind.infer_config(weights, where=path, heads=own if isinstance(own, int) and own > 0 else heads)
    config = replace(config, **_unseen(told))
    expected = kind.shapes(config)
    missing = []
    for part, pattern in kind.parts.items():
        keys = [key for key in expected if re.fullmatch(pattern, key)]
        if not any(key in weights for key in keys):
            missing.append(part)
            expected = {key: tensor for key, tensor in expected.items() if key not in keys}
    wrong = [f"{key} is missing" for key in expected if key not in weights]
    wrong += [f"{key} is unknown" for key in weights if key not in expected]
    wrong += [
        f"{key} is {list(weights[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(f"{'; '.join(wrong[:3])}{more}", where=path, remedy="use a whole checkpoint of one model")
    return Checkpoint(
        kind=kind,
        path=path,
        layout=layout,
        config=config,
        weights=weights,
        others=others,
        missing=tuple(missing),
    )


def _unseen(told: Mapping[str, Any]) -> dict[str, float]:
    """Return what no weight tells of a model, where its configuration says it in range."""
    numbers = {name: told.get(name) for name in ("dropout", "initial_deviation")}
    return {name: value for name, value in numbers.items() if isinstance(value, float) and 0 <= value < 1}


def initialise_from(model: nn.Module, path: Path) -> list[str]:
    """Start a model from a checkpoint; what the checkpoint lacks keeps its fresh weights.

    A model with more segments or word pieces than the checkpoint extends it as published: a third segment (NLVR2)
    begins as that of regions, a third and fourth (VCR) as that of text, further word pieces as N(0, 0.02).

    Returns:
        What stayed fresh or was extended, for people.

    Raises:
        DataError: of another size, all differences named; or as :func:`read_checkpoint`.
    """
    size = cast(Any, model).encoder.config
    found = read_checkpoint(cast(type[Loadable], type(model)), path, heads=size.heads)
    here, there = asdict(size), asdict(found.config)
    grown = [name for name in ("types", "vocabulary") if here[name] > there[name]]
    ignored = {"dropout", "initial_deviation", *grown}
    ignored |= {"region_dim"} if "regions" in found.missing else set()
    ignored |= {"region_classes"} if "region classification" in found.missing else set()
    wrong = [
        f"{name} {there[name]} instead of {here[name]}" for name in here.keys() - ignored if here[name] != there[name]
    ]
    if wrong:
        remedy = "use the model options of the checkpoint"
        raise DataError(f"is of another size: {', '.join(sorted(wrong))}", where=found.path, remedy=remedy)
    state = model.state_dict()
    for key, tensor in found.weights.items():
        state[key] = _extended(key, tensor, state[key])
    model.load_state_dict(state)
    fresh = [f"{part} freshly initialised" for part in found.missing]
    return fresh + [f"{name} extended from {there[name]} to {here[name]}" for name in grown]


def _extended(key: str, given: Tensor, fresh: Tensor) -> Tensor:
    """Return a table with the rows of a checkpoint, and further rows as the published code makes them."""
    if given.shape == fresh.shape:
        return given
    result = fresh.detach().clone()
    result[: len(given)] = given
    if key.endswith("segment.weight") and len(given) == 2:
        result[2:] = given[1] if len(fresh) == 3 else given[0]
    return result


def save_checkpoint_file(found: Checkpoint, path: Path) -> str:
    """Write a checkpoint as one of vltk's files (.safetensors) or in the published layout (.pt); return its layout.

    Raises:
        VltkError: it cannot be written; nothing is left behind.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            about = about_weights(found.config) | {"source": found.path.name, "source_sha256": file_sha256(found.path)}
            others = {_OTHER + name: tensor for name, tensor in found.others.items()}
            write_weights(fresh, found.weights | others, about=about)
        else:
            torch.save(published_state(found), fresh)
        fresh.replace(path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise VltkError(f"cannot be written ({error})", where=path, remedy="name another file") from error
    return "vltk" if path.suffix == ".safetensors" else "uniter"


def about_weights(config: Any, model: str = "uniter") -> dict[str, Any]:
    """Return what a weights file says of itself: the name of its model in ``models/``, and its size."""
    return {"model": model, "config": {item.name: getattr(config, item.name) for item in fields(config)}}


def published_state(found: Checkpoint) -> dict[str, Tensor]:
    """Return the weights under the published names, tied duplicates included, other heads as they were."""
    official = found.kind.published(found.weights)
    for copy, own in (("cls.predictions.decoder.weight", "word_bias"), ("feat_regress.weight", "feature_bias")):
        if own not in found.weights:
            official.pop(copy, None)
    # Separate memory for each, so that no file holds the joint projection three times.
    return {name: tensor.clone() for name, tensor in official.items()} | found.others
