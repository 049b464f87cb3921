"""A bidirectional GRU over many texts in evaluation, where what texts have in common is computed once.

Captions begin and end alike ("a man in a ... ."): a fifth of the states of a thousand captions of Flickr30k are those
of another caption. The words' part of the gates is computed once for each word.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shares_states(gru: nn.GRU, device: torch.device) -> bool:
    """Say whether :func:`run_shared` can stand for the GRU: in evaluation on a CPU, one layer, both directions."""
    plain = device.type == "cpu" and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    return plain and gru.num_layers == 1 and gru.bidirectional


def run_shared(gru: nn.GRU, vectors: nn.Embedding, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of both directions' states.

    Args:
        gru: one layer, both directions.
        vectors: of the words.
        ids: [B, T] words.
        mask: [B, T] bool, true on words; padding stands at the right end.

    Returns:
        [B, T, H], zero at padding.
    """
    words, places = torch.unique(ids[mask], return_inverse=True)
    number = torch.zeros_like(ids)
    number[mask] = places
    known = vectors(words)
    lengths = mask.sum(dim=1)
    forward = _direction(gru, "", known, number, lengths)
    # Read from the end: place t holds the word at length - 1 - t; the same again turns the states back.
    turned = (lengths.unsqueeze(1) - 1 - torch.arange(ids.shape[1])).clamp(min=0)
    backward = _direction(gru, "_reverse", known, number.gather(1, turned), lengths)
    backward = backward.gather(1, turned.unsqueeze(-1).expand_as(backward))
    return ((forward + backward) / 2).masked_fill(~mask.unsqueeze(-1), 0)


def _direction(gru: nn.GRU, suffix: str, known: Tensor, number: Tensor, lengths: Tensor) -> Tensor:
    """Return [B, T, H] states of one direction; texts with the same words so far share one."""
    weights = [getattr(gru, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    from_words = nn.functional.linear(known, weights[0], weights[2])
    result = known.new_zeros(*number.shape, gru.hidden_size)
    states = known.new_zeros(1, gru.hidden_size)
    node = torch.zeros(len(number), dtype=torch.long)
    for step in range(int(lengths.max())):
        alive = (lengths > step).nonzero().squeeze(1)
        # A text's beginning is the one before it and a word.
        begun, own = torch.unique(node[alive] * len(known) + number[alive, step], return_inverse=True)
        before = states[begun // len(known)]
        states = _cell(from_words[begun % len(known)], before, weights[1], weights[3])
        node[alive] = own
        result[alive, step] = states[own]
    return result


def _cell(word: Tensor, before: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the next state of [U, H] states, given the words' [U, 3 H] part of the gates."""
    inner, size = nn.functional.linear(before, weight, bias), before.shape[1]
    reset, update = (inner[:, : 2 * size] + word[:, : 2 * size]).sigmoid_().chunk(2, dim=1)
    new = (inner[:, 2 * size :] * reset).add_(word[:, 2 * size :]).tanh_()
    return torch.lerp(new, before, update)
