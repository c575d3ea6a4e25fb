"""Several processes, started by torchrun: each takes its turn of the micro-batches, gradients are summed.

A step of w processes with g micro-batches each is, micro-batch for micro-batch, the step of one process
with w * g: the same order, the same sums, the same count to divide by. Where micro-batches run out at an
epoch's end, a process repeats the last one with weight 0, so that all take part in every exchange.

Two ways to hold the model: a copy in each process (DDP), or sharded (FSDP2).
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """Which of how many processes this is, and where it computes."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[tuple[T, bool]]:
        """The items of this process, and whether each counts; every process gets equally many."""
        rounds = -(-len(items) // self.size)
        numbers = [turn * self.size + self.rank for turn in range(rounds)]
        return [(items[min(i, len(items) - 1)], i < len(items)) for i in numbers]

    def sum(self, *values: float) -> list[float]:
        """Sums over all processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]

    def agree(self, text: str) -> str:
        """What the first process says."""
        said = [text]
        if self.size > 1:
            dist.broadcast_object_list(said)
        return said[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join() -> World:
    """The world that torchrun made, or a process alone; a GPU where there is one.

    `leave` afterwards.
    """
    cuda = torch.cuda.is_available()
    if not dist.is_torchelastic_launched():
        return World(torch.device("cuda" if cuda else "cpu"))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    rank = dist.get_rank()
    device = torch.device("cuda", dist.get_node_local_rank()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    return World(device, rank, dist.get_world_size())


def leave() -> None:
    """End what `join` began."""
    if dist.is_initialized():
        dist.barrier()  # whoever leaves first closes connections that others still read
        gc.collect()  # what was spread holds groups, and a group must not outlive its threads
        dist.destroy_process_group()


def spread(
    module: nn.Module, blocks: Sequence[nn.Module], world: World, *, shard: bool, dtype: torch.dtype | None
) -> nn.Module:
    """The module as all processes together run it.

    Args:
        module: its forward pass returns what gradients are taken of.
        blocks: its parts that are gathered one at a time where it is sharded.
        world: of these processes.
        shard: FSDP2 instead of DDP.
        dtype: that FSDP2 shall compute in; None: that of the parameters.
    """
    if world.size == 1:
        return module
    if not shard:
        return DistributedDataParallel(
            module, device_ids=[world.device] if world.device.type == "cuda" else None
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)
    return module


def settle(module: nn.Module) -> None:
    """Shard again what forward passes without a backward pass left whole.

    FSDP2 keeps the outermost parameters gathered after a forward pass, for the backward pass that is to come;
    the gathered ones are other tensors than those that the optimiser knows.
    """
    if isinstance(module, FSDPModule):
        module.reshard()


def silent(module: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Within it a backward pass exchanges gradients only if it is the step's last."""
    if isinstance(module, DistributedDataParallel):
        return nullcontext() if last else module.no_sync()
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    return nullcontext()
