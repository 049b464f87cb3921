"""The states of every layer, of each encoder that can be probed, against what the encoder itself says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LxmertConfig, LxmertModel, VisualBertConfig, VisualBertModel

from tests.small_pairs import VOCABULARY, WIDTH
from tests.small_relations import SIZE
from tests.small_trees import small_ssrp, write_trees
from vltk.errors import DataError, StoppedEarlyError, UsageError
from vltk.models._hub_encoders import LXMERTEncoder, VisualBERTEncoder
from vltk.probing.corpus import Corpus, read_corpus
from vltk.probing.states import layer_states, read_words, untrained
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": VOCABULARY}
SIZES |= {"hidden_dropout_prob": 0.0, "max_position_embeddings": 32}


def uniter() -> nn.Module:
    return SIZE.build()


def lxmert() -> nn.Module:
    config = LxmertConfig(**SIZES, visual_feat_dim=WIDTH, l_layers=2, r_layers=1, x_layers=2)
    return LXMERTEncoder(LxmertModel(config))


def visualbert() -> nn.Module:
    return VisualBERTEncoder(
        VisualBertModel(VisualBertConfig(**SIZES, visual_embedding_dim=WIDTH, num_hidden_layers=2))
    )


def ssrp(variant: str) -> Callable[[], nn.Module]:
    return lambda: small_ssrp(variant).build()


KINDS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "uniter": (uniter, 4, 4),
    "lxmert": (lxmert, 5, 4),
    "visualbert": (visualbert, 3, 3),
    "ssrp-share": (ssrp("share"), 3, 3),
    "ssrp-visual": (ssrp("visual"), 3, 3),
    "ssrp-cross": (ssrp("cross"), 3, 3),
}
"""Encoder, layers of the text and layers of the regions, embeddings counted."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    examples, features = write_trees(tmp_path_factory.mktemp("trees"))
    return read_corpus(ExampleStore.open(examples), FeatureStore.open(features))


def built(kind: str) -> nn.Module:
    torch.manual_seed(4)
    return KINDS[kind][0]().eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_last_layer_is_what_the_encoder_gives(corpus: Corpus, kind: str) -> None:
    encoder, batch = built(kind), corpus.batch([0, 1, 2, 9, 17])
    text, regions = layer_states(encoder, batch)
    assert (len(text), len(regions)) == KINDS[kind][1:]
    output = encoder(batch)
    torch.testing.assert_close(text[-1][batch.text_mask], output.text[batch.text_mask])
    torch.testing.assert_close(regions[-1][batch.region_mask], output.regions[batch.region_mask])
    assert all(states.shape[:2] == batch.text_mask.shape for states in text)
    assert all(states.shape[:2] == batch.region_mask.shape for states in regions)
    assert not torch.allclose(text[0][batch.text_mask], text[1][batch.text_mask])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_and_neighbours_change_nothing(corpus: Corpus, kind: str) -> None:
    encoder, rows = built(kind), [0, 1, 2, 9, 17]
    together = corpus.batch(rows)
    text, regions = layer_states(encoder, together)
    for place, row in enumerate(rows):
        alone = corpus.batch([row])
        own_text, own_regions = layer_states(encoder, alone)
        for first, second in zip(text, own_text, strict=True):
            torch.testing.assert_close(first[place, : second.shape[1]], second[0], rtol=1e-4, atol=1e-5)
        for first, second in zip(regions, own_regions, strict=True):
            torch.testing.assert_close(first[place, : second.shape[1]], second[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_first_states_of_a_uniter_are_its_embeddings(corpus: Corpus) -> None:
    encoder, batch = built("uniter"), corpus.batch([3, 4, 5])
    text, regions = layer_states(encoder, batch)
    torch.testing.assert_close(text[0][batch.text_mask], encoder.embed_text(batch)[batch.text_mask])
    torch.testing.assert_close(regions[0][batch.region_mask], encoder.embed_regions(batch)[batch.region_mask])


def test_an_encoder_without_known_layers_is_refused(corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="is a Linear, whose layers are not known"):
        layer_states(nn.Linear(2, 2), corpus.batch([0]))


@torch.no_grad()
def test_a_word_is_the_mean_of_its_pieces_in_every_layer(corpus: Corpus, tmp_path: Path) -> None:
    encoder = built("uniter")
    table = read_words(encoder, corpus, tmp_path / "states.npy", max_tokens=64)
    assert table.shape == (4, int(corpus.starts[-1]), 16)
    for row in (0, 5, 11):
        text, _ = layer_states(encoder, corpus.batch([row]))
        pieces = corpus.sentences[row].parse.pieces
        for layer, states in enumerate(text):
            for word in range(len(corpus.sentences[row].parse.words)):
                own = [states[0, 1 + place].numpy() for place, of in enumerate(pieces) if of == word]
                found = table[layer, corpus.starts[row] + word]
                np.testing.assert_allclose(found, np.mean(own, axis=0), rtol=1e-4, atol=1e-5)


def test_a_stopped_reading_goes_on_to_the_same_table(corpus: Corpus, tmp_path: Path) -> None:
    encoder, told = built("uniter"), []
    whole = np.array(read_words(encoder, corpus, tmp_path / "whole.npy", max_tokens=48))
    for attempt in range(3):
        asked = iter([False, True])
        with pytest.raises(StoppedEarlyError, match=f"stopped after {2 * attempt + 2} of"):
            read_words(encoder, corpus, tmp_path / "again.npy", max_tokens=48, stop=lambda: next(asked))  # noqa: B023
    found = read_words(encoder, corpus, tmp_path / "again.npy", max_tokens=48, progress=told.append)
    np.testing.assert_array_equal(found, whole)
    assert sum(told) == len(corpus.sentences)
    calls: list[int] = []
    encoder.register_forward_hook(lambda *given: calls.append(1))
    np.testing.assert_array_equal(read_words(encoder, corpus, tmp_path / "again.npy", max_tokens=48), whole)
    assert not calls


def test_a_state_that_is_no_number_is_named(corpus: Corpus, tmp_path: Path) -> None:
    encoder = built("uniter")
    with torch.no_grad():
        encoder.layers[1].attention.qkv.bias.fill_(torch.nan)
    with pytest.raises(DataError, match=r"example trees-\d+#\d: a state is no finite number"):
        read_words(encoder, corpus, tmp_path / "states.npy", max_tokens=64)


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_encoder_has_the_size_and_other_weights(corpus: Corpus, kind: str) -> None:
    encoder = built(kind)
    first, second, third = (untrained(encoder, seed=seed) for seed in (1, 1, 2))
    for name, own in encoder.state_dict().items():
        assert own.shape == first.state_dict()[name].shape
        torch.testing.assert_close(first.state_dict()[name], second.state_dict()[name])
    states = [layer_states(one, corpus.batch([0]))[0][-1] for one in (encoder, first, third)]
    assert not torch.allclose(states[0], states[1])
    assert not torch.allclose(states[1], states[2])
    assert not first.training
