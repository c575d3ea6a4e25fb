"""Fakes of the service: a generator that plays a script, and a library in memory."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ingest.collections import checked_name
from ingest.errors import UnknownCollection, UnknownDocument
from ingest.fields import SCRIPT, document_facts, merged
from ingest.filters import Filter, fits
from ingest.scripts import scripts
from ingest.settings import IngestSettings, chunked, chunking_of
from ingest.types import Chunk, FileReport, Hit, SearchResult, StoredDocument, Value
from ingest.words import terms
from model.config import Sampling
from model.errors import Cancelled
from service.answer import Source
from service.errors import InvalidRequest, NameTaken, NoOriginal
from service.generators import Capability, Message, Piece
from service.library import CollectionInfo, Upload
from tests.fakes import HashEmbedder


class ScriptedGenerator:
    """Plays a reply, given or made from the messages, in pieces of one word; notes what it was asked."""

    def __init__(
        self,
        reply: str | Callable[[Sequence[Message]], str] = "The tower is 330 metres tall.",
        *,
        name: str = "scripted",
        context_tokens: int = 2048,
        writes_cjk: bool = False,
        delay_s: float = 0.0,
        finish_reason: Literal["stop", "length"] = "stop",
    ) -> None:
        self.reply = reply
        self.name = name
        self.context_tokens = context_tokens
        self.writes_cjk = writes_cjk
        self.focus_sentences = 0
        self.delay_s = delay_s
        self.finish_reason = finish_reason
        self.asked: list[list[Message]] = []
        self.gate: threading.Event | None = (
            None  #: where set, each piece waits for it or for the cancellation
        )
        self.ignores_cancel = False
        self.cancelled = 0

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({"stream"})

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(m["content"].split()) + 4 for m in messages)

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, cancel: threading.Event
    ) -> Iterator[Piece]:
        self.asked.append([*messages])
        reply = self.reply if isinstance(self.reply, str) else self.reply(messages)
        pieces = re.findall(r"\s*\S+|\s+$", reply)
        for number, piece in enumerate(pieces):
            while self.gate is not None and not self.gate.wait(0.01):
                if cancel.is_set() and not self.ignores_cancel:
                    break
            if self.delay_s:
                cancel.wait(self.delay_s)
            if cancel.is_set() and not self.ignores_cancel:
                self.cancelled += 1
                raise Cancelled("withdrawn")
            last = number == len(pieces) - 1
            counts = (
                {"prompt_tokens": self.count_tokens(messages), "completion_tokens": len(pieces)}
                if last
                else {}
            )
            yield Piece(piece, self.finish_reason if last else None, **counts)


class MemoryLibrary:
    """A library in memory: paragraphs are passages, the search counts shared words."""

    def __init__(
        self, texts: Mapping[str, str] | None = None, *, default: str = "default", mode: str = "words"
    ) -> None:
        self.default = default
        self.mode = mode
        self.shelves: dict[str, dict[str, str]] = {default: dict(texts)} if texts else {}
        self.generation = 1
        self.made: dict[str, tuple[str, str]] = {}  #: embedder and cut, where they were chosen
        self.own: dict[str, dict[str, Value]] = {}
        self.originals: dict[str, Path] = {}
        self.searched: list[str] = []
        self.embedded: list[str] = []
        self.failure: Exception | None = None  #: raised by everything that looks into a collection
        self.warm_gate: threading.Event | None = None
        self.add_gate: threading.Event | None = None  #: where set, an ingest waits for it
        self.add_failure: Exception | None = None
        self.lock = threading.Lock()
        self.hashes = HashEmbedder(dimension=128)

    def _shelf(self, collection: str) -> dict[str, str]:
        if self.failure is not None:
            raise self.failure
        try:
            return self.shelves[collection]
        except KeyError:
            raise UnknownCollection(f"no collection {collection!r}") from None

    def collections(self) -> list[CollectionInfo]:
        return [self._info(name, shelf) for name, shelf in sorted(self.shelves.items())]

    def collection(self, collection: str) -> CollectionInfo:
        return self._info(collection, self._shelf(collection))

    def failing(self) -> Mapping[str, str]:
        return {}

    def _info(self, collection: str, shelf: dict[str, str]) -> CollectionInfo:
        embedder, chunking = self.made.get(collection, ("words", "224-32"))
        return CollectionInfo(
            collection,
            len(shelf),
            sum(len(list(paragraphs(t))) for t in shelf.values()),
            sum(map(len, shelf.values())),
            self.generation,
            embedder,
            0,
            chunking,
        )

    def create(
        self, collection: str, embedder: str | None = None, chunking: str | None = None
    ) -> CollectionInfo:
        name, cut = checked_name(collection), chunking_of(chunked(IngestSettings(), chunking))
        if embedder is not None and embedder not in self.embedders():
            raise InvalidRequest(f"embedder {embedder!r} is not installed")
        if name in self.shelves:
            raise NameTaken(f"there is a collection {name!r} already")
        self.shelves[name] = {}
        self.made[name] = (embedder or "words", cut)
        return self.collection(name)

    def delete(self, collection: str) -> None:
        self._shelf(collection)
        del self.shelves[collection]

    def export(self, collection: str, target: Path) -> None:
        target.write_text("\n".join(self._shelf(collection)), encoding="utf-8")

    def embedders(self) -> list[str]:
        return ["words", "other-words"]

    def source(self, collection: str) -> Source:
        if collection == self.default and collection not in self.shelves and self.failure is None:
            return Source(None)
        self._shelf(collection)
        return Source(_Words(self, collection), self._similarity)

    def _similarity(self, question: str, texts: Sequence[str]) -> list[float]:
        self.embedded += texts
        asked = set(terms(question))
        return [len(asked & set(terms(t))) / (1 + len(set(terms(t)))) for t in texts]

    def documents(self, collection: str, where: Filter | None = None) -> list[StoredDocument]:
        if collection == self.default and collection not in self.shelves and self.failure is None:
            return []
        found = [self._stored(path, text) for path, text in sorted(self._shelf(collection).items())]
        return [d for d in found if where is None or fits(where, document_facts(d))]

    def annotate(
        self, collection: str, document_id: str, changes: Mapping[str, Value | None]
    ) -> StoredDocument:
        path = self.document(collection, document_id).path
        self.own[path] = merged(self.own.get(path, {}), changes)
        return self.document(collection, path)

    def _stored(self, path: str, text: str) -> StoredDocument:
        count = len(list(paragraphs(text)))
        return StoredDocument(
            document_id(path),
            path,
            path.rsplit("/", 1)[-1],
            "sha256:" + "0" * 64,
            "r1",
            len(text),
            count,
            1 if path.endswith(".pdf") else 0,
            {SCRIPT: ", ".join(scripts(text)).lower()},
            (),
            "2026-01-01T00:00:00Z",
            self.own.get(path, {}),
        )

    def document(self, collection: str, document_id: str) -> StoredDocument:
        for document in self.documents(collection):
            if document_id in (document.document_id, document.path):
                return document
        raise UnknownDocument(f"no document {document_id!r}")

    def original(self, collection: str, document_id: str) -> Path:
        path = self.document(collection, document_id).path
        if path not in self.originals:
            raise NoOriginal(f"the file {path} is no longer where it was read")
        return self.originals[path]

    def page_picture(self, collection: str, document_id: str, page: int) -> Path:
        return self.original(collection, document_id)

    def text(self, collection: str, document_id: str) -> str:
        return self._shelf(collection)[self.document(collection, document_id).path]

    def chunks(self, collection: str, document_id: str) -> list[Chunk]:
        text = self.text(collection, document_id)
        return [
            Chunk(i, text[a:b], a, b, None, None, (), len(text[a:b].split()))
            for i, (a, b) in enumerate(paragraphs(text))
        ]

    def forget(self, collection: str, document_id: str) -> None:
        path = self.document(collection, document_id).path
        with self.lock:
            del self._shelf(collection)[path]
            self.generation += 1

    def add(
        self,
        collection: str,
        uploads: Sequence[Upload],
        on_file: Callable[[FileReport], None],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        if self.add_gate is not None:
            self.add_gate.wait(20)
        if self.add_failure is not None:
            raise self.add_failure
        for upload in (replace(u, path=u.known_by) for u in uploads):
            if cancelled():
                return
            try:
                text = upload.file.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                on_file(FileReport(upload.path, "failed", "not text"))
                continue
            with self.lock:
                shelf = self.shelves.setdefault(collection, {})
                status = "updated" if upload.path in shelf else "added"
                shelf[upload.path] = text
                self.own[upload.path] = merged(self.own.get(upload.path, {}), upload.own or {})
                self.generation += 1
            on_file(FileReport(upload.path, status, "", len(list(paragraphs(text)))))

    def embedder(self) -> HashEmbedder:
        return self.hashes

    def warm(self) -> None:
        if self.warm_gate is not None:
            self.warm_gate.wait(20)
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        pass


class _Words:
    def __init__(self, library: MemoryLibrary, collection: str) -> None:
        self.library, self.collection = library, collection

    def search(self, query: str, k: int, mode: str = "hybrid", where: Filter | None = None) -> SearchResult:
        self.library.searched.append(query)
        allowed = {d.path for d in self.library.documents(self.collection, where)}
        asked = set(terms(query))
        hits: list[Hit] = []
        number = 0
        for path, text in sorted(self.library._shelf(self.collection).items()):
            for position, (start, end) in enumerate(paragraphs(text)):
                number += 1
                shared = len(asked & set(terms(text[start:end]))) / max(1, len(asked))
                hits.append(
                    Hit(
                        number,
                        document_id(path),
                        path,
                        path,
                        position,
                        text[start:end],
                        start,
                        end,
                        1,
                        1,
                        (),
                        shared,
                        0.1 + 0.5 * shared,
                        shared or None,
                    )
                )
        hits = sorted((h for h in hits if h.path in allowed), key=lambda h: -h.score)
        return SearchResult(tuple(hits[:k]), self.library.generation, 0.1)


def document_id(path: str) -> str:
    return "doc-" + path.encode().hex()


def paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Where the paragraphs stand; together they are the text, as chunks are."""
    at = 0
    for piece in re.split(r"(?<=\n\n)(?!\n)", text):
        if piece:
            yield at, at + len(piece)
        at += len(piece)
