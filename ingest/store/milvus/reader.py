"""Reading one generation of a collection in Milvus: what `MilvusStore.reading()` hands out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ingest.errors import IndexMismatch, UnknownDocument
from ingest.fields import document_facts
from ingest.filters import Filter, fits
from ingest.store import Match, Source, Vectors
from ingest.store.milvus import expressions, tables
from ingest.store.milvus.keywords import Words
from ingest.store.milvus.server import Row
from ingest.store.milvus.state import Entry, State, parsed, read_entry
from ingest.types import Chunk, Document, Hit, StoredDocument
from ingest.words import Exact

_FIELDS = [*tables.PASSAGE_FIELDS, "vector"]
_MOST = 16_384  #: rows that Milvus returns at once
_SPARE = 16  #: so that equal scores at the border are seen
_PARTS, _BATCH = 200, 500


class MilvusReader:
    """One generation, whatever is written meanwhile."""

    def __init__(self, kb: tables.KnowledgeBase, state: State) -> None:
        self._server = kb.server
        self._records = kb.records
        self.state = state
        self.generation = state.generation
        self.chunk_count = state.chunks
        self.embedder_id = state.embedder_id
        self.dimension = state.dimension
        self.chunking = state.chunking
        self._seen: dict[int, Row] = {}
        self._entries: dict[int, Entry] = {}
        self._words: Words | None = None

    # Searching

    def nearest(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Match]:
        """See `Reader`."""
        if not self._fits(vector):
            return []
        condition = self._visible(where)
        limit = min(k + _SPARE, _MOST)
        while True:
            rows = self._search("vector", np.ascontiguousarray(vector, np.float32), condition, limit, "IP")
            scores = _cosines(rows, vector)
            found = sorted(zip((-s for s in scores), (row["chunk_id"] for row in rows), strict=True))
            whole = len(rows) < limit or limit == _MOST
            if whole or -found[k - 1][0] - min(scores) > 1e-5:
                return [Match(chunk_id, -score) for score, chunk_id in found[:k]]
            limit = min(2 * limit, _MOST)  # equal scores at the border

    def cosines(self, vector: Vectors, chunk_ids: Sequence[int]) -> list[float]:
        """See `Reader`."""
        if not self._fits(vector) or not chunk_ids:
            return []
        return _cosines(self._passages(chunk_ids), vector)

    def matching(
        self,
        terms: Sequence[str],
        k: int,
        where: Filter | None = None,
        exact: Sequence[Exact] = (),
        *,
        required: bool = False,
    ) -> list[Match]:
        """See `Reader`."""
        if not self.chunk_count:
            return []

        def found(codes: str, condition: str, limit: int) -> list[Row]:
            return self._search("sparse", codes, _both(self.state.visible, condition), limit, "BM25")

        def read(condition: str, limit: int) -> list[Row]:
            passing = _both(self.state.visible, condition)
            rows = self._server.call("query", self._table, filter=passing, output_fields=_FIELDS, limit=limit)
            return self._keep(rows)

        asked = None if where is None else expressions.among(where)
        return self._vocabulary().matching(
            terms, k, where=asked, exact=exact, required=required, find=found, read=read
        )

    def information(self, terms: Sequence[str | Exact]) -> list[float]:
        """See `Reader`."""
        return self._vocabulary().information(terms) if self.chunk_count else [0.0] * len(terms)

    def hits(self, chunk_ids: Sequence[int]) -> dict[int, Hit]:
        """See `Reader`. Raises IndexDamaged for a passage that is not there."""
        rows = self._passages(chunk_ids)
        entries = self._entries_of({row["version"] for row in rows})
        return {row["chunk_id"]: tables.hit_of(row, entries[row["version"]].document) for row in rows}

    def confirm(self, where: Filter, document_ids: Iterable[str]) -> None:
        """See `Reader`."""
        for document_id in dict.fromkeys(document_ids):
            document = self.document(document_id)
            if not fits(where, document_facts(document)):
                raise tables.damaged(f"what filters compare is not what is known about {document.path!r}")

    # Documents

    def entries(self) -> list[Entry]:
        """All documents, by path. Raises IndexDamaged where some are missing."""
        rows = self._server.rows(
            self._records, f'kind == "document" and {self.state.visible}', tables.RECORD_FIELDS
        )
        found = sorted(map(read_entry, rows), key=lambda entry: entry.source.path)
        if len(found) != self.state.documents:
            raise tables.damaged(f"{len(found)} documents, should be {self.state.documents}")
        return found

    def documents(self, where: Filter | None = None) -> list[StoredDocument]:
        """See `Store`."""
        # What filters compare stands beside passages, and a document may have none.
        found = [entry.document for entry in self.entries()]
        return found if where is None else [d for d in found if fits(where, document_facts(d))]

    def sources(self) -> dict[str, Source]:
        """See `Store`."""
        return {entry.source.path: entry.source for entry in self.entries()}

    def find(self, key: str) -> Entry | None:
        """The entry of the document of this id or path; the id goes first."""
        known = next((e for e in self._entries.values() if e.document.document_id == key), None)
        if known is not None:
            return known
        name = tables.path_key(key)
        also = f' or document == "{key}"' if len(key) <= 64 and key.isascii() and key.isalnum() else ""
        asked = f'kind == "document" and (name == "{name}"{also}) and {self.state.visible}'
        rows = list(self._server.rows(self._records, asked, tables.RECORD_FIELDS))
        found = sorted(map(read_entry, rows), key=lambda e: e.document.document_id != key)
        self._entries |= {entry.version: entry for entry in found}
        return found[0] if found else None

    def at(self, paths: Iterable[str]) -> dict[str, Entry]:
        """The entries of the documents of these paths, those that there are, in this order."""
        names = {tables.path_key(path): path for path in paths}
        found: dict[str, Entry] = {}
        wanted = list(names)
        for start in range(0, len(wanted), _BATCH):
            some = tables.listed(wanted[start : start + _BATCH])
            asked = f'kind == "document" and name in {some} and {self.state.visible}'
            rows = self._server.rows(self._records, asked, tables.RECORD_FIELDS)
            found |= {entry.source.path: entry for entry in map(read_entry, rows)}
        self._entries |= {entry.version: entry for entry in found.values()}
        return {path: found[path] for path in names.values() if path in found}

    def entry(self, key: str) -> Entry:
        """The entry of the document of this id or path. Raises UnknownDocument."""
        found = self.find(key)
        if found is None:
            raise UnknownDocument(
                f"Collection {self.state.name!r} has no document {key[:300]!r}. "
                "`python -m ingest list` shows their paths."
            )
        return found

    def document(self, key: str) -> StoredDocument:
        """See `Store`."""
        return self.entry(key).document

    def parsed(self, key: str) -> Document:
        """See `Store`."""
        entry = self.entry(key)
        parts: dict[int, str] = {}
        for start in range(0, entry.parts, _PARTS):
            asked = (
                f'kind == "text" and version == {entry.text} and part >= {start} and part < {start + _PARTS}'
            )
            rows = self._server.rows(self._records, asked, tables.RECORD_FIELDS)
            parts |= {row["part"]: tables.body_of(row) for row in rows}
        if sorted(parts) != list(range(entry.parts)):
            raise tables.damaged(f"the text of {entry.source.path!r} is missing")
        return parsed("".join(parts[n] for n in range(entry.parts)), entry.document)

    def rows_of(self, entry: Entry) -> list[Row]:
        """A document's passages in order, with their vectors. Raises IndexDamaged."""
        if not entry.document.chunks:
            return []
        found = [*self._server.rows(self._table, f"version == {entry.version}", _FIELDS)]
        rows = sorted(map(tables.check_passage, found), key=lambda row: row["position"])
        if [row["position"] for row in rows] != list(range(entry.document.chunks)):
            raise tables.damaged(f"the passages of {entry.source.path!r} are not all there")
        return rows

    def facts_of(self, entry: Entry) -> list[Row]:
        """What stands beside a document's passages for filters, and their words as Milvus counts them."""
        return [*self._server.rows(self._table, f"version == {entry.version}", ["row", "facts", "codes"])]

    def chunks(self, key: str) -> tuple[Chunk, ...]:
        """See `Store`."""
        return tuple(map(tables.chunk_of, self.rows_of(self.entry(key))))

    def known_vectors(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Vectors of passages with these embedding keys."""
        found: dict[bytes, Vectors] = {}
        for start in range(0, len(keys) if self.state.passages else 0, _BATCH):
            wanted = tables.listed([key.hex() for key in keys[start : start + _BATCH]])
            for row in self._server.rows(self._table, f"key in {wanted} and {self.state.visible}", _FIELDS):
                tables.check_passage(row)
                found[bytes.fromhex(row["key"])] = np.asarray(row["vector"], np.float32)
        return found

    # Rows

    @property
    def _table(self) -> str:
        if self.state.passages is None:
            raise tables.damaged("there are passages and nothing that holds them")
        return self.state.passages

    def _fits(self, vector: Vectors) -> bool:
        """Whether there is anything to compare with. Raises IndexMismatch."""
        if self.dimension is not None and vector.shape != (self.dimension,):
            raise IndexMismatch(
                f"The collection {self.state.name!r} holds vectors of {self.dimension} dimensions, the "
                f"question has {vector.shape}. `python -m ingest rebuild --embedder NAME` moves it to "
                "another embedder."
            )
        return bool(self.chunk_count)

    def _visible(self, where: Filter | None) -> str:
        return _both(self.state.visible, "" if where is None else expressions.among(where))

    def _vocabulary(self) -> Words:
        if self._words is None:
            self._words = Words(
                self._server,
                self._table,
                self.state.visible,
                passages=self.state.chunks,
                words=self.state.words,
            )
        return self._words

    def _search(self, field: str, asked: object, condition: str, limit: int, metric: str) -> list[Row]:
        found = self._server.call(
            "search",
            self._table,
            [asked],
            anns_field=field,
            filter=condition,
            limit=limit,
            output_fields=_FIELDS,
            search_params={"metric_type": metric},
        )[0]
        return self._keep(hit["entity"] for hit in found)

    def _keep(self, rows: Iterable[Row]) -> list[Row]:
        """The rows, checked and remembered for the questions that follow."""
        kept = [tables.check_passage(dict(row)) for row in rows]
        self._seen |= {row["chunk_id"]: row for row in kept}
        return kept

    def _passages(self, chunk_ids: Sequence[int]) -> list[Row]:
        """The rows of these passages, in this order. Raises IndexDamaged."""
        unseen = [chunk_id for chunk_id in chunk_ids if chunk_id not in self._seen]
        for start in range(0, len(unseen) if self.chunk_count else 0, _BATCH):
            wanted = tables.listed([int(chunk_id) for chunk_id in unseen[start : start + _BATCH]])
            self._keep(
                self._server.rows(self._table, f"chunk_id in {wanted} and {self.state.visible}", _FIELDS)
            )
        if missing := [chunk_id for chunk_id in chunk_ids if chunk_id not in self._seen]:
            raise tables.damaged(f"passage {missing[0]} does not exist")
        return [self._seen[chunk_id] for chunk_id in chunk_ids]

    def _entries_of(self, versions: set[int]) -> dict[int, Entry]:
        unknown = sorted(versions - set(self._entries))
        for start in range(0, len(unknown), _BATCH):
            asked = f'kind == "document" and version in {tables.listed(unknown[start : start + _BATCH])}'
            rows = self._server.rows(self._records, asked, tables.RECORD_FIELDS)
            self._entries |= {entry.version: entry for entry in map(read_entry, rows)}
        if missing := versions - set(self._entries):
            raise tables.damaged(f"passages of version {min(missing)} belong to no document")
        return self._entries


def _both(visible: str, condition: str) -> str:
    return f"{visible} and ({condition})" if condition else visible


def _cosines(rows: Sequence[Row], vector: Vectors) -> list[float]:
    """Inner products in float64, each summed alone, as in the embedded store."""
    matrix = np.array([row["vector"] for row in rows], np.float32).reshape(len(rows), len(vector))
    return [float(x) for x in (matrix.astype(np.float64) * vector.astype(np.float64)).sum(axis=1)]
