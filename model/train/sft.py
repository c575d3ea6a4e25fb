"""`python -m model sft`: fine-tune on conversations, with an adapter or in full."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model import checkpoint, install
from model.chat import ChatTemplate
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.data.sets import DataConfig, prepare
from model.errors import TokenizerError, TrainingError, UnsupportedModel
from model.folder import stem
from model.formats import peft
from model.layout import read_config
from model.merge_command import adapter_folder
from model.tokenizer import Tokenizer
from model.train import command, task
from model.train.command import Command
from model.train.compiling import some_lengths
from model.train.distributed import World
from model.train.losses import next_token
from model.train.options import build
from model.train.runs import Run
from model.train.subject import ADAPTER, Subject
from model.train.task import Task

DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTConfig:
    """What is trained, and what its result is called."""

    model: str = DEFAULT_MODEL
    name: str = ""  #: of the run and of what it makes; default: the set's name and the time
    full: bool = False  #: all weights instead of an adapter
    adapter_name_or_path: str = ""  #: an adapter to go on from, by name or folder; default: a fresh one


CLASSES = (SFTConfig, TrainConfig, LoRAConfig, DataConfig)
HELP = {
    "model": "installed model to start from",
    "name": "name of the run and of the adapter or model that it makes",
    "learning_rate": "the highest",
    "num_train_epochs": "passes through the training set; fractions are allowed",
    "lr_scheduler_type": "how the rate falls after the warm-up",
    "min_lr_ratio": "share of the rate that is left at the end",
    "decay_ratio": "share of the steps over which warmup_stable_decay falls",
    "optim": "optimiser",
    "momentum": "of sgd",
    "rms_alpha": "of rmsprop: share of the past in the mean square",
    "adam_beta1": "share of the past in the mean gradient",
    "adam_beta2": "share of the past in the mean square",
    "adam_epsilon": "what the root of the mean square is raised by",
    "max_z_loss": "weight of the square of the largest logit; 0: none",
    "neftune_noise_alpha": "noise on the embedding while training; 5 is usual; 0: none",
    "loraplus_lr_ratio": "LoRA+: how many times as fast B learns as A; 16 is usual; 1: alike",
    "torch_compile": "compile the blocks, where a compiler is there; says how much faster that is",
    "weight_decay": "on matrices; norms and biases are spared",
    "label_smoothing": "share of the target that goes to all other tokens",
    "seed": "of the order of rows, the adapter's start and dropout",
    "lora_rank": "inner size of the adapter",
    "lora_alpha": "the adapter's strength: it is multiplied by alpha / rank",
    "lora_dropout": "on the adapter's input, while training",
    "eval_dataset": "validate on these sets instead of splitting",
    "max_samples": "at most so many rows of each set",
    "too_long": "what happens to a conversation longer than cutoff_len",
    "skip_malformed": "leave malformed rows out, counted, instead of refusing the set",
    "pack_len": "tokens of a row that holds several conversations (default: 1024, or the longest one)",
    "per_device_train_batch_size": "rows of a micro-batch",
    "per_device_eval_batch_size": "rows of a micro-batch in validation",
    "full": "train all weights instead of an adapter",
    "adapter_name_or_path": "go on from this adapter, whose rank, strength and projections are kept",
    "freeze": "train weights, but leave the embedding and the first N blocks as they are (implies --full)",
    "dataset": "names in dataset_info.json, paths of .json and .jsonl files, or uploads to the service",
    "dataset_dir": "where dataset_info.json is",
    "cutoff_len": "tokens of a conversation, at most the model's window",
    "max_steps": "this many steps, whatever num_train_epochs says; -1: by epochs",
    "gradient_accumulation_steps": "micro-batches a step",
    "warmup_ratio": "share of the steps over which the rate rises",
    "max_grad_norm": "clip gradients to this norm; 0: do not",
    "compute_type": "auto: bf16 where it is faster here",
    "gradient_checkpointing": "less memory, a third more time",
    "lora_target": "projections to adapt, or all",
    "use_rslora": "scale by alpha / sqrt(rank)",
    "use_dora": "train magnitudes, too",
    "val_size": "share (below 1) or number of examples to validate on",
    "early_stopping_patience": "end after so many validations without a better one; 0: never",
    "eval_steps": "validate every N steps; 0: after each epoch",
    "save_steps": "save every N steps; 0: after each epoch and every ten minutes",
    "packing": "several conversations in a row, each seeing only itself",
    "fsdp": "several processes: shard instead of copy",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `sft`."""
    command.add_arguments(parser, CLASSES, HELP)
    parser.add_argument(
        "--placeholder",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what stands for {{name}}, {{author}}",
    )


def run(args: argparse.Namespace, home: Path) -> int:
    """Train; 0 done, 130 stopped and saved.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    given = command.settings(args)
    if args.placeholder:
        given["placeholders"] = dict(_pair(text) for text in args.placeholder)
    return command.run(_command(), args, given, home)


def begin(given: Mapping[str, Any], home: Path) -> Run:
    """A new run as the command would make it, for a process alone; `runs.launch` trains it.

    Args:
        given: settings by name; `dataset` is needed.
        home: the data folder.

    Raises:
        TrainingError, DataError: a setting of another type or out of range, or a name that is taken.
        UnknownModel: the model is not installed.
    """
    return command.begin(_command(), given, home)


def _command() -> Command:
    return Command("sft", CLASSES, _settled, _train)


def _settled(values: dict[str, Any], home: Path, world: World) -> dict[str, Any]:
    """Every setting that was given, checked, under the name that all processes agree on."""
    values = named(values, home)
    values["name"] = world.agree(values["name"])
    if values.get("adapter_name_or_path"):
        values = _going_on(values, home)
    what, how, _, data = _checked(values)
    taken = home / ("models" if what.full else "adapters") / what.name
    held = data.val_size or data.eval_dataset
    return task.settle(values, how, world, taken, held, NO_ADAPTER if what.full else {})


def _going_on(values: dict[str, Any], home: Path) -> dict[str, Any]:
    """With the adapter's folder, and its own shape: what was asked for and differs is refused."""
    if values.get("full") or values.get("freeze"):
        raise TrainingError(
            "adapter_name_or_path is for adapters, and all weights are trained here; merge it first"
        )
    source = adapter_folder(values["adapter_name_or_path"], home)
    own = peft.read(source, read_config(install.find(values["model"], home))[0]).config
    for name in SHAPE:
        here = getattr(own, name)
        given = values.get(name, here)
        if ({*given} != {*here}) if name == "lora_target" else (given != here):
            raise TrainingError(f"{name} {values[name]}: the adapter in {source} has {here}; leave it out")
    return values | {name: getattr(own, name) for name in SHAPE} | {"adapter_name_or_path": str(source)}


#: What an adapter that is trained on keeps.
SHAPE = ("lora_rank", "lora_alpha", "lora_target", "use_rslora", "use_dora")
#: Where all weights are trained.
NO_ADAPTER = {"loraplus_lr_ratio": "is for adapters, and all weights are trained here"}


def named(values: dict[str, Any], home: Path) -> dict[str, Any]:
    """With a name, absolute paths, and what follows from other settings."""
    if not values.get("dataset"):
        raise TrainingError("--dataset is needed (or dataset in the file given by --config)")
    if not values.get("name"):
        first = stem(values["dataset"][0], "run")
        values["name"] = f"{first}-{time.strftime('%Y%m%d-%H%M%S')}"
    for key in ("dataset", "eval_dataset"):
        if key in values:
            values[key] = tuple(_file(name, home) or name for name in values[key])
    values["dataset_dir"] = Path(values.get("dataset_dir", "data")).resolve()
    values.setdefault("model", DEFAULT_MODEL)
    window = read_config(install.find(values["model"], home))[0].context_length
    if values.setdefault("cutoff_len", min(DataConfig(dataset=("x",)).cutoff_len, window)) > window:
        raise TrainingError(f"cutoff_len {values['cutoff_len']} exceeds the model's window of {window}")
    return values


def _file(name: str, home: Path) -> str | None:
    """Where a set is that is named by its file: anywhere, or among those uploaded to the service."""
    places = (Path(name), home / "datasets" / Path(name).name)
    return next((str(path.resolve()) for path in places if path.is_file()), None)


def _checked(values: Mapping[str, Any]) -> tuple[SFTConfig, TrainConfig, LoRAConfig, DataConfig]:
    """The four configs, each of which refuses values out of range."""
    what, how, low, data = (build(cls, values) for cls in CLASSES)
    assert isinstance(what, SFTConfig)
    assert isinstance(how, TrainConfig)
    assert isinstance(low, LoRAConfig)
    assert isinstance(data, DataConfig)
    return replace(what, full=what.full or how.freeze > 0), how, low, data


def _train(this: Run, values: Mapping[str, Any], home: Path, world: World) -> int:
    what, how, low, data = _checked(values)
    base = checkpoint.load(install.find(what.model, home))
    about = {"run": this.name, "base": what.model, "dataset": list(data.dataset)}
    before = Path(what.adapter_name_or_path) if what.adapter_name_or_path else None
    saved = this.checkpoints / "last" / ADAPTER
    if before is not None and saved.is_dir():
        before = saved  # what a resumed run began with may be gone, and is not needed
    subject = Subject(base, None if what.full else low, about, before)

    def make(dtype: torch.dtype, say: task.Say) -> Task:
        del say
        template, tokenizer = speech(base)
        sets = prepare(data, template, tokenizer)
        model = subject.decoder(how, dtype, world.device)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
        in_all = sum(p.numel() for p in model.parameters()) / 1e6
        many = f", {world.size} processes" if world.size > 1 else ""
        summary = (
            f"{what.model}: {trained:.2f} M of {in_all:.1f} M parameters are trained, "
            f"in {str(dtype).removeprefix('torch.')} on {world.device.type}{many}"
        )
        return Task(
            model=model,
            loss=partial(next_token, label_smoothing=how.label_smoothing, max_z=how.max_z_loss),
            train=sets.train,
            validation=sets.validation,
            report=[*sets.report, summary],
            shapes=some_lengths(sets.train) if how.torch_compile else (),
        )

    return subject.train(this, how, world, home, make, decisive(values))


def speech(base: Checkpoint) -> tuple[ChatTemplate, Tokenizer]:
    """A chat model's template and tokenizer.

    Raises:
        UnsupportedModel: no chat template, or one that is not known here.
        TokenizerError: a tokenizer of another model.
    """
    jinja = base.metadata.get("chat_template")
    if not jinja:
        raise UnsupportedModel(
            f"{base.path.name} has no chat template: it cannot be trained on conversations"
        )
    return ChatTemplate.recognise(jinja, source=str(base.path)), own_tokenizer(base)


def own_tokenizer(base: Checkpoint) -> Tokenizer:
    """A model's tokenizer.

    Raises:
        TokenizerError: it has tokens that the model has not.
    """
    tokenizer = Tokenizer.from_file(base.tokenizer_file)
    if tokenizer.vocab_size > base.config.vocab_size:
        raise TokenizerError(
            f"{base.tokenizer_file} has {tokenizer.vocab_size} tokens, the model {base.config.vocab_size}: "
            "it is another model's tokenizer. Pull the model again"
        )
    return tokenizer


def decisive(values: Mapping[str, Any]) -> str:
    """The settings that decide what is computed, as one text."""
    return json.dumps({k: v for k, v in values.items() if k != "name"}, default=str, sort_keys=True)


def _pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise TrainingError(f"--placeholder {text!r} should read NAME=VALUE")
    return name, value
