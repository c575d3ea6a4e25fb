"""Looking at files ahead of the run: what is unchanged or given up is not opened, the rest hashed and parsed.

A document is current where size, time and recipe of its file are those it was read with; else where the hash
is. A file that could not be read `MOST_TRIES` times is not tried again before its bytes, the parser or the
settings change, so that a folder with a broken file in it does not cost its deadline at every run.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ingest import parse
from ingest.errors import IngestError
from ingest.remote import RemoteError, fetched
from ingest.settings import IngestSettings, chunking_of
from ingest.store import Failure, Origin, Source
from ingest.types import Chunk, Document, Value

CHUNKER = "chunks/4"  #: raise the number when the same document is cut otherwise than before
MIB = 1 << 20
#: How often the same bytes are tried that cannot be read: a deadline may be missed on a busy day.
MOST_TRIES = 3
_TIME_IS_SETTLED_NS = 2_000_000_000  # a younger file can change again without its time changing


@dataclass(frozen=True, slots=True)
class Item:
    """A file to bring up to date."""

    path: str
    file: Path
    size: int
    mtime_ns: int
    origin: Origin
    own: Mapping[str, Value | None] | None = None  #: the user's fields that come with it
    name: str = ""  #: what its parser is told, where that is not the path
    remote: bool = False  #: `path` is an address that fsspec reaches; `file` is only a name
    content: bytes | None = None  #: of a remote file that only this process can reach

    @property
    def called(self) -> str:
        """A name whose suffix says what the file is."""
        return self.name or self.path

    @contextmanager
    def opened(self, most_bytes: int) -> Iterator[Path]:
        """The file on this machine, for as long as the block lasts.

        Raises:
            RemoteError: it is remote, and cannot be fetched or is longer than that.
        """
        if not self.remote:
            yield self.file
        elif self.content is None:
            with fetched(self.path, most_bytes) as file:
                yield file
        else:
            with tempfile.TemporaryDirectory(prefix="lorebase-") as folder:
                file = Path(folder, "file")
                file.write_bytes(self.content)
                yield file


@dataclass(frozen=True, slots=True)
class Read:
    """An item that was looked at: parsed, or (document None) unchanged though its size or time differ."""

    source: Source
    document: Document | None
    chunks: list[Chunk] | None = None  #: where whoever parsed it has cut it too


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that could not be read; without a source where nothing shall be remembered of it."""

    reason: str
    source: Source | None = None


def recipe_of(path: str, settings: IngestSettings, embedder_id: str | None) -> str:
    """What makes a document current: parser, chunker with its settings, embedder."""
    return compose_recipe(parse.recipe(path, settings.ocr), settings, embedder_id)


def compose_recipe(parser: str, settings: IngestSettings, embedder_id: str | None) -> str:
    """See `recipe_of`; the parser's part comes first and holds no bar."""
    return f"{parser}|{CHUNKER}|{chunking_of(settings)}|{embedder_id}"


@dataclass(frozen=True, slots=True)
class Lookout:
    """What a run knows before it opens a file."""

    settings: IngestSettings
    embedder_id: str | None
    known: Mapping[str, Source]
    failures: Mapping[str, Failure]
    password: str | None
    retry: bool  #: try also what was given up

    def is_current(self, item: Item) -> bool:
        """Whether size, time and recipe say that nothing has changed; then the file is not opened."""
        recipe = recipe_of(item.called, self.settings, self.embedder_id)
        known = self.known.get(item.path)
        return known is not None and _is_same(known, item, recipe)

    def given_up(self, item: Item) -> str | None:
        """Why the file is not tried again, where size, time and recipe say that it is the same."""
        failure = self.failures.get(item.path)
        recipe = parse.recipe(item.called, self.settings.ocr)  # chunks and vectors have no part in it
        same = failure is not None and _is_same(failure.source, item, recipe)
        return self._reason(item, failure) if failure and same else None

    def _reason(self, item: Item, failure: Failure) -> str | None:
        if failure.tries < MOST_TRIES or self.retry or self.password is not None or item.origin == "upload":
            return None
        return f"{failure.reason} (tried {failure.tries} times; again when it changes, or with --retry)"

    def read_all(self, items: Sequence[Item]) -> Generator[tuple[Item, Read | Failed]]:
        """Hash and parse ahead of the consumer, a few files a worker; results in the order of the items."""
        from ingest.sandbox import ParserPool  # a run that parses nothing starts no processes

        workers = min(self.settings.workers or os.cpu_count() or 1, len(items))
        with (
            ThreadPoolExecutor(workers, thread_name_prefix="parse") as threads,
            # Left first: its processes end, and with them whatever the threads still wait for.
            ParserPool(workers, self.settings.parse_timeout_s, self.settings.parse_memory_mb) as pool,
        ):
            ahead: deque[tuple[Item, Future[Read | Failed]]] = deque()
            rest = iter(items)
            try:
                while True:
                    while len(ahead) < 4 * workers and (item := next(rest, None)) is not None:
                        ahead.append((item, threads.submit(self.read, item, pool.parse)))
                    if not ahead:
                        return
                    item, future = ahead.popleft()
                    yield item, future.result()
            finally:
                for _, future in ahead:
                    future.cancel()

    def only(self, item: Item) -> Lookout:
        """What has to be known to read this one item: small enough to be sent along with it."""
        path = item.path
        return replace(
            self,
            known={path: self.known[path]} if path in self.known else {},
            failures={path: self.failures[path]} if path in self.failures else {},
        )

    def read(self, item: Item, parse_file: Callable[..., Document]) -> Read | Failed:
        """Hash, and parse where the hash is new. Runs in a thread, with a parser process behind it."""
        if item.remote and item.size > self.settings.max_file_mb * MIB:
            return Failed(
                f"{item.path}: {item.size / MIB:,.1f} MiB is over the limit of "
                f"{self.settings.max_file_mb:,} MiB (setting max_file_mb)."
            )
        try:
            with item.opened(self.settings.max_file_mb * MIB) as file:
                return self._read(item, file, parse_file)
        except RemoteError as error:
            return Failed(str(error))

    def _read(self, item: Item, file: Path, parse_file: Callable[..., Document]) -> Read | Failed:
        most = self.settings.max_file_mb * MIB
        source = None
        try:
            # A file beyond the limit is not read to be hashed: the parser refuses it by its size.
            content_hash = _hash(file) if item.size <= most else ""
            recipe = recipe_of(item.called, self.settings, self.embedder_id)
            settled = item.mtime_ns and time.time_ns() - item.mtime_ns > _TIME_IS_SETTLED_NS
            mtime_ns = item.mtime_ns if settled else 0
            source = Source(item.path, content_hash, recipe, item.size, mtime_ns, item.origin)
            known, failure = self.known.get(item.path), self.failures.get(item.path)
            if known and (known.content_hash, known.recipe) == (content_hash, recipe):
                return Read(source, None)
            tried = (content_hash, parse.recipe(item.called, self.settings.ocr))
            if failure and (failure.source.content_hash, failure.source.recipe) == tried:
                reason = self._reason(item, failure)
                if reason is not None:
                    return Failed(reason)
            name = PurePosixPath(item.called).name
            document = parse_file(
                file, name=name, password=self.password, max_bytes=most, ocr=self.settings.ocr
            )
            return Read(source, document)
        except IngestError as error:
            return Failed(str(error), source)
        except OSError as error:
            return Failed(
                f"{item.path} cannot be read: {error.strerror or error}. "
                "Check that it is there, and its permissions."
            )


def _is_same(source: Source, item: Item, recipe: str) -> bool:
    same = (source.size, source.mtime_ns, source.recipe) == (item.size, item.mtime_ns, recipe)
    return same and bool(item.mtime_ns)


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
