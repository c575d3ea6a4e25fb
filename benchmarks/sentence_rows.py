"""The data of `benchmarks.sentence_questions`: questions, right sentences, and what the readers make of them.

A row of `examples/sentence_questions/*.jsonl` names its corpus, its document and every sentence that is a right
answer; a row without sentences has no answer there. The corpora are the manual, and of `LOREBASE_DATA` the
mixed documents, SQuAD's and DRCD's articles (a file each), paragraphs of CMRC and the Debian guide. Of CMRC
and DRCD come the documents that a row names and a part of the others, told by the hash of their names.

What was read is kept, a file for each question, so that a run goes on where it was stopped; it belongs to
one state of the readers and of the collections.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.collections import open_collection
from ingest.embed import find_embedder
from ingest.pipeline import ingest_path
from ingest.settings import IngestSettings
from ingest.types import Hit
from model.spans.reader import SpanReading
from service import refusal
from service.answer import Source
from service.choosing.features import Known
from service.errors import WeightsMissing
from service.reading.readings import Readings
from service.shelves import Shelves
from service.spans.quoter import read

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
ROWS = Path("examples/sentence_questions")
#: Passages that a question is read in.
K = 5
#: CMRC and DRCD: of this many parts of all documents, one stands beside those that rows name.
PARTS = {"cmrc_train": 20, "drcd_a": 8}
CORPORA = ("docs", "documents", "squad_train", "maint_guide", "cmrc_train", "drcd_a")
SETS = {"squad_train": "squad_train", "cmrc_train": "cmrc2018_train", "drcd_a": "drcd_a"}
GUIDE = "zh_debian_maint_guide"


@dataclass(frozen=True)
class Row:
    """A question, and every sentence that is a right answer; none: there is no answer."""

    id: str
    language: str
    kind: str
    corpus: str
    document: str
    question: str
    sentences: tuple[str, ...]
    best: int


@dataclass
class Record:
    """What the search and the readers make of a question."""

    row: Row
    hits: tuple[Hit, ...]
    relevance: float
    spans: list[SpanReading]  #: of each hit
    readings: Readings | None  #: the generator's, for the baseline; None where it has not read
    unrelated: float  #: cosine of unrelated texts
    cosines: dict[str, float] = field(
        default_factory=dict
    )  #: of the question with texts, as they were needed
    rarities: dict[str, float] = field(default_factory=dict)


def rows(folder: Path = ROWS) -> list[Row]:
    """All rows."""
    found = []
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip():
                row = json.loads(line)
                found.append(Row(**{**row, "sentences": tuple(row["sentences"])}))
    return found


def collections(work: Path, home: Path, asked: Sequence[Row]) -> Shelves:
    """The corpora of these rows, ingested below `work`."""
    settings = IngestSettings()
    embedder = find_embedder(settings.embedder, home)
    for corpus in dict.fromkeys(row.corpus for row in asked):
        folder = {"docs": Path("docs"), "documents": DATA / "documents"}.get(corpus)
        if folder is None:
            folder = work / "texts" / corpus
            folder.mkdir(parents=True, exist_ok=True)
            named = {row.document for row in asked if row.corpus == corpus}
            for name, text in _texts(corpus, named):
                file = folder / f"{name.replace('/', '-')}.txt"
                if not file.is_file():
                    file.write_text(text, encoding="utf-8")
        ingest_path([folder], open_collection(work, corpus, create=True), embedder, settings, base=folder)
    return Shelves(work, "docs", settings, lambda _: embedder)


def _texts(corpus: str, named: set[str]) -> Iterator[tuple[str, str]]:
    """Name and text of the documents of a corpus."""
    if corpus == "maint_guide":
        with gzip.open(DATA / "pretrain" / f"{GUIDE}.txt.gz", "rt", encoding="utf-8") as file:
            yield GUIDE, file.read()
        return
    with gzip.open(DATA / "qa" / f"{SETS[corpus]}.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    parts = PARTS.get(corpus, 1)
    for article in articles:
        drawn = int.from_bytes(hashlib.sha256(article["title"].encode()).digest()[:4]) % parts == 0
        if drawn or article["title"] in named:
            yield article["title"], "\n\n".join(p["context"] for p in article["paragraphs"])


def record(row: Row, source: Source) -> Record:
    """Search one question, and let the span reader look."""
    assert source.search is not None
    hits = source.search.search(row.question, K, "hybrid").hits
    judged = refusal.relevance(row.question, hits, source.rarity, source.unrelated_cosine)
    if source.quoter is None or (pointer := source.quoter.reader) is None:
        raise WeightsMissing("the span reader cannot be loaded; the log says why")
    spans = read(pointer, row.question, hits)
    return Record(row, hits, judged.probability, spans, None, source.unrelated_cosine)


def gather(asked: Sequence[Row], shelves: Shelves, work: Path) -> Iterator[tuple[Record, Path]]:
    """The record of every row and where it is kept: kept ones at once, the others as they are read."""
    folder = work / "records"
    folder.mkdir(parents=True, exist_ok=True)
    for row in asked:
        name = hashlib.sha256(f"{row.corpus} {row.question}".encode()).hexdigest()[:12]
        file = folder / f"{row.id}-{name}.pickle"
        if file.is_file():
            found: Record = pickle.loads(file.read_bytes())
            found.row = row  # its sentences may have been corrected since
        else:
            found = record(row, shelves.source(row.corpus))
            save(found, file)
        yield found, file


def save(found: Record, file: Path) -> None:
    """Keep a record."""
    draft = file.with_name(file.name + ".new")
    draft.write_bytes(pickle.dumps(found))
    draft.replace(file)


def known(found: Record, source: Source) -> Known:
    """What the chooser is told of a question, remembering what was computed."""

    def similarity(question: str, texts: Sequence[str]) -> list[float]:
        assert source.similarity is not None
        new = list(dict.fromkeys(t for t in texts if t not in found.cosines))
        if new:
            found.cosines.update(zip(new, source.similarity(question, new), strict=True))
        return [found.cosines[t] for t in texts]

    def rarity(terms: Sequence[str]) -> list[float]:
        assert source.rarity is not None
        new = [term for term in terms if term not in found.rarities]
        if new:
            found.rarities.update(zip(new, source.rarity(new), strict=True))
        return [found.rarities[term] for term in terms]

    hits = found.hits[:K]
    return Known(
        found.row.question, hits, found.relevance, similarity, rarity, found.unrelated, found.spans[:K]
    )
