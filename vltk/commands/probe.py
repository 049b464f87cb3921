"""Probe what an encoder knows of dependency trees and of relations between regions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vltk.commands._stopping import stoppable
from vltk.commands._terminal import Terminal
from vltk.config import EncodingConfig, HubConfig, WriteConfig, argument, option
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.isd.encoder import LoadedEncoder
    from vltk.probing.session import Session


@dataclass(frozen=True, kw_only=True)
class DivisionConfig:
    """Which sentences a probe learns from, and which it is tested on."""

    test_examples: Path | None = option(None, incidental=True)
    """Example store whose sentences are tested on; without it a share of --examples is. Those whose template (or image)
    --examples has are left out. The own probes of an SSRP need sentences that its second stage did not learn from."""
    held_out: Literal["templates", "images"] = "templates"
    """Sentences that stand together: those whose trees are alike but for their leaves, or those of one image."""
    test_share: float = 0.2
    """Share of the templates or images that is tested on, without --test-examples."""
    folds: int = 4
    """Parts of all others; a probe for each, which did not learn from it, says what a layer gives on new templates."""


@dataclass(frozen=True, kw_only=True)
class FittingConfig:
    """How probes learn."""

    rank: int = 64
    """Dimensions of the space in which distances are measured."""
    epochs: int = 40
    """Passes over the training sentences; the one with the lowest loss on the part left out is kept."""
    learning_rate: float = 1e-2
    """Of Adam at the beginning; it falls to nothing in a straight line."""
    batch_sentences: int = 32
    """Sentences of a batch."""
    untrained: Literal["probe", "leave-out"] = "probe"
    """Whether an encoder of the same size with random weights is probed beside it; without it a figure says little."""


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Image retrieval by regions alone (Obj.) and with their relations (Obj. + Rel.)."""

    queries: int = 100
    """Test pictures that others are searched with; 0 leaves retrieval out."""
    top: int = 10
    """Pictures that are found for each."""


@dataclass(frozen=True, kw_only=True)
class PageConfig:
    """A page with drawings."""

    html: Path | None = option(None, incidental=True)
    """Write figures, trees and retrieved pictures as a page that needs no other file."""
    pictures: Path | None = option(None, incidental=True)
    """Folder of the pictures, for thumbnails."""
    shown: int = option(12, incidental=True)
    """Sentences, pictures and queries that the page shows."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Probe the layers of an encoder for dependency trees, and show the trees and relations that are found.

    A linear map is trained on the states of each layer so that distances of words become those of their tree (Hewitt
    and Manning 2019); its minimum spanning trees are compared with gold ones on templates that it never saw. Beside it
    stand the controls that a figure must beat: the linear chain, an untrained encoder, and word and position alone. An
    SSRP is measured with its own probes too. RUN is a run of vltk, one of its checkpoints, a weights file, a name of
    weights that come with vltk, or an LXMERT or VisualBERT of transformers. The folder --out holds results.json,
    sentences.jsonl (trees), relations.safetensors (ID/text and ID/regions: squared distances), probes.safetensors and
    retrieval.jsonl. The same command goes on where it was stopped; on a finished folder it only writes the page again.

    Examples:
        $ vltk augment --examples world.lmdb --out trees.lmdb --conllu world/conllu/train.conllu
        $ vltk probe runs/ssrp --examples trees.lmdb --features features.lmdb --out probe/ssrp
        $ vltk probe uniter-tiny --examples trees.lmdb --features features.lmdb --out probe/tiny
              --test-examples test-trees.lmdb --html probe.html --pictures world/images
        $ vltk probe unc-nlp/lxmert-base-uncased --examples coco-trees.lmdb --features coco.lmdb --out probe/lxmert
              --dry-run
    """

    run: str = argument()
    """Run, checkpoint, weights file, or model of transformers."""
    examples: Path = option(incidental=True)
    """Example store of captions with trees (vltk augment --parser or --conllu)."""
    features: Path = option(incidental=True)
    """Feature store of their pictures."""
    out: Path = option(incidental=True)
    """Folder of what is found."""
    division: DivisionConfig = field(default_factory=DivisionConfig)
    fitting: FittingConfig = field(default_factory=FittingConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    page: PageConfig = field(default_factory=PageConfig)
    matrices: int = 1000
    """Write relation matrices of the first N test sentences."""
    seed: int = 0
    """Seed of the division, the probes, the untrained encoder, the queries and the bootstrap."""
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: ProbeConfig, terminal: Terminal) -> dict[str, object]:
    """Probe, write the page, and return the receipt; or the plan, with --dry-run."""
    from vltk.probing.loading import load_probed
    from vltk.run_folder import RESULTS, RunFolder

    _check(config)
    cache = config.hub.cache_dir and config.hub.cache_dir / "hub"
    loaded = load_probed(config.run, heads=config.encoding.attention_heads, offline=config.hub.offline, cache_dir=cache)
    session, inputs = _session(config, terminal, loaded)
    folder = RunFolder(config.out, config, inputs=inputs | {"weights": loaded.weights})
    if config.write.dry_run:
        return session.plan(session.take(loaded))
    folder.begin(resume="auto", overwrite=config.write.overwrite)
    done = folder.path / RESULTS
    if done.is_file():
        terminal.say(f"{config.out} was probed already")
        results = json.loads(done.read_text("utf-8"))
    else:
        with stoppable(terminal) as stop:
            results = replace(session, stop=stop).probe(loaded, folder)
    if config.page.html is not None:
        _write_page(config, config.page.html)
    return _shown(results)


def _check(config: ProbeConfig) -> None:
    if config.matrices < 0 or config.page.shown < 0:
        problem = f"got {config.matrices} and {config.page.shown}"
        raise UsageError(problem, where="--matrices, --shown", remedy="use 0 or more")
    if config.page.html is not None and config.page.html.exists() and not config.write.overwrite:
        raise UsageError("exists", where=config.page.html, remedy="add --overwrite or name another file")


def _session(config: ProbeConfig, terminal: Terminal, loaded: LoadedEncoder) -> tuple[Session, dict[str, str]]:
    """Look at the stores; return what can be probed and the hashes of what was opened."""
    from vltk.detection.extractor import choose_device
    from vltk.probing.corpus import read_corpus
    from vltk.probing.division import Division
    from vltk.probing.session import Searching, Session
    from vltk.probing.structural import Fitting
    from vltk.stores.examples import ExampleStore
    from vltk.stores.features import FeatureStore

    told = config.division
    division = Division(held_out=told.held_out, test=told.test_share, folds=told.folds, seed=config.seed)
    how = config.fitting
    fitting = Fitting(
        rank=how.rank,
        epochs=how.epochs,
        learning_rate=how.learning_rate,
        sentences=how.batch_sentences,
        seed=config.seed,
    )
    searching = Searching(queries=config.retrieval.queries, top=config.retrieval.top, seed=config.seed)
    examples, features = ExampleStore.open(config.examples), FeatureStore.open(config.features)
    tests = None if told.test_examples is None else ExampleStore.open(told.test_examples)
    inputs = {"examples": examples.content_hash, "features": features.content_hash}
    inputs |= {} if tests is None else {"test examples": tests.content_hash}
    total = sum(min(len(one), config.encoding.limit or len(one)) for one in (examples, tests) if one is not None)
    with terminal.progress(total, "read") as progress:
        corpus = read_corpus(
            examples,
            features,
            tests=tests,
            division=division,
            skip_missing=config.encoding.missing_images == "skip",
            limit=config.encoding.limit,
            progress=progress,
        )
    session = Session(
        corpus=corpus,
        fitting=fitting,
        searching=searching,
        controlled=how.untrained == "probe",
        matrices=config.matrices,
        device=choose_device(config.encoding.device),
        max_tokens=config.encoding.batch_tokens,
        other_features=config.encoding.other_features == "allow",
        bar=terminal.progress,
    )
    return session, inputs


def _write_page(config: ProbeConfig, path: Path) -> None:
    from vltk.detection.images import list_images
    from vltk.reporting.probe_page import write_probe_page
    from vltk.stores.features import FeatureStore

    files: dict[str, Path] = {}
    if config.page.pictures is not None:
        files = {one.image_id: one.path for one in list_images(config.page.pictures).files}
    write_probe_page(
        path, config.out, features=FeatureStore.open(config.features), pictures=files, shown=config.page.shown
    )


def _shown(results: dict[str, Any]) -> dict[str, object]:
    """Return a receipt without what a screen has no room for."""
    hidden = {"versions", "inputs", "peak", "date", "weights"}
    shown = {key: value for key, value in results.items() if key not in hidden}
    shown["layers"] = [
        {key: value for key, value in row.items() if key not in {"validation_uuas", "validation_parts", "epochs"}}
        for row in results["layers"]
    ]
    return shown
