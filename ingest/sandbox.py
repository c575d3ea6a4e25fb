"""Parsers in processes of their own: a file that crashes, loops or eats memory costs that one file.

Each worker is a fresh interpreter (never a fork: pdfium and torch's threads would not survive it) that
imports only `ingest.parse`. It is started with our own interpreter rather than through `multiprocessing`, so
that the caller's main module is not imported again, and it speaks JSON over two pipes: what comes back from a
process that has read a hostile file is data, never a pickle. (Pebble, which offers the same, was looked at:
its workers share one pipe and its locks, so that one of them killed while it writes can block all, and
results are pickles.)

What is enforced:

- deadline: the parent kills the worker `timeout_s` after the file was handed to it, or after the worker began
  to read a page of it by OCR (which takes seconds; how many pages it reads is limited there). A worker that a
  busy machine let compute for less than half of that time, and that still wants to, gets it again, up to
  `MOST_DEADLINES` times (Linux, where this can be seen). On POSIX the worker also sets itself an alarm, so
  that it ends even if the parent is killed;
- memory: `RLIMIT_AS` on Linux. macOS and Windows have no such limit that works: there only the deadline
  holds;
- a worker that died is replaced at the next file; one that has grown or has parsed many files retires.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from ingest.errors import IngestError, ParseError, ParseTimeout
from ingest.parcels import decoded, encoded, receive, send
from ingest.parse.source import OcrMode
from ingest.types import Document

START_TIMEOUT_S = 60.0
PAGE_TIMEOUT_S = 180.0
"""At least what one page of OCR may take: a dense one is ten seconds' work of an idle core."""
MOST_DEADLINES = 4
"""Deadlines that a worker gets at most on a machine that has no time for it."""
FILES_A_WORKER = 500
LARGEST_REPLY = 1 << 30
_GRACE_S = 5.0  #: between the parent's deadline and the worker's own alarm
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from ingest.sandbox import serve; serve()"


class ParserPool:
    """Worker processes that parse files; as many threads as there are workers can parse at once."""

    def __init__(self, workers: int, timeout_s: float, memory_mb: int) -> None:
        """Nothing is started yet.

        Args:
            workers: processes; 0 means one a core.
            timeout_s: deadline of one file, from the moment a worker takes it.
            memory_mb: address space of a worker (Linux), in MiB.
        """
        self._timeout_s = timeout_s
        self._workers = [_Worker(timeout_s, memory_mb) for _ in range(workers or os.cpu_count() or 1)]
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()  # the worker used last is warm

    def __enter__(self) -> ParserPool:
        for worker in reversed(self._workers):
            self._idle.put(worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker at once; whoever still waits for one gets a ParseError."""
        for worker in self._workers:
            worker.close()
        self._idle.put(None)

    def parse(
        self,
        file: Path,
        *,
        name: str | None = None,
        password: str | None = None,
        max_bytes: int,
        ocr: OcrMode = "auto",
    ) -> Document:
        """`ingest.parse.parse_file` in a worker; waits for an idle one.

        Raises:
            ParseTimeout: the file ran past the deadline or the memory limit.
            ParseError: the parser crashed on it, or the pool was closed meanwhile.
            IngestError: whatever `parse_file` raises.
        """
        called = name or file.name
        worker = self._idle.get()
        if worker is None:
            self._idle.put(None)
            raise _stopped(called)
        try:
            return worker.parse(str(file.absolute()), called, password, max_bytes, ocr)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process, started when it is first needed and again after it died. Used by one thread at a time."""

    def __init__(self, timeout_s: float, memory_mb: int) -> None:
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # between the thread that waits for an answer, its timer, and `close`
        self._waiting = 0  #: number of the exchange in progress, 0 when none is
        self._exchanges = 0
        self._expired = False
        self._timer: threading.Timer | None = None
        self._closed = False

    def parse(self, file: str, name: str, password: str | None, max_bytes: int, ocr: OcrMode) -> Document:
        request = {"file": file, "name": name, "password": password, "max_bytes": max_bytes, "ocr": ocr}
        try:
            reply = self._exchange(request, name)
            if reply.get("retires"):  # at once: the next file must not meet a process that is ending
                self._stop()
            return decoded(reply)
        except IngestError:
            raise
        except (ValueError, KeyError, TypeError, IndexError) as error:
            self._stop()
            raise ParseError(
                f"{name}: its parser answered nonsense. Leave it out, or open and save it anew."
            ) from error

    def close(self) -> None:
        """End the process, whatever it does, for good."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _exchange(self, request: dict[str, Any], name: str) -> dict[str, Any]:
        """Hand over a request and wait for the answer, at most for the deadline."""
        for attempt in (1, 2):
            process = self._started(name)
            try:
                send(process.stdin, request)
            except OSError:  # it died while idle (killed from outside): not this file's fault
                self._stop()
                if attempt == 2:
                    raise ParseError(
                        f"{name}: its parser process ends before it reads. Ingest it again."
                    ) from None
                continue
            reply = self._receive(process, self._timeout_s)
            while reply is not None and reply.get("alive"):  # each page of OCR has a deadline of its own
                reply = self._receive(process, max(self._timeout_s, PAGE_TIMEOUT_S))
            if reply is not None:
                return reply
            raise self._death(process, name)
        raise AssertionError  # pragma: no cover

    def _started(self, name: str) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise _stopped(name)
            if self._process is not None and self._process.poll() is None:
                return self._process
            paths = [str(Path(path).absolute()) for path in sys.path]  # "" means the current folder
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, json.dumps(paths)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            process = self._process
        with contextlib.suppress(OSError):
            send(process.stdin, {"memory_mb": self._memory_mb, "timeout_s": self._timeout_s})
        if self._receive(process, START_TIMEOUT_S) is None:
            code = process.wait()
            self._stop()
            if self._closed:
                raise _stopped(name)
            raise ParseError(
                f"{name}: the parser process cannot start (exit code {code}); "
                f"its memory limit of {self._memory_mb} MiB (setting parse_memory_mb) may be too small."
            )
        return process

    def _receive(self, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any] | None:
        """The next answer; None where the process ended or was ended at the deadline."""
        with self._lock:
            self._exchanges += 1
            exchange = self._waiting = self._exchanges
            self._expired = False
        self._arm(process, exchange, seconds, MOST_DEADLINES)
        try:
            return receive(process.stdout, LARGEST_REPLY)
        finally:
            with self._lock:
                self._waiting = 0
                if self._timer is not None:
                    self._timer.cancel()

    def _arm(self, process: subprocess.Popen[bytes], exchange: int, seconds: float, left: int) -> None:
        """Look again in `seconds`, when the process has `left` deadlines left, this one included."""
        timer = threading.Timer(
            seconds, self._expire, (process, exchange, seconds, left, _computed(process.pid))
        )
        timer.daemon = True
        with self._lock:
            if self._waiting == exchange:
                self._timer = timer
                timer.start()

    def _expire(
        self, process: subprocess.Popen[bytes], exchange: int, seconds: float, left: int, before: float | None
    ) -> None:
        now = _computed(process.pid, wanting=True)
        if left > 1 and before is not None and now is not None and now - before < seconds / 2:
            self._arm(process, exchange, seconds, left - 1)
            return
        with self._lock:
            if self._waiting == exchange:  # else the answer came at the last moment
                self._expired = True
                process.kill()

    def _death(self, process: subprocess.Popen[bytes], name: str) -> IngestError:
        code = process.wait()
        expired, closed = self._expired, self._closed
        self._stop()
        if closed:
            return _stopped(name)
        if expired or (hasattr(signal, "SIGALRM") and code == -signal.SIGALRM):
            return ParseTimeout(
                f"{name}: reading it took longer than {self._timeout_s:g} s and was stopped. "
                "Leave it out, split it, or raise the setting parse_timeout_s."
            )
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        return ParseError(
            f"{name}: its parser crashed ({how}), on damage in the file or for want of memory "
            f"({self._memory_mb} MiB, setting parse_memory_mb). Open and save it anew, or leave it out."
        )

    def _stop(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()


def _computed(pid: int, *, wanting: bool = False) -> float | None:
    """Seconds of processor time of a process; None where that cannot be seen (proc(5), Linux alone).

    With `wanting`, None also if it neither runs nor waits for a processor or a disk: time would not help it.
    """
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
        if wanting and fields[0] not in "RD":
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _stopped(name: str) -> ParseError:
    return ParseError(f"{name}: was not parsed, because the run was stopped. Ingest it again.")


def serve() -> None:
    """The worker's side: answer requests from standard input until it ends."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # what a library prints must not get among the answers
    with contextlib.suppress(ValueError, AttributeError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it ends us
    limits = receive(requests, LARGEST_REPLY)
    if limits is None:
        return
    from ingest.parse import parse_file

    _limit_memory(limits["memory_mb"])
    send(replies, {})

    def alive() -> None:
        send(replies, {"alive": True})
        _alarm(MOST_DEADLINES * max(limits["timeout_s"], PAGE_TIMEOUT_S) + _GRACE_S)

    for served in range(1, FILES_A_WORKER + 1):
        request = receive(requests, LARGEST_REPLY)
        if request is None:
            return
        _alarm(MOST_DEADLINES * limits["timeout_s"] + _GRACE_S)
        try:
            document = parse_file(
                Path(request["file"]),
                name=request["name"],
                password=request["password"],
                max_bytes=request["max_bytes"],
                ocr=request["ocr"],
                alive=alive,
            )
            reply = encoded(document)
            del document
        except IngestError as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        except MemoryError:
            what = f"{request['name']}: needs more than {limits['memory_mb']} MiB of memory to be read. "
            reply = {
                "error": "ParseTimeout",
                "message": what + "Split it, or raise the setting parse_memory_mb.",
            }
            send(replies, {**reply, "retires": True})
            os._exit(1)  # what is left of the heap is of no use
        reply["retires"] = served == FILES_A_WORKER or _resident_mb() > limits["memory_mb"] / 4
        send(replies, reply)
        _alarm(0)
        if reply["retires"]:
            return


def _limit_memory(megabytes: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = megabytes << 20
    resource.setrlimit(
        resource.RLIMIT_AS, (limit, hard) if hard == resource.RLIM_INFINITY else (min(limit, hard), hard)
    )


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(
            signal.ITIMER_REAL, seconds
        )  # SIGALRM's default action ends the process, also within C code


def _resident_mb() -> float:
    """Memory in use now; 0 where it cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
