"""The joint encoder of a run, of a checkpoint file, or of transformers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from torch import nn

from vltk.detection.hub_detectors import hash_of_weights
from vltk.errors import DataError, UsageError
from vltk.models._checkpoints import SHIPPED, read_checkpoint
from vltk.models._hub_encoders import KINDS, load_hub_encoder
from vltk.models.uniter import UNITERForPretraining
from vltk.run_folder import WEIGHTS, file_sha256, read_about
from vltk.stores.examples import ExampleStore, TokenizerDescription
from vltk.stores.features import FeatureReader
from vltk.training_run import TRAINED_ON, check_stores
from vltk.types import Batch, EncoderOutput

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

JOINT = ("uniter",)
"""The models of vltk whose attention scores can be read."""


class JointEncoder(Protocol):
    """What shows how words and regions attend to each other."""

    layers: Sized
    """The layers whose attention scores can be asked for."""

    def __call__(self, batch: Batch, *, attention_scores: Collection[int] = ()) -> EncoderOutput:
        """Encode a batch; the scores of the layers that are asked for come with the output."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoadedEncoder:
    """An encoder and what a receipt says of it.

    Attributes:
        module: the encoder, in evaluation mode.
        name: what it is, e.g. "uniter".
        weights: hash of its weights.
        vocabulary: number of word pieces that it knows.
        region_dim: size of a region's feature.
        positions: longest text in word pieces, special tokens counted.
        trained_on: what its checkpoint says of the stores that it was trained on.
        own_probes: it has probes of its own that were trained (SSRP's second stage).
    """

    module: nn.Module
    name: str
    weights: str
    vocabulary: int
    region_dim: int
    positions: int
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    own_probes: bool = False

    @property
    def encoder(self) -> JointEncoder:
        """The module as what it is called for."""
        return cast(JointEncoder, self.module)

    @property
    def depth(self) -> int:
        """How many layers it has."""
        return len(self.encoder.layers)

    def check(
        self,
        features: FeatureReader,
        tokenizer: TokenizerDescription,
        *,
        region_dim: int,
        longest: int,
        where: str,
        other_features: bool = False,
    ) -> None:
        """Refuse data that the model was not made for.

        Boxes that somebody drew are another preset than boxes that were found, so of how features were made only the
        detector's weights are compared.

        Args:
            features: the pictures' regions.
            tokenizer: of the word pieces.
            region_dim: size of a feature.
            longest: longest text in word pieces, special tokens counted.
            where: the examples, for errors.
            other_features: allow features of another detector.

        Raises:
            DataError: other word pieces, other features, or a text that is too long.
        """
        compared = {"vocabulary"} if other_features else {"vocabulary", "weights_hash"}
        known = {name: value for name, value in self.trained_on.items() if name in compared}
        check_stores(known, features, tokenizer, where=where)
        if tokenizer.vocab_size != self.vocabulary:
            problem = f"has a vocabulary of {tokenizer.vocab_size} word pieces, the model one of {self.vocabulary}"
            raise DataError(problem, where=where, remedy="prepare the examples with the model's tokenizer")
        if region_dim != self.region_dim:
            problem = f"features of size {region_dim}, the model takes {self.region_dim}"
            raise DataError(problem, where=where, remedy="extract them with the detector that the model was trained on")
        if longest > self.positions:
            problem = f"a text of {longest} word pieces, the model has {self.positions} positions"
            raise DataError(problem, where=where, remedy="leave such texts out")


def tokenizer_of(examples: ExampleStore) -> TokenizerDescription:
    """Return what made the word pieces of examples.

    Raises:
        DataError: they have none.
    """
    if (tokenizer := examples.metadata.tokenizer) is None:
        raise DataError("names no tokenizer", where=examples.path, remedy="prepare with --tokenizer")
    return tokenizer


def load_encoder(
    source: str, *, heads: int | None = None, offline: bool = False, cache_dir: Path | None = None
) -> LoadedEncoder:
    """Load a joint encoder.

    Args:
        source: a run of vltk, one of its checkpoints, a weights file, weights that come with vltk (uniter-tiny), a
            folder of transformers, or a hub id.
        heads: number of attention heads, where a weights file does not tell it.
        offline: download nothing.
        cache_dir: where downloads are kept.

    Raises:
        UsageError: a model without attention between words and regions.
        OfflineError: it would have to be downloaded and cannot be.
        DataError: its files are damaged or of several models.
    """
    path = Path(source)
    if path.is_dir() and (path / "config.json").is_file() and not _is_run(path):
        return _hub(source, offline, cache_dir)
    if path.exists() or (SHIPPED / f"{source}.safetensors").is_file():
        return _own(path, heads)
    # A hub id is OWNER/NAME too; where the folder is here, or the name is a file's, a path was meant.
    is_path = source.count("/") > 1 or source.startswith(".") or path.suffix in _SUFFIXES
    if path.is_absolute() or is_path or (source.count("/") == 1 and path.parent.is_dir()):
        raise DataError("is not there", where=source, remedy="give a run, a checkpoint, or a model of transformers")
    return _hub(source, offline, cache_dir)


def _is_run(path: Path) -> bool:
    """Say whether a folder is a run of vltk; one of transformers names its architecture in its config.json."""
    try:
        told = json.loads((path / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and "model_type" not in told


def _require_attention(path: Path) -> None:
    """Refuse weights that say that they are of a model that looks at each side alone."""
    files = [path] if path.is_file() else [path / WEIGHTS, path / "best" / WEIGHTS, path / "last" / WEIGHTS]
    told = next((read_about(file) for file in files if file.suffix == ".safetensors" and file.is_file()), {})
    name = told.get("model", JOINT[0])
    if name not in JOINT:
        apart = "in which words and regions do not attend to each other"
        why = "whose attention is not shown" if name == "ssrp" else apart
        problem = f"is a {name}, {why}"
        raise UsageError(problem, where=path, remedy=f"give one of {', '.join((*JOINT, *KINDS))}")


def _own(path: Path, heads: int | None) -> LoadedEncoder:
    _require_attention(path)
    found = read_checkpoint(UNITERForPretraining, path, heads=heads)
    encoder = found.config.build()
    encoder.load_state_dict(
        {key.removeprefix("encoder."): value for key, value in found.weights.items() if key.startswith("encoder.")}
    )
    return LoadedEncoder(
        module=encoder.eval(),
        name="uniter",
        weights=file_sha256(found.path),
        vocabulary=found.config.vocabulary,
        region_dim=found.config.region_dim,
        positions=found.config.positions,
        trained_on=read_about(found.path).get(TRAINED_ON, {}) if found.path.suffix == ".safetensors" else {},
    )


def _hub(source: str, offline: bool, cache_dir: Path | None) -> LoadedEncoder:
    encoder = load_hub_encoder(source, offline=offline, cache_dir=cache_dir)
    config = encoder.model.config
    return LoadedEncoder(
        module=encoder.eval(),
        name=str(config.model_type),
        weights=hash_of_weights(encoder.state_dict()),
        vocabulary=encoder.vocabulary,
        region_dim=encoder.region_dim,
        positions=int(config.max_position_embeddings),
    )
