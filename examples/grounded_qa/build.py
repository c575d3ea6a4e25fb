"""Build the sets that the reading adapter learns from; see README.md beside this file.

    python -m examples.grounded_qa.build [--out .lorebase/datasets/grounded-qa] [--home HOME] [--seed 0]
        [--large 0] [--read 0]

Reads SQuAD and Natural Questions from `LOREBASE_DATA`, `handwritten.txt` and `orders.txt` from here, and writes
`reading.jsonl`, `reading_val.jsonl` and `dataset_info.json`. Passages are embedded once into a collection below
OUT; a build that was interrupted goes on there.
"""

from __future__ import annotations

import argparse
import atexit
import gzip
import hashlib
import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from examples.grounded_qa.handwritten import read_handwritten
from examples.span_reader import squad as fetched
from examples.span_reader.exchange import other, put, turned
from ingest.collections import open_collection
from ingest.embed import Embedder, find_embedder
from ingest.pipeline import ingest_path
from ingest.search import Searcher
from ingest.settings import IngestSettings, find_home
from service.reading import rows
from service.reading.form import flat
from service.reading.rows import Asked, Passage, dice
from service.sentences import split

HERE = Path(__file__).parent
DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
#: SQuAD articles of which nothing is trained on.
VALIDATION_ARTICLES = {"Construction"}
#: One title in so many of Natural Questions, and one handwritten passage in so many, validates.
VALIDATION_TITLES, VALIDATION_HANDWRITTEN = 20, 12
#: Characters of two paragraphs joined: about 350 tokens.
JOINED = 1500
POISONED = 100
#: Of the questions of SQuAD's training part, how many are also asked so that the passage nearly answers them.
NEARLY = 0.5
#: Searches after which their hits are saved.
SAVE_EVERY = 200


def squad(seed: int) -> Iterator[Passage]:
    """Paragraphs of SQuAD 2.0 with all their questions."""
    with gzip.open(DATA / "qa" / "squad_train.json.gz", "rt", encoding="utf-8") as file:
        yield from joined(json.load(file)["data"], seed)


def large(home: Path, share: float, seed: int, read: float = 0.0) -> Iterator[Passage]:
    """Some paragraphs of SQuAD 1.1's training part, whose questions are also asked so that they nearly answer.

    They are those drawn for `share` of it, without those that had been drawn for `read` of it.
    """
    articles = [
        {
            **article,
            "paragraphs": [
                p for p in article["paragraphs"] if read <= dice(seed, "large", p["context"]).random() < share
            ],
        }
        for article in fetched.articles(home)
    ]
    for passage in joined(articles, seed):
        more = [
            nearly(asked, passage.text, dice(seed, "near", asked.question)) for asked in passage.questions
        ]
        known = {asked.question for asked in passage.questions}
        yield replace(
            passage,
            questions=(*passage.questions, *(Asked(text) for text in more if text and text not in known)),
        )


def nearly(asked: Asked, text: str, draw: random.Random) -> str | None:
    """A question with something exchanged, turned round or denied, which the passage answers no longer."""
    if draw.random() >= NEARLY:
        return None
    if draw.random() < 0.25:
        return turned(asked.question, draw)
    found = other(asked.question, text, text, asked.accepted, draw)
    return put(asked.question, *found) if found else None


def joined(articles: Sequence[dict[str, Any]], seed: int) -> Iterator[Passage]:
    """Paragraphs, some joined with the next one, with all their questions."""
    for article in articles:
        title = article["title"].replace("_", " ")
        waiting: tuple[str, tuple[Asked, ...]] | None = None
        for paragraph in article["paragraphs"]:
            text, asked = paragraph["context"], tuple(questions_of(paragraph))
            if waiting is not None:
                text, asked = f"{waiting[0]}\n\n{text}", (*waiting[1], *asked)
                waiting = None
            elif len(text) < JOINED / 2 and dice(seed, "join", text).random() < 0.3:
                waiting = text, asked
                continue
            yield Passage(text, f"squad {title}", heading(title, text, seed), asked)
        if waiting is not None:
            yield Passage(waiting[0], f"squad {title}", heading(title, waiting[0], seed), waiting[1])


def questions_of(paragraph: dict[str, Any]) -> Iterator[Asked]:
    text = paragraph["context"]
    for qa in paragraph["qas"]:
        if qa.get("is_impossible"):
            yield Asked(qa["question"])
            continue
        counted = Counter(answer["text"] for answer in qa["answers"])
        # What most annotators marked; where they differ, the shortest of those.
        chosen = min(counted, key=lambda given: (-counted[given], len(given)))
        start = next(a["answer_start"] for a in qa["answers"] if a["text"] == chosen)
        asked = rows.answered(text, qa["question"], start, start + len(chosen), counted)
        if asked is not None:
            yield asked


def natural(seed: int) -> Iterator[Passage]:
    """Gold passages of Natural Questions, but for the titles and questions that `rgb/nq_noise_en_a` asks about."""
    judged = set()
    with gzip.open(DATA / "rgb" / "nq_noise_en_a.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            one = json.loads(line)
            judged.add(rows.normal(one["query"]))
            judged |= {rows.normal(passage) for passage in one["positive"]}
    with gzip.open(DATA / "qa" / "nq_oracle_a.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]

    def is_judged(one: dict[str, Any]) -> bool:
        return bool({rows.normal(one["question"]), rows.normal(f"{one['title']}. {one['passage']}")} & judged)

    titles = {one["title"] for one in records if is_judged(one)}
    passages: dict[str, Passage] = {}
    for one in records:
        text = one["passage"].strip()
        if one["title"] in titles:
            continue
        found = None
        for answer in sorted(one["answers"], key=len):
            found = rows.locate(text, answer, one["question"])
            if found is not None:
                break
        asked = rows.answered(text, one["question"], *found, one["answers"]) if found is not None else None
        if asked is not None:
            before = passages.get(text)
            passages[text] = Passage(
                text,
                f"nq {one['title']}",
                before.heading if before else heading(one["title"], text, seed),
                (*(before.questions if before else ()), asked),
            )
    yield from passages.values()


def heading(title: str, text: str, seed: int) -> str:
    """None, the title, or a path as documents have one: it must be neither needed nor confusing."""
    draw = dice(seed, "heading", text)
    slug = re.sub(r"\W+", "-", title.lower()).strip("-")
    section = draw.choice(("Overview", "Background", "Details", "Notes", "History", "Introduction", "Part 2"))
    forms = (
        (30, ""),
        (30, title),
        (15, f"docs/{slug}.md > {title}"),
        (15, f"{title} > {section}"),
        (10, f"{slug}.pdf > {section}"),
    )
    return draw.choices([form for _, form in forms], [weight for weight, _ in forms])[0]


def poisoned(passages: Sequence[Passage], seed: int) -> list[Passage]:
    """Copies of some passages with orders to the model in them; what is right to reply stays the same."""
    orders = [
        o.strip() for o in (HERE / "orders.txt").read_text(encoding="utf-8").split("\n%%\n") if o.strip()
    ]
    draw = dice(seed, "poison")
    copies = []
    for i, passage in enumerate(draw.sample(passages, POISONED)):
        order = orders[i % len(orders)]
        sentences = split(passage.text)
        cut = draw.choice([0, len(passage.text), *(span.end for span in sentences)])
        text = f"{passage.text[:cut]}{' ' if cut else ''}{order}\n{passage.text[cut:].lstrip()}".strip()
        asked = draw.sample(passage.questions, min(4, len(passage.questions)))
        kept = [one for one in asked if all(flat(s) in flat(text) for s in one.sentences)]
        copies.append(replace(passage, text=text, questions=tuple(kept)))
    return copies


def finder(passages: Sequence[Passage], out: Path, name: str, embedder: Embedder) -> rows.Find:
    """Hybrid search over the passages, each a document; index and hits are kept for the next build."""
    folder, kept = out / "passages" / name, out / "index" / f"{name}.hits.json"
    folder.mkdir(parents=True, exist_ok=True)
    for i, passage in enumerate(passages):
        file, text = folder / f"{i:05}.txt", passage.text
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for extra in sorted(folder.glob("*.txt"))[len(passages) :]:
        extra.unlink()
    store = open_collection(out / "index", name, create=True)
    report = ingest_path([folder], store, embedder, IngestSettings(), base=folder, sync=True)
    print(f"{name}: {len(passages)} passages indexed ({report.embedded} embedded now)", flush=True)
    searcher = Searcher(store, embedder)
    state = hashlib.sha256("\0".join([embedder.id, *(p.text for p in passages)]).encode()).hexdigest()
    known: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if known.get("of") != state:
        known = {"of": state, "hits": {}}
    hits: dict[str, list[int]] = known["hits"]

    def find(question: str) -> list[int]:
        if question not in hits:
            found = (int(Path(hit.path).stem) for hit in searcher.search(question, 12).hits)
            hits[question] = list(dict.fromkeys(found))
            if len(hits) % SAVE_EVERY == 0:
                save()
        return hits[question]

    def save() -> None:
        kept.write_text(json.dumps(known), encoding="utf-8")

    atexit.register(save)
    return find


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="default: datasets/grounded-qa in the data folder")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--large",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="so much of SQuAD 1.1's training part as well",
    )
    parser.add_argument(
        "--read",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of --large, the share that the adapter to begin with has read: left out",
    )
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    home = args.home or find_home()
    out = args.out or home / "datasets" / "grounded-qa"
    embedder = find_embedder(IngestSettings().embedder, home)

    public = [*squad(args.seed), *natural(args.seed)]
    if args.large:
        public += large(home, args.large, args.seed, args.read)
    written = read_handwritten(HERE / "handwritten.txt")
    groups = sorted({p.group for p in public if p.group.startswith("nq ")})
    held = {f"squad {title}" for title in VALIDATION_ARTICLES}
    held |= set(dice(args.seed, "held").sample(groups, len(groups) // VALIDATION_TITLES))
    held |= {p.group for p in written[::VALIDATION_HANDWRITTEN]}
    sets: dict[str, list[Passage]] = {}
    for name, here in (("reading", False), ("reading_val", True)):
        mine = [p for p in public if (p.group in held) == here]
        own = [p for p in written if (p.group in held) == here]
        found, beside = (
            rows.with_distractors(some, finder(some, out, label, embedder), seed=args.seed)
            for some, label in ((mine, name), (own, f"{name}_written"))
        )
        found += beside
        if not here:
            found += poisoned([p for p in found if p.questions], args.seed)
            # The handwritten ones again, below another heading and in other words.
            found += [
                replace(p, heading="" if p.heading else p.group.removeprefix("written ")) for p in beside
            ]
        sets[name] = [rows.shuffled(p, seed=args.seed) for p in found if p.questions]
    rows.write(out, sets)
    for name, passages in sets.items():
        asked = [one for passage in passages for one in passage.questions]
        told = sum(one.answerable for one in asked)
        print(
            f"{out / name}.jsonl: {len(passages)} passages, {len(asked)} questions, {told / len(asked):.1%} answerable"
        )


if __name__ == "__main__":
    main()
