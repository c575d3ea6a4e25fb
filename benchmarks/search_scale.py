"""Search in large collections: how fast, how right, how much memory, and what one more document costs.

    python -m benchmarks.search_scale [--sizes 10000 100000 1000000] [--folder DIR] [--questions 300]
                                      [--files 10000] [--json FILE]

Vectors are synthetic (clusters on the unit sphere, as wide as they are far apart), texts are real: sentences of the
SQuAD passages in LOREBASE_DATA where it is there, of docs/ else, no two passages alike. The question's own embedding is
left out: it costs the same at every size. A collection is filled once; with --folder it is kept, and a run that was
stopped goes on where it was. Each figure is taken in a process of its own, so that memory is the search's alone.

Claims: recall@10 of the approximate index >= 0.98 of exact search; hybrid p50 under 60 ms at 100,000 passages; one more
document in a million under a second, searchable; `status` and `list` under a second; 10,000 unchanged files under 5
seconds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure import memory_mb
from ingest.pipeline import ingest_path
from ingest.search import Searcher
from ingest.settings import IngestSettings
from ingest.store import Source, Vectors
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Chunk, Document, Section

DIMENSION = 384
PASSAGES = 100  # a document
CLUSTERS = 4000
SPREAD = 1.0  # length of what a vector has beside its cluster's centre
DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))


class Drawn:
    """An embedder whose vectors are drawn: by number for passages, at random for questions."""

    id, name, dimension, max_tokens = "drawn:384", "drawn", DIMENSION, 256

    def __init__(self) -> None:
        centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIMENSION)).astype(np.float32)
        self._centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
        self._questions = np.random.default_rng(1)

    def draw(self, rng: np.random.Generator, count: int) -> Vectors:
        """Vectors near a cluster's centre each, (count, d), unit."""
        noise = rng.standard_normal((count, DIMENSION), dtype=np.float32)
        noise *= SPREAD / np.linalg.norm(noise, axis=1, keepdims=True)
        vectors = self._centres[rng.integers(0, CLUSTERS, count)] + noise
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def count_tokens(self, texts: list[str]) -> list[int]:
        """About four letters a token."""
        return [len(text) // 4 + 2 for text in texts]

    def encode_passages(self, texts: list[str]) -> Vectors:
        """Some vectors; equal texts may have different ones."""
        return self.draw(np.random.default_rng(len(texts[0]) if texts else 0), len(texts))

    def encode_queries(self, texts: list[str]) -> Vectors:
        """Questions near the centres, too."""
        return self.draw(self._questions, len(texts))


def sentences() -> list[str]:
    corpus = DATA / "retrieval" / "squad_a" / "corpus.jsonl.gz"
    if corpus.exists():
        with gzip.open(corpus, "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines]
    else:
        texts = [p.read_text(encoding="utf-8") for p in sorted(Path("docs").glob("*.md"))]
    return [s.strip() for text in texts for s in text.replace("\n", " ").split(". ") if len(s) > 40]


def questions(count: int) -> list[str]:
    asked = DATA / "retrieval" / "squad_a" / "queries.jsonl.gz"
    if asked.exists():
        with gzip.open(asked, "rt", encoding="utf-8") as lines:
            found = [json.loads(line)["text"] for line in lines]
    else:
        found = [" ".join(s.split()[:8]) for s in sentences()]
    return random.Random(2).choices(found, k=count)


def documents(upto: int, start: int) -> Iterator[tuple[int, Document, list[Chunk]]]:
    """Documents of 100 passages, each of four sentences in an order of its own."""
    pool = sentences()
    for number in range(start, upto):
        draw = random.Random(number)
        pieces = [f"{number}-{n}: {'. '.join(draw.sample(pool, 4))}.\n" for n in range(PASSAGES)]
        text, at, chunks = "".join(pieces), 0, []
        for n, piece in enumerate(pieces):
            chunks.append(Chunk(n, piece, at, at + len(piece), None, None, (), len(piece) // 4))
            at += len(piece)
        yield number, Document(text, f"Document {number}", (Section((), 0, len(text)),)), chunks


def put(
    store: SqliteFaissStore, number: int, document: Document, chunks: list[Chunk], embedder: Drawn
) -> None:
    vectors = embedder.draw(np.random.default_rng(number + 10), len(chunks))
    source = Source(f"made/{number:06}.txt", f"sha256:{number}", "made", len(document.text))
    store.replace_document(source, document, chunks, vectors)


def fill(folder: Path, size: int) -> dict[str, float]:
    """Bring a collection to its size; what is there already is not made again."""
    embedder, start = Drawn(), time.perf_counter()
    with SqliteFaissStore.open(folder, create=True) as store:
        store.bind(embedder.id, embedder.name, embedder.dimension)
        there = store.status().documents
        for number, document, chunks in documents(size // PASSAGES, there):
            put(store, number, document, chunks, embedder)
            if number % 500 == 499:
                print(
                    f"  {(number + 1) * PASSAGES} passages, {time.perf_counter() - start:.0f} s", flush=True
                )
        filled = time.perf_counter() - start
        start = time.perf_counter()
        made = store.compact()
        figures = {"filled": size - there * PASSAGES, "fill_s": filled, "bytes": store.status().bytes_on_disk}
        return figures | (
            {"index_s": time.perf_counter() - start, "index_peak_mb": memory_mb()} if made else {}
        )


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {
        "p50_ms": float(np.percentile(seconds, 50) * 1000),
        "p99_ms": float(np.percentile(seconds, 99) * 1000),
    }


def search(folder: Path, count: int) -> dict[str, object]:
    """Time and memory of searches, after the first one has loaded the index."""
    embedder, asked = Drawn(), questions(count)
    figures: dict[str, object] = {}
    with SqliteFaissStore.open(folder) as store:
        searcher = Searcher(store, embedder)  # type: ignore[arg-type]
        before, start = memory_mb("VmRSS"), time.perf_counter()
        searcher.search(asked[0], 10)
        figures["first_search_s"] = time.perf_counter() - start
        for mode in ("dense", "keyword", "hybrid"):
            seconds = []
            for question in asked:
                seconds.append(searcher.search(question, 10, mode).search_ms / 1000)  # type: ignore[arg-type]
            figures[mode] = percentiles(seconds)
        figures["memory_mb"] = memory_mb("VmRSS") - before
        with store.reading() as reader:
            manifest = reader.snapshot()
        if manifest is not None:
            figures["index"] = {k: getattr(manifest, k) for k in ("lists", "probes", "recall", "size")}
        for name, call in (("status_s", store.status), ("list_s", store.documents)):
            start = time.perf_counter()
            call()
            figures[name] = time.perf_counter() - start
    return figures


def recall(folder: Path, count: int) -> dict[str, object]:
    """Share of the true ten nearest that searches find; the truth from the vectors in the tables."""
    queries = Drawn().draw(np.random.default_rng(3), count)
    best = np.full((count, 10), -np.inf, np.float32)
    with SqliteFaissStore.open(folder) as store, store.reading() as reader:
        for _, matrix in reader.blocks():
            best = np.sort(np.concatenate([best, queries @ matrix.T], axis=1), axis=1)[:, -10:]
        found = [[m.score for m in reader.nearest(query, 10)] for query in queries]
    hits = [sum(s >= tenth - 1e-6 for s in scores) for scores, tenth in zip(found, best[:, 0], strict=True)]
    return {"recall_at_10": sum(hits) / (10 * count)}


def add(folder: Path, _: int) -> dict[str, object]:
    """One document of 100 passages more, and the first search that has to find it; then it is taken away."""
    embedder, seconds, searchable = Drawn(), [], []
    with SqliteFaissStore.open(folder) as store:
        searcher = Searcher(store, embedder)  # type: ignore[arg-type]
        searcher.search("warm", 10)
        for number, document, chunks in documents(10_000_010, 10_000_000):
            start = time.perf_counter()
            put(store, number, document, chunks, embedder)
            seconds.append(time.perf_counter() - start)
            searcher.search(chunks[0].text[:60], 10)
            searchable.append(time.perf_counter() - start)
        store.forget([f"made/{number:06}.txt" for number in range(10_000_000, 10_000_010)])
    return {
        "stored_s": float(np.median(seconds)),
        "searchable_s": float(np.median(searchable)),
        "worst_s": max(searchable),
    }


def unchanged(folder: Path, files: int) -> dict[str, object]:
    """A second ingest of a folder in which nothing has changed."""
    notes = folder.parent / "notes"
    notes.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        note = notes / f"note{i:05}.txt"
        if not note.exists():
            note.write_text(f"Note {i}: the code of shelf {i} is {i * 7919 % 100003}.\n", encoding="utf-8")
            os.utime(note, (1_700_000_000, 1_700_000_000))  # old enough for its time to be trusted
    times, embedder, settings = [], Drawn(), IngestSettings()  # type: ignore[call-arg]
    with SqliteFaissStore.open(folder, create=True) as store:
        for _ in range(2):
            start = time.perf_counter()
            report = ingest_path([notes], store, embedder, settings, base=notes.parent)  # type: ignore[arg-type]
            times.append(time.perf_counter() - start)
    if report.parsed or report.embedded or report.count("unchanged") != files:
        sys.exit(f"an unchanged file was read again: {report.parsed} parsed, {report.embedded} embedded")
    return {"first_s": times[0], "unchanged_s": times[1], "files": files}


PARTS = {"fill": fill, "search": search, "recall": recall, "add": add, "unchanged": unchanged}


def in_process(part: str, folder: Path, number: int) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.search_scale", "--part", part, str(folder), str(number)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = done.stdout.splitlines()
    for line in lines[:-1]:
        print(line, flush=True)
    result: dict[str, object] = json.loads(lines[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument(
        "--folder", type=Path, help="keep the collections here, and go on with those there are"
    )
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", nargs=3, metavar=("NAME", "FOLDER", "NUMBER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        name, folder, number = args.part
        print(json.dumps(PARTS[name](Path(folder), int(number))))
        return
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = args.folder or Path(scratch)
        for size in args.sizes:
            folder = root / f"{size}" / "collections" / "made"
            result = {"fill": in_process("fill", folder, size)}
            for part in ("search", "recall", "add"):
                result[part] = in_process(part, folder, args.questions)
            results[str(size)] = result
            print(f"{size} passages: {json.dumps(result)}", flush=True)
            if result["recall"]["recall_at_10"] < 0.98:
                sys.exit("recall@10 is below 0.98")
        if args.files:
            home = root / "files" / ".lorebase" / "collections" / "notes"
            results["unchanged"] = in_process("unchanged", home, args.files)
            print(f"unchanged: {json.dumps(results['unchanged'])}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
