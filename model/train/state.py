"""What a run leaves behind: a state to go on from, exactly, and weights to use.

    checkpoints/last/   state.json         where the run stands
                        state.safetensors  trained parameters and the optimiser's moments, float32
                        adapter/ or model/ the same parameters in a form that others read
    checkpoints/best/   adapter/ or model/ those of the best validation so far

Each folder appears whole or not at all (`model.folder`). Random numbers need no saving: every step seeds
the generators from the run's seed, the step and the rank.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model import folder
from model.errors import TrainingError
from model.train.optimise import moments

LAST, BEST = "last", "best"
STATE_FILE, TENSORS_FILE = "state.json", "state.safetensors"
VERSION = 1

#: Writes trained parameters, by name, in a usable form below a folder.
Export = Callable[[Path, Mapping[str, Tensor]], None]


@dataclass(slots=True)
class Position:
    """Where a run stands: between two steps."""

    step: int = 0  #: steps done
    epoch: int = 0
    micro_batch: int = 0  #: micro-batches of the epoch consumed, by all processes together
    tokens: int = 0  #: real tokens read
    seconds: float = 0.0  #: of training, over all its sessions
    best_loss: float | None = None
    best_step: int = 0
    stale: int = 0  #: validations since the best


class Store:
    """The checkpoints of one run."""

    def __init__(self, path: Path, export: Export, fingerprint: Mapping[str, Any] | None = None) -> None:
        """Below `path`; `fingerprint` is what a resumed run must agree in (data, base, config)."""
        self.path, self.export, self.fingerprint = path, export, dict(fingerprint or {})

    def save_last(
        self, position: Position, parameters: Mapping[str, Tensor], moments: Mapping[str, Tensor]
    ) -> None:
        """Replace the state to go on from.

        Raises:
            CheckpointError: the disk refused; the former state is still there.
        """
        described = {"version": VERSION, "position": asdict(position), "fingerprint": self.fingerprint}
        with folder.replaced(self.path / LAST, {"kind": "training state", "step": position.step}) as new:
            self.export(new, parameters)
            (new / STATE_FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
            tensors = {f"parameter/{name}": tensor for name, tensor in parameters.items()} | dict(moments)
            write_tensors(new / TENSORS_FILE, tensors)

    def save_best(self, position: Position, parameters: Mapping[str, Tensor]) -> None:
        """Replace the weights of the best validation.

        Raises:
            CheckpointError: the disk refused; the former weights are still there.
        """
        with folder.replaced(self.path / BEST, {"kind": "weights", "step": position.step}) as new:
            self.export(new, parameters)

    def step(self) -> int:
        """How many steps the saved state has behind it; 0 where nothing was saved yet."""
        folder.recover(self.path / LAST)
        manifest = folder.read_manifest(self.path / LAST)
        return int(manifest["step"]) if manifest else 0

    def load(self) -> tuple[Position, dict[str, Tensor]] | None:
        """The saved position and tensors, or None where nothing was saved yet.

        Raises:
            TrainingError: a damaged state, or one of a run on other data, another base or with other
                settings.
        """
        last = self.path / LAST
        folder.recover(last)
        if not last.is_dir():
            return None
        if damage := folder.damage(last):
            raise TrainingError(f"{last} is damaged ({damage[0]}): remove it to begin again")
        try:
            described = json.loads((last / STATE_FILE).read_text(encoding="utf-8"))
            position, saved = Position(**described["position"]), described["fingerprint"]
            with safe_open(last / TENSORS_FILE, framework="pt") as reader:
                tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise TrainingError(f"{last} cannot be read: {error}. Remove it to begin again") from error
        for key, value in self.fingerprint.items():
            if saved.get(key, value) != value:
                raise TrainingError(
                    f"{last} was saved with another {key}: going on would train something else. "
                    "Begin a new run, or restore what the run was started with"
                )
        return position, tensors

    def weights(self) -> Path | None:
        """Where the run's result is: the best weights, or the last ones where nothing was validated."""
        return next((self.path / kind for kind in (BEST, LAST) if (self.path / kind).is_dir()), None)


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file; a full disk is an OSError, as from any other write."""
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    file.chmod(0o644)


# ----------------------------------------------------------------------------------------------------
# between a model with its optimiser and plain tensors; collective where parameters are sharded


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the trained parameters, whole, float32, on the CPU."""
    return {name: _whole(p) for name, p in model.named_parameters() if p.requires_grad}


def moments_of(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of the optimiser's moments, by kind and parameter name."""
    found = {}
    for name, parameter in model.named_parameters():
        for kind in moments(optimiser):
            if parameter in optimiser.state:
                found[f"{kind}/{name}"] = _whole(optimiser.state[parameter][kind])
    return found


@torch.no_grad()
def restore(
    model: nn.Module, optimiser: torch.optim.Optimizer, steps: int, tensors: Mapping[str, Tensor]
) -> None:
    """Put saved parameters and moments back.

    Raises:
        TrainingError: a trained parameter that the state lacks, or has in another shape.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        kinds = ("parameter", *moments(optimiser))
        saved = {kind: tensors.get(f"{kind}/{name}") for kind in kinds}
        if any(tensor is None or tensor.shape != parameter.shape for tensor in saved.values()):
            raise TrainingError(f"the saved state does not fit: {name} is missing or has another shape")
        placed = {kind: _placed(tensor, parameter) for kind, tensor in saved.items() if tensor is not None}
        parameter.copy_(placed.pop("parameter"))
        former = {kind: tensor.to(parameter.dtype) for kind, tensor in placed.items()}
        optimiser.state[parameter] = {"step": torch.tensor(float(steps))} | former


def _whole(tensor: Tensor) -> Tensor:
    gathered = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    copied: Tensor = gathered.detach().to("cpu", torch.float32, copy=True)
    return copied


def _placed(tensor: Tensor, like: Tensor) -> Tensor:
    """On the device of `like`, sharded as it is."""
    if hasattr(like, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)  # type: ignore[attr-defined]
    return tensor.to(like.device, copy=True)
