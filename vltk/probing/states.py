"""The states of every layer of an encoder, embeddings included, and of each word the mean of those of its pieces."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vltk.errors import DataError, StoppedEarlyError, UsageError
from vltk.models._hub_encoders import HubEncoder, LXMERTEncoder, VisualBERTEncoder
from vltk.models._ssrp import SSRP
from vltk.models._ssrp_layers import average_pieces
from vltk.models.uniter import UNITER
from vltk.probing.corpus import Corpus
from vltk.stores.whole_files import write_whole
from vltk.types import Batch, Progress

Table = NDArray[np.float32]
"""[layers, words, H]."""


def layer_states(encoder: nn.Module, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Run an encoder and return the states of all its layers.

    Returns:
        A [B, T, H] for each layer of the text and a [B, R, H] for each layer of the regions, embeddings first;
        positions of padding hold anything.

    Raises:
        UsageError: an encoder whose layers are not known.
    """
    if isinstance(encoder, SSRP):
        return encoder.layer_states(batch)
    text, regions, split = _watched(encoder)
    with _recorded([*text, *regions]) as seen:
        encoder(batch)
    texts = [seen[place] for place in range(len(text))]
    if split is not None:
        pairs = [split(states, batch) for states in texts]
        return [one for one, _ in pairs], [one for _, one in pairs]
    return texts, [seen[len(text) + place] for place in range(len(regions))]


Watched = tuple[nn.Module, Callable[[Any, Any], Tensor]]
"""A module and which part of its input and its output is meant."""
Split = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]


def _watched(encoder: nn.Module) -> tuple[list[Watched], list[Watched], Split | None]:
    """Return what to look at for text and for regions; with one stream for both also how it is cut in two."""
    if isinstance(encoder, UNITER):
        layers = list(encoder.layers)
        return [(layers[0], _first_input), *((layer, _first) for layer in layers)], [], _packed
    if isinstance(encoder, VisualBERTEncoder):
        model: Any = encoder.model
        return [(model.embeddings, _first), *((layer, _first) for layer in model.encoder.layer)], [], _side_by_side
    if isinstance(encoder, LXMERTEncoder):
        model = encoder.model
        crossing = list(model.encoder.x_layers)
        text = [(model.embeddings, _first), *((layer, _first) for layer in model.encoder.layer)]
        regions = [(model.encoder.visn_fc, _first), *((layer, _first) for layer in model.encoder.r_layers)]
        return text + [(one, _first) for one in crossing], regions + [(one, _second) for one in crossing], None
    name = type(encoder).__name__
    raise UsageError(
        f"is a {name}, whose layers are not known", where="probe", remedy="add it to vltk/probing/states.py"
    )


def _first_input(given: Any, result: Any) -> Tensor:
    return cast(Tensor, given[0])


def _first(given: Any, result: Any) -> Tensor:
    return cast(Tensor, result[0] if isinstance(result, tuple) else result)


def _second(given: Any, result: Any) -> Tensor:
    return cast(Tensor, result[1])


def _packed(states: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cut rows in which the regions follow directly on the last word piece."""
    width, count = batch.text_mask.shape[1], batch.region_mask.shape[1]
    places = batch.text_mask.sum(dim=1, keepdim=True) + torch.arange(count, device=states.device)
    index = places.clamp(max=states.shape[1] - 1)[:, :, None].expand(-1, -1, states.shape[2])
    return states[:, :width], states.gather(1, index)


def _side_by_side(states: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    width = batch.text_mask.shape[1]
    return states[:, :width], states[:, width:]


@contextmanager
def _recorded(watched: Sequence[Watched]) -> Iterator[dict[int, Tensor]]:
    found: dict[int, Tensor] = {}

    def keep(place: int, part: Callable[[Any, Any], Tensor]) -> Any:
        def hook(module: nn.Module, given: Any, result: Any) -> None:
            found[place] = part(given, result)

        return hook

    handles = [module.register_forward_hook(keep(place, part)) for place, (module, part) in enumerate(watched)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def untrained(encoder: nn.Module, *, seed: int) -> nn.Module:
    """Return an encoder of the same size with random weights, as it would begin its training."""
    torch.manual_seed(seed)
    if isinstance(encoder, HubEncoder):
        inner: Any = encoder.model
        return type(encoder)(type(inner)(copy.deepcopy(inner.config))).eval()
    kind: Any = type(encoder)
    return cast(nn.Module, kind(encoder.config).eval())


def read_words(
    encoder: nn.Module,
    corpus: Corpus,
    path: Path,
    *,
    max_tokens: int,
    progress: Progress = lambda items: None,
    stop: Callable[[], bool] = lambda: False,
) -> Table:
    """Return the states of all words in all layers, kept in a file that a stopped call goes on with.

    Args:
        encoder: on its device.
        corpus: the sentences.
        path: of the table, NAME.npy; how far it is stands in NAME.json beside it.
        max_tokens: longest pair times number of pairs of a batch stays within this.
        progress: told how many sentences are done.
        stop: asked after each batch whether to end.

    Raises:
        StoppedEarlyError: it was asked to stop; the same call goes on.
        DataError: a state that is no number.
    """
    batches = corpus.batches(range(len(corpus.sentences)), max_tokens)
    note = path.with_suffix(".json")
    done = int(json.loads(note.read_text("utf-8"))["batches"]) if note.is_file() else 0
    table = np.load(path, mmap_mode="r+", allow_pickle=False) if done else None
    progress(sum(len(rows) for rows in batches[:done]))
    device = next(encoder.parameters()).device
    for number, rows in enumerate(batches[done:], done + 1):
        means = _means(encoder, corpus, rows, device)
        if table is None:
            shape = (len(means), int(corpus.starts[-1]), means.shape[-1])
            table = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for place, row in enumerate(rows):
            start, end = corpus.starts[row], corpus.starts[row + 1]
            table[:, start:end] = means[:, place, : end - start]
        progress(len(rows))
        if stop() and number < len(batches):
            table.flush()
            write_whole(note, [json.dumps({"batches": number})])
            problem = f"stopped after {number} of {len(batches)} batches"
            raise StoppedEarlyError(problem, where=path, remedy="the same command goes on")
    if table is None:
        raise DataError("there is no sentence", where=path, remedy="give sentences with trees")
    table.flush()
    write_whole(note, [json.dumps({"batches": len(batches)})])
    return cast(Table, table)


def _means(encoder: nn.Module, corpus: Corpus, rows: Sequence[int], device: torch.device) -> Table:
    """Return [layers, B, N, H] the mean state of each word's pieces (Hewitt and Manning 2019, section 4)."""
    batch = corpus.batch(rows).to(device)
    count = max(len(corpus.sentences[row].parse.words) for row in rows)
    with torch.inference_mode():
        states, _ = layer_states(encoder, batch)
        means = [average_pieces(one.float(), batch.targets["word_of_piece"], count)[0] for one in states]
        found: Table = torch.stack(means).cpu().numpy()
    good = np.isfinite(found).all(axis=(0, 2, 3))
    if not good.all():
        name = corpus.sentences[rows[int(np.argmin(good))]].id
        remedy = "the weights are broken, or its features are"
        raise DataError("a state is no finite number", where=f"example {name}", remedy=remedy)
    return found
