"""`python -m model distill`: learn from a teacher of our own stack, or fetch the replies of one in Ollama.

With `--teacher NAME`, an installed model with the same tokenizer, training begins at once: the student learns
its probabilities. With `--teacher ollama/NAME` the replies are fetched into a set, which `sft` trains on:
another vocabulary has no probabilities in common.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model import checkpoint, install
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.data.sets import DataConfig, gather, prepare
from model.distill import replies
from model.distill.loss import Distilling
from model.errors import TokenizerError, TrainingError
from model.gpt import GPT
from model.ollama import PREFIX, Ollama
from model.quantized import dense
from model.train import adapting, command
from model.train.adapting import AdapterRun, Start
from model.train.command import Command
from model.train.distributed import World
from model.train.fused import quicken
from model.train.options import build
from model.train.options import gather as gather_settings
from model.train.runs import Run
from model.train.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig(AdapterRun):
    """From whom, and how."""

    teacher: str
    full: bool = False  #: all weights instead of an adapter
    temperature: float = 2.0
    teacher_share: float = 0.5  #: of the teacher in the loss; the rest is the set's own replies
    replies: str = ""  #: for ollama/NAME: where they are kept; default: datasets/NAME-replies.jsonl
    max_tokens: int = 512  #: for ollama/NAME: most tokens of a reply

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        checks = {
            "temperature": (0 < self.temperature <= 100, "above 0"),
            "teacher_share": (0 <= self.teacher_share <= 1, "between 0 and 1"),
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
        }
        for name, (ok, allowed) in checks.items():
            if not ok:
                raise TrainingError(f"{name} must be {allowed}, got {getattr(self, name)}")


CLASSES = (DistillConfig, TrainConfig, LoRAConfig, DataConfig)
IDLE = {**adapting.IDLE, "label_smoothing": "is left to the teacher: its probabilities are soft targets"}
HELP = adapting.HELP | {
    "teacher": "an installed model with the student's tokenizer, or ollama/NAME",
    "temperature": "of both distributions (ollama/NAME: of the replies)",
    "teacher_share": "of the teacher in the loss; the rest goes to the set's own replies",
    "replies": "for ollama/NAME: a .jsonl file for the replies",
    "max_tokens": "for ollama/NAME: most tokens of a reply",
    "model": "the student: installed model to start from",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `distill`."""
    command.add_arguments(parser, CLASSES, HELP)


def run(args: argparse.Namespace, home: Path, ollama: str) -> int:
    """Train, or fetch; 0 done, 1 some prompts failed, 130 stopped and saved.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    given = command.settings(args)
    asked = {} if args.resume else gather_settings(CLASSES, given, args.config)
    if str(asked.get("teacher", "")).startswith(PREFIX):
        if args.detach:
            raise TrainingError("--detach is for training; fetching replies goes on where it was, too")
        return _fetch(asked, home, ollama)
    settle = adapting.settler(CLASSES, full=True, idle=IDLE)
    return command.run(Command("distill", CLASSES, settle, _train), args, given, home)


def _fetch(given: Mapping[str, Any], home: Path, address: str) -> int:
    if not given.get("dataset"):
        raise TrainingError("--dataset is needed: whose prompts shall be asked?")
    what = build(DistillConfig, given)
    paths = tuple(str(Path(n).resolve()) if Path(n).is_file() else n for n in given["dataset"])
    data = build(DataConfig, dict(given) | {"dataset": paths})
    teacher = what.teacher.removeprefix(PREFIX)
    name = given.get("name") or f"{teacher.replace('/', '-').replace(':', '-')}-replies"
    file = Path(what.replies) if what.replies else home / "datasets" / f"{name}.jsonl"
    report: list[str] = []
    prompts = replies.prompts_of(gather(data.dataset, data, report))
    for line in report:
        _say(line)
    temperature = float(given.get("temperature", 0.0))
    seed = build(TrainConfig, given).seed
    options = {"temperature": temperature, "num_predict": what.max_tokens, "seed": seed}
    client = Ollama(address)
    try:
        fetched, failed = replies.fetch(prompts, teacher, client, file, options=options, say=_say)
    finally:
        client.close()
    sys.stdout.write(
        f"{fetched} replies fetched, {len(prompts) - fetched - failed} were there, {failed} failed: {file}\n"
        f"train on them: python -m model sft --dataset {file}\n"
    )
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _train(this: Run, values: Mapping[str, Any], home: Path, world: World) -> int:
    what = build(DistillConfig, values)

    def task(start: Start) -> Task:
        found = checkpoint.load(install.find(what.teacher, home))
        same_tokenizer(start.base, found)
        sets = prepare(build(DataConfig, values), start.template, start.tokenizer)
        loss = Distilling(
            _decoder(found, start.dtype, world.device),
            start.tokenizer.vocab_size,
            temperature=what.temperature,
            share=what.teacher_share,
        )
        return Task(
            model=start.model, loss=loss, train=sets.train, validation=sets.validation, report=sets.report
        )

    return adapting.train(this, values, home, world, task)


def same_tokenizer(student: Checkpoint, teacher: Checkpoint) -> None:
    """Refuse a teacher whose token numbers mean something else.

    Raises:
        TokenizerError: names both, and what to do.
    """
    told = []
    for one in (student, teacher):
        content = json.loads(one.tokenizer_file.read_text(encoding="utf-8"))
        added = [(token.get("id"), token.get("content")) for token in content.get("added_tokens") or []]
        told.append((content["model"].get("vocab"), content["model"].get("merges"), added))
    if told[0] != told[1]:
        raise TokenizerError(
            f"{teacher.path.name} has another tokenizer than {student.path.name}: probabilities cannot be "
            "compared. Learn from its replies instead (serve it in Ollama: --teacher ollama/NAME)"
        )


def _decoder(found: Checkpoint, dtype: torch.dtype, device: torch.device) -> GPT:
    with torch.device("meta"):
        model = GPT(found.config)
    model.load_state_dict({name: dense(weight, dtype) for name, weight in found.weights.items()}, assign=True)
    model = model.to(device)
    if device.type == "cpu":
        quicken(model)
    return model
