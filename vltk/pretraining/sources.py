"""From the stores that a configuration names to the pairs that a run reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from vltk.config.training import MixtureConfig
from vltk.errors import DataError, UsageError, first_few
from vltk.mixture import Exclusion, PairSource
from vltk.stores.examples import ExampleStore
from vltk.training_run import open_regions
from vltk.types import Progress

Bar = Callable[[int, str], AbstractContextManager[Progress]]
"""Shows how far something is: given a total and a label."""


def open_sources(data: MixtureConfig, *, bar: Bar) -> tuple[list[PairSource], list[PairSource], dict[str, str]]:
    """Open the stores of a mixture.

    Args:
        data: which ones, and what is left out.
        bar: shows the reading of each example store.

    Returns:
        The sets that are trained on, those that are measured, and a hash of everything that was opened.

    Raises:
        DataError: a store is missing or damaged, lacks an image, or nothing is left of a set.
        UsageError: feature stores that do not pair with the example stores.
    """
    excluded = Exclusion.of(data.exclude_images, data.exclude_examples)
    inputs: dict[str, str] = {}
    training = _open(data.examples, data.features, data.views, data, "--features", excluded, inputs, bar)
    features = data.validation_features or data.features[: 1 if len(data.features) == 1 else 0]
    if data.validation_examples and not features:
        raise UsageError("are needed with several --features", where="--validation-features", remedy="give them")
    views = data.validation_views
    measured = _open(data.validation_examples, features, views, data, "--validation-features", Exclusion(), inputs, bar)
    check_overlap(training, measured)
    return training, measured, inputs


def _open(
    examples: Sequence[Path],
    features: Sequence[Path],
    views: Sequence[Path],
    data: MixtureConfig,
    flag: str,
    excluded: Exclusion,
    inputs: dict[str, str],
    bar: Bar,
) -> list[PairSource]:
    if examples and len(features) not in (1, len(examples)):
        problem = f"{len(features)} feature stores for {len(examples)} example stores"
        raise UsageError(problem, where=flag, remedy="give one for all sets or one for each")
    names = [path.name.removesuffix(".lmdb") for path in examples]
    if len(set(names)) < len(names):
        raise UsageError("two sets have one name", where=", ".join(map(str, examples)), remedy="rename one store")
    # Regions that come first (of annotated boxes) have no views.
    augmented = open_regions(views, replace(data, first_features=()), inputs) if views else None
    sources = []
    for place, (name, path) in enumerate(zip(names, examples, strict=True)):
        store = ExampleStore.open(path)
        regions = open_regions([features[place if len(features) > 1 else 0]], data, inputs)
        inputs[f"examples {name}"] = store.content_hash
        with bar(len(store), f"read {path.name}") as progress:
            sources.append(
                PairSource(
                    name,
                    store,
                    regions,
                    max_text_length=data.max_text_length,
                    excluded=excluded,
                    layout=data.text_layout,
                    views=augmented,
                    progress=progress,
                )
            )
    return sources


def check_overlap(training: Sequence[PairSource], measured: Sequence[PairSource]) -> None:
    """Make sure that no picture is both trained on and measured.

    Raises:
        DataError: one is, by whichever of its names.
    """
    for source in training if measured else ():
        trained = Exclusion(source.image_ids)
        for other in measured:
            shared = [image for image in other.image_ids if image in trained]
            if shared:
                shown = first_few(shared)
                problem = f"{len(shared)} images of {other.name} are trained on ({shown})"
                raise DataError(problem, where=source.name, remedy="give --exclude-examples the validation store")


def check_augmentation(sources: Sequence[PairSource], data: MixtureConfig, paired: Sequence[str]) -> None:
    """Make sure that a set has what augmentation is asked for.

    Args:
        sources: what is trained on.
        data: which texts are read, and how many of them otherwise.
        paired: objectives that compare pairs with augmented views of them.

    Raises:
        UsageError: texts of several parts, or no views.
        DataError: no dependency trees, or no paraphrases.
    """
    if data.text_layout != "caption" and (paired or data.augmented):
        remedy = "use --text-layout caption"
        raise UsageError(f"texts of {data.text_layout} have no paraphrases", where="--text-layout", remedy=remedy)
    for source in sources if paired else ():
        for count, what in (
            (source.parsed, "dependency trees with their word pieces"),
            (source.paraphrased, "paraphrases"),
        ):
            if not count:
                remedy = "make them with vltk augment --examples"
                raise DataError(f"has no {what}, which {paired[0]} needs", where=source.name, remedy=remedy)
        if not source.view_names:
            remedy = "make them with vltk augment --images and give --views"
            raise UsageError(f"{paired[0]} needs views of the pictures", where="--views", remedy=remedy)
