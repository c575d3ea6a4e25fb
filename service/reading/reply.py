"""One reply of the reading model, held to its form while it is written.

    short answer newline "> " sentence            or            "> " sentence newline "> " sentence ... end

The short answer is written freely, and scored. A sentence is one of the passage's own, byte for byte: what is
decoded only decides which. Once one is left, the rest of it need not be written; it is read at once where
another sentence may follow. A question for steps, a list or a summary gets sentences alone.

Invariant: `sentences` are spans of the passage that `service.sentences` cuts, none twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.engine.constrain import Quotation, Slices, Vocabulary
from model.errors import UnsupportedModel
from model.tokenizer import Tokenizer
from service import evidence
from service.questions import wanted
from service.reading.form import MOST_SENTENCES, MOST_TOKENS, NOT_HERE, QUOTE, flat, parse_reply
from service.reading.readings import Span
from service.sentences import split

#: Tokens of a short answer; what is longer is cut there.
MOST_ANSWER_TOKENS = 40
POLAR_ANSWERS = frozenset({"yes", "no"})
#: Terms of content that a sentence has at least, if it is to be quoted for itself.
LEAST_TERMS = 2
#: A yes or no rests on a sentence that has this share of what the best one has of the question.
NEARLY_BEST = 0.7


class Grammar:
    """What the form means in one vocabulary."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, ends: Sequence[int]) -> None:
        """Look up the form's tokens.

        Args:
            tokenizer: of the reading model.
            vocab_size: number of logits.
            ends: the model's end tokens.

        Raises:
            UnsupportedModel: the vocabulary has no token for a line break or for the mark of a quotation.
        """
        self.tokenizer, self.vocabulary = tokenizer, Vocabulary(tokenizer)
        newline, mark = self.vocabulary.id(b"\n"), self.vocabulary.id(QUOTE.strip().encode())
        if newline is None or mark is None or not ends:
            raise UnsupportedModel(
                "the reading form needs tokens for a line break, for '>' and for the end: not in this model"
            )
        self.newline, self.mark, self.end = newline, mark, ends[0]
        #: How a refusal begins, up to where no answer begins alike ("Not in", but "Notre Dame").
        self.refusal: tuple[int, ...] = _beginning(tokenizer, NOT_HERE, words=2)
        #: (vocab_size) 0 where a token may stand in a short answer, minus infinity elsewhere
        self.inside = torch.full((vocab_size,), -torch.inf)
        self.first = self.inside.clone()  #: the same for the first token of a reply
        for data, token in self.vocabulary.items():
            if b"\n" not in data and token < vocab_size:
                self.inside[token] = 0.0
                if not data.startswith(QUOTE.strip().encode()):
                    self.first[token] = 0.0
        self.inside[self.newline] = self.first[self.mark] = 0.0


def _beginning(tokenizer: Tokenizer, text: str, words: int) -> tuple[int, ...]:
    """The fewest of a text's tokens that hold its first words whole."""
    ids = tokenizer.encode(text)
    wanted = len(" ".join(text.split()[:words]).encode())
    return next(
        tuple(ids[:n]) for n in range(1, len(ids) + 1) if len(tokenizer.decode_bytes(ids[:n])) >= wanted
    )


@dataclass(frozen=True, slots=True)
class Text:
    """A passage as it is quoted: white space as single spaces, so that offsets stay as they are."""

    text: str
    spans: tuple[Span, ...]
    telling: tuple[Span, ...]  #: those that state something; all, where none does
    slices: Slices

    @classmethod
    def of(cls, passage: str, vocabulary: Vocabulary) -> Text:
        """Cut a passage (without white space around it) into what may be quoted."""
        text = flat(passage)
        cut = split(passage)
        spans = tuple((span.start, span.end) for span in cut) or ((0, len(text)),)
        telling = tuple(
            (span.start, span.end)
            for span in cut
            if span.kind != "heading" and len(evidence.terms(text[span.start : span.end])) >= LEAST_TERMS
        )
        return cls(text, spans, telling or spans, Slices.only(text, spans, vocabulary))

    def places(self, answer: str) -> list[Span]:
        """Where the words of `answer` stand, whole words before parts of words; in order."""
        words = [re.escape(word) for word in answer.split()]
        if not words:
            return []
        pattern = r"\s+".join(words)
        for guarded in (rf"(?<!\w){pattern}(?!\w)", pattern):
            if found := [match.span() for match in re.finditer(guarded, self.text, re.IGNORECASE)]:
                return found
        return []

    def around(self, places: Iterable[Span]) -> list[Span]:
        """The sentences that hold one of these places whole; headings only where nothing else does."""
        places = list(places)
        found = [(a, b) for a, b in self.spans if any(a <= start and end <= b for start, end in places)]
        return [span for span in found if span in self.telling] or found

    def about(self, question: str) -> list[Span]:
        """The sentences that speak most of what is asked; all, where none does."""
        wanted = evidence.weights(question)
        shares = [
            evidence.share(wanted, frozenset(evidence.terms(self.text[start:end])))
            for start, end in self.telling
        ]
        least = NEARLY_BEST * max(shares, default=0.0)
        return [span for span, share in zip(self.telling, shares, strict=True) if share >= least]


@dataclass(slots=True)
class Reply:
    """A reply in progress: `choose` gives the tokens to read next, none when it has ended.

    It never begins as a refusal does: how likely that is was counted before.
    """

    grammar: Grammar
    passage: Text
    question: str
    answer: str | None = None
    sentences: list[Span] = field(default_factory=list)
    refused: bool = False  #: it says in other letters that the passage does not tell
    cut: bool = False  #: the short answer was longer than it may be, and is none
    tokens: int = 0  #: written so far
    _logprobs: list[float] = field(default_factory=list)
    _answer_ids: list[int] = field(default_factory=list)
    _quotation: Quotation | None = None
    _between: bool = False

    @property
    def logprob(self) -> float:
        """Mean natural log-probability of the tokens that were free choices."""
        return sum(self._logprobs) / len(self._logprobs) if self._logprobs else 0.0

    @property
    def answer_ids(self) -> list[int]:
        """The short answer's tokens and the line break behind it; none where there is no answer."""
        return [] if self.answer is None else [*self._answer_ids, self.grammar.newline]

    @property
    def draft(self) -> str:
        """The words so far, whole characters only; never shorter than before."""
        if self.answer is not None or self._answer_ids:
            written = self.grammar.tokenizer.decode(self._answer_ids).rstrip("\ufffd")
            return written.lstrip()
        return "\n".join(self.passage.text[start:end] for start, end in self.sentences)

    def choose(self, logprobs: Tensor) -> list[int]:
        """The next tokens, likeliest first (greedy); `logprobs` is (vocab_size), natural logarithms."""
        if self._quotation is not None:
            chosen = self._quote(self._quotation, logprobs)
        elif self._between:
            chosen = self._go_on(logprobs)
        else:
            chosen = self._write(logprobs)
        self.tokens += len(chosen)
        return chosen

    def _write(self, logprobs: Tensor) -> list[int]:
        """A token of the short answer, or what ends it or stands in its place."""
        grammar, first = self.grammar, not self._answer_ids
        if first and wanted.never_short(self.question):
            return self._open([])  # no choice, so its likelihood says nothing
        open_to = logprobs + (grammar.first if first else grammar.inside)
        if tuple(self._answer_ids) == grammar.refusal[:-1]:
            open_to[grammar.refusal[-1]] = -torch.inf
        token = int(open_to.argmax())
        if len(self._answer_ids) >= MOST_ANSWER_TOKENS and token != grammar.newline:
            token, self.cut = grammar.newline, True
        self._logprobs.append(float(logprobs[token]))
        if token == grammar.newline:
            answer = flat(grammar.tokenizer.decode(self._answer_ids))
            self.refused = parse_reply(answer).refused
            self.answer = None if self.refused else answer or None
            return [] if self.refused else self._open([grammar.newline])
        if first and token == grammar.mark:
            return self._open([])
        self._answer_ids.append(token)
        return [token]

    def _open(self, before: list[int]) -> list[int]:
        """Begin a quotation; its mark is certain, so it comes along.

        Nothing where nothing is left to quote, or only one sentence, which is then taken up.
        """
        used = {self.passage.text[start:end] for start, end in self.sentences}
        starts = [start for start, end in self.passage.telling if self.passage.text[start:end] not in used]
        if self.polar:
            starts = [start for start, _ in self.passage.about(self.question)] or starts
        elif self.answer is not None:
            # A short answer is borne out by a sentence that has it, if there is one.
            starts = [start for start, _ in self.passage.around(self.passage.places(self.answer))] or starts
        quotation = Quotation(
            self.passage.slices,
            lead=QUOTE.encode(),
            starts=starts,
            end=(self.grammar.end, self.grammar.newline),
        )
        if self.grammar.mark not in quotation.allowed():
            return []
        quotation.advance(self.grammar.mark)
        self._quotation, self._between = quotation, False
        return [] if self._settled(quotation) else [*before, self.grammar.mark]

    def _quote(self, quotation: Quotation, logprobs: Tensor) -> list[int]:
        allowed = torch.tensor(quotation.allowed())
        token = int(allowed[logprobs[allowed].argmax()])
        if self.answer is None:
            self._logprobs.append(float(logprobs[token]))
        quotation.advance(token)
        if not self._settled(quotation):
            return [token]
        if self.answer is not None or token == self.grammar.end:
            return []
        if token == self.grammar.newline:  # a whole sentence that a longer one begins with
            return self._open([token])
        forced = [token]
        while (rest := quotation.rest()) is None:  # in the middle of a character
            forced.append(quotation.allowed()[0])
            quotation.advance(forced[-1])
        forced += self.grammar.tokenizer.encode(rest)
        if len(self.sentences) >= MOST_SENTENCES or self.tokens + len(forced) > MOST_TOKENS:
            return []
        self._quotation, self._between = None, True
        return forced

    def _go_on(self, logprobs: Tensor) -> list[int]:
        """Another sentence, or the end."""
        grammar = self.grammar
        if float(logprobs[grammar.end]) >= float(logprobs[grammar.newline]):
            return []
        return self._open([grammar.newline])

    def _settled(self, quotation: Quotation) -> bool:
        """Whether only one sentence can come out; it is then taken up."""
        if not quotation.ended and len(quotation.outcomes) > 1:
            return False
        start = self.passage.slices.character(quotation.starts[0])
        whole = max(end for begin, end in self.passage.spans if begin == start)
        self.sentences.append((start, quotation.complete[0][1] if quotation.ended else whole))
        return True

    @property
    def polar(self) -> bool:
        """Whether the answer is a yes or no to a question for one."""
        said = (self.answer or "").rstrip(".").casefold()
        return said in POLAR_ANSWERS and wanted.polar(self.question)
