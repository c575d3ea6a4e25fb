"""From what each passage says to what is answered: the likeliest candidate, a refusal, or two that disagree.

A candidate is one passage's reading. What is known of it (`FEATURES`) gives the probability that it is right
(`reading.calibration`); those that say the same strengthen each other. Leaving a passage out costs nothing
here, so nobody has to guess which passage an answer came from.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from service import evidence
from service.questions import compared, definitions, mismatched, opposites, wanted
from service.reading.calibration import Calibrator
from service.reading.readings import PassageReading

#: What a candidate's probability is made from, in this order; see `describe`.
FEATURES = (
    "here",
    "certain",
    "relevance",
    "score",
    "margin",
    "agree",
    "differ",
    "stands",
    "short",
    "asked",
    "gain",
    "span",
    "tells",
    "apart",
    "spans",
    "agree_here",
    "agree_span",
)
#: A second answer contradicts the first if it is at least this likely beside it.
CONTRADICTS = 0.65
#: Share of equal words (F1) from which on two short answers say the same.
SAME_WORDS = 0.6
#: Logits and log-probabilities are cut here: beyond, they tell of rounding.
MOST_LOGIT, LEAST_LOGPROB = 8.0, -6.0
#: What stands for the certainty of sentences that were asked for, about the median of quotations: how likely
#: they are tells rows of a table, which are easy to go on with, from prose, and not what answers.
CHOSEN = -0.6
#: Evidence gains, in nats a token, are cut here.
LEAST_GAIN, MOST_GAIN = -2.0, 8.0
#: The span reader's logits are cut here, and a distance from its likeliest span.
MOST_SPAN, LEAST_APART = 12.0, -12.0
#: An answer with several items goes before a likelier one with one, where a list is asked for, if it is this
#: likely beside it.
LISTED = 0.8
#: What both of two passages need to be heard as a contradiction: telling, by the model; and speaking of what
#: is asked, or in the same words as the other.
TELLS, SPEAKS = 0.8, 0.5
#: Share of a yes-or-no question's content that a sentence needs for a yes or no to be read off it.
DECIDES = 0.8

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+(?:\.\d+)?")
#: A question that names the answers to choose from.
_CHOICE = re.compile(r"\bor\b|还是|還是|或", re.IGNORECASE)
#: A question's own word for what it asks.
_ASKS = re.compile(
    r"\b(?:what|who|whom|whose|which|when|where|why|how)\b|什么|什麼|谁|誰|哪|几|幾|多少|何|怎|为啥|為啥|吗|嗎",
    re.IGNORECASE,
)
#: A repeated question is all of it but a word, at least so many words, and at most so many others.
LEAST_REPEATED, MOST_ADDED = 4, 2
#: A number with its scale, where it is written with one.
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?:\s*(thousand|million|billion|trillion))?\b", re.IGNORECASE)
_FIGURE = re.compile(r"\d+(?:[.:]\d+)*")
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One passage's reading and how likely it is right."""

    reading: PassageReading
    features: tuple[float, ...]  #: in the order of `FEATURES`
    probability: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the candidates."""

    kind: Literal["answer", "conflict", "refuse"]
    confidence: float  #: probability that the best candidate is right
    best: Candidate | None = None
    other: Candidate | None = None  #: what contradicts it


def words(text: str) -> list[str]:
    """The words of an answer for comparing it: case, marks, articles and commas in numbers aside."""
    plain = _THOUSANDS.sub("", unicodedata.normalize("NFKC", text).casefold())
    return _WORD.findall(_ARTICLES.sub(" ", plain))


def same(one: PassageReading, other: PassageReading) -> bool | None:
    """Whether two readings say the same; None where that cannot be told (a short answer and a quotation)."""
    if one.answer is not None and other.answer is not None:
        left, right = words(one.answer), words(other.answer)
        if not left or not right:
            return one.answer == other.answer
        if rounded(one.answer, other.answer):
            return True
        if _other_figures(one.answer, other.answer):
            return False
        shared = sum(min(left.count(word), right.count(word)) for word in {*left})
        return shared in (len(left), len(right)) or 2 * shared / (len(left) + len(right)) >= SAME_WORDS
    quoted = [set(words(" ".join(reading.quoted))) for reading in (one, other)]
    if one.answer is None and other.answer is None:
        return True if quoted[0] & quoted[1] >= min(quoted, key=len) else None
    short, long = (one, quoted[1]) if one.answer is not None else (other, quoted[0])
    return True if set(words(short.answer or "")) <= long else None


def rounded(one: str, other: str) -> bool:
    """Whether one answer is the other's number, rounded: 135 million and 134,515,008.

    Told only where a scale is spelled out: a plain 1890 may be a year.
    """
    numbers = [_NUMBER.findall(_THOUSANDS.sub("", answer)) for answer in (one, other)]
    if any(len(found) != 1 for found in numbers):
        return False
    (rough, rough_scale), (fine, fine_scale) = sorted(
        (found[0] for found in numbers), key=lambda number: len(number[0].replace(".", ""))
    )
    if not rough_scale:
        return False
    step = _SCALES[rough_scale.lower()] / 10 ** len(rough.partition(".")[2])
    exact = float(fine) * _SCALES.get(fine_scale.lower(), 1)
    return bool(abs(exact - float(rough) * _SCALES[rough_scale.lower()]) <= step / 2)


def echoes(question: str, reading: PassageReading) -> bool:
    """Whether a short answer says no more than the question does, which offers nothing to choose from."""
    if reading.answer is None or reading.polar or _CHOICE.search(question):
        return False
    said, asked = words(reading.answer), words(question)
    if set(said) <= {*asked}:
        return bool(said)
    stems = set(evidence.terms(reading.answer))  # What are the modes? Mode.
    return len(stems) == len(said) and stems <= set(evidence.terms(question))


def repeats(question: str, text: str) -> bool:
    """Whether a text is the question over again: its words in their order, and next to no others.

    "What year was it built" answers nothing, but "it was built in 1890" may: the question's own word for what
    it asks is among what is repeated.
    """
    asked, said = words(question), words(text)
    if len(said) > len(asked) + MOST_ADDED or not _ASKS.search(text):
        return False
    found = SequenceMatcher(None, asked, said, autojunk=False).find_longest_match()
    whole = found.size >= max(LEAST_REPEATED, len(asked) - 1)
    return whole and len(said) - found.size <= MOST_ADDED


def heard(question: str, readings: Sequence[PassageReading]) -> list[PassageReading]:
    """The readings that say something.

    Neither their answer nor all they quote is the question over again or says its opposite, and a bare yes or
    no answers only what asks for one.
    """
    return [
        reading
        for reading in readings
        if reading.sentences
        and (reading.polar or words(reading.answer or "") not in (["yes"], ["no"]))
        and not repeats(question, reading.answer or "")
        and not all(repeats(question, quoted) for quoted in reading.quoted)
        and not (reading.answer and mismatched.is_of_another_kind(question, reading.answer))
        and not _opposite(question, reading)
    ]


def _opposite(question: str, reading: PassageReading) -> bool:
    """Whether it says the opposite of what is asked; what was computed from cells does not."""
    begins = reading.sentences[0][0]
    place = reading.place
    answer = (place[0] - begins, place[1] - begins) if place is not None and place[0] >= begins else None
    return reading.by != "cells" and opposites.says_opposite(question, " ".join(reading.quoted), answer)


def contradict(question: str, one: PassageReading, other: PassageReading) -> bool:
    """Whether two passages give different answers of one kind to what is asked.

    That two passages answer differently is ordinary: one is wrong, a list has several items, a thing has
    several sides. A contradiction is two yes or no, or two short answers of which both or neither are
    numbers, neither of which stands in the other's sentences; and these speak of what is asked, or in the
    same words.
    """
    if one.rank == other.rank or one.polar != other.polar:
        return False
    if same(one, other) is not False:
        return False
    if not (supported(question, one) and supported(question, other)):
        return False  # what is shown is then a sentence, and nobody has said that it differs
    if min(1.0 - one.not_here, 1.0 - other.not_here) < TELLS or wanted.never_short(question):
        return False
    if definitions.asked(question) or definitions.lists(question):
        return False  # a thing may be called more than one thing, and a list has several items
    sides = [(reading, _sentence(reading)) for reading in (one, other)]
    if not one.polar:
        answers = [words(reading.answer or "") for reading, _ in sides]
        said = [words(" ".join(reading.quoted)) for reading, _ in reversed(sides)]
        if not all(answers) or any(map(evidence.within, answers, said)):
            return False
        if len({any(word[0].isdigit() for word in answer) for answer in answers}) > 1:
            return False
    asked = evidence.weights(question)
    if all(evidence.share(asked, terms) >= SPEAKS for _, terms in sides):
        return True
    own = [terms - set(evidence.terms(reading.answer or "")) for reading, terms in sides]
    return bool(own[0] and own[1]) and len(own[0] & own[1]) >= SPEAKS * min(map(len, own))


def _several(reading: PassageReading) -> bool:
    """Whether an answer, or what it quotes where it has none of its own, names several things."""
    return definitions.several(reading.answer or " ".join(reading.quoted))


def _sentence(reading: PassageReading) -> frozenset[str]:
    return frozenset(evidence.terms(" ".join(reading.quoted)))


def _other_figures(one: str, other: str) -> bool:
    """Whether two short answers have numbers, and other ones: 10 working days, 30 working days."""
    left, right = ({*_FIGURE.findall(_THOUSANDS.sub("", answer))} for answer in (one, other))
    return bool(left and right) and not (left <= right or right <= left)


def describe(question: str, readings: Sequence[PassageReading], relevance: float) -> list[tuple[float, ...]]:
    """The features of every reading that says something (`heard`), in their order.

    here        logit of the model's own probability that the passage tells
    certain     mean log-probability of what it wrote freely; `CHOSEN` where it could only choose sentences
    relevance   logit of the retrieval's probability that the passages are about the question
    score       the search's, of this passage
    margin      the same less the best other passage's
    agree       of the others that say the same, how likely the likeliest tells
    differ      of the others that say something else, the same
    stands      1 if the short answer stands in the sentence, or is a yes or no to a question for one; a half
                if it stands elsewhere in the passage; 0 if it only repeats the question; 1 for a quotation
    short       1 for a short answer, 0 for a quotation that nobody asked for
    asked       share of the question's content words in the sentences and their heading
    gain        how much likelier the passage makes the short answer; 0 for a quotation
    span        the span reader's logit of the same words above "not here"
    tells       logit of its probability that the passage tells
    apart       how far these words stand below its likeliest ones of the passage
    spans       1 if they are its own and not the generator's
    agree_here  agree times here: what agreement adds depends on how sure this reading is of itself
    agree_span  agree times span

    The last six but for agree_here are 0 where no span reader looked.
    """
    written = heard(question, readings)
    asked = evidence.weights(question)
    whole = wanted.never_short(question)
    quoted = whole or definitions.lists(question) or definitions.asked(question) is not None
    found: list[tuple[float, ...]] = []
    for reading in written:
        others = [(other, same(reading, other)) for other in written if other.rank != reading.rank]
        best_other = max((o.hit.score for o in readings if o.rank != reading.rank), default=0.0)
        around = " ".join((reading.hit.title, *reading.hit.heading_path, *reading.quoted))
        here, seconded = _logit(1.0 - reading.not_here), _seconded(reading)
        agree = max((1.0 - o.not_here for o, equal in others if equal is True), default=0.0)
        found.append(
            (
                here,
                CHOSEN if whole else max(LEAST_LOGPROB, reading.logprob),
                _logit(relevance),
                reading.hit.score,
                reading.hit.score - best_other,
                agree,
                max((1.0 - o.not_here for o, equal in others if equal is False), default=0.0),
                _stands(question, reading),
                float(quoted or reading.answer is not None),
                evidence.share(asked, frozenset(evidence.terms(around))),
                max(LEAST_GAIN, min(MOST_GAIN, reading.gain)),
                *seconded,
                agree * here,
                agree * seconded[0],
            )
        )
    return found


def weigh(
    question: str, readings: Sequence[PassageReading], relevance: float, calibrator: Calibrator
) -> list[Candidate]:
    """The readings that say something, likeliest first; equally likely ones in the search's order."""
    written = heard(question, readings)
    candidates = [
        Candidate(reading, features, calibrator.probability(features))
        for reading, features in zip(written, describe(question, readings, relevance), strict=True)
    ]
    return sorted(candidates, key=lambda c: (-c.probability, c.reading.rank))


def decide(question: str, candidates: Sequence[Candidate], threshold: float) -> Verdict:
    """What is answered.

    Args:
        question: as asked.
        candidates: likeliest first.
        threshold: probability below which nothing is answered.
    """
    if not candidates:
        return Verdict("refuse", 0.0)
    best = candidates[0]
    if best.probability < threshold or not best.probability:
        return Verdict("refuse", best.probability, best)
    likely = [c for c in candidates if c.probability >= threshold]
    best = likely[definitions.first(question, [c.reading.quoted for c in likely])]
    if definitions.lists(question):
        near = [c for c in likely if c.probability >= LISTED * best.probability]
        best = next((c for c in near if _several(c.reading)), best)
    least = max(threshold, CONTRADICTS * best.probability)
    for other in candidates[1:]:
        if other.probability >= least and contradict(question, best.reading, other.reading):
            return Verdict("conflict", best.probability, best, other)
    return Verdict("answer", best.probability, best)


def supported(question: str, reading: PassageReading) -> bool:
    """Whether a short answer may be given in its own words: its sentences bear it out.

    Either it stands there, or all its content does, or it is a yes or no and they speak of all that is asked:
    yes where question and sentences deny alike, no where only the sentences do (whoever asks whether it works
    without something learns nothing from a sentence that names the thing). Where it does not stand there word
    for word, the passage must make it likelier, too. A comparison is left to the documents' words.
    """
    if (
        reading.answer is None
        or not reading.sentences
        or echoes(question, reading)
        or compared.weighed(question)
    ):
        return False
    if reading.polar:
        heading = " ".join((reading.hit.title, *reading.hit.heading_path))
        having = _sentence(reading) | frozenset(evidence.terms(heading))
        asked, told = evidence.is_negative(question), evidence.is_negative(" ".join(reading.quoted))
        said = reading.answer.rstrip(".").casefold() == "yes"
        decided = evidence.share(evidence.weights(question), having) >= DECIDES
        return reading.gain > 0 and decided and (told or not asked) and said is (asked == told)
    if _stands(question, reading) == 1.0:
        return True
    wanted = evidence.weights(reading.answer)
    having = frozenset(evidence.terms(" ".join(reading.quoted)))
    return bool(wanted) and evidence.share(wanted, having) >= 1.0 and reading.gain > 0


def _seconded(reading: PassageReading) -> tuple[float, float, float, float]:
    """What the span reader thinks of it."""
    if reading.tells is None:
        return 0.0, 0.0, 0.0, 0.0
    span = -MOST_SPAN if reading.span is None else max(-MOST_SPAN, min(MOST_SPAN, reading.span))
    return span, _logit(reading.tells), reading.apart, float(reading.by == "spans")


def _stands(question: str, reading: PassageReading) -> float:
    if reading.answer is None or reading.polar:
        return 1.0
    if reading.place is None or echoes(question, reading):
        return 0.0
    start, end = reading.place
    return 1.0 if any(a <= start and end <= b for a, b in reading.sentences) else 0.5


def _logit(probability: float) -> float:
    kept = min(max(probability, 1e-9), 1 - 1e-9)
    return max(-MOST_LOGIT, min(MOST_LOGIT, math.log(kept / (1 - kept))))
