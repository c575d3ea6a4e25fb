"""`python -m service evaluate`: ask every question in every mode, and write the report.

Composition root of the comparison: collections, generators and the embedder are taken from the same wiring
as the service's. Replies are kept in `answers.jsonl` as they come; the report is written at the end, after
Ctrl-C too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ingest.errors import UnknownCollection
from ingest.settings import IngestSettings, read_table
from model import shelf
from model.errors import Cancelled, UnknownModel
from service.answering.turn import Source
from service.app import assemble
from service.cli import progress
from service.deps import Parts
from service.errors import InvalidRequest, ServiceError, UpstreamError
from service.evaluation import page, report, terminal
from service.evaluation.judge import Judge
from service.evaluation.modes import Asking, Mode, modes
from service.evaluation.passages import own_source
from service.evaluation.questions import Question, read_questions
from service.evaluation.replies import Answers, Reply
from service.evaluation.run import Bench, Outcome, run
from service.generators import Generator
from service.models import OLLAMA
from service.settings import ServiceSettings
from service.tuning import build as tuning
from service.tuning import trained_on

#: A closed-book adapter that is missing is built from so many pairs, if that takes no longer than this.
BUILT_PAIRS, BUILT_WITHIN_S = 200, 20 * 60
#: Verdicts that are kept at a time.
JUDGED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embedder as ranking one question's own passages needs it."""

    similarity: Callable[[str, Sequence[str]], list[float]]
    unrelated_cosine: float


def embedding(name: str, home: Path) -> Embedding:
    """The installed embedder of that name.

    Raises:
        EmbedderError: it is not installed; names the command that fetches it.
    """
    from ingest.embed import find_embedder
    from ingest.search import unrelated_cosine

    embedder = find_embedder(name, home)

    def similarity(question: str, texts: Sequence[str]) -> list[float]:
        products = embedder.encode_passages(texts) @ embedder.encode_queries([question])[0]
        return [float(p) for p in products]

    return Embedding(similarity, unrelated_cosine(embedder))


def execute(given: argparse.Namespace, settings: ServiceSettings, home: Path) -> int:
    """The command over the data folder; see `compare`."""
    name = embedder_name()
    return compare(given, assemble(settings, home), lambda: embedding(name, home))


def embedder_name() -> str:
    """The embedder that the settings name."""
    return read_table("ingest", IngestSettings).embedder


def compare(
    given: argparse.Namespace, parts: Parts, embed: Callable[[], Embedding], notes: Sequence[str] = ()
) -> int:
    """Run the comparison; returns the exit status: 0 complete, 1 something is missing, 130 interrupted.

    Args:
        given: the command's arguments.
        parts: of the service.
        embed: the embedder, where questions bring their passages.
        notes: what readers of the report should know.

    Raises:
        ServiceError, IngestError, ModelError: it could not begin; the message says what to do.
    """
    questions = read_questions(given.questions, noise=_rates(given.noise), corpus=given.corpus)
    if given.limit is not None:
        if given.limit < 1:
            raise InvalidRequest(f"--limit should be 1 or more, got {given.limit}")
        questions = questions[: given.limit]
    if given.passages == "collection":
        questions = [replace(q, passages=()) for q in questions]
    settings = parts.settings
    wanted = [name.strip() for name in given.modes.split(",") if name.strip()]
    finetuned, told = _finetuned(given, parts, wanted, questions)
    asking = Asking(
        model=settings.model.partition("+")[0],
        collection=settings.collection,
        k=given.k or settings.k,
        search_mode=given.search_mode or settings.search_mode,
        max_tokens=given.max_tokens or settings.max_tokens,
        remote_max_tokens=given.max_tokens or settings.remote_max_tokens,
        finetuned=finetuned,
        acceptable_error=settings.acceptable_error,
    )
    asked, left_out = modes(wanted, asking)
    told += left_out
    for mode in asked:
        if mode.generator is not None:
            parts.models.choose(mode.generator)  # a wrong name is told now, not after the first question
    judge = _judge(parts, given.judge) if given.judge else None
    bench = _bench(parts, questions, asking, embed)
    folder = (
        given.out
        or parts.home / "evaluations" / f"{given.questions.name.partition('.')[0]}-{settings.collection}"
    )
    answers = Answers.open(folder)
    if given.again:
        answers.forget()
    for note in told:
        print(f"note: {note}", file=sys.stderr)
    outcome = _run(questions, asked, bench, answers)
    if judge is not None and not outcome.interrupted:
        _rate(questions, outcome, judge, answers)
    made = report.build(
        questions,
        asked,
        outcome.replies,
        settings=_settings(given, parts, asking),
        notes=[*notes, *told, *outcome.notes],
    )
    write(folder, made)
    print(terminal.table(made, [*notes, *told]))
    print(f"\nreport: {folder / 'report.html'}\n        {folder / 'report.json'}")
    if outcome.interrupted:
        same = "the same command without --again" if given.again else "the same command"
        print(f"interrupted; {same} goes on where it stopped", file=sys.stderr)
        return 130
    failed = any(reply.error for given_ in outcome.replies.values() for reply in given_.values())
    return 1 if failed or outcome.notes else 0


def _finetuned(
    given: argparse.Namespace, parts: Parts, modes: Sequence[str], questions: Sequence[Question]
) -> tuple[str | None, list[str]]:
    """The closed-book adapter: the one that is named, or the collection's own, built now where that is quick.

    Returns:
        Its name, None where there is none; and what to say of it.
    """
    home, collection = parts.home, parts.settings.collection
    if given.finetuned is not None:
        there = [a.folder for a in shelf.adapters(home) if a.name == given.finetuned]
        why = trained_on.stale(there[0], home) if there else None
        return given.finetuned, [f"{given.finetuned} is stale: {why}"] if why else []
    if not any("finetuned" in mode for mode in modes) or all(q.passages for q in questions):
        return None, []
    base = parts.settings.model.partition("+")[0]
    found = trained_on.current(home, collection, base)
    fresh = [adapter.name for adapter, why in found if why is None]
    if fresh:
        return fresh[0], []
    command = f"python -m service tune --collection {collection}"
    try:
        plan = tuning.plan(parts, tuning.Wanted(collection=collection, base=base, max_pairs=BUILT_PAIRS))
        if plan.seconds > BUILT_WITHIN_S:
            raise InvalidRequest(f"building it takes about {plan.seconds / 60:.0f} minutes")
        tuning.ready(parts, plan.wanted)
        print(
            f"no adapter was trained on {collection} yet: building one, as `{command}` does", file=sys.stderr
        )
        return progress.built(parts, plan).adapter, []
    except (InvalidRequest, UnknownCollection, tuning.NothingToTune) as error:
        if found:
            adapter, why = found[0]
            return adapter.name, [f"{adapter.name} is stale: {why}. `{command}` makes a new one ({error})"]
        return None, [
            f"no adapter was trained on the collection {collection}: {error}. `{command}` makes one"
        ]


def _bench(
    parts: Parts, questions: Sequence[Question], asking: Asking, embed: Callable[[], Embedding]
) -> Bench:
    """What the run needs; the embedder is loaded only where questions bring their passages."""
    if any(not q.passages for q in questions):
        parts.library.source(asking.collection)  # an unknown collection is told now
    info = {c.name: c for c in parts.library.collections()}.get(asking.collection)
    if info is None and any(not q.passages for q in questions):
        raise InvalidRequest(
            f"the collection {asking.collection!r} is empty. Ingest the documents that the questions "
            f"are about: python -m ingest ./docs --collection {asking.collection}"
        )
    own: Source | None = None
    if any(q.passages for q in questions):
        meaning, quoter = embed(), parts.library.source(parts.settings.collection).quoter
        own = Source(None, meaning.similarity, None, meaning.unrelated_cosine, quoter)
    ranked: dict[str, Any] = {}

    def source(question: Question) -> Any:
        if question.passages:
            assert own is not None
            if ranked.get("id") != question.id:  # once for all modes
                ranked.update(id=question.id, source=own_source(question, own))
            return ranked["source"]
        return parts.library.source(asking.collection)

    held: dict[str, Generator] = {}

    def generator(name: str) -> Generator:
        if name not in held:
            held[name] = parts.models.choose(name).get()
        return held[name]

    generation = info.generation if info else 0
    return Bench(
        parts.answerer,
        generator,
        source,
        lambda question: 0 if question.passages else generation,
        asking,
        {"refuse_below": parts.settings.refuse_below, "adapters": shelf.hashes(parts.home)},
        _judges(parts, asking.collection),
    )


def _judges(parts: Parts, collection: str) -> dict[str, object]:
    """What reads passages, and what judges what was read: with another of them, replies are others."""
    from model.spans import folder as spans

    found: dict[str, object] = {"calibrators": parts.answerer.calibrators.all_of(collection)}
    quoter = parts.library.source(parts.settings.collection).quoter
    weights = spans.SHIPPED / spans.WEIGHTS_FILE
    if quoter is not None and weights.is_file():
        digest = hashlib.blake2b(weights.read_bytes(), digest_size=8).hexdigest()
        found |= {"span reader": digest, "span calibrator": quoter.calibrator}
    return found


def _run(questions: Sequence[Question], asked: Sequence[Mode], bench: Bench, answers: Answers) -> Outcome:
    """The run, with its progress on standard error."""
    with tqdm(total=len(questions) * len(asked), unit="reply", file=sys.stderr, disable=None) as bar:

        def told(_: Question, mode: Mode, reply: Reply, known: bool) -> None:
            bar.set_description_str(mode.name[:18].ljust(18), refresh=False)
            bar.update()
            if reply.error and not known:
                bar.write(f"{mode.name}, {reply.id}: {reply.error}", file=sys.stderr)

        return run(questions, asked, bench, answers, told=told)


def _judge(parts: Parts, name: str) -> Judge:
    if not name.startswith(OLLAMA):
        raise InvalidRequest(f"--judge should be ollama/NAME, got {name!r}")
    try:
        return Judge(parts.models.choose(name).get())
    except UnknownModel as error:
        raise InvalidRequest(f"--judge: {error}") from error


def _rate(questions: Sequence[Question], outcome: Outcome, judge: Judge, answers: Answers) -> None:
    """Let the judge rate what it has not rated; a judge that fails ends the judging, not the report."""
    by_id = {q.id: q for q in questions}
    waiting = [
        (by_id[r.id], given, r)
        for given in outcome.replies.values()
        for r in given.values()
        if judge.wanted(by_id[r.id], r)
    ]
    fresh: list[Reply] = []
    cancel = threading.Event()
    try:
        for question, given, reply in tqdm(waiting, "judging", unit="reply", file=sys.stderr, disable=None):
            given[reply.id] = judge.rate(question, reply, cancel)
            fresh.append(given[reply.id])
            if len(fresh) >= JUDGED_AT_ONCE:
                answers.add(fresh)
                fresh.clear()
    except UpstreamError as error:
        outcome.notes.append(f"the judge stopped: {error}")
    except (KeyboardInterrupt, Cancelled):
        outcome.interrupted = True
    answers.add(fresh)


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        rates = [-1.0]
    if not rates or any(not 0 <= rate < 1 for rate in rates):
        raise InvalidRequest(f"--noise should be numbers from 0 to below 1, such as 0,0.4,0.8; got {text!r}")
    return rates


def _settings(given: argparse.Namespace, parts: Parts, asking: Asking) -> dict[str, object]:
    """What readers of the report need to know of the run; no path of this machine but the file's name."""
    told: dict[str, object] = {
        "questions": given.questions.name,
        "corpus": given.corpus,
        "first": given.limit,
        "collection": asking.collection,
        "model": asking.model,
        "finetuned": asking.finetuned,
        "passages": given.passages,
        "k": asking.k,
        "search_mode": asking.search_mode,
        "max_tokens": asking.max_tokens,
        "remote_max_tokens": asking.remote_max_tokens,
        "refuse_below": parts.settings.refuse_below,
        "acceptable_error": asking.acceptable_error,
        "judge": given.judge,
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    return {name: value for name, value in told.items() if value is not None}


def write(folder: Path, made: dict[str, Any]) -> None:
    """Both reports, each replaced as a whole.

    Raises:
        ServiceError: the disk is full or gone.
    """
    texts = {"report.json": json.dumps(made, ensure_ascii=False, indent=1), "report.html": page.render(made)}
    try:
        for name, text in texts.items():
            draft = folder / f".{name}.new"
            draft.write_text(text, encoding="utf-8", errors="replace")
            draft.replace(folder / name)
    except OSError as error:
        raise ServiceError(
            f"cannot write the report to {folder} ({error.strerror}); the replies are kept in answers.jsonl, "
            "so run the same command again once there is room"
        ) from error
