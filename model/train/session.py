"""One run in one process, from its lock to its last word: signals, progress, log, metrics, picture, status.

The first SIGINT, SIGTERM or SIGHUP (a terminal that closes) asks the loop to save and end; a second SIGINT
ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.errors import ModelError, TrainingError
from model.train.distributed import World
from model.train.loop import End, Outcome
from model.train.picture import draw
from model.train.runs import Run

#: Seconds between two lines of the log.
LOG_EVERY_S = 10.0
#: Steps over which the bar's loss is averaged.
BAR_STEPS = 20
#: Figures that a validation may bring beside its loss.
FURTHER = ("perplexity", "bits_per_byte")
#: What asks a run to save and end, where the system knows it.
ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stop:
    """Becomes true when a signal asks to end."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        """Whether to end."""
        return self.asked


@contextmanager
def signals(*, speak: bool = True) -> Iterator[Stop]:
    """Within it, `ASKING` set the flag, and `speak` answers whoever pressed Ctrl-C.

    A signal that is ignored, as nohup has it, stays so.
    """
    stop = Stop()

    def ask(number: int, frame: object) -> None:  # noqa: ARG001
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if speak and number == signal.SIGINT:
            os.write(
                2, b"\nsaving; Ctrl-C again ends at once, with the last checkpoint\n"
            )  # sys.stderr may be busy
        stop.asked = True

    heard = [number for number in ASKING if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, ask) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class Progress:
    """Turns the loop's figures into a bar, lines of the log, metrics and the status."""

    def __init__(self, run: Run) -> None:
        self.run, self.recent, self.last_line = run, list[float](), 0.0
        self.began: tuple[float, int] | None = None  # when this session's first step ended, and its number
        self.bar: tqdm | None = None
        self.background = _stderr_is(run.log_file)  # then what is said would stand in it twice

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event of the loop."""
        self.run.record(event)
        if "eval_loss" in event:
            better = " (best so far)" if event["best_step"] == event["step"] else ""
            further = [f"{name.replace('_', ' ')} {event[name]:.4f}" for name in FURTHER if name in event]
            figures = ", ".join([f"validation loss {event['eval_loss']:.4f}", *further])
            self.say(f"step {event['step']}: {figures}{better}")
            draw(self.run.metrics(), self.run.name, self.run.path / "loss.png")
            return
        if self.began is None:
            self.began = time.monotonic(), event["step"]
        if self.bar is None:
            self.bar = tqdm(
                total=event["steps"], initial=event["step"] - 1, unit="step", file=sys.stderr, disable=None
            )
        self.recent = [*self.recent, event["loss"]][-BAR_STEPS:]
        loss = sum(self.recent) / len(self.recent)
        self.bar.set_postfix_str(f"loss {loss:.4f}, {event['tokens_per_s']:.0f} tokens/s", refresh=False)
        self.bar.update()
        if time.monotonic() - self.last_line >= LOG_EVERY_S or event["step"] in (1, event["steps"]):
            self.last_line = time.monotonic()
            figures = f"loss {loss:.4f}, {event['tokens_per_s']:.0f} tokens/s{self._left(event)}"
            self.say(
                f"step {event['step']}/{event['steps']}, epoch {event['epoch']:.2f}: {figures}", quiet=True
            )
            self.run.set_status("running", **{key: event[key] for key in ("step", "steps", "epoch", "loss")})

    def _left(self, event: dict[str, Any]) -> str:
        """How long the rest will take at this session's pace."""
        assert self.began is not None
        at, first = self.began
        if event["step"] in (first, event["steps"]):
            return ""
        pace = (time.monotonic() - at) / (event["step"] - first)
        return f", {tqdm.format_interval(pace * (event['steps'] - event['step']))} left"

    def say(self, *lines: str, quiet: bool = False) -> None:
        """Lines for the log and, unless `quiet`, for whoever watches."""
        for line in lines:
            self.run.say(line)
            if not quiet and not self.background:
                tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """The bar ends."""
        if self.bar is not None:
            self.bar.close()


def with_figures(
    progress: Progress, figures: Callable[[], Mapping[str, float]]
) -> Callable[[dict[str, Any]], None]:
    """What takes the loop's events and adds to each what the loss has seen since it was last asked."""

    def report(event: dict[str, Any]) -> None:
        held = "eval_" if "eval_loss" in event else ""
        more = {held + name: value for name, value in figures().items()}
        if held and more:
            progress.say(", ".join(f"{name} {value:.4g}" for name, value in more.items()))
        progress(event | more)

    return report


def _stderr_is(file: Path) -> bool:
    """Whether this process's stderr goes to the file."""
    try:
        return os.path.samestat(os.fstat(sys.stderr.fileno()), file.stat())
    except (OSError, ValueError, AttributeError):
        return False


ENDINGS: dict[End, str] = {
    "finished": "finished",
    "early": "ended early: validation no longer improves",
    "stopped": "stopped",
}


def train(run: Run, world: World, go: Callable[[Progress, Stop], Outcome], finish: Callable[[], str]) -> int:
    """Train a run that this process holds; in processes other than the first, in silence.

    Args:
        run: its folder.
        world: the processes that train it together.
        go: trains, given what reports and what asks to stop.
        finish: puts the result where it belongs and says where; called in the first process, unless stopped.

    Returns:
        The exit status: 0 done, 130 stopped.

    Raises:
        ModelError: what went wrong; the run's status says so too.
    """
    progress = Progress(run)
    if world.first:
        run.set_status("running")
    try:
        with signals(speak=world.first) as stop:
            outcome = go(progress, stop)
        if not world.first:
            return 130 if outcome.end == "stopped" else 0
        at = outcome.position
        draw(run.metrics(), run.name, run.path / "loss.png")
        figures = {
            "step": at.step,
            "tokens": at.tokens,
            "seconds": round(at.seconds, 1),
            "best_loss": at.best_loss,
        }
        if outcome.end == "stopped":
            progress.say(f"stopped after step {at.step}; go on with --resume {run.name}")
            run.set_status("stopped", **figures)
            return 130
        progress.say(f"{ENDINGS[outcome.end]} after step {at.step}; {finish()}")
        run.set_status("finished", **figures)
    except BaseException as error:
        if world.first:
            message = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
            with suppress(TrainingError):  # a full disk, perhaps the very cause: what is raised says so
                run.say(f"failed: {message}")
                run.set_status("failed", message=message)
        raise
    finally:
        progress.close()
    return 0
