"""How often is the reader right when it says so? Fits the shipped calibrator and sets the operating point.

    python -m benchmarks.reading_calibration [--adapter grounded-qa] [--data squad_dev_a.json.gz]
        [--articles TITLE ...] [--questions 300] [--seed 0 ...] [--alone] [--work DIR]
        [--write service/reading/calibrator.json]
        [--picture benchmarks/reading_calibration.png]

Two calibrators are shipped: of the generator with the span reader beside it, and (--alone, written to
`calibrator_alone.json`) of the generator where the span reader's encoder is not installed.

Questions on SQuAD articles that the adapter was not trained on (`LOREBASE_DATA`), asked as the service asks:
five passages from our own search over all articles of the set. The mix is what users ask, roughly: of every
four questions two have an answer, one is the same question with every passage that answers taken away
(hidden), and one is of SQuAD 2's adversarial ones (unanswerable). `service/reading/trials.py` says what counts
as right.

The calibrator is fitted on half of the articles (every second title, or --articles), its operating point is
set there, cross-fitted, and both are judged on the other half: expected calibration error, area under the
risk-coverage curve against the same answers ranked by retrieval score, refusals, contradictions shown where
there are none. The file that is written is then fitted on both halves (--half: on the first alone). What was
read is kept in --work, so a fit can be repeated at no cost; reading goes on where it
was interrupted. Passages are asked about one after another, so that their states are used again.
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
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ingest.collections import open_collection
from ingest.embed import find_embedder
from ingest.pipeline import ingest_path
from ingest.settings import IngestSettings, find_home
from model import install
from model.engine import Engine
from model.formats import peft
from model.merge_command import adapter_folder
from service.answer import READ_FROM
from service.answering.turn import Source
from service.reading import trials
from service.reading.cache import MEGABYTE, States
from service.reading.calibration import Calibrator, Floats, area, risk_coverage
from service.reading.reader import Reader
from service.reading.second import FEW_WORDS, seconded, wants_few_words
from service.reading.select import FEATURES
from service.reading.trials import Record, Trial
from service.shelves import Shelves

DATA = Path(os.environ.get("LOREBASE_DATA", "../shared/data"))
PICTURE = Path(__file__).with_name("reading_calibration.png")
CACHE_MB = 1024
#: What annotators (language models, blind to replies and confidences) said of the hidden trials of `--questions 150 --seed 1 2`.
HIDDEN_JUDGED = Path(__file__).with_name("hidden_judged.jsonl")


def asked(articles: Sequence[dict[str, Any]], most: int, seeds: Sequence[int]) -> list[Trial]:
    """Trials of these articles: half answerable, a quarter hidden, a quarter unanswerable; by paragraph.

    Each seed draws as many; a trial that several draw is there once.
    """
    kinds: dict[str, list[Trial]] = {"answerable": [], "hidden": [], "unanswerable": []}
    for article in articles:
        for number, paragraph in enumerate(article["paragraphs"]):
            for qa in paragraph["qas"]:
                accepted = tuple(dict.fromkeys(answer["text"] for answer in qa["answers"]))
                group, question = f"{article['title']} {number:04}", qa["question"]
                if qa.get("is_impossible") or not accepted:
                    kinds["unanswerable"].append(Trial("unanswerable", question, (), group))
                else:
                    kinds["answerable"].append(Trial("answerable", question, (accepted,), group))
                    kinds["hidden"].append(Trial("hidden", question, (accepted,), group))
    half = min(most, len(kinds["answerable"]), 2 * len(kinds["unanswerable"]) or most)
    shares = {"answerable": half, "hidden": half // 2, "unanswerable": half // 2}
    drawn: dict[str, Trial] = {}
    for seed in seeds:
        draw = random.Random(seed)
        for kind, n in shares.items():
            drawn |= {t.key: t for t in draw.sample(kinds[kind], min(n, len(kinds[kind])))}
    return sorted(drawn.values(), key=lambda trial: trial.group)


def collection(articles: Sequence[dict[str, Any]], work: Path, home: Path) -> Shelves:
    """A collection of these articles, a text file a paragraph; made once."""
    settings = IngestSettings()
    embedder = find_embedder(settings.embedder, home)
    folder = work / "texts"
    for article in articles:
        (folder / article["title"]).mkdir(parents=True, exist_ok=True)
        for number, paragraph in enumerate(article["paragraphs"]):
            (folder / article["title"] / f"{number}.txt").write_text(paragraph["context"], encoding="utf-8")
    ingest_path([folder], open_collection(work, "squad", create=True), embedder, settings)
    return Shelves(work, "squad", settings, lambda _: embedder)


def read(
    chosen: Sequence[Trial], source: Callable[[Trial], Source], reader: Reader, kept: Path
) -> list[Record]:
    """Every trial's record, read now or before; `source` tells where each is asked."""
    known: dict[str, Record] = {}
    if kept.is_file():
        for line in kept.read_text(encoding="utf-8").splitlines():
            key, stored = json.loads(line)
            known[key] = Record.of(stored)
    started, done = time.monotonic(), 0
    waiting = [trial for trial in chosen if trial.key not in known]
    with kept.open("a", encoding="utf-8") as file:
        for trial in waiting:
            known[trial.key] = trials.examine(trial, source(trial), reader, least_relevance=READ_FROM)
            file.write(json.dumps([trial.key, known[trial.key].as_json()]) + "\n")
            file.flush()
            done += 1
            if done % 25 == 0:
                pace = (time.monotonic() - started) / done
                left = pace * (len(waiting) - done) / 60
                print(
                    f"{done} of {len(waiting)} read, {pace:.2f} s each, {left:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )
    return [known[trial.key] for trial in chosen]


def draw_curves(
    judged: dict[str, tuple[Floats, Floats]], by_score: Floats, right: Floats, file: Path, n: str
) -> None:
    """Risk-coverage and reliability, side by side, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for label, (p, ok) in judged.items():
        curve = risk_coverage(p, ok, points=200)
        left.plot(
            [c for _, c, _ in curve], [r for _, _, r in curve], label=f"{label}, area {area(p, ok):.3f}"
        )
        edges = np.quantile(p[p > 0], np.linspace(0, 1, 11)) if (p > 0).any() else np.linspace(0, 1, 11)
        which = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, 9)
        bins = [b for b in range(10) if ((which == b) & (p > 0)).any()]
        middle.plot(
            [p[(which == b) & (p > 0)].mean() for b in bins],
            [ok[(which == b) & (p > 0)].mean() for b in bins],
            marker="o",
            label=label,
        )
    curve = risk_coverage(by_score, right, points=200)
    left.plot(
        [c for _, c, _ in curve],
        [r for _, _, r in curve],
        linestyle=":",
        label=f"by retrieval score, area {area(by_score, right):.3f}",
    )
    left.set(xlabel="share of questions answered", ylabel="share of answers wrong", ylim=(0, 1), xlim=(0, 1))
    middle.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    middle.set(xlabel="confidence, tenths of the answers", ylabel="share right", ylim=(0, 1), xlim=(0, 1))
    for axes in (left, middle):
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.2)
    figure.suptitle(f"The shipped calibrator on articles that it has not seen ({n})", fontsize=10)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--adapter", default="grounded-qa", help="a name, a finished run or a folder")
    parser.add_argument("--data", default="squad_dev_a.json.gz", help="file below qa/")
    parser.add_argument("--articles", nargs="+", help="titles to fit on; the others judge")
    parser.add_argument(
        "--questions", type=int, default=300, help="answerable ones of each half; as many others"
    )
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[0], help="one draw of questions each; all are used"
    )
    parser.add_argument("--home", type=Path, help="data folder; default: the one in use")
    parser.add_argument(
        "--alone", action="store_true", help="the generator without the span reader beside it"
    )
    parser.add_argument("--work", type=Path, help="keep collection and readings here, and use them again")
    parser.add_argument(
        "--without", nargs="+", choices=FEATURES, default=[], help="fit without these features"
    )
    parser.add_argument("--half", action="store_true", help="write what was fitted on the first half alone")
    parser.add_argument("--write", type=Path, help="the calibrator's file")
    parser.add_argument("--picture", type=Path, help=f"the curves' file, such as {PICTURE.name}")
    args = parser.parse_args()
    if not (DATA / "qa").is_dir():
        sys.exit(f"no data in {DATA}: set LOREBASE_DATA")
    with gzip.open(DATA / "qa" / args.data, "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    titles = sorted(article["title"] for article in articles)
    fitted_on = args.articles or titles[::2]
    if unknown := set(fitted_on) - set(titles):
        sys.exit(f"{args.data} has no article {', '.join(sorted(unknown))}; there are: {', '.join(titles)}")
    halves = [
        asked([a for a in articles if (a["title"] in fitted_on) is inside], args.questions, args.seed)
        for inside in (True, False)
    ]
    if not args.alone:  # other questions are read by the generator alone
        halves = [[trial for trial in half if wants_few_words(trial.question)] for half in halves]
    home = args.home or find_home()
    folder = reading_adapter(args.adapter, home)
    with tempfile.TemporaryDirectory() as scratch:
        work: Path = args.work or Path(scratch)
        shelves = collection(articles, work, home)
        reader = reader_of(args.model, folder, home)
        weights = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()[:12]
        source = shelves.source("squad")
        if args.alone:
            source = replace(source, quoter=None)
        who = seconded(reader, source.quoter, FEW_WORDS).fingerprint
        records = [read(half, lambda _: source, reader, work / f"trials-{who[:12]}.jsonl") for half in halves]
        embedder = source.embedder or ""
    if args.without:
        records = [[_without(record, args.without) for record in half] for half in records]
    about = {
        "model": args.model,
        "adapter": weights,
        "on": f"{args.data}: {', '.join(sorted(fitted_on))}",
        "read": "five passages of our own search; half answerable, a quarter hidden, a quarter adversarial",
    }
    crossed = trials.cross_fit(halves[0], records[0])
    threshold = trials.threshold_of(halves[0], records[0], crossed)
    made = trials.learn("shipped", halves[0], records[0], about)
    unseen = [trials.judge(made, record) for record in records[1]]
    reports = {
        "cross-fitted": trials.figures(halves[0], records[0], crossed, threshold),
        "other articles": trials.figures(halves[1], records[1], unseen, threshold),
    }
    for name, half, some in zip(reports, halves, records, strict=True):
        told = [
            trials.contradicted(made, threshold, r)
            for t, r in zip(half, some, strict=True)
            if t.kind != "hidden"
        ]
        reports[name]["shown as a contradiction"] = round(float(np.mean(told)), 4) if told else 0.0
    print(f"{'':52}{'fit (crossed)':>14}{'other articles':>16}")
    for name in reports["other articles"]:
        values = [reports[which].get(name, float("nan")) for which in reports]
        print(f"{name:52}{values[0]:14.4g}{values[1]:16.4g}")
    print(f"{'threshold':52}{threshold:14.4g}")
    for feature, weight in zip(FEATURES, made.weights, strict=True):
        print(f"  weight of {feature:18}{weight:8.3f}")
    for accepted in (0.05, 0.1, 0.2):
        point = replace(made, curve=trials.curve(crossed), questions=len(crossed)).operating_point(accepted)
        told = trials.figures(halves[1], records[1], unseen, point.threshold)
        wrong = told.get("wrong among the answers", float("nan"))
        print(f"acceptable error {accepted:4.0%}: threshold {point.threshold:.3f}, on other articles "
              f"{told['answered']:.1%} answered, {wrong:.1%} of them wrong")  # fmt: skip
    p, right = trials.columns(unseen)
    shipped = made
    if not args.half:
        everything = [t for half in halves for t in half], [r for some in records for r in some]
        crossed = trials.cross_fit(*everything)
        threshold = trials.threshold_of(*everything, crossed)
        about |= {"on": f"{args.data}, all articles; figures: fitted on {', '.join(sorted(fitted_on))} only"}
        shipped = trials.learn("shipped", *everything, about)
        reports["all, cross-fitted"] = trials.figures(*everything, crossed, threshold)
        reports["all, cross-fitted"] |= by_hand(everything[0], crossed, threshold)
        print("\nthe file is fitted on all articles; cross-fitted there:")
        for name, value in reports["all, cross-fitted"].items():
            print(f"{name:52}{value:14.4g}")
    curve = trials.curve(crossed)
    shipped = replace(
        shipped,
        threshold=threshold,
        curve=curve,
        questions=len(crossed),
        made_for={"reader": who},
        fitted=about | {"embedder": embedder} | reports,
    )
    print(f"\nthreshold {threshold:.4g}, least: {shipped.least}")
    if args.picture:
        scores = np.array([record.score for record in records[1]])
        draw_curves({"calibrated": (p, right)}, scores, right, args.picture, f"{len(p)} questions")
        print(f"drawn: {args.picture}")
    if args.write:
        shipped.save(args.write)
        Calibrator.load(args.write, features=FEATURES)
        print(f"written: {args.write}")


def by_hand(chosen: Sequence[Trial], judged: Sequence[trials.Judged], threshold: float) -> dict[str, float]:
    """How many hidden questions are refused of those that a person's reading found unanswered, too.

    Passages with an accepted answer are taken out by string match, so some that are left tell it in other words.
    """
    verdicts = {one["trial"]: one["verdict"] for one in map(json.loads, HIDDEN_JUDGED.open(encoding="utf-8"))}
    told: dict[str, float] = {}
    for name, out in (("told in other words", {"told"}), ("told or arguable", {"told", "arguable"})):
        refused = [
            p < threshold
            for trial, (p, _) in zip(chosen, judged, strict=True)
            if trial.key in verdicts and verdicts[trial.key] not in out
        ]
        if refused:
            told[f"refused, hidden and not {name}"] = round(float(np.mean(refused)), 4)
    return told


def reader_of(model: str, adapter: Path, home: Path) -> Reader:
    """What reads in the service: that model with the adapter in that folder."""
    engine = Engine.load(install.find(model, home))
    engine.attach("reader", peft.read(adapter, engine.config, base=engine.base))
    return Reader(engine.use("reader"), States(CACHE_MB * MEGABYTE))


def reading_adapter(adapter: str, home: Path) -> Path:
    """The folder of that adapter: the one that comes with the package, or one of the user's."""
    from model.shelf import SHIPPED

    folder = SHIPPED / adapter
    return folder if (folder / "adapter_config.json").is_file() else adapter_folder(adapter, home)


def _without(record: Record, features: Sequence[str]) -> Record:
    """The record with some features at 0, as if nobody had looked."""
    kept = [float(feature not in features) for feature in FEATURES]
    return replace(
        record,
        candidates=tuple(
            (tuple(f * keep for f, keep in zip(own, kept, strict=True)), right)
            for own, right in record.candidates
        ),
    )


if __name__ == "__main__":
    main()
