"""Pool batches of 128 x 36 x 1024 with GPO: vltk against the published order of computation.

    python benchmarks/gpo.py --repetitions 7

Both have the same weights and give the same numbers (checked). The published module sorts with a general sort, runs
its GRU over every set of the batch, packed, and does so in evaluation again for every batch. Compared in one run,
alternating, on one thread unless ``OMP_NUM_THREADS`` says otherwise: evaluation (no gradients), and training
(forward and backward to features and weights), with all sets of 36 (bottom-up attention's features), and with the
sizes that size augmentation leaves.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vltk.models._coefficients import RecurrentCoefficients
from vltk.models._pooling import GeneralizedPooling

BATCH, REGIONS, HIDDEN, SIZE = 128, 36, 1024, 32


class PublishedPooling(nn.Module):
    """What the authors' module does, step by step (lib/modules/aggr/gpo.py), written anew."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.gru = nn.GRU(size, size, 1, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(size, 1, bias=False)
        self.encodings: dict[int, Tensor] = {}

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        longest = int(lengths.max())
        if longest not in self.encodings:
            rate = torch.exp(torch.arange(0, self.size, 2) * -(math.log(10000.0) / self.size))
            angle = torch.arange(0, longest).unsqueeze(1) * rate
            self.encodings[longest] = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
        mask = torch.arange(longest).expand(len(lengths), longest) < lengths.long().unsqueeze(1)
        encoding = self.encodings[longest].unsqueeze(0).repeat(len(lengths), 1, 1)
        packed = pack_padded_sequence(encoding, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        half = states.shape[2] // 2
        scores = self.linear((states[:, :, :half] + states[:, :, half:]) / 2)
        weights = torch.softmax(scores.masked_fill(~mask.unsqueeze(-1), -10000) / 0.1, dim=1)
        features = features[:, :longest].masked_fill(~mask.unsqueeze(-1), -10000)
        ordered = features.sort(dim=1, descending=True)[0].masked_fill(~mask.unsqueeze(-1), 0)
        return (ordered * weights).sum(1)


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(name: str, published: Callable[[], Tensor], ours: Callable[[], Tensor], repetitions: int) -> None:
    different = ~torch.isclose(ours(), published(), rtol=1e-4, atol=1e-5)
    if different.double().mean() > 1e-6:  # where two values are equal, either may get the gradient of a rank
        raise SystemExit(f"{name}: {int(different.sum())} numbers differ")
    pairs = [(timed(published), timed(ours)) for _ in range(repetitions)]
    before, after = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(first / second for first, second in pairs)
    print(f"{name:<28} published {before * 1e3:8.1f} ms   vltk {after * 1e3:8.1f} ms   ratio {ratio:5.2f}")


def modules() -> tuple[PublishedPooling, GeneralizedPooling]:
    torch.manual_seed(0)
    published, ours = PublishedPooling(SIZE), GeneralizedPooling(RecurrentCoefficients(size=SIZE, hidden=SIZE))
    ours.coefficients.load_state_dict(published.state_dict())
    return published, ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--batch", type=int, default=BATCH)
    arguments = parser.parse_args()
    published, ours = modules()
    features = torch.randn(arguments.batch, REGIONS, HIDDEN, requires_grad=True)
    full = torch.full((arguments.batch,), REGIONS)
    dropped = (torch.rand(arguments.batch, REGIONS) > 0.2).sum(dim=1)
    print(f"{arguments.batch} x {REGIONS} x {HIDDEN}, {torch.get_num_threads()} threads, torch {torch.__version__}")

    for label, lengths in (("36 regions", full), ("size augmentation", dropped)):
        mask = torch.arange(REGIONS) < lengths.unsqueeze(1)

        def trained(pool: Callable[[], Tensor], weights: nn.Module) -> Tensor:
            features.grad = None
            weights.zero_grad()
            pool().square().sum().backward()
            assert features.grad is not None
            return features.grad

        def one(lengths: Tensor = lengths) -> Tensor:
            return published(features, lengths.float())

        def other(mask: Tensor = mask) -> Tensor:
            return ours(features, mask)

        with torch.no_grad():
            published.eval(), ours.eval()
            compare(f"evaluation, {label}", one, other, arguments.repetitions)
        published.train(), ours.train()
        compare(
            f"training, {label}",
            lambda: trained(one, published),
            lambda: trained(other, ours),
            arguments.repetitions,
        )


if __name__ == "__main__":
    main()
