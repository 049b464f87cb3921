"""The model that a task is built around: fresh, or with weights from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vltk.errors import DataError, UsageError
from vltk.models._checkpoints import initialise_from, read_checkpoint
from vltk.models.uniter import UNITERConfig, UNITERForPretraining
from vltk.run_folder import WEIGHTS, find_checkpoint, read_weights
from vltk.stores.examples import TokenizerDescription
from vltk.tasks._task import Split

_ENCODER = "encoder."


@dataclass(frozen=True, kw_only=True)
class InitialModel:
    """A model and what else its checkpoint held.

    Attributes:
        model: what the task is built around.
        head_weights: everything but the encoder's that the checkpoint held; empty for a fresh model.
        notes: what stayed fresh or was extended, for people.
    """

    model: nn.Module
    head_weights: dict[str, Tensor]
    notes: list[str]


def initial_model(
    architecture: Any, split: Split, *, init: Path | None, needed: Mapping[str, int] | None = None
) -> InitialModel:
    """Build the model that ``--model`` and its options name, with the weights of ``--init``.

    The number of word pieces and the size of a region feature come from the stores. With weights, the other sizes come
    from them, and only dropout from the options.

    Args:
        architecture: the ``Config`` of a file in ``models/``.
        split: what is trained on.
        init: a run, a file of ``vltk convert``, a published checkpoint or a BERT; None for random weights.
        needed: sizes that the task demands at least, e.g. {"types": 3}.

    Raises:
        DataError: weights of another model or size.
        UsageError: no word pieces in the examples, or a model that cannot start from weights.
    """
    sizes = store_sizes(split)
    if isinstance(architecture, UNITERConfig):
        return _pretrained(architecture, sizes | dict(needed or {}), init)
    known = {item.name for item in fields(architecture)}
    fitted = replace(architecture, **{name: size for name, size in sizes.items() if name in known})
    # A pre-trained run holds more than the encoder; a model that was pre-trained reads its runs by itself.
    pretrained = hasattr(architecture, "build_for_pretraining")
    own_run = init is not None and any((init / name / WEIGHTS).is_file() for name in ("", "best", "last"))
    own_run = own_run and not pretrained
    if init is not None and not own_run and hasattr(fitted, "build_from"):
        started, notes = fitted.build_from(init)
        return InitialModel(model=started, head_weights={}, notes=notes)
    model: nn.Module = fitted.build()
    return InitialModel(model=model, head_weights={}, notes=[]) if init is None else _own_run(model, init)


def store_sizes(split: Split) -> dict[str, int]:
    """Return the sizes of a model that the stores fix.

    Raises:
        UsageError: the examples have no word pieces.
        DataError: there is no example, or its picture has no features.
    """
    tokenizer: TokenizerDescription | None = split.examples.metadata.tokenizer
    if tokenizer is None:
        raise UsageError("has no word pieces", where=split.name, remedy="prepare with --tokenizer")
    first = next(iter(split.examples), None)
    if first is None:
        raise DataError("holds no example", where=split.name, remedy="prepare it again")
    width = split.features.get(first.image_ids[0]).features.shape[1]
    return {"vocabulary": tokenizer.vocab_size, "region_dim": width}


def _pretrained(architecture: Any, sizes: Mapping[str, int], init: Path | None) -> InitialModel:
    if init is None:
        fitted = replace(architecture, **_at_least(architecture, sizes))
        return InitialModel(model=fitted.build(), head_weights={}, notes=[])
    heads = architecture.heads if architecture != type(architecture)() else None
    found = read_checkpoint(UNITERForPretraining, init, heads=heads)
    size = replace(found.config, dropout=architecture.dropout)
    size = replace(size, **_at_least(size, sizes))
    whole = size.build_for_pretraining()
    notes = [note for note in initialise_from(whole, init) if not _is_of_a_head(note)]
    heads_of = {name: found.weights[name] for name in found.weights if not name.startswith(_ENCODER)}
    return InitialModel(model=whole.encoder, head_weights=heads_of | found.others, notes=notes)


def _at_least(size: Any, wanted: Mapping[str, int]) -> dict[str, int]:
    """Return the wanted sizes, those of tables that only grow not below what is there."""
    return {name: max(value, getattr(size, name)) if name == "types" else value for name, value in wanted.items()}


def _is_of_a_head(note: str) -> bool:
    # Heads of pre-training are left behind; whether the checkpoint had them says nothing here.
    return any(note.startswith(part) for part in UNITERForPretraining.parts if part != "regions")


def _own_run(model: nn.Module, init: Path) -> InitialModel:
    """Start a model from a run of its own kind, whose keys and shapes must be its own."""
    folder = find_checkpoint(init)
    inner = next((init / name for name in ("best", "last") if (init / name).is_dir()), folder)
    if inner is None:
        raise DataError("is no run", where=init, remedy="name the folder of a run of this model")
    weights = read_weights(inner)
    own = {name.removeprefix("model."): tensor for name, tensor in weights.items() if name.startswith("model.")}
    expected = model.state_dict()
    wrong = sorted(name for name in expected.keys() | own.keys() if _shape(expected, name) != _shape(own, name))
    if wrong:
        shown = ", ".join(f"{name} {_shape(own, name)} instead of {_shape(expected, name)}" for name in wrong[:3])
        raise DataError(f"is of another model or size: {shown}", where=inner, remedy="use its model options")
    model.load_state_dict(own)
    return InitialModel(model=model, head_weights={}, notes=[])


def _shape(state: Mapping[str, Tensor], name: str) -> list[int] | None:
    return list(state[name].shape) if name in state else None
