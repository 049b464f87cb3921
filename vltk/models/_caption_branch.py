"""A caption read off the regions of a picture: a recurrent reader, and a decoder that attends to what was read.

VSRN, section 3.4, equation 9, after Venugopalan et al. 2015. The published loop always takes one step fewer than the
longest caption allowed (59), joins every region with the decoder's state anew at each of them, and scores all words
for padding as well; here the regions' half of the attention is made once and each caption stops where it ends.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vltk.models._dual import run_packed


class CaptionBranch(nn.Module):
    """Generates a caption from relation-enhanced regions.

    Args:
        vocabulary: number of words.
        region_hidden: size of a region's state.
        hidden: of the reader; the decoder's is twice that with both directions.
        word_dim: size of a word vector.
        bidirectional: read the regions in both directions.
        dropout: of what the reader and the decoder are fed.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        region_hidden: int,
        hidden: int = 512,
        word_dim: int = 300,
        bidirectional: bool = False,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        width = 2 * hidden if bidirectional else hidden
        self.project = nn.Linear(region_hidden, hidden)
        self.reader = nn.GRU(hidden, hidden, batch_first=True, bidirectional=bidirectional)
        self.word = nn.Embedding(vocabulary, word_dim)
        self.attend = nn.Linear(2 * width, width)
        self.energy = nn.Linear(width, 1, bias=False)
        self.decoder = nn.GRUCell(word_dim + width, width)
        self.out = nn.Linear(width, vocabulary)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.project, self.attend, self.out):
            nn.init.xavier_normal_(layer.weight)

    def read(self, regions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read [B, R, H] regions in their order; return [B, R, W] states and the [B, W] one to begin a caption with."""
        states, last = run_packed(self.reader, self.dropout(self.project(regions)), mask)
        return states, torch.cat(tuple(last), dim=-1)

    def keys(self, states: Tensor) -> Tensor:
        """Return the [B, R, W] half of the attention that [B, R, W] states bring to every step."""
        return F.linear(states, self.attend.weight[:, : states.shape[-1]], self.attend.bias)

    def context(self, keys: Tensor, states: Tensor, mask: Tensor, memory: Tensor) -> Tensor:
        """Return the [B, W] mean of states that [B, W] ``memory`` attends to."""
        asked = F.linear(memory, self.attend.weight[:, memory.shape[-1] :]).unsqueeze(1)
        energies = self.energy((keys + asked).tanh_()).squeeze(-1)
        weights = energies.masked_fill(~mask, -torch.inf).softmax(dim=1)
        attended: Tensor = (weights.unsqueeze(1) @ states).squeeze(1)
        return attended

    def step(self, word: Tensor, context: Tensor, memory: Tensor) -> Tensor:
        """Return the next [B, W] memory, given the words' [B, 3 W] part of the gates."""
        decoder = self.decoder
        fed = word + F.linear(self.dropout(context), decoder.weight_ih[:, self.word.embedding_dim :])
        own = F.linear(memory, decoder.weight_hh, decoder.bias_hh)
        size = memory.shape[-1]
        reset, update = (fed[:, : 2 * size] + own[:, : 2 * size]).sigmoid().chunk(2, dim=1)
        new = torch.tanh(fed[:, 2 * size :] + reset * own[:, 2 * size :])
        return new + update * (memory - new)

    def gates(self, words: Tensor) -> Tensor:
        """Return the [..., 3 W] part of the decoder's gates that words bring."""
        vectors = self.dropout(self.word(words))
        return F.linear(vectors, self.decoder.weight_ih[:, : self.word.embedding_dim], self.decoder.bias_ih)

    def decode(self, regions: Tensor, mask: Tensor, words: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the decoder over the right words, each caption as long as it has any.

        Args:
            regions: [B, R, H].
            mask: [B, R] bool, true on regions.
            words: [B, T] int64 that stand before those to be said.
            counts: [B] how many of them count; at least one.

        Returns:
            [M, W] memories after each word that counts, step by step; [M] rows and [M] places in ``words`` of them.
        """
        # The longest captions first, so that those which go on are always the first rows.
        counts, order = counts.sort(descending=True, stable=True)
        going = (counts.unsqueeze(0) > torch.arange(words.shape[1], device=counts.device).unsqueeze(1)).sum(dim=1)
        states, memory = self.read(regions, mask)
        keys = self.keys(states)[order]
        states, memory, mask = states[order], memory[order], mask[order]
        memories, live = [], [count for count in going.tolist() if count]
        for fed, count in zip(self.gates(words[order]).unbind(dim=1), live, strict=False):
            if count < len(memory):  # each cut costs its gradient a whole copy
                keys, states, mask, memory = keys[:count], states[:count], mask[:count], memory[:count]
            memory = self.step(fed[:count], self.context(keys, states, mask, memory), memory)
            memories.append(memory)
        rows = torch.cat([order[:count] for count in live])
        places = torch.arange(len(live), device=rows.device).repeat_interleave(going[: len(live)])
        return torch.cat(memories), rows, places

    def losses(self, regions: Tensor, mask: Tensor, words: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        """Return [B] negative log-likelihoods of captions (equation 9).

        Args:
            regions: [B, R, H].
            mask: [B, R] bool, true on regions.
            words: [B, T] int64 that stand before those to be said.
            targets: [B, T] int64 that are to be said.
            counts: [B] how many of them count; at least one.
        """
        memories, rows, places = self.decode(regions, mask, words, counts)
        found = F.cross_entropy(self.out(memories), targets[rows, places], reduction="none")
        return found.new_zeros(len(words)).index_add(0, rows, found)

    @torch.no_grad()
    def greedy(self, regions: Tensor, mask: Tensor, *, steps: int, start: int = 1) -> tuple[Tensor, Tensor]:
        """Say the likeliest word after the likeliest, as published without a stop.

        Args:
            regions: [B, R, H].
            mask: [B, R] bool, true on regions.
            steps: T words.
            start: id that begins a caption.

        Returns:
            [B, T] ids and their [B, T] log-probabilities; what comes after an end of the caption means nothing.
        """
        states, memory = self.read(regions, mask)
        keys = self.keys(states)
        word = torch.full((len(regions),), start, device=regions.device)
        ids, scores = [], []
        for _ in range(steps):
            memory = self.step(self.gates(word), self.context(keys, states, mask, memory), memory)
            score, word = self.out(memory).log_softmax(dim=-1).max(dim=-1)
            ids.append(word)
            scores.append(score)
        return torch.stack(ids, dim=1), torch.stack(scores, dim=1)
