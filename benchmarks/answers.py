"""What the service answers, through the whole conductor: search, read each, choose, calibrate, cite.

    python -m benchmarks.answers [--sets found lacking adversarial noise rejection] [--limit 200]
        [--work DIR] [--json FILE]

Sets (`LOREBASE_DATA`), all on articles that neither the reading adapter nor the shipped calibrator has seen:

    found        SQuAD questions, five passages of our own search over all paragraphs of the set
    lacking      the same questions; whatever holds an accepted answer is taken out of what was found
    adversarial  SQuAD 2's unanswerable questions, same search
    noise        Natural Questions in RGB's form at noise 0.8: the gold passage and four that look like it
    rejection    the same with five passages that lack the answer

Beside the service stand two baselines: refusing always, and quoting the sentence that fits best. Exact match
and F1 as SQuAD scores them, "right" as RGB does (an accepted answer stands in the reply). Citations: precision
is the share that points into a passage that answers, recall the share of answered questions of which a cited
text holds an accepted answer, exact the share whose bytes are the stored document's at their offsets. Replies
are kept in --work, so that an interrupted run goes on and another calibrator or adapter asks anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.natural_trials import NOISE, may_fit
from benchmarks.reading_calibration import DATA, collection
from ingest.settings import find_home
from ingest.types import SearchMode, SearchResult
from service import wiring
from service.answer import Answerer, Search, Source
from service.evaluation.figures import FIGURES
from service.evaluation.modes import Asking, Mode, modes
from service.evaluation.passages import OWN, own_source
from service.evaluation.questions import Question, read_questions
from service.evaluation.replies import Answers, Reply
from service.evaluation.run import Bench, run
from service.evaluation.scoring import contains
from service.reading.calibration import SHIPPED, TYPED
from service.reading.second import FEW_WORDS, seconded
from service.settings import ServiceSettings

SETS = ("found", "lacking", "adversarial", "noise", "rejection")
SHOWN = ("exact_answerable", "f1_answerable", "right_answerable", "refused_wrongly", "refused_right", "found",
         "citation_precision", "citation_recall")  # fmt: skip


@dataclass(frozen=True)
class Lacking:
    """A search that never finds a passage with an accepted answer."""

    search_all: Search
    parts: tuple[tuple[str, ...], ...]

    def search(self, query: str, k: int, mode: SearchMode, **more: Any) -> SearchResult:
        """The best `k` of the others."""
        found = self.search_all.search(query, 4 * k, mode, **more)
        hits = [hit for hit in found.hits if not contains(hit.text, self.parts)]
        return dataclasses.replace(found, hits=tuple(hits[:k]))


def squad(articles: Sequence[Mapping[str, Any]]) -> dict[str, list[Question]]:
    """The questions of the three SQuAD sets; titles that calibrate are left out."""
    titles = sorted(article["title"] for article in articles)
    sets: dict[str, list[Question]] = {"found": [], "lacking": [], "adversarial": []}
    for article in articles:
        if article["title"] in titles[::2]:  # what benchmarks.reading_calibration fits on
            continue
        for number, paragraph in enumerate(article["paragraphs"]):
            for qa in paragraph["qas"]:
                accepted = tuple(dict.fromkeys(answer["text"] for answer in qa["answers"]))
                asked = Question(id=qa["id"], text=qa["question"], parts=(), kind="adversarial")
                if qa.get("is_impossible") or not accepted:
                    sets["adversarial"].append(asked)
                    continue
                source = f"{article['title']}/{number}.txt"
                sets["found"].append(
                    dataclasses.replace(asked, parts=(accepted,), kind="found", source=source)
                )
                # The answers are kept as decoys: whatever is answered is wrong.
                sets["lacking"].append(
                    dataclasses.replace(asked, id=f"{qa['id']}-lacking", kind="lacking", decoys=accepted)
                )
    return sets


def natural() -> dict[str, list[Question]]:
    """The questions of the two sets in RGB's form; those that calibrate are left out."""
    file = DATA / "rgb" / "nq_noise_en_a.jsonl.gz"
    asked = [q for q in read_questions(file, noise=[NOISE]) if not may_fit(q)]
    return {
        "noise": [q for q in asked if q.kind.startswith("noise")],
        "rejection": [q for q in asked if q.kind == "rejection"],
    }


def row(name: str, mode: str, questions: Sequence[Question], replies: Mapping[str, Reply]) -> list[str]:
    """One line of the table."""
    cells = [name, mode, str(len(replies))]
    for figure in SHOWN:
        values = [FIGURES[figure].value(q, replies[q.id]) for q in questions if q.id in replies]
        told = [value for value in values if value == value]  # noqa: PLR0124 - not NaN
        cells.append(f"{sum(told) / len(told):.1%}" if told else "-")
    return cells


class Progress:
    """Says on standard error how fast it goes."""

    def __init__(self, name: str) -> None:
        self._name, self._started, self._asked = name, time.monotonic(), 0

    def __call__(self, _: Question, mode: Mode, __: Reply, known: bool) -> None:
        """Count a reply."""
        if known or mode.ask is None:
            return
        self._asked += 1
        if self._asked % 25 == 0:
            pace = (time.monotonic() - self._started) / self._asked
            print(f"{self._name}: {self._asked} asked, {pace:.2f} s each", file=sys.stderr, flush=True)


def exact_bytes(replies: Sequence[Reply], texts: Mapping[str, str], passages: Mapping[str, Question]) -> str:
    """How many citations are the stored text at their offsets."""
    right = total = 0
    for reply in replies:
        for cited in reply.citations:
            total += 1
            if cited.path.startswith(OWN):
                text = passages[reply.id].passages[int(cited.path.removeprefix(OWN)) - 1].text
            else:
                text = texts[cited.path]
            right += text[cited.char_start : cited.char_end] == cited.text
    return f"{right} of {total}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--limit", type=int, default=200, help="questions of each set; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", default="grounded", help="as `service evaluate` has them")
    parser.add_argument("--model", default=ServiceSettings().model)
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--work", type=Path, help="keep collection and replies here, and use them again")
    parser.add_argument("--json", type=Path, help="write every reply")
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    with gzip.open(DATA / "qa" / "squad_dev_a.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    everything = squad(articles) | natural()
    home = args.home or find_home()
    settings = ServiceSettings(model=args.model, collection="squad", reading_cache_mb=1024)
    generators = wiring.models(settings, home, None)
    asking = Asking(model=args.model, collection="squad", k=settings.k, max_tokens=settings.max_tokens)
    asked, notes = modes(args.modes.split(","), asking)
    table = [["set", "who", "n", *SHOWN, "bytes exact", "s each"]]
    kept: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        work: Path = args.work or Path(scratch)
        shelves = collection(articles, work, home)
        whole = shelves.source("squad")
        assert whole.search is not None
        texts = {d.path: shelves.text("squad", d.document_id) for d in shelves.documents("squad")}
        held: dict[str, Any] = {}

        def source(question: Question) -> Source:
            if question.passages:
                if held.get("id") != question.id:
                    held.update(id=question.id, source=own_source(question, whole))
                return held["source"]
            if question.kind == "lacking":
                assert whole.search is not None
                return dataclasses.replace(whole, search=Lacking(whole.search, (question.decoys,)))
            return whole

        def generator(name: str) -> Any:
            if name not in held:
                held[name] = generators.choose(name).get()
            return held[name]

        calibrators = SHIPPED.read_bytes() + TYPED.read_bytes()
        decides = {"calibrator": hashlib.sha256(calibrators).hexdigest()[:12]}
        reader = getattr(generator(args.model), "reader", None)
        print(f"{args.model}, reader {reader.name if reader else 'none'}", flush=True)
        reader = seconded(reader, whole.quoter, FEW_WORDS) if reader else None
        decides["reader"] = reader.fingerprint if reader else ""
        bench = Bench(Answerer(settings.refuse_below), generator, source, lambda _: 1, asking, decides)
        answers = Answers.open(work / "answers")
        for name in args.sets:
            pick = random.Random(args.seed)
            questions = everything[name]
            if args.limit:
                questions = pick.sample(questions, min(args.limit, len(questions)))
            questions = sorted(questions, key=lambda q: q.source or q.id)  # states are used again
            outcome = run(questions, asked, bench, answers, told=Progress(name))
            for mode, replies in outcome.replies.items():
                took = [reply.total_ms / 1000 for reply in replies.values()]
                by_id = {q.id: q for q in questions}
                table.append(
                    [
                        *row(name, mode, questions, replies),
                        exact_bytes(list(replies.values()), texts, by_id),
                        f"{sum(took) / max(1, len(took)):.2f}",
                    ]
                )
                print("  ".join(table[-1]), flush=True)
                kept.setdefault(name, []).extend(dataclasses.asdict(r) for r in replies.values())
            notes += outcome.notes
            if outcome.interrupted:
                break
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    print()
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    for note in notes:
        print(f"note: {note}")
    if args.json:
        args.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
