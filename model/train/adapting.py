"""What the commands share that train an adapter, or the weights, of a chat model with a loss of their own.

A command says how its settings become a `Task`; the rest, from checks to the installed result, is the same
for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model import checkpoint, install
from model.chat import ChatTemplate
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.errors import TrainingError
from model.gpt import GPT
from model.tokenizer import Tokenizer
from model.train import sft, task
from model.train.distributed import World
from model.train.options import build
from model.train.runs import Run
from model.train.subject import Subject
from model.train.task import Idle, Task

HELP = sft.HELP
#: What only the loss of the next token knows.
IDLE = dict.fromkeys(
    ("torch_compile", "max_z_loss"), "belongs to `pretrain` and `sft`, whose loss is the next token"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRun:
    """What is trained, and what its result is called."""

    model: str = sft.DEFAULT_MODEL
    name: str = ""  #: of the run and of the adapter; default: the set's name and the time


@dataclass(frozen=True)
class Start:
    """A run that is about to train."""

    base: Checkpoint
    template: ChatTemplate
    tokenizer: Tokenizer
    model: GPT  #: as the loop takes it, adapter put in
    dtype: torch.dtype
    world: World


def settler(
    classes: Sequence[type], *, full: bool = False, idle: Idle = IDLE
) -> Callable[[dict[str, Any], Path, World], dict[str, Any]]:
    """A `Command.settle` for settings of these classes; `full`: whether weights may be trained, too."""

    def settle(values: dict[str, Any], home: Path, world: World) -> dict[str, Any]:
        values = sft.named(values, home)
        values["name"] = world.agree(values["name"])
        for cls in classes:
            build(cls, values)
        how, whole = build(TrainConfig, values), _whole(values)
        if how.freeze and not full:
            raise TrainingError("an adapter is trained here and all blocks are frozen; leave out freeze")
        taken = home / ("models" if whole else "adapters") / values["name"]
        held = values.get("val_size") or values.get("eval_dataset")
        return task.settle(values, how, world, taken, held, {**idle, **(sft.NO_ADAPTER if whole else {})})

    return settle


def train(
    this: Run, values: Mapping[str, Any], home: Path, world: World, made: Callable[[Start], Task]
) -> int:
    """Train what `made` makes of the start; the exit status.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    how, low = build(TrainConfig, values), build(LoRAConfig, values)
    base = checkpoint.load(install.find(values["model"], home))
    about = {"run": this.name, "base": values["model"], "dataset": list(values["dataset"])}
    command = this.config().get("command")
    subject = Subject(base, None if _whole(values) else low, about | {"command": command})

    def make(dtype: torch.dtype, say: task.Say) -> Task:
        del say
        template, tokenizer = sft.speech(base)
        model = subject.decoder(how, dtype, world.device)
        return made(Start(base, template, tokenizer, model, dtype, world))

    return subject.train(this, how, world, home, make, sft.decisive(values))


def _whole(values: Mapping[str, Any]) -> bool:
    """Whether all weights are trained instead of an adapter."""
    return bool(values.get("full") or values.get("freeze"))
