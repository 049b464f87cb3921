"""A run that is built from sources and a configuration, and then trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from vltk.batching import TokenBuckets
from vltk.config import DeviceConfig
from vltk.config.training import MixtureConfig, ObjectivesConfig, TrainingConfig
from vltk.errors import DataError, UsageError
from vltk.mixture import Mixture, PairSource, parse_shares
from vltk.models._checkpoints import about_weights, initialise_from
from vltk.models.uniter import UNITERForPretraining
from vltk.objectives.pretraining import Pretraining, build_objectives, named_objectives
from vltk.optimization import build_optimizer
from vltk.pretraining.sources import check_augmentation
from vltk.pretraining.validation import Validation
from vltk.stores.examples import TokenizerDescription
from vltk.training_run import TrainingRun, compile_layers, describe_stores


def undecayed(name: str) -> bool:
    """Say whether a parameter of a UNITER is left out of weight decay, as published.

    The published rule looks for ``bias`` and ``LayerNorm`` in the published names, so that norms with other names
    (of features and locations, of heads) do decay.
    """
    official = UNITERForPretraining.published_keys(name.removeprefix("model."))[0]
    return "bias" in official or "LayerNorm.weight" in official


def _vectors(module: nn.Module) -> Callable[[str], bool]:
    """Return what leaves biases and norms, which are vectors, out of weight decay."""
    vectors = {name for name, parameter in module.named_parameters() if parameter.dim() < 2}
    return vectors.__contains__


OBJECTIVES = "objectives"
"""Under which a checkpoint says what its weights were last trained for."""


@dataclass(kw_only=True)
class PreparedRun(TrainingRun):
    """A pre-training run that is built and not begun."""

    module: Pretraining
    plan: Mixture
    measuring: Validation | None

    @property
    def model(self) -> Any:
        """The model alone, a UNITERForPretraining or SSRPForPretraining."""
        return self.module.model

    def optimizer(self) -> Optimizer:
        """Make the published optimiser, with the weights that decay in one group."""
        training = self.training
        rule = undecayed if isinstance(self.model, UNITERForPretraining) else _vectors(self.module)
        return build_optimizer(self.module, form=training.optimizer, weight_decay=training.weight_decay, undecayed=rule)

    def look(self) -> None:
        """Read and hide the first pairs of every objective and set, so that what is wrong with them shows at once."""
        mixtures = [self.plan] if self.measuring is None else [self.plan, self.measuring.mixture]
        for mixture in mixtures:
            for place, _ in enumerate(mixture.sources):
                shares = [share for share in self.plan.shares if mixture is not self.plan or share.source == place]
                for share in shares:
                    work = mixture.epoch(replace(share, source=place), 0)[0]
                    self.module.objectives[share.objective].corrupt(mixture.load(work), torch.Generator())

    def estimate(self, processes: int) -> dict[str, Any]:
        """Return what the run would do and cost, from a few micro-batches that it times; nothing is written.

        Args:
            processes: that would share the micro-batches of a step.
        """
        return self.estimated(processes, size=self.model.encoder.config) | {"mixture": self.plan.describe()}


def prepare_run(
    sources: Sequence[PairSource],
    held_out: Sequence[PairSource],
    *,
    model: str = "uniter",
    architecture: Any,
    data: MixtureConfig,
    objectives: ObjectivesConfig,
    training: TrainingConfig,
    device: DeviceConfig,
    seed: int,
    init: Path | None,
) -> PreparedRun:
    """Build the model, its objectives and the order of a run.

    Args:
        sources: what is trained on.
        held_out: what is measured.
        model: its name in ``models/``.
        architecture: its ``Config``; the sizes that the stores fix are taken from them.
        data: the mixture.
        objectives: what the objectives hide.
        training: how weights are updated.
        device: where and how precisely.
        seed: of everything random.
        init: weights to start from, or None.

    Raises:
        DataError: the sets have different vocabularies or feature sizes, or the weights do not fit.
        UsageError: an objective or a set that is not there, nothing to train, or a model without pre-training.
    """
    shares = parse_shares(data.objective, [source.name for source in sources])
    names = list(dict.fromkeys(share.objective for share in shares))
    tokenizer = _tokenizer_of([*sources, *held_out])
    kinds = named_objectives(names)
    paired = [name for name, kind in kinds.items() if getattr(kind, "needs_views", False)]
    check_augmentation(sources, data, paired)
    torch.manual_seed(seed)
    needs_classes = any(getattr(kind, "needs_classes", False) for kind in kinds.values())
    sizes = _sizes([*sources, *held_out], tokenizer, needs_classes=needs_classes)
    background = needs_classes and _background_first([*sources, *held_out])
    built = build_objectives(names, objectives, tokenizer, background_first=background)
    _check_texts([*sources, *held_out], architecture, augmented=bool(paired or data.augmented))
    network, fresh = _network(model, architecture, sizes | _label_counts(sources, architecture), training, init)
    buckets = TokenBuckets.filled_as(data.batching, max_tokens=data.batch_tokens)
    order: dict[str, Any] = {"mismatch": {"itm": objectives.mismatch}, "paired": paired}
    run: dict[str, Any] = {"micro_batches": training.micro_batches, "seed": seed, "augmented": data.augmented}
    whole = replace(buckets, drop_last=False)
    measured = Validation(held_out, names, buckets=whole, limit=data.validation_limit, **order)
    return PreparedRun(
        module=Pretraining(network, built),
        plan=Mixture(sources, shares, buckets=buckets, **order, **run),
        measuring=measured if held_out else None,
        training=training,
        device=device,
        fresh=fresh,
        about=_about(network, model, names) | describe_stores([one.features for one in sources], tokenizer, data),
    )


def _about(network: Any, model: str, objectives: Sequence[str]) -> dict[str, Any]:
    return about_weights(network.encoder.config, model) | {OBJECTIVES: list(objectives)}


def _network(
    model: str, architecture: Any, sizes: dict[str, int], training: TrainingConfig, init: Path | None
) -> tuple[Any, list[str]]:
    """Return the model with its pre-training heads, and what did not start from the given weights."""
    if not hasattr(architecture, "build_for_pretraining"):
        remedy = "fine-tune it, or pre-train uniter or ssrp"
        raise UsageError(f"{model} has no pre-training", where="--model", remedy=remedy)
    network = replace(architecture, **sizes).build_for_pretraining()
    fresh = _started(network, init)
    network.encoder.recomputes_activations = training.checkpointing
    if training.compile:
        compile_layers(network.encoder.layers)
    return network, fresh


def _started(network: Any, init: Path | None) -> list[str]:
    """Start a model from weights where some are given; return what stayed fresh."""
    if init is None:
        return []
    found: list[str] = network.start_from(init) if hasattr(network, "start_from") else initialise_from(network, init)
    return found


def _tokenizer_of(sources: Sequence[PairSource]) -> TokenizerDescription:
    """Return the one tokenizer that made the word pieces of all sets."""
    described = [source.examples.metadata.tokenizer for source in sources]
    found = {tokenizer.vocab_sha256: tokenizer for tokenizer in described if tokenizer is not None}
    if len(found) != 1:
        listed = ", ".join(tokenizer.name for tokenizer in found.values())
        raise DataError(f"{len(found)} vocabularies ({listed})", where="--examples", remedy="prepare all with one")
    return next(iter(found.values()))


def _sizes(sources: Sequence[PairSource], tokenizer: TokenizerDescription, *, needs_classes: bool) -> dict[str, int]:
    """Return the sizes of a model that the stores fix; one picture of each set is looked at."""
    firsts = [source.features.get(source.image_ids[0]) for source in sources]
    widths = {picture.features.shape[1]: source.name for picture, source in zip(firsts, sources, strict=True)}
    if len(widths) > 1:
        listed = " and ".join(f"{width} ({name})" for width, name in widths.items())
        raise DataError(f"features of sizes {listed}", where="--features", remedy="use stores of one detector")
    classes = {0 if picture.class_probs is None else picture.class_probs.shape[1] for picture in firsts}
    if needs_classes and (0 in classes or len(classes) > 1):
        problem = "region classification needs class distributions of one detector in every store"
        raise DataError(problem, where="--features", remedy="extract them, or leave mrc and mrckl out of --objective")
    sizes = {"vocabulary": tokenizer.vocab_size, "region_dim": next(iter(widths))}
    return sizes | {"region_classes": max(classes)} if max(classes) and len(classes) == 1 else sizes


def _background_first(sources: Sequence[PairSource]) -> bool:
    """Return whether column 0 of every store's class distributions is the background."""
    found = {}
    for source in sources:
        probs = source.features.get(source.image_ids[0]).class_probs
        classes = 0 if probs is None else probs.shape[1]
        found[source.features.metadata.background_first(classes)] = source.name
    if len(found) > 1:
        problem = f"class distributions of {found[True]} begin with the background, those of {found[False]} have none"
        raise DataError(problem, where="--features", remedy="use stores of one kind, or leave mrc and mrckl out")
    return next(iter(found))


def _label_counts(sources: Sequence[PairSource], architecture: Any) -> dict[str, int]:
    """Return how many classes and attributes the detector knows, where the stores and the model name them."""
    counts = {}
    for size, labels in (("region_classes", "labels"), ("attribute_classes", "attribute_labels")):
        known: list[Any] = [source.features.metadata.extra.get(labels) for source in sources]
        if hasattr(architecture, "attribute_classes") and all(isinstance(one, list) and one for one in known):
            counts[size] = max(len(one) for one in known)
    return counts


def _check_texts(sources: Sequence[PairSource], architecture: Any, *, augmented: bool) -> None:
    """Make sure that the model has a position and a segment for every word piece."""
    for source in sources:
        longest = max(int(source.text_lengths.max()), source.longest_paraphrase if augmented else 0)
        longest += source.special_count
        if longest > architecture.positions:
            problem = f"a text of {longest} word pieces for a model of {architecture.positions} positions"
            raise UsageError(problem, where=source.name, remedy="lower --max-text-length or raise --positions")
        if max(source.layout.segments) >= architecture.types:
            problem = (
                f"a text layout of segments up to {max(source.layout.segments)} for a model of {architecture.types}"
            )
            raise UsageError(problem, where="--text-layout", remedy=f"use --types {max(source.layout.segments) + 1}")
