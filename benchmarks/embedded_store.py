"""The embedded store against itself at an earlier commit: whether a change cost it time.

    git worktree add --detach ../before 41a80f9^
    python -m benchmarks.embedded_store --before ../before [--documents 200] [--rounds 7] [--cpu] [--json FILE]
    git worktree remove ../before

41a80f9^ is the last commit before the store became a protocol with a second store on Milvus. Both sides do the
same work in processes of their own, in turn (before, now, now, before, ...), so that what else the machine does
meets both. Texts and vectors are drawn from one seed; vectors of the embedder cost the same on both sides and
are left out. The claim: no figure is more than 5 % above what it was, as the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Runs in either tree, so it uses only what both have.
WORK = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np
from ingest.search import Searcher
from ingest.store import Source
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.types import Chunk, Document, Section

documents, passages, dimension, questions = int(sys.argv[1]), 100, 384, 200
clock = time.process_time if sys.argv[2] == "cpu" else time.perf_counter
rng = np.random.default_rng(0)
words = np.array(["w%05d" % n for n in range(20000)])
odds = 1 / np.arange(1, len(words) + 1); odds /= odds.sum()

def unit(count):
    drawn = rng.standard_normal((count, dimension), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

class Drawn:
    id, name, max_tokens = "drawn", "drawn", 256
    def __init__(self): self.dimension = dimension
    def encode_queries(self, texts): return unit(len(texts))
    def encode_passages(self, texts): return unit(len(texts))

def document():
    texts = [" ".join(rng.choice(words, 60, p=odds)) for _ in range(passages)]
    whole, chunks, at = "\\n".join(texts), [], 0
    for n, text in enumerate(texts):
        chunks.append(Chunk(n, text, at, at + len(text), None, None, (), 60, None))
        at += len(text) + 1
    sections = (Section((), 0, len(whole), "text"),)
    return Document(text=whole, title="T", sections=sections, pages=(), metadata={}, warnings=(), parser="p/1"), chunks

made = [(*document(), unit(passages)) for _ in range(documents)]
asked = [" ".join(rng.choice(words[200:], 4)) for _ in range(questions)]
told = {}

def timed(name, count, work):
    begun = clock()
    work()
    told[name] = (clock() - begun) / count * 1000

with tempfile.TemporaryDirectory() as folder:
    home = Path(folder, "kb")
    store = SqliteFaissStore.open(home, create=True)
    store.bind("drawn", "drawn", dimension)
    def write():
        with store.writing("benchmark"):
            for n, (text, chunks, vectors) in enumerate(made):
                store.replace_document(Source(f"{n}.md", str(n), "r", 1, 1), text, chunks, vectors)
    timed("write a document", documents, write)
    store.close()
    store = SqliteFaissStore.open(home)
    searcher = Searcher(store, Drawn())
    timed("first search after opening", 1, lambda: searcher.search(asked[0], 10))
    for mode in ("dense", "keyword", "hybrid"):
        timed(f"{mode} search", questions, lambda: [searcher.search(q, 10, mode=mode) for q in asked])
    paths = [f"{n}.md" for n in range(documents)]
    timed("look at a document", documents, lambda: [store.chunks(store.document(p).document_id) for p in paths])
    timed("list of documents", 20, lambda: [store.documents() for _ in range(20)])
    timed("forget a document", documents // 2, lambda: [store.forget([p]) for p in paths[: documents // 2]])
    store.close()
print(json.dumps(told))
"""


def once(tree: Path, documents: int, clock: str) -> dict[str, float]:
    """Milliseconds of each thing, in that tree."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", WORK, str(documents), clock]
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> None:
    """Run both sides in turn and print the ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--before", type=Path, required=True, help="a tree of the earlier commit")
    options.add_argument("--documents", type=int, default=200, help="of 100 passages each (default: 200)")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--cpu", action="store_true", help="processor time: a busy machine disturbs it less")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    now, before = Path(__file__).resolve().parents[1], given.before.resolve()
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for n in range(given.rounds):
        order = (before, now) if n % 2 == 0 else (now, before)
        times = {tree: once(tree, given.documents, "cpu" if given.cpu else "wall") for tree in order}
        pairs.append((times[before], times[now]))
        print(f"round {n + 1} of {given.rounds}", file=sys.stderr, flush=True)
    result: dict[str, Any] = {}
    print(f"{given.documents * 100:,} passages, {given.rounds} rounds; medians")
    print(f"{'':28} {'before':>10} {'now':>10} {'now / before':>14}   least to most")
    for name in pairs[0][0]:
        ratios = sorted(b[name] / a[name] for a, b in pairs)
        figures = [statistics.median(side[name] for side in sides) for sides in zip(*pairs, strict=True)]
        ratio = statistics.median(ratios)
        result[name] = {"before_ms": figures[0], "now_ms": figures[1], "ratio": ratio}
        shown = f"{name:28} {figures[0]:7.2f} ms {figures[1]:7.2f} ms {ratio:14.3f}   "
        print(shown + f"{ratios[0]:.2f} to {ratios[-1]:.2f}")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
