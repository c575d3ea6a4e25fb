"""Training runs as the service starts, watches and stops them.

A run is `python -m model sft` in a process of its own: it outlives the page, the service and its restart.
What it does stands in its folder (`model.train.runs`), so that the command line sees the same runs. The
service starts one at a time: two would take each other's cores, or memory that a GPU does not have.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.errors import TrainingError
from model.train import runs
from model.train.runs import Run
from service.errors import NameTaken, RunActive, UnknownName
from service.workshop.sets import DataSets

#: Lines of a log that are shown.
LOG_LINES = 40
LIVE = ("starting", "running")


@dataclass(frozen=True, slots=True)
class Seen:
    """A run as it is now."""

    name: str
    state: str  #: starting, running, finished, stopped, failed, killed, not started
    settings: Mapping[str, Any]
    figures: Mapping[str, Any] = field(
        default_factory=dict
    )  #: the latest of step, steps, epoch, loss, eval_loss
    message: str = ""
    adapter: str | None = None  #: what it made
    created_at: float = 0.0
    log: str = ""

    @property
    def live(self) -> bool:
        """Whether it is still at it."""
        return self.state in LIVE


class Training:
    """The runs of one data folder."""

    def __init__(self, home: Path, sets: DataSets) -> None:
        self._home, self._sets = home, sets
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._recorded: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def all(self) -> list[Seen]:
        """Every run, the latest first."""
        return [self._seen(run) for run in runs.every(self._home) if runs.NAME.fullmatch(run.name)][::-1]

    def get(self, name: str) -> Seen:
        """One run, with the end of its log. Raises UnknownName."""
        run = self._find(name)
        try:
            lines = run.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        return self._seen(run, "\n".join(lines[-LOG_LINES:]))

    def metrics(self, name: str, after: int) -> tuple[list[dict[str, Any]], int]:
        """What it recorded past the first `after` lines, and how many lines there are. Raises UnknownName."""
        events = self._find(name).metrics()
        return events[after:], len(events)

    def start(self, settings: Mapping[str, Any]) -> Seen:
        """Begin to train; returns as soon as the process has begun.

        Args:
            settings: those of `python -m model sft`, by name; `dataset` names sets of the data folder.

        Raises:
            RunActive: another run is being trained.
            NameTaken: a run, an adapter or a model has the name.
            UnknownName, UnknownModel: there is none.
            TrainingError, DataError: settings out of range, and which.
        """
        from model.train import sft  # torch

        given = dict(settings)
        names = given["dataset"]
        given["dataset"] = [str(self._sets.file(name)) for name in names]
        with self._lock:
            if busy := next((seen for seen in self.all() if seen.live), None):
                raise RunActive(
                    f"the run {busy.name} is being trained: wait until it ends, or stop it "
                    f"(DELETE /runs/{busy.name})"
                )
            if (name := given.get("name")) and (taken := self._taken(name)):
                raise NameTaken(f"there is {taken} {name} already: choose another name")
            run = sft.begin(given, self._home)
            run.set_status("starting")
            self._started[run.name] = runs.launch(run, self._home)
        return self._seen(run)

    def stop(self, name: str) -> Seen:
        """Ask a run to save and end; one that has ended stays as it is. Raises UnknownName."""
        run = self._find(name)
        process = self._started.get(name)
        if not runs.stop(run) and process is not None and process.poll() is None:
            process.terminate()  # it has not come so far as to hear
            process.wait(10)
        return self._seen(run)

    def command(self, settings: Mapping[str, Any]) -> str:
        """The command that does the same."""
        words = ["python", "-m", "model", "sft"]
        for key, value in settings.items():
            if key == "dataset":
                words += ["--dataset", *(Path(name).name for name in value)]
            elif (
                key != "dataset_dir" and isinstance(value, (str, int, float)) and not isinstance(value, bool)
            ):
                words += [f"--{key}", str(value)]
            elif value is True:
                words.append(f"--{key}")
        return shlex.join(words)

    def _latest(self, run: Run) -> dict[str, Any]:
        """The latest of each figure that a run recorded; read again only where there is more."""
        try:
            state = run.metrics_file.stat()
        except OSError:
            return {}
        known = self._recorded.get(run.name)
        if known is None or known[0] != (state.st_mtime_ns, state.st_size):
            latest: dict[str, Any] = {}
            for event in run.metrics():
                latest |= event
            self._recorded[run.name] = known = ((state.st_mtime_ns, state.st_size), latest)
        return known[1]

    def _taken(self, name: str) -> str | None:
        places = {"adapters": "an adapter", "models": "a model"}
        run = Run(self._home / "runs" / name)
        if (run.path / "config.json").exists() and (run.checkpoints.exists() or run.metrics()):
            return "a run"
        return next((what for place, what in places.items() if (self._home / place / name).exists()), None)

    def _find(self, name: str) -> Run:
        try:
            return runs.find(self._home, name)
        except TrainingError as error:
            there = ", ".join(run.name for run in runs.every(self._home)[-20:]) or "none"
            raise UnknownName(f"no run {name[:80]!r}; there are: {there}") from error

    def _seen(self, run: Run, log: str = "") -> Seen:
        status = run.status()
        state = str(status["state"])
        process = self._started.get(run.name)  # asked whether it has ended, or it would stay in the table
        if process is not None and process.poll() is not None and state == "starting":
            state = "not started"
        try:
            settings = run.config().get("settings", {})
        except TrainingError:
            settings = {}
        figures = dict(status) | self._latest(run)
        kept = {
            key: figures[key]
            for key in ("step", "steps", "epoch", "loss", "eval_loss", "best_loss", "seconds")
            if isinstance(figures.get(key), (int, float))
        }
        made = state == "finished" and (self._home / "adapters" / run.name).is_dir()
        message = str(status.get("message", "")) or (_reason(run) if state == "not started" else "")
        created = (run.path / "config.json").stat().st_mtime
        shown = settings if isinstance(settings, dict) else {}
        return Seen(run.name, state, shown, kept, message, run.name if made else None, created, log)


def _reason(run: Run) -> str:
    """The last words of a run that never began."""
    try:
        lines = run.log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].removeprefix("error: ") if lines else "it ended before it began"
