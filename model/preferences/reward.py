"""`python -m model reward`: a head that says how good a reply is, learned from preference pairs.

The state of a conversation's last end token goes through a readout of one output (arXiv 2203.02155); an
adapter in all blocks is trained with it, or the last blocks are. Only differences between scores mean
anything: a reply to the same prompt with the higher one is the better one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model import install
from model.chat import ChatTemplate, Message
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.data.forms import Example
from model.data.sets import DataConfig, gather
from model.data.split import split
from model.engine import Engine
from model.errors import DataError
from model.heads import folder as heads
from model.heads import training
from model.heads.described import Described, describe, path_of
from model.heads.figures import wilson
from model.heads.reader import HeadReader
from model.heads.training import HeadConfig, Sets
from model.tokenizer import Tokenizer
from model.train import command, sft
from model.train.command import Command
from model.train.distributed import World
from model.train.options import build
from model.train.runs import Run

CLASSES = (HeadConfig, TrainConfig, LoRAConfig, DataConfig)
CUTOFF = 1024
#: Pairs are read one by one, and those that are too long are left out.
IDLE = {
    **training.IDLE,
    **dict.fromkeys(("packing", "pack_len", "too_long"), "changes nothing: a reply is read alone and whole"),
}
HELP = training.HELP | {
    "dataset": "preference sets: names in dataset_info.json, or paths of .json and .jsonl files",
    "cutoff_len": "tokens of a prompt with its reply; what is longer is left out",
    "label_smoothing": "share of the pairs whose preference is taken to be the wrong way round",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `reward`."""
    command.add_arguments(parser, CLASSES, HELP)


def run(args: argparse.Namespace, home: Path) -> int:
    """Train; 0 done, 130 stopped and saved.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    settle = training.settle(CLASSES, "reward", CUTOFF, IDLE)

    def adapted(values: dict[str, Any], home: Path, world: World) -> dict[str, Any]:
        values.setdefault("tune", "lora")
        return settle(values, home, world)

    return command.run(Command("reward", CLASSES, adapted, _train), args, command.settings(args), home)


def load(name: str, home: Path) -> HeadReader:
    """A trained reward, ready to score; its base is loaded.

    Raises:
        UnknownModel: no such reward, or its base is not installed.
        CheckpointError, AdapterError: damaged, or of another base.
    """
    path = path_of("reward", name, home)
    found = describe(path)
    engine = Engine.load(install.find(found.base, home))
    return HeadReader(engine, heads.read(path, engine.config))


def score(reader: HeadReader, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The reward of each (prompt, reply)."""
    conversations: list[list[Message]] = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
        for prompt, reply in pairs
    ]
    return [float(value) for value in reader.conversations(conversations)[:, 0]]


def _train(this: Run, values: Mapping[str, Any], home: Path, world: World) -> int:
    data = build(DataConfig, values)
    held: list[Example] = []

    def read(base: Checkpoint, tokenizer: Tokenizer) -> Sets:
        template, _ = sft.speech(base)
        report: list[str] = []
        examples = gather(data.dataset, data, report, "rank")
        if data.eval_dataset:
            learned, others = examples, gather(data.eval_dataset, data, report, "rank")
        else:
            learned, others = split(examples, data.val_size)
        rows = _rows(learned, template, tokenizer, data.cutoff_len, report)
        if not rows:
            raise DataError(f"no pair of {', '.join(data.dataset)} fits cutoff_len {data.cutoff_len}")
        check = _rows(others, template, tokenizer, data.cutoff_len, report) if others else []
        held[:] = others
        described = Described(
            kind="reward",
            labels=(),
            base="",
            base_weights="",
            first_block=0,
            cutoff_len=data.cutoff_len,
            counts={"pairs": len(rows) // 2},
        )
        zeros = ([0] * (len(rows) // 2), [0] * (len(check) // 2))
        return Sets(described, 1, (rows, zeros[0]), (check, zeros[1]) if check else None, report)

    def judged(path: Path, described: Described) -> Described:
        if not held:
            return described
        engine = Engine.load(install.find(described.base, home))
        reader = HeadReader(engine, heads.read(path, engine.config))
        said = reader.conversations([turns for example in held for turns in example.conversations])[:, 0]
        right = int((said[0::2] > said[1::2]).sum())
        low, high = wilson(right, len(held))
        line = f"held-out pairs in the right order: {right} of {len(held)} ({low:.1%} to {high:.1%})"
        this.say(line)
        sys.stderr.write(line + "\n")
        return replace(described, figures={"pairs": len(held), "accuracy": right / len(held)})

    return training.train(this, values, home, world, read=read, judged=judged)


def _rows(
    examples: Sequence[Example],
    template: ChatTemplate,
    tokenizer: Tokenizer,
    cutoff_len: int,
    report: list[str],
) -> list[list[int]]:
    """Ids of chosen and rejected conversations in turn, up to their last end token."""
    rows: list[list[int]] = []
    for example in examples:
        pair = []
        for turns in example.conversations:
            said = template.encode(turns, tokenizer, reply=False)
            pair.append(said.ids[: max(i for i, taught in enumerate(said.mask) if taught) + 1])
        if max(map(len, pair)) <= cutoff_len:
            rows += pair
    if lost := len(examples) - len(rows) // 2:
        report.append(f"{lost} of {len(examples)} pairs are longer than cutoff_len {cutoff_len} and left out")
    return rows
