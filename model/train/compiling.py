"""`torch.compile` for the blocks of a decoder, by flag: tried on real micro-batches, timed, and said.

Where no compiler is there, or it fails, the blocks stay as they are and the run goes on: the flag asks for
speed, not for a way to fail. Names of parameters do not change, so neither do checkpoints.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from model.gpt import GPT
from model.train import precision
from model.train.loop import Micro
from model.train.losses import Loss

if TYPE_CHECKING:
    from model.data.batches import Batch, Loader

#: Passes, forward and back, that are timed each way.
ROUNDS = 5
#: Micro-batches among which those of several lengths are looked for.
LOOKED_AT = 16


def compile_blocks(
    model: GPT, loss: Loss, batches: Sequence[Batch], dtype: torch.dtype, say: Callable[[str], None]
) -> bool:
    """Compile the blocks in place; whether that could be done.

    Args:
        model: as the loop gets it.
        loss: that it is trained with.
        batches: micro-batches of the run, on the model's device; of several lengths, where lengths differ:
            a compiler that met one only would be timed at its best and compile again in the run.
        dtype: to compute in.
        say: gets a line: how many times as fast a pass is, or why nothing was compiled.
    """

    def seconds() -> float:
        taken = []
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            for batch in batches:
                summed, _ = both(batch) if dtype == torch.float32 else precision.run_in(both, dtype, batch)  # type: ignore[misc]
                summed.backward()
                if batch.ids.is_cuda:
                    torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
        model.zero_grad()
        return statistics.median(taken[1:]) / len(batches)  # the first round compiles every shape

    both = Micro(model, loss).train()
    before = torch.random.get_rng_state()
    plain = seconds()
    try:
        for block in model.blocks:
            block.compile()
        compiled = seconds()
    except Exception as error:  # whatever a compiler that is missing, old or broken raises
        for block in model.blocks:
            block._compiled_call_impl = None  # nn.Module.compile has no way back
        model.zero_grad()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        say(f"torch_compile: not compiled, the run goes on without ({reason})")
        return False
    finally:
        torch.random.set_rng_state(before)
    say(
        f"torch_compile: a pass takes {compiled * 1e3:.0f} ms instead of {plain * 1e3:.0f} ms, "
        f"{plain / compiled:.2f} times as fast"
    )
    return True


def some_lengths(batches: Loader) -> list[Batch]:
    """The longest, the shortest and a middle one among the first epoch's first micro-batches."""
    found = sorted((batches.batch(0, at) for at in range(min(batches.steps(), LOOKED_AT))), key=_length)
    return list({_length(batch): batch for batch in (found[-1], found[0], found[len(found) // 2])}.values())


def _length(batch: Batch) -> int:
    return batch.ids.shape[1]
