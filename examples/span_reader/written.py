"""Have the question writer ask about free texts, for the span reader to learn from; see README.md beside this file.

    python -m examples.span_reader.written [--out FILE] [--home HOME] [--minutes 15] [--seed 0]

Passages of wikitext-2's validation part, of thirty articles of Wikipedia and of web pages (C4), each with questions that the
adapter `question-writer` wrote. A line each: heading, passage, number of its article, and for each question its answer and where
that stands. Most of what it writes is not what the answer answers; `build.py` has the reader that is trained
on answer back (Alberti et al. 2019, arXiv 1906.05416). Who calls it again goes on behind the last line.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from examples.span_reader.build import ENCODER
from examples.span_reader.passages import DATA, Passage, chunks
from ingest.settings import find_home
from model import install
from model.engine import Engine
from model.formats import peft
from model.shelf import SHIPPED
from model.spans.encoder import read_encoder
from model.spans.pieces import Pieced
from service.tuning.spans import spans
from service.tuning.writer import WRITING, OwnWriter

MODEL = "smollm2-135m-instruct"
#: Pieces of a passage: the shorter ones of what serves, which saves time.
SHORTEST, LONGEST = 96, 200
TITLED = 0.6
#: Least characters of a passage, and questions on one at most.
LEAST, MOST = 200, 5
_TITLE = re.compile(r"^ = ([^=].*[^=]) = $", re.MULTILINE)
_SPACES = (
    (r" @(.)@ ", r"\1"),
    (r" ([,.;:?!%)\]}’])", r"\1"),
    (r"([(\[{$£]) ", r"\1"),
    (r" '(s|t|re|ve|d|ll|m)\b", r"'\1"),
    (r" n't\b", "n't"),
    (r"s ' ", "s' "),
    (r'" ([^"\n]*) "', r'"\1"'),
    (r" – ", "–"),
)


def plain(text: str) -> str:
    """Wikitext-2's tokens as text, without sentences that have an unknown word in them."""
    kept = []
    for line in text.split("\n"):
        if line.strip() and not line.startswith(" ="):
            told = [s for s in re.split(r"(?<= [.?!] )(?=[A-Z\"])", line.strip() + " ") if "<unk>" not in s]
            kept.append("".join(told).strip())
    joined = "\n".join(line for line in kept if line)
    for pattern, put in _SPACES:
        joined = re.sub(pattern, put, joined)
    return joined


def texts() -> Iterator[tuple[str, str]]:
    """Titles (empty where there is none) and texts."""

    def opened(name: str) -> str:
        with gzip.open(DATA / "pretrain" / name, "rt", encoding="utf-8") as file:
            return file.read()

    whole = opened("wikitext2_valid.txt.gz")
    titles = list(_TITLE.finditer(whole))
    for found, after in zip(titles, [*titles[1:], None], strict=True):
        yield plain(found[1]), plain(whole[found.end() : after.start() if after else None])
    for line in opened("wikipedia_en_30.txt.gz").splitlines():
        # Its paragraphs were run together without a space.
        yield "", re.sub(r"(?<=[a-z)\d][.])(?=[A-Z][a-z])", "\n", line)
    for line in opened("c4_300.jsonl.gz").splitlines():
        yield "", json.loads(line)["text"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="default: datasets/written.jsonl in the data folder")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (DATA / "pretrain").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    home = args.home or find_home()
    out: Path = args.out or home / "datasets" / "written.jsonl"
    encoder = read_encoder(install.find(ENCODER, home))
    pieced = Pieced(encoder.tokenizer_file, encoder.config.n_positions)
    draw = random.Random(f"{args.seed} written")  # noqa: S311 - it hides nothing
    passages: list[Passage] = []
    for number, (title, text) in enumerate(texts()):
        heading = title if draw.random() < TITLED else ""
        for a, b in chunks(text, draw.randint(SHORTEST, LONGEST), pieced):
            if b - a >= LEAST:
                passages.append(Passage(number, text[a:b], heading))
    draw.shuffle(passages)
    engine = Engine.load(install.find(MODEL, home))
    engine.attach(WRITING, peft.read(SHIPPED / WRITING, engine.config, base=engine.base))
    writer = OwnWriter(engine.use(WRITING))
    out.parent.mkdir(parents=True, exist_ok=True)
    done = len(out.read_text(encoding="utf-8").splitlines()) if out.is_file() else 0
    until, begun = time.monotonic() + 60 * args.minutes, done
    with out.open("a", encoding="utf-8") as file:
        for passage in passages[done:]:
            if time.monotonic() > until:
                break
            wanted = [s for s in spans(passage.text, draw) if s.answer is not None][:MOST]
            asked = writer.write(passage.heading, passage.text, wanted, threading.Event())
            told = []
            for span, questions in zip(wanted, asked, strict=True):
                sentence = passage.text.find(span.sentences[0])
                start = passage.text.find(span.answer or "", max(0, sentence))
                if start >= 0:
                    told += [(question, span.answer, start) for question in questions if question]
            line = {
                "heading": passage.heading,
                "text": passage.text,
                "article": passage.paragraph,
                "asked": told,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            done += 1
            left = (until - time.monotonic()) / 60
            print(f"\r{done - begun} passages, {left:.1f} min left", end="", flush=True, file=sys.stderr)
    print(f"\n{out}: {done} of {len(passages)} passages")


if __name__ == "__main__":
    main()
