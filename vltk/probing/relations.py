"""Relation matrices: how far apart the words of a sentence and the regions of a picture are to an encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from vltk.errors import DataError, StoppedEarlyError
from vltk.isd.encoder import LoadedEncoder
from vltk.models._heads import GivesRelations
from vltk.probing.corpus import Corpus
from vltk.stores.whole_files import new_path
from vltk.types import Batch, EncoderOutput, Progress

RELATIONS = "relations.safetensors"
Matrix = NDArray[np.float32]
TEXT, REGIONS = "text", "regions"


def squared_distances(states: Tensor) -> Tensor:
    """Return the [..., N, N] squared Euclidean distances of [..., N, H] states.

    Example:
        >>> squared_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).tolist()
        [[0.0, 25.0], [25.0, 0.0]]
    """
    return (states.unsqueeze(-2) - states.unsqueeze(-3)).square().sum(dim=-1)


def region_distances(loaded: LoadedEncoder, output: EncoderOutput, batch: Batch) -> Tensor:
    """Return the [B, R, R] squared distances of regions: under the encoder's own probe, or of its states as they are.

    Args:
        loaded: the encoder.
        output: what it said of the batch.
        batch: the batch.
    """
    if loaded.own_probes:
        return cast(GivesRelations, loaded.module).relations(output, batch).regions
    return squared_distances(output.regions)


def encoded_relations(
    loaded: LoadedEncoder,
    corpus: Corpus,
    rows: Sequence[int],
    *,
    max_tokens: int,
    progress: Progress = lambda items: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Matrix | None, Matrix]]:
    """Yield (sentence, [N, N] of its words by the encoder's own probe or None, [R, R] of its picture's regions).

    Args:
        loaded: the encoder, on its device.
        corpus: the sentences.
        rows: which of them.
        max_tokens: longest pair times number of pairs of a batch stays within this.
        progress: told how many are done.
        stop: asked after each batch whether to end.

    Raises:
        StoppedEarlyError: it was asked to stop.
    """
    own = loaded.own_probes
    device = next(loaded.module.parameters()).device
    for chunk in corpus.batches(rows, max_tokens):
        batch = corpus.batch(chunk).to(device)
        with torch.inference_mode():
            output = loaded.module(batch)
            regions = region_distances(loaded, output, batch).float().cpu().numpy()
            words = None
            if own:
                words = cast(GivesRelations, loaded.module).relations(output, batch).text.float().cpu().numpy()
        counts = batch.region_mask.sum(dim=1).tolist()
        for place, row in enumerate(chunk):
            count, size = counts[place], len(corpus.sentences[row].parse.words)
            text = None if words is None else words[place, :size, :size].copy()
            yield row, text, regions[place, :count, :count].copy()
        progress(len(chunk))
        if stop():
            raise StoppedEarlyError("stopped while relations were read", remedy="the same command goes on")


def write_relations(
    path: Path, matrices: Mapping[str, tuple[Matrix, Matrix]], about: Mapping[str, Any], *, overwrite: bool = True
) -> None:
    """Write relation matrices as a file that safetensors of any language opens.

    Under ID/text stand the [N, N] predicted squared distances of the words of example ID, in the order of the words
    of ``sentences.jsonl``; under ID/regions the [R, R] of its picture's regions, in the order of the feature store.
    The entry ``about`` of the metadata says how both were made, as JSON.

    Args:
        path: the file.
        matrices: by id of the example.
        about: how they were made.
        overwrite: replace a file that is there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "relations.safetensors"
        ...     write_relations(path, {"7": (np.zeros((2, 2), np.float32), np.ones((3, 3), np.float32))}, {})
        ...     {name: matrices[1].shape for name, matrices in read_relations(path).items()}
        {'7': (3, 3)}
    """
    tensors = {
        f"{name}/{kind}": np.ascontiguousarray(matrix, np.float32)
        for name, pair in matrices.items()
        for kind, matrix in zip((TEXT, REGIONS), pair, strict=True)
    }
    with new_path(path, overwrite=overwrite) as fresh:
        # One entry only: the format writes several in an order of chance, and equal relations should be equal files.
        save_file(tensors, fresh, metadata={"about": json.dumps(dict(about), default=str)})


def read_relations(path: Path) -> dict[str, tuple[Matrix, Matrix]]:
    """Return (words, regions) by id of the example, as :func:`write_relations` wrote them.

    Raises:
        DataError: not there, damaged, or with other things in it.
    """
    try:
        tensors = load_file(path)
    except Exception as error:  # the library raises classes of its own
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"cannot be read ({reason})", where=path, remedy="write it again with vltk probe") from error
    found: dict[str, tuple[Matrix, Matrix]] = {}
    for key, matrix in tensors.items():
        name, _, kind = key.rpartition("/")
        if kind not in (TEXT, REGIONS) or f"{name}/{TEXT}" not in tensors or f"{name}/{REGIONS}" not in tensors:
            raise DataError(f"holds {key!r}", where=path, remedy="write it again with vltk probe")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise DataError(f"{key!r} has shape {matrix.shape}", where=path, remedy="a relation matrix is square")
        if kind == TEXT:
            found[name] = matrix, tensors[f"{name}/{REGIONS}"]
    return found
