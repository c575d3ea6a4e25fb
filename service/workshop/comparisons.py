"""Comparisons of ways of answering, each `python -m service evaluate` in a process of its own.

    LOREBASE_HOME/evaluations/NAME/
      request.json    what was asked for, where the service started it
      log             what it said
      answers.jsonl   the replies so far
      report.json, report.html

The process inherits an open lock (flock belongs to the open file, not to a process), so that a comparison
runs exactly as long as its lock is held, whatever became of the service that started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.store.files import publish
from model.train.runs import NAME
from service.errors import InvalidRequest, NameTaken, RunActive, UnknownName
from service.workshop.sets import DataSets

FOLDER = "evaluations"
ANSWERS, REPORT, PAGE = "answers.jsonl", "report.json", "report.html"
LOG_LINES = 40
#: Who looks whether a comparison runs has its lock for an instant: one that begins waits that instant out.
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison as it is now."""

    name: str
    state: str  #: running, finished, failed
    done: int  #: replies so far
    total: int | None  #: replies in the end, where that is known
    request: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)  #: settings and how often each mode was right
    has_report: bool = False
    created_at: float = 0.0
    log: str = ""


class Comparisons:
    """The comparisons of one data folder."""

    def __init__(self, home: Path, sets: DataSets) -> None:
        self._home, self._sets = home, sets
        self._lock = threading.Lock()
        self._started: list[subprocess.Popen[bytes]] = []
        self._summaries: dict[Path, tuple[int, dict[str, Any]]] = {}

    def all(self) -> list[Comparison]:
        """Every one, the latest first."""
        folders = [p for p in (self._home / FOLDER).glob("*") if NAME.fullmatch(p.name) and p.is_dir()]
        return sorted((self._seen(path) for path in folders), key=lambda one: -one.created_at)

    def get(self, name: str) -> Comparison:
        """One, with the end of its log. Raises UnknownName."""
        folder = self._find(name)
        try:
            lines = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        return self._seen(folder, "\n".join(lines[-LOG_LINES:]))

    def report(self, name: str) -> dict[str, Any] | None:
        """Its report, if it is written. Raises UnknownName."""
        return _json(self._find(name) / REPORT)

    def page(self, name: str) -> Path:
        """The report's page. Raises UnknownName where there is none (yet)."""
        file = self._find(name) / PAGE
        if not file.is_file():
            raise UnknownName(f"the comparison {name} has no report yet")
        return file

    def start(self, name: str, questions: str, flags: Mapping[str, str]) -> Comparison:
        """Begin to ask; the same name goes on where it stopped.

        Args:
            name: of the folder.
            questions: a set of the data folder.
            flags: of `python -m service evaluate`.

        Raises:
            RunActive: a comparison is running.
            NameTaken: there is one of other settings, or the command line made it.
            UnknownName, InvalidRequest: the questions, or the name, cannot be used.
            StorageFull: the disk refused; nothing was begun.
        """
        if not NAME.fullmatch(name):
            raise InvalidRequest(f"{name[:80]!r} cannot be a name: letters, digits, '.', '_' and '-'")
        if self._sets.get(questions).kind != "questions":
            raise InvalidRequest(f"{questions} holds no questions with known answers")
        folder = self._home / FOLDER / name
        given = {"questions": questions} | dict(flags)
        with self._lock:
            if busy := next((one for one in self.all() if one.state == "running"), None):
                raise RunActive(f"the comparison {busy.name} is running: wait until it ends, or stop it")
            asked = _json(folder / "request.json")
            begun = asked is not None or any((folder / file).exists() for file in (ANSWERS, REPORT))
            if begun and asked != given:
                raise NameTaken(f"there is a comparison {name} of other settings: choose another name")
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / "request.json", given)
            self._launch(folder, self._sets.file(questions), flags)
        return self._seen(folder)

    def stop(self, name: str) -> Comparison:
        """Let it write its report and end; one that has ended stays as it is. Raises UnknownName."""
        folder = self._find(name)
        with self._lock:  # while one begins, the number is that of the process before it
            pid = _json(folder / "pid.json")
            if self._running(folder) and pid is not None and isinstance(pid.get("pid"), int):
                with contextlib.suppress(ProcessLookupError):  # it has ended just now
                    os.kill(pid["pid"], signal.SIGINT)
        return self._seen(folder)

    def _launch(self, folder: Path, questions: Path, flags: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "service", "evaluate", "--home", str(self._home)]
        command += ["--questions", str(questions), "--out", str(folder)]
        command += [word for key, value in flags.items() for word in (f"--{key}", value)]
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _take(lock, folder.name)
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)
        _write(folder / "pid.json", {"pid": process.pid})
        self._started = [one for one in self._started if one.poll() is None] + [process]

    def _running(self, folder: Path) -> bool:
        for one in self._started:
            one.poll()  # those that ended are gone from the table of processes
        try:
            lock = os.open(folder / ".lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # several may look at once
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def _find(self, name: str) -> Path:
        folder = self._home / FOLDER / name
        if not NAME.fullmatch(name) or not folder.is_dir():
            raise UnknownName(f"no comparison {name[:80]!r}; POST /evaluations makes one")
        return folder

    def _seen(self, folder: Path, log: str = "") -> Comparison:
        running = self._running(folder)
        request, summary = _json(folder / "request.json") or {}, self._summary(folder / REPORT)
        state = "running" if running else "finished" if summary else "failed"
        try:
            with (folder / ANSWERS).open("rb") as lines:
                done = sum(1 for _ in lines)
        except OSError:
            done = 0
        expected = self._expected(request) if running else None
        asked = folder / "request.json"  # a folder's own times move with every file in it
        created = (asked if asked.is_file() else folder).stat().st_mtime
        return Comparison(folder.name, state, done, expected, request, summary, bool(summary), created, log)

    def _summary(self, file: Path) -> dict[str, Any]:
        """What the list shows of a report, which may be long: read again only where it has changed."""
        try:
            changed = file.stat().st_mtime_ns
        except OSError:
            return {}
        known = self._summaries.get(file)
        if known is None or known[0] != changed:
            report = _json(file) or {}
            modes = report.get("modes", [])
            right = {m["name"]: m["figures"]["right"] for m in modes if "right" in m.get("figures", {})}
            asked = report.get("questions", {}).get("asked", 0)
            known = changed, {"settings": report.get("settings", {}), "right": right, "asked": asked}
            self._summaries[file] = known
        return known[1]

    def _expected(self, request: Mapping[str, Any]) -> int | None:
        from service.evaluation.modes import BASELINES

        try:
            questions = self._sets.get(str(request["questions"])).rows
        except (KeyError, UnknownName, OSError):  # the set may be gone
            return None
        if "limit" in request:
            questions = min(questions, int(request["limit"]))
        return questions * (len(str(request.get("modes", "")).split(",")) + len(BASELINES))


def _take(lock: int, name: str) -> None:
    """Take the lock of a comparison that begins. Raises RunActive where a process has it."""
    until = time.monotonic() + LOOK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise RunActive(
                    f"the comparison {name} is running: wait until it ends, or stop it"
                ) from error
        time.sleep(0.005)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all: half a request would make its name one that nothing fits any more."""
    publish(file, lambda write: write(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")))


def _json(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
