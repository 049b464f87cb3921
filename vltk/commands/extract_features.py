"""Turn a folder of pictures into a store of region features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vltk.commands._extractor import build_extractor, metadata_of
from vltk.commands._given_boxes import BoxesFormat, read_boxes
from vltk.commands._stopping import stoppable
from vltk.config import DeviceConfig, HubConfig, WriteConfig, option
from vltk.errors import DataError, UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal
    from vltk.detection.extraction import ExtractionResult
    from vltk.detection.extractor import Extractor
    from vltk.detection.given_boxes import GivenBoxes
    from vltk.detection.images import ImageFile
    from vltk.detection.loading import Loading
    from vltk.stores.features import FeatureMetadata


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Which network looks at the pictures."""

    detector: str = "faster-rcnn"
    """faster-rcnn (needs --weights), demo (the small one that comes with vltk, for drawn scenes), or hf:ID or
    hf:FOLDER for an object detector of transformers (RT-DETR, D-FINE, YOLOS, DETR)."""
    weights: str | None = None
    """Weights of faster-rcnn: a .pkl, .bin, .pth or .safetensors file, its folder, or a hub id."""
    preset: str | None = None
    """Published settings: butd-36 (the default), butd-10-100, uniter, d2-maxnms or hf-frcnn."""
    labels: Path | None = None
    """File with a class name a line (objects_vocab.txt), where the weights carry none."""
    attribute_labels: Path | None = None
    """File with an attribute name a line (attributes_vocab.txt), where the weights carry none."""


@dataclass(frozen=True, kw_only=True)
class RegionsConfig:
    """Which regions of a picture are described, and what is kept of them."""

    features: Literal["regions", "grid"] = "regions"
    """Boxes, or the cells of the last map (Jiang et al. 2020)."""
    boxes: tuple[Path, ...] = ()
    """Describe these boxes instead of detecting some: COCO instances, Flickr30k Entities, RefCOCO, a TSV, a store;
    repeatable."""
    boxes_format: BoxesFormat = "auto"
    """Layout of --boxes; auto tells by what is there."""
    min_boxes: int | None = None
    """Keep at least so many regions instead of the preset's number."""
    max_boxes: int | None = None
    """Keep at most so many regions instead of the preset's number."""
    score_threshold: float | None = None
    """Score that a region needs, instead of the preset's."""
    proposals: int | None = None
    """Proposals that reach the second stage, instead of the preset's number."""
    class_probs: bool = True
    """Keep the distribution over all classes (UNITER's MRC-kl needs it; it doubles the store)."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features."""
    compression: Literal["none", "lz4"] = "none"
    """lz4 makes the store smaller and reading slower."""


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """How pictures are found and decoded."""

    image_ids: Literal["stem", "path"] = "stem"
    """The id of a picture: its file name without suffix, or its path below the folder without suffix."""
    transparency: Literal["drop", "white"] = "drop"
    """What becomes of transparent pixels: their stored colour, as in the published extractors, or white."""
    max_pixels: int = 100_000_000
    """Refuse pictures that claim more pixels than this."""
    limit: int | None = option(None, least=1)
    """Take only the first N pictures."""
    on_error: Literal["fail", "skip"] = option("fail", incidental=True)
    """Whether pictures that cannot be used make the command end with 3; they are listed and left out either way."""


@dataclass(frozen=True, kw_only=True)
class WorkConfig:
    """How the work is divided; the features do not depend on it."""

    batch_size: int = option(1, incidental=True)
    """Pictures of equal size that go through the network together; they are never padded."""
    chunk_size: int = option(256, incidental=True)
    """Pictures of a part store."""
    shard: str | None = None
    """Work on part i of n, written i/n, and write OUT.shard-i-of-n; vltk store merge joins the parts."""
    resume: Literal["auto", "must", "never"] = option("auto", incidental=True)
    """Whether work that was begun at --out goes on; must and never refuse the other case."""


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Pictures for people."""

    preview: Path | None = option(None, incidental=True)
    """Draw the regions of the first pictures into this folder."""
    preview_count: int = option(20, incidental=True)
    """How many pictures to draw."""


@dataclass(frozen=True, kw_only=True)
class ExtractFeaturesConfig:
    """Turn a folder of pictures into a store of region features, as the published extractors made them.

    The same command resumes where a crash, a kill or Ctrl-C stopped it, and adds pictures that came to the folder
    later. Pictures that cannot be used are listed in OUT.failures.jsonl with the reason; the rest goes on.

    Examples:
        $ vltk extract-features --images coco/val2014 --out coco.lmdb --weights faster_rcnn_from_caffe_attr.pkl
        $ vltk extract-features --images photos --out photos.lmdb --weights vg.safetensors --preset uniter --dry-run
        $ vltk extract-features --images world/images --out world.lmdb --detector demo --preview look
        $ vltk extract-features --images coco/val2014 --out gt.lmdb --weights vg.safetensors --boxes instances.json
        $ vltk extract-features --images photos --out photos.lmdb --detector hf:PekingU/rtdetr_r50vd
    """

    images: Path
    """Folder with the pictures; folders below it are searched too."""
    out: Path
    """Store to write."""
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    regions: RegionsConfig = field(default_factory=RegionsConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    work: WorkConfig = field(default_factory=WorkConfig)
    preview: PreviewConfig = field(default_factory=PreviewConfig)
    device: DeviceConfig = field(default_factory=lambda: DeviceConfig(num_workers=2))
    hub: HubConfig = field(default_factory=HubConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: ExtractFeaturesConfig, terminal: Terminal) -> dict[str, object]:
    """Extract, and return what is in the store."""
    from vltk.detection.images import list_images
    from vltk.detection.loading import Loading

    listing = list_images(config.images, ids=config.pictures.image_ids)
    given = read_boxes(config.regions.boxes, config.regions.boxes_format) if config.regions.boxes else None
    files = _chosen(listing.files, given, config, terminal)
    if listing.ignored:
        terminal.say(f"{len(listing.ignored)} files are no pictures by their name, the first {listing.ignored[0]}")
    loading = Loading(
        num_workers=config.device.num_workers,
        max_pixels=config.pictures.max_pixels,
        transparency=config.pictures.transparency,
    )
    extractor = build_extractor(config, given)
    metadata = metadata_of(config, extractor, given)
    out, files = _shard(files, config)
    _check_resume(out, config)
    with warnings.catch_warnings():
        # What is wrong with a picture is in the list of failures; Pillow's remarks name no file.
        warnings.filterwarnings("ignore", module="PIL")
        if config.write.dry_run:
            return _plan(files, extractor, out, metadata, loading, config)
        result = _extract(files, extractor, out, metadata, loading, config, terminal)
        return _summary(result, extractor, files, loading, config, terminal)


def _chosen(
    files: tuple[ImageFile, ...],
    given: dict[str, GivenBoxes] | None,
    config: ExtractFeaturesConfig,
    terminal: Terminal,
) -> list[ImageFile]:
    chosen = list(files)
    if given is not None:
        chosen = [file for file in files if file.image_id in given]
        terminal.say(f"{len(chosen)} of {len(files)} pictures have boxes; {len(given)} pictures are annotated")
        if files and not chosen:
            example = next(iter(given))
            problem = f"no picture has boxes: ids look like {files[0].image_id!r}, those of the boxes like {example!r}"
            raise DataError(problem, where="--boxes", remedy="rename the pictures or check --boxes")
    if not chosen:
        raise DataError("holds no pictures", where=config.images, remedy="name the folder that holds them")
    return chosen[: config.pictures.limit]


def _shard(files: list[ImageFile], config: ExtractFeaturesConfig) -> tuple[Path, list[ImageFile]]:
    from vltk.detection.extraction import share

    if config.work.shard is None:
        return config.out, files
    number, _, count = config.work.shard.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise UsageError(f"got {config.work.shard!r}, expected i/n such as 1/3", where="--shard")
    out = config.out.with_name(f"{config.out.stem}.shard-{int(number)}-of-{int(count)}{config.out.suffix}")
    return out, share(files, (int(number), int(count)), chunk_size=config.work.chunk_size)


def _check_resume(out: Path, config: ExtractFeaturesConfig) -> None:
    from vltk.detection.extraction import is_begun

    if config.work.resume == "must" and not is_begun(out):
        raise UsageError("nothing was begun there", where=out, remedy="leave out --resume must")
    if config.work.resume == "never" and is_begun(out) and not config.write.overwrite:
        raise UsageError("work was begun there", where=out, remedy="use another --out, or --overwrite")


def _plan(
    files: list[ImageFile],
    extractor: Extractor,
    out: Path,
    metadata: FeatureMetadata,
    loading: Loading,
    config: ExtractFeaturesConfig,
) -> dict[str, object]:
    from vltk.detection.estimate import estimate
    from vltk.detection.extraction import stored_ids

    stored = frozenset[str]() if config.write.overwrite else stored_ids(out, metadata)
    done = sum(file.image_id in stored for file in files)
    cost = estimate(files, extractor, loading=loading, dtype=config.regions.dtype)
    sizes = (f"{width} x {height}" for width, height in (cost.smallest, cost.typical, cost.largest))
    # Decoding runs beside the network where there are workers for it.
    workers = config.device.num_workers
    computing = cost.seconds - cost.decoding
    seconds = max(computing, cost.decoding / workers) if workers else cost.seconds
    return {
        "would write": str(out),
        "pictures": len(files),
        "done already": done,
        "chunks": -(-(len(files) - done) // config.work.chunk_size),
        "smallest, typical, largest": list(sizes),
        "regions a picture": round(cost.regions, 1),
        "megabytes": round(cost.record_bytes * len(files) / 1e6, 1),
        "seconds a picture": round(seconds, 3),
        "hours": round(seconds * (len(files) - done) / 3600, 3),
        "pictures timed": cost.timed,
    }


def _extract(
    files: list[ImageFile],
    extractor: Extractor,
    out: Path,
    metadata: FeatureMetadata,
    loading: Loading,
    config: ExtractFeaturesConfig,
    terminal: Terminal,
) -> ExtractionResult:
    from vltk.detection.extraction import Extraction

    with (
        stoppable(terminal) as stop,
        Extraction(
            files,
            extractor,
            out,
            metadata=metadata,
            loading=loading,
            batch_size=config.work.batch_size,
            chunk_size=config.work.chunk_size,
            overwrite=config.write.overwrite,
        ) as extraction,
    ):
        planned, remaining = extraction.planned, extraction.remaining
        if remaining < len(files):
            terminal.say(f"{len(files) - remaining} of {len(files)} pictures are done already")
        with terminal.progress(remaining, "extracting") as advance:
            extraction.extract(progress=advance, stop=stop)
        with terminal.progress(planned, "merging") as advance:
            return extraction.finish(progress=advance)


def _summary(
    result: ExtractionResult,
    extractor: Extractor,
    files: list[ImageFile],
    loading: Loading,
    config: ExtractFeaturesConfig,
    terminal: Terminal,
) -> dict[str, object]:
    from vltk.detection.extraction import failures_path
    from vltk.detection.preview import write_previews
    from vltk.stores.features import FeatureStore

    store = FeatureStore.open(result.out)
    if config.preview.preview is not None:
        drawn = write_previews(store, files[: config.preview.preview_count], config.preview.preview, loading=loading)
        terminal.say(f"{len(drawn)} drawings are in {config.preview.preview}")
    if result.left:
        terminal.warn(f"{result.left} pictures came while the work was interrupted; the same command adds them")
    if result.failures:
        _tell_failures(result, config, terminal)
    if config.work.shard:
        terminal.say("when all shards are done: vltk store merge joins them")
    provenance = extractor.provenance
    return {
        "store": str(result.out),
        "pictures": result.stored,
        "extracted now": result.extracted,
        "failures": len(result.failures),
        "failures listed in": str(failures_path(result.out)) if result.failures else None,
        "detector": provenance.detector,
        "preset": provenance.preset,
        "preset hash": provenance.preset_hash[:16],
        "weights sha256": provenance.weights_hash[:16],
        "content hash": store.content_hash,
        "seconds": round(result.seconds, 2),
        "pictures a second": round(result.extracted / result.seconds, 3) if result.extracted else None,
        "waiting for decoding": f"{100 * result.waiting / result.seconds:.1f} %",
    }


def _tell_failures(result: ExtractionResult, config: ExtractFeaturesConfig, terminal: Terminal) -> None:
    from vltk.detection.extraction import failures_path

    for one in result.failures[:5]:
        terminal.say(f"{one.path}: {one.reason}")
    problem = f"{len(result.failures)} of {result.images} pictures could not be used"
    listed = failures_path(result.out)
    if config.pictures.on_error == "skip":
        terminal.say(f"{problem}; they are listed in {listed}")
        return
    remedy = f"they are listed in {listed}; repair them and run the same command, or use --on-error skip"
    terminal.fail_after(DataError(problem, where=result.out, remedy=remedy))
