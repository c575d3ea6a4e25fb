"""`python -m model pretrain`: a model from nothing, or an installed one trained on, with one's own text."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model import checkpoint, install, template_export
from model.axes import options as axis_options
from model.axes.options import ModelOptions
from model.chat import END, START, ChatTemplate
from model.checkpoint import Checkpoint
from model.config import GPTConfig, TrainConfig
from model.data.shards.build import build as build_shards
from model.data.shards.build import end_of_text
from model.data.shards.config import CorpusConfig
from model.data.shards.stream import open_streams
from model.data.shards.windows import Windows
from model.errors import TrainingError
from model.folder import sha256_file, stem
from model.gpt import GPT
from model.presets import preset
from model.tokenizer import Tokenizer
from model.tokenizing import shelf
from model.train import command, sft, task
from model.train.command import Command
from model.train.distributed import World
from model.train.losses import next_token
from model.train.options import build
from model.train.runs import Run
from model.train.subject import Subject
from model.train.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """What is trained, and what its result is called."""

    name: str = ""  #: of the run and of the model that it makes; default: the corpus's name and the time
    preset: str = "nano-llama"  #: shape of a model from nothing
    model: str = ""  #: installed model to train on instead
    tokenizer: str = ""  #: trained one, an installed model's, or a path; with `model`: that model's


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainKnobs(TrainConfig):
    """How: what is customary for a small model from nothing."""

    learning_rate: float = 1e-3
    num_train_epochs: float = 1.0
    weight_decay: float = 0.1
    adam_beta2: float = 0.99
    min_lr_ratio: float = 0.1


CLASSES = (PretrainConfig, PretrainKnobs, CorpusConfig, ModelOptions)
HELP = sft.HELP | axis_options.HELP | {
    "name": "name of the run and of the model that it makes",
    "preset": "shape of a model from nothing",
    "model": "train this installed model on, instead of one from nothing",
    "tokenizer": "trained by `tokenizer train` (bpe or char), an installed model's, or a path",
    "dataset": "files and folders: raw text, JSON, JSONL, parquet; gzip is understood",
    "column": "where rows hold their text",
    "separate": "what of a raw text is a text of its own: the file, each line, each block of lines",
    "val_size": "share to validate on; 0: none",
    "val_split": "whole texts or the end of every text; auto: the end, where raw texts are few",
    "stride": "tokens from one window to the next; default: a window",
    "shard_tokens": "tokens of a file of ids",
    "max_eval_tokens": "validate on the first of these",
    "per_device_train_batch_size": "windows of a micro-batch",
    "per_device_eval_batch_size": "windows of a micro-batch in validation",
    "num_train_epochs": "passes through the corpus; fractions are allowed",
    "seed": "of the fresh weights, the order of windows and dropout",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `pretrain`."""
    command.add_arguments(parser, CLASSES, HELP)


def run(args: argparse.Namespace, home: Path) -> int:
    """Train; 0 done, 130 stopped and saved.

    Raises:
        ModelError: settings, texts or weights that cannot be used, or a run that failed.
    """
    return command.run(COMMAND, args, command.settings(args), home)


def _settled(values: dict[str, Any], home: Path, world: World) -> dict[str, Any]:
    """Every setting that was given, checked, under the name that all processes agree on."""
    if not values.get("dataset"):
        raise TrainingError("--dataset is needed: files or folders of text (or dataset in the --config file)")
    values["dataset"] = tuple(str(Path(path).expanduser().resolve()) for path in values["dataset"])
    if not values.get("name"):
        values["name"] = f"{stem(values['dataset'][0], 'run')}-{time.strftime('%Y%m%d-%H%M%S')}"
    values["name"] = world.agree(values["name"])
    what, how = build(PretrainConfig, values), build(PretrainKnobs, values)
    corpus = build(CorpusConfig, values)
    if what.model and any(values.get(name) is not None for name in (*_axes(), "preset", "tokenizer")):
        raise TrainingError(
            "a model that is trained on keeps its shape and tokenizer; leave out preset, tokenizer and axes"
        )
    _start(what, build(ModelOptions, values), home, how.seed, weights=False)  # refuses before a run exists
    return task.settle(values, how, world, home / "models" / what.name, corpus.val_size, sft.NO_ADAPTER)


def _axes() -> tuple[str, ...]:
    return tuple(ModelOptions.__dataclass_fields__)


def _start(
    what: PretrainConfig, changes: ModelOptions, home: Path, seed: int, *, weights: bool = True
) -> Checkpoint:
    """What the run starts from: an installed model, or fresh weights of a preset's shape.

    Raises:
        ModelError: no such model, preset or tokenizer, or axes that do not fit together.
    """
    if what.model:
        return checkpoint.load(install.find(what.model, home))
    if not what.tokenizer:
        raise TrainingError(
            "--tokenizer is needed; train one: python -m model tokenizer train --kind bpe --name NAME FILES"
        )
    file = shelf.find(what.tokenizer, home)
    tokenizer = Tokenizer.from_file(file)
    config = axis_options.apply(
        shaped_for(preset(what.preset), tokenizer, end_of_text(tokenizer, file)), changes
    )
    metadata: dict[str, Any] = {"tokenizer_sha256": sha256_file(file)}
    if START in tokenizer.special and END in tokenizer.special:
        metadata["chat_template"] = template_export.jinja(ChatTemplate(None))
    tensors = fresh(config, seed) if weights else {}
    return Checkpoint(Path(f"nothing ({what.preset})"), config, dict(tensors), file, metadata)


def shaped_for(config: GPTConfig, tokenizer: Tokenizer, end: int) -> GPTConfig:
    """A preset's shape with a tokenizer's vocabulary; ChatML's end token ends a reply, too, where it is."""
    ends = [tokenizer.special[END]] if END in tokenizer.special else []
    return replace(config, vocab_size=tokenizer.vocab_size, bos_id=end, eos_ids=(*ends, end), pad_id=end)


def fresh(config: GPTConfig, seed: int) -> dict[str, torch.Tensor]:
    """The weights that a seed draws."""
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(seed))
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _train(this: Run, values: Mapping[str, Any], home: Path, world: World) -> int:
    what, how, corpus, changes = (build(cls, values) for cls in CLASSES)
    assert isinstance(what, PretrainConfig)
    assert isinstance(how, PretrainKnobs)
    assert isinstance(corpus, CorpusConfig)
    assert isinstance(changes, ModelOptions)
    base = _start(what, changes, home, how.seed)
    subject = Subject(base, None, {"run": this.name, "corpus": list(corpus.dataset)})

    def make(dtype: torch.dtype, say: task.Say) -> Task:
        train, validation = _windows(base, corpus, home, world, say)
        model = subject.decoder(how, dtype, world.device)
        count = sum(p.numel() for p in model.parameters()) / 1e6
        return Task(
            model=model,
            loss=partial(next_token, label_smoothing=how.label_smoothing, max_z=how.max_z_loss),
            train=train,
            validation=validation,
            report=[f"{this.name}: {count:.2f} M parameters, in {str(dtype)[6:]} on {world.device.type}"],
            further=_Further(validation, Tokenizer.from_file(base.tokenizer_file)),
            shapes=[train.batch(0, 0)],
        )

    return subject.train(this, how, world, home, make, decisive(values))


def _windows(
    base: Checkpoint, corpus: CorpusConfig, home: Path, world: World, say: Any
) -> tuple[Windows, Windows | None]:
    """Shards, made in the first process, and windows over them.

    Raises:
        DataError: texts that cannot be used.
        TokenizerError: a tokenizer of another model.
    """
    sft.own_tokenizer(base)
    if world.first:
        build_shards(corpus, base.tokenizer_file, home / "shards", say)
    world.wait()
    folder = build_shards(corpus, base.tokenizer_file, home / "shards")
    streams = open_streams(folder)
    left_out = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["left_out"]
    say(*(f"left out: {line}" for line in left_out["lines"][:5]))
    if left_out["count"] > 5:
        say(f"left out: {left_out['count'] - 5} more, in {folder / 'manifest.json'}")
    length = base.config.context_length
    made = []
    for stream, size, shuffle in zip(
        streams,
        (corpus.per_device_train_batch_size, corpus.per_device_eval_batch_size),
        (True, False),
        strict=True,
    ):
        if stream is None:
            continue
        windows = Windows(
            stream, length=length, batch_size=size, stride=corpus.stride, seed=corpus.seed, shuffle=shuffle,
            limit=None if shuffle else corpus.max_eval_tokens,
        )  # fmt: skip
        say(f"{'training' if shuffle else 'validation'}: {windows}")
        made.append(windows)
    return made[0], made[1] if len(made) > 1 else None


class _Further:
    """Adds perplexity and bits per byte to a validation's loss.

    Bits per byte do not depend on the tokenizer: all nats, end-of-text tokens included, in bits, over the
    bytes of the text that was predicted.
    """

    def __init__(self, validation: Windows | None, tokenizer: Tokenizer) -> None:
        self.bits_per_nat_token = 0.0
        if validation is not None:
            sizes = np.zeros(tokenizer.vocab_size, np.int64)
            for token, data in tokenizer.ordinary.items():
                sizes[token] = len(data)
            predicted = validation.predicted()
            self.bits_per_nat_token = len(predicted) / max(int(sizes[predicted].sum()), 1) / math.log(2)

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event, and more where it is a validation's."""
        if "eval_loss" not in event:
            return event
        loss = event["eval_loss"]
        return event | {
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": loss * self.bits_per_nat_token,
        }


def decisive(values: Mapping[str, Any]) -> str:
    """The settings that decide what is computed, as one text; texts are known by their hash."""
    kept = {key: value for key, value in values.items() if key not in ("name", "dataset", "tokenizer")}
    return json.dumps(kept, default=str, sort_keys=True)


COMMAND = Command("pretrain", CLASSES, _settled, _train)
