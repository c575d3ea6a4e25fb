"""Large uploads are ingested in a process of their own, with less priority than answering.

Cutting a text into passages is Python, and Python runs one thread at a time: in the service's own process it
would hold up every request. So bulk goes to one child process, which has an embedder of its own, is started
by the first large upload, serves those that follow, and ends after `IDLE_S` without work. A note is ingested
where it came in, because that is done before a process has started.

What goes over the pipes are lines of JSON: a request `{home, collection, embedder, settings, uploads}` or
`{"cancel": true}` to it; `{"file"}` for each file, then `{"end"}` or `{"error", "message"}` from it. The
index is the only other thing that both know: every document is written in one transaction, so a child that
dies harms nothing that was reported.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ingest.embed import Embedder
from ingest.embed.finding import embedder_named
from ingest.errors import IngestError
from ingest.settings import IngestSettings
from ingest.types import FileReport
from service.library import OnFile, Upload
from service.logs import passed

logger = logging.getLogger(__name__)

#: Uploads of less, together within a minute, are ingested in the service's own process.
SMALL_BYTES = 256_000
IDLE_S = 300.0
NICENESS = 10
_LOOK_S = 0.2  #: between two looks whether the upload was cancelled
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from service.ingesting import serve; serve()"
)


class IngestProcess:
    """The child, seen from the service. `ingest` is called by one thread at a time."""

    def __init__(self, command: Sequence[str] = ()) -> None:
        """Start nothing yet; `command` is what a test runs in place of the child."""
        paths = [str(Path(path).absolute()) for path in sys.path]  # "" means the current folder
        self._command = tuple(command) or (sys.executable, "-c", _START, json.dumps(paths))
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._busy = threading.Lock()  #: held while an upload is being ingested
        self._recent: deque[tuple[float, int]] = deque()  #: when how many bytes came
        self._closed = False

    def wants(self, uploads: Sequence[Upload]) -> bool:
        """Whether these are bulk: large, one of many in a minute, or the child is there anyway."""
        now = time.monotonic()
        self._recent.append((now, sum(upload.file.stat().st_size for upload in uploads)))
        while now - self._recent[0][0] > 60:
            self._recent.popleft()
        running = self._process is not None and self._process.poll() is None
        return running or sum(size for _, size in self._recent) > SMALL_BYTES

    def ingest(  # noqa: PLR0917
        self,
        where: tuple[Path, str],
        uploads: Sequence[Upload],
        embedder: str,
        settings: IngestSettings,
        on_file: OnFile,
        cancelled: Callable[[], bool],
    ) -> None:
        """Ingest files into an existing collection.

        Args:
            where: the data folder and the collection's name.
            uploads: the files.
            embedder: the collection's, by name.
            settings: as for `ingest.pipeline.ingest_files`.
            on_file: called for each file, in this thread.
            cancelled: asked often; once it is true no further file is begun.

        Raises:
            IngestError: what stopped the run, as if it had run here; or the child died.
        """
        home, collection = where
        request = {
            "home": str(home),
            "collection": collection,
            "embedder": embedder,
            "settings": settings.model_dump(mode="json"),
            "uploads": [{**asdict(u), "file": str(u.file)} for u in uploads],
        }
        with self._busy:
            self._ingest(request, on_file, cancelled)

    def _ingest(self, request: Mapping[str, Any], on_file: OnFile, cancelled: Callable[[], bool]) -> None:
        for attempt in (1, 2):
            process = self._started()
            answered = False
            over = threading.Event()
            watch = threading.Thread(target=_pass_on, args=(process.stdin, cancelled, over), daemon=True)
            with contextlib.suppress(OSError):  # it has ended: its pipe says so below
                _send(process.stdin, request)
            watch.start()
            try:
                for message in _received(process.stdout):
                    answered = True
                    if (file := message.get("file")) is not None:
                        try:
                            on_file(FileReport(**file))
                        except BaseException:  # what it still says would answer the next upload
                            process.kill()
                            process.wait()
                            raise
                    elif "error" in message:
                        raise _error(message)
                    else:
                        return
            finally:
                over.set()
                watch.join()
            code = process.wait()
            _shut(process)
            if self._closed or cancelled():
                return
            idle_end = code == 0 and not answered  # for want of work, just as this one came
            if not idle_end or attempt == 2:
                raise IngestError(
                    f"the process that ingests ended early (exit code {code}; a negative one is a signal, 9 "
                    "mostly that memory ran out). What was reported as added is in the index; send the rest "
                    "again, in smaller uploads."
                )

    def close(self) -> None:
        """End the child, whatever it does; what it has not reported is not in the index."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            with self._busy:  # who reads from it has seen its end
                _shut(process)

    def _started(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise IngestError("the service is shutting down. Send the files again when it is back.")
            if self._process is None or self._process.poll() is not None:
                threads = str(max(1, (os.cpu_count() or 1) - 1))  # one core is for answering
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    encoding="ascii",
                    env={"OMP_NUM_THREADS": threads} | os.environ,
                )
            return self._process


def _shut(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def _pass_on(pipe: IO[str] | None, cancelled: Callable[[], bool], over: threading.Event) -> None:
    """Tell the child when the upload is cancelled."""
    while not over.wait(_LOOK_S):
        if cancelled():
            with contextlib.suppress(OSError, ValueError):
                _send(pipe, {"cancel": True})
            return


def _error(message: Mapping[str, Any]) -> Exception:
    """What the child met, as its own kind where that is one of ingest's."""
    name, told = str(message["error"]), str(message["message"])
    for kind in _tree(IngestError):
        if kind.__name__ == name:
            return kind(told)
    logger.error("the process that ingests met %s: %s", name, told)
    return RuntimeError(name)


def _tree(kind: type[IngestError]) -> Iterator[type[IngestError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _tree(sub)


def _send(pipe: IO[str] | None, message: Mapping[str, Any]) -> None:
    assert pipe is not None
    pipe.write(json.dumps(message) + "\n")  # escapes carry file names that are no UTF-8, too
    pipe.flush()


def _received(pipe: IO[str] | None) -> Iterator[dict[str, Any]]:
    """Messages, until the pipe ends; a line that was cut short is its end."""
    assert pipe is not None
    for line in pipe:
        try:
            message = json.loads(line)
        except ValueError:
            return
        yield message


def serve(find: Callable[[str, Path], Embedder] | None = None) -> None:
    """The child's side: ingest what is asked for, until nobody asks or the parent is gone."""
    requests = os.fdopen(os.dup(0), encoding="ascii")
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # what a library prints must not get among the answers
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    cancel = threading.Event()
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for message in _received(requests):
            if "cancel" in message:
                cancel.set()
            else:
                cancel.clear()  # in the pipe's order: a cancel may come before the request is taken
                waiting.put(message)
        os._exit(0)  # the parent is gone, or said nonsense

    threading.Thread(target=listen, daemon=True).start()
    embedders: dict[str, Embedder] = {}
    while True:
        try:
            request = waiting.get(timeout=IDLE_S)
        except queue.Empty:
            return
        try:
            _ingest(request, find, embedders, replies, cancel)
            _send(replies, {"end": True})
        except IngestError as error:
            _send(replies, {"error": type(error).__name__, "message": str(error)})
        except Exception as error:  # places, no message: it may repeat what is in a document
            _send(replies, {"error": type(error).__name__, "message": " ".join(passed(error)[-4:])})


def _ingest(
    request: Mapping[str, Any],
    find: Callable[[str, Path], Embedder] | None,
    embedders: dict[str, Embedder],
    replies: IO[str],
    cancel: threading.Event,
) -> None:
    from ingest import pipeline
    from ingest.collections import open_collection
    from model.memory import give_back

    home, name = Path(request["home"]), request["embedder"]
    settings = IngestSettings.model_validate(request["settings"])
    uploads = [pipeline.Upload(Path(u["file"]), u["path"], u["own"], u["url"]) for u in request["uploads"]]

    def tell(progress: pipeline.Progress) -> None:
        if progress.file is not None:
            _send(replies, {"file": asdict(progress.file)})

    with open_collection(
        home, request["collection"], approximate_from=settings.approximate_from, at=settings.store
    ) as store:
        if name not in embedders:
            embedders[name] = find(name, home) if find else embedder_named(name, home, settings)
        pipeline.ingest_files(uploads, store, embedders[name], settings, progress=tell, cancel=cancel.is_set)
    give_back()
