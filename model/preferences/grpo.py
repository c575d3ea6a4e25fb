"""`python -m model grpo`: make replies with a high reward likelier, without going far from the base.

    loss of a reply = mean over its tokens of  -A * p / stop(p)  +  grpo_beta * (p0 / p - log(p0 / p) - 1)

with the advantage A (`model.preferences.rollouts`), p the probability of the token by the adapter and p0 by
the base alone (GRPO, arXiv 2402.03300). Every step draws new replies, so the ratio to the model that drew
them is 1 and needs no clipping; its gradient is that of log p. The last term is an unbiased, never negative
estimate of the Kullback-Leibler divergence from the base (Schulman's k3).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.config import LoRAConfig, Sampling, TrainConfig
from model.data.batches import IGNORED, Batch
from model.data.sets import DataConfig, gather
from model.data.split import split
from model.engine import Engine
from model.errors import DataError, TrainingError
from model.gpt import GPT
from model.preferences import rewards
from model.preferences.logprobs import reference, token_logs
from model.preferences.rollouts import RolloutBatch, Rollouts
from model.train import adapting, command
from model.train.adapting import AdapterRun, Start
from model.train.command import Command
from model.train.distributed import World
from model.train.options import build
from model.train.runs import Run
from model.train.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPOConfig(AdapterRun):
    """What is rewarded, and how replies are drawn."""

    reward: str
    grpo_beta: float = 0.04  #: what moving away from the base costs; 0: nothing
    num_generations: int = 8  #: replies to a prompt
    max_completion_length: int = 64
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        checks = {
            "grpo_beta": (0 <= self.grpo_beta < 100, "0 or more"),
            "num_generations": (2 <= self.num_generations <= 256, "between 2 and 256"),
            "max_completion_length": (self.max_completion_length >= 1, "at least 1"),
            "temperature": (0 < self.temperature <= 10, "above 0"),
        }
        for name, (ok, allowed) in checks.items():
            if not ok:
                raise TrainingError(f"{name} must be {allowed}, got {getattr(self, name)}")


CLASSES = (GRPOConfig, TrainConfig, LoRAConfig, DataConfig)
HELP = adapting.HELP | {
    "reward": "a reward head by its name, or a rule: contains:TEXT, brief:N, ends",
    "grpo_beta": "what moving away from the base costs",
    "num_generations": "replies to a prompt",
    "max_completion_length": "most tokens of a reply",
    "temperature": "replies are drawn at",
    "dataset": "sets whose prompts are asked; their replies are not used",
    "gradient_accumulation_steps": "prompts a step",
}


#: A micro-batch is one prompt with its group, and no reply has a target that somebody wrote.
IDLE = {
    **adapting.IDLE,
    "label_smoothing": "needs targets that somebody wrote, and replies are drawn here",
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_device_eval_batch_size", "packing", "pack_len", "too_long"),
        "changes nothing: a micro-batch is one prompt with its replies",
    ),
}


class GRPO:
    """The loss, and what it saw since it was last asked."""

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self._seen = {"replies": 0.0, "reward": 0.0, "kl": 0.0, "length": 0.0}

    def __call__(self, model: GPT, batch: Batch) -> tuple[Tensor, int]:
        """Sum over the group's replies, and how many they are."""
        assert isinstance(batch, RolloutBatch)
        rows = (batch.targets != IGNORED).nonzero()[:, 0]
        lengths = torch.bincount(rows, minlength=len(batch.advantages))
        with reference(model):
            before = token_logs(model, batch)
        logs = token_logs(model, batch)
        away = before - logs
        divergence = away.exp() - away - 1
        gain = batch.advantages[rows] * (logs - logs.detach()).exp()
        each = (self.beta * divergence - gain) / lengths[rows]
        self._seen["replies"] += len(lengths)
        self._seen["reward"] += float(batch.rewards.sum())
        self._seen["kl"] += float((divergence.detach() / lengths[rows]).sum())
        self._seen["length"] += len(rows)
        return each.sum(), len(lengths)

    def figures(self) -> dict[str, float]:
        """Mean reward, divergence a token and length of the replies; then forgotten."""
        seen, self._seen = self._seen, dict.fromkeys(self._seen, 0.0)
        replies = seen.pop("replies")
        return {name: value / replies for name, value in seen.items()} if replies else {}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `grpo`."""
    command.add_arguments(parser, CLASSES, HELP)


def run(args: argparse.Namespace, home: Path) -> int:
    """Train; 0 done, 130 stopped and saved.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    settle = adapting.settler(CLASSES, idle=IDLE)

    def checked(values: dict[str, Any], home: Path, world: World) -> dict[str, Any]:
        if values.get("val_size") or values.get("eval_dataset"):
            raise TrainingError("grpo learns from its own replies: leave out val_size and eval_dataset")
        if world.size > 1:
            raise TrainingError("grpo draws its replies in one process: start it without torchrun")
        return settle(values, home, world)

    return command.run(Command("grpo", CLASSES, checked, _train), args, command.settings(args), home)


def _train(this: Run, values: Mapping[str, Any], home: Path, world: World) -> int:
    what, data = build(GRPOConfig, values), build(DataConfig, values)

    def task(start: Start) -> Task:
        report: list[str] = []
        examples, _ = split(gather(data.dataset, data, report), 0)
        engine = Engine.from_checkpoint(start.base)
        room = start.base.config.context_length - what.max_completion_length
        prompts = []
        for example in examples:
            for turns in example.conversations:
                asked = list(turns[:-1]) if turns[-1]["role"] == "assistant" else list(turns)
                if len(engine.prompt(asked)) <= min(room, data.cutoff_len):
                    prompts.append(asked)
        report.append(f"{len(prompts)} prompts that fit, {what.num_generations} replies each")
        if not prompts:
            raise DataError(f"no prompt of {', '.join(data.dataset)} fits cutoff_len {data.cutoff_len}")
        sampling = Sampling(temperature=what.temperature, max_tokens=what.max_completion_length)
        groups = Rollouts(
            prompts,
            engine,
            start.model,
            build(LoRAConfig, values),
            rewards.find(what.reward, home),
            group=what.num_generations,
            sampling=sampling,
            seed=build(TrainConfig, values).seed,
        )
        loss = GRPO(what.grpo_beta)
        return Task(model=start.model, loss=loss, train=groups, report=report, figures=loss.figures)

    return adapting.train(this, values, home, world, task)
