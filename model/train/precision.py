"""In which numbers to compute: bf16 where that is faster, float32 otherwise.

Not every machine that knows bf16 multiplies in it: without the instructions it is emulated, up to hundreds
of times slower. So a product of a decoder's size is timed, both ways, when training starts.

What is trained, its gradients and the optimiser are float32 in either case. A frozen base is held in the
numbers that it computes in; trained matrices are rounded to them for each micro-batch, within autograd.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.stateless import _reparametrize_module  # what functional_call is made of

from model.config import ComputeType

#: Rows, inputs and outputs of the product that is timed: some ten milliseconds.
PROBE = (512, 1024, 1024)
#: bf16 must be so many times as fast: below, its rounding is not worth it.
WORTHWHILE = 1.2


def choose(wanted: ComputeType, device: torch.device) -> torch.dtype:
    """What to compute in."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    single, half = (_seconds(dtype) for dtype in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if single > WORTHWHILE * half else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    """The fastest of a few products, forward and back."""
    rows, inputs, outputs = PROBE
    x, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        nn.functional.linear(x, weight) @ weight
        times.append(time.perf_counter() - start)
    return min(times)


def freeze_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold the parameters that are not trained in `dtype`."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def swapped(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module that are not its own now: those that `run_in` has rounded for the call."""
    return {
        name: tensor for name, tensor in module.named_parameters() if not isinstance(tensor, nn.Parameter)
    }


def held(module: nn.Module, tensors: dict[str, Tensor]) -> AbstractContextManager[None]:
    """Run with these in place of the module's parameters: what is computed again is computed so."""
    return _reparametrize_module(module, tensors) if tensors else nullcontext()


def run_in(module: nn.Module, dtype: torch.dtype, *inputs: object) -> object:
    """`module(*inputs)` with its float32 parameters rounded to `dtype` for the time of the call.

    The corrections of an adapter stay as they are: it rounds them itself.
    """
    rounded: dict[str, Tensor] = {
        name: parameter.to(dtype)
        for name, parameter in module.named_parameters()
        if parameter.dtype != dtype and ".adapters." not in name
    }
    return functional_call(module, rounded, inputs) if rounded else module(*inputs)
