"""A run whose files are read and whose texts are embedded by a crew of Ray workers.

This process stays the only writer: what the workers return is written here, in the order of the files, by the
code that writes without them, so documents, passages, reports and exit codes are the same. A worker writes
nothing, so one that dies loses nothing, and nothing is written twice.

While the workers embed one lot of documents the next is read, and at most `_LOTS` lots are on their way: that
bounds the memory, and the cluster waits for a store that is slower than it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ingest.errors import IngestError
from ingest.pipeline.ahead import MIB, Failed, Item, Lookout, Read
from ingest.pipeline.crew import Crew, Job, WorkerDied
from ingest.pipeline.run import Ready, Run, texts_of
from ingest.remote import MEMORY, RemoteError, fetched
from ingest.store import Vectors

_LOTS = 2  # lots of documents whose vectors are on their way
_TEXTS_A_JOB = 64  # a worker that dies loses so much work; below that, batches of the embedder are not full
_FILES_AHEAD = 6  # of each worker


@dataclass(slots=True)
class _Lot:
    """Documents that wait for vectors, each in the store already or a row of a job's result."""

    waiting: list[Ready]
    stored: dict[bytes, Vectors]
    places: dict[bytes, tuple[Job, int]]
    jobs: list[tuple[Job, list[bytes]]]  #: those that were given for this lot


class SpreadRun(Run):
    """One run over one store, which its caller holds for writing, with workers elsewhere."""

    def __init__(self, crew: Crew, *arguments: Any) -> None:
        """As `Run`, after the crew; it is started when the first file has to be read."""
        super().__init__(*arguments)
        self._crew = crew
        self._lots: deque[_Lot] = deque()
        self._coming: dict[bytes, tuple[Job, int]] = {}

    def _outcomes(self, lookout: Lookout, todo: Sequence[Item]) -> Generator[tuple[Item, Read | Failed]]:
        self._crew.start(self.embedder.id)
        ahead: deque[tuple[Item, Job]] = deque()
        rest = iter(todo)
        while True:
            while len(ahead) < _FILES_AHEAD * self._crew.workers and (item := next(rest, None)) is not None:
                ahead.append((item, self._crew.read(lookout.only(item), self._carried(item))))
            if not ahead:
                return
            item, job = ahead.popleft()
            if not self._wait(job):
                return
            if isinstance(job.result, WorkerDied):
                yield item, Failed(f"{item.path} could not be read: {job.result}")
            elif isinstance(job.result, IngestError):
                raise job.result
            else:
                yield item, job.result

    def _carried(self, item: Item) -> Item:
        """The item with its content, where only this process can reach it."""
        most = self.settings.max_file_mb * MIB
        if not item.path.startswith(MEMORY) or not item.remote or item.size > most:
            return item
        try:
            with fetched(item.path, most) as file:
                return replace(item, content=file.read_bytes())
        except RemoteError:
            return item  # the worker will not find it either, and says so

    def _wait(self, job: Job) -> bool:
        """Whether the job came to its end before the run was cancelled."""
        while not self._crew.wait(job, 0.5):
            if self.is_cancelled():
                return False
        return True

    def _write(self, waiting: Sequence[Ready]) -> None:
        """Have the passages of these documents embedded; write the lot before the last."""
        self._lots.append(self._sent(list(waiting)))
        while len(self._lots) > _LOTS and not self.cancelled:
            self._land(self._lots.popleft())

    def _land_all(self) -> None:
        while self._lots and not self.cancelled:
            self._land(self._lots.popleft())

    def _sent(self, waiting: list[Ready]) -> _Lot:
        wanted = texts_of(waiting)
        stored = self.store.cached_vectors(self.embedder.id, wanted)
        places = {key: self._coming[key] for key in wanted if key in self._coming and key not in stored}
        missing = [
            (key, chunk.embedding_text(title))
            for key, (chunk, title) in wanted.items()
            if key not in stored and key not in places
        ]
        missing.sort(key=lambda pair: len(pair[1]))
        lot = _Lot(waiting, stored, places, [])
        for start in range(0, len(missing), _TEXTS_A_JOB):
            part = missing[start : start + _TEXTS_A_JOB]
            job = self._crew.embed([text for _, text in part])
            keys = [key for key, _ in part]
            lot.jobs.append((job, keys))
            places |= {key: (job, row) for row, key in enumerate(keys)}
        self._coming |= {key: places[key] for _, keys in lot.jobs for key in keys}
        return lot

    def _land(self, lot: _Lot) -> None:
        try:
            self._write_with(lot.waiting, lambda: self._landed(lot))
        except WorkerDied:  # found out here, document by document
            self._write_each(lot.waiting, lost=True)
        for _, keys in lot.jobs:  # the store has them now
            for key in keys:
                self._coming.pop(key, None)

    def _landed(self, lot: _Lot) -> dict[bytes, Vectors]:
        """The vectors by key; empty where cancelled. Raises WorkerDied, EmbedderError."""
        for job, keys in lot.jobs:
            if not self._wait(job):
                return {}
            if not isinstance(job.result, IngestError):
                self.embedded += len(keys)
                self.tell(None)
        vectors = dict(lot.stored)
        for key, (job, row) in lot.places.items():
            if isinstance(job.result, IngestError):
                raise job.result
            vectors[key] = job.result[row]
        return vectors
