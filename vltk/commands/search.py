"""Search a feature store with texts or pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.commands._search_pictures import embedded_pictures
from vltk.commands._stopping import stoppable
from vltk.commands._terminal import Terminal
from vltk.config import DeviceConfig, HubConfig, WriteConfig, argument, option
from vltk.errors import DataError, UsageError

if TYPE_CHECKING:
    from vltk.evaluator import Execution
    from vltk.models._dual_checkpoints import LoadedDual
    from vltk.reporting.search_page import Found
    from vltk.stores.embedding_files import Embeddings
    from vltk.stores.features import FeatureStore


@dataclass(frozen=True, kw_only=True)
class LookConfig:
    """Which network looks at an --image that is not in the store: the one that made the store."""

    detector: str | None = None
    """faster-rcnn (needs --weights), demo, or hf:ID or hf:FOLDER."""
    weights: str | None = None
    """Weights of faster-rcnn."""
    preset: str | None = None
    """Its settings; those that the store records where left out."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Find the pictures of a feature store that fit a text, or that are like a picture.

    RUN is a run of a dual encoder (vltk finetune --model vse) or a file of vltk convert. Every picture is embedded
    once; the embeddings are kept as NAME.npy and NAME.json and used again while model and store stay the same. The
    search is exact. --html writes a page with thumbnails that needs no other file.

    Examples:
        $ vltk search runs/vse --features coco.lmdb --tokenizer vocab.txt --text "a dog on a red sofa"
        $ vltk search vse.safetensors --features coco.lmdb --image 000000000139 --image 000000000802 --top 5
        $ vltk search runs/vse --features coco.lmdb --tokenizer vocab.txt --text "a boat" --pictures val2017/
              --html boat.html
        $ vltk search runs/vse --features coco.lmdb --image mine.jpg --detector faster-rcnn --weights butd.safetensors
    """

    run: Path = argument()
    """Run of a dual encoder, one of its checkpoints, or a file of vltk convert."""
    features: Path = option(incidental=True)
    """Feature store that is searched."""
    text: tuple[str, ...] = ()
    """What to look for; repeat for several."""
    image: tuple[str, ...] = ()
    """Look for others like it: the id of a picture of the store, a file of that name, or any file with --detector;
    repeat for several."""
    tokenizer: str | None = None
    """What the run's examples were prepared with; --text needs it."""
    top: int = 10
    """How many pictures to find."""
    embeddings: Path | None = option(None, incidental=True)
    """Where embeddings are kept (NAME.npy, NAME.json); RUN/embeddings/STORE where RUN is a folder."""
    html: Path | None = option(None, incidental=True)
    """Write the results as a page."""
    pictures: Path | None = option(None, incidental=True)
    """Folder of the pictures, for thumbnails."""
    detector: LookConfig = field(default_factory=LookConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: SearchConfig, terminal: Terminal) -> dict[str, object]:
    """Search, write the page, return what was found."""
    _check(config)
    from vltk.models._dual_checkpoints import load_dual
    from vltk.stores.features import FeatureStore

    loaded, store = load_dual(config.run), FeatureStore.open(config.features)
    kept = _kept(config)
    if config.write.dry_run:
        return {"model": loaded.name, "pictures": len(store.ids()), "embeddings": None if kept is None else str(kept)}
    with stoppable(terminal) as stop, terminal.progress(len(store.ids()), "embed") as progress:
        execution = _execution(config, progress, stop)
        pictures = _pictures(config, loaded, store, kept, execution)
    results = _results(config, loaded, store, pictures, _execution(config, lambda done: None, stop), terminal)
    if config.html is not None:
        _write_page(config, results)
    found = [
        {"query": one.query, "rank": rank, "image": image_id, "score": score}
        for one in results
        for rank, (image_id, score) in enumerate(zip(one.image_ids, one.scores, strict=True), 1)
    ]
    summary: dict[str, object] = {"model": loaded.name, "pictures": len(pictures.ids), "found": found}
    summary |= {"embeddings": None if kept is None else str(kept)}
    return summary | ({} if config.html is None else {"html": str(config.html)})


def _check(config: SearchConfig) -> None:
    if not config.text and not config.image:
        raise UsageError("there is nothing to look for", where="search", remedy="give --text or --image")
    if config.text and config.tokenizer is None:
        remedy = "name the vocabulary that the run's examples were prepared with"
        raise UsageError("is needed to read --text", where="--tokenizer", remedy=remedy)
    if config.top < 1:
        raise UsageError(f"{config.top} is too few", where="--top", remedy="use a positive number")
    if config.html is not None and config.html.exists() and not config.write.overwrite:
        raise UsageError("exists", where=config.html, remedy="add --overwrite or name another file")


def _kept(config: SearchConfig) -> Path | None:
    if config.embeddings is not None:
        return config.embeddings
    name = config.features.name.removesuffix(".lmdb")
    return config.run / "embeddings" / name if config.run.is_dir() else None


def _execution(config: SearchConfig, progress: Any, stop: Any) -> Execution:
    from vltk.detection.extractor import choose_device
    from vltk.evaluator import Execution

    device = choose_device(config.device.device)
    return Execution(device=device, precision=config.device.precision, progress=progress, stop=stop)


def _pictures(
    config: SearchConfig, loaded: LoadedDual, store: FeatureStore, kept: Path | None, execution: Execution
) -> Embeddings:
    """Return the embeddings of the store's pictures: those that are kept, where they are of this model and store."""
    from vltk.evaluator.search import embed_pictures
    from vltk.run_folder import file_sha256
    from vltk.stores.embedding_files import Embeddings, read_embeddings, write_embeddings
    from vltk.stores.ordered_features import ordered
    from vltk.training_run import TRAINED_ON, check_stores

    check_stores((loaded.file.own or {}).get(TRAINED_ON, {}), store, None, where=str(config.features))
    made_of = {
        "model": loaded.name,
        "weights": file_sha256(loaded.file.path),
        "features": store.content_hash,
        "precision": config.device.precision,
    }
    if kept is not None and kept.with_name(f"{kept.name}.json").is_file():
        there = read_embeddings(kept)
        if there.provenance == made_of:
            return there
    ids = store.ids()
    features = ordered(store, getattr(loaded.model.config, "region_order", None))
    vectors = embed_pictures(loaded.model, features, ids, execution=execution)
    made = Embeddings(ids=ids, vectors=vectors, provenance=made_of)
    if kept is not None:
        write_embeddings(kept, made, overwrite=True)
    return made


def _results(
    config: SearchConfig,
    loaded: LoadedDual,
    store: FeatureStore,
    pictures: Embeddings,
    execution: Execution,
    terminal: Terminal,
) -> list[Found]:
    import numpy as np

    from vltk.evaluator.search import nearest
    from vltk.reporting.search_page import Found

    queries, labels = [], list(config.text)
    if config.text:
        queries.append(_embedded_texts(config, loaded, execution, terminal))
    if config.image:
        names, vectors = embedded_pictures(config, loaded, store, pictures, execution)
        labels += [f"like {name}" for name in names]
        queries.append(vectors)
    found, scores = nearest(np.concatenate(queries), pictures.vectors, config.top)
    return [
        Found(query=label, image_ids=[pictures.ids[place] for place in row], scores=values.tolist())
        for label, row, values in zip(labels, found.tolist(), scores, strict=True)
    ]


def _embedded_texts(config: SearchConfig, loaded: LoadedDual, execution: Execution, terminal: Terminal) -> Any:
    from vltk.batching import SpecialTokens
    from vltk.evaluator.search import embed_queries
    from vltk.language.preparation import load_text_tokenizer
    from vltk.training_run import TRAINED_ON

    cache = config.hub.cache_dir and config.hub.cache_dir / "hub"
    tokenizer = load_text_tokenizer(config.tokenizer or "", offline=config.hub.offline, cache_dir=cache)
    told = tokenizer.description()
    trained = (loaded.file.own or {}).get(TRAINED_ON, {}).get("vocabulary")
    if told.vocab_size != loaded.model.config.vocabulary or trained not in (None, told.vocab_sha256):
        problem = f"is not the vocabulary of the run ({told.vocab_size} words, {loaded.model.config.vocabulary} there)"
        raise DataError(problem, where=f"--tokenizer {config.tokenizer}", remedy="name the one of its examples")
    tokens = [tokenizer.tokens(text) for text in config.text]
    unknown = tokenizer.special_ids["[UNK]"]
    for text, found in zip(config.text, tokens, strict=True):
        if missing := found.ids.count(unknown):
            terminal.say(f"{text!r}: {missing} of its {len(found.ids)} words are unknown to the run")
    special = SpecialTokens.of(tokenizer.special_ids)
    return embed_queries(loaded.model, [one.ids for one in tokens], special, execution=execution)


def _write_page(config: SearchConfig, results: list[Found]) -> None:
    from vltk.detection.images import list_images
    from vltk.reporting.search_page import write_search_page

    files = {} if config.pictures is None else {one.image_id: one.path for one in list_images(config.pictures).files}
    if config.html is not None:
        write_search_page(config.html, results, title=f"{config.run.name}: {config.features.name}", pictures=files)
