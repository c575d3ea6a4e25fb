"""Do follow-up questions find their passage? Recall@5 of the raw one, the self-contained one, and a person's.

    python -m benchmarks.followups [--split dev|test|all] [--work DIR] [--show]

The conversations of `examples/followups.jsonl` are about the manual, the sample documents, the articles of
`squad_train` and 600 paragraphs of CMRC (`LOREBASE_DATA`), all in one collection. A question counts as found if one
of the five best passages is of its source and holds its string. Retrieval only, nothing is generated.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingest.collections import open_collection
from ingest.embed import find_embedder
from ingest.pipeline import ingest_path
from ingest.search import Searcher
from ingest.settings import IngestSettings, find_home
from ingest.types import Hit
from service.followup import Said, search_all, standalone

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
ROOT = Path(__file__).parent.parent
CMRC = 600
#: Passages that are looked at, and resamples of an interval.
K, DRAWS = 5, 10_000


def articles(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / "qa" / name, "rt", encoding="utf-8") as file:
        return json.load(file)["data"]


def searcher(work: Path) -> Searcher:
    """The collection of everything that is asked about, made where it is not there yet."""
    texts = {
        f"squad/{a['title']}.txt": "\n\n".join(p["context"] for p in a["paragraphs"])
        for a in articles("squad_train.json.gz")
    }
    texts |= {
        f"cmrc/{a['title'].replace('/', ' ')}.txt": a["paragraphs"][0]["context"]
        for a in articles("cmrc2018_train.json.gz")[:CMRC]
    }
    for name, text in texts.items():
        path = work / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(text, encoding="utf-8")
    settings = IngestSettings()
    embedder = find_embedder(settings.embedder, find_home())
    store = open_collection(work, "followups", create=True)
    folders = [ROOT / "docs", DATA / "documents", work / "texts"]
    ingest_path(folders, store, embedder, settings, exclude=["manifest.json"])  # it holds questions
    return Searcher(store, embedder)


MODES = ("raw", "self-contained", "gold")


def found(hits: Sequence[Hit], gold: Sequence[dict[str, str]]) -> bool:
    """Whether one of the passages is of a right source and holds its string, whatever the line breaks."""
    return any(
        hit.path.endswith("/" + wanted["source"].split("/", 1)[1])
        and " ".join(wanted["holds"].split()) in " ".join(hit.text.split())
        for hit in hits
        for wanted in gold
    )


def interval(differences: Sequence[int], seed: int) -> tuple[float, float, float]:
    """Mean and the 95% interval of resampled conversations (percentile bootstrap), in points."""
    draw = random.Random(seed)
    n = len(differences)
    means = sorted(sum(draw.choices(differences, k=n)) / n for _ in range(DRAWS))
    return 100 * sum(differences) / n, 100 * means[int(0.025 * DRAWS)], 100 * means[int(0.975 * DRAWS)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("dev", "test", "all"), default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="keep the collection here, and use it again")
    parser.add_argument("--show", action="store_true", help="print every follow-up as it was understood")
    args = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    lines = (ROOT / "examples" / "followups.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [r for r in map(json.loads, lines) if args.split in ("all", r["split"])]
    with tempfile.TemporaryDirectory() as scratch:
        search = searcher(args.work or Path(scratch)).search
        hit: dict[str, dict[str, int]] = {mode: {} for mode in MODES}
        for row in rows:
            history = [Said(turn["role"], turn["content"]) for turn in row["history"]]
            asked = standalone(row["question"], history)
            results = {
                "raw": search(row["question"], K),
                "self-contained": search_all(search, asked, K, "hybrid"),
                "gold": search(row["standalone"], K),
            }
            for mode, result in results.items():
                hit[mode][row["id"]] = int(found(result.hits, row["gold"]))
            if args.show:
                marks = " ".join(str(hit[mode][row["id"]]) for mode in MODES)
                print(f"{marks}  {row['id']:24}{asked.text if asked.carried else '(as it is)'}")
    groups: dict[str, list[str]] = {"all": [r["id"] for r in rows]}
    groups["all but topic shifts"] = [r["id"] for r in rows if r["kind"] != "topic-shift"]
    for field in ("language", "kind"):
        for row in rows:
            groups.setdefault(row[field], []).append(row["id"])
    print(f"recall@{K}, split {args.split}   n   raw  self-contained  gold   gain over raw (95%)")
    for name, ids in groups.items():
        shares = [100 * sum(hit[mode][i] for i in ids) / len(ids) for mode in MODES]
        mean, low, high = interval([hit["self-contained"][i] - hit["raw"][i] for i in ids], args.seed)
        print(
            f"{name:24}{len(ids):5}  {shares[0]:4.0f}  {shares[1]:14.0f}  {shares[2]:4.0f}"
            f"   {mean:+5.1f}  ({low:+.1f} to {high:+.1f})"
        )


if __name__ == "__main__":
    main()
