"""Turn annotation files into an example store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vltk.config import HubConfig, WriteConfig, chosen_by, listed_in, option
from vltk.errors import DataError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal
    from vltk.language.preparation import Survey, TextTokenizer
    from vltk.stores.examples import ExampleMetadata
    from vltk.types import Example

# More unknown pieces than this mean a vocabulary of another language, case or world.
UNKNOWN_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Turn annotation files into an example store: read, check against the pictures, tokenise, write.

    The files are read through once before anything is written, so a fault in their last line costs nothing. Run the
    same command again after a crash, and it goes on where it stopped.

    Examples:
        $ vltk prepare --task flickr30k --karpathy dataset_flickr30k.json --split test
              --tokenizer bert-base-uncased --features butd.lmdb --out flickr30k-test.lmdb
        $ vltk prepare --task vqa --help
    """

    task: str = listed_in("vltk.tasks")
    """Which task; it brings the options of its annotation files."""
    source: Any = chosen_by("task", package="vltk.tasks")
    out: Path
    """Folder of the example store to write."""
    tokenizer: str
    """A vocab.txt, a folder with one or with tokenizer.json, a model of the hub such as bert-base-uncased, the words of
    VSE-infinity, SCAN or VSRN (f30k_precomp_vocab.json or .pkl), or those of HGR (word2int.json)."""
    lower_case: bool | None = None
    """Lower-case texts or not; without it as the tokenizer's own settings or its vocabulary say."""
    features: tuple[Path, ...] = ()
    """Feature store that must hold every picture of the examples."""
    missing_images: Literal["refuse", "skip"] = "refuse"
    """What to do with examples whose picture is in none of --features."""
    disjoint_from: tuple[Path, ...] = ()
    """Example store that should share no picture with this one (train against test); a warning says if it does."""
    limit: int | None = option(None, least=1)
    """Take only the first N examples."""
    hub: HubConfig = field(default_factory=HubConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: PrepareConfig, terminal: Terminal) -> dict[str, object]:
    """Read, check and write; return what was made."""
    from vltk.language.preparation import load_text_tokenizer, survey, write_examples
    from vltk.stores.examples import ExampleStore

    tokenizer = load_text_tokenizer(
        config.tokenizer,
        lower_case=config.lower_case,
        offline=config.hub.offline,
        cache_dir=config.hub.cache_dir and config.hub.cache_dir / "hub",
    )
    with terminal.progress(None, "read") as progress:
        found = survey(_examples(config), progress=progress)
    if not found.examples:
        raise DataError("the annotation files hold no example", where=f"--task {config.task}", remedy="check them")
    missing = _missing(config, found)
    shared = _shared(config, found, terminal)
    metadata = _metadata(config, tokenizer, without=len(missing))
    summary: dict[str, object] = {
        "task": config.task,
        "split": metadata.split,
        "out": str(config.out),
        "examples": found.examples,
        "texts": found.texts,
        "images": len(found.images),
        "targets": found.targets,
        "missing_images": len(missing),
        "shared_images": shared,
        "sources": metadata.sources,
    }
    if config.write.dry_run:
        return summary
    with terminal.progress(found.examples, "write") as progress:
        written = write_examples(
            _examples(config),
            config.out,
            metadata,
            tokenizer,
            without=frozenset(missing),
            overwrite=config.write.overwrite,
            progress=progress,
        )
    unknown = written.unknown / written.pieces if written.pieces else 0.0
    if unknown > UNKNOWN_SHARE:
        terminal.warn(f"{unknown:.1%} of the word pieces are [UNK]; is {config.tokenizer} the right vocabulary?")
    return {
        **summary,
        "examples": written.examples,
        "left_out": written.left_out,
        "mean_pieces": written.pieces / max(1, written.texts),
        "longest_text": written.longest,
        "unknown_share": unknown,
        "content_hash": ExampleStore.open(config.out).content_hash,
    }


def _examples(config: PrepareConfig) -> Iterator[Example]:
    found: Iterator[Example] = config.source.examples()
    return islice(found, config.limit)


def _metadata(config: PrepareConfig, tokenizer: TextTokenizer, *, without: int) -> ExampleMetadata:
    import vltk
    from vltk.language.preparation import source_hashes
    from vltk.stores.examples import ExampleMetadata

    values = {item.name: getattr(config.source, item.name) for item in fields(config.source)}
    files = [value for value in values.values() if isinstance(value, Path)]
    chosen = {name: value for name, value in values.items() if value is not None and not isinstance(value, Path)}
    return ExampleMetadata(
        task=config.task,
        split=_split(values, files),
        tokenizer=tokenizer.description(),
        sources=source_hashes(files),
        created_by=f"vltk {vltk.__version__}",
        extra={
            "options": chosen,
            "lower_case": tokenizer.lower_case,
            "limit": config.limit,
            "images_left_out": without,
        },
    )


def _split(values: dict[str, Any], files: list[Path]) -> str:
    # Where no option names the split, the list of its images does, or the file that holds it alone.
    named = next(iter([*filter(None, [values.get("images")]), *files]), Path())
    return str(values.get("split") or named.name.partition(".")[0])


def _missing(config: PrepareConfig, found: Survey) -> list[str]:
    from vltk.language.preparation import missing_images
    from vltk.stores.features import ChainedFeatures, FeatureStore

    if not config.features:
        return []
    stores = [FeatureStore.open(path) for path in config.features]
    missing = found.missing(ChainedFeatures(stores))
    if missing and config.missing_images == "refuse":
        known = next((name for store in stores for name in store.ids()[:1]), None)
        where = ", ".join(map(str, config.features))
        raise missing_images(missing, len(found.images), known=known, where=where)
    if len(missing) == len(found.images):
        raise missing_images(missing, len(found.images), known=None, where=", ".join(map(str, config.features)))
    return missing


def _shared(config: PrepareConfig, found: Survey, terminal: Terminal) -> int:
    from vltk.stores.examples import ExampleStore

    total = 0
    for path in config.disjoint_from:
        others = {image for example in ExampleStore.open(path) for image in example.image_ids}
        shared = sorted(found.images.keys() & others)
        total += len(shared)
        if shared:
            terminal.warn(f"{len(shared)} of {len(found.images)} images are in {path} too, first {shared[0]}")
    return total
