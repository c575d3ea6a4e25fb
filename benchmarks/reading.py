"""How well an adapter reads: exact match, refusals and quotations, from the kernels that serve.

    python -m benchmarks.reading --adapter grounded-qa [--limit 300] [--sets gold adversarial ...] [--json FILE]

One passage at a time, as `service/reading/form.py` asks it, greedy. The sets, all unseen in training:

    gold         SQuAD questions on their own paragraph (part A articles that nobody trained on)
    adversarial  SQuAD 2's unanswerable questions on theirs
    distractor   the answerable ones on the best passage of our own search that lacks the answer
    nq           Natural Questions on their gold passage, titles that were kept out of training
    nq-noise     the same on the best BM25 passage that lacks the answer
    xquad        XQuAD's English questions, articles that nobody trained on

Each is drawn anew with --seed. Besides the reply, the probability of `NOT_HERE` is kept, so that any operating
point can be read off afterwards. Scores as SQuAD's evaluation has them. Baselines: refusing always, and the
sentence of the passage that shares the rarest words with the question.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from examples.grounded_qa.build import finder
from ingest.embed import find_embedder
from ingest.settings import IngestSettings, find_home
from ingest.words import query_terms, terms
from model import install
from model.config import Sampling
from model.engine import Cache, Engine
from model.formats import peft
from model.merge_command import adapter_folder
from service.reading.form import MOST_TOKENS, NOT_HERE, flat, parse_reply, passage_messages
from service.reading.rows import Passage, holds
from service.sentences import split

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
VOICE = "under test"


@dataclass(frozen=True)
class Case:
    """A question on a passage; without golds the right reply is a refusal."""

    passage: str
    heading: str
    question: str
    golds: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What came back."""

    question: str
    golds: tuple[str, ...]
    reply: str
    refusal: float  #: probability of NOT_HERE as a whole
    exact: float
    f1: float
    refused: bool
    verbatim: bool  #: it quotes, and every quoted sentence stands in the passage
    supported: bool  #: a quoted sentence holds a gold answer
    baseline_exact: float
    baseline_f1: float
    baseline_holds: bool


# ---------------------------------------------------------------------------------- SQuAD's scores


def plain(text: str) -> list[str]:
    """Words as SQuAD's evaluation compares them: small letters, no punctuation, no articles."""
    return re.sub(r"\b(a|an|the)\b", " ", re.sub(r"[^\w\s]|_", "", text.lower())).split()


def exact_match(given: str, golds: Sequence[str]) -> float:
    return float(any(plain(given) == plain(gold) for gold in golds))


def f1(given: str, golds: Sequence[str]) -> float:
    def against(gold: str) -> float:
        ours, theirs = plain(given), plain(gold)
        if not ours or not theirs:
            return float(ours == theirs)
        shared = sum((Counter(ours) & Counter(theirs)).values())
        return 2 * shared / (len(ours) + len(theirs))

    return max(map(against, golds))


# ---------------------------------------------------------------------------------- the sets


def load(name: str) -> Any:
    path = DATA / name
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file] if ".jsonl" in name else json.load(file)["data"]


def squad_cases(name: str, *, without: frozenset[str] = frozenset()) -> Iterator[Case]:
    for article in load(name):
        if article["title"] in without:
            continue
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                golds = (
                    () if qa.get("is_impossible") else tuple(dict.fromkeys(a["text"] for a in qa["answers"]))
                )
                yield Case(paragraph["context"], article["title"].replace("_", " "), qa["question"], golds)


def noise_cases(which: str) -> Iterator[Case]:
    for one in load("rgb/nq_noise_en_a.jsonl.gz"):
        title, _, text = one[which][0].partition(". ")
        golds = tuple(
            answer for parts in one["answer"] for answer in ([parts] if isinstance(parts, str) else parts)
        )
        yield Case(text, title, one["query"], golds if which == "positive" else ())


def distractors(cases: Sequence[Case], out: Path, home: Path) -> Iterator[Case]:
    passages = [
        Passage(text, text)
        for text in dict.fromkeys(case.passage for case in squad_cases("qa/squad_dev_a.json.gz"))
    ]
    find = finder(passages, out, "squad_dev", find_embedder(IngestSettings().embedder, home))
    for case in cases:
        for i in find(case.question):
            if passages[i].text != case.passage and not holds(passages[i].text, case.golds):
                yield Case(passages[i].text, "", case.question, ())
                break


def chosen(name: str, limit: int, pick: random.Random, home: Path, work: Path) -> list[Case]:
    trained = frozenset(article["title"] for article in load("qa/squad_train.json.gz"))
    makers: dict[str, Callable[[], Iterator[Case]]] = {
        "gold": lambda: (c for c in squad_cases("qa/squad_dev_a.json.gz") if c.golds),
        "adversarial": lambda: (c for c in squad_cases("qa/squad_dev_a.json.gz") if not c.golds),
        "distractor": lambda: (c for c in squad_cases("qa/squad_dev_a.json.gz") if c.golds),
        "nq": lambda: noise_cases("positive"),
        "nq-noise": lambda: noise_cases("negative"),
        "xquad": lambda: squad_cases("qa/xquad_en_a.json.gz", without=trained),
    }
    cases = list(makers[name]())
    cases = pick.sample(cases, min(limit, len(cases))) if limit else cases
    return list(distractors(cases, work, home)) if name == "distractor" else cases


SETS = ("gold", "adversarial", "distractor", "nq", "nq-noise", "xquad")


# ---------------------------------------------------------------------------------- reading


def read(engine: Engine, cases: Sequence[Case], *, headings: bool, most_tokens: int) -> Iterator[Result]:
    """Every case; a passage's tokens are read once for all questions on it."""
    rarity = rarities(case.passage for case in cases)
    no_answer = engine.tokenizer.encode(NOT_HERE)
    order = sorted(range(len(cases)), key=lambda i: cases[i].passage)
    held: list[int] = []
    cache: Cache | None = None
    results: dict[int, Result] = {}
    for i in order:
        case = cases[i]
        ids = engine.prompt(passage_messages(case.heading if headings else "", case.passage, case.question))
        shared = next(
            (n for n, (a, b) in enumerate(zip(held, ids, strict=False)) if a != b), min(len(held), len(ids))
        )
        if cache is not None:
            cache.truncate(shared)
        _, cache = engine.prefill([ids], cache=cache)
        held = ids
        (logprobs,) = engine.score(ids, [no_answer], cache=cache.copy(room=64))
        reply = "".join(
            token.text
            for token in engine.generate(ids, Sampling(max_tokens=most_tokens), cache=cache.copy(room=64))
        )
        results[i] = judged(case, reply, math.exp(sum(logprobs)), rarity)
    yield from (results[i] for i in range(len(cases)))


def judged(case: Case, reply: str, refusal: float, rarity: dict[str, float]) -> Result:
    reading = parse_reply(reply)
    given = reading.answer or ""
    best = best_sentence(case, rarity)
    passage = flat(case.passage)
    return Result(
        question=case.question,
        golds=case.golds,
        reply=reply,
        refusal=refusal,
        exact=exact_match(given, case.golds) if case.golds else float(reading.refused),
        f1=f1(given, case.golds) if case.golds else float(reading.refused),
        refused=reading.refused,
        verbatim=bool(reading.sentences) and all(flat(s) in passage for s in reading.sentences),
        supported=bool(case.golds) and any(holds(s, case.golds) for s in reading.sentences),
        baseline_exact=exact_match(best, case.golds) if case.golds else 0.0,
        baseline_f1=f1(best, case.golds) if case.golds else 0.0,
        baseline_holds=bool(case.golds) and holds(best, case.golds),
    )


def rarities(texts: Iterator[str]) -> dict[str, float]:
    kinds = [set(terms(text)) for text in set(texts)]
    counted = Counter(term for kind in kinds for term in kind)
    return {term: math.log(1 + len(kinds) / n) for term, n in counted.items()}


def best_sentence(case: Case, rarity: dict[str, float]) -> str:
    wanted = set(query_terms(case.question))
    sentences = [case.passage[s.start : s.end] for s in split(case.passage)] or [case.passage]
    return max(sentences, key=lambda s: sum(rarity.get(term, 0.0) for term in wanted & set(terms(s))))


# ---------------------------------------------------------------------------------- the table


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def described(name: str, results: Sequence[Result]) -> str:
    line = f"{name:12}{len(results):5}"
    refused = mean([r.refused for r in results])
    if not any(r.golds for r in results):
        return f"{line}  refused {refused:6.1%}"
    told = [r for r in results if not r.refused]
    return (
        f"{line}  EM {mean([r.exact for r in results]):6.1%}  F1 {mean([r.f1 for r in results]):6.1%}"
        f"  refused {refused:6.1%}  quotes verbatim {mean([r.verbatim for r in told]):6.1%}"
        f"  and with the answer {mean([r.supported for r in told]):6.1%}"
        f"  | best sentence EM {mean([r.baseline_exact for r in results]):5.1%} F1 {mean([r.baseline_f1 for r in results]):5.1%}"
        f" holds it {mean([r.baseline_holds for r in results]):5.1%}"
    )


def operating_points(found: dict[str, list[Result]]) -> Iterator[str]:
    """Refusals where so many of the answerable questions are refused, by the probability of NOT_HERE alone."""
    for told, sets in (("gold", ("adversarial", "distractor")), ("nq", ("nq-noise",))):
        if told not in found:
            continue
        levels = sorted((r.refusal for r in found[told]), reverse=True)
        for share in (0.05, 0.10, 0.15):
            level = levels[int(share * len(levels))]
            rates = [
                f"{name} {mean([r.refusal > level for r in found[name]]):.1%}"
                for name in sets
                if name in found
            ]
            if rates:
                kept = [r for r in found[told] if r.refusal <= level and not r.refused]
                yield f"refusing {share:4.0%} of {told} (above {level:.3f}): refused {', '.join(rates)}; answered as written: {mean([r.exact for r in kept]):.1%} exact"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--adapter", help="name or folder; without it the base alone")
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--limit", type=int, default=300, help="questions of each set; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kernel", default="auto")
    parser.add_argument("--headings", action="store_true", help="show titles above the passages")
    parser.add_argument("--answers-only", action="store_true", help="stop early: no quotations are judged")
    parser.add_argument("--work", type=Path, help="keep the index of the distractors here")
    parser.add_argument("--json", type=Path, help="write every reply")
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    home = args.home or find_home()
    engine = Engine.load(install.find(args.model, home), kernel=args.kernel)
    if args.adapter:
        engine.attach(VOICE, peft.read(adapter_folder(args.adapter, home), engine.config, base=engine.base))
        engine = engine.use(VOICE)
    print(f"{engine.describe()}; adapter {args.adapter or 'none'}", flush=True)
    found: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.sets:
            start = time.perf_counter()
            cases = chosen(name, args.limit, random.Random(args.seed), home, args.work or Path(scratch))
            most = 24 if args.answers_only else MOST_TOKENS
            found[name] = list(read(engine, cases, headings=args.headings, most_tokens=most))
            print(f"{described(name, found[name])}  ({time.perf_counter() - start:.0f} s)", flush=True)
    told = [r for results in found.values() for r in results if r.golds]
    everything = sum(map(len, found.values()))
    print(
        f"refusing always: EM 0.0% where there is an answer, {1 - len(told) / everything:.1%} of all that was asked here"
    )
    for line in operating_points(found):
        print(line)
    if args.json:
        args.json.write_text(
            json.dumps({n: [asdict(r) for r in rs] for n, rs in found.items()}, indent=1, ensure_ascii=False)
        )


if __name__ == "__main__":
    main()
