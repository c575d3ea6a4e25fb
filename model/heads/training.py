"""Train a head on the one loop: the last blocks with the readout, or an adapter with the readout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from model import checkpoint, install, lora
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.errors import TrainingError
from model.gpt import GPT
from model.heads import folder as heads
from model.heads.data import HeadLoader
from model.heads.described import SHELVES, Described, Kind
from model.heads.network import Classifying, Preferring, add_readout, cut
from model.identity import identity
from model.layout import read_config
from model.quantized import dense
from model.tokenizer import Tokenizer
from model.train import adapting, sft, task
from model.train.distributed import World
from model.train.fused import quicken
from model.train.options import build
from model.train.runs import Run
from model.train.state import Store
from model.train.task import Idle, Task

Tune = Literal["last_blocks", "lora"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """What is trained, and what its result is called."""

    model: str = sft.DEFAULT_MODEL
    name: str = ""  #: of the run and of the head; default: the set's name and the time
    tune: Tune = "last_blocks"
    last_blocks: int = 1  #: with tune last_blocks: so many, and the last norm; 0: the readout alone
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.last_blocks < 0:
            raise TrainingError(f"last_blocks must be 0 or more, got {self.last_blocks}")


HELP = sft.HELP | {
    "name": "name of the run and of what it makes",
    "tune": "what is trained beside the readout: the last blocks as they are, or an adapter in all of them",
    "last_blocks": "how many blocks from the end are trained; 0: the readout alone",
    "description": "kept with it",
    "cutoff_len": "tokens of a text that are read",
    "seed": "of the order of texts, the readout's start and dropout",
}


@dataclass(frozen=True)
class Sets:
    """What a head learns from, as ids."""

    described: Described  #: without base and cut, which are filled in here
    outputs: int
    train: tuple[Sequence[Sequence[int]], Sequence[int]]  #: rows and labels (`HeadLoader`)
    validation: tuple[Sequence[Sequence[int]], Sequence[int]] | None
    report: Sequence[str]


#: What only the loss of the next token knows, and what heads have another word for.
IDLE: Idle = {
    **adapting.IDLE,
    "neftune_noise_alpha": "belongs to the commands that train on conversations",
    "freeze": "is said here with last_blocks: how many blocks are trained, from the end",
}


def settle(
    classes: Sequence[type], kind: Kind, cutoff_len: int, idle: Idle = IDLE
) -> Callable[[dict[str, Any], Path, World], dict[str, Any]]:
    """A `Command.settle`: every setting checked, under a name that is free; the data's are the last class."""

    def settled(values: dict[str, Any], home: Path, world: World) -> dict[str, Any]:
        model = install.find(values.get("model", sft.DEFAULT_MODEL), home)
        values.setdefault("cutoff_len", min(cutoff_len, read_config(model)[0].context_length))
        values = sft.named(values, home)
        values["name"] = world.agree(values["name"])
        data: Any = [build(cls, values) for cls in classes][-1]
        what = build(HeadConfig, values)
        if what.tune == "lora" and what.last_blocks != 1:
            raise TrainingError("last_blocks is for tune last_blocks, and this is lora; leave it out")
        no_adapter = (*LoRAConfig.__dataclass_fields__, *sft.NO_ADAPTER) if what.tune == "last_blocks" else ()
        shelf = home / SHELVES[kind]
        examples = shelf / f"{values['name']}.json"  # labels known by examples have names, too
        taken = examples if examples.exists() else shelf / values["name"]
        held = data.val_size or values.get("eval_dataset")
        why = {**idle, **dict.fromkeys(no_adapter, "is for tune lora")}
        return task.settle(values, build(TrainConfig, values), world, taken, held, why)

    return settled


def train(
    this: Run,
    values: Mapping[str, Any],
    home: Path,
    world: World,
    *,
    read: Callable[[Checkpoint, Tokenizer], Sets],
    judged: Callable[[Path, Described], Described] = lambda path, described: described,  # noqa: ARG005
) -> int:
    """Train and install a head; the exit status.

    Args:
        this: the run, which this process holds.
        values: settings by name.
        home: the data folder.
        world: of the processes.
        read: the base to what is learned from.
        judged: looks at the installed head and adds figures; called once it is in its place.

    Raises:
        ModelError: settings, data or weights that cannot be used, or a run that failed.
    """
    what, how = build(HeadConfig, values), build(TrainConfig, values)
    knobs = build(LoRAConfig, values) if what.tune == "lora" else None
    base = checkpoint.load(install.find(what.model, home))
    blocks = base.config.n_layers
    if what.last_blocks > blocks:
        raise TrainingError(f"last_blocks {what.last_blocks}: the model has {blocks} blocks")
    first = 0 if knobs else blocks - what.last_blocks
    held: dict[str, Described] = {}

    def export(target: Path, parameters: Mapping[str, Tensor]) -> None:
        heads.export(target, held["it"], base.config, parameters, knobs)

    def make(dtype: torch.dtype, say: task.Say) -> Task:
        del say
        sets = read(base, Tokenizer.from_file(base.tokenizer_file))
        held["it"] = replace(
            sets.described,
            base=what.model,
            base_weights=identity(base.weights),
            first_block=first,
            adapter=knobs is not None,
            description=what.description,
            run=this.name,
        )
        lower, upper = network(base, first, knobs, how.seed, dtype)
        add_readout(upper, sets.outputs, how.seed)
        upper = upper.to(world.device)
        lower = None if lower is None else lower.to(world.device)
        size, check = (
            values.get("per_device_train_batch_size", 8),
            values.get("per_device_eval_batch_size", 8),
        )
        learn = HeadLoader(*sets.train, batch_size=size, seed=how.seed, lower=lower)
        hold = (
            HeadLoader(*sets.validation, batch_size=check, shuffle=False, lower=lower)
            if sets.validation
            else None
        )
        trained = sum(p.numel() for p in upper.parameters() if p.requires_grad) / 1e6
        made = Preferring if sets.described.kind == "reward" else Classifying
        loss = made(how.label_smoothing)
        return Task(
            model=upper,
            loss=cast(Any, loss),  # the loop asks of a batch `tokens` and `to` only
            train=cast(Any, learn),
            validation=cast(Any, hold),
            report=[*sets.report, f"training: {learn}", f"{trained:.2f} M parameters are trained"],
            figures=loss.figures,
        )

    def finish(result: Path) -> str:
        target = home / SHELVES[held["it"].kind] / this.name
        heads.install(result, target, held["it"])
        described = judged(target, held["it"])
        if described is not held["it"]:
            heads.install(result, target, described)
        return f"{described.kind} in {target}"

    def known() -> Mapping[str, Any]:
        return {"base": held["it"].base_weights, "settings": sft.decisive(values)}

    return task.train(this, how, world, Store(this.checkpoints, export), make, finish, known)


def network(
    base: Checkpoint, first: int, knobs: LoRAConfig | None, seed: int, dtype: torch.dtype
) -> tuple[GPT | None, GPT]:
    """The frozen part (None: nothing is cut off) in `dtype`, and the trained one in float32."""
    with torch.device("meta"):
        model = GPT(base.config)
    model.load_state_dict({n: dense(weight, dtype) for n, weight in base.weights.items()}, assign=True)
    model.requires_grad_(False)
    if knobs is not None:
        lora.inject(model, knobs, generator=torch.Generator().manual_seed(seed))
        quicken(model)
        return None, model
    quicken(model)
    lower, upper = cut(model, first)
    if first < base.config.n_layers:
        for part in (upper.blocks, upper.norm):
            part.float().requires_grad_(True)
    return lower, upper
