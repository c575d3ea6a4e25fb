"""The one training loop; it knows neither what is trained nor on what.

Invariants:

* A step's gradient is the sum over its micro-batches, in all processes, divided by the number of terms in
  all of them:
  how a step is cut into micro-batches and processes changes nothing but rounding.
* Between two steps a run is its trained parameters, the optimiser's moments and a `Position`; whoever has
  them goes on exactly as if nothing had happened. What is random within a step (dropout) is drawn from
  (seed, step, rank).
* A loss or gradient that is no number ends the run before it touches a parameter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.config import TrainConfig
from model.errors import NonFiniteLoss
from model.gpt import GPT
from model.memory import give_back
from model.train import distributed, precision, state
from model.train.distributed import World
from model.train.losses import Loss
from model.train.noise import noisy
from model.train.optimise import clip, optimiser
from model.train.schedule import factor
from model.train.state import Position, Store

if TYPE_CHECKING:
    from model.data.batches import Batch

End = Literal["finished", "stopped", "early"]
#: Steps after which memory that is free goes back to the system.
GIVE_BACK_EVERY = 10
#: Where `save_steps` says nothing, a run is saved this often between the ends of its epochs: a machine that
#: dies takes no more with it.
SAVE_EVERY_S = 600.0


class Batches(Protocol):
    """Micro-batches of a set, in an order that its own seed and the epoch alone decide.

    The loop asks for the same epoch again when it resumes: `batches(e, s)` must yield exactly what
    `batches(e)` yields from its s-th micro-batch on, in another process too. It never asks for more than
    `steps(e)`. Several processes each iterate the same order and take turns, so an implementation knows
    nothing of ranks; a micro-batch should therefore be built when it is reached (in `__next__`), not
    before.
    """

    def steps(self, epoch: int) -> int:
        """How many micro-batches epoch 0, 1, ... has; at least 1."""

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The epoch's micro-batches, from the `start_step`-th on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and where."""

    end: End
    position: Position


class Micro(nn.Module):
    """Model and loss as one module, so that processes can be put around both."""

    def __init__(self, model: GPT, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> tuple[Tensor, int]:
        """Sum and count of the micro-batch's loss."""
        return self.loss(self.model, batch)


def fit(
    model: GPT,
    loss: Loss,
    train: Batches,
    config: TrainConfig,
    *,
    validation: Batches | None = None,
    dtype: torch.dtype = torch.float32,
    world: World | None = None,
    store: Store | None = None,
    report: Callable[[dict[str, Any]], None] = lambda event: None,  # noqa: ARG005
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train the parameters of `model` that require a gradient.

    Args:
        model: trained parameters in float32, frozen ones in `dtype`, on the world's device.
        loss: of a micro-batch, as sum and count.
        train: micro-batches to learn from.
        config: how.
        validation: micro-batches to judge by.
        dtype: to compute in.
        world: the processes that take part; one by default.
        store: where checkpoints go; a state found there is resumed.
        report: gets each step's and each validation's figures, in the first process.
        stop: asked between micro-batches; once true, the state after the last whole step is saved and the
            run ends.

    Raises:
        NonFiniteLoss: a loss or gradient that is no number; the last checkpoint stays.
        TrainingError: nothing to train, or a state that cannot be resumed.
        CheckpointError: a checkpoint could not be written.
    """
    world = world or World(torch.device("cpu"))
    run = _Run(model, loss, train, config, validation, dtype, world, store, report, stop)
    return run.go()


class _Run:
    """One call of `fit`."""

    def __init__(  # noqa: PLR0917
        self,
        model: GPT,
        loss: Loss,
        train: Batches,
        config: TrainConfig,
        validation: Batches | None,
        dtype: torch.dtype,
        world: World,
        store: Store | None,
        report: Callable[[dict[str, Any]], None],
        stop: Callable[[], bool],
    ) -> None:
        self.train, self.config, self.validation, self.dtype = train, config, validation, dtype
        self.world, self.store, self.report, self.stop = world, store, report, stop
        self.model = model
        if config.gradient_checkpointing:
            recompute(model)
        self.whole = Micro(model, noisy(loss, config.neftune_noise_alpha))
        shard = config.fsdp and world.size > 1
        self.cast = not shard and dtype != torch.float32  # FSDP2 rounds what it gathers by itself
        self.module = distributed.spread(
            _Rounded(self.whole, dtype) if self.cast else self.whole,
            list(model.blocks),
            world,
            shard=shard,
            dtype=dtype,
        )
        self.optimiser = optimiser(self.whole, config)
        self.trained = [parameter for parameter in self.whole.parameters() if parameter.requires_grad]
        self.per_step = (
            config.gradient_accumulation_steps * world.size
        )  #: micro-batches, all processes together
        self.steps = planned_steps(train, config, self.per_step)
        self.position = Position()
        self.saved_step, self.saved_at = -1, time.monotonic()

    def go(self) -> Outcome:
        """Resume, train, save."""
        if self.store is not None and (found := self.store.load()) is not None:
            self.position, tensors = found
            self.saved_step = self.position.step
            state.restore(self.model, self.optimiser, self.position.step, tensors)
        end = self._run()
        self._save_last()
        return Outcome(end, self.position)

    def _run(self) -> End:
        here, patience = self.position, self.config.early_stopping_patience
        while here.step < self.steps:
            if patience and here.stale >= patience:
                return "early"
            source = self.train.batches(here.epoch, here.micro_batch)
            for _ in range(here.micro_batch, self.train.steps(here.epoch), self.per_step):
                micro_batches = list(islice(source, self.per_step))
                stopped, save = self._asked()
                if stopped or not self._step(micro_batches):
                    return "stopped"
                ended = here.micro_batch >= self.train.steps(here.epoch)
                if ended:
                    here.epoch, here.micro_batch = here.epoch + 1, 0
                self._look(ended, save)
                if here.step >= self.steps or (patience and here.stale >= patience):
                    break
        return "finished" if here.step >= self.steps else "early"

    def _step(self, micro_batches: Sequence[Batch]) -> bool:
        """One update; False if it was interrupted before it."""
        here, config = self.position, self.config
        start = time.perf_counter()
        torch.manual_seed(((config.seed * 1_000_003 + here.step) * 1_009 + self.world.rank) % 2**63)
        self.module.train()
        total, count, tokens = 0.0, 0.0, 0.0
        turns = self.world.share(micro_batches)
        for turn, (batch, counts) in enumerate(turns):
            if turn and self.world.size == 1 and self.stop():
                self.optimiser.zero_grad()
                return False
            with distributed.silent(self.module, turn == len(turns) - 1):
                summed, terms = self.module(batch.to(self.world.device))
                (summed if counts else summed * 0).backward()
            if counts:
                total, count, tokens = total + float(summed.detach()), count + terms, tokens + batch.tokens
        total, count, tokens = self.world.sum(total, count, tokens)
        for parameter in self.trained:
            if parameter.grad is not None:  # DDP and FSDP2 have divided by the number of processes
                parameter.grad.mul_(self.world.size / max(count, 1))
        norm = clip(self.trained, config.max_grad_norm)
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise self._not_finite(total / max(count, 1), norm)
        rate = config.learning_rate * factor(
            config.lr_scheduler_type,
            here.step,
            self.steps,
            config.warmup_ratio,
            min_lr_ratio=config.min_lr_ratio,
            decay_ratio=config.decay_ratio,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["lr_ratio"]
        self.optimiser.step()
        self.optimiser.zero_grad()
        seconds = time.perf_counter() - start
        here.step, here.micro_batch = here.step + 1, here.micro_batch + len(micro_batches)
        if here.step % GIVE_BACK_EVERY == 0:
            give_back()
        here.tokens, here.seconds = here.tokens + int(tokens), here.seconds + seconds
        self._report(
            loss=total / max(count, 1),
            learning_rate=rate,
            grad_norm=norm,
            supervised=int(count),
            tokens=here.tokens,
            tokens_per_s=tokens / seconds,
        )
        return True

    def _look(self, epoch_ended: bool, save: bool) -> None:
        """Validate and save where either is due, or `save` in any case."""
        here, config = self.position, self.config
        over = here.step >= self.steps

        def due(every: int) -> bool:
            return over or (here.step % every == 0 if every else epoch_ended)

        if self.validation is not None and due(config.eval_steps):
            loss = self._validate()
            if not math.isfinite(loss):  # as the best so far, no later one would ever be below it
                raise self._not_finite(loss, math.nan, f"step {here.step}, in validation")
            if here.best_loss is None or loss < here.best_loss:
                here.best_loss, here.best_step, here.stale = loss, here.step, 0
                if self.store is not None:
                    parameters = state.parameters_of(self.model)
                    if self.world.first:
                        self.store.save_best(here, parameters)
            else:
                here.stale += 1
            self._report(eval_loss=loss, best_step=here.best_step)
        if save or due(config.save_steps):
            self._save_last()

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean loss over the validation set."""
        assert self.validation is not None
        self.module.eval()
        total, count = 0.0, 0.0
        source = self.validation.batches(0)
        while some := list(islice(source, self.world.size)):
            for batch, counts in self.world.share(some):
                summed, terms = self.module(batch.to(self.world.device))
                if counts:
                    total, count = total + float(summed), count + terms
        distributed.settle(self.module)
        total, count = self.world.sum(total, count)
        return total / max(count, 1)

    def _save_last(self) -> None:
        if self.store is None or self.position.step in (0, self.saved_step):  # at 0 there are no moments yet
            return
        parameters = state.parameters_of(self.model)
        moments = state.moments_of(self.model, self.optimiser)
        if self.world.first:
            self.store.save_last(self.position, parameters, moments)
        self.saved_step, self.saved_at = self.position.step, time.monotonic()
        self.world.wait()

    def _asked(self) -> tuple[bool, bool]:
        """Whether any process was told to stop, and whether the first finds that it is time to save."""
        late = (
            self.world.first
            and not self.config.save_steps
            and time.monotonic() - self.saved_at > SAVE_EVERY_S
        )
        stopped, save = self.world.sum(float(self.stop()), float(late))
        return stopped > 0, save > 0

    def _report(self, **figures: float) -> None:
        if self.world.first:
            here = self.position
            share = here.micro_batch / self.train.steps(here.epoch)
            self.report(
                {"step": here.step, "steps": self.steps, "epoch": round(here.epoch + share, 4), **figures}
            )

    def _not_finite(self, loss: float, norm: float, where: str = "") -> NonFiniteLoss:
        here = self.position
        what = f"gradient norm is {norm}" if math.isfinite(loss) else f"loss is {loss}"
        first, last = here.micro_batch, here.micro_batch + self.per_step - 1
        rows = f" (epoch {here.epoch}, micro-batches {first} to {last})"
        saved = (
            f"checkpoint of step {self.saved_step} is kept" if self.saved_step > 0 else "run saved nothing"
        )
        return NonFiniteLoss(
            f"{where or f'step {here.step + 1}'}: the {what}{'' if where else rows}; "
            f"the {saved}. Try a lower learning_rate, or compute_type fp32"
        )


class _Rounded(nn.Module):
    """A module that runs with its float32 parameters rounded."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner, dtype

    def forward(self, batch: Batch) -> object:
        """As the inner one."""
        return precision.run_in(self.inner, self.dtype, batch)


def planned_steps(train: Batches, config: TrainConfig, per_step: int) -> int:
    """How many steps a run takes; each epoch's last may be smaller than `per_step` micro-batches."""
    if config.max_steps > 0:
        return config.max_steps
    whole = int(config.num_train_epochs)
    steps = sum(-(-train.steps(epoch) // per_step) for epoch in range(whole))
    rest = (config.num_train_epochs - whole) * -(-train.steps(whole) // per_step)
    return max(steps + round(rest), 1)


def recompute(model: GPT) -> None:
    """Keep one activation a block; what lies within is computed again on the way back."""
    for block in model.blocks:
        plain = block.forward

        def forward(*inputs: Any, block: nn.Module = block, plain: Callable[..., Any] = plain) -> Any:
            if not torch.is_grad_enabled():
                return plain(*inputs)
            held = precision.swapped(block)
            return checkpoint(
                plain,
                *inputs,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), precision.held(block, held)),
            )

        block.forward = forward
