"""Splitting a model's reasoning from its answer while it streams.

Models such as DeepSeek-R1 put their reasoning between `<think>` and `</think>`; some templates open the tag
in the prompt, so that only the closing tag arrives. Text that has been given out as answer cannot be taken
back from a stream, therefore `Splitter.answer` and `Splitter.reasoning` at the end are what counts, and
`Splitter.taken_back` says how often that has happened.

An answer may speak of these tags. A tag is one only where no answer stands before the opening one, where
nothing was closed before a bare closing one and reasoning does not come apart, and never behind a backtick.
"""

from __future__ import annotations

import re

OPEN, CLOSE = "<think>", "</think>"
_TAG = re.compile(f"{OPEN}|{CLOSE}")


class Splitter:
    """Feed pieces of a reply, get `(answer, reasoning)` pieces that are certain so far."""

    def __init__(self) -> None:
        self.answer = ""
        self.reasoning = ""
        self.taken_back = 0  #: how often what had been given out as answer turned out to be reasoning
        self._inside = False
        self._closed = False  # a closing tag has come
        self._apart = False  # the upstream sends its reasoning apart
        self._held = ""  # the end of the text, where a tag may be beginning
        self._last = ""  # the character before it

    def feed(self, text: str, reasoning: str = "") -> tuple[str, str]:
        """What the piece adds to the answer and to the reasoning."""
        self._apart = self._apart or bool(reasoning)
        answer, thought = "", reasoning
        self._held += text
        while (found := self._tag(answer)) is not None:
            before = self._held[: found.start()]
            self._held, self._last = self._held[found.end() :].lstrip(), ""
            if self._inside:
                thought += before
            elif found[0] == OPEN:
                answer += before
            else:  # a bare closing tag: everything before it was reasoning
                self.taken_back += bool(self.answer or answer)
                thought = answer + before + thought
                self.reasoning, self.answer, answer = self.reasoning + self.answer, "", ""
            self._inside, self._closed = found[0] == OPEN, self._closed or found[0] == CLOSE
        certain = len(self._held) - self._beginning()
        if self._inside:
            thought += self._held[:certain]
        else:
            answer += self._held[:certain]
        self._last = self._held[:certain][-1:] or self._last
        self._held = self._held[certain:]
        return self._keep(answer, thought)

    def finish(self) -> tuple[str, str]:
        """What was held back because it might have become a tag."""
        held, self._held = self._held, ""
        return self._keep("", held) if self._inside else self._keep(held, "")

    def _tag(self, answer: str) -> re.Match[str] | None:
        """The next tag that is one; `answer` is what the piece has added to the answer so far."""
        for found in _TAG.finditer(self._held):
            before = self._held[: found.start()]
            if (before[-1:] or self._last) == "`":
                continue
            if self._inside:
                counts = found[0] == CLOSE
            elif found[0] == OPEN:
                counts = not (self.answer + answer + before).strip()
            else:
                counts = not self._closed and not self._apart
            if counts:
                return found
        return None

    def _keep(self, answer: str, thought: str) -> tuple[str, str]:
        if not self.answer:
            answer = answer.lstrip()
        self.answer += answer
        self.reasoning += thought
        return answer, thought

    def _beginning(self) -> int:
        """Length of the longest end of the held text that begins a tag."""
        tags = (CLOSE,) if self._inside else (OPEN, CLOSE)
        longest = min(len(self._held), len(CLOSE) - 1)
        return next((n for n in range(longest, 0, -1) if any(t.startswith(self._held[-n:]) for t in tags)), 0)
