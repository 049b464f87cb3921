"""``vltk store import``, ``export`` and ``compare``."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vltk.config import WriteConfig, argument, chosen_by, option
from vltk.errors import BelowThresholdError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal

_FORMATS = "vltk.stores.formats"


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Turn region features that another program wrote into a store.

    Every record is checked: sizes and shapes against the file, boxes against the picture. No pickle is ever run.
    A format has options of its own; see them with --format NAME --help. After a crash the same command goes on.

    Examples:
        $ vltk store import train2014_obj36.tsv --format lxmert_tsv --out coco.lmdb
        $ vltk store import img_db/flickr30k/feat_th0.2_max100_min10 --format uniter_img_db --out flickr30k.lmdb
        $ vltk store import f30k_precomp --format scan_npy --split test --out test.lmdb --captions captions.lmdb
        $ vltk store import txt_db/itm_flickr30k_val.db --format uniter_txt_db --out val.lmdb
    """

    source: Path = argument()
    """File or folder to read."""
    format: str
    """Format of it."""
    out: Path
    """Folder of the store to write."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features; float32 keeps every bit, float16 halves the store."""
    compression: Literal["none", "lz4"] = "none"
    """Compress the features; smaller, and slower to read."""
    detector: str = ""
    """Name of the detector that made the features, where you know it."""
    preset: str = ""
    """Name of its settings, where you know them."""
    captions: Path | None = None
    """Folder of an example store to write the format's captions to."""
    limit: int | None = option(None, least=1)
    """Read only the first N records."""
    options: Any = chosen_by("format", package=_FORMATS, attribute="ReadOptions")
    common: WriteConfig = field(default_factory=WriteConfig)


def run_import(config: ImportConfig, terminal: Terminal) -> dict[str, object]:
    """Write the store."""
    from vltk.stores import transfer

    module = transfer.load_format(config.format)
    transfer.require_source(config.source)
    plan: dict[str, object] = {"format": config.format, "source": str(config.source), "out": str(config.out)}
    read_captions = None if config.captions is None else transfer.captions_of(module)
    records = itertools.islice(module.read(config.source, config.options), config.limit)
    if config.common.dry_run:
        return {**plan, "first": _described(next(records, None))}
    with terminal.progress(None, "import") as progress:
        common: dict[str, Any] = {"overwrite": config.common.overwrite, "progress": progress}
        if transfer.holds_examples(module):
            metadata = transfer.example_metadata(config.format, config.source, config.options)
            store: Any = transfer.import_examples(records, config.out, metadata, **common)
        else:
            store = transfer.import_features(records, config.out, _metadata(config), **common)
        plan |= {"records": len(store), "content_hash": store.content_hash}
        if read_captions is not None and config.captions is not None:
            metadata = transfer.example_metadata(config.format, config.source, config.options)
            examples = read_captions(config.source, config.options)
            captions = transfer.import_examples(examples, config.captions, metadata, **common)
            plan |= {"captions": str(config.captions), "caption_records": len(captions)}
    return plan


def _metadata(config: ImportConfig) -> Any:
    from vltk.stores import transfer

    known = {"dtype": config.dtype, "compression": config.compression}
    names = {"detector": config.detector, "preset": config.preset}
    return transfer.feature_metadata(config.format, config.source, config.options, **known, **names)


def _described(record: Any) -> dict[str, object] | None:
    if record is None:
        return None
    if hasattr(record, "texts"):
        return {"id": record.id, "image_ids": list(record.image_ids), "texts": list(record.texts)}
    shapes = {name: list(array.shape) for name, array in record.arrays().items()}
    return {"image_id": record.image_id, "size": list(record.size), **shapes}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a store in the format of another program.

    A format has options of its own; see them with --format NAME --help. What is written appears whole or not at all.

    Examples:
        $ vltk store export coco.lmdb --format lxmert_tsv --out coco.tsv
        $ vltk store export flickr30k.lmdb --format uniter_img_db --out img_db/flickr30k --max-bb 100 --min-bb 10
        $ vltk store export test.lmdb --format scan_npy --split test --captions captions.lmdb --out f30k_precomp
    """

    store: Path = argument()
    """Folder of the store to read."""
    format: str
    """Format to write."""
    out: Path
    """File or folder to write."""
    options: Any = chosen_by("format", package=_FORMATS, attribute="WriteOptions")
    common: WriteConfig = field(default_factory=WriteConfig)


def run_export(config: ExportConfig, terminal: Terminal) -> dict[str, object]:
    """Write the files."""
    from vltk.stores import transfer

    module = transfer.load_format(config.format)
    store = transfer.open_for(module, config.store)
    plan: dict[str, object] = {"format": config.format, "store": str(config.store), "out": str(config.out)}
    plan |= {"records": len(store)}
    if not config.common.dry_run:
        with terminal.progress(len(store), "export") as progress:
            module.write(store, config.out, config.options, overwrite=config.common.overwrite, progress=progress)
    return plan


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Find out whether two stores hold the same extraction.

    Regions are matched by the overlap of their boxes, and the features of matched regions are compared by their
    cosine. Features that were extracted again with another resize rule, another batch size or other weights look
    alike to every other check, and cost a trained model tens of points.

    Examples:
        $ vltk store compare published.lmdb mine.lmdb
        $ vltk store compare published.lmdb mine.lmdb --limit 500 --fail-under 0.99
    """

    first: Path = argument()
    """Folder of the store that you trust."""
    second: Path = argument()
    """Folder of the store in question."""
    limit: int | None = option(None, least=1)
    """Compare only N of the common pictures, spread evenly."""
    worst: int = 10
    """How many of the least agreeing pictures are named."""
    fail_under: float | None = None
    """Exit with code 5 where the mean agreement (1 is equal, 0 has nothing in common) is below."""


def run_compare(config: CompareConfig, terminal: Terminal) -> dict[str, object]:
    """Return in what two stores agree and differ."""
    from vltk.stores.comparison import compare
    from vltk.stores.features import FeatureStore

    first, second = FeatureStore.open(config.first), FeatureStore.open(config.second)
    total = min(len(first), len(second), config.limit or len(first))
    with terminal.progress(total, "compare") as progress:
        found = compare(first, second, limit=config.limit, worst=config.worst, progress=progress)
    if config.fail_under is not None and found.agreement < config.fail_under:
        problem = f"the agreement is {found.agreement:.4f}, below {config.fail_under}"
        terminal.fail_after(BelowThresholdError(problem, where=config.second))
    summary = {"verdict": found.verdict, **asdict(found)}
    if not terminal.json:
        terminal.table(_bars(summary.pop("histogram")), title="Cosine of matched regions")
    return summary


def _bars(histogram: dict[str, int]) -> list[dict[str, object]]:
    count = max(sum(histogram.values()), 1)
    return [
        {"cosine": name, "regions": number, "share": f"{number / count:.1%}", "": "#" * round(40 * number / count)}
        for name, number in histogram.items()
    ]


COMMANDS = {
    "import": (ImportConfig, run_import),
    "export": (ExportConfig, run_export),
    "compare": (CompareConfig, run_compare),
}
