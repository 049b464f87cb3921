"""Measure how consistently a model relates words and regions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vltk.commands._stopping import stoppable
from vltk.commands._terminal import Terminal
from vltk.config import EncodingConfig, HubConfig, WriteConfig, argument, option
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.isd.encoder import LoadedEncoder
    from vltk.isd.session import Session


@dataclass(frozen=True, kw_only=True)
class DefinitionConfig:
    """How the open places of ISDa's definition are read; no code of it was ever published."""

    heads: Literal["mean", "each"] = "mean"
    """Average attention over the heads before objects are extracted, or the distances of the heads."""
    softmax: Literal["before", "after"] = "before"
    """Extract objects from probabilities, or from scores that are normalised over objects then."""
    renormalised: bool = True
    """Let an object's relations sum to 1 after what belongs to no object was dropped."""
    rows: Literal["mean", "sum"] = "mean"
    """Mean over the objects of a caption, or their sum (the paper's equation 8)."""
    chains: Literal["merged", "first"] = "merged"
    """A chain of several phrases is one object of all their words, or of those of its first phrase."""
    special_tokens: Literal["excluded", "included"] = "excluded"
    """Whether [CLS] and [SEP] take their share of the words' attention."""


@dataclass(frozen=True, kw_only=True)
class IsdConfig:
    """Measure relation consistency: ISDa on annotated objects, and the losses of IAIS that stand in for it.

    The examples have phrases (vltk prepare --task flickr30k --entities or --phrases), the features are those of the
    annotated boxes (vltk extract-features --boxes Annotations). Lower is more consistent; what chance would give is
    measured beside it by mixing up the objects of each picture. RUN is a run of vltk, one of its checkpoints, a weights
    file, or an LXMERT or VisualBERT of transformers: a folder or a hub id.

    Examples:
        $ vltk isd runs/flickr30k --examples entities-test.lmdb --features entities-boxes.lmdb --out isd/flickr30k
        $ vltk isd runs/flickr30k --examples entities-test.lmdb --features entities-boxes.lmdb --out isd/curve --curve
        $ vltk isd unc-nlp/lxmert-base-uncased --examples entities-test.lmdb --features entities-boxes.lmdb
              --out isd/lxmert
        $ vltk isd runs/coco --examples coco-test.lmdb --features coco.lmdb --out isd/coco --surrogates-only
    """

    run: str = argument()
    """Run, checkpoint, weights file, or model of transformers."""
    examples: Path = option(incidental=True)
    """Example store of captions."""
    features: Path = option(incidental=True)
    """Feature store of their pictures."""
    out: Path = option(incidental=True)
    """Folder of what is measured: results.json, examples.jsonl, outcomes.jsonl."""
    layer: int = option(-1, least=-math.inf)
    """Layer whose figures stand for the model, from 0, or from the end with -1; all layers are measured."""
    reading: DefinitionConfig = field(default_factory=DefinitionConfig)
    iais_form: Literal["official", "paper"] = "official"
    """L(s) and L(d) as the authors' code computes them, or as the paper's equations say."""
    surrogates_only: bool = False
    """Measure L(s) and L(d) alone, which need no phrases and take any regions."""
    shuffles: int = 200
    """How often the objects are mixed up to see what chance gives."""
    curve: bool = False
    """Measure every checkpoint of RUN, and how closely ISDa goes together with its quality."""
    quality: str | None = None
    """Figure of the run's validations for --curve; the sum of recalls where it is not given."""
    seed: int = 0
    """Seed of the mixing and of the bootstrap."""
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: IsdConfig, terminal: Terminal) -> dict[str, object]:
    """Measure, and return the receipt; or the plan, with --dry-run."""
    from vltk.isd.curve import points_of
    from vltk.run_folder import WEIGHTS, RunFolder, file_sha256

    if config.quality is not None and not config.curve:
        raise UsageError("does nothing without --curve", where="--quality", remedy="leave it out")
    name, points = points_of(Path(config.run), config.quality) if config.curve else (None, [])
    loaded = _load(config, points[-1].path if points else config.run)
    session, inputs = _session(config, terminal)
    session.take(loaded)
    hashes = {f"weights of step {point.step}": file_sha256(point.path / WEIGHTS) for point in points}
    folder = RunFolder(config.out, config, inputs=inputs | (hashes or {"weights": loaded.weights}))
    if config.write.dry_run:
        return {**session.plan(loaded), **({"checkpoints": [point.step for point in points]} if points else {})}
    folder.begin(resume="auto", overwrite=config.write.overwrite)
    with stoppable(terminal) as stop:
        session = replace(session, stop=stop)
        if points:
            results = session.measure_curve(name, points, lambda path: _load(config, path), folder)
        else:
            results = session.measure_one(loaded, folder)
    return _shown(results)


def _load(config: IsdConfig, source: str | Path) -> LoadedEncoder:
    from vltk.isd.encoder import load_encoder

    cache = config.hub.cache_dir and config.hub.cache_dir / "hub"
    return load_encoder(str(source), heads=config.encoding.attention_heads, offline=config.hub.offline, cache_dir=cache)


def _session(config: IsdConfig, terminal: Terminal) -> tuple[Session, dict[str, str]]:
    """Look at the stores; return what can be measured and the hashes of what was opened."""
    from vltk.detection.extractor import choose_device
    from vltk.isd.measurement import Procedure
    from vltk.isd.session import Session
    from vltk.isd.survey import survey
    from vltk.metrics.isd import Reading
    from vltk.stores.examples import ExampleStore
    from vltk.stores.features import FeatureStore

    examples, features = ExampleStore.open(config.examples), FeatureStore.open(config.features)
    with terminal.progress(min(len(examples), config.encoding.limit or len(examples)), "read") as progress:
        found = survey(
            examples,
            features,
            annotation=not config.surrogates_only,
            chains=config.reading.chains,
            skip_missing=config.encoding.missing_images == "skip",
            limit=config.encoding.limit,
            progress=progress,
        )
    told = {name: getattr(config.reading, name) for name in ("heads", "softmax", "renormalised", "rows")}
    how = Procedure(
        layer=config.layer,
        reading=Reading(**told),
        special_tokens=config.reading.special_tokens,
        form=config.iais_form,
        shuffles=config.shuffles,
        seed=config.seed,
    )
    session = Session(
        found=found,
        how=how,
        chains=config.reading.chains,
        device=choose_device(config.encoding.device),
        max_tokens=config.encoding.batch_tokens,
        other_features=config.encoding.other_features == "allow",
        bar=terminal.progress,
    )
    return session, {"examples": examples.content_hash, "features": features.content_hash}


def _shown(results: dict[str, object]) -> dict[str, object]:
    """Return a receipt without what a screen has no room for."""
    hidden = {"versions", "inputs", "peak", "date"}
    shown = {key: value for key, value in results.items() if key not in hidden}
    rows = shown.get("layers")
    if isinstance(rows, list):
        shown["layers"] = [{key: value for key, value in row.items() if key != "heads"} for row in rows]
    return shown
