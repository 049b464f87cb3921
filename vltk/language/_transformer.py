"""The translation Transformer of fairseq's WMT'19 systems in plain torch, with caches for decoding word by word.

Vaswani et al. 2017 as fairseq wrote it: sinusoids of which the first half are sines and the second cosines, positions
counted from the padding id + 1, layer norms behind the residuals (or before them). Modules carry the names of the
published checkpoints, so that their weights load as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BOS, PAD, EOS, UNK = 0, 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The size of a translation model.

    Attributes:
        source_vocabulary: number of source pieces.
        target_vocabulary: number of target pieces.
        hidden: H, size of the states.
        encoder_layers: number of encoder layers.
        decoder_layers: number of decoder layers.
        encoder_heads: attention heads of the encoder.
        decoder_heads: attention heads of the decoder.
        encoder_intermediate: inner size of the encoder's feed-forward blocks.
        decoder_intermediate: inner size of the decoder's feed-forward blocks.
        activation: relu or gelu.
        scale_embedding: whether embeddings are multiplied by sqrt(H).
        encoder_norm_first: layer norms before attention and feed-forward instead of behind them.
        decoder_norm_first: the same for the decoder.
        share_embeddings: one table for source, target and output.
        share_output: the decoder's table projects its states onto pieces.
        positions: longest text, in pieces.
        dropout: of embeddings and sub-layers, in training.
    """

    source_vocabulary: int
    target_vocabulary: int
    hidden: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    encoder_intermediate: int
    decoder_intermediate: int
    activation: str = "relu"
    scale_embedding: bool = True
    encoder_norm_first: bool = False
    decoder_norm_first: bool = False
    share_embeddings: bool = False
    share_output: bool = True
    positions: int = 1024
    dropout: float = 0.0


class _Attention(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.v_proj, self.out_proj = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def split(self, states: Tensor) -> Tensor:
        """[N, T, H] -> [N, heads, T, H / heads]."""
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)

    def keys_and_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(self.k_proj(states)), self.split(self.v_proj(states))

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        """[N, Q, H] queries over [N, heads, T, H / heads] keys and values; mask true where a key may be seen."""
        context = F.scaled_dot_product_attention(
            self.split(self.q_proj(queries)), keys, values, attn_mask=mask, is_causal=causal
        )
        projected: Tensor = self.out_proj(context.transpose(1, 2).reshape(queries.shape))
        return projected


class _Layer(nn.Module):
    """A layer of the encoder, or with ``crossed`` one of the decoder."""

    def __init__(self, config: TransformerConfig, *, crossed: bool) -> None:
        super().__init__()
        hidden = config.hidden
        heads = config.decoder_heads if crossed else config.encoder_heads
        inner = config.decoder_intermediate if crossed else config.encoder_intermediate
        self.norm_first = config.decoder_norm_first if crossed else config.encoder_norm_first
        self.activation: Callable[[Tensor], Tensor] = F.gelu if config.activation == "gelu" else F.relu
        self.dropout = nn.Dropout(config.dropout)
        self.self_attn, self.self_attn_layer_norm = _Attention(hidden, heads), nn.LayerNorm(hidden)
        if crossed:
            self.encoder_attn, self.encoder_attn_layer_norm = _Attention(hidden, heads), nn.LayerNorm(hidden)
        self.fc1, self.fc2 = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.final_layer_norm = nn.LayerNorm(hidden)

    def before(self, states: Tensor, norm: nn.LayerNorm) -> Tensor:
        return torch.as_tensor(norm(states)) if self.norm_first else states

    def behind(self, residual: Tensor, update: Tensor, norm: nn.LayerNorm) -> Tensor:
        summed: Tensor = residual + self.dropout(update)
        return summed if self.norm_first else torch.as_tensor(norm(summed))

    def attend_self(self, states: Tensor, mask: Tensor | None, *, causal: bool = False) -> Tensor:
        inner = self.before(states, self.self_attn_layer_norm)
        context = self.self_attn(inner, *self.self_attn.keys_and_values(inner), mask, causal=causal)
        return self.behind(states, context, self.self_attn_layer_norm)

    def attend_source(self, states: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        inner = self.before(states, self.encoder_attn_layer_norm)
        return self.behind(states, self.encoder_attn(inner, keys, values, mask), self.encoder_attn_layer_norm)

    def feed_forward(self, states: Tensor) -> Tensor:
        inner = self.before(states, self.final_layer_norm)
        return self.behind(states, self.fc2(self.activation(self.fc1(inner))), self.final_layer_norm)


class _Stack(nn.Module):
    """Embeddings, positions and layers of one side."""

    layer_norm: nn.LayerNorm | None

    def __init__(self, config: TransformerConfig, *, crossed: bool) -> None:
        super().__init__()
        vocabulary = config.target_vocabulary if crossed else config.source_vocabulary
        count = config.decoder_layers if crossed else config.encoder_layers
        norm_first = config.decoder_norm_first if crossed else config.encoder_norm_first
        self.embed_tokens = nn.Embedding(vocabulary, config.hidden)
        self.scale = math.sqrt(config.hidden) if config.scale_embedding else 1.0
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_Layer(config, crossed=crossed) for _ in range(count))
        self.layer_norm = nn.LayerNorm(config.hidden) if norm_first else None
        self.register_buffer("sinusoids", sinusoids(config.positions + 1, config.hidden), persistent=False)

    def each(self) -> Iterator[_Layer]:
        return (layer for layer in self.layers if isinstance(layer, _Layer))

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """[N, T] -> [N, T, H]; padding stands at the right end, so column t is position start + t."""
        positions: Tensor = self.get_buffer("sinusoids")[start : start + tokens.shape[1]]
        embedded: Tensor = self.dropout(self.scale * self.embed_tokens(tokens) + positions)
        return embedded

    def normed(self, states: Tensor) -> Tensor:
        return states if self.layer_norm is None else torch.as_tensor(self.layer_norm(states))


class _DecoderStack(_Stack):
    """The target side, whose states become scores of pieces."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config, crossed=True)
        self.output_projection = nn.Linear(config.hidden, config.target_vocabulary, bias=False)

    def log_probabilities(self, states: Tensor) -> Tensor:
        scores: Tensor = self.output_projection(self.normed(states))
        return scores.float().log_softmax(-1)


def sinusoids(count: int, size: int) -> Tensor:
    """Return [count, size] position embeddings of fairseq: position t is PAD + 1 + t, all sines before all cosines."""
    half = size // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float) * -(math.log(10000) / (half - 1)))
    angles = (torch.arange(count, dtype=torch.float) + PAD + 1).unsqueeze(1) * rates
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return F.pad(table, (0, size % 2))


@dataclass(slots=True)
class DecoderState:
    """What decoding remembers of S sentences with W hypotheses each; the source is kept once a sentence.

    Attributes:
        source: for each decoder layer the keys and values of the source, [S, heads, L, H / heads].
        mask: [S, 1, 1, L] bool, true on source pieces, or None where nothing is padding.
        past: for each decoder layer the keys and values of the words so far, [S * W, heads, t, H / heads].
    """

    source: list[tuple[Tensor, Tensor]]
    mask: Tensor | None
    past: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def reorder(self, rows: Tensor) -> None:
        """Let hypothesis n go on from what was hypothesis rows[n] of all S * W."""
        self.past = [(keys.index_select(0, rows), values.index_select(0, rows)) for keys, values in self.past]

    def keep(self, sentences: Tensor) -> None:
        """Forget the sources of all but these sentences."""
        self.source = [
            (keys.index_select(0, sentences), values.index_select(0, sentences)) for keys, values in self.source
        ]
        self.mask = None if self.mask is None else self.mask[sentences]


class TranslationTransformer(nn.Module):
    """An encoder-decoder Transformer of fairseq's layout.

    Args:
        config: its size.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Stack(config, crossed=False)
        self.decoder = _DecoderStack(config)
        if config.share_embeddings:
            self.decoder.embed_tokens = self.encoder.embed_tokens
        if config.share_output or config.share_embeddings:
            self.decoder.output_projection.weight = self.decoder.embed_tokens.weight

    def encode(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Return [N, L, H] states of padded [N, L] source pieces; mask [N, 1, 1, L] true on pieces."""
        states = self.encoder.embed(tokens)
        for layer in self.encoder.each():
            states = layer.feed_forward(layer.attend_self(states, mask))
        return self.encoder.normed(states)

    def forward(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Tensor:
        """Return [N, T, C] log-probabilities of every target piece given those before it (teacher forcing)."""
        device = self.decoder.embed_tokens.weight.device
        tokens, mask = padded(sources, device)
        states = self.encode(tokens, mask)
        before, _ = padded([[EOS, *target[:-1]] for target in targets], device)
        inner = self.decoder.embed(before)
        for layer in self.decoder.each():
            inner = layer.attend_self(inner, None, causal=True)
            inner = layer.feed_forward(layer.attend_source(inner, *layer.encoder_attn.keys_and_values(states), mask))
        return self.decoder.log_probabilities(inner)

    def start(self, sources: Sequence[Sequence[int]]) -> DecoderState:
        """Encode sentences and prepare to decode one hypothesis each."""
        tokens, mask = padded(sources, self.decoder.embed_tokens.weight.device)
        states = self.encode(tokens, mask)
        return DecoderState([layer.encoder_attn.keys_and_values(states) for layer in self.decoder.each()], mask)

    def step(self, state: DecoderState, tokens: Tensor) -> Tensor:
        """Return [S, W, C] log-probabilities of the next piece behind the [S, W] last ones, and remember these."""
        sentences, width = tokens.shape
        position = state.past[0][0].shape[2] if state.past else 0
        inner = self.decoder.embed(tokens.reshape(-1, 1), position)
        past = []
        for number, layer in enumerate(self.decoder.each()):
            own = layer.before(inner, layer.self_attn_layer_norm)
            keys, values = layer.self_attn.keys_and_values(own)
            if position:
                before = state.past[number]
                keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
            past.append((keys, values))
            inner = layer.behind(inner, layer.self_attn(own, keys, values, None), layer.self_attn_layer_norm)
            # The hypotheses of one sentence are so many queries over one source: its keys are never copied.
            crossed = layer.attend_source(inner.view(sentences, width, -1), *state.source[number], state.mask)
            inner = layer.feed_forward(crossed.view(sentences * width, 1, -1))
        state.past = past
        return self.decoder.log_probabilities(inner).view(sentences, width, -1)


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return [N, T] pieces with padding at the right end, and [N, 1, 1, T] true on pieces, or None without padding."""
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows], device=device)
    return tokens, None if all(len(row) == longest for row in rows) else (tokens != PAD)[:, None, None]
