"""Relation matrices and retrieval by them, against loops from the supplement's formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tests.small_relations import SIZE
from tests.small_trees import small_ssrp, write_trees
from vltk.errors import DataError, StoppedEarlyError
from vltk.isd.encoder import LoadedEncoder
from vltk.probing.corpus import Corpus, read_corpus
from vltk.probing.relations import encoded_relations, read_relations, write_relations
from vltk.probing.retrieval import OBJECTS, RELATED, embed_pictures, picture_vectors, retrieve, similar
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    examples, features = write_trees(tmp_path_factory.mktemp("trees"))
    return read_corpus(ExampleStore.open(examples), FeatureStore.open(features))


def loaded(kind: str) -> LoadedEncoder:
    torch.manual_seed(6)
    module = SIZE.build() if kind == "uniter" else small_ssrp(kind).build()
    sizes = {"vocabulary": 40, "region_dim": 6, "positions": 32}
    return LoadedEncoder(module=module.eval(), name=kind, weights="x", own_probes=kind != "uniter", **sizes)


@pytest.mark.parametrize("kind", ["uniter", "visual", "cross"])
@torch.no_grad()
def test_relations_of_each_sentence_are_those_of_it_alone(corpus: Corpus, kind: str) -> None:
    encoder = loaded(kind)
    found = {row: (text, regions) for row, text, regions in encoded_relations(encoder, corpus, range(9), max_tokens=60)}
    assert sorted(found) == list(range(9))
    for row, (text, regions) in found.items():
        batch = corpus.batch([row])
        output = encoder.module(batch)
        states = output.regions[0]
        if kind == "uniter":
            assert text is None
            expected = [[float(((a - b) ** 2).sum()) for b in states] for a in states]
        else:
            weight = encoder.module.region_probe.map.weight
            expected = [[float(((weight @ (a - b)) ** 2).sum()) for b in states] for a in states]
            pieces = corpus.sentences[row].parse.pieces
            owned = [[1 + place for place, of in enumerate(pieces) if of == word] for word in range(max(pieces) + 1)]
            words = [output.text[0, places].mean(dim=0) for places in owned]
            map_ = encoder.module.text_probe.map.weight
            wanted = [[float(((map_ @ (a - b)) ** 2).sum()) for b in words] for a in words]
            np.testing.assert_allclose(text, wanted, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(regions, expected, rtol=1e-3, atol=1e-4)


def test_reading_relations_asks_whether_to_stop(corpus: Corpus) -> None:
    with pytest.raises(StoppedEarlyError, match="stopped while relations were read"):
        list(encoded_relations(loaded("uniter"), corpus, range(9), max_tokens=60, stop=lambda: True))


def test_a_picture_is_the_mean_of_its_regions_each_weighted_by_how_far_it_is_from_all() -> None:
    dice = torch.Generator().manual_seed(0)
    regions, counts = torch.randn(3, 5, 4, generator=dice), [5, 3, 1]
    distances = torch.rand(3, 5, 5, generator=dice)
    mask = torch.arange(5) < torch.tensor(counts).unsqueeze(1)
    objects, related = picture_vectors(regions, distances, mask)
    for row, n in enumerate(counts):
        plain = sum(regions[row, i] for i in range(n)) / n
        weighted = sum(regions[row, i] * distances[row, i, k] for i in range(n) for k in range(n)) / n / n
        torch.testing.assert_close(objects[row], plain / plain.norm())
        torch.testing.assert_close(related[row], weighted / weighted.norm())


def test_a_single_region_relates_to_nothing() -> None:
    _, related = picture_vectors(torch.ones(1, 1, 4), torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert related.tolist() == [[0.0] * 4]


def test_a_picture_does_not_find_itself() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    places, scores = similar(vectors, [1, 3], 2)
    assert places.tolist() == [[0, 2], [4, 0]]
    np.testing.assert_allclose(scores, [[1, 1], [0.8, 0]], atol=1e-6)
    # Two equals come first, so that the picture itself is not among the two nearest.
    assert similar(vectors, [2], 1)[0].tolist() == [[0]]


def test_the_batches_of_pictures_change_nothing(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    images = corpus.images("train", "test")
    whole = embed_pictures(loaded("share"), corpus, images)
    monkeypatch.setattr("vltk.probing.retrieval._BATCH", 5)
    for name, vectors in embed_pictures(loaded("share"), corpus, images).items():
        np.testing.assert_allclose(vectors, whole[name], rtol=1e-4, atol=1e-5)
        assert len(vectors) == len(images) == 12


def test_what_is_found_is_worth_what_its_captions_share() -> None:
    axes = np.eye(4, dtype=np.float32)
    vectors = {OBJECTS: axes[[0, 0, 1, 1]], RELATED: axes[[0, 1, 0, 1]]}
    found, chance = retrieve(vectors, {"words": [["a", "b"], ["a", "b"], ["c"], ["c", "d"]]}, [0, 1], 1)
    assert [one.places.tolist() for one in found] == [[[1], [0]], [[2], [3]]]
    assert [one.gains["words"].tolist() for one in found] == [[1, 1], [0, 0]]
    np.testing.assert_allclose(chance["words"], 1 / 3)


def test_a_file_of_relations_comes_back_as_it_was(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    given = {
        name: (dice.random((n, n), np.float32), dice.random((3, 3), np.float32)) for name, n in (("a/b", 2), ("", 4))
    }
    write_relations(tmp_path / "r.safetensors", given, {"text": "so", "count": 3})
    found = read_relations(tmp_path / "r.safetensors")
    assert found.keys() == given.keys()
    for name, pair in given.items():
        for first, second in zip(pair, found[name], strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("tensors", "problem"), [
    ({"7/text": np.zeros((2, 2), np.float32)}, "holds '7/text'"),
    ({"7": np.zeros((2, 2), np.float32)}, "holds '7'"),
    ({"7/text": np.zeros((2, 3), np.float32), "7/regions": np.zeros((2, 2), np.float32)}, "'7/text' has shape"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, tensors: dict[str, np.ndarray], problem: str) -> None:
    save_file(tensors, tmp_path / "r.safetensors")
    with pytest.raises(DataError, match=problem):
        read_relations(tmp_path / "r.safetensors")
    (tmp_path / "r.safetensors").write_bytes(b"\x80\x04broken")
    with pytest.raises(DataError, match="cannot be read"):
        read_relations(tmp_path / "r.safetensors")


def test_corpora_can_be_cut(corpus: Corpus) -> None:
    assert replace(corpus, sentences=corpus.sentences[:5]).starts.tolist() == corpus.starts[:6].tolist()
