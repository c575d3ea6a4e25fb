"""Whether a store on Milvus finds what exact search finds: top 10 of the same questions, beside the embedded store.

    python -m benchmarks.milvus [PASSAGES [QUESTIONS]]

Passages are made of random words, so every question has many near neighbours; vectors are those of a hash
embedder of 384 dimensions. The Milvus is a Lite file with a flat index. Counted are questions whose ten hits
are the same passages in the same order, in each mode. Needs the extra `milvus` and `milvus-lite`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ingest.search import Searcher
from ingest.store import Source
from ingest.store.milvus.address import parse
from ingest.store.milvus.changes import Put
from ingest.store.milvus.store import MilvusStore
from ingest.store.rows import document_id
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Chunk, Document, Section
from tests.fakes import HashEmbedder

WORDS, A_PASSAGE, A_DOCUMENT = 5000, 30, 200


def main(passages: int = 100_000, asked: int = 50) -> None:
    random = np.random.default_rng(20261122)
    embedder = HashEmbedder(384)
    weights = 1.0 / np.arange(1, WORDS + 1)
    words = np.array([f"word{n}" for n in range(WORDS)])

    def sentence(length: int) -> str:
        return " ".join(random.choice(words, size=length, p=weights / weights.sum()))

    with tempfile.TemporaryDirectory() as folder:
        embedded = SqliteFaissStore.open(
            Path(folder, "collections", "b"), create=True, approximate_from=10**9
        )
        milvus = MilvusStore.open(
            parse(f"milvus+file://{folder}/b.db?timeout_s=600"),
            "b",
            Path(folder, "m", "b"),
            create=True,
        )
        puts = []
        for store in (embedded, milvus):
            store.bind(embedder.id, embedder.name, embedder.dimension)
        start = time.perf_counter()
        for number in range(passages // A_DOCUMENT):
            texts = [sentence(A_PASSAGE) for _ in range(A_DOCUMENT)]
            text, chunks, at = "\n".join(texts), [], 0
            for position, part in enumerate(texts):
                chunks.append(Chunk(position, part, at, at + len(part), None, None, (), A_PASSAGE))
                at += len(part) + 1
            document = Document(text=text, title="", sections=(Section((), 0, len(text)),))
            source = Source(f"{number}", f"sha256:{number}", "r")
            vectors = embedder.encode_passages(texts)
            embedded.replace_document(source, document, chunks, vectors)
            puts.append(Put(document_id("b", source.path), source, document, chunks, vectors, {}))
        print(f"embedded store filled: {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        milvus.take_over(puts)
        print(f"Milvus Lite filled: {time.perf_counter() - start:.0f} s")
        questions = [sentence(5) for _ in range(asked)]
        for mode in ("dense", "keyword", "hybrid"):
            found, took = [], []
            for store in (embedded, milvus):
                searcher = Searcher(store, embedder)
                searcher.search(questions[0], 10, mode)  # type: ignore[arg-type]
                start = time.perf_counter()
                found.append([searcher.search(q, 10, mode).hits for q in questions])  # type: ignore[arg-type]
                took.append((time.perf_counter() - start) / asked * 1000)
            same = sum(
                [h.chunk_id for h in a] == [h.chunk_id for h in b] for a, b in zip(*found, strict=True)
            )
            print(
                f"{mode}: {same} of {asked} questions have the same ten hits in the same order; "
                f"{took[0]:.0f} and {took[1]:.0f} ms a question"
            )
        milvus.close()
        embedded.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
