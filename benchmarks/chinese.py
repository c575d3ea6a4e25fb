"""How well Chinese questions are answered in the documents' own words, through the whole conductor.

    python -m benchmarks.chinese [--limit 300] [--work DIR] [--json FILE] [--data cmrc2018_dev_a]

CMRC 2018 (`LOREBASE_DATA`): its paragraphs are ingested, a file each, but for every fifth; questions on those
that were left out cannot be answered and should be refused. Three ways side by side:

    spans       as the service answers: the span reader, its calibrator and threshold
    sentence    the sentence that fits best by words and meaning, as without the span reader
    refuse      always

F1 and exact match over characters (`service.evaluation.scoring`), a refusal scoring 0; whether a citation
stands in the right paragraph; whether every citation is the stored document's text at its offsets, byte for
byte, and the answer made of slices of it. What was asked is kept in --work, so that a run goes on where it was
interrupted; it belongs to one state of the span reader and its calibrator.
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
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ingest.collections import open_collection
from ingest.embed import find_embedder
from ingest.pipeline import ingest_path
from ingest.settings import IngestSettings, find_home
from model.spans import folder
from service.answer import Answerer, Ask, Source
from service.evaluation.scoring import exact_match, f1
from service.events import Final
from service.generators import Message
from service.reading.calibration import area, calibration_error
from service.shelves import Shelves
from service.spans import quoter

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
#: One paragraph in so many is left out of the collection.
LEFT_OUT = 5
#: An answer counts as right, for its confidence, from this F1 on.
RIGHT = 0.6


class Silent:
    """The place of a generator that cannot write Chinese: whoever asks it has gone wrong."""

    name, context_tokens, writes_cjk, focus_sentences = "silent", 2048, False, 0
    capabilities: frozenset[Any] = frozenset()

    def count_tokens(self, messages: Sequence[Message]) -> int:  # noqa: ARG002, D102
        raise AssertionError("nobody should be asked to write")

    stream = count_tokens  # type: ignore[assignment]


@dataclass(frozen=True)
class Question:
    """A question and the file of its paragraph."""

    text: str
    accepted: tuple[str, ...]
    path: str
    there: bool  #: whether the paragraph is in the collection


@dataclass(frozen=True)
class Result:
    """What one way answered."""

    question: str
    way: str
    there: bool
    found: bool  #: the search found the paragraph
    answer: str
    refused: bool
    exact: float
    f1: float
    cited: bool  #: the first citation stands in the right paragraph
    holds: bool  #: and an accepted answer in it
    verbatim: bool
    confidence: float
    relevance: float  #: of the best passage, as the search has it
    seconds: float


def paragraphs(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with gzip.open(DATA / "qa" / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    for a, article in enumerate(articles):
        for p, paragraph in enumerate(article["paragraphs"]):
            yield f"{a:04}-{p}.txt", paragraph


def collection(
    name: str, work: Path, home: Path, left_out: int | None = LEFT_OUT
) -> tuple[Shelves, list[Question]]:
    """The set's paragraphs as a collection, and its questions."""
    settings = IngestSettings()
    embedder = find_embedder(settings.embedder, home)
    texts = work / name
    texts.mkdir(parents=True, exist_ok=True)
    questions: list[Question] = []
    for number, (path, paragraph) in enumerate(paragraphs(name)):
        there = left_out is None or number % left_out != left_out - 1
        if there and not (texts / path).is_file():
            (texts / path).write_text(paragraph["context"], encoding="utf-8")
        for qa in paragraph["qas"]:
            if accepted := tuple(dict.fromkeys(a["text"] for a in qa["answers"])):
                questions.append(Question(qa["question"], accepted, path, there))
    ingest_path([texts], open_collection(work, name, create=True), embedder, settings, base=texts)
    return Shelves(work, name, settings, lambda _: embedder), questions


def ask(  # noqa: PLR0917
    answerer: Answerer, source: Source, question: Question, way: str, shelves: Shelves, name: str
) -> Result:
    started = time.perf_counter()
    *_, final = answerer.answer(
        Ask(question=question.text, mode="quote"), source, Silent(), threading.Event()
    )
    seconds = time.perf_counter() - started
    assert isinstance(final, Final)
    assert not final.llm_generated
    told = final.answer if final.answered else ""
    for citation in final.citations:
        told = told.replace(f"[{citation.marker}]", "")
    here = [hit.path == question.path for hit in final.sources]
    return Result(
        question.text,
        way,
        question.there,
        any(here),
        told.strip(),
        not final.answered,
        exact_match(told, question.accepted) if final.answered else 0.0,
        f1(told, question.accepted) if final.answered else 0.0,
        bool(final.citations) and final.citations[0].path == question.path,
        any(answer in final.citations[0].text for answer in question.accepted) if final.citations else False,
        verbatim(final, shelves, name),
        float(final.confidence or 0.0),
        max((hit.score for hit in final.sources), default=0.0),
        seconds,
    )


def verbatim(final: Final, shelves: Shelves, name: str) -> bool:
    """Whether citations are slices of their documents, and what is said is part of what it cites."""
    for citation in final.citations:
        if shelves.text(name, citation.document_id)[citation.char_start : citation.char_end] != citation.text:
            return False
    texts = {citation.marker: citation.text for citation in final.citations}
    said = [s for s in final.statements if not s.ours] if final.answered else []
    return all(s.text.strip() in texts.get(marker, "") for s in said for marker in s.markers)


def reader_state() -> str:
    """Changes with the weights and the calibrator."""
    digest = hashlib.sha256(quoter.SHIPPED.read_bytes())
    weights = folder.SHIPPED / folder.WEIGHTS_FILE
    digest.update(weights.read_bytes() if weights.is_file() else b"none")
    return digest.hexdigest()[:12]


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def report(results: Sequence[Result]) -> None:
    there, gone = [r for r in results if r.there], [r for r in results if not r.there]
    answerable = sum(r.way == "spans" for r in there)
    left_out = sum(r.way == "spans" for r in gone)
    print(f"\n{answerable} questions whose paragraph is there, {left_out} whose paragraph was left out")
    print(f"paragraph among the passages found: {mean([r.found for r in there]):.1%}\n")
    columns = (
        "F1",
        "exact",
        "refused",
        "F1 of answered",
        "right paragraph",
        "citation holds it",
        "left out: refused",
        "verbatim",
        "s",
    )
    print(f"{'':10}" + "".join(f"{column:>18}" for column in columns))
    for way in ("spans", "sentence"):
        mine, out = [r for r in there if r.way == way], [r for r in gone if r.way == way]
        told = [r for r in mine if not r.refused]
        figures = (
            mean([r.f1 for r in mine]),
            mean([r.exact for r in mine]),
            mean([r.refused for r in mine]),
            mean([r.f1 for r in told]),
            mean([r.cited for r in told]),
            mean([r.holds for r in told]),
            mean([r.refused for r in out]),
            mean([r.verbatim for r in mine + out]),
        )
        seconds = mean([r.seconds for r in mine + out])
        print(f"{way:10}" + "".join(f"{value:18.1%}" for value in figures) + f"{seconds:18.2f}")
    print(f"{'refuse':10}{0:18.1%}{0:18.1%}{1:18.1%}{'-':>18}{'-':>18}{'-':>18}{1:18.1%}{'-':>18}{0:18.2f}")
    spans = [r for r in results if r.way == "spans"]
    right = np.array([float(r.there and r.f1 >= RIGHT) for r in spans])
    sure, found = np.array([r.confidence for r in spans]), np.array([r.relevance for r in spans])
    told_right = [(r.confidence, float(r.f1 >= RIGHT)) for r in spans if not r.refused]
    if told_right:
        p, ok = (np.array(column) for column in zip(*told_right, strict=True))
        print(f"\ncalibration error of what was answered: {calibration_error(p, ok):.3f}")
    print(f"area under risk-coverage: {area(sure, right):.3f}; by retrieval {area(found, right):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cmrc2018_dev_a", help="set below qa/")
    parser.add_argument("--limit", type=int, default=10_000, help="questions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="keep collection and answers here, and use them again")
    parser.add_argument("--json", type=Path, help="every answer")
    parser.add_argument("--show", type=int, default=0, help="print so many answers")
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        work: Path = args.work or Path(scratch)
        shelves, questions = collection(args.data, work, find_home())
        print(f"ingested after {time.perf_counter() - started:.0f} s", flush=True)
        chosen = random.Random(args.seed).sample(questions, min(args.limit, len(questions)))
        source = shelves.source(args.data)
        if source.quoter is None or source.quoter.reader is None:
            sys.exit("the span reader cannot be loaded; the log says why")
        kept = work / f"answers-{args.data}-{reader_state()}.jsonl"
        known = {}
        if kept.is_file():
            for line in kept.read_text(encoding="utf-8").splitlines():
                result = Result(**json.loads(line))
                known[result.way, result.question] = result
        answerer = Answerer()
        results: list[Result] = []
        with kept.open("a", encoding="utf-8") as file:
            for number, question in enumerate(chosen, 1):
                for way, from_ in (("spans", source), ("sentence", replace(source, quoter=None))):
                    if (way, question.text) not in known:
                        result = ask(answerer, from_, question, way, shelves, args.data)
                        known[way, question.text] = result
                        file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
                        file.flush()
                    results.append(known[way, question.text])
                if number % 50 == 0:
                    print(
                        f"{number} of {len(chosen)} after {time.perf_counter() - started:.0f} s", flush=True
                    )
        for question in chosen[: args.show]:
            spans, sentence = known["spans", question.text], known["sentence", question.text]
            print(f"\n{question.text} ({'there' if question.there else 'left out'}: {question.accepted[0]})")
            print(f"  spans    {'refused' if spans.refused else spans.answer} ({spans.confidence:.2f})")
            print(f"  sentence {'refused' if sentence.refused else sentence.answer}")
        report(results)
        shelves.close()
    if args.json:
        args.json.write_text(json.dumps([asdict(r) for r in results], ensure_ascii=False, indent=1))
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
