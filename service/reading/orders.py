"""What documents say to the model instead of to people: fake turns, orders, forged proofs. It is not heard.

A passage is text to be quoted. What it has of a chat's own marks (`<|im_start|>`, `[INST]`, a dialogue of
"User:" and "Assistant:"), of orders to whoever answers ("ignore the text above", "reply only with"), and of
claims about its own standing as evidence ("the checked answer", "other passages are outdated [2]") was
written to steer the answer, or is a text on such things. So it is heard only if the question asks about such
things (`asks_about`); otherwise every reader gets the passage without it. These are the kinds of indirect
injection that OWASP's LLM01 names. A plain lie in a plain sentence is none of them, and cannot be told from a
fact.

Invariants:

* What is heard is made of stretches of the hit's text, each with its own offsets: whatever is quoted from it
  lies outside of what is silenced, and is the stored document's, byte for byte.
* A passage without such things is the same object as before.
* What is left of a passage that had some is `doubtful`: it is heard where no other passage answers. So is a
  passage that has the whole question twice: that was written to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from ingest.types import Hit
from service.questions import years
from service.reading import select
from service.reading.readings import Span
from service.reading.steering import asks_about, dialogue, silent
from service.sentences import split


class Judged(Protocol):
    """A candidate."""

    @property
    def probability(self) -> float:
        """That it is right."""


J = TypeVar("J", bound=Judged)


@dataclass(frozen=True, slots=True)
class Heard:
    """What is read of the passages that were found."""

    hits: tuple[Hit, ...]  #: in their order; of one passage several, where something between was left out
    doubtful: frozenset[int] = frozenset()  #: chunks that steer, by their ids

    def steers(self, hit: Hit) -> bool:
        """Whether a hit is what is left of a passage that steers: sorted by this, the others come first."""
        return hit.chunk_id in self.doubtful

    def trusted(self, weigh: Callable[[Sequence[Hit]], list[J]], threshold: float) -> list[J]:
        """The candidates of the passages that steer nobody, if one of them qualifies; otherwise of all.

        Args:
            weigh: the candidates of some of the passages. The others have no say in them.
            threshold: probability from which on a candidate qualifies.
        """
        clean = [hit for hit in self.hits if not self.steers(hit)]
        if len(clean) < len(self.hits):
            found = weigh(clean)
            if any(candidate.probability >= threshold for candidate in found):
                return found
        return weigh(self.hits)


def heard(question: str, hits: Sequence[Hit]) -> Heard:
    """The passages without what speaks to the model; as they are where the question asks about such things.

    A dialogue with a model is a fake turn, unless most of the passages are dialogues: then that is what these
    documents are. Passages of another year than the question's have no say where others are there.
    """
    hits = [hit for hit in hits if not years.of_another(question, hit)] or hits
    if asks_about(question):
        return Heard(tuple(hits))
    talks = [dialogue(hit.text) is not None for hit in hits]
    dialogues = len(hits) > 1 and 2 * sum(talks) > len(hits)
    found: list[Hit] = []
    doubtful: set[int] = set()
    for hit in hits:
        silenced = silent(hit.text, dialogues=not dialogues)
        around = [part for part in (hit.title, *hit.heading_path) if silent(part)]
        if silenced or around or _baits(question, hit.text):
            doubtful.add(hit.chunk_id)
        if not silenced and not around:
            found.append(hit)
            continue
        path = tuple(part for part in hit.heading_path if part not in around)
        title = hit.path if hit.title in around else hit.title
        for start, end in _between(silenced, len(hit.text)):
            text = hit.text[start:end]
            if any(_tells(question, text[s.start : s.end]) for s in split(text)):
                first = hit.char_start + start
                found.append(
                    replace(
                        hit,
                        text=text,
                        char_start=first,
                        char_end=first + len(text),
                        title=title,
                        heading_path=path,
                    )
                )
    return Heard(tuple(found), frozenset(doubtful))


def _baits(question: str, text: str) -> bool:
    """Whether a text has all the question's words in their order more than once."""
    asked = select.words(question)
    if len(asked) < select.LEAST_REPEATED:
        return False
    # Each word between its own two marks: one repetition may begin right where another ends.
    said, whole = ("".join(f" {word} " for word in some) for some in (select.words(text), asked))
    return said.count(whole) > 1


def _tells(question: str, sentence: str) -> bool:
    """Whether a sentence has words, and others than the question's."""
    return bool(select.words(sentence)) and not select.repeats(question, sentence)


def _between(spans: Sequence[Span], length: int) -> Iterator[Span]:
    """What the spans leave of a text."""
    at = 0
    for start, end in (*spans, (length, length)):
        if at < start:
            yield at, start
        at = end
