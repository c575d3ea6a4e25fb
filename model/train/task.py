"""What the training commands share between settings and result: last checks, and the run itself.

A command says which settings it takes and makes of them a `Task`: a model, a loss, micro-batches. All else is
the same for every one of them, and stands here once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from model.config import LoRAConfig, TrainConfig
from model.data.sets import DataConfig
from model.errors import TrainingError
from model.gpt import GPT
from model.train import precision, session
from model.train.compiling import compile_blocks
from model.train.distributed import World
from model.train.loop import Batches, Outcome, fit
from model.train.losses import Loss
from model.train.runs import Run
from model.train.state import Store

if TYPE_CHECKING:
    from model.data.batches import Batch

#: Settings that change nothing in a command, and why: what is ignored looks like what works.
Idle = Mapping[str, str]
#: What each setting that can be idle is where nobody says anything.
DEFAULTS = {one.name: one.default for cls in (TrainConfig, LoRAConfig, DataConfig) for one in fields(cls)}
Event = dict[str, Any]
Say = Callable[..., None]


class Data(Batches, Protocol):
    """Micro-batches that can be told from others."""

    def fingerprint(self) -> str:
        """Hash of what decides them: a resumed run must find the same."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a run trains, and with what."""

    model: GPT  #: as the loop takes it
    loss: Loss
    train: Data
    validation: Batches | None = None
    report: Sequence[str] = ()  #: lines for the log
    #: More figures on what the loss saw since it was last asked.
    figures: Callable[[], Mapping[str, float]] = field(default=dict)
    further: Callable[[Event], Event] = lambda event: event  #: an event of the loop with what follows from it
    shapes: Sequence[Batch] = ()  #: micro-batches that compiling is tried on


def settle(  # noqa: PLR0917
    values: dict[str, Any], how: TrainConfig, world: World, taken: Path, held: object, idle: Idle
) -> dict[str, Any]:
    """Last checks before a run exists; the settings with the numbers it computes in.

    They are written down since a probe may decide otherwise when the run is resumed.

    Args:
        values: settings by name, each checked.
        how: the loop's.
        world: of the processes.
        taken: where the result will stand.
        held: true where something validates.
        idle: settings that would change nothing here, and why.

    Raises:
        TrainingError: an idle setting, a name that is taken, patience with nothing to validate on.
    """
    for name, why in idle.items():
        if values.get(name, DEFAULTS[name]) != DEFAULTS[name]:
            raise TrainingError(f"{name} {why}; leave it out")
    if taken.exists():
        raise TrainingError(f"{taken} exists; choose another --name, or remove it")
    if how.early_stopping_patience and not held:
        raise TrainingError(
            "early_stopping_patience needs something to validate on: val_size or eval_dataset"
        )
    chosen = precision.choose(how.compute_type, world.device)
    values["compute_type"] = world.agree("bf16" if chosen == torch.bfloat16 else "fp32")
    return values


def train(  # noqa: PLR0917
    this: Run,
    how: TrainConfig,
    world: World,
    store: Store,
    make: Callable[[torch.dtype, Say], Task],
    finish: Callable[[Path], str],
    known: Callable[[], Mapping[str, Any]],
) -> int:
    """Train a run that this process holds, or go on with it; the exit status.

    Args:
        this: the run.
        how: to train.
        world: the processes that take part.
        store: where checkpoints go.
        make: (what to compute in, where to say things) -> what is trained.
        finish: puts the weights below a checkpoint where they belong, and says where.
        known: what a resumed run must agree in beside its data, asked once the task is made.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """

    def go(progress: session.Progress, stop: session.Stop) -> Outcome:
        say = progress.say if world.first else (lambda *_: None)
        dtype = precision.choose(how.compute_type, world.device)
        made = make(dtype, say)
        store.fingerprint.update(known(), data=made.train.fingerprint())
        store.fingerprint["number of processes"] = world.size  # it decides how many steps there are
        say(*made.report)
        if world.first:
            this.forget_after(store.step())
            if store.step():
                say(f"going on after step {store.step()}")
        world.wait()
        if how.torch_compile:
            shapes = [batch.to(world.device) for batch in made.shapes]
            compile_blocks(made.model, made.loss, shapes, dtype, say)
        told = session.with_figures(progress, made.figures)
        return fit(
            made.model,
            made.loss,
            made.train,
            how,
            validation=made.validation,
            dtype=dtype,
            world=world,
            store=store,
            report=lambda event: told(made.further(event)),
            stop=stop,
        )

    def finished() -> str:
        result = store.weights()
        assert result is not None, "a run that ended has saved"
        return finish(result)

    return session.train(this, world, go, finished)
