"""Questions as people type them, as trials: Natural Questions in RGB's form, one gold passage among four.

SQuAD's questions were written by people who had the passage before them. These were typed into a search
field by people who had not: small letters, no mark, other words than the passage's. A calibrator that knows
only the first sort is too sure of the one and too unsure of the other.

The set is parted by question: one half may be fitted on, `benchmarks.answers` judges on the other alone.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from service.answering.turn import Source
from service.evaluation.passages import own_source
from service.evaluation.questions import Question, read_questions
from service.evaluation.scoring import contains
from service.reading.second import wants_few_words
from service.reading.trials import Kind, Trial

#: Share of the passages that do not tell.
NOISE = 0.8


def may_fit(question: Question) -> bool:
    """Whether a question belongs to the half that calibrators may see."""
    asked = question.id.partition("/")[0]  # behind it stands which passages it was given
    return hashlib.sha256(asked.encode()).digest()[0] % 2 == 0


class Natural:
    """Trials of the half that may be fitted on, and where each of them is asked."""

    def __init__(self, file: Path, most: int, seed: int = 0) -> None:
        """Draw trials: `most` answerable ones, and every other one also with its gold passage left out."""
        asked = [
            q
            for q in read_questions(file, noise=[NOISE])
            if q.answerable
            and may_fit(q)
            and wants_few_words(q.text)
            # Without an accepted spelling in it the gold passage could not be left out for `hidden`.
            and all(contains(p.text, q.parts) > 0 for p in q.passages if p.gold)
        ]
        self.trials: list[Trial] = []
        self._asked: dict[str, Question] = {}
        drawn = random.Random(seed).sample(asked, min(most, len(asked)))
        for number, question in enumerate(drawn):
            kinds: tuple[Kind, ...] = ("answerable", "hidden")
            for kind in kinds[: 1 + number % 2]:
                trial = Trial(kind, question.text, question.parts, f"natural {question.id}")
                self.trials.append(trial)
                self._asked[trial.key] = question

    def source(self, trial: Trial, like: Source) -> Source:
        """The question's own passages, read as those of `like`; `like` itself for other trials."""
        question = self._asked.get(trial.key)
        return like if question is None else own_source(question, like)
