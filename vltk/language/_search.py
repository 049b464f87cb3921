"""Beam search as fairseq does it, and sampling that depends on a sentence's id alone.

fairseq's beam search differs from that of transformers: an end of sentence counts only among the first ``beam`` of
``2 * beam`` candidates, and a sentence is done as soon as ``beam`` hypotheses have ended.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vltk.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Search:
    """How translations are searched; the defaults are those of fairseq.

    Attributes:
        beam: hypotheses that are kept while decoding.
        n_best: how many translations of a sentence are returned, at most ``beam``.
        length_penalty: the sum of log-probabilities is divided by length ** length_penalty.
        max_length_a: a translation of a source of L pieces has at most a * L + b pieces.
        max_length_b: see ``max_length_a``.
        min_length: pieces that a translation has at least, its end not counted.
        unknown_penalty: taken from the log-probability of unknown pieces.
        sampling: draw ``n_best`` translations instead of searching for the best.
        temperature: of sampling; below 1 it draws likely pieces more often.
        top_k: sample among the k likeliest pieces; 0 takes all.
        top_p: sample among the likeliest pieces that together have this probability.
        seed: of sampling; together with the id of a sentence it decides what is drawn.

    Raises:
        UsageError: a value that makes no search.
    """

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    max_length_a: float = 0.0
    max_length_b: int = 200
    min_length: int = 1
    unknown_penalty: float = 0.0
    sampling: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.beam < 1 or self.n_best < 1 or self.max_length_b < 1:
            problem = f"got beam {self.beam}, n_best {self.n_best}, max_length_b {self.max_length_b}"
            raise UsageError(problem, where="search", remedy="each is at least 1")
        if self.n_best > self.beam and not self.sampling:
            problem = f"a beam of {self.beam} has no {self.n_best} translations"
            raise UsageError(problem, where="n_best", remedy="widen the beam")
        if self.temperature <= 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            problem = f"got temperature {self.temperature}, top_p {self.top_p}, top_k {self.top_k}"
            raise UsageError(problem, where="sampling", remedy="temperature > 0, 0 < top_p <= 1, top_k >= 0")


SEARCH = Search()
"""What fairseq does when it is told nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One translation.

    Attributes:
        tokens: ids of its pieces, the end of sentence included.
        score: sum of ``token_scores`` over length ** length_penalty.
        token_scores: natural log-probability of each piece.
        text: the translation as running text.
    """

    tokens: tuple[int, ...]
    score: float
    token_scores: tuple[float, ...]
    text: str = ""


class State(Protocol):
    """What a decoder remembers of S sentences with W hypotheses each."""

    def reorder(self, rows: Tensor) -> None:
        """Let hypothesis n go on from what was hypothesis rows[n] of all S * W."""
        ...

    def keep(self, sentences: Tensor) -> None:
        """Forget the sources of all but these sentences."""
        ...


class Decoder(Protocol):
    """One model that says what comes next.

    Attributes:
        first: id that decoding starts with.
        end: id of the end of sentence.
        unknown: id of unknown pieces.
        forbidden: ids that are never emitted, such as padding.
        forced: ids that every translation starts with (NLLB: its language).
        positions: longest text.
        device: where the model computes.
    """

    first: int
    end: int
    unknown: int
    forbidden: tuple[int, ...]
    forced: tuple[int, ...]
    positions: int
    device: torch.device

    def start(self, sources: Sequence[Sequence[int]]) -> Any:
        """Encode sentences and prepare to decode one hypothesis each."""
        ...

    def step(self, state: Any, tokens: Tensor) -> Tensor:
        """Return [S, W, C] log-probabilities of the next piece behind the [S, W] last ones."""
        ...


@dataclass(slots=True)
class _Beams:
    """The hypotheses of the sentences that are still decoded."""

    tokens: Tensor  # [S, W, limit + 2]
    scores: Tensor  # [S, W, limit + 1] sum of log-probabilities up to each piece
    ignored: Tensor  # [S, W] places that hold nothing any more because too many candidates ended


def search(
    decoder: Decoder, sources: Sequence[Sequence[int]], ids: Sequence[str], settings: Search
) -> list[list[Hypothesis]]:
    """Translate a batch of sentences.

    Args:
        decoder: the model, or several as one.
        sources: piece ids of each sentence, with their end.
        ids: names of the sentences; they decide what sampling draws.
        settings: how to search.

    Returns:
        for each sentence its hypotheses, best first: ``beam`` of them, or ``n_best`` when sampling.
    """
    with torch.inference_mode():
        if settings.sampling:
            return _sample(decoder, sources, ids, settings)
        return _beam_search(decoder, sources, settings)


def _limits(decoder: Decoder, sources: Sequence[Sequence[int]], settings: Search) -> list[int]:
    longest = decoder.positions - 1
    return [min(int(settings.max_length_a * len(row)) + settings.max_length_b, longest) for row in sources]


def _restrict(scores: Tensor, decoder: Decoder, settings: Search, step: int, limits: Tensor) -> Tensor:
    """Take away what may not come next: padding, an end too early, anything but the end at the limit."""
    scores = scores.nan_to_num_(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    scores[..., list(decoder.forbidden)] = -math.inf
    scores[..., decoder.unknown] -= settings.unknown_penalty
    if step < len(decoder.forced):
        return _only(scores, torch.ones_like(limits, dtype=torch.bool), decoder.forced[step])
    if step < settings.min_length:
        scores[(limits > step).to(scores.device), :, decoder.end] = -math.inf
    return _only(scores, limits <= step, decoder.end) if bool((limits <= step).any()) else scores


def _only(scores: Tensor, rows: Tensor, token: int) -> Tensor:
    rows = rows.to(scores.device)
    kept = scores[rows, :, token]
    scores[rows] = -math.inf
    scores[rows, :, token] = kept
    return scores


def _beam_search(decoder: Decoder, sources: Sequence[Sequence[int]], settings: Search) -> list[list[Hypothesis]]:
    beam, count = settings.beam, len(sources)
    state = decoder.start(sources)
    bounds = _limits(decoder, sources, settings)
    found: list[list[Hypothesis]] = [[] for _ in sources]
    beams: _Beams | None = None
    alive, limits = torch.arange(count), torch.tensor(bounds)
    last = torch.full((count, 1), decoder.first, device=decoder.device)
    for step in range(max(bounds) + 1):
        scores = _restrict(decoder.step(state, last), decoder, settings, step, limits)
        if scores.shape[-1] <= beam:
            raise UsageError(f"a beam of {beam} for {scores.shape[-1]} pieces", where="beam", remedy="narrow the beam")
        if beams is None:
            beams = _fresh(len(alive), beam, max(bounds), decoder)
        else:
            scores = scores + beams.scores[:, :, step - 1, None]
        size = scores.shape[-1]
        flat = scores.reshape(len(alive), -1)
        totals, places = flat.topk(min(2 * beam, flat.shape[1] - 1))
        parents, tokens = places // size, places % size
        ends = (tokens == decoder.end) & (totals != -math.inf)
        ends[:, :beam] &= ~beams.ignored
        done = _finish(beams, step, ends, totals, parents, alive, limits, found, settings, decoder.end)
        if bool(done.all()):
            break
        rows = (~done).nonzero()[:, 0].to(decoder.device)
        parents, tokens, totals, ends = parents[rows], tokens[rows], totals[rows], ends[rows]
        chosen, ignored = _continued(ends, beams.ignored[rows], beam)
        parents = parents.gather(1, chosen)
        beams = _advanced(beams, rows, parents, tokens.gather(1, chosen), totals.gather(1, chosen), ignored, step)
        state.reorder((rows[:, None] * last.shape[1] + parents).flatten())
        if len(rows) < len(alive):
            state.keep(rows)
            alive, limits = alive[rows.cpu()], limits[rows.cpu()]
        last = beams.tokens[:, :, step + 1]
    for hypotheses in found:
        hypotheses.sort(key=lambda one: one.score, reverse=True)
    return found


def _fresh(sentences: int, beam: int, limit: int, decoder: Decoder) -> _Beams:
    device = decoder.device
    tokens = torch.full((sentences, beam, limit + 2), decoder.first, device=device)
    ignored = torch.zeros(sentences, beam, dtype=torch.bool, device=device)
    return _Beams(tokens, torch.zeros(sentences, beam, limit + 1, device=device), ignored)


def _continued(ends: Tensor, ignored: Tensor, beam: int) -> tuple[Tensor, Tensor]:
    """Return which candidates go on, [S, W] in their order, and which of these places hold nothing."""
    blocked = ends.clone()
    blocked[:, :beam] |= ignored
    order = blocked.long() * (2 * beam) + torch.arange(ends.shape[1], device=ends.device)
    values, chosen = order.topk(beam, dim=1, largest=False)
    return chosen, values >= 2 * beam


def _advanced(
    beams: _Beams, rows: Tensor, parents: Tensor, tokens: Tensor, totals: Tensor, ignored: Tensor, step: int
) -> _Beams:
    index = rows[:, None], parents
    history, scores = beams.tokens[index], beams.scores[index]
    history[:, :, step + 1] = tokens
    scores[:, :, step] = totals
    return _Beams(history, scores, ignored)


def _finish(
    beams: _Beams,
    step: int,
    ends: Tensor,
    totals: Tensor,
    parents: Tensor,
    alive: Tensor,
    limits: Tensor,
    found: list[list[Hypothesis]],
    settings: Search,
    end: int,
) -> Tensor:
    """Note down the hypotheses that end with this piece; return [S] which sentences are done."""
    done = torch.zeros(len(alive), dtype=torch.bool)
    for row, column in ends[:, : settings.beam].nonzero().tolist():
        hypotheses = found[int(alive[row])]
        if len(hypotheses) < settings.beam:
            parent = int(parents[row, column])
            sums = torch.cat([beams.scores[row, parent, :step], totals[row, column, None]])
            parts = torch.diff(sums, prepend=sums.new_zeros(1))
            total = totals[row, column] / (step + 1) ** settings.length_penalty
            tokens = (*beams.tokens[row, parent, 1 : step + 1].tolist(), end)
            hypotheses.append(Hypothesis(tokens=tokens, score=float(total), token_scores=tuple(parts.tolist())))
        done[row] = len(hypotheses) == settings.beam or step >= int(limits[row])
    return done


# -- sampling ---------------------------------------------------------------------------------------------------------


def _sample(
    decoder: Decoder, sources: Sequence[Sequence[int]], ids: Sequence[str], settings: Search
) -> list[list[Hypothesis]]:
    """Draw every hypothesis from its own stream of numbers, so that neither batch nor order matter."""
    width = settings.n_best
    streams = [_stream(settings.seed, name, number) for name in ids for number in range(width)]
    bounds = _limits(decoder, sources, settings)
    limits = torch.tensor(bounds)
    state = decoder.start(sources)
    tokens: list[list[int]] = [[] for _ in streams]
    scores: list[list[float]] = [[] for _ in streams]
    last = torch.full((len(sources), 1), decoder.first, device=decoder.device)
    for step in range(max(bounds) + 1):
        own = _restrict(decoder.step(state, last), decoder, settings, step, limits)
        if step == 0:
            own = own.expand(-1, width, -1)
            state.reorder(torch.arange(len(sources), device=decoder.device).repeat_interleave(width))
        own = own.reshape(len(streams), -1)
        points = torch.tensor([stream.random() for stream in streams], dtype=torch.float64)
        drawn = _drawn(own, points.to(own.device), settings)
        parts = own.gather(1, drawn[:, None])[:, 0].tolist()
        for n, (token, part) in enumerate(zip(drawn.tolist(), parts, strict=True)):
            if not tokens[n] or tokens[n][-1] != decoder.end:
                tokens[n].append(token)
                scores[n].append(part)
        if all(row[-1] == decoder.end for row in tokens):
            break
        last = drawn.view(len(sources), width)
    made = [_scored(row, own, settings) for row, own in zip(tokens, scores, strict=True)]
    groups = [made[n : n + width] for n in range(0, len(made), width)]
    return [sorted(group, key=lambda one: one.score, reverse=True) for group in groups]


def _stream(seed: int, name: str, number: int) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed}/{number}/{name}".encode(errors="surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "big")))


def _drawn(scores: Tensor, points: Tensor, settings: Search) -> Tensor:
    """Return [N] pieces where the cumulated probability passes the points."""
    ordered, order = (scores / settings.temperature).double().softmax(-1).sort(dim=-1, descending=True, stable=True)
    if settings.top_k:
        ordered[:, settings.top_k :] = 0
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(before >= settings.top_p, 0)
    cumulated = ordered.cumsum(-1)
    place = torch.searchsorted(cumulated, (points * cumulated[:, -1])[:, None], right=True)
    last = (ordered > 0).sum(-1, keepdim=True) - 1
    return order.gather(1, place.minimum(last))[:, 0]


def _scored(tokens: list[int], parts: list[float], settings: Search) -> Hypothesis:
    score = sum(parts) / len(parts) ** settings.length_penalty
    return Hypothesis(tokens=tuple(tokens), score=score, token_scores=tuple(parts))
