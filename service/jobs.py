"""Uploads are jobs: accepted at once, ingested one after another by a worker thread, watched by id.

Bytes wait in a folder of their own per job, which is removed when the job ends, however it ends; what a
killed process left goes with the next upload (`service.temporary`). Jobs live in memory: after a restart the
index is what counts, and it holds every file that a job reported as added.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ingest.types import FileReport
from service import tracing
from service.errors import Busy, NotReady, UnknownJob
from service.library import Library, Upload
from service.temporary import Temporary

Status = Literal["queued", "running", "done", "failed", "cancelled"]
#: Finished jobs that are still remembered.
REMEMBERED = 200


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Job:
    """One upload."""

    id: str
    collection: str
    uploads: Sequence[Upload]
    room: Temporary  #: where their bytes are
    status: Status = "queued"
    files: list[FileReport] = field(default_factory=list)
    error: dict[str, Any] | None = None  #: code, message, detail: where the job as a whole failed
    created_at: str = field(default_factory=_now)
    finished_at: str | None = None
    cancel: threading.Event = field(default_factory=threading.Event)
    within: Any = field(default_factory=tracing.here)  #: the request that brought it, where it is traced

    @property
    def total(self) -> int:
        """Files to ingest."""
        return len(self.uploads)


class JobBoard:
    """A bounded queue of uploads with one worker thread behind it."""

    def __init__(
        self,
        library: Library,
        folder: Path,
        describe: Callable[[Exception], dict[str, Any]],
        queue_length: int,
    ) -> None:
        self._library = library
        self._folder = folder
        self._describe = describe
        self._queue_length = queue_length
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def new_folder(self) -> Temporary:
        """An empty folder for the bytes of one upload.

        Raises:
            Busy: too many uploads are waiting already.
        """
        with self._changed:
            self._check()
        return Temporary(self._folder, "upload-")

    def _check(self) -> None:
        if self._closed:
            raise NotReady("the service is shutting down")
        if len(self._waiting) >= self._queue_length:
            raise Busy(f"{len(self._waiting)} uploads are waiting already. Try again in 10 s.", 10)

    def submit(self, collection: str, uploads: Sequence[Upload], room: Temporary) -> Job:
        """Queue an upload whose bytes lie in `room`, which stays the caller's where this fails.

        Raises:
            Busy, NotReady: as `new_folder`.
        """
        job = Job(uuid.uuid4().hex, collection, uploads, room)
        with self._changed:
            self._check()  # again: others may have come while the bytes did
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="lorebase-jobs", daemon=True)
                self._thread.start()
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify_all()
            for old in list(self._jobs)[: max(0, len(self._jobs) - REMEMBERED)]:
                if self._jobs[old].finished_at:
                    del self._jobs[old]
        return job

    def job(self, job_id: str) -> Job:
        """One job. Raises UnknownJob."""
        try:
            return self._jobs[job_id]
        except KeyError as error:
            raise UnknownJob(f"no job {job_id!r}; jobs are forgotten when the service restarts") from error

    def jobs(self) -> list[Job]:
        """All remembered jobs, newest first."""
        return list(self._jobs.values())[::-1]

    def cancel(self, job_id: str) -> Job:
        """End a job: a waiting one never begins, a running one stops after the file it is at.

        What it has ingested stays. A job that has ended stays as it is. Raises UnknownJob.
        """
        job = self.job(job_id)
        with self._changed:
            job.cancel.set()
            if job in self._waiting:
                self._waiting.remove(job)
                job.status = "cancelled"
                job.finished_at = _now()
        if job.status == "cancelled":
            job.room.remove()
        return job

    def withdraw(self, collection: str) -> None:
        """End every job of a collection, as `cancel` does, the one that runs first."""
        for job in self.jobs()[::-1]:
            if job.collection == collection and job.finished_at is None:
                self.cancel(job.id)

    def close(self) -> None:
        """Begin no further job; the running one ends with the file it is at, or with the process."""
        with self._changed:
            self._closed = True
            for job in self._waiting:
                job.room.remove()
            self._waiting.clear()
            for job in self._jobs.values():
                job.cancel.set()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._waiting.popleft()
            job.status = "running"
            failed: Exception | None = None
            try:
                with tracing.span("ingest", within=job.within, lorebase__collection=job.collection) as span:
                    try:
                        self._library.add(job.collection, job.uploads, job.files.append, job.cancel.is_set)
                    finally:
                        span.set(
                            lorebase__files=job.total,
                            lorebase__files_failed=sum(f.status == "failed" for f in job.files),
                            lorebase__chunks=sum(f.chunks for f in job.files),
                        )
            except Exception as error:
                failed = error
            except BaseException as error:  # native libraries panic with one; it must not end the worker
                failed = RuntimeError(type(error).__name__)
                failed.__cause__ = error
            job.room.remove()
            job.error = self._describe(failed) if failed else None
            stopped = job.cancel.is_set() and len(job.files) < job.total
            job.status = "failed" if failed else "cancelled" if stopped else "done"
            job.finished_at = _now()  # last: who sees it takes the rest for final
