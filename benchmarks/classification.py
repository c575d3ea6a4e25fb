"""The classifier against the vote of the nearest examples, and whether its probabilities mean what they say.

    python -m benchmarks.classification [--examples 3 8] [--texts 1000] [--seeds 3] [--work FOLDER]

Banking77 (77 labels), headlines of THUCNews (10) and SMS spam (2) out of `LOREBASE_DATA`. Both get the same
examples and the same embedder's vectors; of the votes with 1, 3, 5 and 9 neighbours the one that is best on the
test texts counts, which favours the vote. Intervals: 95%, paired bootstrap over texts. The likelihood part
is left aside (`likelihood="off"`): `--likelihood N` shows what it adds on the first N texts of each set.
Vectors are kept in the work folder.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ingest.embed import Embedder, find_embedder
from ingest.settings import IngestSettings, find_home
from service.classifier.classify import Classifying, Wanted
from service.classifier.decided import Decided
from service.classifier.examples import Classes

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data")) / "classification"
SETS = {"banking77_a": "Banking77", "thucnews_titles_a": "THUCNews", "sms_spam_a": "SMS spam"}


class Kept:
    """An embedder that keeps queries' vectors in a file."""

    def __init__(self, embedder: Embedder, file: Path) -> None:
        self.embedder, self.file = embedder, file
        self.id, self.max_tokens = embedder.id, embedder.max_tokens
        self.vectors: dict[str, np.ndarray] = {}
        if file.exists():
            with np.load(file) as held:
                self.vectors = dict(zip(held["texts"].tolist(), held["vectors"], strict=True))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `Embedder`."""
        return self.embedder.count_tokens(texts)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """See `Embedder`."""
        new = [text for text in dict.fromkeys(texts) if text not in self.vectors]
        if new:
            self.vectors.update(zip(new, self.embedder.encode_queries(new), strict=True))
        return np.stack([self.vectors[text] for text in texts])

    def keep(self) -> None:
        """Write the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(self.file, texts=np.array(list(self.vectors)), vectors=np.stack(list(self.vectors.values())))


def vote(cosines: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(n, examples) to (n,): the label that most of the k nearest have, the nearer one's in a tie."""
    found = []
    for row in cosines:
        votes = np.zeros(labels.max() + 1)
        for at in np.argsort(-row)[:k]:
            votes[labels[at]] += 1 + 1e-4 * row[at]
        found.append(votes.argmax())
    return np.array(found)


def calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over ten bins of equal width."""
    bins = np.minimum((probabilities * 10).astype(int), 9)
    return float(
        sum(
            (bins == b).mean() * abs(probabilities[bins == b].mean() - right[bins == b].mean())
            for b in set(bins)
        )
    )


def interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Of the difference of two accuracies on the same texts, in points."""
    draws = np.random.default_rng(0).integers(0, len(ours), (10_000, len(ours)))
    low, high = np.percentile((ours.astype(float) - theirs)[draws].mean(axis=1), [2.5, 97.5])
    return 100 * float(low), 100 * float(high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, nargs="+", default=[3, 8], help="examples a label")
    parser.add_argument("--texts", type=int, default=1000, help="test texts")
    parser.add_argument("--seeds", type=int, default=3, help="draws of examples")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument(
        "--likelihood", type=int, default=0, metavar="N", help="score N texts with the model, too"
    )
    parser.add_argument("--work", type=Path, default=find_home() / "benchmarks")
    args = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    name = IngestSettings().embedder
    embedder = Kept(
        find_embedder(name, find_home()),
        args.work / f"classification-{hashlib.sha256(name.encode()).hexdigest()[:8]}.npz",
    )
    print(f"embedder {name}; test texts {args.texts}")
    print(
        f"{'set':10}{'a label':>8}{'seed':>5}  vote (k)     classifier  difference, 95%        ECE   weights"
    )
    for key in args.sets:
        with gzip.open(DATA / f"{key}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for count in args.examples:
            for seed in range(args.seeds):
                random.Random(seed).shuffle(rows)
                measure(SETS[key], rows, (count, seed), args, embedder)
                embedder.keep()
                rows.sort(key=lambda r: (r["label"], r["text"]))


def measure(
    name: str, rows: list[dict[str, str]], draw: tuple[int, int], args: argparse.Namespace, embedder: Kept
) -> None:
    count, seed = draw
    given: dict[str, list[str]] = {row["label"]: [] for row in rows}
    tests = []
    for row in rows:
        if len(given[row["label"]]) < count:
            given[row["label"]].append(row["text"])
        elif len(tests) < args.texts:
            tests.append(row)
    classes = Classes.of(given)
    texts, right = (
        tuple(t["text"] for t in tests),
        np.array([classes.labels.index(t["label"]) for t in tests]),
    )
    flat = classes.flat
    cosines = embedder.encode_queries(texts) @ embedder.encode_queries([t for t, _ in flat]).T
    votes = {k: vote(cosines, np.array([at for _, at in flat]), k) == right for k in (1, 3, 5, 9)}
    best = max(votes, key=lambda k: float(votes[k].mean()))
    classifying = Classifying(lambda: embedder, Decided(None))  # type: ignore[arg-type,return-value]
    found = classifying.classify(Wanted(texts, classes, likelihood="off"), None, threading.Event())
    hit = np.array([r.label == classes.labels[at] for r, at in zip(found.results, right, strict=True)])
    sure = np.array([max(r.scores.values()) for r in found.results])
    low, high = interval(hit, votes[best])
    weights = ", ".join(f"{part} {weight:.2f}" for part, weight in found.weights.items())
    print(
        f"{name:10}{count:8}{seed:5}  {votes[best].mean():6.1%} ({best})   {hit.mean():9.1%}   "
        f"{100 * (hit.mean() - votes[best].mean()):+5.1f} [{low:+.1f}, {high:+.1f}]  {calibration_error(sure, hit):6.3f}   {weights}",
        flush=True,
    )
    if args.likelihood:
        from service import wiring
        from service.settings import ServiceSettings

        model = wiring.own(ServiceSettings().model, find_home())
        some = texts[: args.likelihood]
        for use in ("auto", "on"):
            scored = classifying.classify(
                Wanted(some, classes, likelihood=use), lambda: model, threading.Event()
            )  # type: ignore[arg-type]
            hits = np.array(
                [r.label == classes.labels[at] for r, at in zip(scored.results, right, strict=False)]
            )
            alone = [
                max(r.parts["likelihood"], key=lambda x: r.parts["likelihood"][x])
                for r in scored.results
                if "likelihood" in r.parts
            ]
            only = (
                np.mean([a == classes.labels[at] for a, at in zip(alone, right, strict=False)])
                if alone
                else float("nan")
            )
            print(
                f"    likelihood {use}: {hits.mean():.1%} (without {hit[: len(some)].mean():.1%}, alone {only:.1%}); {scored.likelihood}; {scored.weights}",
                flush=True,
            )


if __name__ == "__main__":
    main()
