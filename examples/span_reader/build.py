"""Build the set that the span reader learns from; see README.md beside this file.

    python -m examples.span_reader.build [--out .lorebase/datasets/span-reader] [--home HOME] [--seed 0]

Reads CMRC 2018, DRCD, SQuAD and Natural Questions from `LOREBASE_DATA`; of the last one without what
`rgb/nq_noise_en_a` asks about. Paragraphs are cut into passages by the chunker that
serves. A question is asked of the passage that answers it and, of many questions, also of one that does not:
another passage of the same paragraph, or the best by BM25 of other paragraphs; neither has an accepted answer
in it. English questions are also asked with something exchanged, so that the passage nearly answers (`exchange.py`). What the frozen layers make of every text is computed once; a build that was interrupted goes on there.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from examples.grounded_qa.build import natural as gold_passages
from examples.span_reader import squad
from examples.span_reader.across import SIBLING, crossed
from examples.span_reader.exchange import other, put, turned
from examples.span_reader.passages import (
    DATA,
    LONGEST,
    SHORTEST,
    Keywords,
    Passage,
    Question,
    articles,
    chunks,
    located,
    typed,
)
from examples.span_reader.records import records
from ingest.settings import find_home
from model import install
from model.spans import folder
from model.spans.data import Pair, SpanSet, Text, write
from model.spans.encoder import read_encoder
from model.spans.pieces import Pieced, Pieces
from model.spans.reader import SpanReader
from model.train.precision import choose
from service.evaluation import scoring
from service.reading import rows

ENCODER, LOWER_LAYERS = "multilingual-e5-small", 4
#: Share of questions that are also asked of a passage without the answer.
ALSO_NOT_HERE = 0.6
#: Share of passages that are read below their article's title.
TITLED = 0.6
#: Shares of the English questions that are also asked with a thing exchanged: in the question, turned round or
#: denied, in the passage, in both.
IN_QUESTION, TURNED, IN_PASSAGE, IN_BOTH = 0.45, 0.15, 0.25, 0.25
#: file -> (questions a paragraph at most, share of paragraphs, whether it validates)
SETS: dict[str, tuple[int, float, bool]] = {
    "cmrc2018_train": (4, 0.9, False),
    "drcd_a": (3, 0.7, False),
    "squad_train": (20, 1.0, False),
    "nq_oracle_a": (20, 1.0, False),
    "cmrc2018_trial": (1, 0.8, True),
}
#: Of these, questions that are nearly answered are made, too; of the Chinese ones, which are many, fewer.
EXCHANGED = frozenset({"squad_train", "nq_oracle_a"})
EXCHANGED_ZH = ("cmrc2018_train", "drcd_a")
RARER = 0.9
#: What `records.py` makes.
RECORDS = "records"
#: SQuAD 1.1's training part (`squad.py`), of which options say how much.
LARGE = "squad1_train"
#: Share of the questions that are asked as people type them: in small letters, without a mark.
TYPED = 0.3
#: What `across.py` makes of XQuAD.
CROSSED = "xquad_a"
#: Questions that `written.py` had written. One is kept if the reader answers it back with so much of the words.
WRITTEN = "written"
SAME = 0.6
OTHERS = (CROSSED, LARGE, RECORDS)


def read(
    name: str, draw: random.Random, pieced: Pieced, large: tuple[Path, int, float]
) -> tuple[list[Passage], list[Question]]:
    """Some of a set's paragraphs, cut, and some of their questions; `large` says where and how much of `LARGE`."""
    home, most, share = large
    if name == LARGE:
        read_in = squad.articles(home)
    else:
        most, share, _ = SETS[name]
        read_in = natural() if name == "nq_oracle_a" else articles(name)
    passages: list[Passage] = []
    questions: list[Question] = []
    paragraphs = [(article["title"], p) for article in read_in for p in article["paragraphs"]]
    for number, (title, paragraph) in enumerate(paragraphs):
        if draw.random() > share:
            continue
        heading = str(title).replace("_", " ") if draw.random() < TITLED else ""
        text, at = paragraph["context"], len(passages)
        cut = chunks(text, draw.randint(SHORTEST, LONGEST), pieced)
        passages += [Passage(number, text[a:b], heading) for a, b in cut]
        for qa in draw.sample(paragraph["qas"], min(most, len(paragraph["qas"]))):
            accepted = tuple(dict.fromkeys(a["text"] for a in qa["answers"]))
            place = located(text, qa["answers"])
            if place is None:
                if not accepted:
                    questions.append(Question(qa["question"], (), number, None))
                continue
            holding = [i for i, (a, b) in enumerate(cut) if a <= place[0] and place[1] <= b]
            if holding:
                i = draw.choice(holding)
                start, end = place[0] - cut[i][0], place[1] - cut[i][0]
                questions.append(Question(qa["question"], accepted, number, at + i, start, end))
    return passages, questions


def natural() -> list[dict[str, Any]]:
    """Natural Questions' gold passages in SQuAD's form, without titles that `rgb/nq_noise_en_a` asks about."""
    told: list[dict[str, Any]] = []
    for found in gold_passages(0):
        qas = []
        for asked in found.questions:
            place = rows.locate(found.text, asked.answer or "", asked.question)
            if place is not None:
                first = {"text": found.text[slice(*place)], "answer_start": place[0]}
                others = [{"text": text, "answer_start": -1} for text in asked.accepted]
                qas.append({"question": asked.question, "answers": [first, first, *others]})
        title = found.group.removeprefix("nq ")
        told.append({"title": title, "paragraphs": [{"context": found.text, "qas": qas}]})
    return told


def asked(
    passages: Sequence[Passage], questions: Sequence[Question], draw: random.Random
) -> Iterator[tuple[Question, int, bool]]:
    """Questions with passages, and whether the passage answers."""
    keywords = Keywords([p.text for p in passages])
    of: dict[int, list[int]] = {}
    for i, passage in enumerate(passages):
        of.setdefault(passage.paragraph, []).append(i)
    for question in questions:
        here = of[question.paragraph]
        if question.passage is None:  # SQuAD 2's adversarial ones, on the passage that is nearest
            near = [i for i in keywords.best(question.text, 20) if i in here]
            yield question, (near or here)[0], False
            continue
        yield question, question.passage, True
        if draw.random() < ALSO_NOT_HERE:
            beside = [i for i in here if not any(a in passages[i].text for a in question.accepted)]
            if not beside or draw.random() > SIBLING:
                found = keywords.best(question.text, 20)
                beside = [
                    i
                    for i in found
                    if i not in here and not any(a in passages[i].text for a in question.accepted)
                ][:3]
            if beside:
                yield question, draw.choice(beside), False


def written(files: Sequence[Path], reader: SpanReader) -> tuple[list[Passage], list[Question]]:
    """Passages and those of the questions that were written on them that the reader answers back."""
    passages: dict[tuple[str, str], Passage] = {}
    questions: dict[str, Question] = {}
    tried = 0
    for line in (line for file in files for line in file.read_text(encoding="utf-8").splitlines()):
        one = json.loads(line)
        key = one["heading"], one["text"]
        if key in passages:
            continue
        number, text = len(passages), one["text"]
        passages[key] = Passage(number, text, one["heading"])
        done: set[int] = set()
        for question, answer, start in one["asked"]:
            if start in done or question in questions or scoring.holds(question, answer):
                continue
            tried += 1
            spans = reader.read(question, [(text, one["heading"])], best=1)[0].spans
            if spans and scoring.f1(text[spans[0].start : spans[0].end], [answer]) >= SAME:
                done.add(start)
                end = start + len(answer)
                questions[question] = Question(question, (answer,), number, number, start, end)
    print(f"{WRITTEN}: {len(questions)} of {tried} questions answered back")
    return list(passages.values()), list(questions.values())


def exchanged(
    passages: Sequence[Passage],
    questions: Sequence[Question],
    draw: random.Random,
    share: float = 1.0,
    *,
    elsewhere: bool = False,
) -> Iterator[tuple[Question, Passage, bool]]:
    """Questions that a passage nearly answers, and some that it answers with other names in both."""
    known = {question.text for question in questions}
    articles_of: dict[str, list[str]] = {}
    for one in passages:
        articles_of.setdefault(one.heading, []).append(one.text)
    for question in questions:
        if question.passage is None or (share < 1 and draw.random() > share):
            continue
        passage = passages[question.passage]
        article = " ".join(articles_of[passage.heading])[:20000] if passage.heading else ""
        if elsewhere:  # articles of one paragraph: names from others as well
            article += " ".join(one.text for one in draw.sample(passages, 2))
        found = other(question.text, passage.text, article, question.accepted, draw)
        if found and draw.random() < IN_QUESTION:
            text = put(question.text, *found)
            if text not in known:
                yield replace(question, text=text), passage, False
        if draw.random() < TURNED and (text := turned(question.text, draw)):
            yield replace(question, text=text), passage, False
        # Of the passage only what stands outside the answer is exchanged, and the new thing is not in it.
        before, answer, after = (
            passage.text[: question.start],
            passage.text[question.start : question.end],
            passage.text[question.end :],
        )
        found = other(question.text, article, article, question.accepted, draw)
        if not found or found[1] in passage.text or found[0] in answer or found[0] not in before + after:
            continue
        left, right = put(before, *found), put(after, *found)
        changed = replace(passage, text=left + answer + right)
        if changed == passage:
            continue
        if draw.random() < IN_PASSAGE:
            yield question, changed, False
        if draw.random() < IN_BOTH:
            start = len(left)
            asked_so = replace(
                question, text=put(question.text, *found), start=start, end=start + len(answer)
            )
            yield asked_so, changed, True


def edges(pieces: Pieces, start: int, end: int) -> tuple[int, int] | None:
    """First and last piece of a span."""
    inside = [i for i, at in enumerate(pieces.places) if at is not None and at[0] < end and start < at[1]]
    return (inside[0], inside[-1]) if inside else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="default: datasets/span-reader in the data folder")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--sets", nargs="+", choices=[*SETS, *OTHERS], default=[*SETS, *OTHERS], help="of these"
    )
    parser.add_argument(
        "--written", nargs="+", type=Path, default=[], help="files of `written.py`, to learn from as well"
    )
    parser.add_argument(
        "--draws", nargs="+", default=[], help="of some sets several, cut anew each time, as in squad_train=2"
    )
    parser.add_argument(
        "--share",
        nargs="+",
        default=["1"],
        help="of every set's pairs, the first ones; of some sets others, as in 0.4 squad_train=1",
    )
    parser.add_argument(
        "--questions", type=int, default=1, help=f"of a paragraph of {LARGE}, at most (default: 1)"
    )
    parser.add_argument(
        "--paragraphs", type=float, default=0.64, help=f"share of those of {LARGE} (default: 0.64)"
    )
    parser.add_argument(
        "--exchanged", type=float, default=0.5, help="share of its questions also asked so (default: 0.5)"
    )
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    given = [one.rpartition("=") for one in args.share]
    every = next((float(share) for name, _, share in given if not name), 1.0)
    shares = dict.fromkeys(SETS, every) | {name: float(share) for name, _, share in given if name}
    home = args.home or find_home()
    out = args.out or home / "datasets" / "span-reader"
    encoder = read_encoder(install.find(ENCODER, home))
    pieced = Pieced(encoder.tokenizer_file, encoder.config.n_positions)
    large = home, args.questions, args.paragraphs
    texts: dict[Text, int] = {}
    pairs: list[Pair] = []

    def number(text: Text) -> int:
        return texts.setdefault(text, len(texts))

    sets = [name for name in args.sets if name not in (RECORDS, LARGE)]
    times = {name: int(n) for name, _, n in (one.rpartition("=") for one in args.draws)}
    # All first draws come first: a set is cheap to enlarge, for states are kept as long as texts come in their old order.
    turns = [(name, turn) for turn in range(max(times.values(), default=1)) for name in sets]
    turns += [(LARGE, 0)] if LARGE in args.sets else []
    turns += [(WRITTEN, 0)] if args.written else []
    turns += [(name, -1) for name in EXCHANGED_ZH if name in sets]
    turns += [(RECORDS, 0)] if RECORDS in args.sets else []
    for name, turn in turns:
        if turn >= times.get(name, 1):
            continue
        draw = random.Random(f"{args.seed} {name}" + (f" {turn}" if turn else ""))  # noqa: S311 - it hides nothing
        held = name in SETS and SETS[name][2]
        if name == CROSSED:
            whole = list(crossed(draw, pieced))
        elif name == RECORDS:
            whole = list(records(draw, pieced))
        elif turn < 0:
            # What was drawn in the first turn, anew.
            known = read(name, random.Random(f"{args.seed} {name}"), pieced, large)  # noqa: S311 - likewise
            whole = list(exchanged(*known, draw, RARER, elsewhere=True))
        else:
            if name == WRITTEN:
                passages, questions = written(args.written, folder.load(install.find(ENCODER, home)))
            else:
                passages, questions = read(name, draw, pieced, large)
            whole = [
                (question, passages[i], answers) for question, i, answers in asked(passages, questions, draw)
            ]
            if name in EXCHANGED or name in (WRITTEN, LARGE):
                whole += exchanged(passages, questions, draw, args.exchanged if name == LARGE else 1.0)
        if name not in SETS or name in EXCHANGED:
            draw.shuffle(whole)
        made: list[Pair] = []
        share = 1.0 if held else shares.get(name, 1.0)
        for question, passage, answers in whole[: round(share * len(whole))]:
            pieces = pieced.passage(passage.text, passage.heading)[0]
            found = edges(pieces, question.start, question.end) if answers else None
            if answers and found is None:
                continue
            text = typed(question.text) if not held and draw.random() < TYPED else question.text
            put = pieced.question(text)
            asking, read_in = number(Text(put.ids, put.own)), number(Text(pieces.ids, pieces.own))
            made.append(Pair(asking, read_in, found, held))
        pairs += made
        told = sum(pair.answer is not None for pair in made)
        print(
            f"{name}: {len({p.passage for p in made})} passages, {len(made)} pairs, {told} answered",
            flush=True,
        )
    write(out, list(texts), pairs, encoder.config.width)
    spans = SpanSet(out, encoder.config.width)
    tokens = sum(spans.length(pair) for pair in pairs)
    print(f"{len(pairs)} pairs of {tokens} pieces, {len(texts)} texts of {sum(len(t.ids) for t in texts)}")
    dtype = choose("auto", torch.device("cpu"))
    spans.compute(
        encoder.lower(LOWER_LAYERS, dtype),
        lambda done, of: print(f"\r{done} of {of} texts", end="", flush=True, file=sys.stderr),
    )
    print(f"\n{out}: ready")


if __name__ == "__main__":
    main()
