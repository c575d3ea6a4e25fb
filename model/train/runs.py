"""Run folders: what a training run is told, says and leaves behind.

    LOREBASE_HOME/runs/NAME/
      config.json    what it was started with: command and settings; enough to resume
      metrics.jsonl  one line a step or validation
      log            what it said
      loss.png       its curves
      status.json    how far it is, or how it ended
      checkpoints/   `model.train.state`

A process that trains holds the lock `.lock`; the operating system lets go of it whenever and however that
process ends. So a run whose status says "running" and whose lock is free was killed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from model.errors import TrainingError
from model.folder import write_file

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: How long a background run may take to get hold of its lock.
START_TIMEOUT_S = 60.0
#: A process that has not taken its lock after so long is another one of the same number.
BEGIN_TIMEOUT_S = 600.0
#: `alive` takes the lock for an instant: whoever wants to train waits that instant out.
LOCK_TIMEOUT_S = 1.0
#: Another one's `alive` is no training: how long that instant is waited out before a run counts as trained.
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Run:
    """One run's folder."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def log_file(self) -> Path:
        """Text."""
        return self.path / "log"

    @property
    def checkpoints(self) -> Path:
        """`model.train.state.Store`'s folder."""
        return self.path / "checkpoints"

    def config(self) -> dict[str, Any]:
        """What it was started with.

        Raises:
            TrainingError: no such file, or a damaged one.
        """
        file = self.path / "config.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{file} cannot be read: {error}. `runs list` shows the runs there are"
            ) from error
        if not isinstance(content, dict):
            raise TrainingError(f"{file} should hold a JSON object")
        return content

    def status(self) -> dict[str, Any]:
        """State (running, finished, stopped, failed, killed, not started) and figures; never raises."""
        try:
            content = json.loads((self.path / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}
        status = content if isinstance(content, dict) else {}
        status.setdefault("state", "starting")
        if status["state"] == "running" and not self.alive():
            status["state"] = "killed"
        elif status["state"] == "starting" and not self.alive() and not self._begins(status.get("pid")):
            status["state"] = "not started"
        return status

    def _begins(self, pid: object) -> bool:
        """Whether the process that shall train is there: it takes the lock once its libraries are loaded."""
        try:
            age_s = time.time() - (self.path / "status.json").stat().st_mtime
            if not isinstance(pid, int) or pid == os.getpid() or age_s > BEGIN_TIMEOUT_S:
                return False
            os.kill(pid, 0)
        except OSError:
            return False
        return True

    def set_status(self, state: str, **figures: Any) -> None:
        """Write the status, whole or not at all.

        Raises:
            TrainingError: the disk refused.
        """
        new = self.path / ".status.json.new"
        with _written(self.path):
            new.write_text(
                json.dumps({"state": state, "pid": os.getpid()} | figures) + "\n", encoding="utf-8"
            )
            new.replace(self.path / "status.json")

    def record(self, event: Mapping[str, Any]) -> None:
        """Append one line to the metrics.

        Raises:
            TrainingError: the disk refused.
        """
        with _written(self.path), self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def say(self, line: str) -> None:
        """Append one line to the log.

        Raises:
            TrainingError: the disk refused.
        """
        with _written(self.path), self.log_file.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines that are whole."""
        return list(_events(self.metrics_file))

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run takes again."""
        kept = [event for event in self.metrics() if event.get("step", 0) <= step]
        new = self.path / ".metrics.jsonl.new"
        with _written(self.path):
            new.write_text("".join(json.dumps(event) + "\n" for event in kept), encoding="utf-8")
            new.replace(self.metrics_file)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run's lock.

        Raises:
            TrainingError: another process trains it.
        """
        try:
            with FileLock(self.path / ".lock", timeout=LOCK_TIMEOUT_S):
                yield
        except Timeout as error:
            raise TrainingError(
                f"the run {self.name} is being trained by another process; `runs attach {self.name}` shows it"
            ) from error

    def alive(self) -> bool:
        """Whether a process trains it."""
        if not (self.path / ".lock").exists():
            return False
        try:
            with FileLock(self.path / ".lock", timeout=LOOK_S, poll_interval=LOOK_S / 4):
                return False
        except (Timeout, OSError):
            return True


def create(home: Path, name: str, config: Mapping[str, Any]) -> Run:
    """A new run's folder with its `config.json`; a run that failed before its first step gives way.

    Raises:
        TrainingError: a name that cannot be one, is taken, or a disk that refused.
    """
    if not NAME.fullmatch(name):
        raise TrainingError(
            f"{name!r} cannot be a run's name: letters, digits, . _ - and at most 100 of them"
        )
    run = Run(home / "runs" / name)
    begun = (run.path / "status.json").exists() and run.status()["state"] == "starting"
    if (run.path / "config.json").exists() and (
        run.alive() or begun or run.checkpoints.exists() or run.metrics()
    ):
        raise TrainingError(
            f"the run {name} exists. Go on with it (--resume {name}), or choose another --name"
        )
    with _written(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
        for left in (run.path / "status.json", run.log_file):
            left.unlink(missing_ok=True)
        text = json.dumps(config, indent=1, ensure_ascii=False, default=str)
        write_file(run.path / "config.json", f"{text}\n".encode())
    return run


def find(home: Path, name: str) -> Run:
    """An existing run.

    Raises:
        TrainingError: there is none of that name; lists those there are.
    """
    run = Run(home / "runs" / name)
    if not NAME.fullmatch(name) or not (run.path / "config.json").is_file():
        there = ", ".join(run.name for run in every(home)) or "none"
        raise TrainingError(f"there is no run {name!r} in {home / 'runs'}; there are: {there}")
    return run


def every(home: Path) -> list[Run]:
    """All runs, the latest last."""
    found = [file.parent for file in (home / "runs").glob("*/config.json")]
    return [Run(path) for path in sorted(found, key=lambda path: (path / "config.json").stat().st_mtime)]


def launch(run: Run, home: Path) -> subprocess.Popen[bytes]:
    """Train a created run in a process and session of its own, which outlive this one and its terminal.

    Raises:
        TrainingError: another process trains it.
    """
    with run.held():
        run.set_status("starting")
    command = [
        sys.executable,
        "-m",
        "model",
        *run.config()["command"].split(),  # "classify train" is two words
        "--home",
        str(home),
        "--resume",
        run.name,
    ]
    with run.log_file.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    if run.status()["state"] in ("starting", "not started"):  # it has not said anything itself
        run.set_status("starting", pid=process.pid)
    return process


def start(run: Run, home: Path) -> int:
    """Launch a run and wait until it trains; returns its pid.

    Raises:
        TrainingError: another process trains it, or it ended before it began; with the end of its log.
    """
    process = launch(run, home)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and run.status()["state"] not in ("running", "finished", "stopped"):
        if process.poll():
            tail = "\n".join(run.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise TrainingError(f"the run {run.name} did not start:\n{tail}")
        time.sleep(0.1)
    return process.pid


def stop(run: Run) -> bool:
    """Ask a run to save and end; False where nobody trains it."""
    if not run.alive() or not isinstance(pid := run.status().get("pid"), int):
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:  # it has ended just now
        return False
    return True


def _events(file: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return
    for line in lines[:-1]:  # what has no end yet is being written
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error}. Check free space and permissions") from error
