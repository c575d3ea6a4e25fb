"""LoRA training against transformers + peft: the same weights, adapter, optimiser, batch and numbers, in turn.

    python -m benchmarks.lora [--home HOME] [--rows 8] [--length 480] [--rounds 3] [--dtypes bf16 fp32]

Claims: at least 1.7 times the tokens a second at no more memory, on rows of which a third is supervised; and at
least 4 times the questions a second where questions share one copy of their passage, on passages spread over
`qa/squad_train`, against one copy for each question. Both sides take steps of AdamW in turn in one process;
their first losses, printed, show that they compute the same. Peak memory is that of each side alone, in a
process of its own. peft keeps adapters in float32 beside a bf16 base, as it does by default; so do we. The
numbers are those that a training run would choose here, unless `--dtypes` says otherwise.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.generation import as_transformers
from benchmarks.measure import interleave, memory_mb, ratio
from ingest.settings import find_home
from model import checkpoint
from model.chat import ChatTemplate, Message
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.data.batches import IGNORED, Batch, Loader
from model.data.samples import Sample, encode
from model.tokenizer import Tokenizer
from model.train import precision
from model.train.losses import next_token
from model.train.optimise import clip, optimiser
from model.train.subject import Subject

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SUPERVISED = 1 / 3
KNOBS = LoRAConfig(lora_rank=8, lora_alpha=16)
RATE = 1e-4

#: One step on micro-batches whose gradients add up; returns the mean loss.
Step = Callable[[Sequence[Batch]], float]


def ours(loaded: Checkpoint, dtype: torch.dtype) -> Step:
    config = TrainConfig(learning_rate=RATE)
    model = Subject(loaded, KNOBS, {}).decoder(config, dtype, torch.device("cpu")).train()
    adam = optimiser(model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step(batches: Sequence[Batch]) -> float:
        total, count = 0.0, 0
        for batch in batches:
            summed, terms = next_token(model, batch)
            summed.backward()
            total, count = total + summed.item(), count + terms
        for parameter in trained:
            assert parameter.grad is not None
            parameter.grad.div_(count)
        clip(trained, 1.0)
        adam.step()
        adam.zero_grad()
        return total / count

    return step


def theirs(loaded: Checkpoint, dtype: torch.dtype) -> Step:
    from peft import LoraConfig, get_peft_model

    knobs = LoraConfig(
        r=KNOBS.lora_rank,
        lora_alpha=int(KNOBS.lora_alpha),
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(as_transformers(loaded, dtype), knobs).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)

    def step(batches: Sequence[Batch]) -> float:
        total, count = 0.0, sum(batch.supervised for batch in batches)
        for batch in batches:
            seen = torch.arange(batch.ids.shape[1]) < torch.tensor(batch.lengths)[:, None]
            labels = batch.targets.roll(1, 1)  # the model shifts them back
            labels[:, 0] = IGNORED
            loss = model(input_ids=batch.ids, attention_mask=seen.long(), labels=labels).loss
            share = batch.supervised / count
            (loss * share).backward()
            total += loss.item() * share
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        adam.step()
        adam.zero_grad()
        return total

    return step


SIDES = {"lorebase": ours, "transformers + peft": theirs}


def one_batch(vocabulary: int, rows: int, length: int) -> Batch:
    ids = torch.randint(3, vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))
    targets = ids.roll(-1, 1)
    targets[:, -1] = IGNORED
    targets[:, : round(length * (1 - SUPERVISED))] = IGNORED
    return Batch(ids, torch.arange(length).expand(rows, length), targets, None, [length] * rows, rows)


def reading(loaded: Checkpoint, passages: int) -> list[Sample]:
    """Passages spread evenly over SQuAD's, each with all its answerable questions."""
    data = Path(os.environ.get("LOREBASE_DATA", "../shared/data")) / "qa" / "squad_train.json.gz"
    with gzip.open(data, "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    groups: list[list[list[Message]]] = []
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        asked = [
            (qa["question"], qa["answers"][0]["text"]) for qa in paragraph["qas"] if not qa["is_impossible"]
        ]
        if asked:
            groups.append(
                [
                    [
                        {"role": "user", "content": f"{paragraph['context']}\n\n{question}"},
                        {"role": "assistant", "content": answer},
                    ]
                    for question, answer in asked
                ]
            )
    groups = [groups[len(groups) * i // passages] for i in range(passages)]
    template = ChatTemplate.recognise(loaded.metadata["chat_template"])
    return encode(groups, template, Tokenizer.from_file(loaded.tokenizer_file), cutoff_len=1024)[0]


def alone(samples: Sequence[Sample]) -> list[Sample]:
    """The same conversations, each with its own copy of the prefix."""
    from model.data.samples import Branch

    def whole(sample: Sample, branch: Branch) -> Branch:
        ids, mask = (torch.tensor([*head, *tail]).numpy() for head, tail in (
            (sample.prefix, branch.ids), ([False] * len(sample.prefix), branch.mask)))  # fmt: skip
        return Branch(ids.astype("int32"), mask.astype(bool))

    return [Sample((whole(sample, branch),)) for sample in samples for branch in sample.branches]


def peak_mb(side: str, dtype: str, argv: Sequence[str]) -> float:
    command = [sys.executable, "-m", "benchmarks.lora", *argv, "--dtypes", dtype, "--memory", side]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def compare(
    loaded: Checkpoint,
    dtype: torch.dtype,
    batches: dict[str, list[Batch]],
    *,
    amount: float,
    unit: str,
    rounds: int,
) -> None:
    """Both sides in turn, and the ratio of each round."""
    losses: dict[str, list[float]] = {side: [] for side in SIDES}
    runs: dict[str, Callable[[], object]] = {}
    for side, build in SIDES.items():
        step = build(loaded, dtype)
        runs[side] = lambda step=step, side=side: losses[side].append(step(batches[side]))  # type: ignore[misc]
    rates = interleave(dict.fromkeys(runs, amount), runs, rounds)
    for side, rate in rates.items():
        print(f"  {side:20} {rate} {unit}/s   first loss {losses[side][0]:.4f}")
    print(f"  {'ratio':20} {ratio(rates['lorebase'], rates['transformers + peft'])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES)
    parser.add_argument(
        "--passages", type=int, default=8, help="of the comparison by questions; 0: leave it out"
    )
    parser.add_argument("--memory", choices=SIDES, help="one side alone, two steps, and its peak of memory")
    args = parser.parse_args()
    chosen = precision.choose("auto", torch.device("cpu"))
    names = args.dtypes or [next(name for name, dtype in DTYPES.items() if dtype == chosen)]
    loaded = checkpoint.load((args.home or find_home()) / "models" / args.model)
    same = [one_batch(loaded.config.vocab_size, args.rows, args.length)]
    if args.memory:
        step = SIDES[args.memory](loaded, DTYPES[names[0]])
        for _ in range(2):
            step(same)
        print(f"{memory_mb():.0f}")
        return
    print(f"LoRA rank {KNOBS.lora_rank}, {torch.get_num_threads()} threads")
    given = [
        f"--{key}={getattr(args, key)}" for key in ("home", "model", "rows", "length") if getattr(args, key)
    ]
    for name in names:
        print(f"{name}, {args.rows} x {args.length} tokens a step")
        compare(
            loaded,
            DTYPES[name],
            dict.fromkeys(SIDES, same),
            amount=float(args.rows * args.length),
            unit="tokens",
            rounds=args.rounds,
        )
        for side in SIDES:
            print(f"  {side:20} {peak_mb(side, name, given):8.0f} MB at the peak, alone", flush=True)
    if not args.passages:
        return
    samples = reading(loaded, args.passages)
    shared = Loader(samples, batch_size=4, packing=True, pack_len=1024, shuffle=False)
    each = Loader(alone(samples), batch_size=args.rows, shuffle=False)
    batches = {side: list(loader.batches(0)) for side, loader in zip(SIDES, (shared, each), strict=True)}
    asked = sum(batch.samples for batch in batches["lorebase"])
    tokens = [sum(batch.tokens for batch in batches[side]) for side in SIDES]
    print(
        f"{names[0]}, {asked} questions on {args.passages} passages a step: {tokens[0]} tokens shared, {tokens[1]} apart"
    )
    compare(loaded, DTYPES[names[0]], batches, amount=float(asked), unit="questions", rounds=args.rounds)


if __name__ == "__main__":
    main()
