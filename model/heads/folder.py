"""A trained head as a folder: how it reads, and the weights in which it differs from its base.

    head.json          what it is for, its labels, its base, how texts are read, figures
    head.safetensors   readout, and the blocks and norm that were trained, by their names in the decoder
    adapter/           in peft's format, where an adapter was trained instead of blocks

Folders lie in `LOREBASE_HOME/classifiers/NAME` and `LOREBASE_HOME/rewards/NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from model import folder
from model.config import GPTConfig, LoRAConfig
from model.errors import CheckpointError
from model.formats import peft
from model.heads.described import HEAD_FILE, Described, describe, write_description
from model.lora import Adapter, collect
from model.train.state import STATE_FILE, TENSORS_FILE, write_tensors

WEIGHTS_FILE, ADAPTER = "head.safetensors", "adapter"
BLOCK = re.compile(r"blocks\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Head:
    """A head, read from its folder."""

    name: str
    described: Described
    weights: dict[str, Tensor]
    adapter: Adapter | None


def export(
    target: Path,
    described: Described,
    config: GPTConfig,
    parameters: Mapping[str, Tensor],
    knobs: LoRAConfig | None,
) -> None:
    """Write a head below `target`, an existing folder, from the trained parameters of the upper part.

    Raises:
        OSError, CheckpointError: the disk refused.
    """
    weights = {
        BLOCK.sub(lambda found: f"blocks.{int(found.group(1)) + described.first_block}.", name): tensor
        for name, tensor in parameters.items()
        if ".adapters." not in name
    }
    if knobs is not None:
        found = collect(parameters, knobs, base=described.base_weights)
        (target / ADAPTER).mkdir()
        peft.write(target / ADAPTER, found, config, base_name=described.base)
    write_tensors(target / WEIGHTS_FILE, weights)
    write_description(target, described)


def install(source: Path, target: Path, described: Described) -> None:
    """Put an exported head where it is used, described anew.

    Raises:
        CheckpointError: the disk refused.
    """
    with folder.replaced(target, {"kind": described.kind, "run": described.run}) as new:
        for file in source.rglob("*"):
            if file.is_file() and file.name not in {folder.MANIFEST, HEAD_FILE, STATE_FILE, TENSORS_FILE}:
                to = new / file.relative_to(source)
                to.parent.mkdir(exist_ok=True)
                to.write_bytes(file.read_bytes())
        write_description(new, described)


def read(path: Path, config: GPTConfig) -> Head:
    """A head with its weights, for a base of that config.

    Raises:
        CheckpointError: damaged.
        AdapterError: its adapter does not fit.
    """
    described = describe(path)
    if damage := folder.damage(path):
        raise CheckpointError(f"{path} is damaged: {damage[0]}. Train it again")
    try:
        with safe_open(path / WEIGHTS_FILE, framework="pt") as reader:
            weights = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path / WEIGHTS_FILE} cannot be read: {error}. Train it again") from error
    adapter = peft.read(path / ADAPTER, config, base=described.base_weights) if described.adapter else None
    return Head(path.name, described, weights, adapter)
