"""Decoding held to a text: what is written is a slice of it, byte for byte.

A vocabulary of byte-level BPE cuts characters where it likes (most Chinese characters are two or three of
SmolLM2's tokens), so the rule works on bytes: a set of live positions in the text's UTF-8 form, each standing
right behind one place that reads like what was written so far. A token may follow if its bytes go on at a
live position; no table over the vocabulary is made, only the text's next bytes are looked up.

Invariants:

* What a finished `Quotation` has written, behind its lead, is `text[start:end]` for an allowed span, whole
  characters always.
* Every allowed span can be written, in any way of cutting it into tokens, unless a byte of it has no token.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

import regex

from model.errors import ModelError
from model.tokenizer import Tokenizer


class Constraint(Protocol):
    """What a reply is held to, token by token."""

    def allowed(self) -> Sequence[int]:
        """Ids that may come next; empty where the reply must end."""
        ...

    def advance(self, token: int) -> None:
        """Take up the next token. Raises ModelError where it was not allowed."""
        ...


class Vocabulary:
    """A tokenizer's ordinary tokens by their bytes; control tokens are not among them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._ids: dict[bytes, int] = {}
        for token, data in tokenizer.ordinary.items():
            if data:
                self._ids.setdefault(data, token)
        self.longest = max(map(len, self._ids), default=0)  #: bytes of the longest token
        #: Bytes that no token writes alone: a text with one of them cannot be written there.
        self.missing = frozenset(byte for byte in range(256) if bytes([byte]) not in self._ids)

    def items(self) -> Iterable[tuple[bytes, int]]:
        """Every ordinary token, as bytes and id."""
        return self._ids.items()

    def id(self, data: bytes) -> int | None:
        """The token of exactly these bytes."""
        return self._ids.get(data)

    def beginnings(self, data: bytes) -> list[tuple[int, int]]:
        """Tokens that `data` begins with, as id and number of bytes."""
        longest = min(self.longest, len(data))
        found = ((self._ids.get(data[:n]), n) for n in range(1, longest + 1))
        return [(token, n) for token, n in found if token is not None]


class Slices:
    """Which stretches of a text may be written; shared by any number of quotations.

    Attributes:
        text: what may be quoted.
        data: its UTF-8 form; positions are bytes into it.
        ends: of each start, where its slices may end, in order.
    """

    def __init__(self, text: str, spans: Mapping[int, Iterable[int]], vocabulary: Vocabulary) -> None:
        """Allow `text[start:end]` for every start and each of its ends (code points).

        Spans that are empty, or hold a byte that no token writes, are left out.
        """
        self.text, self.data, self.vocabulary = text, text.encode("utf-8"), vocabulary
        widths = (len(c.encode("utf-8")) for c in text)
        self._bytes = [0, *accumulate(widths)]  # of each code point, where it begins; and the end
        gaps = [at for at, byte in enumerate(self.data) if byte in vocabulary.missing]
        self.ends: dict[int, tuple[int, ...]] = {}
        known: dict[int, tuple[int, ...]] = {}  # free slices share their ends
        for start, stops in spans.items():
            if id(stops) not in known:
                known[id(stops)] = tuple(sorted({self._bytes[stop] for stop in stops}))
            begin = self._bytes[start]
            after = bisect_left(gaps, begin)
            limit = gaps[after] if after < len(gaps) else len(self.data)
            if any(begin < stop <= limit for stop in known[id(stops)]):
                fitting = known[id(stops)]
                if fitting[-1] > limit:
                    fitting = tuple(stop for stop in fitting if stop <= limit)
                self.ends[begin] = fitting
        self._final = {begin: frozenset(stops) for begin, stops in self.ends.items()}
        self._follow: dict[int, list[tuple[int, int]]] = {}

    @classmethod
    def between(cls, text: str, boundaries: Iterable[int], vocabulary: Vocabulary) -> Slices:
        """Every slice from one boundary (code points) to a later one."""
        marks = sorted(set(boundaries))
        return cls(text, dict.fromkeys(marks, marks), vocabulary)

    @classmethod
    def only(cls, text: str, spans: Iterable[tuple[int, int]], vocabulary: Vocabulary) -> Slices:
        """Exactly these spans (code points)."""
        ends: dict[int, list[int]] = {}
        for start, end in spans:
            ends.setdefault(start, []).append(end)
        return cls(text, ends, vocabulary)

    def follow(self, position: int) -> list[tuple[int, int]]:
        """Tokens that go on at this byte, as id and number of bytes."""
        if position not in self._follow:
            window = self.data[position : position + self.vocabulary.longest]
            self._follow[position] = self.vocabulary.beginnings(window)
        return self._follow[position]

    def is_end(self, start: int, position: int) -> bool:
        """Whether a slice that began at `start` may end here (bytes)."""
        return position in self._final[start]

    def character(self, position: int) -> int:
        """The code point that begins at this byte."""
        return bisect_left(self._bytes, position)

    def is_boundary(self, position: int) -> bool:
        """Whether a character begins, or the text ends, at this byte."""
        at = bisect_left(self._bytes, position)
        return at < len(self._bytes) and self._bytes[at] == position


class Quotation:
    """One slice being written, behind a lead such as "> " that stands in no text.

    Attributes:
        starts: bytes where what was written so far may have begun; all of them before anything was.
        written: bytes of the slice written so far; the lead is not counted.
    """

    def __init__(
        self,
        slices: Slices,
        *,
        lead: bytes = b"",
        starts: Iterable[int] | None = None,
        end: Sequence[int] = (),
    ) -> None:
        """Begin anywhere, or at some of the slices' starts (code points).

        Args:
            slices: what may be written.
            lead: bytes that come first, together with a token's first bytes or apart.
            starts: code points; those that the slices do not allow are left out.
            end: ids that may follow a whole slice; a quotation takes them up as its end.
        """
        self._slices, self._lead, self._end = slices, lead, tuple(end)
        self.starts: list[int] = list(slices.ends)
        if starts is not None:
            wanted = {slices._bytes[start] for start in starts}
            self.starts = [start for start in slices.ends if start in wanted]
        self.written = 0
        self.ended = False
        self._next: dict[int, tuple[int, list[int]]] | None = None  # id -> its bytes, where it goes on

    @property
    def complete(self) -> list[tuple[int, int]]:
        """Spans (code points) that are wholly written now, first place first."""
        if self._lead or not self.written:
            return []
        return [
            (self._slices.character(start), self._slices.character(start + self.written))
            for start in self.starts
            if self._slices.is_end(start, start + self.written)
        ]

    @property
    def outcomes(self) -> set[bytes]:
        """What may yet have been written in the end, one entry for equal texts; a long list early on."""
        data, ends = self._slices.data, self._slices.ends
        return {
            data[start:end]
            for start in self.starts
            for end in ends[start]
            if end >= start + max(self.written, 1)
        }

    def rest(self) -> str | None:
        """The text of the first place from here to its last end; None in the middle of a character."""
        position = self.starts[0] + self.written
        if not self._slices.is_boundary(position):
            return None
        return self._slices.data[position : self._slices.ends[self.starts[0]][-1]].decode("utf-8")

    def allowed(self) -> list[int]:
        """Ids that may come next."""
        if self.ended:
            return []
        ends = [token for token in self._end if token not in self._choices()] if self.complete else []
        return [*self._choices(), *ends]

    def advance(self, token: int) -> None:
        """Take up the next token.

        Raises:
            ModelError: it does not go on with the text.
        """
        choices = self._choices()
        if not self.ended and token in choices:
            length, self.starts = choices[token]
            led = min(length, len(self._lead))
            self._lead, self.written = self._lead[led:], self.written + length - led
            self._next = None
        elif token in self._end and self.complete and not self.ended:
            self.starts = [s for s in self.starts if self._slices.is_end(s, s + self.written)]
            self.ended = True
        else:
            raise ModelError(f"token {token} does not go on with the text that is quoted")

    def _choices(self) -> dict[int, tuple[int, list[int]]]:
        if self._next is None:
            self._next = {}
            for start in self.starts:
                room = len(self._lead) + self._slices.ends[start][-1] - start - self.written
                for token, length in self._following(start):
                    if length <= room:
                        self._next.setdefault(token, (length, []))[1].append(start)
        return self._next

    def _following(self, start: int) -> list[tuple[int, int]]:
        """Tokens that may come next at one place, with their bytes."""
        slices = self._slices
        if not self._lead:
            return slices.follow(start + self.written)
        window = slices.data[start : start + slices.vocabulary.longest]
        return slices.vocabulary.beginnings(self._lead + window)


_CHARACTER = regex.compile(r"\X")
_ALONE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")


def boundaries(text: str) -> list[int]:
    """Code points between which a quotation may be cut: the edges of words, and around any other character.

    Characters are what a reader takes for one (Unicode's grapheme clusters, UAX 29); Chinese, Japanese and
    Korean ones are words of their own.
    """
    found = [0]
    before = False  # whether the character before is part of a word that the next may go on
    for character in _CHARACTER.finditer(text):
        goes_on = character[0][0].isalnum() and not _ALONE.match(character[0])
        if not (before and goes_on) and character.start():
            found.append(character.start())
        before = goes_on
    return [*found, len(text)] if text else []
