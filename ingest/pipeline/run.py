"""One run: read ahead, cut, embed across files, write document by document; see `ingest.pipeline`."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ingest.embed import Embedder
from ingest.errors import EmbedderAway, EmbedderError, IngestError
from ingest.fields import SCRIPT, merged
from ingest.pipeline.ahead import Failed, Item, Lookout, Read, compose_recipe
from ingest.scripts import scripts
from ingest.settings import IngestSettings, chunked
from ingest.store import Failure, Source, Store, Vectors
from ingest.store.rows import embedding_key
from ingest.types import Chunk, Document, FileReport, FileStatus, IngestReport, Value
from ingest.walk import Walk, below, only_named

_SLICE = 256  # texts between two looks at `cancel`
_BATCH_TEXTS = 512  # texts that are embedded together, over files
_BATCH_CHARACTERS = 16 << 20  # and the most that waits for it


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `file` where one has just ended."""

    files_done: int
    files_total: int
    embedded: int
    file: FileReport | None = None


OnProgress = Callable[[Progress], None]
Cancelled = Callable[[], bool]


@dataclass(slots=True)
class Ready:
    """A document whose passages wait for their vectors."""

    source: Source
    document: Document
    chunks: list[Chunk]
    keys: list[bytes]
    own: Mapping[str, Value | None] | None


@dataclass(slots=True)
class Run:
    """One run over one store, which its caller holds for writing."""

    store: Store
    embedder: Embedder
    settings: IngestSettings
    password: str | None
    progress: OnProgress | None
    cancel: Cancelled | None
    retry: bool = False  #: try also files that were given up
    started: float = field(default_factory=time.monotonic)
    reports: list[FileReport] = field(default_factory=list)
    total: int = 0
    parsed: int = 0
    embedded: int = 0
    pages: int = 0
    cancelled: bool = False
    known: dict[str, Source] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    _failed: list[tuple[Source, str]] = field(default_factory=list)  #: to be remembered
    _own: dict[str, Mapping[str, Value]] = field(default_factory=dict)  #: where items bring fields

    def process(self, items: Sequence[Item]) -> None:
        """Bring the items up to date, in order."""
        self.known, self.failures = self.store.sources(), self.store.failures()
        if any(item.own for item in items):
            self._own = {d.path: d.own for d in self.store.documents()}
        with self.store.reading() as reader:
            embedder_id = reader.embedder_id
            self.settings = chunked(self.settings, reader.chunking)
        lookout = Lookout(
            self.settings, embedder_id, self.known, self.failures, self.password, retry=self.retry
        )
        todo = [item for item in items if not self._is_settled(item, lookout)]
        touched: list[Source] = []
        waiting: list[Ready] = []
        try:
            if todo:
                self._read_on(lookout, todo, waiting, touched)
            if waiting and not self.cancelled:
                self._write(waiting)
            self._land_all()
        finally:  # a run that breaks off has tried these all the same
            self.store.note_failures(self._failed)
            self._failed.clear()
        self.store.touch(touched)
        self._annotate(items)

    def _is_settled(self, item: Item, lookout: Lookout) -> bool:
        """Whether a file need not be opened: it is unchanged, or was given up; then that is reported."""
        if lookout.is_current(item):
            self._unchanged(item)
        elif reason := lookout.given_up(item):
            self.done(FileReport(item.path, "failed", reason))
        else:
            return False
        return True

    def _unchanged(self, item: Item) -> None:
        own = self._own.get(item.path, {})
        changes = item.own is not None and merged(own, item.own) != own
        self.done(FileReport(item.path, "updated" if changes else "unchanged"))

    def _annotate(self, items: Sequence[Item]) -> None:
        """Give the files that were not read anew the fields that come with them."""
        changes = {
            item.path: item.own
            for item in items
            if item.own and merged(own := self._own.get(item.path, {}), item.own) != own
        }
        if changes and not self.cancelled:
            self.store.annotate(changes)

    def _read_on(
        self, lookout: Lookout, todo: Sequence[Item], waiting: list[Ready], touched: list[Source]
    ) -> None:
        with closing(self._outcomes(lookout, todo)) as outcomes:
            for item, outcome in outcomes:
                if isinstance(outcome, Failed):
                    self._fail(item.path, outcome.reason, outcome.source)
                elif outcome.document is None:
                    touched.append(outcome.source)
                    self._unchanged(item)
                else:
                    self._cut(outcome, outcome.document, item.own, waiting)
                if self.is_cancelled():
                    break

    def _outcomes(self, lookout: Lookout, todo: Sequence[Item]) -> Generator[tuple[Item, Read | Failed]]:
        """What became of each item that was read, in their order."""
        return lookout.read_all(todo)

    def _fail(self, path: str, reason: str, source: Source | None) -> None:
        """Report a file that could not be read, and remember what was tried with it."""
        if source is not None and source.origin == "file":
            parser = source.recipe.split("|", 1)[0]
            self._failed.append((replace(source, recipe=parser), reason))
        self.done(FileReport(path, "failed", reason))

    def _cut(
        self,
        read: Read,
        document: Document,
        own: Mapping[str, Value | None] | None,
        waiting: list[Ready],
    ) -> None:
        """Chunk a document; it waits with others for its vectors until they fill a batch."""
        self.parsed += 1
        self.pages += len(document.pages)
        self.store.bind(self.embedder.id, self.embedder.name, self.embedder.dimension)
        source = read.source
        chunks = cut(document, self.embedder, self.settings) if read.chunks is None else read.chunks
        if not chunks and document.text:
            self._fail(source.path, "there is no text in it", source)
            return
        parser = source.recipe.split("|", 1)[0]
        source = replace(source, recipe=compose_recipe(parser, self.settings, self.embedder.id))
        if written_in := scripts(document.text):
            metadata = document.metadata | {SCRIPT: ", ".join(written_in).lower()}
            document = replace(document, metadata=metadata)
        keys = [embedding_key(chunk, document.title) for chunk in chunks]
        waiting.append(Ready(source, document, chunks, keys, own))
        if (
            sum(len(ready.keys) for ready in waiting) >= _BATCH_TEXTS
            or sum(len(ready.document.text) for ready in waiting) >= _BATCH_CHARACTERS
        ):
            self._write(waiting)
            waiting.clear()

    def _write(self, waiting: Sequence[Ready]) -> None:
        """Embed what is missing of these documents, then write them one by one."""
        self._write_with(waiting, lambda: self.vectors(texts_of(waiting)))

    def _land_all(self) -> None:
        """Write what `_write` has left on its way; nothing, here."""

    def _write_with(self, waiting: Sequence[Ready], find: Callable[[], Mapping[bytes, Vectors]]) -> None:
        """Write these documents with the vectors that are found for them (fewer only where cancelled)."""
        try:
            vectors = find()
        except EmbedderAway:  # the next document would meet the same
            raise
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
            self.store.replace_document(ready.source, ready.document, ready.chunks, matrix, ready.own)
            self._own.pop(ready.source.path, None)
            status: FileStatus = "updated" if ready.source.path in self.known else "added"
            reason = "; ".join(ready.document.warnings)
            self.done(
                FileReport(ready.source.path, status, reason, len(ready.chunks), len(ready.document.pages))
            )

    def _no_vectors(self) -> Vectors:
        return np.zeros((0, self.embedder.dimension), dtype=np.float32)

    def _write_each(self, waiting: Sequence[Ready], *, lost: bool = False) -> None:
        """Find the document whose text the embedder fails on; where it fails on all, it is the embedder.

        With `lost`, workers elsewhere have died of these texts: then one alone is at fault itself.
        """
        failed = 0
        for ready in waiting:
            try:
                self._write_with([ready], partial(self.vectors, texts_of([ready])))
            except EmbedderError as error:
                failed += 1
                if failed == len(waiting) and not (lost and failed == 1):
                    raise
                self._fail(ready.source.path, str(error), None)

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
        self, root: str, base: Path, walk: Walk, is_chosen: Callable[[str], bool], *, all_: bool
    ) -> None:
        """Forget documents below `root` whose files are gone, but none that this walk could not see.

        A file that was named once, and that a walk passes over, is looked for by itself (from `base`).

        Where nothing is left in the folder, only if `all_` says so: its disk may not be mounted.
        """
        there = {file.path for file in walk.files}

        def is_gone(path: str) -> bool:
            return (
                below(path, root)
                and path not in there
                and is_chosen(path)
                and not any(below(path, unseen) for unseen in walk.blind)
                and not (only_named(path, root) and (base / path).is_file())
            )

        gone = [path for path, source in self.known.items() if source.origin == "file" and is_gone(path)]
        if gone and not all_ and not any(below(path, root) for path in there):
            reason = (
                f"the folder is empty, but {len(gone)} documents came from it; nothing was forgotten "
                "(is a disk not mounted?). If they shall go: run it again with --allow-empty"
            )
            self.done(FileReport(root, "failed", reason))
            return
        self.total += len(gone)
        tried = [path for path in self.failures if path not in self.known and is_gone(path)]
        for path in self.store.forget((*gone, *tried)) if gone or tried else ():
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


def texts_of(waiting: Sequence[Ready]) -> dict[bytes, tuple[Chunk, str]]:
    """The passages of these documents with their titles, by key."""
    return {k: (c, r.document.title) for r in waiting for k, c in zip(r.keys, r.chunks, strict=True)}


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
