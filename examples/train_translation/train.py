"""Train a small translation model on parallel captions, as a directory that ``vltk augment`` translates with.

    python examples/train_translation/train.py --source en train.en.gz --target de train.de.gz --out wmt/en-de
    python examples/train_translation/train.py --source de train.de.gz --target en train.en.gz --out wmt/de-en
    vltk augment --examples captions.lmdb --pivot en-de --translator wmt --out paraphrased.lmdb

The directory has the layout of the published WMT'19 models (model.pt, dict.xx.txt, bpecodes), which fairseq reads too.
Training stops after --minutes of the process's own CPU time, or at Ctrl-C or SIGTERM; the weights that are kept are a
running mean.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

from vltk.language._subwords import BytePairs, Dictionary, Moses
from vltk.language._transformer import PAD, TransformerConfig, TranslationTransformer, padded

Pair = tuple[tuple[int, ...], tuple[int, ...]]
SMOOTHING = 0.1


def read_lines(path: Path, limit: int | None) -> list[str]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return content.decode().split("\n")[:limit]


def learn_merges(texts: Sequence[str], size: int) -> list[str]:
    """Return byte-pair merges in the order of a bpecodes file; a word's last piece ends in </w>."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=size, end_of_word_suffix="</w>", show_progress=False, special_tokens=[])
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [" ".join(merge) if isinstance(merge, list) else merge for merge in merges]


def write_pieces(out: Path, languages: Sequence[str], texts: Sequence[str], size: int) -> tuple[BytePairs, Dictionary]:
    """Learn the pieces of both languages together, and write bpecodes and dictionaries."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "bpecodes").write_text("".join(f"{merge} 1\n" for merge in learn_merges(texts, size)), encoding="utf-8")
    pairs = BytePairs.read(out / "bpecodes")
    count = Counter(piece for text in texts for piece in pairs.apply(text).split())
    lines = "".join(f"{piece} {seen}\n" for piece, seen in count.most_common())
    for language in languages:
        (out / f"dict.{language}.txt").write_text(lines, encoding="utf-8")
    return pairs, Dictionary.read(out / f"dict.{languages[0]}.txt")


def batches(pairs: Sequence[Pair], tokens: int, generator: random.Random) -> Iterator[list[Pair]]:
    """Yield batches of pairs of similar length, at most so many pieces of a side, in a random order, for ever."""
    while True:
        rows = sorted(pairs, key=lambda pair: (len(pair[1]), len(pair[0]), generator.random()))
        made: list[list[Pair]] = [[]]
        for pair in rows:
            longest = max(len(pair[0]), len(pair[1]), *(max(len(a), len(b)) for a, b in made[-1][:1]))
            if made[-1] and longest * (len(made[-1]) + 1) > tokens:
                made.append([])
            made[-1].append(pair)
        generator.shuffle(made)
        yield from made


def loss_of(model: TranslationTransformer, batch: Sequence[Pair]) -> Tensor:
    """Return the cross-entropy with smoothed labels, a mean over pieces."""
    scores = model([source for source, _ in batch], [target for _, target in batch])
    targets, _ = padded([target for _, target in batch], scores.device)
    real = targets != PAD
    right = scores.gather(2, targets[:, :, None])[:, :, 0]
    smoothed = (1 - SMOOTHING) * right + SMOOTHING * scores.mean(-1)
    return -(smoothed * real).sum() / real.sum()


def train(model: TranslationTransformer, pairs: Sequence[Pair], options: argparse.Namespace) -> TranslationTransformer:
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    mean = copy.deepcopy(model).eval()
    start, seen = time.process_time(), 0.0
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, frame: stopped.append(got))
    for step, batch in enumerate(batches(pairs, options.tokens, random.Random(options.seed)), 1):
        used = (time.process_time() - start) / 60 / options.minutes
        if used >= 1 or step > options.steps or stopped:
            break
        # Warm up, then fall to nothing as the time runs out.
        rate = options.rate * min(1.0, step / options.warmup) * (1 - used) ** 0.5
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        share = max(1 / step, 0.005)
        with torch.no_grad():
            for kept, new in zip(mean.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, share)
        seen = loss.item() if step == 1 else 0.98 * seen + 0.02 * loss.item()
        if step % options.report == 0:
            minutes = (time.process_time() - start) / 60
            print(f"step {step}: loss {seen:.3f}, {minutes:.1f} CPU minutes", flush=True)
    return mean


def save(model: TranslationTransformer, out: Path) -> None:
    config = model.config
    arguments = argparse.Namespace(
        arch="transformer",
        task="translation",
        criterion="label_smoothed_cross_entropy",
        encoder_embed_dim=config.hidden,
        decoder_embed_dim=config.hidden,
        encoder_ffn_embed_dim=config.encoder_intermediate,
        decoder_ffn_embed_dim=config.decoder_intermediate,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_attention_heads=config.encoder_heads,
        decoder_attention_heads=config.decoder_heads,
        share_all_embeddings=True,
        share_decoder_input_output_embed=True,
    )
    # vltk reads settings and weights; fairseq wants to find the rest as well.
    history = [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]
    rest = {"optimizer_history": history, "extra_state": {"train_iterator": {"epoch": 1}}, "last_optimizer_state": None}
    torch.save({"args": arguments, "model": model.state_dict(), **rest}, out / "model.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", nargs=2, required=True, metavar=("LANGUAGE", "FILE"), help="a text a line")
    parser.add_argument("--target", nargs=2, required=True, metavar=("LANGUAGE", "FILE"), help="its translations")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes of training")
    parser.add_argument("--steps", type=int, default=1_000_000, help="stop after so many steps at the latest")
    parser.add_argument("--limit", type=int, default=None, help="take only the first N pairs")
    parser.add_argument("--pieces", type=int, default=4000, help="word pieces of both languages")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--tokens", type=int, default=1000, help="pieces of a batch")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--report", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    sides = [(language, read_lines(Path(path), options.limit)) for language, path in (options.source, options.target)]
    texts = [[Moses(language).split(line) for line in lines] for language, lines in sides]
    pairs, dictionary = write_pieces(options.out, [side[0] for side in sides], [*texts[0], *texts[1]], options.pieces)
    ids = [[dictionary.encode(pairs.apply(text)) for text in lines] for lines in texts]
    examples = [pair for pair in zip(*ids, strict=True) if min(map(len, pair)) > 1 and max(map(len, pair)) <= 60]
    config = TransformerConfig(
        source_vocabulary=len(dictionary),
        target_vocabulary=len(dictionary),
        hidden=options.hidden,
        encoder_layers=options.layers,
        decoder_layers=options.layers,
        encoder_heads=max(1, options.hidden // 32),
        decoder_heads=max(1, options.hidden // 32),
        encoder_intermediate=2 * options.hidden,
        decoder_intermediate=2 * options.hidden,
        share_embeddings=True,
        dropout=options.dropout,
    )
    model = TranslationTransformer(config).train()
    torch.nn.init.normal_(model.encoder.embed_tokens.weight, std=options.hidden**-0.5)
    print(f"{len(examples)} pairs, {len(dictionary)} pieces, {sum(p.numel() for p in model.parameters())} weights")
    save(train(model, examples, options), options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
