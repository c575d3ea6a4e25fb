"""What is measured of a reply: one table from a figure's name to its meaning and its value.

A value is a number, or NaN where the figure does not concern the question; a mode's figure is the mean over
the questions that it concerns, with a bootstrap interval over questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.evaluation import scoring
from service.evaluation.questions import Question
from service.evaluation.replies import Reply

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure."""

    label: str
    about: str
    value: Callable[[Question, Reply], float]
    higher_is_better: bool = True


def is_right(question: Question, reply: Reply) -> bool:
    """The verdict: every part of an accepted answer stands in the reply; no answer exists and it refused."""
    if reply.error is not None:
        return False
    if not question.answerable:
        return not reply.answered
    return reply.answered and scoring.contains(reply.answer, question.parts) == 1.0


def _over_all(score: Callable[[str, tuple[str, ...]], float]) -> Callable[[Question, Reply], float]:
    """SQuAD 2's rule: a question without an answer scores 1 if it is refused, else 0."""

    def value(question: Question, reply: Reply) -> float:
        if reply.error is not None:
            return 0.0
        if not question.answerable:
            return float(not reply.answered)
        return score(reply.said, question.answers) if reply.answered else 0.0

    return value


def _answerable(value: Callable[[Question, Reply], float]) -> Callable[[Question, Reply], float]:
    return lambda question, reply: value(question, reply) if question.answerable else NAN


def _refused_right(question: Question, reply: Reply) -> float:
    return NAN if question.answerable else float(reply.error is None and not reply.answered)


def _refused_wrongly(question: Question, reply: Reply) -> float:
    if not question.answerable or reply.error is not None:
        return NAN  # what failed has refused nothing
    return float(not reply.answered)


def _found(question: Question, reply: Reply) -> float:
    return NAN if reply.found is None or not question.answerable else float(reply.found)


def _citation_precision(question: Question, reply: Reply) -> float:
    if not (question.answerable and reply.answered and reply.citations):
        return NAN
    return sum(c.evidence for c in reply.citations) / len(reply.citations)


def _citation_recall(question: Question, reply: Reply) -> float:
    if not (question.answerable and reply.answered) or reply.found is None:
        return NAN
    return float(any(c.holds for c in reply.citations))


def _misled(question: Question, reply: Reply) -> float:
    if not question.decoys:
        return NAN
    return float(reply.answered and any(scoring.holds(reply.answer, decoy) for decoy in question.decoys))


def _own_words(_: Question, reply: Reply) -> float:
    return float(reply.llm_generated) if reply.answered else NAN


def _judged(_: Question, reply: Reply) -> float:
    return NAN if reply.judged is None else reply.judged / 100


EXACT, F1, ROUGE = (_over_all(s) for s in (scoring.exact_match, scoring.f1, scoring.rouge_l))

FIGURES: Mapping[str, Figure] = {
    "right": Figure(
        "Right",
        "an accepted answer stands in the reply (all its parts, where it has several), or a question without "
        "an answer was refused",
        lambda q, r: float(is_right(q, r)),
    ),
    "exact": Figure(
        "Exact match", "the reply equals an accepted answer; unanswerable ones count if refused", EXACT
    ),
    "f1": Figure("F1", "overlap of words (Chinese: characters) with the best accepted answer", F1),
    "rouge_l": Figure("ROUGE-L", "longest common subsequence with the best accepted answer", ROUGE),
    "right_answerable": Figure(
        "Right, answerable",
        "the same over questions that have an answer",
        _answerable(lambda q, r: float(is_right(q, r))),
    ),
    "exact_answerable": Figure(
        "Exact match, answerable", "over questions that have an answer", _answerable(EXACT)
    ),
    "f1_answerable": Figure("F1, answerable", "over questions that have an answer", _answerable(F1)),
    "refused_right": Figure("Refused rightly", "of the questions without an answer", _refused_right),
    "refused_wrongly": Figure("Refused wrongly", "of the questions with an answer", _refused_wrongly, False),
    "found": Figure("Found", "of the answerable questions, a passage to answer from was retrieved", _found),
    "citation_precision": Figure(
        "Citation precision",
        "share of a reply's citations whose passage is one to answer from",
        _citation_precision,
    ),
    "citation_recall": Figure(
        "Citation recall",
        "of the answered questions, a cited text holds an accepted answer",
        _citation_recall,
    ),
    "misled": Figure("Misled", "repeats the false answer that false passages give", _misled, False),
    "own_words": Figure(
        "Written by the model", "of the answers; the others are the documents' words", _own_words
    ),
    "judged": Figure("Judge", "a model's verdict on the answer, 0 to 100%", _judged),
}
#: Those that modes are compared in.
COMPARED = ("right", "exact", "f1", "rouge_l")
