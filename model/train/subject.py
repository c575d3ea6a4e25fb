"""What is trained: a base with a fresh adapter, or the base's own weights; and the form in which it is kept.

An adapter is kept in peft's format below `adapter/`, weights as a native checkpoint below `model/`. Where
the base's matrices are quantized, trained ones become dense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import checkpoint, folder, lora
from model.checkpoint import Checkpoint
from model.config import LoRAConfig, TrainConfig
from model.errors import TrainingError
from model.formats import peft
from model.gpt import GPT
from model.identity import identity
from model.lora import Adapter
from model.merge import DENSE, PROVENANCE
from model.quantized import Weight, dense
from model.shelf import TRAINED_ON
from model.train import precision, task
from model.train.distributed import World
from model.train.fused import quicken
from model.train.runs import Run
from model.train.state import Store

ADAPTER, MODEL = "adapter", "model"


@dataclass(frozen=True)
class Subject:
    """A base, and how it is trained: `adapter` None trains its weights."""

    base: Checkpoint
    adapter: LoRAConfig | None
    about: Mapping[str, Any]  #: run, data and the like: kept with the result
    before: Path | None = None  #: folder of an adapter to go on from, whose config `adapter` is

    @cached_property
    def base_hash(self) -> str:
        """`model.identity` of the base."""
        return identity(self.base.weights)

    def decoder(self, config: TrainConfig, dtype: torch.dtype, device: torch.device) -> GPT:
        """The decoder as the loop takes it: trained parameters in float32, frozen ones in `dtype`.

        Raises:
            AdapterError: a target that is no projection, or an adapter to go on from that is damaged or was
                trained on another base.
            TrainingError: more blocks to freeze than there are.
        """
        with torch.device("meta"):
            model = GPT(self.base.config)
        held = torch.float32 if self.adapter is None else dtype
        weights = {name: dense(weight, held) for name, weight in self.base.weights.items()}
        model.load_state_dict(weights, assign=True)
        model = model.to(device)
        if self.adapter is not None and self.before is not None:
            lora.go_on(model, peft.read(self.before, self.base.config, base=self.base_hash), self.adapter)
        elif self.adapter is not None:
            lora.inject(model, self.adapter, generator=torch.Generator().manual_seed(config.seed))
        else:
            freeze(model, config.freeze)
            precision.freeze_in(model, dtype)
        if device.type == "cpu":
            quicken(model)
        return model

    def train(  # noqa: PLR0917
        self,
        this: Run,
        how: TrainConfig,
        world: World,
        home: Path,
        make: Callable[[torch.dtype, task.Say], task.Task],
        settings: str,
    ) -> int:
        """`task.train` of this subject, installed under the run's name; to resume takes the same `settings`.

        Raises:
            ModelError: settings, data or weights that cannot be used, or a run that failed.
        """

        def finish(result: Path) -> str:
            return self.install(result, home, this.name)

        def known() -> Mapping[str, Any]:
            return {"base": self.base_hash, "settings": settings}

        return task.train(this, how, world, Store(this.checkpoints, self.export), make, finish, known)

    def export(self, target: Path, parameters: Mapping[str, Tensor]) -> None:
        """Write trained parameters below `target`, an existing folder.

        Raises:
            OSError, CheckpointError: the disk refused.
        """
        if self.adapter is not None:
            found = lora.collect(parameters, self.adapter, base=self.base_hash)
            (target / ADAPTER).mkdir()
            if self.before is not None and (self.before / TRAINED_ON).is_file():  # it knows them still
                (target / ADAPTER / TRAINED_ON).write_bytes((self.before / TRAINED_ON).read_bytes())
            whole = Adapter(found.config, found.modules, found.base, dict(self.about))
            peft.write(target / ADAPTER, whole, self.base.config, base_name=self.base.path.name)
            return
        weights: dict[str, Weight] = dict(self.base.weights)
        for name, tensor in parameters.items():
            former = weights[name]
            weights[name] = tensor.to(former.dtype if isinstance(former, Tensor) else DENSE)
        kept = {key: value for key, value in self.base.metadata.items() if key not in PROVENANCE}
        trained = dict(self.about) | {"base_weights": self.base_hash}
        metadata = kept | {"source": f"trained from {self.base.path.name}", "trained": trained}
        checkpoint.save(target / MODEL, self.base.config, weights, self.base.tokenizer_file, metadata)
        (target / f".{MODEL}.lock").unlink(missing_ok=True)

    def install(self, result: Path, home: Path, name: str) -> str:
        """Copy what `export` wrote below `result` to where it is used; returns how to use it.

        Raises:
            CheckpointError: the disk refused.
        """
        kind, shelf = (ADAPTER, "adapters") if self.adapter is not None else (MODEL, "models")
        target = home / shelf / name
        origin = {"kind": "adapter" if kind == ADAPTER else "generator", "run": name}
        with folder.replaced(target, origin) as new:
            for file in (result / kind).iterdir():
                if file.name != folder.MANIFEST:
                    (new / file.name).write_bytes(file.read_bytes())
        if kind == ADAPTER:
            return f"adapter in {target}; fold it in: python -m model merge {name}"
        return f"model in {target}; try it: python -m model generate {name}"


def freeze(model: GPT, blocks: int) -> None:
    """Train all weights but, where `blocks` is above 0, those of the embedding and so many first blocks.

    Raises:
        TrainingError: the decoder has fewer blocks.
    """
    if blocks > len(model.blocks):
        raise TrainingError(f"freeze {blocks}: the model has {len(model.blocks)} blocks")
    model.requires_grad_(True)
    if blocks:
        for part in (model.embed, model.positions, *model.blocks[:blocks]):
            part.requires_grad_(False)
