"""What the commands share that train an adapter, or the weights, of a chat model with a loss of their own.

A command says how its settings become a `Task` (loss and micro-batches); the rest, from checks to the
installed result, is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from model import checkpoint, install
from model.chat import ChatTemplate
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.errors import TokenizerError, TrainingError, UnsupportedModel
from model.gpt import GPT
from model.tokenizer import Tokenizer
from model.train import precision, session, sft
from model.train.distributed import World
from model.train.loop import Batches, Outcome, fit
from model.train.losses import Loss
from model.train.options import build
from model.train.runs import Run
from model.train.state import Store
from model.train.subject import Subject

HELP = sft.HELP


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


@dataclass(frozen=True)
class Task:
    """What a run trains with."""

    loss: Loss
    train: Batches
    validation: Batches | None
    report: Sequence[str]  #: lines for the log
    fingerprint: str  #: of the data: a resumed run must find the same
    #: More figures on what the loss saw since it was last asked.
    figures: Callable[[], Mapping[str, float]] = field(default=dict)


def settler(
    classes: Sequence[type], *, full: bool = False
) -> Callable[[dict[str, Any], Path, World], dict[str, Any]]:
    """A `Command.settle` for settings of these classes; `full`: whether weights may be trained, too."""

    def settle(values: dict[str, Any], home: Path, world: World) -> dict[str, Any]:
        values = sft.named(values, home)
        values["name"] = world.agree(values["name"])
        for cls in classes:
            build(cls, values)
        how = build(TrainConfig, values)
        for idle in (f for f in ("torch_compile", "max_z_loss") if getattr(how, f)):
            raise TrainingError(
                f"{idle} belongs to `pretrain` and `sft`, whose loss is the next token; leave it out here"
            )
        if how.freeze and not full:
            raise TrainingError("an adapter is trained here and all blocks are frozen; leave out freeze")
        shelf = "models" if _whole(values) else "adapters"
        if (home / shelf / values["name"]).exists():
            raise TrainingError(
                f"{home / shelf / values['name']} exists; choose another --name, or remove it"
            )
        if how.early_stopping_patience and not (values.get("val_size") or values.get("eval_dataset")):
            raise TrainingError(
                "early_stopping_patience needs something to validate on: val_size or eval_dataset"
            )
        chosen = precision.choose(how.compute_type, world.device)
        values["compute_type"] = world.agree("bf16" if chosen == torch.bfloat16 else "fp32")
        return values

    return settle


def train(
    this: Run, values: Mapping[str, Any], home: Path, world: World, task: Callable[[Start], Task]
) -> int:
    """Train what `task` makes of the start; the exit status.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    how, low = build(TrainConfig, values), build(LoRAConfig, values)
    base = checkpoint.load(install.find(values["model"], home))
    about = {"run": this.name, "base": values["model"], "dataset": list(values["dataset"])}
    command = this.config().get("command")
    subject = Subject(base, None if _whole(values) else low, about | {"command": command})
    store = Store(this.checkpoints, subject.export)

    def go(progress: session.Progress, stop: session.Stop) -> Outcome:
        template, tokenizer = speech(base)
        dtype = precision.choose(how.compute_type, world.device)
        model = subject.decoder(how, dtype, world.device)
        made = task(Start(base, template, tokenizer, model, dtype, world))
        store.fingerprint.update(data=made.fingerprint, base=subject.base_hash, settings=sft.decisive(values))
        store.fingerprint["number of processes"] = world.size
        if world.first:
            progress.say(*made.report)
            this.forget_after(store.step())
            if store.step():
                progress.say(f"going on after step {store.step()}")
        world.wait()

        return fit(
            model,
            made.loss,
            made.train,
            how,
            validation=made.validation,
            dtype=dtype,
            world=world,
            store=store,
            report=session.with_figures(progress, made.figures),
            stop=stop,
        )

    def finish() -> str:
        result = store.weights()
        assert result is not None, "a run that ended has saved"
        return subject.install(result, home, this.name)

    return session.train(this, world, go, finish)


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
    tokenizer = Tokenizer.from_file(base.tokenizer_file)
    if tokenizer.vocab_size > base.config.vocab_size:
        raise TokenizerError(
            f"{base.tokenizer_file} has {tokenizer.vocab_size} tokens, the model {base.config.vocab_size}: "
            "it is another model's tokenizer. Pull the model again"
        )
    return ChatTemplate.recognise(jinja, source=str(base.path)), tokenizer


def _whole(values: Mapping[str, Any]) -> bool:
    """Whether all weights are trained instead of an adapter."""
    return bool(values.get("full") or values.get("freeze"))
