"""Questions with known answers, read as the service reads them: what a calibrator is fitted and judged on.

    answerable     the collection answers it
    hidden         the same question, but whatever answers it is taken out of what was found
    unanswerable   nothing answers it: asked of another collection, or written so

A hidden question is what a search brings up where the document is missing: passages on the subject that do
not tell. Any answer to it is wrong, and so is one to an unanswerable question.

A candidate is right if its short answer shares enough words with an accepted one (F1) or holds one whole, or
if its quotation holds half of the parts that a full answer has.

Invariant: figures are cross-fitted. Who judges a question was fitted on questions of other documents.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ingest.types import Hit, SearchMode
from service import refusal
from service.answering.turn import Source
from service.evaluation.passages import same_document
from service.evaluation.scoring import contains
from service.generators import PassageReader
from service.reading.calibration import Calibrator, Floats, area, calibration_error, fit, risk_coverage
from service.reading.readings import PassageReading, Readings
from service.reading.second import seconded
from service.reading.select import CONTRADICTS, FEATURES, MOST_LOGIT, contradict, describe, heard, words

Kind = Literal["answerable", "hidden", "unanswerable"]
Parts = tuple[tuple[str, ...], ...]
#: F1 with an accepted answer from which on a short answer is right; share of a full answer's parts.
RIGHT, HALF = 0.6, 0.5
#: Share of the answerable questions, whose passage was found, that the operating point may refuse.
FALSE_REFUSALS = 0.10
#: Share of them that may be lost to passages that the model says do not tell, whatever else speaks for them;
#: below so many of them another calibrator's limit is taken.
UNHEARD, LEAST_FOUND = 0.05, 50
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """A question of one kind; `parts` as `service.evaluation.questions.Question` has them."""

    kind: Kind
    question: str
    parts: Parts  #: what answers it; of a hidden question, what would
    group: str  #: what must not stand on both sides of a split: its document, as a rule
    source: str | None = None  #: path of the document that answers it, as far as known

    @property
    def key(self) -> str:
        """What its record is found by."""
        told = "\0".join([self.kind, self.question, self.source or "", repr(self.parts)])
        return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Record:
    """What came of a trial."""

    relevance: float  #: probability that the passages are about the question, from the search alone
    score: float  #: the best passage's, as the search ranks
    found: bool  #: a passage that answers was read
    candidates: tuple[tuple[tuple[float, ...], bool], ...] = ()  #: features, and whether it is right
    apart: tuple[tuple[int, ...], ...] = ()  #: of each candidate, which others contradict it

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Record:
        """From plain data. Raises KeyError, TypeError, ValueError where it is something else."""
        if any(len(features) != len(FEATURES) for features, _ in stored["candidates"]):
            raise ValueError("a record with the features of another version")
        return cls(
            float(stored["relevance"]),
            float(stored["score"]),
            bool(stored["found"]),
            tuple((tuple(map(float, features)), bool(right)) for features, right in stored["candidates"]),
            tuple(tuple(map(int, others)) for others in stored["apart"]),
        )


Judged = tuple[float, bool]  #: probability of the likeliest candidate, and whether it is right


def is_right(reading: PassageReading, parts: Parts) -> bool:
    """Whether a reading answers the question whose full answer has these parts."""
    if not parts:
        return False
    if reading.answer is not None:
        accepted = [spelling for part in parts for spelling in part]
        if max(_f1(reading.answer, one) for one in accepted) >= RIGHT:
            return True
        if contains(reading.answer, parts) >= HALF:
            return True
        return len(parts) > 1 and contains(" ".join((reading.answer, *reading.quoted)), parts) >= HALF
    return contains(" ".join(reading.quoted), parts) >= HALF


def _f1(said: str, accepted: str) -> float:
    left, right = words(said), words(accepted)
    shared = sum(min(left.count(word), right.count(word)) for word in {*left})
    return 2 * shared / (len(left) + len(right)) if shared else 0.0


def examine(
    trial: Trial,
    source: Source,
    reader: PassageReader,
    *,
    k: int = 5,
    search_mode: SearchMode = "hybrid",
    least_relevance: float = 0.0,
    answers: Callable[[Hit], bool] | None = None,
    cancel: threading.Event | None = None,
) -> Record:
    """Search and read as the service does.

    Args:
        trial: what is asked.
        source: the collection.
        reader: reads the passages.
        k: of them.
        search_mode: how they are found.
        least_relevance: under which nothing is read.
        answers: whether a passage answers; by default it holds an accepted answer or is of `trial.source`.
        cancel: ends the reading.

    Raises:
        Cancelled: `cancel` was set.
        IngestError, ModelError: what search and reader raise.
    """
    assert source.search is not None
    tells = answers or (lambda hit: _tells(hit, trial))
    found = source.search.search(trial.question, k if trial.kind != "hidden" else 4 * k, search_mode).hits
    hits = [hit for hit in found if trial.kind != "hidden" or not tells(hit)][:k]
    judged = refusal.relevance(trial.question, hits, source.rarity, source.unrelated_cosine)
    score = max((hit.score for hit in hits), default=0.0)
    there = trial.kind == "answerable" and any(map(tells, hits))
    if not hits or judged.probability < least_relevance:
        return Record(judged.probability, score, there)
    both = seconded(reader, source.quoter, trial.question)
    readings = _read(both, trial.question, hits, cancel or threading.Event())
    written = heard(trial.question, readings.passages)
    parts = trial.parts if trial.kind == "answerable" else ()
    features = describe(trial.question, readings.passages, judged.probability)
    return Record(
        judged.probability,
        score,
        there,
        tuple((own, is_right(reading, parts)) for reading, own in zip(written, features, strict=True)),
        tuple(
            tuple(i for i, other in enumerate(written) if contradict(trial.question, reading, other))
            for reading in written
        ),
    )


def _tells(hit: Hit, trial: Trial) -> bool:
    if trial.source is not None and same_document(hit.path, trial.source):
        return True
    return contains(hit.text, trial.parts) > 0


def _read(reader: PassageReader, question: str, hits: Sequence[Hit], cancel: threading.Event) -> Readings:
    going = reader.read(question, hits, cancel)
    while True:
        try:
            next(going)
        except StopIteration as ended:
            readings: Readings = ended.value
            return readings


def judge(calibrator: Calibrator, record: Record) -> Judged:
    """Probability of the likeliest candidate, and whether it is right; 0 where there is none."""
    if not record.candidates:
        return 0.0, False
    return max((calibrator.probability(features), right) for features, right in record.candidates)


def learn(
    name: str,
    trials: Sequence[Trial],
    records: Sequence[Record],
    fitted: dict[str, Any] | None = None,
    *,
    prior: Calibrator | None = None,
    unheard: float = UNHEARD,
) -> Calibrator:
    """A calibrator for these records. Raises ServiceError where they teach nothing.

    Args:
        name: of the calibrator.
        trials: what was asked.
        records: what came of it.
        fitted: on what, for people.
        prior: what the fit is pulled to.
        unheard: as `UNHEARD`; 0: every candidate is heard.
    """
    candidates = [record.candidates for record in records]
    if not unheard:
        return fit(name, FEATURES, candidates, fitted, prior=prior)
    here = FEATURES.index("here")
    telling = [
        max((features[here] for features, _ in record.candidates), default=-MOST_LOGIT)
        for trial, record in zip(trials, records, strict=True)
        if trial.kind == "answerable" and record.found
    ]
    if len(telling) >= LEAST_FOUND:
        least = {"here": float(np.quantile(telling, unheard))}
    else:
        least = dict(prior.least) if prior is not None else {}
    return fit(name, FEATURES, candidates, fitted, prior=prior, least=least)


def folds(trials: Sequence[Trial], count: int = FOLDS) -> list[int]:
    """Of each trial, which fold it belongs to: groups stay together, folds are about equally large.

    Where all that has an answer is one group (a collection of one document), its questions are the groups.
    """
    one = len({trial.group for trial in trials if trial.kind != "unanswerable"}) < 2
    groups = [trial.question if one else trial.group for trial in trials]
    sizes = Counter(groups)
    load, place = [0] * count, dict[str, int]()
    for group in sorted(sizes, key=lambda group: (-sizes[group], group)):
        place[group] = load.index(min(load))
        load[place[group]] += sizes[group]
    return [place[group] for group in groups]


def cross_fit(
    trials: Sequence[Trial],
    records: Sequence[Record],
    *,
    prior: Calibrator | None = None,
    unheard: float = UNHEARD,
) -> list[Judged]:
    """Each record judged by a calibrator that was fitted on the other folds.

    Raises:
        ServiceError: some fold leaves nothing to learn from.
    """
    fold = folds(trials)
    judged: list[Judged] = [(0.0, False)] * len(trials)
    for held in sorted(set(fold)):
        rest = [at for at, where in enumerate(fold) if where != held]
        other = learn(
            "other folds",
            [trials[at] for at in rest],
            [records[at] for at in rest],
            prior=prior,
            unheard=unheard,
        )
        for at, record in enumerate(records):
            if fold[at] == held:
                judged[at] = judge(other, record)
    return judged


def threshold_of(
    trials: Sequence[Trial],
    records: Sequence[Record],
    judged: Sequence[Judged],
    refused: float = FALSE_REFUSALS,
) -> float:
    """The threshold that refuses this share of the answerable questions whose passage was found."""
    found = [
        probability
        for trial, record, (probability, _) in zip(trials, records, judged, strict=True)
        if trial.kind == "answerable" and record.found
    ]
    return float(np.clip(np.quantile(found, refused), 0.01, 0.99)) if found else 0.5


def figures(
    trials: Sequence[Trial], records: Sequence[Record], judged: Sequence[Judged], threshold: float
) -> dict[str, float]:
    """What the probabilities are worth, and what the threshold does.

    The area under the risk-coverage curve is the mean risk over all coverages; beside it stand the same
    answers ranked by the retrieval's score and by its relevance, and the best order there could be.
    """
    p, right = columns(judged)
    kinds = np.array([trial.kind for trial in trials])
    found = np.array([record.found for record in records])
    answered = p >= threshold
    given = p > 0
    tells = (kinds == "answerable") & found
    by_score = area(np.array([record.score for record in records]), right)
    ours = area(p, right)
    told = {
        "questions": float(len(p)),
        "passage found": _mean(found[kinds == "answerable"]),
        "answered": _mean(answered),
        "answered rightly, of those whose passage was found": _mean((answered & (right > 0))[tells]),
        "refused, passage found": 1 - _mean(answered[tells]),
        "refused, hidden": 1 - _mean(answered[kinds == "hidden"]),
        "refused, unanswerable": 1 - _mean(answered[kinds == "unanswerable"]),
        "wrong among the answers": 1 - _mean(right[answered]),
        "calibration error": calibration_error(p[given], right[given]),
        "area under risk-coverage": ours,
        "the same by retrieval score": by_score,
        "better than by retrieval score": 1 - ours / by_score if by_score else 0.0,
        "the same by relevance": area(np.array([record.relevance for record in records]), right),
        "the same at best": area(right, right),
    }
    return {name: round(value, 4) for name, value in told.items() if not math.isnan(value)}


def curve(judged: Sequence[Judged]) -> tuple[tuple[float, float, float], ...]:
    """The risk-coverage curve of what was judged; what was not heard is never answered."""
    p, right = columns(judged)
    return risk_coverage(p[p > 0], right[p > 0], len(p))


def columns(judged: Sequence[Judged]) -> tuple[Floats, Floats]:
    """Probabilities, and 1 where the answer is right."""
    return np.array([p for p, _ in judged], dtype=float), np.array([float(ok) for _, ok in judged])


def contradicted(calibrator: Calibrator, threshold: float, record: Record) -> bool:
    """Whether two candidates would be shown as contradicting each other (`select.decide`)."""
    p = [calibrator.probability(features) for features, _ in record.candidates]
    if not p or max(p) < threshold:
        return False
    least = max(threshold, CONTRADICTS * max(p))
    return any(p[i] >= least for i in record.apart[p.index(max(p))])


def log_loss(judged: Sequence[Judged]) -> float:
    """Mean negative log-likelihood, in nats: what tells two calibrators apart on few questions."""
    p, right = columns(judged)
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return float(-(right * np.log(p) + (1 - right) * np.log(1 - p)).mean())


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
