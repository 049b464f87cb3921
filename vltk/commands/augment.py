"""Give texts paraphrases and dependency trees, and pictures augmented views."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vltk.commands._stopping import stoppable
from vltk.commands.extract_features import DetectorConfig
from vltk.config import DeviceConfig, HubConfig, WriteConfig, option
from vltk.errors import DataError, UsageError, VltkError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal
    from vltk.language.augmentation import Augmentation
    from vltk.language.paraphrase import SaysOtherwise
    from vltk.language.parsing import Parser
    from vltk.language.tokenization import Tokenizer
    from vltk.stores.examples import ExampleMetadata, ExampleStore


@dataclass(frozen=True, kw_only=True)
class ParaphrasesConfig:
    """Paraphrases by back-translation."""

    pivot: tuple[str, ...] = ()
    """Chain of languages that texts go through and come back from, e.g. en-de or en-ru; repeatable. Paraphrases that
    the examples have already are then replaced."""
    translator: tuple[str, ...] = ()
    """Weights of a direction, as en-de=FOLDER, en-de=HUB/ID, a folder or hub id named like its direction, or a folder
    of such folders; repeatable. A folder is a WMT'19 directory of fairseq or a seq2seq model of transformers."""
    engine: Literal["auto", "fairseq"] = option("auto", incidental=True)
    """auto reads fairseq's directories itself; fairseq lets the installed fairseq translate them."""
    beam: int = 5
    """Hypotheses that are kept while decoding."""
    length_penalty: float = 1.0
    """Log-probabilities are divided by length to this power."""
    candidates: int = 1
    """Translations back that are looked at for a paraphrase, the best first."""
    per_pivot: int = 1
    """Paraphrases that each pivot may add."""
    sampling: bool = False
    """Draw translations instead of searching for the best; the seed and the id of a text decide what is drawn."""
    temperature: float = 1.0
    """Of sampling; below 1 draws likely words more often."""
    top_k: int = 0
    """Sample among the k likeliest pieces; 0 takes all."""
    top_p: float = 1.0
    """Sample among the likeliest pieces that together have this probability."""
    keep_identical: bool = False
    """Keep paraphrases that say the very words of the text."""
    keep_repeated: bool = False
    """Keep paraphrases that another pivot found too."""
    shortest: float = 0.5
    """Words of a paraphrase over words of its text, at least."""
    longest: float = 2.0
    """Words of a paraphrase over words of its text, at most."""


@dataclass(frozen=True, kw_only=True)
class ParsesConfig:
    """Dependency trees of texts and paraphrases."""

    parser: Path | None = None
    """Folder that stanza.download filled; nothing is ever downloaded."""
    language: str = "en"
    """Language of the parser's models."""
    pretokenised: bool = False
    """Parse the words between spaces as they are."""
    conllu: tuple[Path, ...] = ()
    """CoNLL-U file with the trees, found by sent_id or text; repeatable, instead of --parser."""


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """Views of pictures and regions, instead of paraphrases and trees."""

    images: Path | None = None
    """Folder with the pictures that --features describes."""
    features: Path | None = None
    """Feature store with the regions of the originals."""
    view: tuple[str, ...] = ()
    """flip, flip-vertical, rotate-90, -180, -270 (boxes turn along); roi-flip, roi-rotate-90, -180, -270,
    roi-jitter-0.8, -1.2 or any scale (boxes stay); repeatable. Without it those of SSRP: flip and all roi views."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features."""


@dataclass(frozen=True, kw_only=True)
class BatchesConfig:
    """How the work is divided; it bounds memory."""

    batch_tokens: int = option(4096, incidental=True)
    """Word pieces that are translated together."""
    batch_sentences: int = option(64, incidental=True)
    """Sentences that are translated together."""
    longest_sentence: int = 400
    """Texts of more pieces get no paraphrase, texts of more words no tree."""
    batch_size: int = option(1, incidental=True)
    """Views of equal size that go through the detector together."""
    chunk_size: int = option(256, incidental=True)
    """Examples or views that are committed together; a crash loses no more."""
    resume: Literal["auto", "must", "never"] = option("auto", incidental=True)
    """Whether work that was begun at --out goes on; must and never refuse the other case."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Give the texts of an example store paraphrases and dependency trees, or pictures and regions augmented views.

    The same command resumes where a crash, a kill or Ctrl-C stopped it. Texts keep their word pieces; paraphrases get
    theirs, and each tree knows the word of every piece. Views stand in a feature store under IMAGE@VIEW.

    Examples:
        $ vltk augment --examples coco.lmdb --out coco-ssrp.lmdb --pivot en-de --pivot en-ru --translator wmt19
              --parser stanza_resources
        $ vltk augment --examples world.lmdb --out world-said.lmdb --grammar --per-pivot 2
        $ vltk augment --examples world.lmdb --out world-trees.lmdb --conllu world/conllu/train.conllu
        $ vltk augment --examples coco.lmdb --out coco-sampled.lmdb --pivot en-de --translator facebook/wmt19-en-de
              --translator facebook/wmt19-de-en --sampling --top-k 10 --candidates 4 --per-pivot 2 --dry-run
        $ vltk augment --images coco/val2014 --features coco.lmdb --weights vg.safetensors --out coco-views.lmdb
    """

    examples: Path | None = None
    """Example store to read; not with --images."""
    out: Path
    """Store to write."""
    grammar: bool = option(False, switch=True)
    """Let the grammar of the drawn world paraphrase its captions (--per-pivot says how often) and parse them: no model
    is needed."""
    paraphrases: ParaphrasesConfig = field(default_factory=ParaphrasesConfig)
    parses: ParsesConfig = field(default_factory=ParsesConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    batches: BatchesConfig = field(default_factory=BatchesConfig)
    tokenizer: str | None = option(None, incidental=True)
    """The tokenizer that made the store's word pieces, if its recorded name is no file or hub id at hand."""
    limit: int | None = option(None, least=1)
    """Take only the first N examples or pictures."""
    seed: int = 0
    """Seed of sampling."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: AugmentConfig, terminal: Terminal) -> dict[str, object]:
    """Augment, and return what is in the new store."""
    _check(config)
    if config.views.images is not None:
        from vltk.commands._views import make_views

        return make_views(config, terminal)
    from vltk.language.augmentation import Augmentation, augment_examples
    from vltk.stores.examples import ExampleStore

    store = ExampleStore.open(_examples(config))
    augmentation = Augmentation(
        paraphraser=_paraphraser(config), parser=_parser(config), tokenizer=_tokenizer(config, store)
    )
    metadata = _metadata(config, store, augmentation)
    total = len(store) if config.limit is None else min(config.limit, len(store))
    if config.write.dry_run:
        return _plan(config, store, augmentation, total)
    with stoppable(terminal) as stop, terminal.progress(total, "augment") as progress:
        written = augment_examples(
            store,
            config.out,
            metadata,
            augmentation,
            chunk_size=config.batches.chunk_size,
            limit=config.limit,
            overwrite=config.write.overwrite,
            progress=progress,
            stop=stop,
        )
    if written.made < written.examples:
        terminal.say(f"{written.examples - written.made} of {written.examples} examples were done already")
    tally = getattr(augmentation.paraphraser, "tally", None)
    content = ExampleStore.open(config.out).content_hash
    return {
        "out": str(config.out),
        **asdict(written),
        "translated now": tally and asdict(tally),
        "content_hash": content,
    }


def _check(config: AugmentConfig) -> None:
    models = bool(config.paraphrases.pivot or config.parses.parser or config.parses.conllu)
    texts = models or config.grammar
    if (config.examples is None) == (config.views.images is None):
        problem = "give one of them"
        raise UsageError(problem, where="--examples, --images", remedy="--examples for texts, --images for views")
    if config.views.images is not None and texts:
        raise UsageError(
            "goes with --examples",
            where="--pivot, --parser, --conllu, --grammar",
            remedy="make the views by themselves",
        )
    if config.examples is not None and config.device.precision != "fp32":
        problem = f"got {config.device.precision}, texts are translated and parsed in fp32"
        raise UsageError(problem, where="--precision", remedy="leave it out")
    if config.parses.parser is not None and config.parses.conllu:
        raise UsageError("give one of them", where="--parser, --conllu", remedy="leave one out")
    if config.grammar and models:
        problem = "paraphrases and parses by itself"
        raise UsageError(problem, where="--grammar", remedy="leave out --pivot, --parser and --conllu")
    if config.examples is not None and not texts:
        raise UsageError("nothing to do", where="vltk augment", remedy="give --pivot, --parser, --conllu or --grammar")
    if config.out.resolve() in [path.resolve() for path in (config.examples, config.views.features) if path]:
        raise UsageError("is the store that is read", where="--out", remedy="write another one")
    begun = (config.out / "data.mdb").exists()
    if config.batches.resume == "must" and not begun:
        raise UsageError("nothing was begun there", where=config.out, remedy="leave out --resume must")
    if config.batches.resume == "never" and begun and not config.write.overwrite:
        raise UsageError("work was begun there", where=config.out, remedy="use another --out, or --overwrite")


def _examples(config: AugmentConfig) -> Path:
    if config.examples is None:
        raise UsageError("is missing", where="--examples", remedy="give the example store to read")
    return config.examples


def _paraphraser(config: AugmentConfig) -> SaysOtherwise | None:
    chosen = config.paraphrases
    if config.grammar:
        from vltk.datasets.scenes import GrammarParaphraser

        return GrammarParaphraser(count=chosen.per_pivot, seed=config.seed)
    if not chosen.pivot:
        return None
    from vltk.detection.extractor import choose_device
    from vltk.detection.hub_detectors import quiet
    from vltk.language.paraphrase import Filter, Paraphraser
    from vltk.language.translation import Bucketing, Search, find_weights, load_translator, read_weights_options

    weights = find_weights(chosen.pivot, read_weights_options(chosen.translator))
    settings = Search(
        beam=max(chosen.beam, 1 if chosen.sampling else chosen.candidates),
        n_best=chosen.candidates,
        length_penalty=chosen.length_penalty,
        sampling=chosen.sampling,
        temperature=chosen.temperature,
        top_k=chosen.top_k,
        top_p=chosen.top_p,
        seed=config.seed,
    )
    device = choose_device(config.device.device)
    with quiet():
        translators = {
            (source, target): load_translator(
                path, source, target, engine=chosen.engine, device=device, offline=config.hub.offline
            )
            for (source, target), path in weights.items()
        }
    return Paraphraser(
        chosen.pivot,
        translators,
        settings=settings,
        bucketing=Bucketing(
            tokens=config.batches.batch_tokens,
            sentences=config.batches.batch_sentences,
            longest=config.batches.longest_sentence,
        ),
        allowed=Filter(
            identical=chosen.keep_identical,
            repeated=chosen.keep_repeated,
            shortest=chosen.shortest,
            longest=chosen.longest,
        ),
        per_pivot=chosen.per_pivot,
    )


def _parser(config: AugmentConfig) -> Parser | None:
    chosen = config.parses
    if config.grammar:
        from vltk.datasets.scenes import GrammarParser

        return GrammarParser()
    if chosen.conllu:
        from vltk.datasets.conllu import Treebank, read_sentences
        from vltk.language.preparation import source_hashes

        described = {"kind": "CoNLL-U", "files": source_hashes(chosen.conllu)}
        return Treebank((one for path in chosen.conllu for one in read_sentences(path)), described)
    if chosen.parser is None:
        return None
    from vltk.detection.extractor import choose_device
    from vltk.language.parsing import Chunking, StanzaParser

    return StanzaParser(
        chosen.parser,
        chosen.language,
        pretokenised=chosen.pretokenised,
        chunking=Chunking(longest=config.batches.longest_sentence),
        gpu=choose_device(config.device.device).type == "cuda",
    )


def _tokenizer(config: AugmentConfig, store: ExampleStore) -> Tokenizer | None:
    recorded = store.metadata.tokenizer
    if recorded is None:
        return None
    from vltk.language.tokenization import load_tokenizer

    try:
        tokenizer = load_tokenizer(
            config.tokenizer or recorded.name,
            lower_case=store.metadata.extra.get("lower_case"),
            offline=config.hub.offline,
            cache_dir=config.hub.cache_dir and config.hub.cache_dir / "hub",
        )
    except VltkError as error:
        if config.tokenizer is not None:
            raise
        problem = f"its word pieces are those of {recorded.name!r}, which is not at hand ({error.problem})"
        raise UsageError(problem, where=store.path, remedy="name the vocabulary with --tokenizer") from error
    if tokenizer.description().vocab_sha256 != recorded.vocab_sha256:
        problem = f"its word pieces are those of {recorded.name!r}, not of {tokenizer.name!r}"
        raise DataError(problem, where=store.path, remedy="name the vocabulary with --tokenizer")
    return tokenizer


def _metadata(config: AugmentConfig, store: ExampleStore, augmentation: Augmentation) -> ExampleMetadata:
    from dataclasses import replace

    import vltk

    made: dict[str, Any] = {"from": store.content_hash, "limit": config.limit}
    if augmentation.paraphraser is not None:
        made["paraphrases"] = augmentation.paraphraser.description
    if augmentation.parser is not None:
        made["parses"] = augmentation.parser.description
    before = store.metadata
    history = [*before.extra.get("augmentations", []), made]
    extra = {**before.extra, "augmentations": history}
    return replace(before, created_by=f"vltk {vltk.__version__}", extra=extra)


def _plan(config: AugmentConfig, store: ExampleStore, augmentation: Augmentation, total: int) -> dict[str, object]:
    from vltk.language.augmentation import seconds_each
    from vltk.stores.examples import ExampleStore

    begun = (config.out / "data.mdb").exists() and not config.write.overwrite
    done = len(ExampleStore.open(config.out, unfinished=True)) if begun else 0
    seconds = seconds_each(store, augmentation)
    translated = config.paraphrases.pivot and augmentation.paraphraser
    tally = getattr(augmentation.paraphraser, "tally", None)
    return {
        "would write": str(config.out),
        "examples": total,
        "done already": done,
        "directions": sorted(translated.description["weights"]) if translated else [],
        "parser": augmentation.parser.description["kind"] if augmentation.parser else None,
        "paraphrases a text": tally.paraphrases / max(1, tally.sentences) if tally else None,
        "seconds an example": round(seconds, 4),
        "hours": round(seconds * (total - done) / 3600, 3),
    }
