"""From a generator's pieces to checked sentences, while they stream.

Each sentence is checked once, as soon as the next one begins. Together the statements' texts are the answer:
a statement holds what stands between it and the sentence before it (a list marker, white space), so Markdown
survives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from service import evidence
from service.citations import Citer, Statement, without_forged_markers
from service.events import Checked, Event, Reasoning, Token
from service.generators import Piece
from service.reasoning import Splitter
from service.sentences import Span, split

#: A model that says the same again is stopped: at a sentence of so many characters right behind itself, or
#: after so many sentences in a row that were all said before.
REPEATED_CHARS, REPEATED_IN_A_ROW = 12, 3
#: Of a Markdown table, the line below its head.
_RULE = re.compile(r"[|:\-\s]*-[|:\-\s]*")


class Writing:
    """Feed it pieces; read `statements` at the end. Without a citer nothing is checked (closed book)."""

    def __init__(self, citer: Citer | None) -> None:
        self.citer = citer
        self.statements: list[Statement] = []
        self.supports: list[float] = []  #: of each statement, 0 where it has no citation
        self.repeats = False  #: the model has begun to say the same again; the caller stops it
        self.last: Piece | None = None
        self._splitter = Splitter()
        self._checked_to = 0
        self._again = 0  # sentences in a row, the last ones, that were all said before
        self._taken_back = 0

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far."""
        return self._splitter.reasoning.strip()

    @property
    def answer_bytes(self) -> int:
        """How long the answer is so far, in UTF-8."""
        return len(self._splitter.answer.encode())

    def cut(self) -> None:
        """No more comes: the answer is as long as it may get."""
        assert self.last is not None
        self.last = replace(self.last, finish_reason="length")

    @property
    def support(self) -> float:
        """How much of what was written stands in the passages, 0 to 1: the statements' mean by length."""
        lengths = [len(statement.text) for statement in self.statements]
        return sum(n * s for n, s in zip(lengths, self.supports, strict=True)) / max(1, sum(lengths))

    def unmark(self, places: Sequence[int]) -> None:
        """Take the markers of these statements away: their evidence has failed another check."""
        if self.citer is None or not places:
            return
        for at in places:
            self.statements[at], self.supports[at] = replace(self.statements[at], markers=()), 0.0
        self.statements = self.citer.keep(self.statements)

    def feed(self, piece: Piece) -> list[Event]:
        """What a piece adds."""
        self.last = piece
        before = len(self._splitter.reasoning)
        answer, _ = self._splitter.feed(piece.text, piece.reasoning)
        return self._events(answer, before, final=False)

    def finish(self) -> list[Event]:
        """What was held back. A sentence that the token limit cut off is left out if there are others."""
        before = len(self._splitter.reasoning)
        answer, _ = self._splitter.finish()
        return self._events(answer, before, final=True)

    def _events(self, answer: str, reasoned: int, *, final: bool) -> list[Event]:
        events: list[Event] = []
        if len(self._splitter.reasoning) > reasoned:
            events.append(Reasoning(self._splitter.reasoning[reasoned:]))
        text = self._splitter.answer
        if self._splitter.taken_back > self._taken_back:  # what was taken for the answer was reasoning
            self._taken_back = self._splitter.taken_back
            self._checked_to = self._again = 0
            self.repeats = False
            self.statements.clear()
            self.supports.clear()
            if self.citer:
                self.citer.citations.clear()
                self.citer.passages.clear()
        if answer:
            events.append(Token(answer))
        if answer or final:
            events += self._check(text, final=final)
        return events

    def _check(self, text: str, *, final: bool) -> list[Event]:
        events: list[Event] = []
        base = self._checked_to
        spans = split(text[base:])
        cut_off = final and self.last is not None and self.last.finish_reason == "length"
        for index, span in enumerate(spans):
            if index == len(spans) - 1 and (
                not final or (cut_off and self.statements and not _finished(text))
            ):
                break
            if self.repeats:
                break
            whole = without_forged_markers(text[self._checked_to : base + span.end])
            self._checked_to = base + span.end
            sentence = whole.strip()
            if not sentence:
                continue
            if self._says_again(sentence, span):
                break
            known = len(self.citer.citations) if self.citer else 0
            if _RULE.fullmatch(sentence):
                self.statements.append(Statement(whole, ours=True))
                self.supports.append(0.0)
                continue
            statement, support = self.citer.check(whole) if self.citer else (Statement(whole), 0.0)
            if self.citer and not statement.supported and _says_nothing(sentence):
                continue
            self.statements.append(statement)
            self.supports.append(support if statement.supported else 0.0)
            if self.citer:
                events.append(Checked(statement, tuple(self.citer.citations[known:])))
        return events

    def _says_again(self, sentence: str, span: Span) -> bool:
        """Whether the model has begun to repeat itself; what it repeated is then dropped."""
        if span.kind != "sentence" or sentence.endswith((":", "：")):
            return False  # headings, rows and "Advantages:" may well come twice
        if not any(sentence == s.text.strip() for s in self.statements):
            self._again = 0
            return False
        self._again += 1
        at_once = len(sentence) >= REPEATED_CHARS and self.statements[-1].text.strip() == sentence
        self.repeats = at_once or self._again >= REPEATED_IN_A_ROW
        if self.repeats and (said := self._again - 1):
            del self.statements[-said:], self.supports[-said:]
        return self.repeats


def _says_nothing(sentence: str) -> bool:
    """A question back, or an announcement such as "The answer is:"."""
    return sentence.endswith(("?", "？")) or not evidence.terms(sentence)


def _finished(text: str) -> bool:
    return text.rstrip().endswith((".", "!", "?", "。", "！", "？", "```", ":", "|"))
