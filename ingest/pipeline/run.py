"""One run: read ahead, cut, embed across files, write document by document; see `ingest.pipeline`."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from ingest import parse
from ingest.embed import Embedder
from ingest.errors import EmbedderError, IngestError
from ingest.settings import IngestSettings
from ingest.store import Origin, Source, Store, Vectors
from ingest.store.rows import embedding_key
from ingest.types import Chunk, Document, FileReport, FileStatus, IngestReport
from ingest.walk import below, chosen

CHUNKER = "chunks/1"  #: raise the number when the same document is cut otherwise than before
MIB = 1 << 20
_SLICE = 256  # texts between two looks at `cancel`
_BATCH_TEXTS = 512  # texts that are embedded together, over files
_BATCH_CHARACTERS = 16 * MIB  # and the most that waits for it
_TIME_IS_SETTLED_NS = 2_000_000_000  # a younger file can change again without its time changing


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `file` where one has just ended."""

    files_done: int
    files_total: int
    embedded: int
    file: FileReport | None = None


OnProgress = Callable[[Progress], None]
Cancelled = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Item:
    """A file to bring up to date."""

    path: str
    file: Path
    size: int
    mtime_ns: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class _Read:
    """An item that was looked at: parsed, or (document None) unchanged though its size or time differ."""

    source: Source
    document: Document | None


@dataclass(slots=True)
class _Ready:
    """A document whose passages wait for their vectors."""

    source: Source
    document: Document
    chunks: list[Chunk]
    keys: list[bytes]


def recipe_of(path: str, settings: IngestSettings, embedder_id: str | None) -> str:
    """What makes a document current: parser, chunker with its settings, embedder."""
    return compose_recipe(parse.recipe(path, settings.ocr), settings, embedder_id)


def compose_recipe(parser: str, settings: IngestSettings, embedder_id: str | None) -> str:
    """See `recipe_of`; the parser's part comes first and holds no bar."""
    return f"{parser}|{CHUNKER}|{settings.chunk_tokens}-{settings.chunk_overlap_tokens}|{embedder_id}"


@dataclass(slots=True)
class Run:
    """One run over one store, which its caller holds for writing."""

    store: Store
    embedder: Embedder
    settings: IngestSettings
    password: str | None
    progress: OnProgress | None
    cancel: Cancelled | None
    started: float = field(default_factory=time.monotonic)
    reports: list[FileReport] = field(default_factory=list)
    total: int = 0
    parsed: int = 0
    embedded: int = 0
    pages: int = 0
    cancelled: bool = False
    known: dict[str, Source] = field(default_factory=dict)

    def process(self, items: Sequence[Item]) -> None:
        """Bring the items up to date, in order."""
        self.known = self.store.sources()
        with self.store.reading() as reader:
            embedder_id = reader.embedder_id
        todo = [item for item in items if not self._is_current(item, embedder_id)]
        if not todo:
            return
        touched: list[Source] = []
        waiting: list[_Ready] = []
        with closing(self._read_all(todo, embedder_id)) as outcomes:
            for item, outcome in outcomes:
                if isinstance(outcome, IngestError):
                    self.done(FileReport(item.path, "failed", str(outcome)))
                elif outcome.document is None:
                    touched.append(outcome.source)
                    self.done(FileReport(item.path, "unchanged"))
                else:
                    self._cut(outcome.source, outcome.document, waiting)
                if self.is_cancelled():
                    break
        if waiting and not self.cancelled:
            self._write(waiting)
        self.store.touch(touched)

    def _is_current(self, item: Item, embedder_id: str | None) -> bool:
        """Whether size, time and recipe say that nothing has changed; then it is reported and not opened."""
        known = self.known.get(item.path)
        if (
            known is None
            or not item.mtime_ns
            or (known.size, known.mtime_ns) != (item.size, item.mtime_ns)
            or known.recipe != recipe_of(item.path, self.settings, embedder_id)
        ):
            return False
        self.done(FileReport(item.path, "unchanged"))
        return True

    def _read_all(
        self, items: Sequence[Item], embedder_id: str | None
    ) -> Generator[tuple[Item, _Read | IngestError]]:
        """Hash and parse ahead of the consumer, a few files a worker; results in the order of the items."""
        from ingest.sandbox import ParserPool  # a run that parses nothing starts no processes

        workers = min(self.settings.workers or os.cpu_count() or 1, len(items))
        with (
            ThreadPoolExecutor(workers, thread_name_prefix="parse") as threads,
            # Left first: its processes end, and with them whatever the threads still wait for.
            ParserPool(workers, self.settings.parse_timeout_s, self.settings.parse_memory_mb) as pool,
        ):
            ahead: deque[tuple[Item, Future[_Read | IngestError]]] = deque()
            rest = iter(items)
            try:
                while True:
                    while len(ahead) < 4 * workers and (item := next(rest, None)) is not None:
                        ahead.append((item, threads.submit(self._read, item, embedder_id, pool.parse)))
                    if not ahead:
                        return
                    item, future = ahead.popleft()
                    yield item, future.result()
            finally:
                for _, future in ahead:
                    future.cancel()

    def _read(
        self, item: Item, embedder_id: str | None, parse_file: Callable[..., Document]
    ) -> _Read | IngestError:
        """Hash, and parse where the hash is new. Runs in a thread, with a parser process behind it."""
        most = self.settings.max_file_mb * MIB
        try:
            # A file beyond the limit is not read to be hashed: the parser refuses it by its size.
            content_hash = _hash(item.file) if item.size <= most else ""
            recipe = recipe_of(item.path, self.settings, embedder_id)
            settled = item.mtime_ns and time.time_ns() - item.mtime_ns > _TIME_IS_SETTLED_NS
            mtime_ns = item.mtime_ns if settled else 0
            source = Source(item.path, content_hash, recipe, item.size, mtime_ns, item.origin)
            known = self.known.get(item.path)
            if known and (known.content_hash, known.recipe) == (content_hash, recipe):
                return _Read(source, None)
            name = PurePosixPath(item.path).name
            document = parse_file(
                item.file, name=name, password=self.password, max_bytes=most, ocr=self.settings.ocr
            )
            return _Read(source, document)
        except IngestError as error:
            return error
        except OSError as error:
            return IngestError(
                f"{item.path} cannot be read: {error.strerror or error}. "
                "Check that it is there, and its permissions."
            )

    def _cut(self, source: Source, document: Document, waiting: list[_Ready]) -> None:
        """Chunk a document; it waits with others for its vectors until they fill a batch."""
        self.parsed += 1
        self.pages += len(document.pages)
        self.store.bind(self.embedder.id, self.embedder.name, self.embedder.dimension)
        chunks = cut(document, self.embedder, self.settings)
        if not chunks and document.text:
            self.done(FileReport(source.path, "failed", "there is no text in it"))
            return
        source = replace(source, recipe=recipe_of(source.path, self.settings, self.embedder.id))
        keys = [embedding_key(chunk, document.title) for chunk in chunks]
        waiting.append(_Ready(source, document, chunks, keys))
        if (
            sum(len(ready.keys) for ready in waiting) >= _BATCH_TEXTS
            or sum(len(ready.document.text) for ready in waiting) >= _BATCH_CHARACTERS
        ):
            self._write(waiting)
            waiting.clear()

    def _write(self, waiting: Sequence[_Ready]) -> None:
        """Embed what is missing of these documents, then write them one by one."""
        try:
            vectors = self.vectors(
                {k: (c, r.document.title) for r in waiting for k, c in zip(r.keys, r.chunks, strict=True)}
            )
        except EmbedderError:
            if len(waiting) == 1:
                raise
            self._write_each(waiting)
            return
        for ready in waiting:
            if self.is_cancelled():
                return
            # A picture without text has no passage; it is kept, so that OCR does not look for some again.
            matrix = np.stack([vectors[key] for key in ready.keys]) if ready.keys else self._no_vectors()
            self.store.replace_document(ready.source, ready.document, ready.chunks, matrix)
            status: FileStatus = "updated" if ready.source.path in self.known else "added"
            reason = "; ".join(ready.document.warnings)
            self.done(
                FileReport(ready.source.path, status, reason, len(ready.chunks), len(ready.document.pages))
            )

    def _no_vectors(self) -> Vectors:
        return np.zeros((0, self.embedder.dimension), dtype=np.float32)

    def _write_each(self, waiting: Sequence[_Ready]) -> None:
        """Find the document whose text the embedder fails on; where it fails on all, it is the embedder."""
        failed = 0
        for ready in waiting:
            try:
                self._write([ready])
            except EmbedderError as error:
                failed += 1
                if failed == len(waiting):
                    raise
                self.done(FileReport(ready.source.path, "failed", str(error)))

    def vectors(self, wanted: Mapping[bytes, tuple[Chunk, str]]) -> dict[bytes, Vectors]:
        """Vectors by key; those the store has not are embedded, in slices of like length.

        Empty where cancelled.
        """
        vectors = self.store.cached_vectors(self.embedder.id, wanted)
        missing = [
            (key, chunk.embedding_text(title)) for key, (chunk, title) in wanted.items() if key not in vectors
        ]
        missing.sort(key=lambda pair: len(pair[1]))
        for start in range(0, len(missing), _SLICE):
            if self.is_cancelled():
                break
            part = missing[start : start + _SLICE]
            encoded = self.embedder.encode_passages([text for _, text in part])
            vectors |= zip((key for key, _ in part), encoded, strict=True)
            self.embedded += len(part)
            self.tell(None)
        return vectors

    def forget_missing(
        self, root: str, there: set[str], blind: Sequence[str], include: Sequence[str], exclude: Sequence[str]
    ) -> None:
        """Forget documents below `root` whose files are gone, but none that this walk could not see."""
        gone = [
            path
            for path, source in self.known.items()
            if source.origin == "file"
            and below(path, root)
            and path not in there
            and chosen(path, include, exclude)
            and not any(below(path, unseen) for unseen in blind)
        ]
        if gone and not any(below(path, root) for path in there):
            reason = (
                f"the folder is empty, but {len(gone)} documents came from it; nothing was forgotten "
                "(is a disk not mounted?). "
                f'If they shall go: python -m ingest forget "{root}/*"'
            )
            self.done(FileReport(root, "failed", reason))
            return
        self.total += len(gone)
        for path in self.store.forget(gone):
            self.done(FileReport(path, "forgotten"))

    def is_cancelled(self) -> bool:
        """Whether the run shall end; asked once too often rather than once too seldom."""
        if self.cancel is not None and not self.cancelled:
            self.cancelled = self.cancel()
        return self.cancelled

    def done(self, report: FileReport) -> None:
        """Note what became of a file."""
        self.reports.append(report)
        self.tell(report)

    def tell(self, report: FileReport | None) -> None:
        """Say where the run stands."""
        if self.progress is not None:
            self.progress(Progress(len(self.reports), self.total, self.embedded, report))

    def report(self) -> IngestReport:
        """The run in figures."""
        return IngestReport(
            files=tuple(self.reports),
            parsed=self.parsed,
            embedded=self.embedded,
            pages=self.pages,
            seconds=time.monotonic() - self.started,
            collection=self.store.collection,
            generation=self.store.generation(),
            cancelled=self.cancelled,
        )


def cut(document: Document, embedder: Embedder, settings: IngestSettings) -> list[Chunk]:
    """The passages of a document, as long as settings and embedder allow.

    Raises:
        IngestError: the settings leave no room for text.
    """
    from ingest.chunk import split  # slow to import, and not needed where nothing has changed

    try:
        return split(
            document,
            count_tokens=embedder.count_tokens,
            max_tokens=min(settings.chunk_tokens, embedder.max_tokens),
            overlap_tokens=settings.chunk_overlap_tokens,
        )
    except ValueError as error:
        raise IngestError(f"{error}. Raise chunk_tokens in the settings.") from error


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
