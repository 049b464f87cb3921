"""Embeddings of a dual encoder: each side once, in any batches, and the matrix of their inner products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.small_retrieval import MeanOfBoth, small_sides
from vltk.errors import StoppedEarlyError, VltkError
from vltk.evaluator import Execution, Sides, embeddings, similarities


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    torch.manual_seed(0)
    return small_sides(tmp_path_factory.mktemp("dual"), MeanOfBoth())


@pytest.mark.parametrize("tokens", [0, 1, 13])
def test_embeddings_are_those_of_single_texts_and_pictures(tokens: int, sides: Sides) -> None:
    told: list[int] = []
    execution = Execution(max_tokens=tokens, progress=told.append)
    texts, images = embeddings(sides, "texts", execution=execution), embeddings(sides, "images", execution=execution)
    assert sum(told) == 18
    with torch.no_grad():
        for row in range(12):
            np.testing.assert_allclose(texts[row], sides.task.scorer.embed_texts(sides.texts([row]))[0], rtol=1e-5)
        for column in range(6):
            batch = replace(sides.images([column]), regions=sides.images([column]).regions.float())
            np.testing.assert_allclose(images[column], sides.task.scorer.embed_images(batch)[0], rtol=1e-5, atol=1e-6)


def test_the_matrix_holds_inner_products() -> None:
    dice = np.random.default_rng(0)
    texts, images = dice.normal(size=(2500, 3)).astype(np.float32), dice.normal(size=(7, 3)).astype(np.float32)
    scores = np.empty((2500, 7), np.float32)
    similarities(texts, images, scores)
    np.testing.assert_allclose(scores, np.einsum("ch,ih->ci", texts, images), rtol=1e-4, atol=1e-5)


def test_an_embedding_that_is_no_number_is_named(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MeanOfBoth, "embed_images", lambda self, batch: torch.full((len(batch.ids), 2), torch.inf))
    with pytest.raises(VltkError, match=r"the embedding of test-\d is not finite"):
        embeddings(sides, "images", execution=Execution())


def test_it_stops_when_asked(sides: Sides) -> None:
    with pytest.raises(StoppedEarlyError, match="stopped"):
        embeddings(sides, "texts", execution=Execution(stop=lambda: True))
