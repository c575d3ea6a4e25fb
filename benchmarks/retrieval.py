"""How well passages are found: our three modes, beside bm25s and plain sentence-transformers in the same run.

    python -m benchmarks.retrieval [--sets squad_a xquad_en xquad_zh cmrc_a] [--limit 200] [--arms keyword]
                                   [--embedder ID] [--work DIR]

Each paragraph of a set becomes a file, named by its title, that goes through ingest; questions go through the
Searcher; a paragraph ranks where its best passage does. The two peers get the passages and the title lines that we
cut, so that a difference is one of ranking: bm25s the same words, sentence-transformers the same model and its
prompts, in float32. Intervals are 95%, from 2,000 draws of paragraphs with all their questions.

Claims, for whole sets: hybrid above both arms (squad_a, xquad_en), xquad_en at least 0.98, each arm within half a
point of its peer, cmrc_a recall@1 at least 0.93 and recall@5 at least 0.992. Exits with 1 where a whole set misses
one. `--limit` draws so many paragraphs and asks their questions only: easier, good for a look. `--arms keyword`
needs no embedder and is quick on everything. With `--work` a second run embeds nothing.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest import words
from ingest.collections import open_collection
from ingest.embed import Embedder, SentenceTransformerEmbedder
from ingest.embed.finding import embedder_named
from ingest.parse import parse_file
from ingest.pipeline import ingest_path
from ingest.pipeline.run import cut
from ingest.search import Searcher
from ingest.settings import IngestSettings, find_home

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
SETS = ("squad_a", "xquad_en", "xquad_zh", "cmrc_a")
DEPTH = 10  # paragraphs that are judged
PASSAGES = 40  # hits asked for, so that ten paragraphs are among them
DRAWS = 2000
HALF_A_POINT = 0.005
#: What the whole set has to reach in hybrid mode.
AT_LEAST = {"xquad_en": {"nDCG@10": 0.98}, "cmrc_a": {"recall@1": 0.93, "recall@5": 0.992}}


@dataclass(frozen=True)
class TestSet:
    """Paragraphs by id, each with its title, and questions, each with the one paragraph that answers it."""

    name: str
    paragraphs: dict[str, tuple[str, str]]
    questions: list[tuple[str, str]]

    def drawn(self, limit: int | None) -> TestSet:
        """So many paragraphs at random, with their questions."""
        if limit is None or limit >= len(self.paragraphs):
            return self
        kept = set(random.Random(1).sample(sorted(self.paragraphs), limit))
        return TestSet(
            f"{self.name}-{limit}",
            {key: value for key, value in self.paragraphs.items() if key in kept},
            [(text, gold) for text, gold in self.questions if gold in kept],
        )


def read_set(name: str) -> TestSet:
    if name.startswith("xquad"):
        with gzip.open(DATA / "qa" / f"{name}_a.json.gz", "rt", encoding="utf-8") as file:
            articles = json.load(file)["data"]
        paragraphs, questions = {}, []
        for article in articles:
            for paragraph in article["paragraphs"]:
                key = f"x{len(paragraphs):05}"
                paragraphs[key] = (article["title"].replace("_", " "), paragraph["context"])
                questions += [(qa["question"], key) for qa in paragraph["qas"]]
        return TestSet(name, paragraphs, questions)
    folder = DATA / "retrieval" / name

    def rows(file: str) -> list[dict[str, str]]:
        with gzip.open(folder / file, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    judged = (
        line.split("\t") for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    )
    gold = {query: paragraph for query, paragraph, _ in judged}
    return TestSet(
        name,
        {row["_id"]: (row.get("title", ""), row["text"]) for row in rows("corpus.jsonl.gz")},
        [(row["text"], gold[row["_id"]]) for row in rows("queries.jsonl.gz") if row["_id"] in gold],
    )


class NoEmbedder:
    """Stands where the keyword arm alone is measured: cuts as `like` does and gives every text one vector."""

    def __init__(self, like: Embedder) -> None:
        self.id, self.name, self.dimension = "none", "none", 1
        self.max_tokens, self.count_tokens = like.max_tokens, like.count_tokens

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One number a text, (n, 1)."""
        return np.ones((len(texts), 1), np.float32)

    encode_queries = encode_passages


class AskedTogether:
    """The embedder, with the vectors of all questions made in one go: asking one by one is no part of this."""

    def __init__(self, embedder: Embedder, questions: Sequence[str], work: Path) -> None:
        self._embedder = embedder
        self.id = embedder.id
        vectors = kept(work, (embedder.id, "query"), questions, embedder.encode_queries)
        self._vectors = dict(zip(questions, vectors, strict=True))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d), looked up; texts that are no question of the set are encoded."""
        if any(text not in self._vectors for text in texts):
            return self._embedder.encode_queries(texts)
        return np.stack([self._vectors[text] for text in texts])


def kept(
    work: Path, key: Sequence[str], texts: Sequence[str], make: Callable[[Sequence[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Vectors of texts, 512 at a time: what an earlier run has made, stopped or not, is not made again."""
    blocks = []
    for start in range(0, len(texts), 512):
        part = texts[start : start + 512]
        name = hashlib.sha256(json.dumps([*key, *part]).encode()).hexdigest()[:24]
        file = work / "vectors" / f"{name}.npy"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.with_suffix(".part").open("wb") as unfinished:
                np.save(unfinished, make(part))
            file.with_suffix(".part").replace(file)
        blocks.append(np.load(file))
    return np.concatenate(blocks)


def write_files(paragraphs: dict[str, tuple[str, str]], folder: Path) -> dict[str, Path]:
    """ID/TITLE.txt for each paragraph: a text file's title is its name."""
    files = {}
    for key, (title, text) in paragraphs.items():
        files[key] = folder / key / f"{title.replace('/', ' ').strip()[:60] or key}.txt"
        if not files[key].is_file():
            files[key].parent.mkdir(parents=True, exist_ok=True)
            files[key].write_text(text, encoding="utf-8")
    return files


def ranks(rankings: Sequence[Sequence[str]], questions: Sequence[tuple[str, str]]) -> NDArray[np.int64]:
    """Where each question's paragraph stands, from 1; DEPTH + 1 where it is not among the first DEPTH."""
    found = []
    for ranking, (_, gold) in zip(rankings, questions, strict=True):
        first = list(dict.fromkeys(ranking))[:DEPTH]
        found.append(first.index(gold) + 1 if gold in first else DEPTH + 1)
    return np.array(found)


def ours(searcher: Searcher, mode: str, questions: Sequence[tuple[str, str]]) -> list[list[str]]:
    return [
        [Path(hit.path).parent.name for hit in searcher.search(question, PASSAGES, mode).hits]
        for question, _ in questions
    ]


def by_bm25s(
    texts: Sequence[str], owners: Sequence[str], questions: Sequence[tuple[str, str]]
) -> list[list[str]]:
    import bm25s

    index = bm25s.BM25(k1=1.2, b=0.75)
    index.index([words.terms(text) for text in texts], show_progress=False)
    asked = [words.query_terms(question) for question, _ in questions]
    found, scores = index.retrieve(asked, k=min(PASSAGES, len(texts)), show_progress=False)
    return [
        [owners[i] for i, score in zip(row, values, strict=True) if score > 0]
        for row, values in zip(found, scores, strict=True)
    ]


def by_sentence_transformers(
    folder: Path,
    texts: Sequence[str],
    owners: Sequence[str],
    questions: Sequence[tuple[str, str]],
    work: Path,
) -> list[list[str]]:
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def encode(kind: str, what: list[str]) -> NDArray[np.float32]:
        prompt = peer.prompts.get(kind, "")
        return kept(
            work,
            ("sentence-transformers", folder.name, prompt),
            what,
            lambda part: peer.encode(list(part), prompt=prompt, normalize_embeddings=True),
        )

    passages, asked = encode("passage", list(texts)), encode("query", [question for question, _ in questions])
    best = np.argsort(-(asked @ passages.T), axis=1, kind="stable")[:, :PASSAGES]
    return [[owners[i] for i in row] for row in best]


MEASURES: dict[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]] = {
    "nDCG@10": lambda rank: np.where(rank <= DEPTH, 1 / np.log2(1 + rank), 0.0),
    "recall@1": lambda rank: (rank <= 1).astype(float),
    "recall@5": lambda rank: (rank <= 5).astype(float),
}


def interval(values: NDArray[np.float64], questions: Sequence[tuple[str, str]]) -> tuple[float, float, float]:
    """Mean and its 95% interval; paragraphs are drawn, since questions on one are alike."""
    _, group = np.unique([gold for _, gold in questions], return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    drawn = np.random.default_rng(1).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), DRAWS)
    low, high = np.quantile(drawn @ sums / (drawn @ counts), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def measure(
    test: TestSet, embedder: SentenceTransformerEmbedder, settings: IngestSettings, work: Path, dense: bool
) -> tuple[dict[str, NDArray[np.int64]], int]:
    """Ranks by system, and the number of passages."""
    files = write_files(test.paragraphs, work / "texts" / test.name)
    questions = test.questions
    asks: Any = AskedTogether(embedder, [q for q, _ in questions], work) if dense else NoEmbedder(embedder)
    found = {}
    name = test.name if dense else f"{test.name}-words"
    with open_collection(work / "home", name, create=True) as store:
        report = ingest_path([work / "texts" / test.name], store, asks, settings, base=work)
        if report.count("failed"):
            sys.exit(f"{report.count('failed')} files failed: {[f for f in report.files if f.reason][:3]}")
        searcher = Searcher(store, asks)
        for mode in ("hybrid", "dense", "keyword") if dense else ("keyword",):
            found[mode] = ranks(ours(searcher, mode, questions), questions)
    texts, owners = [], []
    for key, file in files.items():
        document = parse_file(file, max_bytes=1 << 20)
        for chunk in cut(document, embedder, settings):
            texts.append(chunk.embedding_text(document.title))
            owners.append(key)
    found["bm25s"] = ranks(by_bm25s(texts, owners, questions), questions)
    if dense:
        plain = by_sentence_transformers(embedder.folder, texts, owners, questions, work)
        found["sentence-transformers"] = ranks(plain, questions)
    return found, len(texts)


def show(test: TestSet, found: dict[str, NDArray[np.int64]], passages: int, name: str) -> list[str]:
    """Print the table of one set; what it misses comes back."""
    print(
        f"\n{test.name}: {len(test.paragraphs):,} paragraphs, {passages:,} passages, n = {len(test.questions):,} questions"
    )
    print(f"{'':32}" + "".join(f"{measure:26}" for measure in MEASURES))
    means = {}
    for system, rank in found.items():
        cells = []
        for label, score in MEASURES.items():
            mean, low, high = interval(score(rank), test.questions)
            means[system, label] = mean
            cells.append(f"{mean:.4f} ({low:.3f} to {high:.3f})".ljust(26))
        print(f"{system:32}" + "".join(cells))
    missed = []
    pairs = [
        ("hybrid", "dense"),
        ("hybrid", "keyword"),
        ("keyword", "bm25s"),
        ("dense", "sentence-transformers"),
    ]
    score = MEASURES["nDCG@10"]
    for one, other in pairs:
        if one not in found or other not in found:
            continue
        mean, low, high = interval(score(found[one]) - score(found[other]), test.questions)
        print(f"{one + ' - ' + other:32}{mean:+.4f} ({low:+.4f} to {high:+.4f}), nDCG@10, paired")
        if one == "hybrid" and name in ("squad_a", "xquad_en") and mean <= 0:
            missed.append(f"{test.name}: hybrid is not above {other}")
        if one != "hybrid" and abs(mean) > HALF_A_POINT:
            missed.append(f"{test.name}: {one} and {other} are {abs(mean):.4f} apart")
    for label, least in AT_LEAST.get(name, {}).items():
        if ("hybrid", label) in means and means["hybrid", label] < least:
            missed.append(f"{test.name}: hybrid {label} {means['hybrid', label]:.4f}, wanted {least}")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--limit", type=int, help="paragraphs a set")
    parser.add_argument("--arms", choices=("all", "keyword"), default="all")
    parser.add_argument("--embedder", help="another than the usual one, such as onnx/multilingual-e5-small")
    parser.add_argument("--work", type=Path, help="keep collections and vectors here, and use them again")
    args = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    settings = IngestSettings(workers=1)
    embedder = embedder_named(args.embedder or settings.embedder, find_home(), settings)
    if not isinstance(embedder, SentenceTransformerEmbedder):
        sys.exit(f"{embedder.name} has no weights here to run plain sentence-transformers on")
    missed = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.sets:
            whole = read_set(name)
            test = whole.drawn(args.limit)
            work = (args.work or Path(scratch)) / (args.embedder or "").replace("/", "-")
            found, passages = measure(test, embedder, settings, work, args.arms == "all")
            short = show(test, found, passages, name)
            print("".join(f"missed: {line}\n" for line in short), end="", flush=True)
            missed += short if test is whole else []
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
