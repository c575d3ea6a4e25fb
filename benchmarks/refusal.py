"""Does the service refuse what the documents are not about, and only that? Figures for `service/refusal.py`.

    python -m benchmarks.refusal [--questions 120] [--seed 1]

Two collections are made of public sets (`LOREBASE_DATA`), and asked questions that they answer, questions
about other things, and SQuAD2's adversarial ones (same subject, no answer). Retrieval only, nothing is generated.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ingest.collections import open_collection
from ingest.embed import find_embedder
from ingest.pipeline import ingest_path
from ingest.settings import IngestSettings, find_home
from service.refusal import relevance
from service.settings import ServiceSettings
from service.shelves import Shelves

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
CMRC_ARTICLES = 100


def articles(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / "qa" / name, "rt", encoding="utf-8") as file:
        return json.load(file)["data"]


def asked(
    data: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool] = lambda _: True
) -> Iterator[str]:
    for article in data:
        for paragraph in article["paragraphs"]:
            yield from (qa["question"] for qa in paragraph["qas"] if wanted(qa))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="keep the two collections here, and use them again")
    args = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    squad, cmrc = articles("squad_dev_a.json.gz"), articles("cmrc2018_dev_a.json.gz")
    there, elsewhere = cmrc[:CMRC_ARTICLES], cmrc[2 * CMRC_ARTICLES :]
    with gzip.open(DATA / "qa" / "nq_oracle_a.jsonl.gz", "rt", encoding="utf-8") as file:
        natural = [json.loads(line)["question"] for line in file]
    contexts = {p["context"] for a in squad for p in a["paragraphs"]}
    across = [
        qa["question"]
        for a, b in zip(articles("xquad_zh_a.json.gz"), articles("xquad_en_a.json.gz"), strict=True)
        for p, q in zip(a["paragraphs"], b["paragraphs"], strict=True)
        if any(q["context"][:80] in c for c in contexts)
        for qa in p["qas"]
    ]
    answered = list(asked(squad, lambda q: not q.get("is_impossible")))
    adversarial = list(asked(squad, lambda q: bool(q.get("is_impossible"))))
    sets: list[tuple[str, str, bool | None, list[str]]] = [
        ("SQuAD, its passage is there", "squad", True, answered),
        ("SQuAD2, adversarial", "squad", None, adversarial),
        ("other SQuAD articles", "squad", False, list(asked(articles("squad_train.json.gz")))),
        ("Natural Questions", "squad", False, natural),
        ("Chinese to English, its passage is there", "squad", True, across),
        ("Chinese to English, another subject", "squad", False, list(asked(elsewhere))),
        ("CMRC, its passage is there", "cmrc", True, list(asked(there))),
        ("other CMRC articles", "cmrc", False, list(asked(elsewhere))),
        ("English to Chinese, another subject", "cmrc", False, natural),
    ]
    home = find_home()
    pick = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        work: Path = args.work or Path(scratch)
        settings = IngestSettings()
        embedder = find_embedder(settings.embedder, home)
        corpora = {
            "squad": {a["title"]: "\n\n".join(p["context"] for p in a["paragraphs"]) for a in squad},
            "cmrc": {str(n): a["paragraphs"][0]["context"] for n, a in enumerate(there)},
        }
        for name, texts in corpora.items():
            folder = work / "texts" / name
            folder.mkdir(parents=True, exist_ok=True)
            for title, text in texts.items():
                (folder / f"{title}.txt").write_text(text, encoding="utf-8")
            ingest_path([folder], open_collection(work, name, create=True), embedder, settings)
        shelves = Shelves(work, "squad", settings, lambda _: embedder)
        threshold = ServiceSettings().refuse_below
        print(f"{'questions':44}{'n':>5}  answered at {threshold:g}  relevance at 10 / 50 / 90%")
        for label, collection, answerable, questions in sets:
            source = shelves.source(collection)
            sample = pick.sample(questions, min(args.questions, len(questions)))
            found = sorted(
                relevance(
                    question,
                    source.search.search(question, 5, "hybrid").hits,
                    source.rarity,
                    source.unrelated_cosine,
                ).probability
                for question in sample
            )
            share = sum(p >= threshold for p in found) / len(found)
            wish = {True: "want 100%", False: "want 0%", None: ""}[answerable]
            deciles = " / ".join(f"{found[int(len(found) * q)]:.2f}" for q in (0.1, 0.5, 0.9))
            print(f"{label:44}{len(found):5}  {share:6.0%} {wish:10} {deciles}", flush=True)


if __name__ == "__main__":
    main()
