"""Citations by evidence: each sentence of an answer is tied to the sentence of a passage that supports it.

What a model writes in brackets is no evidence: markers in its text are removed, and a marker is set only
where a stretch of one or two neighbouring sentences of a packed passage has the content of the answer's
sentence.

Invariant: a citation's `char_start` and `char_end` are code points into the stored document, and that text,
cut there, equals `text` byte for byte (a chunk's text is the document's text at its offsets, see
`ingest.types`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ingest.types import Hit
from service import evidence
from service.questions.wanted import polar
from service.sentences import Span, split

#: A sentence of an answer counts as supported from here on.
SUPPORTED = 0.7
#: What a second sentence must add.
PAIR_COST = 0.2
#: Anything a model might write to look like a reference to a passage; code is passed over.
FORGED = re.compile(
    r"(?P<code>```[\s\S]*?(?:```|\Z)|`[^`\n]+`)"
    r"|\s*[\[【［]\s*(?:passage|source|text|citation|document|文[档檔]|[来來]源|[资資]料|引用|段落)?\s*[:：^]?\s*"
    r"[1-9]\d{0,2}(?:\s*[,;，、；–-]\s*[1-9]\d{0,2})*(?:†[^\]】］\n]*)?\s*[\]】］](?!\()",
    re.IGNORECASE,
)
#: What stands before a number in brackets that is part of what is said: sys.argv[1], b[1], the range [1, 5].
_INDEXED = re.compile(
    r"(?:[A-Za-z_]\w*\.[\w.]*\w|\w*_\w*|\b[a-z])$|(?:\b(?:range|interval)|∈|[区區][间間]|[范範][围圍])$"
)
#: One of several that are called alike: plan B, vitamin D, 乙方.
_ONE_OF_SEVERAL = re.compile(r"(?<=[A-Za-z] )(?!I\b)[A-Z](?![\w'’])|[甲乙丙丁](?=[\u3400-\u9fff])")


@dataclass(frozen=True, slots=True)
class Citation:
    """A stretch of a stored document that an answer rests on."""

    marker: int  #: counts from 1, as shown in the answer
    document_id: str
    path: str
    title: str
    page_first: int | None
    page_last: int | None
    char_start: int
    char_end: int
    text: str
    score: float  #: of the passage, as the search gave it
    support: float  #: share of the answer sentence's content that `text` has; 1.0 for a quote

    @property
    def quote(self) -> str:
        """The text on one line, for display."""
        return " ".join(self.text.split())


def cite(hit: Hit, start: int, end: int, marker: int, support: float) -> Citation:
    """A citation of `hit.text[start:end]`."""
    return Citation(
        marker=marker,
        document_id=hit.document_id,
        path=hit.path,
        title=hit.title,
        page_first=hit.page_first,
        page_last=hit.page_last,
        char_start=hit.char_start + start,
        char_end=hit.char_start + end,
        text=hit.text[start:end],
        score=hit.score,
        support=round(support, 4),
    )


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence of an answer with what supports it."""

    text: str
    markers: tuple[int, ...] = ()
    ours: bool = False  #: the service's own words about the answer, which need no evidence

    @property
    def supported(self) -> bool:
        """Whether a passage has its content."""
        return bool(self.markers) or self.ours


@dataclass(frozen=True, slots=True)
class _Window:
    """One or two neighbouring sentences of a passage."""

    hit: Hit
    start: int
    end: int
    terms: frozenset[str]
    negative: bool
    pair: bool
    code: bool

    def is_of(self, letters: set[str]) -> bool:
        """Whether it speaks of these of several that are called alike; two sentences, of no other."""
        own = set(_ONE_OF_SEVERAL.findall(self.hit.text[self.start : self.end]))
        return own == letters if self.pair else letters <= own


@dataclass(slots=True)
class Citer:
    """Finds evidence for one answer, sentence by sentence, and numbers the citations in order of use."""

    question: str
    hits: Sequence[Hit]
    citations: list[Citation] = field(default_factory=list)
    passages: dict[int, Hit] = field(default_factory=dict)  #: of each marker, what it was cut from
    _windows: list[_Window] = field(default_factory=list)
    _echoed: frozenset[str] = frozenset()
    _polar: bool = False  #: asked for yes or no, where repeating the question is an answer

    def __post_init__(self) -> None:
        """Cut the passages into windows once."""
        self._echoed = frozenset(evidence.terms(self.question))
        self._polar = polar(self.question)
        for hit in self.hits:
            spans = [span for span in split(hit.text) if span.kind != "heading"]  # a title states nothing
            stretches = [(s.start, s.end, False, s.kind == "code") for s in spans]
            stretches += [
                (a.start, b.end, True, b.kind == "code") for a, b in pairwise(spans) if _joinable(a, b)
            ]
            for start, end, pair, code in stretches:
                text = hit.text[start:end]
                terms = frozenset(evidence.terms(text))
                self._windows.append(_Window(hit, start, end, terms, evidence.is_negative(text), pair, code))

    def check(self, sentence: str) -> tuple[Statement, float]:
        """The sentence with the marker of its evidence, if there is any, and its support."""
        wanted = evidence.weights(sentence, self._echoed)
        new = wanted.keys() - self._echoed
        if sentence.rstrip().endswith(("?", "？")) or not (new or self._polar):
            return Statement(sentence), 0.0  # it asks, or it only repeats the question
        numbers = {t for t in wanted if evidence.is_number(t)}
        letters = set(_ONE_OF_SEVERAL.findall(sentence))
        negative = evidence.is_negative(sentence)
        best: tuple[float, _Window] | None = None
        best_support = 0.0
        for window in self._windows:
            if (new and not new & window.terms) or (window.code and "`" not in sentence):
                continue  # an example such as `port = 8080` states nothing
            if not numbers <= window.terms or negative != window.negative or (negative and window.pair):
                continue  # of two sentences nobody knows which one the negation belongs to
            if letters and not window.is_of(letters):
                continue
            support = evidence.share(wanted, window.terms)
            # Two sentences are cited only where one will not do. Among equals: the stretch that also speaks
            # of what
            # was asked, then the better passage.
            about = _overlap(self._echoed, window.terms)
            rank = support + 0.2 * about + 0.05 * window.hit.score - (PAIR_COST if window.pair else 0.0)
            if best is None or rank > best[0]:
                best, best_support = (rank, window), support
        if best is None or best_support < SUPPORTED:
            return Statement(sentence), best_support
        window = best[1]
        return Statement(
            sentence, (self.add(window.hit, window.start, window.end, best_support),)
        ), best_support

    def add(self, hit: Hit, start: int, end: int, support: float) -> int:
        """The marker of a stretch of a passage, the old one where it is already cited."""
        made = cite(hit, start, end, len(self.citations) + 1, support)
        for known in self.citations:
            if (known.document_id, known.char_start, known.char_end) == (
                made.document_id,
                made.char_start,
                made.char_end,
            ):
                return known.marker
        self.citations.append(made)
        self.passages[made.marker] = hit
        return made.marker

    def keep(self, statements: Sequence[Statement]) -> list[Statement]:
        """The statements with their markers counted anew; citations that none of them uses are dropped."""
        by_marker = {citation.marker: citation for citation in self.citations}
        passages, self.citations, self.passages = self.passages, [], {}
        new: dict[int, int] = {}
        for old in dict.fromkeys(marker for statement in statements for marker in statement.markers):
            new[old] = len(new) + 1
            self.citations.append(replace(by_marker[old], marker=new[old]))
            self.passages[new[old]] = passages[old]
        return [replace(s, markers=tuple(new[marker] for marker in s.markers)) for s in statements]


def _joinable(a: Span, b: Span) -> bool:
    return a.kind == b.kind == "sentence" or (a.kind == "sentence" and b.kind == "code")


def _overlap(wanted: Collection[str], having: Collection[str]) -> float:
    return sum(t in having for t in wanted) / len(wanted) if wanted else 0.0


def without_forged_markers(text: str) -> str:
    """The text without anything that looks like a reference to a passage: only checked markers are shown."""

    def kept(found: re.Match[str]) -> str:
        if found["code"] is not None or _INDEXED.search(text, 0, found.start()):
            return found[0]
        return ""

    return FORGED.sub(kept, text)
