"""`python -m model dpo`: direct preference optimisation (arXiv 2305.18290) of an adapter.

    loss = -log sigmoid(beta * ((log p(c) - log p0(c)) - (log p(r) - log p0(r))))

for a chosen reply c and a rejected one r, where p is the model with its adapter and p0 the same model with
the adapter switched off: the reference costs no second copy of the weights. At the first step both are the
same and the loss is ln 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import LoRAConfig, TrainConfig
from model.data.batches import IGNORED, Batch
from model.data.sets import DataConfig
from model.errors import TrainingError
from model.gpt import GPT
from model.preferences import pairs
from model.preferences.logprobs import reference, token_logs
from model.preferences.pairs import PairBatch
from model.train import adapting, command
from model.train.adapting import AdapterRun, Start
from model.train.command import Command
from model.train.distributed import World
from model.train.options import build
from model.train.runs import Run
from model.train.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class DPOConfig(AdapterRun):
    """What is trained, and how far it may go from its base."""

    pref_beta: float = 0.1  #: the higher, the nearer it stays to the base
    pref_length_normalised: bool = False  #: mean log-probability of a token in place of the reply's sum

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 < self.pref_beta < 100:
            raise TrainingError(f"pref_beta must be above 0 and below 100, got {self.pref_beta}")


CLASSES = (DPOConfig, TrainConfig, LoRAConfig, DataConfig)
HELP = adapting.HELP | {
    "pref_beta": "how much is lost by moving away from the base: the higher, the nearer it stays",
    "pref_length_normalised": "compare log-probabilities by token, so that long replies have no advantage",
    "label_smoothing": "share of the pairs whose preference is taken to be the wrong way round",
    "dataset": "preference sets: names in dataset_info.json, or paths of .json and .jsonl files",
    "cutoff_len": "tokens of a prompt with one reply, at most the model's window",
    "packing": "several pairs in a row, each seeing only itself",
}


class DPO:
    """The loss, and what it saw since it was last asked."""

    def __init__(self, config: DPOConfig, label_smoothing: float = 0.0) -> None:
        self.config, self.smoothing = config, label_smoothing
        self._seen = {"pairs": 0.0, "right": 0.0, "margin": 0.0}

    def __call__(self, model: GPT, batch: Batch) -> tuple[Tensor, int]:
        """Sum over the batch's pairs, and how many they are."""
        assert isinstance(batch, PairBatch)
        with reference(model):
            before = self._replies(model, batch)
        gained = self.config.pref_beta * (self._replies(model, batch) - before)
        margin = gained[0::2] - gained[1::2]
        losses = -F.logsigmoid(margin) * (1 - self.smoothing)
        if self.smoothing:
            losses = losses - F.logsigmoid(-margin) * self.smoothing
        self._note(margin.detach())
        return losses.sum(), batch.pairs

    def figures(self) -> dict[str, float]:
        """Share of pairs whose chosen reply gained more than the other, and by how much; then forgotten."""
        pairs, right, margin = self._seen.values()
        self._seen = dict.fromkeys(self._seen, 0.0)
        return {"accuracy": right / pairs, "margin": margin / pairs} if pairs else {}

    def _replies(self, model: GPT, batch: PairBatch) -> Tensor:
        """Log-probability of each reply, (2 * pairs,), chosen and rejected in turn."""
        logs = token_logs(model, batch)
        owner = batch.owner[batch.targets != IGNORED]
        sums = logs.new_zeros(2 * batch.pairs).index_add(0, owner, logs)
        if self.config.pref_length_normalised:
            sums = sums / torch.bincount(owner, minlength=2 * batch.pairs)
        return sums

    def _note(self, margin: Tensor) -> None:
        self._seen["pairs"] += len(margin)
        self._seen["right"] += float((margin > 0).sum())
        self._seen["margin"] += float(margin.sum())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `dpo`."""
    command.add_arguments(parser, CLASSES, HELP)


def run(args: argparse.Namespace, home: Path) -> int:
    """Train; 0 done, 130 stopped and saved.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    made = Command("dpo", CLASSES, adapting.settler(CLASSES), _train)
    return command.run(made, args, command.settings(args), home)


def _train(this: Run, values: Mapping[str, Any], home: Path, world: World) -> int:
    def task(start: Start) -> Task:
        sets = pairs.prepare(build(DataConfig, values), start.template, start.tokenizer)
        loss = DPO(build(DPOConfig, values), build(TrainConfig, values).label_smoothing)
        return Task(
            model=start.model,
            loss=loss,
            train=sets.train,
            validation=sets.validation,
            report=sets.report,
            figures=loss.figures,
        )

    return adapting.train(this, values, home, world, task)
