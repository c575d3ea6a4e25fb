"""Pretraining speed against nanoGPT's loop on the same model in transformers: tokens a second, in turn.

    python -m benchmarks.pretrain_speed [--rounds 5] [--steps 10] [--dtypes fp32 bf16]

Claim: at least 1.2 times the tokens a second. Ours is `model.train.loop.fit` with all that it does (schedule,
clipping, figures); theirs is the loop of nanoGPT's train.py: a random batch off a memory map, the model's own
loss, clipping at 1, `torch.optim.AdamW`, gradients set to None. Same fresh weights, same sizes; the losses on
one batch, printed, show that both compute the same. On a processor nanoGPT computes in float32; `--dtypes bf16`
gives both bf16 (theirs by autocast).

Two sizes: nanoGPT's small configuration for characters, and a decoder of 6 layers, width 256, with 4,096 words
and windows of 256 tokens.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import interleave, ratio
from model.checkpoint import Checkpoint
from model.config import GPTConfig, TrainConfig
from model.data.shards.stream import Stream
from model.data.shards.windows import Windows
from model.formats.hf import write
from model.presets import preset
from model.train import loop
from model.train.losses import next_token
from model.train.pretrain import fresh
from model.train.subject import Subject

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: name -> shape, windows a step
SIZES: dict[str, tuple[GPTConfig, int]] = {
    "char 4 x 128": (replace(preset("nano-char-gpt2"), vocab_size=259), 12),
    "words 6 x 256": (replace(preset("nano-gpt2"), vocab_size=4096, context_length=256), 8),
}


def corpus(vocab_size: int, tokens: int = 500_000) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Ids that are as unlike each other in frequency as words are."""
    drawn = np.random.default_rng(0).zipf(1.2, tokens)
    return (drawn % vocab_size).astype(np.uint16)


def ours(base: Checkpoint, ids: Any, batch: int, dtype: torch.dtype, steps: int) -> Callable[[], object]:
    config = TrainConfig(learning_rate=1e-3, max_steps=steps, weight_decay=0.1, adam_beta2=0.99)
    model = Subject(base, None, {}).decoder(config, dtype, torch.device("cpu"))
    stream = Stream([ids], {"texts": 1, "bytes": len(ids)}, "")
    windows = Windows(stream, length=base.config.context_length, batch_size=batch)
    return lambda: loop.fit(model, next_token, windows, config, dtype=dtype)


def theirs(model: Any, ids: Any, batch: int, dtype: torch.dtype, steps: int) -> Callable[[], object]:
    model.train()
    length = model.config.n_positions
    context = torch.autocast("cpu", dtype) if dtype != torch.float32 else nullcontext()

    def run() -> None:
        groups = [
            {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        adam = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
        for _ in range(steps):
            starts = torch.randint(len(ids) - length - 1, (batch,))
            x = torch.stack([torch.from_numpy(ids[i : i + length].astype(np.int64)) for i in starts])
            with context:
                loss = model(x, labels=x, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad(set_to_none=True)
            loss.item()  # nanoGPT's figures, at every step as in its configuration for a processor

    return run


def in_transformers(base: Checkpoint) -> Any:
    """The same weights, by way of the folder that we export."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        write(base, Path(folder) / "hf", dtype="fp32")
        return transformers.AutoModelForCausalLM.from_pretrained(Path(folder) / "hf", dtype=torch.float32)


def letters(folder: Path) -> Path:
    """A tokenizer file, which an export brings along: the 256 bytes."""
    from model.tokenizing.train import train

    file = folder / "tokenizer.json"
    train(["a b"], "char").save(str(file))
    return file


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of a round")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32"])
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {args.rounds} rounds of {args.steps} steps")
    with tempfile.TemporaryDirectory() as folder:
        file = letters(Path(folder))
        for title, (config, batch) in SIZES.items():
            base = Checkpoint(Path("fresh"), config, dict(fresh(config, 0)), file, {})
            ids = corpus(config.vocab_size)
            for name in args.dtypes:
                dtype = DTYPES[name]
                hf = in_transformers(base)
                one = torch.from_numpy(ids[: config.context_length + 1].astype(np.int64))[None]
                same = hf(one[:, :-1], labels=one[:, :-1]).loss.item()
                window = Windows(
                    Stream([ids], {"texts": 1, "bytes": 1}, ""),
                    length=config.context_length,
                    batch_size=1,
                    shuffle=False,
                )
                plain = Subject(base, None, {}).decoder(TrainConfig(), torch.float32, torch.device("cpu"))
                batch_of_one = replace(
                    window.batch(0, 0),
                    ids=one[:, :-2],
                    targets=one[:, 1:-1],
                    positions=torch.arange(config.context_length - 1)[None],
                )
                total, count = next_token(plain, batch_of_one)
                print(
                    f"{title}, {batch} windows of {config.context_length}, {name}: losses {total.item() / count:.4f} and {same:.4f}"
                )
                runs = {
                    "lorebase": ours(base, ids, batch, dtype, args.steps),
                    "transformers": theirs(hf, ids, batch, dtype, args.steps),
                }
                units = dict.fromkeys(runs, float(args.steps * batch * config.context_length))
                rates = interleave(units, runs, args.rounds)
                for side, rate in rates.items():
                    print(f"  {side:14} {rate} tokens/s")
                print(f"  {'ratio':14} {ratio(rates['lorebase'], rates['transformers'])}", flush=True)


if __name__ == "__main__":
    main()
