"""Ways of cutting whole documents: whether the answer is among the first 1,120 tokens that a search brings.

    python -m benchmarks.chunking [--sets squad_train cmrc2018_trial] [--articles 8] [--questions 150]
                                  [--cuts 96-16 224-0 224-32 448-64 plain-224] [--work DIR]

Passages of different lengths are only comparable at equal cost to who reads them, so each way may bring as many
passages as fit into 1,120 tokens (five of the usual ones). A document is an article: its paragraphs joined by blank
lines, ten one after the other where an article has only one. A question counts where the place of its answer lies in
what was brought. `plain-N` is a plain recursive cut to N tokens, without overlap and without the title, as a point of
comparison. Hybrid search, k by tokens; intervals are 95%, by documents. With `--work` a second run embeds nothing
again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from langchain_text_splitters import RecursiveCharacterTextSplitter

from benchmarks.retrieval import AskedTogether, interval
from ingest.chunk import SEPARATORS, split
from ingest.embed import SentenceTransformerEmbedder
from ingest.embed.finding import embedder_named
from ingest.search import Searcher
from ingest.settings import IngestSettings, find_home
from ingest.store import Source
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Chunk, Document, Section

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
BUDGET = 1120
CUTS = ("96-16", "160-24", "224-0", "224-32", "320-48", "448-64", "plain-224")


@dataclass(frozen=True)
class Asked:
    """A question and where its answers stand in which document."""

    question: str
    path: str
    places: list[tuple[int, int]]


def read(name: str, articles: int, questions: int) -> tuple[dict[str, Document], list[Asked]]:
    with gzip.open(DATA / "qa" / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        data = json.load(file)["data"]
    groups = [(a["title"].replace("_", " "), a["paragraphs"]) for a in data]
    if max(len(paragraphs) for _, paragraphs in groups) == 1:
        single = [(title, p) for title, paragraphs in groups for p in paragraphs]
        groups = [(single[i][0], [p for _, p in single[i : i + 10]]) for i in range(0, len(single), 10)]
    documents, asked = {}, []
    for number, (title, paragraphs) in enumerate(random.Random(3).sample(groups, min(articles, len(groups)))):
        path, text = f"{number}.txt", ""
        for paragraph in paragraphs:
            for qa in paragraph["qas"]:
                places = [
                    (len(text) + a["answer_start"], len(text) + a["answer_start"] + len(a["text"]))
                    for a in qa["answers"]
                    if paragraph["context"][a["answer_start"] :].startswith(a["text"])
                ]
                if places and not qa.get("is_impossible"):
                    asked.append(Asked(qa["question"], path, places))
            text += paragraph["context"] + "\n\n"
        documents[path] = Document(text, title, (Section((), 0, len(text)),))
    return documents, random.Random(4).sample(asked, min(questions, len(asked)))


def cut(document: Document, way: str, embedder: SentenceTransformerEmbedder) -> Iterator[Chunk]:
    kind, _, rest = way.partition("-")
    if kind != "plain":
        yield from split(
            document, count_tokens=embedder.count_tokens, max_tokens=int(kind), overlap_tokens=int(rest)
        )
        return
    splitter = RecursiveCharacterTextSplitter(
        separators=SEPARATORS,
        chunk_size=int(rest),
        chunk_overlap=0,
        length_function=lambda text: embedder.count_tokens([text])[0],
        keep_separator="end",
        strip_whitespace=False,
    )
    end = 0
    for position, text in enumerate(splitter.split_text(document.text)):
        start, end = end, end + len(text)
        tokens = embedder.count_tokens([text])[0]
        yield Chunk(position, text, start, end, None, None, (), tokens, "")


def measure(
    documents: dict[str, Document],
    asked: list[Asked],
    way: str,
    embedder: SentenceTransformerEmbedder,
    work: Path,
) -> tuple[np.ndarray, int]:
    asks = AskedTogether(embedder, [a.question for a in asked], work)
    tokens: dict[tuple[str, int], int] = {}
    with SqliteFaissStore.open(work / "home" / "collections" / f"{work.name}-{way}", create=True) as store:
        store.bind(embedder.id, embedder.name, embedder.dimension)
        there = {d.path for d in store.documents()}
        for path, document in documents.items():
            chunks = list(cut(document, way, embedder))
            tokens |= {(path, c.char_start): c.tokens for c in chunks}
            if path not in there:
                vectors = embedder.encode_passages([c.embedding_text(document.title) for c in chunks])
                store.replace_document(Source(path, path, way, len(document.text)), document, chunks, vectors)
        searcher = Searcher(store, asks)  # type: ignore[arg-type]
        found = []
        for one in asked:
            left, right = BUDGET, False
            for hit in searcher.search(one.question, 40).hits:
                left -= tokens[hit.path, hit.char_start]
                if left < 0:
                    break
                right |= hit.path == one.path and any(
                    hit.char_start <= start and end <= hit.char_end for start, end in one.places
                )
            found.append(float(right))
    return np.array(found), len(tokens)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=["squad_train", "cmrc2018_trial"])
    parser.add_argument("--articles", type=int, default=8, help="documents a set")
    parser.add_argument("--questions", type=int, default=150, help="questions a set")
    parser.add_argument("--cuts", nargs="+", default=CUTS)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    embedder = embedder_named(IngestSettings().embedder, find_home(), IngestSettings())
    assert isinstance(embedder, SentenceTransformerEmbedder)
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.sets:
            documents, asked = read(name, args.articles, args.questions)
            work = (args.work or Path(scratch)) / f"{name}-{args.articles}-{args.questions}"
            characters = sum(len(d.text) for d in documents.values())
            print(
                f"{name}: {len(documents)} documents, {characters:,} characters, n = {len(asked)} questions"
            )
            for way in args.cuts:
                found, passages = measure(documents, asked, way, embedder, work)
                mean, low, high = interval(found, [(a.question, a.path) for a in asked])
                print(f"  {way:12} {passages:6,} passages   {mean:.3f} ({low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
