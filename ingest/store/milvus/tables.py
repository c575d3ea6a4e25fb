"""The Milvus collections of one knowledge base, and its rows.

`lorebase_HASH_records` holds everything that is not searched: the state, an entry a document, the texts in
pieces, failures, claims of writers, vectors of a rebuild. `lorebase_HASH_pN` holds the passages, with their
vectors and words; it is made when the embedder is known and made anew for another one. HASH is of the
knowledge base's name, which Milvus would not take as it is.

The words of a passage stand there twice. `terms` are those of `ingest.words`, with a space around each, for
phrases and beginnings. `codes` are the same, each as a short hash of letters and digits, which is what Milvus
counts for BM25: no tokenizer of its own cuts them otherwise than we did, so it needs none for Chinese.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from ingest import words
from ingest.errors import IndexDamaged, IngestError
from ingest.store import Vectors
from ingest.store.milvus.address import INDEXES
from ingest.store.milvus.server import Row, Server
from ingest.store.rows import embedding_key
from ingest.store.schema import checksum
from ingest.types import Chunk, Hit, StoredDocument

PREFIX, RECORDS = "lorebase_", "_records"
#: Bytes of a text field that Milvus takes.
LONGEST = 65_535
_PIECE = 16_000  #: characters of a text in one row: at most 64,000 bytes

RECORD_FIELDS = ("key", "kind", "version", "born", "part", "name", "document", "body", "checksum")
PASSAGE_FIELDS = (
    "row",
    "chunk_id",
    "document",
    "version",
    "position",
    "char_start",
    "char_end",
    "page_first",
    "page_last",
    "rest",
    "key",
    "text",
    "terms",
    "checksum",
)


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """Where one is: the server, and the name of its records there."""

    server: Server
    records: str


def stem(name: str) -> str:
    """What the names of a knowledge base's Milvus collections begin with."""
    return PREFIX + blake2b(name.encode(), digest_size=10).hexdigest()


def path_key(path: str) -> str:
    """What a path is looked up by: no character of it can be syntax."""
    return blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def make_records(server: Server, name: str) -> None:
    """Make the records of a knowledge base."""
    import pymilvus

    text = pymilvus.DataType.VARCHAR
    whole = pymilvus.DataType.INT64
    schema = pymilvus.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", text, is_primary=True, max_length=200)
    for field in ("kind", "name", "document", "checksum"):
        schema.add_field(field, text, max_length=200)
    for field in ("version", "born", "part"):
        schema.add_field(field, whole)
    schema.add_field("body", text, max_length=LONGEST)
    schema.add_field("unused", pymilvus.DataType.FLOAT_VECTOR, dim=2)  # Milvus has no table without a vector
    indexes = pymilvus.MilvusClient.prepare_index_params()
    indexes.add_index("unused", index_type="FLAT", metric_type="L2")
    _create(server, name, schema, indexes)


def make_passages(server: Server, name: str, dimension: int) -> None:
    """Make the passages of a knowledge base, for vectors of this dimension."""
    import pymilvus

    text, whole = pymilvus.DataType.VARCHAR, pymilvus.DataType.INT64
    schema = pymilvus.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("row", whole, is_primary=True)
    for field in ("chunk_id", "version", "born", "position"):
        schema.add_field(field, whole)
    for field in ("char_start", "char_end", "page_first", "page_last"):
        schema.add_field(field, whole)
    for field in ("document", "key", "checksum"):
        schema.add_field(field, text, max_length=200)
    for field in ("text", "rest", "terms"):
        schema.add_field(field, text, max_length=LONGEST)
    schema.add_field(
        "codes",
        text,
        max_length=LONGEST,
        enable_analyzer=True,
        enable_match=True,
        analyzer_params={"tokenizer": "standard"},
    )
    schema.add_field("facts", pymilvus.DataType.JSON)
    schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=dimension)
    schema.add_field("sparse", pymilvus.DataType.SPARSE_FLOAT_VECTOR)
    bm25 = pymilvus.Function(
        name="bm25",
        function_type=pymilvus.FunctionType.BM25,
        input_field_names=["codes"],
        output_field_names=["sparse"],
    )
    schema.add_function(bm25)
    indexes = pymilvus.MilvusClient.prepare_index_params()
    index = INDEXES[server.address.index]
    shape = {"M": 32, "efConstruction": 256} if index == "HNSW" else {}
    indexes.add_index(
        "vector", index_type=index, metric_type="IP", params=shape
    )  # of unit length: the cosine
    indexes.add_index(
        "sparse",
        index_type="SPARSE_INVERTED_INDEX",
        metric_type="BM25",
        params={"bm25_k1": 1.2, "bm25_b": 0.75},
    )
    _create(server, name, schema, indexes)


def _create(server: Server, name: str, schema: Any, indexes: Any) -> None:
    """Make a Milvus collection, unless an earlier try that seemed to fail has made it."""
    if server.call("has_collection", name):
        return
    server.call("create_collection", name, schema=schema, index_params=indexes, consistency_level="Strong")


def record(
    key: str,
    kind: str,
    body: str,
    *,
    version: int = 0,
    born: int = 0,
    part: int = 0,
    path: str = "",
    document: str = "",
) -> Row:
    """One row of the records. Raises IngestError where it is longer than Milvus takes."""
    if len(body.encode()) > LONGEST:
        raise IngestError(
            f"What is known about {path!r} beside its text takes {len(body.encode()):,} bytes; Milvus keeps "
            f"at most {LONGEST:,} in one field."
        )
    name = path_key(path) if path else ""
    return {
        "key": key,
        "kind": kind,
        "version": version,
        "born": born,
        "part": part,
        "name": name,
        "document": document,
        "body": body,
        "checksum": checksum(key, kind, version, part, name, document, body).hex(),
        "unused": [0.0, 1.0],
    }


def body_of(row: Row) -> str:
    """What a record says. Raises IndexDamaged where it is not what was written."""
    fields = (row["key"], row["kind"], row["version"], row["part"], row["name"], row["document"], row["body"])
    if checksum(*fields).hex() != row["checksum"]:
        raise damaged(f"the record {row['key']!r} does not match its checksum")
    return str(row["body"])


def damaged(what: object) -> IndexDamaged:
    """The error for rows in Milvus that are not what was written."""
    return IndexDamaged(
        f"The collection in Milvus is damaged: {what}. `python -m ingest verify` lists what is wrong; import "
        "an export, or delete the collection and ingest again."
    )


def pieces(text: str) -> list[str]:
    """A text cut to rows; an empty one is one row."""
    return [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)] or [""]


def code(term: str) -> str:
    """A term as Milvus counts it."""
    return "t" + blake2b(term.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def spaced(terms: Iterable[str]) -> str:
    """Terms with a space on each side of each, in a form without syntax, for `like`."""
    return plain(f" {' '.join(terms)} ")


_EXCHANGED = str.maketrans({"%": "\ue000", "_": "\ue001", "\\": "\ue002", '"': "\ue003", "'": "\ue004"})


def plain(text: str) -> str:
    """A text in which no character is syntax of a Milvus expression."""
    return text.translate(_EXCHANGED)


def passage(
    chunk: Chunk,
    title: str,
    vector: Vectors,
    *,
    row: int,
    chunk_id: int,
    document: str,
    version: int,
    born: int,
    facts: Row,
) -> Row:
    """One row of the passages. Raises IngestError where it is longer than Milvus takes."""
    found = words.indexed(chunk.embedding_text(title))
    rest = json.dumps([chunk.heading_path, chunk.tokens, chunk.prefix], ensure_ascii=False)
    made: Row = {
        "row": row,
        "chunk_id": chunk_id,
        "document": document,
        "version": version,
        "born": born,
        "position": chunk.position,
        "char_start": chunk.char_start,
        "char_end": chunk.char_end,
        "page_first": chunk.page_first or 0,
        "page_last": chunk.page_last or 0,
        "rest": rest,
        "key": embedding_key(chunk, title).hex(),
        "text": chunk.text,
        "terms": spaced(found),
        "codes": " ".join(map(code, found)),
        "facts": facts,
        "vector": np.ascontiguousarray(vector, np.float32),
    }
    for field in ("text", "rest", "terms", "codes"):
        if (size := len(made[field].encode())) > LONGEST:
            raise IngestError(
                f"Passage {chunk.position} takes {size:,} bytes as {field!r}; Milvus keeps at most "
                f"{LONGEST:,} in one field. Cut into smaller passages (--chunking)."
            )
    made["checksum"] = _sum_of(made)
    return made


def _sum_of(row: Row) -> str:
    fields = [row[name] for name in PASSAGE_FIELDS if name != "checksum"]
    return checksum(*fields, np.asarray(row["vector"], "<f4").tobytes()).hex()


def check_passage(row: Row) -> Row:
    """The row, if it is what was written. Raises IndexDamaged. It has to have its vector."""
    if _sum_of(row) != row["checksum"]:
        raise damaged(f"passage {row['chunk_id']} does not match its checksum")
    return row


def length(row: Row) -> int:
    """How many terms a passage has."""
    return len(row["terms"].split())


def chunk_of(row: Row) -> Chunk:
    """The passage that a row holds."""
    headings, tokens, prefix = json.loads(row["rest"])
    return Chunk(
        row["position"],
        row["text"],
        row["char_start"],
        row["char_end"],
        row["page_first"] or None,
        row["page_last"] or None,
        tuple(headings),
        tokens,
        prefix,
    )


def hit_of(row: Row, document: StoredDocument) -> Hit:
    """A hit without scores."""
    return Hit.of(document, chunk_of(row), row["chunk_id"])


def listed(values: Sequence[int | str]) -> str:
    """`[1, 2]` or `["a"]`, as an expression has it; texts are ours, hexadecimal."""
    return json.dumps(list(values))
